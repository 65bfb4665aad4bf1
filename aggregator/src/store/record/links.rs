//! Login links: made for a person, spent once by a [`Session`](super::sessions::Session).

use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Transaction;

/// A link that was made.
#[derive(Clone, Debug)]
pub struct LoginLink {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// When it was made: older ones that have expired by then go.
    pub created: Timestamp,
    /// Until when it may be spent.
    pub expires: Timestamp,
}

impl LoginLink {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute("DELETE FROM login_link WHERE expires_ms <= ?1", [self.created.as_millis()])?;
        let sql = "INSERT INTO login_link (hash, expires_ms) VALUES (?1, ?2)";
        transaction.execute(sql, (self.hash, self.expires.as_millis()))?;
        Ok(())
    }
}

/// Whether a link may still be spent.
///
/// # Errors
/// When the database cannot be read.
pub fn is_open(connection: &Connection, hash: [u8; 32], now: Timestamp) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM login_link WHERE hash = ?1 AND ?2 < expires_ms)";
    connection.query_row(sql, (hash, now.as_millis()), |row| row.get(0))
}
