//! How full file systems are.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Space and inodes of one file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesystemSpace {
    /// All of it, in bytes.
    pub size_bytes: u64,
    /// Free, in bytes, including what is reserved for root.
    pub free_bytes: u64,
    /// Free for ordinary users, in bytes.
    pub available_bytes: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// Asks a file system. On a dead network mount that may take for ever: ask aside.
///
/// # Errors
/// When it says so, or there is none.
pub fn filesystem_space(path: &Path) -> io::Result<FilesystemSpace> {
    let stat = statvfs(path)?;
    Ok(FilesystemSpace {
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_system_has_space_and_a_missing_one_an_error() {
        let root = filesystem_space(Path::new("/")).unwrap();
        assert!(0 < root.size_bytes && root.available_bytes <= root.free_bytes && root.free_bytes <= root.size_bytes);
        let missing = filesystem_space(Path::new("/no/such/mount"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
