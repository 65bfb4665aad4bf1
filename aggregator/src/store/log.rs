//! What the tables of the store hold, as functions of a connection: batches, schemas, spools, labels, events.

use bincode::config;
use bincode::error::DecodeError;
use common::batch::{EncodedBatch, Event, HostId, RunId, Seq, SpoolId};
use common::metric::Labels;
use common::schema::SchemaChange;
use common::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::catalog;
use crate::store::ledger::Key;
use crate::store::rows;
use crate::store::rows::Rows;

/// One row of the log.
#[derive(Clone, Debug)]
pub(super) struct LogRow {
    /// Its place in the log.
    pub(super) id: i64,
    /// Whose.
    pub(super) host: HostId,
    /// What.
    pub(super) batch: EncodedBatch,
    /// Whether it is what was written.
    pub(super) intact: bool,
}

/// Memory that what one row has may claim: SQLite's rows are no longer, and ours far shorter.
const DECODED_BYTES_MAX: usize = 1 << 30;

const LOG_COLUMNS: &str = "id, host, run, spool, seq, schema_version, codec, keyframe, stamp_ms, payload, checksum";

/// Appends a batch, at the place in the log behind all others.
pub(super) fn insert(connection: &Connection, (id, host): (i64, HostId), batch: &EncodedBatch) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO log (host, run, spool, seq, schema_version, codec, keyframe, stamp_ms, payload, checksum, id)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    connection.prepare_cached(sql)?.execute((
        host.0,
        batch.run.0,
        batch.spool.0,
        batch.seq.0.cast_signed(),
        batch.schema_version,
        batch.codec,
        batch.keyframe,
        batch.stamp.as_millis(),
        &batch.payload,
        checksum(host, batch),
        id,
    ))?;
    Ok(())
}

/// The last place that was given in either log, as far as anything refers to it: none up to it is given again.
pub(super) fn last_place(connection: &Connection) -> rusqlite::Result<i64> {
    let places = [("id", "log"), ("id", "origin_log"), ("through_row", "sealed"), ("after_log", "host_labels")];
    let last = places.map(|(column, table)| {
        connection.query_row(&format!("SELECT max({column}) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
    });
    last.into_iter().try_fold(0, |last, place| Ok(place?.unwrap_or(0).max(last)))
}

/// Which rows there are.
pub(super) fn rows(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut statement =
        connection.prepare("SELECT id, host, run, spool, seq, keyframe, stamp_ms FROM log ORDER BY id")?;
    let mut found = statement.query([])?;
    let mut rows = Rows::default();
    while let Some(row) = found.next()? {
        let stamp = Timestamp::from_millis(row.get(6)?);
        let key = (HostId(row.get(1)?), SpoolId(row.get(3)?));
        let place = rows::Row { id: row.get(0)?, seq: seq(row.get(4)?), stamp, keyframe: row.get(5)? };
        rows.push(key, RunId(row.get(2)?), place);
    }
    Ok(rows)
}

/// The rows at some places, in that order, without those that went meanwhile.
pub(super) fn at(connection: &Connection, ids: &[i64]) -> rusqlite::Result<Vec<LogRow>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {LOG_COLUMNS} FROM log WHERE id = ?1"))?;
    ids.iter().filter_map(|id| statement.query_row([id], log_row).optional().transpose()).collect()
}

/// Removes rows.
pub(super) fn remove(connection: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM log WHERE id = ?1")?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

/// Hands out all rows in the order in which they came, as long as that is wanted.
pub(super) fn each(connection: &Connection, mut give: impl FnMut(LogRow) -> bool) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {LOG_COLUMNS} FROM log ORDER BY id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !give(log_row(row)?) {
            break;
        }
    }
    Ok(())
}

/// The rows that are not what was written: place in the log, and whose.
pub(super) fn damaged(connection: &Connection) -> rusqlite::Result<Vec<(i64, HostId)>> {
    let mut damaged = Vec::new();
    each(connection, |row| {
        damaged.extend((!row.intact).then_some((row.id, row.host)));
        true
    })?;
    Ok(damaged)
}

/// Stores one version of a run's schema.
pub(super) fn insert_schema(
    connection: &Connection,
    (host, run): (HostId, RunId),
    change: &SchemaChange,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO schema_change (host, run, version, change) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute((host.0, run.0, change.version, encoded(change)?))?;
    Ok(())
}

