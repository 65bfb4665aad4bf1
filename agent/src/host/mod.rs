//! The only reader of the host: kernel files, directories, file systems, kernel facts. Everything else gets bytes.
//!
//! Roots may point anywhere, so that a captured tree is read like a living host. Descriptors of files that are read
//! each tick are kept, and all reads share one buffer: a read costs one system call and no allocation.

mod aside;
mod bus;
mod directory;
mod discipline;
mod filesystem;
pub mod http;
mod kernel;
mod log;
mod sight;
mod small;
mod watch;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::pread;

pub use crate::config::Roots;
pub use aside::Aside;
pub use aside::Inquiry;
pub use bus::Bus;
pub use bus::Call;
pub use bus::SYSTEM_BUS;
pub use bus::Values;
pub use bus::is_refusal;
pub use directory::DirectoryEntry;
pub use directory::KeptDirectory;
pub use discipline::Discipline;
pub use discipline::discipline;
pub use filesystem::FilesystemSpace;
pub use filesystem::filesystem_space;
pub use kernel::Uname;
pub use kernel::clock_ticks_per_second;
pub use kernel::descriptor_limit;
pub use kernel::own_cpu_time;
pub use kernel::page_bytes;
pub use kernel::raise_descriptor_limit;
pub use kernel::uname;
pub use log::KernelLog;
pub use sight::SIGHTS;
pub use sight::Sight;
pub use sight::denied;
pub use small::ATTRIBUTE_BYTES_MAX;
pub use small::entries;
pub use small::listed;
pub use small::read_attribute;
pub use small::read_beginning;
pub use small::read_bounded;
pub use small::read_ordinary;
pub use small::resolve;
pub use watch::Stirred;
pub use watch::WatchId;
pub use watch::Watcher;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ReadError {
    path: Arc<Path>,
    source: io::Error,
}

impl ReadError {
    /// It does not exist, the process or cgroup that it belongs to ended between two reads, or the kernel was told to go
    /// without its subject.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound || self.source.raw_os_error().is_some_and(kernel::is_gone)
    }

    /// We may not read it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    fn new(path: &Arc<Path>, source: impl Into<io::Error>) -> Self {
        Self { path: Arc::clone(path), source: source.into() }
    }
}

/// A file that is read again and again through one descriptor, opened at the first read.
#[derive(Debug)]
pub struct KeptFile {
    path: Arc<Path>,
    kept: KeptDescriptor,
    in_one_piece: bool,
}

