//! Which series there are, on disk: known from the first time that a block file is to name them, by a number that their
//! host gives no other series. And how much of each host's log the block files cover.

use std::collections::{BTreeMap, HashMap};

use common::batch::HostId;
use common::metric::{Decimals, Kind, Labels};
use common::time::{TimeRange, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::chunk::Shape;
use crate::store::log::decoded;
use crate::store::log::encoded;

/// A series: where its labels come from, and when it lived.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    /// Its number among those of its host.
    pub(super) number: u32,
    /// Labels of its column, the metric's name among them.
    pub(super) column: Labels,
    pub(super) shape: Shape,
    pub(super) entity: Labels,
    /// Labels that the host had when it began.
    pub(super) host: Labels,
    pub(super) life: Life,
}

/// When a series lived, as far as it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) first: Timestamp,
    /// Its latest stamp, once an hour was sealed without it or with its end; none as long as it goes on.
    pub(super) last: Option<Timestamp>,
    /// Whether the latest entry marks its end.
    pub(super) marked: bool,
}

/// How far the block files of a host go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Rows of its log up to this one …
    pub(super) row: i64,
    /// … whose stamps are not after this one are in block files.
    pub(super) cut: Timestamp,
    /// The attempt that got them so far.
    pub(super) seal: i64,
    /// The number that its next series gets.
    pub(super) next_number: u32,
    /// The end of its latest window.
    pub(super) last_stamp: Option<Timestamp>,
}

impl Default for Sealed {
    /// Nothing is.
    fn default() -> Self {
        let cut = Timestamp::from_millis(i64::MIN);
        Self { row: 0, cut, seal: 0, next_number: 0, last_stamp: None }
    }
}

impl Sealed {
    /// Whether a row of the host's log is in block files.
    pub(super) fn covers(&self, row: i64, stamp: Timestamp) -> bool {
        row <= self.row && stamp <= self.cut
    }
}

/// Stores new series, which an attempt to seal is to put into files: if the host's last one came before, none has them.
pub(super) fn put_series(
    connection: &Connection,
    (host, seal): (HostId, i64),
    series: &[Identity],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO series
               (host, number, shape, column_set, entity_set, host_set, first_ms, last_ms, marked, seal)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut sets = HashMap::new();
    for Identity { number, column, shape, entity, host: had, life } in series {
        let mut set = |labels| label_set(connection, &mut sets, labels);
        let (column, entity, had) = (set(column)?, set(entity)?, set(had)?);
        let shape = encoded(&(shape.kind, shape.decimals, shape.peak))?;
        let (first, last) = (life.first.as_millis(), life.last.map(Timestamp::as_millis));
        statement.execute((host.0, number, shape, column, entity, had, first, last, life.marked, seal))?;
    }
    Ok(())
}

/// Stores when series lived.
pub(super) fn put_lives(connection: &Connection, host: HostId, lives: &[(u32, Life)]) -> rusqlite::Result<()> {
    let sql = "UPDATE series SET first_ms = ?3, last_ms = ?4, marked = ?5 WHERE host = ?1 AND number = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    for (number, Life { first, last, marked }) in lives {
        statement.execute((host.0, number, first.as_millis(), last.map(Timestamp::as_millis), marked))?;
    }
    Ok(())
}

fn label_set<'a>(
    connection: &Connection,
    sets: &mut HashMap<&'a Labels, i64>,
    labels: &'a Labels,
) -> rusqlite::Result<i64> {
    if let Some(id) = sets.get(labels) {
        return Ok(*id);
    }
    let key = encoded(labels)?;
    let sql = "SELECT id FROM label_set WHERE labels = ?1";
    let held = connection.prepare_cached(sql)?.query_row([&key], |row| row.get(0)).optional()?;
    let id = match held {
        Some(id) => id,
        None => {
            connection.prepare_cached("INSERT INTO label_set (labels) VALUES (?1)")?.execute([&key])?;
            connection.last_insert_rowid()
        }
    };
    sets.insert(labels, id);
    Ok(id)
}

/// Hands out all series, host by host, by number.
pub(super) fn each_series(connection: &Connection, mut give: impl FnMut(HostId, Identity)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, labels FROM label_set")?;
    let sets: HashMap<i64, Labels> =
        statement.query_map([], |row| Ok((row.get(0)?, decoded(row, 1)?)))?.collect::<Result<_, _>>()?;
    let labels = |row: &Row<'_>, column: usize| -> rusqlite::Result<Labels> {
        Ok(sets.get(&row.get(column)?).cloned().unwrap_or_default())
    };
    let sql = "SELECT host, number, shape, column_set, entity_set, host_set, first_ms, last_ms, marked
               FROM series ORDER BY host, number";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, decimals, peak): (Kind, Decimals, bool) = decoded(row, 2)?;
        let last: Option<i64> = row.get(7)?;
        let life = Life {
            first: Timestamp::from_millis(row.get(6)?),
            last: last.map(Timestamp::from_millis),
            marked: row.get(8)?,
        };
        let shape = Shape { kind, decimals, peak };
        let (column, entity, host) = (labels(row, 3)?, labels(row, 4)?, labels(row, 5)?);
        let identity = Identity { number: row.get(1)?, column, shape, entity, host, life };
        give(HostId(row.get(0)?), identity);
    }
    Ok(())
}

