//! Directory listings: names and inodes, without a path for each entry.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::fs::RawDir;
use rustix::fs::SeekFrom;
use rustix::fs::seek;

use crate::host::Budget;
use crate::host::ReadError;
use crate::host::open;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// Its name; any bytes but `/` and NUL.
    pub name: &'a [u8],
    /// Its inode: of a cgroup, what tells an instance from a later one of the same name.
    pub inode: u64,
    /// Whether it is a directory itself.
    pub is_directory: bool,
    /// The place behind it in the kernel's order.
    pub place_behind: u64,
}

/// A directory that is listed again and again through one descriptor, opened at the first listing.
#[derive(Debug)]
pub struct KeptDirectory {
    path: Arc<Path>,
    directory: Option<OwnedFd>,
}

impl KeptDirectory {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), directory: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.directory.is_some()
    }

    /// Gives the descriptor back; the next listing opens the directory again.
    pub fn close(&mut self) {
        self.directory = None;
    }

    pub(super) fn list(
        &mut self,
        (buffer, budget): (&mut Vec<u8>, Budget),
        place: u64,
        mut each: impl FnMut(DirectoryEntry<'_>),
    ) -> Result<(), ReadError> {
        let listed = self.open(place).and_then(|directory| {
            let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    let is_directory = entry.file_type() == FileType::Directory;
                    let place_behind = entry.next_entry_cookie();
                    each(DirectoryEntry { name, inode: entry.ino(), is_directory, place_behind });
                }
            }
            Ok(())
        });
        self.directory.take_if(|directory| listed.is_err() || !budget.has_room_for(directory));
        listed.map_err(|source| ReadError::new(&self.path, source))
    }

    fn open(&mut self, place: u64) -> io::Result<&OwnedFd> {
        let is_kept = self.directory.is_some();
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none @ None => none.insert(open(&self.path)?),
        };
        if is_kept || 0 < place {
            seek(&*directory, SeekFrom::Start(place))?;
        }
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use crate::host::Host;
    use crate::host::KeptDirectory;
    use crate::host::Roots;

    #[test]
    fn a_kept_directory_shows_what_came_and_went() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = Host::new(Roots::default());
        let mut kept = KeptDirectory::new(directory.path());
        let mut check = |expect: &[(&str, bool)]| {
            let mut names = Vec::new();
            host.list(&mut kept, |entry| {
                names.push((String::from_utf8_lossy(entry.name).into_owned(), entry.is_directory));
            })
            .unwrap();
            names.sort();
            assert_eq!(names.iter().map(|(name, is)| (name.as_str(), *is)).collect::<Vec<_>>(), expect);
        };
        check(&[]);
        std::fs::create_dir(directory.path().join("cgroup")).unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        check(&[("cgroup", true), ("file", false)]);
        std::fs::remove_file(directory.path().join("file")).unwrap();
        check(&[("cgroup", true)]);
    }
}
