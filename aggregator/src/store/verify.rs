//! Looks through what is stored, every checksum of it, and names what is damaged.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::Row;

use crate::store::FILE;
use crate::store::backup::BackupError;
use crate::store::backup::Source;
use crate::store::backup::reading;
use crate::store::block::Block;
use crate::store::block::file::FileReader;
use crate::store::catalog;
use crate::store::log;
use crate::store::origin;
use crate::store::snapshot::Snapshot;
use crate::store::tail;

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file, from the data directory.
    pub file: String,
    /// What of it, and what is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Findings of SQLite's own check that are told: one page that went takes many rows with it.
const FINDINGS_MAX: u32 = 20;

/// Looks through a backup, or a data directory where no aggregator runs.
#[must_use]
pub fn verify(directory: &Path) -> Vec<Damage> {
    look_through(directory, Source::Here(directory.join(FILE), None))
}

/// The same, whether an aggregator runs there or not: it is asked for a snapshot of its database.
///
/// # Errors
/// When there is none.
pub fn verify_beside(
    directory: &Path,
    ask: impl FnOnce() -> anyhow::Result<Snapshot>,
) -> Result<Vec<Damage>, BackupError> {
    Ok(look_through(directory, Source::of(directory, ask)?))
}

fn look_through(directory: &Path, source: Source) -> Vec<Damage> {
    let mut damage = Vec::new();
    let mut found = |what: String| damage.push(Damage { file: FILE.to_owned(), what });
    let file = directory.join(FILE);
    if !file.exists() {
        found("it is missing".to_owned());
        return damage;
    }
    let recorded = reading(source.file()).map(|connection| {
        database(&connection, &mut found);
        catalog::blocks(&connection).unwrap_or_default()
    });
    // Whoever wants to run there need not wait for the block files, too.
    drop(source);
    match recorded {
        Ok(recorded) => damage.extend(blocks(recorded, directory)),
        Err(error) => found(error.to_string()),
    }
    damage
}

/// The block files that are recorded and are not what was written. What an older program wrote has none.
fn blocks(recorded: Vec<(Block, u64)>, directory: &Path) -> Vec<Damage> {
    let damage = recorded.into_iter().filter_map(|(block, _)| {
        let checked = FileReader::open(directory, block).and_then(|reader| reader.check());
        checked.err().map(|error| Damage { file: block.to_string(), what: error.to_string() })
    });
    damage.collect()
}

fn database(connection: &Connection, found: &mut dyn FnMut(String)) {
    let sql = format!("PRAGMA integrity_check({FINDINGS_MAX})");
    let checked = each(connection, &sql, |row| {
        let finding: String = row.get(0)?;
        Ok((finding != "ok").then_some(finding))
    });
    let structure = told("its structure", checked, found);
    // Rows of tables that cannot be walked would be told one by one.
    if !structure {
        return;
    }
    let batches = log::damaged(connection).map(|rows| {
        rows.into_iter()
            .map(|(id, host)| format!("row {id} of the log, of host {}: its checksum is wrong", host.0))
            .collect()
    });
    told("the log of batches", batches, found);
    let written = origin::damaged(connection).map(|rows| {
        rows.into_iter()
            .map(|(id, origin)| format!("row {id} of the log of origin {}: its checksum is wrong", origin.0))
            .collect()
    });
    told("the log of series that come whole", written, found);
    let end = tail::damaged(connection).map(|damaged| {
        let damage = format!("the end of its logs: {damaged} of its records cannot be read: a checksum is wrong");
        (damaged != 0).then_some(damage).into_iter().collect()
    });
    told("the end of its logs", end, found);
}

/// Tells what was found; whether that was nothing.
fn told(what: &str, checked: rusqlite::Result<Vec<String>>, found: &mut dyn FnMut(String)) -> bool {
    match checked {
        Ok(findings) => {
            let sound = findings.is_empty();
            findings.into_iter().for_each(found);
            sound
        }
        Err(error) => {
            found(format!("{what} cannot be read: {error}"));
            false
        }
    }
}

fn each(
    connection: &Connection,
    sql: &str,
    judge: impl Fn(&Row<'_>) -> rusqlite::Result<Option<String>>,
) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        findings.extend(judge(row)?);
    }
    Ok(findings)
}
