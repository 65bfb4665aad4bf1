//! Series that come with their whole label set, on disk: those of the aggregator itself and those that others write.
//! A series has a number; a row of the log has samples of one origin within one hour.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use bincode::Decode;
use bincode::Encode;
use common::batch::HostId;
use common::metric::Labels;
use common::time::Timestamp;
use common::window::{Gauge, Window};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::chunk::Chunk;
use crate::store::chunk::ENTRIES_MAX;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::merge;
use crate::store::commit::Written;
use crate::store::log::decoded;
use crate::store::log::encoded;
use crate::store::select::STALE;

/// What the samples of one row lie in, so that a row goes when its hour does.
pub(super) const ROW_COVERS: Duration = Duration::from_secs(3_600);

/// A payload of values at one stamp, as the first version wrote it: number of the series, bits of its value, nothing at
/// its end.
const FORM_ONE_STAMP: u32 = 1;

/// A payload of samples, series by series, each sample by itself, as it was before there were chunks in it.
const FORM_SAMPLES: u32 = 2;

/// A payload of chunks, series by series.
const FORM_CHUNKS: u32 = 3;

/// No samples, but what else comes with each window.
pub(super) const FORM_RECENT: u32 = 4;

type OneStamp = Vec<(i64, Option<u64>)>;

/// Number of the series; of each sample, how many milliseconds before the row's stamp it is, and its value's bits with
/// the bytes turned round.
type OfSamples = Vec<(i64, Vec<(u64, u64)>)>;

/// Number of the series; how many milliseconds before the row's stamp its last sample is, and its first before that; the
/// chunk of them.
type OfChunks = Vec<(i64, u64, u64, Box<[u8]>)>;

/// A row of the log: samples of an origin, or what else comes with each window.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct OriginRow {
    /// Its place in the log.
    pub(super) id: i64,
    pub(super) origin: HostId,
    pub(super) form: u32,
    /// The last one in it.
    pub(super) stamp: Timestamp,
    pub(super) payload: Vec<u8>,
}

/// Numbers of the series that were written lately.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    known: HashMap<HostId, HashMap<Labels, i64>>,
}

impl Numbers {
    /// The rows that samples of an origin become.
    pub(super) fn rows(
        &mut self,
        connection: &Connection,
        (origin, place): (HostId, &mut dyn FnMut() -> i64),
        written: &[Written],
    ) -> rusqlite::Result<Vec<OriginRow>> {
        let mut hours: BTreeMap<Timestamp, Hour> = BTreeMap::new();
        for Written { labels, samples } in written {
            let number = self.number(connection, origin, labels)?;
            for (stamp, value) in samples {
                hours.entry(stamp.align_up(ROW_COVERS)).or_default().push(number, *stamp, *value);
            }
        }
        let row = |hour: Hour| {
            let stamp = hour.last;
            let payload = encoded(&hour.payload())?;
            Ok(OriginRow { id: place(), origin, form: FORM_CHUNKS, stamp, payload })
        };
        hours.into_values().map(row).collect()
    }

    /// Forgets all numbers: they are looked up again when they are needed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn number(&mut self, connection: &Connection, origin: HostId, labels: &Labels) -> rusqlite::Result<i64> {
        let known = self.known.entry(origin).or_default();
        if let Some(number) = known.get(labels) {
            return Ok(*number);
        }
        let key = encoded(labels)?;
        let sql = "SELECT id FROM origin_series WHERE origin = ?1 AND labels = ?2";
        let held = connection.prepare_cached(sql)?.query_row((origin.0, &key), |row| row.get(0)).optional()?;
        let number = match held {
            Some(number) => number,
            None => {
                let sql = "INSERT INTO origin_series (origin, labels) VALUES (?1, ?2)";
                connection.prepare_cached(sql)?.execute((origin.0, &key))?;
                connection.last_insert_rowid()
            }
        };
        known.insert(labels.clone(), number);
        Ok(number)
    }
}

/// What becomes one row.
#[derive(Default)]
struct Hour {
    last: Timestamp,
    series: Vec<(i64, Vec<Entry>)>,
}

impl Hour {
    fn push(&mut self, number: i64, stamp: Timestamp, value: Option<f64>) {
        self.last = if self.series.is_empty() { stamp } else { self.last.max(stamp) };
        let entry = Entry { stamp, window: value.map(|value| Window::Gauge(Gauge::of(value))) };
        match self.series.last_mut() {
            Some((same, entries)) if *same == number && entries.len() < ENTRIES_MAX => entries.push(entry),
            _ => self.series.push((number, vec![entry])),
        }
    }

    fn payload(self) -> OfChunks {
        let before = |later: Timestamp, stamp: Timestamp| later.as_millis().abs_diff(stamp.as_millis());
        let chunk = |(number, entries): (i64, Vec<Entry>)| {
            let Chunk { first, last, bytes } = Chunk::encode(Shape::WRITTEN, &merge(Vec::new(), entries));
            (number, before(self.last, last), before(last, first), bytes)
        };
        self.series.into_iter().map(chunk).collect()
    }
}

