//! The tables of `lapwing.db`, step by step. One file a room; a released file never changes, a new one is appended.

use rusqlite::Connection;

/// All steps, in the order they are taken. `user_version` of the database counts those it has taken.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_store.sql"),
    include_str!("../../migrations/0002_trust.sql"),
    include_str!("../../migrations/0003_alerts.sql"),
    include_str!("../../migrations/0004_notify.sql"),
    include_str!("../../migrations/0005_access.sql"),
    include_str!("../../migrations/0006_hosts_change.sql"),
    include_str!("../../migrations/0007_origins.sql"),
    include_str!("../../migrations/0008_windows.sql"),
    include_str!("../../migrations/0009_blocks.sql"),
    include_str!("../../migrations/0010_seals.sql"),
    include_str!("../../migrations/0011_tiers.sql"),
    include_str!("../../migrations/0012_ended.sql"),
    include_str!("../../migrations/0013_forward.sql"),
    include_str!("../../migrations/0014_bare_log.sql"),
    include_str!("../../migrations/0015_ordered.sql"),
    include_str!("../../migrations/0016_reasons.sql"),
    include_str!("../../migrations/0017_tail.sql"),
];

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A later program wrote it.
    #[error("its data is of version {found}, this program knows versions up to {known}: install the newer program")]
    Newer {
        /// The database's version.
        found: u32,
        /// The last one known.
        known: u32,
    },
    /// A step failed; it left nothing behind.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Whether this program knows a database.
pub(super) fn check_known(connection: &Connection) -> Result<(), MigrationError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found <= known { Ok(()) } else { Err(MigrationError::Newer { found, known }) }
}

/// Takes the steps that the database has not taken.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrationError> {
    migrate_to(connection, MIGRATIONS.len())
}

/// Takes those of the first `steps` steps that the database has not taken.
pub(super) fn migrate_to(connection: &mut Connection, steps: usize) -> Result<(), MigrationError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mut known = 0;
    for (version, sql) in (1..).zip(&MIGRATIONS[..steps]) {
        known = version;
        if found < version {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
    }
    if found <= known { Ok(()) } else { Err(MigrationError::Newer { found, known }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_once_and_a_newer_database_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 1_000).unwrap();
        assert!(matches!(migrate(&mut connection), Err(MigrationError::Newer { .. })));
    }
}
