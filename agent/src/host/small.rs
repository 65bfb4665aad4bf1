//! Files of one value each, as sysfs has them, and the directories they stand in.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::host::ReadError;

/// The most that is read of a small file: the kernel gives an attribute one page.
pub const ATTRIBUTE_BYTES_MAX: usize = 4_096;

/// What a device says when it has no value: the sensor is switched off, asleep or not connected.
const NO_VALUE: [Errno; 6] = [Errno::NODATA, Errno::NXIO, Errno::INVAL, Errno::AGAIN, Errno::OPNOTSUPP, Errno::NODEV];

/// Reads an attribute without its newline; `None` where there is none or the device has no value for it. Drivers make it
/// at the read: ask aside.
///
/// # Errors
/// When it cannot be opened or read.
pub fn read_attribute(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let mut page = [0; ATTRIBUTE_BYTES_MAX];
    let read = File::open(path).and_then(|mut file| file.read(&mut page));
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
    let read = File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes));
    let read =
        read.and_then(|_| if bytes_max < bytes.len() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) });
    match read {
        Ok(()) => Ok(Some(bytes)),
        Err(source) if has_no_value(&source) => Ok(None),
        Err(source) => Err(ReadError { path: path.into(), source }),
    }
}

/// What stands in a directory under a name that begins with `prefix`, sorted; nothing where there is no such directory.
#[must_use]
pub fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let matching = names.filter(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    let mut paths: Vec<PathBuf> = matching.map(|name| directory.join(name)).collect();
    paths.sort();
    paths
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
