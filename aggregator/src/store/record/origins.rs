//! Who may write series of their own: each has a token, and is an origin.

use common::batch::HostId;
use common::metric::Labels;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::Transaction;

use crate::store::record::hosts::labels_from_json;
use crate::store::record::hosts::labels_to_json;

/// A token to write with, as it is made. Its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginToken {
    /// What people call who has it: unique.
    pub name: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Labels for its series.
    pub labels: Labels,
    /// When it was made.
    pub created: Timestamp,
}

/// Somebody who may write, or might once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its number, which no host has and no other origin gets.
    pub id: HostId,
    /// Its token.
    pub token: OriginToken,
    /// Whether the token was taken back.
    pub revoked: bool,
}

impl OriginToken {
    /// An origin of this name that was revoked goes on with the new token.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO origin (name, hash, labels, created_ms) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (name) DO UPDATE SET hash = ?2, labels = ?3, created_ms = ?4, revoked = 0";
        transaction.execute(sql, (&self.name, self.hash, labels_to_json(&self.labels), self.created.as_millis()))?;
        Ok(())
    }
}

pub(super) fn revoke(transaction: &Transaction<'_>, origin: HostId) -> rusqlite::Result<()> {
    transaction.execute("UPDATE origin SET revoked = 1 WHERE id = ?1", [origin.0])?;
    Ok(())
}

/// Whose token this is, if it was not taken back.
///
/// # Errors
/// When the database cannot be read.
pub fn find(connection: &Connection, hash: [u8; 32]) -> rusqlite::Result<Option<Origin>> {
    let sql = "SELECT * FROM origin WHERE hash = ?1 AND revoked = 0";
    connection.prepare_cached(sql)?.query_row([hash], from_row).optional()
}

/// Who is called so, if the token was not taken back.
///
/// # Errors
/// When the database cannot be read.
pub fn named(connection: &Connection, name: &str) -> rusqlite::Result<Option<Origin>> {
    let sql = "SELECT * FROM origin WHERE name = ?1 AND revoked = 0";
    connection.prepare_cached(sql)?.query_row([name], from_row).optional()
}

/// All of them, the newest token first.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Origin>> {
    connection.prepare("SELECT * FROM origin ORDER BY created_ms DESC, id")?.query_map([], from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Origin> {
    let token = OriginToken {
        name: row.get("name")?,
        hash: row.get("hash")?,
        labels: labels_from_json(&row.get::<_, String>("labels")?)?,
        created: Timestamp::from_millis(row.get("created_ms")?),
    };
    Ok(Origin { id: HostId(row.get("id")?), token, revoked: row.get("revoked")? })
}
