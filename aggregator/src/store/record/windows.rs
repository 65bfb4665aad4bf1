//! Which windows of hosts came, as far as it takes to count those that never will.

use bincode::Decode;
use bincode::Encode;
use common::batch::HostId;
use common::batch::RunId;
use common::time::Timestamp;
use rusqlite::Connection;

use crate::store::log::decoded;
use crate::store::log::encoded;

/// Windows counted as missing of one host: two billion years, which only an agent that lies about its places reaches.
pub const MISSING_MAX: u64 = 1 << 53;

/// What came from one process of an agent. A process whose windows have not come yet has `last` before `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// Its run; those that it begins later are numbered from it on.
    pub run: RunId,
    /// End of the first window.
    pub first: Timestamp,
    /// End of the last one.
    pub last: Timestamp,
    /// Whether it said that it goes: what is missing behind it was never there.
    pub excused: bool,
}

/// What is known of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Which.
    pub host: HostId,
    /// Up to where everything that is missing has been counted.
    pub settled: Timestamp,
    /// The processes of its agent since then.
    pub spans: Vec<Span>,
    /// Windows that never came. Written, it is added to what was counted before.
    pub missing: u64,
}

/// Writes what is known of a host besides what is missing.
pub(in crate::store) fn put(
    connection: &Connection,
    host: HostId,
    settled: Timestamp,
    spans: &[Span],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO host_windows (host, settled_ms, spans) VALUES (?1, ?2, ?3) ON CONFLICT
               DO UPDATE SET settled_ms = ?2, spans = ?3";
    connection.prepare_cached(sql)?.execute((host.0, settled.as_millis(), encoded(&spans)?))?;
    Ok(())
}

/// Counts windows that a spool gave up.
pub(in crate::store) fn add_missing(connection: &Connection, host: HostId, missing: u64) -> rusqlite::Result<()> {
    if missing == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO host_windows (host, missing) VALUES (?1, ?2) ON CONFLICT
               DO UPDATE SET missing = min(missing + ?2, ?3)";
    connection.prepare_cached(sql)?.execute((
        host.0,
        missing.min(MISSING_MAX).cast_signed(),
        MISSING_MAX.cast_signed(),
    ))?;
    Ok(())
}

/// Of all hosts.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Windows>> {
    let mut statement = connection.prepare("SELECT host, settled_ms, spans, missing FROM host_windows")?;
    let rows = statement.query_map([], |row| {
        Ok(Windows {
            host: HostId(row.get(0)?),
            settled: Timestamp::from_millis(row.get(1)?),
            spans: decoded(row, 2)?,
            missing: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    })?;
    rows.collect()
}

pub(in crate::store) fn forget(connection: &Connection, host: HostId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM host_windows WHERE host = ?1", [host.0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_adds_up_and_the_rest_is_as_it_was_written_last() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0008_windows.sql")).unwrap();
        let transaction = connection.transaction().unwrap();
        let host = HostId(7);
        add_missing(&transaction, host, 2).unwrap();
        let bare = Windows { host, settled: Timestamp::default(), spans: Vec::new(), missing: 2 };
        assert_eq!(all(&transaction).unwrap(), [bare]);
        let span = Span {
            run: RunId([3; 16]),
            first: Timestamp::from_seconds(10),
            last: Timestamp::from_seconds(20),
            excused: true,
        };
        let windows = Windows { host, settled: Timestamp::from_seconds(5), spans: vec![span], missing: 3 };
        add_missing(&transaction, host, 3).unwrap();
        put(&transaction, host, windows.settled, &windows.spans).unwrap();
        add_missing(&transaction, host, 1).unwrap();
        assert_eq!(all(&transaction).unwrap(), [Windows { missing: 6, ..windows }]);
        for _ in 0..2 {
            add_missing(&transaction, host, u64::MAX).unwrap();
        }
        assert_eq!(all(&transaction).unwrap()[0].missing, MISSING_MAX);
        forget(&transaction, host).unwrap();
        assert!(all(&transaction).unwrap().is_empty());
    }
}
