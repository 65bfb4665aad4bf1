//! Series, on disk: known from the first time that a block file is to name them, by a number that their host gives no
//! other series.

use std::collections::BTreeSet;

use common::batch::HostId;
use common::metric::{Decimals, Kind, Labels};
use common::time::{TimeRange, Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::store::catalog::labels;
use crate::store::catalog::labels::Left;
use crate::store::catalog::labels::Part;
use crate::store::catalog::labels::Reading;
use crate::store::catalog::labels::Writing;
use crate::store::chunk::Shape;
use crate::store::log::decoded;
use crate::store::log::encoded;

/// A series: where its labels come from, and when it lived.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct Identity {
    /// Its number among those of its host.
    pub(in crate::store) number: u32,
    pub(in crate::store) shape: Shape,
    pub(in crate::store) sets: LabelSets,
    pub(in crate::store) life: Life,
}

/// Where the labels of a series come from.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct LabelSets {
    /// Labels of its column, the metric's name among them.
    pub(in crate::store) column: Labels,
    pub(in crate::store) entity: Labels,
    /// Labels that the host had when it began.
    pub(in crate::store) host: Labels,
}

/// When a series lived, as far as it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Life {
    pub(in crate::store) first: Timestamp,
    /// Its latest stamp, once it was sealed after an hour of silence or with its end; none as long as it goes on.
    pub(in crate::store) last: Option<Timestamp>,
    /// Whether the latest entry marks its end.
    pub(in crate::store) marked: bool,
}

impl Life {
    /// What all its stamps lie in.
    pub(in crate::store) fn range(&self) -> TimeRange {
        let after = Timestamp::from_millis(self.first.as_millis().saturating_sub(1));
        TimeRange { after, through: self.last.unwrap_or(Timestamp::from_millis(i64::MAX)) }
    }
}

/// A row of the table, its label sets by their numbers.
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) shape: Shape,
    pub(super) column: i64,
    pub(super) entity: i64,
    pub(super) host: i64,
    pub(super) life: Life,
}

/// What a row is read from.
pub(super) const COLUMNS: &str = "number, shape, column_set, entity_set, host_set, first_ms, last_ms, marked";

impl Numbered {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (kind, decimals, peak): (Kind, Decimals, bool) = decoded(row, 1)?;
        let last: Option<i64> = row.get(6)?;
        let life = Life {
            first: Timestamp::from_millis(row.get(5)?),
            last: last.map(Timestamp::from_millis),
            marked: row.get(7)?,
        };
        let shape = Shape { kind, decimals, peak };
        Ok(Self { number: row.get(0)?, shape, column: row.get(2)?, entity: row.get(3)?, host: row.get(4)?, life })
    }

    fn identity(self, sets: &mut Reading<'_>) -> rusqlite::Result<Identity> {
        let Self { number, shape, life, .. } = self;
        let [column, entity, host] = [sets.labels(self.column)?, sets.labels(self.entity)?, sets.labels(self.host)?];
        Ok(Identity { number, shape, sets: LabelSets { column, entity, host }, life })
    }
}

/// Stores new series, which an attempt to seal is to put into files: if the host's last one came before, none has them.
/// They go on, as far as this says.
pub(in crate::store) fn put(
    connection: &Connection,
    (host, seal): (HostId, i64),
    series: &[Identity],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO series
               (host, number, shape, column_set, entity_set, host_set, first_ms, last_ms, marked, seal)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, 0, ?8)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut written = Writing::new(connection);
    for Identity { number, shape, sets: LabelSets { column, entity, host: had }, life } in series {
        let (column, entity) = (written.number(Part::Column, column)?, written.number(Part::Entity, entity)?);
        let had = written.number_of_host(host, had)?;
        let shape = encoded(&(shape.kind, shape.decimals, shape.peak))?;
        statement.execute((host.0, number, shape, column, entity, had, life.first.as_millis(), seal))?;
    }
    Ok(())
}

/// Stores when series lived.
pub(in crate::store) fn put_lives(
    connection: &Connection,
    host: HostId,
    lives: &[(u32, Life)],
) -> rusqlite::Result<()> {
    let sql = "UPDATE series SET first_ms = ?3, last_ms = ?4, marked = ?5 WHERE host = ?1 AND number = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    for (number, Life { first, last, marked }) in lives {
        statement.execute((host.0, number, first.as_millis(), last.map(Timestamp::as_millis), marked))?;
    }
    Ok(())
}

/// Hands out the series of a host that go on, by number.
pub(in crate::store) fn each_living(
    connection: &Connection,
    host: HostId,
    mut give: impl FnMut(Identity),
) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM series WHERE host = ?1 AND last_ms IS NULL ORDER BY number");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([host.0])?;
    let mut sets = Reading::new(connection);
    while let Some(row) = rows.next()? {
        give(Numbered::read(row)?.identity(&mut sets)?);
    }
    Ok(())
}

/// The shape of a series, if it is known.
pub(in crate::store) fn shape(
    connection: &Connection,
    (host, number): (HostId, u32),
) -> rusqlite::Result<Option<Shape>> {
    let sql = format!("SELECT {COLUMNS} FROM series WHERE host = ?1 AND number = ?2");
    let found = connection.prepare_cached(&sql)?.query_row((host.0, number), Numbered::read).optional()?;
    Ok(found.map(|series| series.shape))
}

