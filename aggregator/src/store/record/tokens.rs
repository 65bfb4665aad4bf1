//! Join tokens: who may enrol hosts, how many, until when, with which labels.

use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::Transaction;

use crate::store::record::hosts::labels_from_json;
use crate::store::record::hosts::labels_to_json;

/// A token that was made. Its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// How many hosts it may enrol.
    pub uses: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it may be used.
    pub expires: Timestamp,
    /// Labels for the hosts it enrols.
    pub labels: Labels,
    /// How long after they were last seen its hosts are forgotten, if they are ephemeral.
    pub ephemeral: Option<Duration>,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// A host's key used a token. The same key again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// Hash of the token.
    pub token: [u8; 32],
    /// SHA-256 of the host's public key info.
    pub key_hash: [u8; 32],
}

impl Token {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO join_token (hash, uses, created_ms, expires_ms, labels, ephemeral_s, revoked) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                   ON CONFLICT (hash) DO UPDATE SET uses = ?2, expires_ms = ?4, revoked = ?7";
        let values = (
            self.hash,
            self.uses,
            self.created.as_millis(),
            self.expires.as_millis(),
            labels_to_json(&self.labels),
            self.ephemeral.and_then(|ephemeral| i64::try_from(ephemeral.as_secs()).ok()),
            self.revoked,
        );
        transaction.execute(sql, values)?;
        Ok(())
    }
}

impl TokenUse {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO join_token_use (token, key_hash) VALUES (?1, ?2)";
        transaction.execute(sql, (self.token, self.key_hash))?;
        Ok(())
    }
}

/// A token with the keys that used it.
pub type Used = (Token, Vec<[u8; 32]>);

/// Looks a token up by its hash.
///
/// # Errors
/// When the database cannot be read.
pub fn find(connection: &Connection, hash: [u8; 32]) -> rusqlite::Result<Option<Used>> {
    let token = connection.query_row("SELECT * FROM join_token WHERE hash = ?1", [hash], from_row).optional()?;
    token.map(|token| with_uses(connection, token)).transpose()
}

/// All tokens, the newest first.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Used>> {
    let mut statement = connection.prepare("SELECT * FROM join_token ORDER BY created_ms DESC, hash")?;
    let tokens: Vec<Token> = statement.query_map([], from_row)?.collect::<Result<_, _>>()?;
    tokens.into_iter().map(|token| with_uses(connection, token)).collect()
}

fn with_uses(connection: &Connection, token: Token) -> rusqlite::Result<Used> {
    let mut statement = connection.prepare("SELECT key_hash FROM join_token_use WHERE token = ?1")?;
    let keys = statement.query_map([token.hash], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok((token, keys))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Token> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(Token {
        hash: row.get("hash")?,
        uses: row.get("uses")?,
        created: Timestamp::from_millis(row.get("created_ms")?),
        expires: Timestamp::from_millis(row.get("expires_ms")?),
        labels: labels_from_json(&row.get::<_, String>("labels")?)?,
        ephemeral: row.get::<_, Option<i64>>("ephemeral_s")?.map(seconds),
        revoked: row.get("revoked")?,
    })
}
