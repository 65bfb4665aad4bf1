//! What ingest counts, for `/metrics`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use common::wire::message::Reason;

use crate::ingest::session::End;
use crate::store::commit::Committed;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(super) fn count(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How far it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions opened.
    pub sessions_total: Counter,
    /// Of these, sessions on TCP: UDP does not pass there.
    pub tcp_sessions_total: Counter,
    /// Connections turned away because too many were there or on their way.
    pub turned_away_total: Counter,
    /// Handshakes that were not completed.
    pub handshakes_failed_total: Counter,
    /// Connections that said no first word in time.
    pub wordless_total: Counter,
    /// Times that nothing was read of a session for a while, because it sent more than one may.
    pub throttled_total: Counter,
    /// Sessions ended for a frame or message that cannot be read, or is too long.
    pub malformed_total: Counter,
    /// Sessions and enrolments refused: no right to be here.
    pub refused_total: Counter,
    /// Sessions that a newer one of the same host took over from.
    pub replaced_total: Counter,
    /// Sessions refused because another agent with the same state is in session.
    pub copied_total: Counter,
    /// Times that an agent was told to wait because the store could not store.
    pub busy_total: Counter,
    /// Batches committed.
    pub batches_total: Counter,
    /// Samples in them.
    pub samples_total: Counter,
}

impl Counters {
    pub(super) fn count_end(&self, end: &End) {
        match end.reason {
            Reason::Replaced if end.copied.is_some() => self.copied_total.count(1),
            Reason::Malformed | Reason::Limit => self.malformed_total.count(1),
            Reason::Unknown | Reason::Token | Reason::Revoked | Reason::Expired => self.refused_total.count(1),
            Reason::Replaced => self.replaced_total.count(1),
            Reason::Error | Reason::Stopped | Reason::Shutdown | Reason::Restart => {}
        }
    }

    pub(super) fn count_batches(&self, committed: &Committed) {
        let stored = committed.batches.iter().filter_map(|batch| batch.samples);
        let (batches, samples) = stored.fold((0, 0), |(batches, sum), samples| (batches + 1, sum + samples as u64));
        self.batches_total.count(batches);
        self.samples_total.count(samples);
    }
}
