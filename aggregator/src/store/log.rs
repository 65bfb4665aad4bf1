//! What the tables of the store hold, as functions of a connection: batches, schemas, spools, labels, events.

use std::collections::HashMap;
use std::time::Duration;

use bincode::config;
use common::batch::{EncodedBatch, Event, HostId, RunId, Seq, SpoolId};
use common::metric::Labels;
use common::schema::SchemaChange;
use common::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::catalog;
use crate::store::catalog::Sealed;
use crate::store::origin::ROW_COVERS;

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

const LOG_COLUMNS: &str = "id, host, run, spool, seq, schema_version, codec, keyframe, stamp_ms, payload, checksum";

/// Appends a batch. Answers its place in the log.
pub(super) fn insert(connection: &Connection, host: HostId, batch: &EncodedBatch) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO log (host, run, spool, seq, schema_version, codec, keyframe, stamp_ms, payload, checksum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
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
    ))?;
    Ok(connection.last_insert_rowid())
}

/// The rows of a host through a place and a stamp, spool by spool in order.
pub(super) fn of_host(
    connection: &Connection,
    host: HostId,
    (row, cut): (i64, Timestamp),
) -> rusqlite::Result<Vec<LogRow>> {
    let sql =
        format!("SELECT {LOG_COLUMNS} FROM log WHERE host = ?1 AND id <= ?2 AND stamp_ms <= ?3 ORDER BY spool, seq");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map((host.0, row, cut.as_millis()), log_row)?.collect()
}

/// Removes the rows of a host that block files cover, but those that a later row is decoded against. `continued` says
/// of which spools the next batch may be.
pub(super) fn remove_covered(
    connection: &Connection,
    (host, sealed): (HostId, &Sealed),
    continued: impl Fn(SpoolId) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT spool FROM log WHERE host = ?1")?;
    let spools = statement.query_map([host.0], |row| row.get(0))?.collect::<Result<Vec<[u8; 16]>, _>>()?;
    for spool in spools {
        let open = "SELECT min(seq) FROM log WHERE host = ?1 AND spool = ?2 AND (?3 < id OR ?4 < stamp_ms)";
        let key = (host.0, spool, sealed.row, sealed.cut.as_millis());
        let open: Option<i64> = connection.prepare_cached(open)?.query_row(key, |row| row.get(0))?;
        if open.is_none() && !continued(SpoolId(spool)) {
            connection.prepare_cached("DELETE FROM log WHERE host = ?1 AND spool = ?2")?.execute((host.0, spool))?;
            continue;
        }
        let sql = "DELETE FROM log WHERE host = ?1 AND spool = ?2 AND seq < (SELECT max(seq) FROM log
                   WHERE host = ?1 AND spool = ?2 AND keyframe = 1 AND seq <= ?3)";
        connection.prepare_cached(sql)?.execute((host.0, spool, open.unwrap_or(i64::MAX)))?;
    }
    Ok(())
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

