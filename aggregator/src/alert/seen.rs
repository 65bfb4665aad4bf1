//! Files that people write, watched by what tells their versions.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// What a look at a file says without reading it: another answer means that the file is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Absent,
    /// There is one.
    There {
        /// When it was written last.
        modified: Option<SystemTime>,
        /// How long it is.
        bytes: u64,
    },
    /// Nobody knows: what was read before stays in force.
    Hidden(io::ErrorKind),
}

impl Seen {
    /// Looks at a file.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) => Self::There { modified: metadata.modified().ok(), bytes: metadata.len() },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Hidden(error.kind()),
        }
    }
}