/// The hosts of whose runs there are schemas.
pub(super) fn hosts_with_schemas(connection: &Connection) -> rusqlite::Result<Vec<HostId>> {
    let mut statement = connection.prepare("SELECT DISTINCT host FROM schema_change")?;
    statement.query_map([], |row| row.get(0).map(HostId))?.collect()
}

/// Hands out all versions of the schemas of a host's runs, in their order.
pub(super) fn each_schema(
    connection: &Connection,
    host: HostId,
    mut give: impl FnMut(RunId, SchemaChange),
) -> rusqlite::Result<()> {
    let sql = "SELECT run, change FROM schema_change WHERE host = ?1 ORDER BY run, version";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([host.0])?;
    while let Some(row) = rows.next()? {
        give(RunId(row.get(0)?), decoded(row, 1)?);
    }
    Ok(())
}

/// Removes the schema of a run.
pub(super) fn remove_schema(connection: &Connection, host: HostId, run: RunId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM schema_change WHERE host = ?1 AND run = ?2", (host.0, run.0)).map(drop)
}

/// Sets the batch that a spool continues with, before rows go from which that follows, and a time at which it was in use.
pub(super) fn set_next(
    connection: &Connection,
    (host, spool): Key,
    (next, used): (Seq, Timestamp),
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO spool (host, spool, next, named_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET next = excluded.next, named_ms = max(named_ms, excluded.named_ms)";
    connection.prepare_cached(sql)?.execute((host.0, spool.0, next.0.cast_signed(), used.as_millis()))?;
    Ok(())
}

/// Notes that an agent named a spool.
pub(super) fn name_spool(
    connection: &Connection,
    host: HostId,
    spool: SpoolId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "UPDATE spool SET named_ms = ?3 WHERE host = ?1 AND spool = ?2";
    connection.prepare_cached(sql)?.execute((host.0, spool.0, now.as_millis()))?;
    Ok(())
}

/// The spools of which rows went, each with the batch that it continued with then.
pub(super) fn spools(connection: &Connection) -> rusqlite::Result<Vec<(Key, Seq)>> {
    let mut statement = connection.prepare("SELECT host, spool, next FROM spool")?;
    let row = |row: &Row<'_>| Ok((key(row)?, seq(row.get(2)?)));
    statement.query_map([], row)?.collect()
}

/// Forgets the spools that were not named after `cutoff` and are not among those that are `kept`: one that came again would
/// be new.
pub(super) fn remove_spools(
    connection: &Connection,
    cutoff: Timestamp,
    kept: impl Fn(Key) -> bool,
) -> rusqlite::Result<Vec<Key>> {
    let mut statement = connection.prepare("SELECT host, spool FROM spool WHERE named_ms <= ?1")?;
    let unnamed = statement.query_map([cutoff.as_millis()], key)?.collect::<Result<Vec<Key>, _>>()?;
    let forgotten: Vec<Key> = unnamed.into_iter().filter(|key| !kept(*key)).collect();
    let mut statement = connection.prepare("DELETE FROM spool WHERE host = ?1 AND spool = ?2")?;
    forgotten.iter().try_for_each(|(host, spool)| statement.execute((host.0, spool.0)).map(drop))?;
    Ok(forgotten)
}

/// Stores labels that a host has behind a place in the log.
pub(super) fn insert_labels(
    connection: &Connection,
    (host, after_log): (HostId, i64),
    labels: &Labels,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO host_labels (host, after_log, labels) VALUES (?1, ?2, ?3)";
    connection.execute(sql, (host.0, after_log, encoded(labels)?))?;
    Ok(())
}

/// The labels that a host has.
pub(super) fn labels(connection: &Connection, host: HostId) -> rusqlite::Result<Option<Labels>> {
    let sql = "SELECT labels FROM host_labels WHERE host = ?1 ORDER BY id DESC LIMIT 1";
    connection.query_row(sql, [host.0], |row| decoded(row, 0)).optional()
}

/// All labels that hosts had, each with the log row behind which they begin, in their order.
pub(super) fn host_labels(connection: &Connection) -> rusqlite::Result<Vec<(i64, HostId, Labels)>> {
    let mut statement = connection.prepare("SELECT after_log, host, labels FROM host_labels ORDER BY id")?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, HostId(row.get(1)?), decoded(row, 2)?));
    statement.query_map([], row)?.collect()
}

