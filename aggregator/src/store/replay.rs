//! The log, read from its beginning, makes the head and the ledger that were there when it was written.

use std::collections::HashMap;

use common::batch::HostId;
use common::metric::Labels;
use common::time::Timestamp;
use common::wire::codec::State;
use rusqlite::Connection;

use crate::store::Shared;
use crate::store::catalog;
use crate::store::catalog::Sealed;
use crate::store::catalog::series;
use crate::store::ledger::Ledger;
use crate::store::log;
use crate::store::log::LogRow;
use crate::store::origin;
use crate::store::recall::Recall;
use crate::store::stage::decode;

/// Rebuilds the head and answers the ledger. Rows that cannot be read are counted and passed over; of those that block
/// files cover only is taken what later ones are decoded against.
pub(super) fn replay(connection: &Connection, shared: &Shared, now: Timestamp) -> rusqlite::Result<Ledger> {
    let sealed = catalog::sealed(connection)?;
    sealed.iter().for_each(|(host, sealed)| shared.head.resume(*host, sealed));
    series::remove_unsealed(connection)?;
    series::each_living(connection, |host, identity| {
        if let Some(sealed) = sealed.get(&host) {
            shared.head.recall(host, identity, sealed.latest());
        }
    })?;
    let cutoff = now.before(shared.config.retention.raw);
    let recall = Recall { connection, head: &shared.head };
    let mut replay = Replay { shared, recall, sealed, ledger: Ledger::default(), cutoff, now };
    log::each_schema(connection, |(host, run), change| {
        if let Err(error) = shared.head.apply((host, run), &change, now) {
            tracing::warn!(%error, host = host.0, "a stored schema does not fit");
        }
    })?;
    let mut labels = log::host_labels(connection)?.into_iter().peekable();
    log::each(connection, |row| {
        while let Some((_, host, labels)) = labels.next_if(|(after_log, ..)| *after_log < row.id) {
            shared.head.set_labels(host, &labels);
        }
        replay.row(row);
    })?;
    labels.for_each(|(_, host, labels): (i64, HostId, Labels)| shared.head.set_labels(host, &labels));
    replay.finish(connection)
}

struct Replay<'a> {
    shared: &'a Shared,
    recall: Recall<'a>,
    sealed: HashMap<HostId, Sealed>,
    ledger: Ledger,
    cutoff: Timestamp,
    now: Timestamp,
}

impl Replay<'_> {
    fn row(&mut self, LogRow { id, host, batch, intact }: LogRow) {
        let key = (host, batch.spool);
        let state =
            if batch.keyframe { Some(State::default()) } else { self.ledger.take_state(key, batch.run, batch.seq) };
        let decoded = state.filter(|_| intact).and_then(|mut state| {
            let decoded = decode(&self.shared.head, host, &batch, &mut state).ok()?;
            Some((decoded, state))
        });
        let Some((decoded, state)) = decoded else {
            self.shared.counters.unreadable(1);
            self.ledger.reset(key, batch.seq.next());
            return;
        };
        self.ledger.store(key, batch.seq, (batch.run, state, self.now));
        let (run, version) = ((host, batch.run), batch.schema_version);
        if self.is_covered(host, (id, batch.stamp)) {
            self.shared.head.pass(run, version, batch.stamp);
        } else if self.cutoff < batch.stamp {
            self.shared.counters.append(self.recall.append(run, version, (id, &decoded)));
        }
    }

    fn is_covered(&self, host: HostId, (row, stamp): (i64, Timestamp)) -> bool {
        self.sealed.get(&host).is_some_and(|sealed| sealed.covers(row, stamp))
    }

    fn finish(mut self, connection: &Connection) -> rusqlite::Result<Ledger> {
        for (key, next) in log::spools(connection)? {
            if self.ledger.next(key) != next {
                self.ledger.reset(key, next);
            }
        }
        for (host, event) in log::events(connection)? {
            self.shared.head.push_event(host, event);
        }
        let Self { shared, ref recall, cutoff, .. } = self;
        let unreadable = origin::each(connection, |origin, row, mut series| {
            if self.is_covered(origin, row) {
                return;
            }
            series.iter_mut().for_each(|written| written.samples.retain(|(stamp, _)| cutoff < *stamp));
            shared.counters.append(recall.append_written(origin, (row.0, &series)));
        })?;
        shared.counters.unreadable(unreadable);
        Ok(self.ledger)
    }
}
