//! What is recorded anew with each window and is little: how far alerts were evaluated, and which windows of hosts came. It is
//! a row of the log a group of commits, beside the samples of the aggregator itself, and in its tables when those rows go:
//! each table would be a page more in each commit.

use std::collections::BTreeMap;

use bincode::Decode;
use bincode::Encode;
use common::batch::HostId;
use common::time::Timestamp;
use rusqlite::Connection;

use crate::store::log::decoded;
use crate::store::log::encoded;
use crate::store::origin::FORM_RECENT;
use crate::store::origin::OriginRow;
use crate::store::record::alerts;
use crate::store::record::alerts::Evaluated;
use crate::store::record::windows;
use crate::store::record::windows::Span;
use crate::store::record::windows::Windows;

/// What of it was recorded lately.
#[derive(Clone, Debug, Default, Encode, Decode)]
pub(super) struct Recent {
    evaluated: Option<Timestamp>,
    /// Up to where what is missing has been counted, and the processes since then; nothing of a host that was forgotten.
    windows: BTreeMap<HostId, Option<(Timestamp, Vec<Span>)>>,
}

impl Recent {
    /// Alerts were evaluated.
    pub(super) const fn evaluate(&mut self, evaluated: Evaluated) {
        self.evaluated = Some(evaluated.through);
    }

    /// Windows of a host came.
    pub(super) fn arrive(&mut self, windows: &Windows) {
        self.windows.insert(windows.host, Some((windows.settled, windows.spans.clone())));
    }

    /// A host is forgotten.
    pub(super) fn forget(&mut self, host: HostId) {
        self.windows.insert(host, None);
    }

    /// Adds what was recorded after this.
    pub(super) fn join(&mut self, later: Self) {
        self.evaluated = later.evaluated.or(self.evaluated);
        self.windows.extend(later.windows);
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.evaluated.is_none() && self.windows.is_empty()
    }

    /// The row that it becomes.
    pub(super) fn row(&self, place: i64, now: Timestamp) -> rusqlite::Result<OriginRow> {
        let payload = encoded(self)?;
        Ok(OriginRow { id: place, origin: HostId::AGGREGATOR, form: FORM_RECENT, stamp: now, payload })
    }

    /// Puts it into its tables.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(through) = self.evaluated {
            alerts::put_evaluated(connection, through)?;
        }
        self.windows.iter().try_for_each(|(host, of)| match of {
            Some((settled, spans)) => windows::put(connection, *host, *settled, spans),
            None => windows::forget(connection, *host),
        })
    }
}

/// The rows of the log that have some of it.
pub(super) fn rows(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT id FROM origin_log WHERE form = ?1 ORDER BY id")?;
    statement.query_map([FORM_RECENT], |row| row.get(0))?.collect()
}

/// Puts what the log has of it into its tables. A row that is not what was written is passed over: one behind it says the
/// same, and more.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT payload, checksum FROM origin_log WHERE form = ?1 ORDER BY id")?;
    let mut rows = statement.query([FORM_RECENT])?;
    let mut recent = Recent::default();
    while let Some(row) = rows.next()? {
        if crc32fast::hash(row.get_ref(0)?.as_blob()?) == row.get::<_, u32>(1)? {
            recent.join(decoded(row, 0)?);
        }
    }
    recent.write(connection)
}