/// Appends a row.
pub(super) fn insert(connection: &Connection, row: &OriginRow) -> rusqlite::Result<()> {
    let OriginRow { id, origin, form, stamp, payload } = row;
    let sql = "INSERT INTO origin_log (id, origin, form, stamp_ms, payload, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (id, origin.0, form, stamp.as_millis(), payload, crc32fast::hash(payload));
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// Hands out all rows in the order in which they came, as long as that is wanted. Answers how many were not what was
/// written.
pub(super) fn each(
    connection: &Connection,
    mut give: impl FnMut(HostId, RowOf, Vec<Written>) -> bool,
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare("SELECT id, labels FROM origin_series")?;
    let series: HashMap<i64, Labels> =
        statement.query_map([], |row| Ok((row.get(0)?, decoded(row, 1)?)))?.collect::<Result<_, _>>()?;
    let sql = "SELECT stamp_ms, payload, checksum, origin, form, id FROM origin_log WHERE form <> ?1 ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([FORM_RECENT])?;
    let mut unreadable = 0;
    while let Some(row) = rows.next()? {
        if crc32fast::hash(row.get_ref(1)?.as_blob()?) != row.get::<_, u32>(2)? {
            unreadable += 1;
            continue;
        }
        let samples = samples(row)?.into_iter();
        let named = samples.filter_map(|(number, samples)| {
            let labels = series.get(&number)?.clone();
            Some(Written { labels, samples })
        });
        if !give(HostId(row.get(3)?), (row.get(5)?, Timestamp::from_millis(row.get(0)?)), named.collect()) {
            break;
        }
    }
    Ok(unreadable)
}

/// The rows that are not what was written: place in the log, and whose.
pub(super) fn damaged(connection: &Connection) -> rusqlite::Result<Vec<(i64, HostId)>> {
    let mut statement = connection.prepare("SELECT id, origin, payload, checksum FROM origin_log ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        if crc32fast::hash(row.get_ref(2)?.as_blob()?) != row.get::<_, u32>(3)? {
            damaged.push((row.get(0)?, HostId(row.get(1)?)));
        }
    }
    Ok(damaged)
}

/// Its place in the log, and the last stamp in it.
type RowOf = (i64, Timestamp);

type Samples = Vec<(Timestamp, Option<f64>)>;

/// Those of a row, by the number of their series.
fn samples(row: &Row<'_>) -> rusqlite::Result<Vec<(i64, Samples)>> {
    let stamp = Timestamp::from_millis(row.get(0)?);
    if row.get::<_, u32>(4)? == FORM_ONE_STAMP {
        let values = decoded::<OneStamp>(row, 1)?.into_iter();
        return Ok(values.map(|(number, bits)| (number, vec![(stamp, bits.map(f64::from_bits))])).collect());
    }
    let at = |before: u64| stamp.before(Duration::from_millis(before));
    if row.get::<_, u32>(4)? == FORM_SAMPLES {
        let sample = |(before, bits): (u64, u64)| {
            let bits = bits.swap_bytes();
            (at(before), (bits != STALE).then(|| f64::from_bits(bits)))
        };
        let series = decoded::<OfSamples>(row, 1)?.into_iter();
        return Ok(series.map(|(number, samples)| (number, samples.into_iter().map(sample).collect())).collect());
    }
    let sample = |Entry { stamp, window }: Entry| (stamp, window.map(|window| window.last()));
    let series = decoded::<OfChunks>(row, 1)?.into_iter().map(|(number, last, span, bytes)| {
        let last = at(last);
        let chunk = Chunk { first: last.before(Duration::from_millis(span)), last, bytes };
        (number, chunk.decode(Shape::WRITTEN).into_iter().map(sample).collect())
    });
    Ok(series.collect())
}

/// Removes the series of the aggregator itself that name a host.
pub(super) fn forget(connection: &Connection, instance: &str) -> rusqlite::Result<()> {
    remove_series(connection, |origin, labels| origin == HostId::AGGREGATOR && labels.get("instance") == instance)
}

/// How many rows there are, and the first stamp that those may have which block files do not cover.
pub(super) fn uncovered(connection: &Connection) -> rusqlite::Result<(u64, Option<Timestamp>)> {
    let sql = "SELECT count(*), min(CASE WHEN through_row < id OR cut_ms < stamp_ms OR host IS NULL THEN stamp_ms END)
               FROM origin_log LEFT JOIN sealed ON host = origin WHERE form <> ?1";
    connection.query_row(sql, [FORM_RECENT], |row| {
        let last: Option<i64> = row.get(1)?;
        let first = last.map(|last| Timestamp::from_millis(last).align_up(ROW_COVERS).before(ROW_COVERS));
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), first))
    })
}

/// The rows that block files cover.
pub(super) fn covered(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT id FROM origin_log JOIN sealed ON host = origin
               WHERE form <> ?1 AND id <= through_row AND stamp_ms <= cut_ms ORDER BY id";
    connection.prepare(sql)?.query_map([FORM_RECENT], |row| row.get(0))?.collect()
}

/// Removes rows.
pub(super) fn remove(connection: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM origin_log WHERE id = ?1")?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

/// Removes the rows that are not after `cutoff`, and the series for which `living` does not speak.
pub(super) fn remove_through(
    connection: &Connection,
    cutoff: Timestamp,
    living: impl Fn(HostId, &Labels) -> bool,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM origin_log WHERE form <> ?1 AND stamp_ms <= ?2";
    connection.execute(sql, (FORM_RECENT, cutoff.as_millis()))?;
    remove_series(connection, |origin, labels| !living(origin, labels))
}

/// Removes series. Their samples in rows that stay mean nothing any more.
fn remove_series(connection: &Connection, gone: impl Fn(HostId, &Labels) -> bool) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, origin, labels FROM origin_series")?;
    let mut rows = statement.query([])?;
    let mut numbers = Vec::new();
    while let Some(row) = rows.next()? {
        if gone(HostId(row.get(1)?), &decoded(row, 2)?) {
            numbers.push(row.get::<_, i64>(0)?);
        }
    }
    for number in numbers {
        connection.prepare_cached("DELETE FROM origin_series WHERE id = ?1")?.execute([number])?;
    }
    Ok(())
}
