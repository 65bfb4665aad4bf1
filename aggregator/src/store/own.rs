//! Samples of the aggregator itself on disk: a series has a number, a row has the values of one stamp.

use std::collections::HashMap;

use common::metric::Labels;
use common::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::store::log::decoded;
use crate::store::log::encoded;

/// Values at one stamp; `None` marks the end of a series.
pub(super) type OwnSamples = Vec<(Labels, Option<f64>)>;

/// Numbers of the series that were written lately.
#[derive(Debug, Default)]
pub(super) struct OwnSeries {
    numbers: HashMap<Labels, i64>,
}

impl OwnSeries {
    /// Appends values.
    pub(super) fn insert(
        &mut self,
        connection: &Connection,
        stamp: Timestamp,
        samples: &OwnSamples,
    ) -> rusqlite::Result<()> {
        let mut row = Vec::with_capacity(samples.len());
        for (labels, value) in samples {
            row.push((self.number(connection, labels)?, value.map(f64::to_bits)));
        }
        let payload = encoded(&row)?;
        let sql = "INSERT INTO own_log (stamp_ms, payload, checksum) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute((stamp.as_millis(), &payload, crc32fast::hash(&payload)))?;
        Ok(())
    }

    /// Forgets all numbers: they are looked up again when they are needed.
    pub(super) fn forget(&mut self) {
        self.numbers.clear();
    }

    fn number(&mut self, connection: &Connection, labels: &Labels) -> rusqlite::Result<i64> {
        if let Some(number) = self.numbers.get(labels) {
            return Ok(*number);
        }
        let key = encoded(labels)?;
        let known = "SELECT id FROM own_series WHERE labels = ?1";
        let known = connection.prepare_cached(known)?.query_row([&key], |row| row.get(0)).optional()?;
        let number = match known {
            Some(number) => number,
            None => {
                connection.prepare_cached("INSERT INTO own_series (labels) VALUES (?1)")?.execute([&key])?;
                connection.last_insert_rowid()
            }
        };
        self.numbers.insert(labels.clone(), number);
        Ok(number)
    }
}

/// Hands out all rows in the order in which they came. Answers how many were not what was written.
pub(super) fn each(connection: &Connection, mut give: impl FnMut(Timestamp, OwnSamples)) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare("SELECT id, labels FROM own_series")?;
    let series: HashMap<i64, Labels> =
        statement.query_map([], |row| Ok((row.get(0)?, decoded(row, 1)?)))?.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare("SELECT stamp_ms, payload, checksum FROM own_log ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut unreadable = 0;
    while let Some(row) = rows.next()? {
        let intact = crc32fast::hash(row.get_ref(1)?.as_blob()?) == row.get::<_, u32>(2)?;
        if !intact {
            unreadable += 1;
            continue;
        }
        let samples: Vec<(i64, Option<u64>)> = decoded(row, 1)?;
        let named = samples
            .into_iter()
            .filter_map(|(number, value)| Some((series.get(&number)?.clone(), value.map(f64::from_bits))));
        give(Timestamp::from_millis(row.get(0)?), named.collect());
    }
    Ok(unreadable)
}

/// Removes the series that name a host.
pub(super) fn forget(connection: &Connection, instance: &str) -> rusqlite::Result<()> {
    remove_series(connection, |labels| labels.get("instance") == instance)
}

/// Removes the rows that are not after `cutoff`, and the series for which `living` does not speak.
pub(super) fn remove_through(
    connection: &Connection,
    cutoff: Timestamp,
    living: impl Fn(&Labels) -> bool,
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM own_log WHERE stamp_ms <= ?1", [cutoff.as_millis()])?;
    remove_series(connection, |labels| !living(labels))
}

/// Removes series. Their values in rows that stay mean nothing any more.
fn remove_series(connection: &Connection, gone: impl Fn(&Labels) -> bool) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, labels FROM own_series")?;
    let series = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, decoded(row, 1)?)))?;
    let series: Vec<(i64, Labels)> = series.collect::<Result<_, _>>()?;
    for (number, _) in series.iter().filter(|(_, labels)| gone(labels)) {
        connection.execute("DELETE FROM own_series WHERE id = ?1", [number])?;
    }
    Ok(())
}
