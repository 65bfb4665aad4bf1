//! Which series and block files there are, and how much of each host's log the files cover: the books in `lapwing.db`.

pub(super) mod ended;
pub(super) mod labels;
pub(super) mod series;

use std::collections::{BTreeMap, HashMap};

use common::batch::HostId;
use common::time::{TimeRange, Timestamp};
use rusqlite::{Connection, Row};

use crate::store::block::Block;
use crate::store::block::Tier;

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

    /// The latest stamp that is in block files.
    pub(super) fn latest(&self) -> Timestamp {
        self.last_stamp.map_or(self.cut, |last| last.min(self.cut))
    }
}

/// Removes everything about a host but what keeps its numbers from being given again.
pub(super) fn forget_host(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    series::forget_host(connection, host)?;
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
