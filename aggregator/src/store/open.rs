//! A start begins with the database: opened, of this program's version, and with nothing in a place that was for a crash.

use std::path::Path;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::ErrorCode;

use crate::store::catalog;
use crate::store::database;
use crate::store::migration::MigrationError;
use crate::store::migration::migrate;
use crate::store::recent;
use crate::store::tail;
use crate::store::tail::Tail;

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database is not one of ours, or newer.
    #[error("cannot open {file}: {why}")]
    Migration {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        why: MigrationError,
    },
    /// The database cannot be read or written.
    #[error("cannot open {file}: {why}")]
    Sqlite {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        why: rusqlite::Error,
    },
}

impl OpenError {
    /// Whether it may be that nothing is left on the disk: one that a quota ends is a failure like others to SQLite.
    pub(super) fn wants_room(&self) -> bool {
        let (Self::Migration { why: MigrationError::Sqlite(why), .. } | Self::Sqlite { why, .. }) = self else {
            return false;
        };
        matches!(why.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
    }
}

/// Opens the database, and puts all in it where this program expects it. Answers what the tail is then, and how many of its
/// records could not be read.
pub(super) fn open(file: &Path) -> Result<(Connection, (Tail, u64)), OpenError> {
    let failed = |why| OpenError::Sqlite { file: file.to_owned(), why };
    let mut connection = database::writing(file).map_err(failed)?;
    migrate(&mut connection).map_err(|why| OpenError::Migration { file: file.to_owned(), why })?;
    let tail = tail::open(&mut connection).map_err(failed)?;
    recent::read(&connection).map_err(failed)?;
    catalog::series::index_labels(&connection).map_err(failed)?;
    Ok((connection, tail))
}
