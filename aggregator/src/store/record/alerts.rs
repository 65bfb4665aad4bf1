//! Alerts that are pending, firing or lately resolved, and how far they were evaluated.

use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;

/// Where one alert stands, or that it is inactive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Names its rule.
    pub rule: String,
    /// Names its labels.
    pub fingerprint: String,
    /// Everything else, as JSON; `None` removes it.
    pub body: Option<String>,
}

/// The evaluation up to which alerts are as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Its time.
    pub through: Timestamp,
}

impl Alert {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self { rule, fingerprint, body } = self;
        if body.is_some() {
            let sql = "INSERT OR REPLACE INTO alert (rule, fingerprint, body) VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute((rule, fingerprint, body))?;
        } else {
            let sql = "DELETE FROM alert WHERE rule = ?1 AND fingerprint = ?2";
            transaction.prepare_cached(sql)?.execute((rule, fingerprint))?;
        }
        Ok(())
    }
}

/// Writes the last evaluation.
pub(in crate::store) fn put_evaluated(connection: &Connection, through: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO evaluation (only, through_ms) VALUES (1, ?1)";
    connection.prepare_cached(sql)?.execute([through.as_millis()])?;
    Ok(())
}

/// All alerts that are recorded.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Alert>> {
    let mut statement = connection.prepare("SELECT rule, fingerprint, body FROM alert")?;
    let rows =
        statement.query_map([], |row| Ok(Alert { rule: row.get(0)?, fingerprint: row.get(1)?, body: row.get(2)? }))?;
    rows.collect()
}

/// The last evaluation that was recorded.
///
/// # Errors
/// When the database cannot be read.
pub fn evaluated_through(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT through_ms FROM evaluation";
    connection.query_row(sql, [], |row| row.get(0).map(Timestamp::from_millis)).optional()
}
