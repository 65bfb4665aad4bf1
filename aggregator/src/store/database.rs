//! The file: one connection that writes, a few that read, all of one process.

use std::ffi::CStr;
use std::fs::{OpenOptions, Permissions, remove_file};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::store::disk::NO_FOLLOW;

/// How SQLite opens it: the index of the WAL is in the process' own memory, since beside the file the kernel would write it
/// to the disk every half minute. No other process can open the file meanwhile: `Store::snapshot` is for those. The process
/// must not open and close the file by itself while it is open here, which would give up SQLite's lock of it.
const VFS: &CStr = c"unix-excl";

/// Connections kept open for the next reader: more than ask at once.
const CONNECTIONS_KEPT: usize = 4;

/// How long a statement waits for a lock. Readers in WAL mode wait for nobody; a checkpoint may hold one up shortly.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a page of a new file: what a small commit changes lies on a few pages, each of which is written as a whole. A
/// large one takes as many bytes either way.
const PAGE_BYTES: u32 = 1_024;

/// Bytes of WAL after which what is in it is put where it belongs: what is changed again and again is put there once.
const CHECKPOINT_BYTES: u32 = 4 << 20;

/// Bytes of WAL that stay on disk after a checkpoint.
const JOURNAL_BYTES: i64 = 64 << 20;

/// Opens the file to write, making it if it is missing. What is committed there has reached the disk.
pub(super) fn writing(file: &Path) -> rusqlite::Result<Connection> {
    keep_private(file);
    // SQLite then follows a link in no part of a path: it is given one without.
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let directory = file.parent().and_then(|directory| directory.canonicalize().ok());
    let place = directory.zip(file.file_name()).map(|(directory, name)| directory.join(name));
    let connection = Connection::open_with_flags_and_vfs(place.as_deref().unwrap_or(file), flags, VFS)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Both of a new file: an older one keeps its pages, and those of them that are free.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_BYTES / page_bytes(&connection)?)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    // Nobody else has the file open at this point: an index that lies beside it is a leftover of who did not close it.
    drop(remove_file(file.with_extension("db-shm")));
    Ok(connection)
}

/// Makes a file that nobody else may read, or one that is there so: what SQLite puts beside it is as it is. Where that fails,
/// opening it says why.
pub(super) fn keep_private(file: &Path) {
    const MODE: u32 = 0o600;
    let open =
        OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).custom_flags(NO_FOLLOW).open(file);
    drop(open.and_then(|file| file.set_permissions(Permissions::from_mode(MODE))));
}

/// Bytes that nothing is in.
pub(super) fn free_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: u32 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    Ok(u64::from(pages) * u64::from(page_bytes(connection)?))
}

/// Gives some of them back to the disk.
pub(super) fn give_back(connection: &Connection, bytes: u32) -> rusqlite::Result<()> {
    let pages = bytes / page_bytes(connection)?;
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Puts what is in the WAL where it belongs, as far as no reader needs it: not before that is the file as short as what was given
/// back makes it. Who commits meanwhile waits for nothing.
pub(super) fn checkpoint(file: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(file, flags, VFS)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

pub(super) fn page_bytes(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA page_size", [], |row| row.get(0))
}

/// Connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self { file, idle: Mutex::new(Vec::new()) }
    }

    /// What they read.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Asks a question. Blocks: on a thread that may.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let answer = question(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < CONNECTIONS_KEPT {
            idle.push(connection);
        }
        answer
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(&self.file, flags, VFS)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }
}
