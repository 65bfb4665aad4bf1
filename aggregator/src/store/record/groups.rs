//! Groups of alerts that are told together.

use rusqlite::Connection;
use rusqlite::Transaction;

/// One group, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Names it: its route and the labels it was made by.
    pub key: String,
    /// Everything else, as JSON; `None` removes it.
    pub body: Option<String>,
}

impl Group {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self { key, body } = self;
        if body.is_some() {
            let sql = "INSERT OR REPLACE INTO alert_group (key, body) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute((key, body))?;
        } else {
            transaction.prepare_cached("DELETE FROM alert_group WHERE key = ?1")?.execute([key])?;
        }
        Ok(())
    }
}

/// All groups that are recorded.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Group>> {
    let mut statement = connection.prepare("SELECT key, body FROM alert_group")?;
    let rows = statement.query_map([], |row| Ok(Group { key: row.get(0)?, body: row.get(1)? }))?;
    rows.collect()
}
