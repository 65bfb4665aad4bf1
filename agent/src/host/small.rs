//! Files of one value each, as sysfs has them, and the directories they stand in.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::host::ReadError;
use crate::host::open;

/// The most that is read of a small file: the kernel gives an attribute one page.
pub const ATTRIBUTE_BYTES_MAX: usize = 4_096;

/// Entries of one directory: of a sensor chip a few hundred.
const ENTRIES_MAX: usize = 10_000;

/// What a device says when it has no value: the sensor is switched off, asleep or not connected.
const NO_VALUE: [Errno; 6] = [Errno::NODATA, Errno::NXIO, Errno::INVAL, Errno::AGAIN, Errno::OPNOTSUPP, Errno::NODEV];

/// Reads an attribute without its newline; `None` where there is none or the device has no value for it. Drivers make it
/// at the read: ask aside.
///
/// # Errors
/// When it cannot be opened or read.
pub fn read_attribute(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let mut page = [0; ATTRIBUTE_BYTES_MAX];
    let read = open(path).map(File::from).and_then(|mut file| file.read(&mut page));
    match read {
        Ok(length) => Ok(Some(page[..length].trim_ascii_end().to_vec())),
        Err(source) if has_no_value(&source) => Ok(None),
        Err(source) => Err(ReadError { path: path.into(), source }),
    }
}

/// Reads at most `bytes_max` of a larger file; `None` where there is none.
///
/// # Errors
/// When it cannot be opened or read, or is larger.
pub fn read_bounded(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let mut bytes = Vec::new();
    let read = open(path).map(File::from).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes));
    let read =
        read.and_then(|_| if bytes_max < bytes.len() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) });
    match read {
        Ok(()) => Ok(Some(bytes)),
        Err(source) if has_no_value(&source) => Ok(None),
        Err(source) => Err(ReadError { path: path.into(), source }),
    }
}

/// Reads the first bytes of a file, at most `bytes_max`.
///
/// # Errors
/// When it cannot be opened or read.
pub fn read_beginning(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(open(path)?).take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads at most `bytes_max` of a file that others write, and when it was written, in seconds since the epoch. A pipe or a
/// socket in its place is refused instead of waited for.
///
/// # Errors
/// When it cannot be read, is larger, or is no ordinary file.
pub fn read_ordinary(path: &Path, bytes_max: usize) -> Result<(Vec<u8>, i64), ReadError> {
    let mut bytes = Vec::new();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let read = OpenOptions::new().read(true).custom_flags(flags).open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes_max < bytes.len() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(metadata.mtime()) }
    });
    read.map(|written| (bytes, written)).map_err(|source| ReadError { path: path.into(), source })
}

/// What stands in a directory under a name that begins with `prefix`, sorted; nothing where it cannot be read.
#[must_use]
pub fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut paths = listed(directory).unwrap_or_default();
    paths.retain(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes())));
    paths
}

/// What stands in a directory, sorted; nothing where there is no such directory.
///
/// # Errors
/// When it cannot be read.
pub fn listed(directory: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ReadError { path: directory.into(), source }),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().take(ENTRIES_MAX).map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Where a path leads, all symbolic links followed; `None` where it leads nowhere.
#[must_use]
pub fn resolve(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

fn has_no_value(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || NO_VALUE.iter().any(|errno| Some(errno.raw_os_error()) == number)
}
