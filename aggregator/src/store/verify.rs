//! Looks through what is stored, every checksum of it, and names what is damaged.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::Row;

use crate::store::FILE;
use crate::store::backup::reading;
use crate::store::block::file::FileReader;
use crate::store::catalog;
use crate::store::log;
use crate::store::origin;
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

/// Looks through a data directory or a backup, whether an aggregator runs there or not.
#[must_use]
pub fn verify(directory: &Path) -> Vec<Damage> {
    let mut damage = Vec::new();
    let mut found = |what: String| damage.push(Damage { file: FILE.to_owned(), what });
    let file = directory.join(FILE);
    if !file.exists() {
        found("it is missing".to_owned());
        return damage;
    }
    match reading(&file) {
        Ok(connection) => {
            database(&connection, &mut found);
            damage.extend(blocks(&connection, directory));
        }
        Err(error) => found(error.to_string()),
    }
    damage
}

/// The block files that are recorded and are not what was written. What an older program wrote has none.
fn blocks(connection: &Connection, directory: &Path) -> Vec<Damage> {
    let recorded = catalog::blocks(connection).unwrap_or_default();
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
    let end = tail::is_whole(connection).map(|is_whole| {
        let damage = "the end of its logs: a record's checksum is wrong, and what is behind it cannot be read";
        (!is_whole).then(|| damage.to_owned()).into_iter().collect()
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
