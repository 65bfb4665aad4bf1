//! Label sets, each once, and by which of their labels they are found.

use std::collections::BTreeSet;
use std::collections::HashMap;

use common::batch::HostId;
use common::metric::Labels;
use rusqlite::Connection;
use rusqlite::OptionalExtension;

use crate::store::log::decoded;
use crate::store::log::encoded;

/// Label sets that are kept at hand by who reads many series: neighbours mostly have the same.
const SETS_KEPT: usize = 10_000;

/// Stands for all label sets of columns.
const ALL: i64 = -1;

/// What a label set says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Column,
    Entity,
    Host,
}

impl Part {
    const fn number(self) -> u8 {
        match self {
            Self::Column => 0,
            Self::Entity => 1,
            Self::Host => 2,
        }
    }
}

/// Label sets that are written.
pub(super) struct Writing<'a> {
    connection: &'a Connection,
    known: HashMap<(Part, Labels), i64>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, known: HashMap::new() }
    }

    /// The number of a label set, which is new or not.
    pub(super) fn number(&mut self, part: Part, labels: &Labels) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(&(part, labels.clone())) {
            return Ok(*id);
        }
        let id = match number(self.connection, labels)? {
            Some(id) => id,
            None => {
                let sql = "INSERT INTO label_set (labels) VALUES (?1)";
                self.connection.prepare_cached(sql)?.execute([encoded(labels)?])?;
                self.connection.last_insert_rowid()
            }
        };
        put_pairs(self.connection, part, (id, labels))?;
        self.known.insert((part, labels.clone()), id);
        Ok(id)
    }

    /// The same of a host.
    pub(super) fn number_of_host(&mut self, host: HostId, labels: &Labels) -> rusqlite::Result<i64> {
        let id = self.number(Part::Host, labels)?;
        put_host_set(self.connection, host, id)?;
        Ok(id)
    }
}

/// Makes a label set found by its labels.
pub(super) fn put_pairs(connection: &Connection, part: Part, (id, labels): (i64, &Labels)) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO label_pair (part, checksum, label_set) VALUES (?1, ?2, ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    checksums(part, labels).try_for_each(|checksum| statement.execute((part.number(), checksum, id)).map(drop))
}

/// Notes that a host had a label set.
pub(super) fn put_host_set(connection: &Connection, host: HostId, id: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO host_set (label_set, host) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((id, host.0)).map(drop)
}

/// The number of a label set, if there is one.
pub(super) fn number(connection: &Connection, labels: &Labels) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM label_set WHERE labels = ?1";
    connection.prepare_cached(sql)?.query_row([encoded(labels)?], |row| row.get(0)).optional()
}

/// Label sets that may have a label: of more than `most` one more.
pub(super) fn with(
    connection: &Connection,
    part: Part,
    (name, value): (&str, &str),
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    of_checksum(connection, part, checksum(name, value), most)
}

/// All label sets of columns.
pub(super) fn columns(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    of_checksum(connection, Part::Column, ALL, usize::MAX - 1)
}

fn of_checksum(connection: &Connection, part: Part, checksum: i64, most: usize) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT label_set FROM label_pair WHERE part = ?1 AND checksum = ?2 LIMIT ?3";
    let most = i64::try_from(most + 1).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map((part.number(), checksum, most), |row| row.get(0))?.collect()
}

/// The hosts that had a label set.
pub(super) fn hosts(connection: &Connection, id: i64) -> rusqlite::Result<Vec<HostId>> {
    let mut statement = connection.prepare_cached("SELECT host FROM host_set WHERE label_set = ?1")?;
    statement.query_map([id], |row| row.get(0).map(HostId))?.collect()
}

/// Label sets that are read.
pub(super) struct Reading<'a> {
    connection: &'a Connection,
    known: HashMap<i64, Labels>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, known: HashMap::new() }
    }

    /// A label set.
    pub(super) fn labels(&mut self, id: i64) -> rusqlite::Result<Labels> {
        if let Some(labels) = self.known.get(&id) {
            return Ok(labels.clone());
        }
        let sql = "SELECT labels FROM label_set WHERE id = ?1";
        let labels =
            self.connection.prepare_cached(sql)?.query_row([id], |row| decoded::<Labels>(row, 0)).optional()?;
        let labels = labels.unwrap_or_default();
        if SETS_KEPT <= self.known.len() {
            self.known.clear();
        }
        self.known.insert(id, labels.clone());
        Ok(labels)
    }
}

/// Label sets of series that were removed, which others may have.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) columns: BTreeSet<i64>,
    pub(super) entities: BTreeSet<i64>,
    pub(super) hosts: BTreeSet<(HostId, i64)>,
}

impl Left {
    /// Removes those that no series has.
    pub(super) fn remove_unused(self, connection: &Connection) -> rusqlite::Result<()> {
        let of = |part, sql: &str, ids: BTreeSet<i64>| -> rusqlite::Result<Vec<(Part, i64)>> {
            let mut unused = Vec::new();
            for id in ids {
                if !connection.prepare_cached(sql)?.exists([id])? {
                    unused.push((part, id));
                }
            }
            Ok(unused)
        };
        let mut hosts = BTreeSet::new();
        for (host, id) in self.hosts {
            let used = "SELECT 1 FROM series WHERE host = ?1 AND host_set = ?2 LIMIT 1";
            if !connection.prepare_cached(used)?.exists((host.0, id))? {
                let sql = "DELETE FROM host_set WHERE label_set = ?2 AND host = ?1";
                connection.prepare_cached(sql)?.execute((host.0, id))?;
                hosts.insert(id);
            }
        }
        let [columns, entities, hosts] = [
            of(Part::Column, "SELECT 1 FROM series WHERE column_set = ?1 LIMIT 1", self.columns)?,
            of(Part::Entity, "SELECT 1 FROM series WHERE entity_set = ?1 LIMIT 1", self.entities)?,
            of(Part::Host, "SELECT 1 FROM host_set WHERE label_set = ?1 LIMIT 1", hosts)?,
        ];
        columns.into_iter().chain(entities).chain(hosts).try_for_each(|(part, id)| remove(connection, part, id))
    }
}

/// Removes a label set that no series has in this part.
fn remove(connection: &Connection, part: Part, id: i64) -> rusqlite::Result<()> {
    let labels = Reading::new(connection).labels(id)?;
    let sql = "DELETE FROM label_pair WHERE part = ?1 AND checksum = ?2 AND label_set = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    checksums(part, &labels).try_for_each(|checksum| statement.execute((part.number(), checksum, id)).map(drop))?;
    let unused = "DELETE FROM label_set WHERE id = ?1
                  AND NOT EXISTS (SELECT 1 FROM series WHERE column_set = ?1)
                  AND NOT EXISTS (SELECT 1 FROM series WHERE entity_set = ?1)
                  AND NOT EXISTS (SELECT 1 FROM host_set WHERE label_set = ?1)";
    connection.prepare_cached(unused)?.execute([id]).map(drop)
}

fn checksums(part: Part, labels: &Labels) -> impl Iterator<Item = i64> {
    let all = (part == Part::Column).then_some(ALL);
    labels.iter().map(|(name, value)| checksum(name, value)).chain(all)
}

/// Few pairs have the checksum of another: who looks one up compares what it finds.
fn checksum(name: &str, value: &str) -> i64 {
    let mut checksum = crc32fast::Hasher::new();
    // No text has this byte.
    [name.as_bytes(), &[0xff], value.as_bytes()].into_iter().for_each(|bytes| checksum.update(bytes));
    checksum.finalize().into()
}
