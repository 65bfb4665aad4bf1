//! The kernel's log, from where it stood when the agent began.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Records read at once: the kernel keeps about that many.
const RECORDS_MAX: usize = 16_384;

/// The kernel gives one record a read, and refuses a smaller buffer.
const RECORD_BYTES_MAX: usize = 8 * 1024;

/// The log, where it may be read.
#[derive(Debug, Default)]
pub struct KernelLog(Option<File>);

impl KernelLog {
    /// Opens it and passes over what is written already. Where it may not be read, it stays empty.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let opened = open(path).and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self(opened.ok())
    }

    /// Calls `each` with every record written since the last call.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) {
        let Some(log) = &mut self.0 else { return };
        let mut record = [0; RECORD_BYTES_MAX];
        for _ in 0..RECORDS_MAX {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(length) => each(&record[..length]),
                // What was overwritten before it was read is lost; the next record is the oldest that is left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return,
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}
