//! The log, read from its beginning, makes the head and the ledger that were there when it was written.

use common::batch::HostId;
use common::metric::Labels;
use common::time::Timestamp;
use common::wire::codec::State;
use rusqlite::Connection;

use crate::store::Shared;
use crate::store::ledger::Ledger;
use crate::store::log;
use crate::store::log::LogRow;
use crate::store::origin;
use crate::store::stage::decode;

/// Rebuilds the head and answers the ledger. Rows that cannot be read are counted and passed over.
pub(super) fn replay(connection: &Connection, shared: &Shared, now: Timestamp) -> rusqlite::Result<Ledger> {
    let mut replay = Replay { shared, ledger: Ledger::default(), cutoff: now.before(shared.config.retention), now };
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
    ledger: Ledger,
    cutoff: Timestamp,
    now: Timestamp,
}

impl Replay<'_> {
    fn row(&mut self, LogRow { host, batch, intact, .. }: LogRow) {
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
        if self.cutoff < batch.stamp {
            self.shared.counters.append(self.shared.head.append((host, batch.run), batch.schema_version, &decoded));
        }
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
        let Self { shared, cutoff, .. } = self;
        let unreadable = origin::each(connection, |origin, mut series| {
            series.iter_mut().for_each(|written| written.samples.retain(|(stamp, _)| cutoff < *stamp));
            shared.counters.append(shared.head.append_written(origin, &series));
        })?;
        shared.counters.unreadable(unreadable);
        Ok(self.ledger)
    }
}
