//! Directory listings: names and inodes, without a path for each entry.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::fs::RawDir;
use rustix::fs::SeekFrom;
use rustix::fs::seek;

use crate::host::ReadError;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// Its name; any bytes but `/` and NUL.
    pub name: &'a [u8],
    /// Its inode: of a cgroup, what tells an instance from a later one of the same name.
    pub inode: u64,
    /// Whether it is a directory itself.
    pub is_directory: bool,
}

/// A directory that is listed again and again through one descriptor, opened at the first listing.
#[derive(Debug)]
pub struct KeptDirectory {
    path: Arc<Path>,
    directory: Option<File>,
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

    /// Gives the descriptor back; the next listing opens the directory again.
    pub fn close(&mut self) {
        self.directory = None;
    }

    pub(super) fn list(
        &mut self,
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(DirectoryEntry<'_>),
    ) -> Result<(), ReadError> {
        let listed = self.open().and_then(|directory| {
            let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    let is_directory = entry.file_type() == FileType::Directory;
                    each(DirectoryEntry { name, inode: entry.ino(), is_directory });
                }
            }
            Ok(())
        });
        listed.map_err(|source| {
            self.directory = None;
            ReadError::new(&self.path, source)
        })
    }

    fn open(&mut self) -> io::Result<&File> {
        match &mut self.directory {
            Some(directory) => {
                seek(&*directory, SeekFrom::Start(0))?;
                Ok(directory)
            }
            none @ None => Ok(none.insert(File::open(&self.path)?)),
        }
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
