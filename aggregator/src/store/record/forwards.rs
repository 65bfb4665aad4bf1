//! Who is written to: up to when everything was sent that had come, and what came later of the time before.

use common::batch::HostId;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::Transaction;

/// Those who are written to from here on; what others were to be told is forgotten.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Their names.
    pub names: Vec<String>,
    /// From when on new ones are told.
    pub from: Timestamp,
}

/// What one was told.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Which.
    pub target: String,
    /// Everything of the time through this.
    pub through: Timestamp,
    /// And what had come late, through this number.
    pub late: Option<i64>,
}

/// What came late of one host, and may be anywhere between two stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Its number, in the order in which it came.
    pub id: i64,
    /// Whose.
    pub host: HostId,
    /// The first stamp.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
}

impl Targets {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for name in &self.names {
            let sql = "INSERT OR IGNORE INTO forward (target, through_ms) VALUES (?1, ?2)";
            transaction.execute(sql, (name, self.from.as_millis()))?;
        }
        let known: Vec<String> = transaction
            .prepare("SELECT target FROM forward")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for name in known.iter().filter(|name| !self.names.contains(name)) {
            transaction.execute("DELETE FROM forward WHERE target = ?1", [name])?;
            transaction.execute("DELETE FROM forward_late WHERE target = ?1", [name])?;
        }
        Ok(())
    }
}

impl Forwarded {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "UPDATE forward SET through_ms = ?2 WHERE target = ?1";
        transaction.prepare_cached(sql)?.execute((&self.target, self.through.as_millis()))?;
        if let Some(late) = self.late {
            let sql = "DELETE FROM forward_late WHERE target = ?1 AND id <= ?2";
            transaction.prepare_cached(sql)?.execute((&self.target, late))?;
        }
        Ok(())
    }
}

/// Notes that something came late.
pub(in crate::store) fn insert_late(
    connection: &Connection,
    target: &str,
    (host, first, last): (HostId, Timestamp, Timestamp),
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO forward_late (target, host, first_ms, last_ms) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute((target, host.0, first.as_millis(), last.as_millis())).map(drop)
}

/// Up to when those who are written to were told everything.
pub(in crate::store) fn all(connection: &Connection) -> rusqlite::Result<Vec<(String, Timestamp)>> {
    let mut statement = connection.prepare("SELECT target, through_ms FROM forward")?;
    statement.query_map([], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?))))?.collect()
}

/// The same of one, and the first of what came late.
///
/// # Errors
/// When the database cannot be read.
pub fn find(connection: &Connection, target: &str, most: u32) -> rusqlite::Result<Option<(Timestamp, Vec<Late>)>> {
    let sql = "SELECT through_ms FROM forward WHERE target = ?1";
    let through = connection.prepare_cached(sql)?.query_row([target], |row| row.get(0)).optional()?;
    let Some(through) = through.map(Timestamp::from_millis) else {
        return Ok(None);
    };
    let late = |row: &Row<'_>| {
        let stamp = |at| row.get(at).map(Timestamp::from_millis);
        Ok(Late { id: row.get(0)?, host: HostId(row.get(1)?), first: stamp(2)?, last: stamp(3)? })
    };
    let sql = "SELECT id, host, first_ms, last_ms FROM forward_late WHERE target = ?1 ORDER BY id LIMIT ?2";
    let late = connection.prepare_cached(sql)?.query_map((target, most), late)?.collect::<Result<_, _>>()?;
    Ok(Some((through, late)))
}
