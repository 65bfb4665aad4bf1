//! Looks through what is stored, every checksum of it, and names what is damaged.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::Row;

use crate::store::FILE;
use crate::store::backup::BackupError;
use crate::store::backup::Source;
use crate::store::backup::recorded;
use crate::store::block::file::FileReader;
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

/// Times that a running aggregator is asked which block files it has: one is merged once in a day.
const ATTEMPTS_MAX: u32 = 5;

/// Looks through a backup, or a data directory where no aggregator runs.
#[must_use]
pub fn verify(directory: &Path) -> Vec<Damage> {
    let Ok(damage) = look_through(directory, || Ok::<_, Infallible>(Source::Here(directory.join(FILE), None)));
    damage
}

/// The same, whether an aggregator runs there or not: it is asked for a snapshot of its database.
///
/// # Errors
/// When there is none.
pub fn verify_beside(
    directory: &Path,
    mut ask: impl FnMut() -> anyhow::Result<Snapshot>,
) -> Result<Vec<Damage>, BackupError> {
    look_through(directory, || Source::of(directory, &mut ask))
}

fn look_through<E: fmt::Display>(
    directory: &Path,
    mut source: impl FnMut() -> Result<Source, E>,
) -> Result<Vec<Damage>, E> {
    let mut damage = Vec::new();
    let mut found = |what: String| damage.push(Damage { file: FILE.to_owned(), what });
    if !directory.join(FILE).exists() {
        found("it is missing".to_owned());
        return Ok(damage);
    }
    let (mut seen, mut missed, mut blocks) = (HashSet::new(), HashSet::new(), Vec::new());
    for attempt in 1..=ATTEMPTS_MAX {
        let source = match source() {
            Ok(source) => source,
            Err(error) if attempt == 1 => return Err(error),
            Err(error) => {
                found(format!("it cannot be asked again which block files there are: {error}"));
                break;
            }
        };
        // Whoever wants to run there waits for the database alone.
        let recorded = source.open().and_then(|(connection, _lock)| {
            if attempt == 1 {
                database(&connection, &mut found);
            }
            recorded(&connection)
        });
        let recorded = recorded.unwrap_or_else(|error| {
            found(error.to_string());
            Vec::new()
        });
        let mut is_gone = false;
        for (block, file) in recorded.into_iter().map(|(block, _)| (block, block.to_string())) {
            if seen.contains(&file) {
                continue;
            }
            let checked = FileReader::open(directory, block).and_then(|reader| reader.check());
            let is_missing = checked.is_err() && !directory.join(&file).exists();
            // One that was recorded a moment ago may be merged into another meanwhile: that one is recorded then.
            if is_missing && attempt < ATTEMPTS_MAX && missed.insert(file.clone()) {
                is_gone = true;
                continue;
            }
            blocks.extend(checked.err().map(|error| Damage { file: file.clone(), what: error.to_string() }));
            seen.insert(file);
        }
        if !is_gone {
            break;
        }
    }
    damage.append(&mut blocks);
    Ok(damage)
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
