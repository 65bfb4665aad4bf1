//! One process at a time owns a data directory, or some read what nobody owns.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError, read_to_string};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::disk::NO_FOLLOW;

/// The file of a data directory that is locked.
pub(super) const NAME: &str = "lock";

/// Held for as long as the process owns the data directory; the kernel releases it however the process ends.
#[derive(Debug)]
pub struct Lock {
    data_dir: PathBuf,
    _file: File,
}

/// Why a data directory cannot be owned.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it: which one, as it wrote itself down.
    #[error("data directory {0} is in use by {1}")]
    Held(PathBuf, String),
    /// Another process reads it, and will be done: which one.
    #[error("data directory {0} is being read by {1}")]
    Read(PathBuf, String),
    /// It cannot be written.
    #[error("data directory {0} is not writable: {1}")]
    NotWritable(PathBuf, #[source] io::Error),
}

impl Lock {
    /// Takes the lock, making the directory if it is missing.
    ///
    /// # Errors
    /// When another process holds it, or the directory cannot be written.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let not_writable = |error| LockError::NotWritable(data_dir.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(not_writable)?;
        let path = data_dir.join(NAME);
        // Over NFS a lock that is shared is one of a file that is open to be read.
        let mut open = OpenOptions::new();
        open.create(true).truncate(false).read(true).write(true).custom_flags(NO_FOLLOW);
        let file = open.open(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::held(data_dir, file)),
            Err(TryLockError::WouldBlock) => {
                let holder = read_to_string(path).unwrap_or_default();
                // Who reads leaves room for another one who does.
                let is_read = file.try_lock_shared().is_ok();
                Err(if is_read { LockError::Read } else { LockError::Held }(data_dir.to_owned(), holder))
            }
            Err(TryLockError::Error(error)) => Err(not_writable(error)),
        }
    }

    /// Keeps others from owning a directory while it is read. Nothing where nobody ever owned it, as a backup, or this
    /// user may not look.
    ///
    /// # Errors
    /// When another process owns it.
    pub fn share(data_dir: &Path) -> Result<Option<Self>, LockError> {
        let path = data_dir.join(NAME);
        let open = |writes| OpenOptions::new().read(true).write(writes).custom_flags(NO_FOLLOW).open(&path);
        let Ok(file) = open(true).or_else(|_| open(false)) else { return Ok(None) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self::held(data_dir, file))),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Held(data_dir.to_owned(), read_to_string(path).unwrap_or_default()))
            }
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Names who is in the way. Where that cannot be written, a full disk at the start, it is as it was: nobody holds it less.
    fn held(data_dir: &Path, file: File) -> Self {
        let name = format!("process {}", std::process::id());
        // What is there goes last: what it lies on would go to somebody else.
        drop(file.write_all_at(name.as_bytes(), 0).and_then(|()| file.set_len(name.len() as u64)));
        Self { data_dir: data_dir.to_owned(), _file: file }
    }

    /// The directory owned.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("var");
        let first = Lock::take(&data_dir).unwrap();
        let error = Lock::take(&data_dir).unwrap_err();
        let owner = format!("{} is in use by process {}", data_dir.display(), std::process::id());
        assert_eq!(error.to_string(), format!("data directory {owner}"));
        drop(first);
        Lock::take(&data_dir).unwrap();
    }

    #[test]
    fn who_reads_shares_with_who_reads() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Lock::share(dir.path()).unwrap().is_none(), "nobody ever owned it");
        let owner = Lock::take(dir.path()).unwrap();
        assert!(Lock::share(dir.path()).unwrap_err().to_string().contains("in use by process"));
        drop(owner);
        let readers = [(); 2].map(|()| Lock::share(dir.path()).unwrap().unwrap());
        assert!(Lock::take(dir.path()).unwrap_err().to_string().contains("being read by process"));
        drop(readers);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_link_leads_to_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, other) = (dir.path().join("var"), dir.path().join("other"));
        fs::create_dir(&data_dir).unwrap();
        fs::write(&other, "as it was").unwrap();
        std::os::unix::fs::symlink(&other, data_dir.join("lock")).unwrap();
        assert!(Lock::share(&data_dir).unwrap().is_none());
        assert!(matches!(Lock::take(&data_dir), Err(LockError::NotWritable(..))));
        assert_eq!(read_to_string(&other).unwrap(), "as it was");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Lock::take(&file.join("var")).unwrap_err();
        assert!(error.to_string().contains("file/var is not writable"), "{error}");
    }
}
