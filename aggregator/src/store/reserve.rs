//! Room on the disk that is kept for a start where nothing else is left: it writes before it can answer anything, and what was
//! stored is to be seen. Until the room is there again no samples are stored, which would take it.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::store::disk;

/// What the newest rows take that become rows of the logs, in the WAL and in the database, and as much again.
const BYTES: u64 = 4 << 20;

/// The file that keeps it.
const NAME: &str = "reserve";

/// The room.
#[derive(Debug)]
pub(super) struct Reserve {
    file: PathBuf,
    is_kept: bool,
}

impl Reserve {
    /// Of a data directory. Nobody knows yet whether it is there.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { file: data_dir.join(NAME), is_kept: false }
    }

    /// Keeps it, if it is not kept already. Answers whether it is.
    pub(super) fn keep(&mut self) -> bool {
        if !self.is_kept {
            let kept = allocate(&self.file);
            if let Err(error) = &kept {
                tracing::debug!(%error, file = %self.file.display(), "cannot keep room for a start on a full disk");
            }
            self.is_kept = kept.is_ok();
        }
        self.is_kept
    }

    /// Gives it up. Answers whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        self.is_kept = false;
        fs::remove_file(&self.file).is_ok()
    }
}

fn allocate(file: &Path) -> io::Result<()> {
    disk::allocate(&OpenOptions::new().create(true).truncate(false).write(true).open(file)?, BYTES)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn room_is_on_the_disk_until_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::of(dir.path());
        assert!(!reserve.give_up());
        assert!(reserve.keep() && reserve.keep());
        let there = fs::metadata(dir.path().join(NAME)).unwrap();
        assert!(BYTES <= there.len() && BYTES <= there.blocks() * 512, "{there:?}");
        assert!(reserve.give_up() && !dir.path().join(NAME).exists());
        assert!(!Reserve::of(&dir.path().join("not there")).keep());
    }
}
