//! Copies of the database for other processes, which cannot open it while it is open here.

use std::fs;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::store::Shared;
use crate::store::Store;
use crate::store::database::page_bytes;
use crate::store::disk::Disk;

/// Where they lie, in the data directory: the service may write nowhere else.
const DIRECTORY: &str = "snapshots";

/// Snapshots that there may be at once: who was killed leaves one until the next start.
const SNAPSHOTS_MAX: u32 = 8;

/// Bytes that are copied before it is looked whether there is room for the rest, and whether it is still to be done.
const STEP_BYTES: u32 = 4 << 20;

/// Bytes that a copy leaves on the disk: commits go on meanwhile.
const ROOM_LEFT_BYTES: u64 = 16 << 20;

/// A copy of the database as one moment has it, until it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    number: u32,
    file: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They are left where they are: somebody may read them.
    #[error(
        "{0} has {SNAPSHOTS_MAX} copies of the database: try again, or remove what commands that were killed left there"
    )]
    TooMany(PathBuf),
    /// A copy would take the room that commits need.
    #[error("there is no room for a copy of the database in the data directory: it takes {0} bytes, and {1} are free")]
    NoRoom(u64, u64),
    /// The aggregator stops.
    #[error("the aggregator is stopping")]
    Closed,
    /// A file cannot be made.
    #[error("cannot copy the database to {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The database cannot be read, or its copy not written.
    #[error("cannot copy the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Snapshot {
    /// One that another process made in this data directory and handed over.
    #[must_use]
    pub fn numbered(data_dir: &Path, number: u32) -> Self {
        Self { number, file: data_dir.join(DIRECTORY).join(format!("{number}.db")) }
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Leaves it to another process, which removes it. Answers by which number that one finds it.
    #[must_use]
    pub fn hand_over(self) -> u32 {
        std::mem::ManuallyDrop::new(self).number
    }

    /// A place that nobody has, readable by the owner alone.
    fn new(data_dir: &Path) -> Result<Self, SnapshotError> {
        let directory = data_dir.join(DIRECTORY);
        let failed = |error| SnapshotError::File(directory.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        for number in 0..SNAPSHOTS_MAX {
            let file = directory.join(format!("{number}.db"));
            match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|_| Self { number, file }).map_err(failed),
            }
        }
        Err(SnapshotError::TooMany(directory))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        for beside in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.file.clone().into_os_string();
            path.push(beside);
            drop(fs::remove_file(path));
        }
    }
}

/// Removes what commands that were killed left, as far as it can be.
pub(super) fn remove_leftovers(data_dir: &Path) {
    drop(fs::remove_dir_all(data_dir.join(DIRECTORY)));
}

impl Store {
    /// Copies the database as it is at one moment. Commits go on meanwhile.
    ///
    /// # Errors
    /// When there is no room for it, something cannot be read or written, or the store is closed.
    pub async fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.snapshot()).await.map_err(|_| SnapshotError::Closed)?
    }
}

impl Shared {
    pub(super) fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let snapshot = Snapshot::new(self.lock.data_dir())?;
        let go_on = || self.stop.go_on().map_err(|_| SnapshotError::Closed);
        self.readers.ask(|source| Ok(copy(source, &snapshot.file, go_on)))??;
        Ok(snapshot)
    }
}

/// Copies all pages as one moment has them, for as long as it is to go on.
fn copy(source: &Connection, to: &Path, go_on: impl Fn() -> Result<(), SnapshotError>) -> Result<(), SnapshotError> {
    // From step to step the same moment, whatever is committed between them: SQLite would begin again.
    let moment = source.unchecked_transaction()?;
    let pages: u32 = moment.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let page_bytes = page_bytes(&moment)?;
    room(to, u64::from(pages) * u64::from(page_bytes))?;
    let mut copy = Connection::open(to)?;
    // Nobody reads it before it is whole, or after a crash.
    copy.pragma_update(None, "journal_mode", "OFF")?;
    copy.pragma_update(None, "synchronous", "OFF")?;
    let backup = Backup::new(&moment, &mut copy)?;
    let step_pages = i32::try_from(STEP_BYTES / page_bytes).unwrap_or(1);
    loop {
        go_on()?;
        let step = backup.step(step_pages)?;
        if step == StepResult::Done {
            break;
        }
        if step != StepResult::More {
            return Err(locked().into());
        }
        let left = u64::try_from(backup.progress().remaining).unwrap_or_default();
        room(to, left * u64::from(page_bytes))?;
    }
    drop(backup);
    // One file, without a log beside it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}

/// Whether so many bytes may be written where a file is.
fn room(file: &Path, bytes: u64) -> Result<(), SnapshotError> {
    let available = file.parent().and_then(Disk::of).map_or(u64::MAX, |disk| disk.available_bytes);
    let fits = bytes.saturating_add(ROOM_LEFT_BYTES) <= available;
    fits.then_some(()).ok_or(SnapshotError::NoRoom(bytes, available))
}

/// Somebody else is in the way.
pub(super) fn locked() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
        Some("the database is locked by another program".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commits_need_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("0.db");
        let free = Disk::of(dir.path()).unwrap().available_bytes;
        // Others write meanwhile.
        assert!(room(&file, free / 2).is_ok());
        let refused = room(&file, free + free / 2).unwrap_err().to_string();
        assert!(refused.contains("there is no room for a copy of the database"), "{refused}");
    }
}
