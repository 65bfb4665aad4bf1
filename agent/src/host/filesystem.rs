//! How full a file system is. The call may hang for ever on a dead network mount: never on the sampling thread.

use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
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
    /// Mounted read-only, or made so by the kernel after an error.
    pub read_only: bool,
}

/// Asks the file system that `path` lies on.
///
/// # Errors
/// When the path does not exist, may not be reached, or its device failed.
pub fn space(path: &Path) -> io::Result<FilesystemSpace> {
    let stat = statvfs(path)?;
    Ok(FilesystemSpace {
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: stat.f_files,
        files_free: stat.f_ffree,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}