/// How many rows there are, whole label sets among them, and the first stamp that those may have which block files do not
/// cover.
pub(super) fn uncovered(
    connection: &Connection,
    sealed: &HashMap<HostId, Sealed>,
) -> rusqlite::Result<(u64, Option<Timestamp>)> {
    let (mut rows, mut first) = (0, None);
    for (table, host, covers) in [("log", "host", Duration::ZERO), ("origin_log", "origin", ROW_COVERS)] {
        rows += connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?
            .cast_unsigned();
        let hosts: Vec<u32> = connection
            .prepare(&format!("SELECT DISTINCT {host} FROM {table}"))?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let sql = format!("SELECT min(stamp_ms) FROM {table} WHERE {host} = ?1 AND (?2 < id OR ?3 < stamp_ms)");
        let mut statement = connection.prepare(&sql)?;
        for host in hosts {
            let sealed = sealed.get(&HostId(host)).copied().unwrap_or_default();
            let of_host: Option<i64> =
                statement.query_row((host, sealed.row, sealed.cut.as_millis()), |row| row.get(0))?;
            let begins = of_host.map(|last| match Timestamp::from_millis(last) {
                last if covers.is_zero() => last,
                last => last.align_up(covers).before(covers),
            });
            first = first.into_iter().chain(begins).min();
        }
    }
    Ok((rows, first))
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

/// The latest row whose stamp is in the window that covers `at`, and all those before it that it takes to decode it.
pub(super) fn leading_to(connection: &Connection, host: HostId, at: Timestamp) -> rusqlite::Result<Vec<LogRow>> {
    let covering = "SELECT spool, seq FROM log WHERE host = ?1 AND ?2 <= stamp_ms AND stamp_ms < ?3
                    ORDER BY stamp_ms, id LIMIT 1";
    let until = at.after(common::batch::WINDOW);
    let found: Option<([u8; 16], i64)> = connection
        .query_row(covering, (host.0, at.as_millis(), until.as_millis()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((spool, seq)) = found else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {LOG_COLUMNS} FROM log WHERE host = ?1 AND spool = ?2 AND seq <= ?3 AND seq >=
         (SELECT max(seq) FROM log WHERE host = ?1 AND spool = ?2 AND keyframe = 1 AND seq <= ?3) ORDER BY seq"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map((host.0, spool, seq), log_row)?.collect()
}

/// Removes the rows of a spool that nothing after `cutoff` needs: those before the last keyframe at or before it, and
/// all when none came later and what comes does not continue them.
pub(super) fn remove_through(
    connection: &Connection,
    (host, spool): (HostId, SpoolId),
    cutoff: Timestamp,
    continues: bool,
) -> rusqlite::Result<usize> {
    let later = "SELECT EXISTS (SELECT 1 FROM log WHERE host = ?1 AND spool = ?2 AND ?3 < stamp_ms)";
    let key = (host.0, spool.0, cutoff.as_millis());
    if !continues && !connection.prepare_cached(later)?.query_row(key, |row| row.get(0))? {
        return connection.prepare_cached("DELETE FROM log WHERE host = ?1 AND spool = ?2")?.execute((host.0, spool.0));
    }
    let sql = "DELETE FROM log WHERE host = ?1 AND spool = ?2 AND seq < (SELECT max(seq) FROM log
               WHERE host = ?1 AND spool = ?2 AND keyframe = 1 AND stamp_ms <= ?3)";
    connection.prepare_cached(sql)?.execute(key)
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

/// Removes the schema of a run, if no batch uses it; answers whether it did.
pub(super) fn remove_schema(connection: &Connection, host: HostId, run: RunId) -> rusqlite::Result<bool> {
    let used = "SELECT EXISTS (SELECT 1 FROM log WHERE host = ?1 AND run = ?2)";
    if connection.query_row(used, (host.0, run.0), |row| row.get(0))? {
        return Ok(false);
    }
    connection.execute("DELETE FROM schema_change WHERE host = ?1 AND run = ?2", (host.0, run.0))?;
    Ok(true)
}

/// Sets the batch that a spool continues with.
pub(super) fn set_next(
    connection: &Connection,
    (host, spool): (HostId, SpoolId),
    next: Seq,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO spool (host, spool, next, named_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET next = excluded.next, named_ms = excluded.named_ms";
    connection.prepare_cached(sql)?.execute((host.0, spool.0, next.0.cast_signed(), now.as_millis()))?;
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

/// All spools, each with the batch that it continues with.
pub(super) fn spools(connection: &Connection) -> rusqlite::Result<Vec<((HostId, SpoolId), Seq)>> {
    let mut statement = connection.prepare("SELECT host, spool, next FROM spool")?;
    let row = |row: &Row<'_>| Ok(((HostId(row.get(0)?), SpoolId(row.get(1)?)), seq(row.get(2)?)));
    statement.query_map([], row)?.collect()
}

/// Forgets the spools that were not named after `cutoff` and have no batch in the log: one that came again would be new.
pub(super) fn remove_spools(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<Vec<(HostId, SpoolId)>> {
    let mut statement = connection.prepare(
        "DELETE FROM spool WHERE named_ms <= ?1 AND NOT EXISTS
         (SELECT 1 FROM log WHERE log.host = spool.host AND log.spool = spool.spool) RETURNING host, spool",
    )?;
    statement.query_map([cutoff.as_millis()], |row| Ok((HostId(row.get(0)?), SpoolId(row.get(1)?))))?.collect()
}

/// Stores labels that a host has from the next log row on.
pub(super) fn insert_labels(connection: &Connection, host: HostId, labels: &Labels) -> rusqlite::Result<()> {
    let sql = "INSERT INTO host_labels (host, after_log, labels)
               VALUES (?1, (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'log'), ?2)";
    connection.execute(sql, (host.0, encoded(labels)?))?;
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

/// Removes labels that later ones replaced before the first row of the log.
pub(super) fn remove_labels(connection: &Connection) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM host_labels WHERE EXISTS (SELECT 1 FROM host_labels AS later
               WHERE later.host = host_labels.host AND host_labels.id < later.id
               AND later.after_log < (SELECT coalesce(min(id), later.after_log + 1) FROM log))";
    connection.execute(sql, [])
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
pub(super) fn forget(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    for table in ["log", "schema_change", "spool", "host_labels", "event"] {
        connection.execute(&format!("DELETE FROM {table} WHERE host = ?1"), [host.0])?;
    }
    catalog::forget_host(connection, host)?;
    insert_labels(connection, host, &Labels::new())
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
    let decoded = bincode::decode_from_slice(bytes, config::standard());
    let failed = |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error));
    decoded.map(|(value, _)| value).map_err(failed)
}