impl KeptFile {
    /// A file of many records (`/proc/net/dev`, `/proc/diskstats`): read until its end is seen.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), kept: KeptDescriptor::default(), in_one_piece: false }
    }

    /// A file that the kernel makes in one piece (`/proc/stat`): a read that does not fill the buffer has it all, and no
    /// second read looks for the end.
    #[must_use]
    pub fn in_one_piece(path: impl Into<PathBuf>) -> Self {
        Self { in_one_piece: true, ..Self::new(path) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The descriptor of a file whose place its owner can tell: where there are thousands of files (`/proc/PID/stat`, those
/// of a cgroup), their paths would take more memory than what is known by them.
///
/// A kept descriptor costs about 4.3 kB of kernel memory: keep those that are read each tick, read others by
/// [`Host::read_once`].
#[derive(Debug, Default)]
pub struct KeptDescriptor(Option<OwnedFd>);

impl KeptDescriptor {
    /// Gives the descriptor back; the next read opens the file again.
    pub fn close(&mut self) {
        self.0 = None;
    }

    /// Fills the buffer with the file from its start. A descriptor that failed, or has no place within the budget, is not
    /// kept.
    fn read(
        &mut self,
        (buffer, budget): (&mut Vec<u8>, Budget),
        in_one_piece: bool,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<usize> {
        let file = match &mut self.0 {
            Some(file) => file,
            none @ None => none.insert(open()?),
        };
        let filled = fill(buffer, &*file, in_one_piece);
        if filled.is_err() || !budget.has_room_for(file) {
            self.close();
        }
        filled
    }
}

/// How many descriptors may be kept. The kernel gives the lowest number that is free, so that a descriptor's own number
/// tells whether as many are open.
#[derive(Clone, Copy, Debug)]
struct Budget(u64);

impl Budget {
    fn has_room_for(self, file: &OwnedFd) -> bool {
        u64::try_from(file.as_raw_fd()).is_ok_and(|number| number < self.0)
    }
}

/// Of a hundred descriptors that this process may have open, those that may be kept: the others are for the uplink, the
/// spool, and what is opened for a moment.
const KEPT_PER_HUNDRED_MAX: u64 = 75;

/// What tells one version of a file from another: who writes anew makes a new file, or moves at least its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// The file's own number in its file system.
    pub inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// What a read starts with: the largest file of the tick (`/proc/stat` of a large machine) fits.
const BUFFER_BYTES: usize = 64 * 1024;

/// The most that is read of one file: `mountinfo` of a host with ten thousand containers has a few MiB; a larger file
/// is not one that the kernel made.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The host: its roots, the buffer that all reads share, and the thread that reads what is slow.
#[derive(Debug)]
pub struct Host {
    roots: Roots,
    buffer: Vec<u8>,
    entries: Vec<u8>,
    budget: Budget,
    /// For devices that may take milliseconds to answer, or for ever. File systems have their own.
    pub devices: Aside,
    /// Whether the tree of processes is the kernel's own.
    living: bool,
    /// Whether it is that of this process, whose ids the kernel means when it is asked about one.
    ours: bool,
}

impl Host {
    /// Reads below `roots`.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let (buffer, entries) = (vec![0; BUFFER_BYTES], Vec::with_capacity(BUFFER_BYTES));
        let living = kernel::is_procfs(&roots.procfs);
        let ours = living && kernel::is_own_procfs(&roots.procfs);
        let budget = Budget((descriptor_limit() / 100).saturating_mul(KEPT_PER_HUNDRED_MAX));
        Self { roots, buffer, entries, budget, devices: Aside::default(), living, ours }
    }

    /// Where the host's trees are.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Reads a kept file from its start.
    ///
    /// # Errors
    /// When it cannot be opened or read, or is larger than [`FILE_BYTES_MAX`]. The next read opens it again.
    pub fn read(&mut self, kept: &mut KeptFile) -> Result<&[u8], ReadError> {
        let KeptFile { path, kept, in_one_piece } = kept;
        let read = kept.read((&mut self.buffer, self.budget), *in_one_piece, || open(path));
        read.map(|length| &self.buffer[..length]).map_err(|source| ReadError::new(path, source))
    }

    /// Reads a file that the kernel makes in one piece from its start, through a kept descriptor; `place` tells where
    /// the file is.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_kept(
        &mut self,
        kept: &mut KeptDescriptor,
        place: impl Fn(&Roots) -> PathBuf,
    ) -> Result<&[u8], ReadError> {
        let Self { roots, buffer, budget, .. } = self;
        let read = kept.read((buffer, *budget), true, || open(&place(roots)));
        read.map(|length| &buffer[..length]).map_err(|source| ReadError { path: place(roots).into(), source })
    }

    /// Reads a file whose descriptor is not worth keeping.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_once(&mut self, path: &Path) -> Result<&[u8], ReadError> {
        read_into(&mut self.buffer, path, false).map(|length| &self.buffer[..length])
    }

    /// Reads a file whose descriptor is not worth keeping, and that the kernel makes in one piece.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_piece(&mut self, path: &Path) -> Result<&[u8], ReadError> {
        read_into(&mut self.buffer, path, true).map(|length| &self.buffer[..length])
    }

    /// Reads the second place of a file where the first may not be read: files of the first process, which are the host's
    /// also for an agent in a container, and the agent's own.
    ///
    /// # Errors
    /// As [`Self::read`], of the second place.
    pub fn read_either(&mut self, [first, second]: &[PathBuf; 2]) -> Result<&[u8], ReadError> {
        let read = read_into(&mut self.buffer, first, false).or_else(|_| read_into(&mut self.buffer, second, false));
        read.map(|length| &self.buffer[..length])
    }

    /// How many files a process has open: the entries of its `fd`.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn count_open_files(&mut self, directory: &Path) -> Result<u64, ReadError> {
        // Since Linux 6.2 the directory's size tells, without access to what is in it.
        let size = if self.living { fs::metadata(directory).map(|it| it.len()).unwrap_or(0) } else { 0 };
        let mut listed = 0;
        if size == 0 {
            self.list(&mut KeptDirectory::new(directory), |_| listed += 1)?;
        }
        Ok(size.max(listed))
    }

    /// Where a symbolic link points, as it is written: `/proc/PID/exe`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When it is none or may not be read.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf, ReadError> {
        fs::read_link(path).map_err(|source| ReadError { path: path.into(), source })
    }

    /// What tells this version of a file from a later one, if it is there.
    #[must_use]
    pub fn version(&self, path: &Path) -> Option<FileVersion> {
        let found = fs::metadata(path).ok()?;
        Some(FileVersion { inode: found.ino(), bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }

    /// Calls `each` with every entry of a directory but `.` and `..`, in the kernel's order.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn list(&mut self, kept: &mut KeptDirectory, each: impl FnMut(DirectoryEntry<'_>)) -> Result<(), ReadError> {
        self.list_from(kept, 0, each)
    }

    /// As [`Self::list`], from a place in that order on.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn list_from(
        &mut self,
        kept: &mut KeptDirectory,
        place: u64,
        each: impl FnMut(DirectoryEntry<'_>),
    ) -> Result<(), ReadError> {
        kept.list((&mut self.entries, self.budget), place, each)
    }

    /// Whether there is a process of this id, without a look at what it does; nothing where the tree of processes is
    /// not that of this one.
    #[must_use]
    pub fn is_process(&self, pid: u32) -> Option<bool> {
        self.ours.then(|| kernel::is_process(pid))
    }

    /// In which of the directories that are watched something came or went since the last call.
    pub fn stirred(&mut self, watcher: &mut Watcher) -> Stirred {
        watcher.stirred(&mut self.entries)
    }
}

