//! Room on the disk that is kept for a start where nothing else is left: it writes before it can answer anything, and what was
//! stored is to be seen. Until the room is there again no samples are stored, which would take it.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::store::disk;
use crate::store::disk::Disk;
use crate::store::disk::NO_FOLLOW;

/// What the newest rows take that become rows of the logs, in the WAL and in the database, and as much again.
const BYTES: u64 = 4 << 20;

/// The file that keeps it.
const NAME: &str = "reserve";

/// The room.
#[derive(Debug)]
pub(super) struct Reserve {
    file: PathBuf,
    bytes: u64,
    is_kept: bool,
}

impl Reserve {
    /// Of a data directory. Nobody knows yet whether it is there.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self::of_bytes(data_dir, BYTES)
    }

    pub(super) fn of_bytes(data_dir: &Path, bytes: u64) -> Self {
        Self { file: data_dir.join(NAME), bytes, is_kept: false }
    }

    /// Keeps it, if it is not kept already. Answers whether the disk had room for it.
    pub(super) fn keep(&mut self) -> bool {
        if !self.is_kept {
            self.is_kept = match allocate(&self.file, self.bytes) {
                Ok(()) => true,
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => false,
                Err(error) => {
                    let file = self.file.display();
                    tracing::warn!(%error, %file, "cannot keep room for a start: one on a full disk will fail");
                    true
                }
            };
        }
        self.is_kept
    }

    /// Gives it up. Answers whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        self.is_kept = false;
        fs::remove_file(&self.file).is_ok()
    }
}

/// All of it or nothing: a part of it would be what others, who may have little, have left.
fn allocate(file: &Path, bytes: u64) -> io::Result<()> {
    let missing = bytes.saturating_sub(fs::symlink_metadata(file).map_or(0, |there| there.blocks() * 512));
    if missing == 0 {
        return Ok(());
    }
    if file.parent().and_then(Disk::of).is_some_and(|disk| disk.available_bytes < missing) {
        return Err(ErrorKind::StorageFull.into());
    }
    let open =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(NO_FOLLOW).open(file);
    open.and_then(|file| disk::allocate(&file, bytes)).inspect_err(|_| drop(fs::remove_file(file)))
}

#[cfg(test)]
mod tests {
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
    }

    #[test]
    fn a_part_of_it_is_not_taken_from_who_has_little() {
        let dir = tempfile::tempdir().unwrap();
        let free = Disk::of(dir.path()).unwrap().available_bytes;
        assert!(!Reserve::of_bytes(dir.path(), 2 * free).keep());
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn what_is_no_want_of_room_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Reserve::of(&dir.path().join("not there")).keep());
        // Nor does it write where somebody else would like it to.
        let other = dir.path().join("other");
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join(NAME)).unwrap();
        assert!(Reserve::of(dir.path()).keep());
        assert_eq!(fs::metadata(&other).unwrap().blocks(), 0);
    }
}
