//! Notifications that are yet to be delivered.

use rusqlite::Connection;
use rusqlite::Transaction;

/// The one pending notification of a group and a receiver, or that there is none. A later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The group it is about.
    pub group_key: String,
    /// Whom to tell: receiver, kind and place, as `team/webhook/0`.
    pub receiver: String,
    /// Everything else, as JSON; `None` removes it.
    pub body: Option<String>,
}

impl Pending {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self { group_key, receiver, body } = self;
        if body.is_some() {
            let sql = "INSERT OR REPLACE INTO outbox (group_key, receiver, body) VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute((group_key, receiver, body))?;
        } else {
            let sql = "DELETE FROM outbox WHERE group_key = ?1 AND receiver = ?2";
            transaction.prepare_cached(sql)?.execute((group_key, receiver))?;
        }
        Ok(())
    }
}

/// All notifications that are pending.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Pending>> {
    let mut statement = connection.prepare("SELECT group_key, receiver, body FROM outbox")?;
    let rows = statement
        .query_map([], |row| Ok(Pending { group_key: row.get(0)?, receiver: row.get(1)?, body: row.get(2)? }))?;
    rows.collect()
}