/// Those of some series of a host that are known, by where their labels come from.
pub(in crate::store) fn find(
    connection: &Connection,
    host: HostId,
    wanted: &[(LabelSets, Kind)],
) -> rusqlite::Result<Vec<Identity>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM series WHERE entity_set = ?1 AND host = ?2 AND column_set = ?3 AND host_set = ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::new();
    // Those of an entity stand together.
    let mut before: Option<(&Labels, Option<i64>)> = None;
    for (sets, kind) in wanted {
        let entity = match before {
            Some((labels, id)) if *labels == sets.entity => id,
            _ => labels::number(connection, &sets.entity)?,
        };
        before = Some((&sets.entity, entity));
        let Some(entity) = entity else {
            continue;
        };
        let numbers = labels::number(connection, &sets.column)?.zip(labels::number(connection, &sets.host)?);
        let Some((column, had)) = numbers else {
            continue;
        };
        let mut rows = statement.query((entity, host.0, column, had))?;
        while let Some(row) = rows.next()? {
            let Numbered { number, shape, life, .. } = Numbered::read(row)?;
            if shape.kind == *kind {
                found.push(Identity { number, shape, sets: sets.clone(), life });
            }
        }
    }
    Ok(found)
}

/// The series of a host that ended without a mark after a stamp.
pub(in crate::store) fn unmarked(
    connection: &Connection,
    host: HostId,
    after: Timestamp,
) -> rusqlite::Result<Vec<Identity>> {
    let sql = format!("SELECT {COLUMNS} FROM series WHERE host = ?1 AND ?2 < last_ms AND marked = 0");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut sets = Reading::new(connection);
    let mut rows = statement.query((host.0, after.as_millis()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Numbered::read(row)?.identity(&mut sets)?);
    }
    Ok(found)
}

/// Removes the series of attempts to seal that came to nothing.
pub(in crate::store) fn remove_unsealed(connection: &Connection) -> rusqlite::Result<()> {
    let unsealed = "last_ms IS NULL
                    AND coalesce((SELECT seal FROM sealed WHERE sealed.host = series.host), 0) < seal";
    remove(connection, unsealed, [])
}

/// Removes the series of some hosts that ended at or before `cutoff`: nothing has a sample of them.
pub(in crate::store) fn remove_ended(
    connection: &Connection,
    hosts: &[HostId],
    cutoff: Timestamp,
) -> rusqlite::Result<()> {
    let ended = "host = ?1 AND last_ms <= ?2";
    hosts.iter().try_for_each(|host| remove(connection, ended, (host.0, cutoff.as_millis())))
}

/// Removes one series: nothing is left of it.
pub(in crate::store) fn remove_one(connection: &Connection, (host, number): (HostId, u32)) -> rusqlite::Result<()> {
    remove(connection, "host = ?1 AND number = ?2", (host.0, number))
}

/// Removes all series of a host.
pub(in crate::store) fn forget_host(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    remove(connection, "host = ?1", [host.0])
}

/// Removes the series of a host whose entities have a label.
pub(in crate::store) fn forget_entities(
    connection: &Connection,
    host: HostId,
    (name, value): (&str, &str),
) -> rusqlite::Result<()> {
    let mut sets = Reading::new(connection);
    for entity in labels::with(connection, Part::Entity, (name, value), usize::MAX - 1)? {
        if sets.labels(entity)?.get(name) == value {
            remove(connection, "entity_set = ?1 AND host = ?2", (entity, host.0))?;
        }
    }
    Ok(())
}

/// Removes the series of which a condition holds, and the label sets that nobody else has.
fn remove(connection: &Connection, condition: &str, parameters: impl Params) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM series WHERE {condition} RETURNING column_set, entity_set, host, host_set");
    let mut left = Left::default();
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        left.columns.insert(row.get(0)?);
        left.entities.insert(row.get(1)?);
        left.hosts.insert((HostId(row.get(2)?), row.get(3)?));
    }
    left.remove_unused(connection)
}

/// Makes the label sets of series that an earlier program stored found by their labels. It knew no other end of an
/// attempt to seal than that its series stayed: those go.
pub(in crate::store) fn index_labels(connection: &Connection) -> rusqlite::Result<()> {
    let is_indexed = "SELECT EXISTS (SELECT 1 FROM label_pair) OR NOT EXISTS (SELECT 1 FROM series)";
    if connection.query_row(is_indexed, [], |row| row.get(0))? {
        return Ok(());
    }
    let unsealed = "coalesce((SELECT seal FROM sealed WHERE sealed.host = series.host), 0) < seal";
    connection.execute(&format!("DELETE FROM series WHERE {unsealed}"), [])?;
    let mut sets = Reading::new(connection);
    for (part, column) in [(Part::Column, "column_set"), (Part::Entity, "entity_set"), (Part::Host, "host_set")] {
        let ids: BTreeSet<i64> = connection
            .prepare(&format!("SELECT DISTINCT {column} FROM series"))?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in ids {
            labels::put_pairs(connection, part, (id, &sets.labels(id)?))?;
        }
    }
    connection.execute("INSERT OR IGNORE INTO host_set SELECT DISTINCT host_set, host FROM series", [])?;
    Ok(())
}