/// Removes the series of attempts to seal that came to nothing.
pub(super) fn remove_unsealed_series(connection: &Connection) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM series
               WHERE coalesce((SELECT seal FROM sealed WHERE sealed.host = series.host), 0) < seal";
    connection.execute(sql, [])
}

/// Removes the series that ended at or before `cutoff`: nothing has a sample of them.
pub(super) fn remove_series(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<usize> {
    let removed = connection.execute("DELETE FROM series WHERE last_ms <= ?1", [cutoff.as_millis()])?;
    if 0 < removed {
        let unused = "DELETE FROM label_set WHERE id NOT IN (SELECT column_set FROM series UNION
                      SELECT entity_set FROM series UNION SELECT host_set FROM series)";
        connection.execute(unused, [])?;
    }
    Ok(removed)
}

/// Removes series by their numbers.
pub(super) fn forget_series(connection: &Connection, host: HostId, numbers: &[u32]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM series WHERE host = ?1 AND number = ?2")?;
    numbers.iter().try_for_each(|number| statement.execute((host.0, number)).map(drop))
}

/// Removes everything about a host but what keeps its numbers from being given again.
pub(super) fn forget_host(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM series WHERE host = ?1", [host.0])?;
    connection.execute("DELETE FROM sealed WHERE host = ?1", [host.0])?;
    Ok(())
}

/// Stores how far the block files of a host go.
pub(super) fn put_sealed(connection: &Connection, host: HostId, sealed: &Sealed) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO sealed (host, through_row, cut_ms, seal, next_number, last_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let last = sealed.last_stamp.map(Timestamp::as_millis);
    let row = (host.0, sealed.row, sealed.cut.as_millis(), sealed.seal, sealed.next_number, last);
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// How far the block files of all hosts go.
pub(super) fn sealed(connection: &Connection) -> rusqlite::Result<HashMap<HostId, Sealed>> {
    let sql = "SELECT host, through_row, cut_ms, seal, next_number, last_ms FROM sealed";
    let mut statement = connection.prepare(sql)?;
    let sealed = |row: &Row<'_>| {
        let last: Option<i64> = row.get(5)?;
        let sealed = Sealed {
            row: row.get(1)?,
            cut: Timestamp::from_millis(row.get(2)?),
            seal: row.get(3)?,
            next_number: row.get(4)?,
            last_stamp: last.map(Timestamp::from_millis),
        };
        Ok((HostId(row.get(0)?), sealed))
    };
    statement.query_map([], sealed)?.collect()
}

/// The number of the next block file. It is used up when that is recorded.
pub(super) fn next_block(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'block'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Records a block file, and its bytes.
pub(super) fn put_block(connection: &Connection, block: &Block, bytes: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO block (id, tier, after_ms, through_ms, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Block { id, tier, range } = block;
    let range = (range.after.as_millis(), range.through.as_millis());
    connection.execute(sql, (id, tier.number(), range.0, range.1, bytes.cast_signed()))?;
    Ok(())
}

/// Takes block files off the record.
pub(super) fn remove_blocks(connection: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM block WHERE id = ?1")?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

/// All block files, and their bytes.
pub(super) fn blocks(connection: &Connection) -> rusqlite::Result<Vec<(Block, u64)>> {
    let mut statement = connection.prepare("SELECT id, tier, after_ms, through_ms, bytes FROM block ORDER BY id")?;
    let block = |row: &Row<'_>| {
        let number = row.get(1)?;
        let tier = Tier::numbered(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, number.into()))?;
        let stamp = |at| row.get(at).map(Timestamp::from_millis);
        let range = TimeRange { after: stamp(2)?, through: stamp(3)? };
        Ok((Block { id: row.get(0)?, tier, range }, row.get::<_, i64>(4)?.cast_unsigned()))
    };
    statement.query_map([], block)?.collect()
}

/// Notes after when a tier has everything.
pub(super) fn put_begins(connection: &Connection, tier: Tier, begins: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO tier (number, begins_ms) VALUES (?1, ?2)";
    connection.execute(sql, (tier.number(), begins.as_millis())).map(drop)
}

/// After when the tiers have everything of which files went for want of room.
pub(super) fn begins(connection: &Connection) -> rusqlite::Result<Begins> {
    let mut statement = connection.prepare("SELECT number, begins_ms FROM tier")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?))))?;
    let rows: Vec<(u8, Timestamp)> = rows.collect::<Result<_, _>>()?;
    Ok(rows.into_iter().filter_map(|(number, begins)| Some((Tier::numbered(number)?, begins))).collect())
}

/// After when tiers have everything.
pub(super) type Begins = BTreeMap<Tier, Timestamp>;
