//! Series that come back are taken from the books before anything is appended to them, so that they are what they were.

use common::batch::{Batch, HostId, RunId};
use common::time::Timestamp;
use rusqlite::Connection;

use crate::store::catalog::series;
use crate::store::commit::Written;
use crate::store::head::Appended;
use crate::store::head::Head;
use crate::store::head::host::Absent;
use crate::store::room::Refusals;

/// Who appends to the head.
pub(super) struct Recall<'a> {
    pub(super) connection: &'a Connection,
    pub(super) head: &'a Head,
}

impl Recall<'_> {
    /// Appends windows of a host, each of which is a row of its log.
    pub(super) fn append(&self, (host, run): (HostId, RunId), version: u32, rows: &[(i64, Batch)]) -> Appended {
        self.recall(host, &self.head.absent((host, run), version, rows));
        self.head.append((host, run), version, rows)
    }

    /// Takes in what appending a window does besides its samples and events: block files have those.
    pub(super) fn pass(&self, (host, run): (HostId, RunId), version: u32, stamp: Timestamp) {
        self.recall(host, &self.head.absent_earlier(host, stamp));
        self.head.pass((host, run), version, stamp);
    }

    /// Leaves of series that come with their whole label sets those that there is room for; what is refused of the rest.
    pub(super) fn admit(&self, origin: HostId, written: &mut Vec<Written>) -> Refusals {
        let absent = self.head.absent_written(origin, written);
        self.recall(origin, &absent);
        if absent.series.is_empty() { Refusals::new() } else { self.head.admit(origin, written) }
    }

    /// Appends samples of such series, which there is room for; the last row of the origin's log that they are in.
    pub(super) fn append_written(&self, origin: HostId, (row, written): (i64, &[Written])) -> Appended {
        self.recall(origin, &self.head.absent_written(origin, written));
        self.head.append_written(origin, (row, written))
    }

    /// Takes series from the books.
    pub(super) fn recall(&self, host: HostId, Absent { series, unmarked, may_be }: &Absent) {
        if !may_be {
            return;
        }
        let mut found = if series.is_empty() { Ok(Vec::new()) } else { series::find(self.connection, host, series) };
        if let (Ok(found), Some(after)) = (&mut found, unmarked) {
            match series::unmarked(self.connection, host, *after) {
                Ok(more) => found.extend(more),
                Err(error) => tracing::error!(%error, host = host.0, "cannot read which series ended"),
            }
        }
        match found {
            Ok(found) => found.into_iter().for_each(|identity| {
                let latest = identity.life.last.unwrap_or(identity.life.first);
                self.head.recall(host, identity, latest);
            }),
            // What is stored is stored: they count as new ones.
            Err(error) => tracing::error!(%error, host = host.0, "cannot read which series came back"),
        }
    }
}