/// Opens a file for reading, in one system call: musl's own `open` is followed by a second one.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn read_into(buffer: &mut Vec<u8>, path: &Path, in_one_piece: bool) -> Result<usize, ReadError> {
    let read = open(path).and_then(|file| fill(buffer, &file, in_one_piece));
    read.map_err(|source| ReadError { path: path.into(), source })
}

/// Reads the whole file into the buffer, which grows as needed, and returns how long it is.
fn fill(buffer: &mut Vec<u8>, file: impl AsFd, in_one_piece: bool) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let read = pread(&file, &mut buffer[length..], length as u64)?;
        length += read;
        if read == 0 || (in_one_piece && length < buffer.len()) {
            return Ok(length);
        }
        if length == buffer.len() {
            if FILE_BYTES_MAX <= length {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            buffer.resize(2 * length, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn host() -> Host {
        Host::new(Roots::default())
    }

    #[test]
    fn a_kept_file_is_read_anew_each_time_and_grows_the_buffer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut host = host();
        let mut kept = KeptFile::new(&path);
        assert!(host.read(&mut kept).unwrap_err().is_missing());
        for length in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, 5 * BUFFER_BYTES, 3] {
            let mut file = File::create(&path).unwrap();
            file.write_all(&vec![b'x'; length]).unwrap();
            assert_eq!(host.read(&mut kept).unwrap().len(), length);
            assert_eq!(host.read_once(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn a_file_that_no_kernel_makes_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endless");
        File::create(&path).unwrap().set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
        let error = host().read_once(&path).unwrap_err();
        assert_eq!((error.is_missing(), error.is_denied()), (false, false));
    }

    #[test]
    fn what_is_beyond_the_budget_is_read_and_not_kept() {
        let mut host = host();
        for (budget, expect) in [(u64::MAX, true), (0, false)] {
            host.budget = Budget(budget);
            let (mut file, mut directory) = (KeptDescriptor::default(), KeptDirectory::new("/proc/self"));
            for _ in 0..2 {
                let read = host.read_kept(&mut file, |roots| roots.procfs.join("stat")).unwrap();
                assert!(read.starts_with(b"cpu "));
                let mut entries = 0;
                host.list(&mut directory, |_| entries += 1).unwrap();
                assert!(10 < entries, "{entries} entries");
            }
            assert_eq!([file.0.is_some(), directory.is_open()], [expect; 2]);
        }
    }

    #[test]
    fn a_process_that_ended_between_two_reads_is_missing() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (id, mut kept, mut host) = (child.id().to_string(), KeptDescriptor::default(), host());
        let place = |roots: &Roots| roots.procfs.join(&id).join("stat");
        assert!(host.read_kept(&mut kept, place).unwrap().starts_with(id.as_bytes()));
        child.kill().unwrap();
        child.wait().unwrap();
        for _ in 0..2 {
            let error = host.read_kept(&mut kept, place).unwrap_err();
            assert!(error.is_missing());
            assert!(error.to_string().starts_with(&format!("/proc/{id}/stat: ")), "{error}");
        }
    }
}