/// Removes labels that later ones replaced before the first row of the log, and of what is in none.
pub(super) fn remove_labels(connection: &Connection, first_in_none: Option<i64>) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM host_labels WHERE EXISTS (SELECT 1 FROM host_labels AS later
               WHERE later.host = host_labels.host AND host_labels.id < later.id
               AND later.after_log < (SELECT coalesce(min(id), later.after_log + 1) FROM log)
               AND later.after_log < coalesce(?1, later.after_log + 1))";
    connection.execute(sql, [first_in_none])
}

/// Stores an event. Answers its row.
pub(super) fn insert_event(connection: &Connection, host: HostId, event: &Event) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO event (host, at_ms, event) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((host.0, event.at.as_millis(), encoded(event)?))?;
    Ok(connection.last_insert_rowid())
}

/// All events with their rows, in the order in which they came.
pub(super) fn events(connection: &Connection) -> rusqlite::Result<Vec<(HostId, (i64, Event))>> {
    let mut statement = connection.prepare("SELECT host, id, event FROM event ORDER BY id")?;
    statement.query_map([], |row| Ok((HostId(row.get(0)?), (row.get(1)?, decoded(row, 2)?))))?.collect()
}

/// Removes the events of a host through a row that are not after `cut`: block files have them.
pub(super) fn remove_sealed_events(
    connection: &Connection,
    host: HostId,
    (row, cut): (i64, Timestamp),
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM event WHERE host = ?1 AND id <= ?2 AND at_ms <= ?3";
    connection.prepare_cached(sql)?.execute((host.0, row, cut.as_millis()))?;
    Ok(())
}

/// Removes the events that are not after `cutoff`.
pub(super) fn remove_events(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM event WHERE at_ms <= ?1", [cutoff.as_millis()])
}

/// Removes everything that is held of a host. Labels without a name stay, so that its number is not given again.
pub(super) fn forget(connection: &Connection, (host, last): (HostId, i64)) -> rusqlite::Result<()> {
    for table in ["log", "schema_change", "spool", "host_labels", "event"] {
        connection.execute(&format!("DELETE FROM {table} WHERE host = ?1"), [host.0])?;
    }
    catalog::forget_host(connection, host)?;
    insert_labels(connection, (host, last), &Labels::new())
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok((HostId(row.get(0)?), SpoolId(row.get(1)?)))
}

fn log_row(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    let host = HostId(row.get(1)?);
    let batch = EncodedBatch {
        run: RunId(row.get(2)?),
        spool: SpoolId(row.get(3)?),
        seq: seq(row.get(4)?),
        schema_version: row.get(5)?,
        codec: row.get(6)?,
        keyframe: row.get(7)?,
        stamp: Timestamp::from_millis(row.get(8)?),
        payload: row.get(9)?,
    };
    let intact = row.get::<_, u32>(10)? == checksum(host, &batch);
    Ok(LogRow { id: row.get(0)?, host, batch, intact })
}

/// Of everything that a row says.
fn checksum(host: HostId, batch: &EncodedBatch) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&host.0.to_le_bytes());
    checksum.update(&batch.run.0);
    checksum.update(&batch.spool.0);
    checksum.update(&batch.seq.0.to_le_bytes());
    checksum.update(&batch.schema_version.to_le_bytes());
    checksum.update(&[batch.codec, u8::from(batch.keyframe)]);
    checksum.update(&batch.stamp.as_millis().to_le_bytes());
    checksum.update(&batch.payload);
    checksum.finalize()
}

const fn seq(stored: i64) -> Seq {
    Seq(stored.cast_unsigned())
}

/// As the tables keep what only this program reads.
pub(super) fn encoded(value: &impl bincode::Encode) -> rusqlite::Result<Vec<u8>> {
    bincode::encode_to_vec(value, config::standard())
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// The inverse of [`encoded`].
pub(super) fn decoded<T: bincode::Decode<()>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let bytes = row.get_ref(column)?.as_blob()?;
    let failed = |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error));
    decoded_from(bytes).map(|(value, _)| value).map_err(failed)
}

/// The same of what bytes begin with, and how many of them that is.
pub(super) fn decoded_from<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::decode_from_slice(bytes, config::standard().with_limit::<DECODED_BYTES_MAX>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_more_than_there_can_be_is_an_error() {
        let connection = Connection::open_in_memory().unwrap();
        let read = |bytes: &[u8]| connection.query_row("SELECT ?1", [bytes], |row| decoded::<Vec<i64>>(row, 0));
        assert_eq!(read(&encoded(&vec![7_i64, 8]).unwrap()).unwrap(), [7, 8]);
        assert!(read(&[&[253][..], &[0xff; 8]].concat()).is_err());
    }
}
