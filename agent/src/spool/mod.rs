//! Unacknowledged batches. Filled by the sampler, drained by the uplink; bounded, oldest dropped first and counted.
//!
//! They wait in memory; what waits long goes to disk, where an agent that was killed finds it again.

mod chain;
pub mod directory;
mod segment;
pub mod shelf;
mod spools;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::wire::message::SpoolHeld;
use tokio::sync::Notify;

use crate::config::DiskLimits;
use crate::spool::shelf::Job;
use crate::spool::shelf::Outcome;
use crate::spool::spools::Spools;

/// Batches kept in memory: 1 h at one per 10 s, where the disk does not take them.
pub const SPOOL_BATCHES_MAX: usize = 360;

/// Bytes kept in memory: an hour of an ordinary host is about 1 MiB; an agent has 8 MiB in all.
pub const SPOOL_BYTES_MAX: usize = 4 << 20;

/// Longer backlogs wait in closed spools, and live batches overtake them: five minutes at one per 10 s.
pub const LIVE_BATCHES_MAX: usize = 30;

/// Spools named to the aggregator, which takes as many. Further ones are named once those have drained.
pub const NAMED_MAX: usize = 1_024;

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Batches of all spools in memory.
    pub batches_max: usize,
    /// Bytes of all spools in memory.
    pub bytes_max: usize,
    /// Batches in the live spool before it is closed.
    pub live_batches_max: usize,
    /// What is kept on disk.
    pub disk: DiskLimits,
}

impl Limits {
    /// An agent's.
    #[must_use]
    pub const fn new(disk: DiskLimits) -> Self {
        Self { batches_max: SPOOL_BATCHES_MAX, bytes_max: SPOOL_BYTES_MAX, live_batches_max: LIVE_BATCHES_MAX, disk }
    }
}

/// A handle on the spools of this process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spools: Mutex<Spools>,
    filled: Notify,
    emptied: Notify,
    /// There may be something to do on disk.
    due: Notify,
}

/// What the agent tells about its spools in its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Batches not yet acknowledged.
    pub depth: u64,
    /// Those of them that are in memory.
    pub in_memory: usize,
    /// Bytes that the others take on disk.
    pub disk_bytes: u64,
    /// Batches dropped to make room, or lost on disk.
    pub dropped_total: u64,
    /// Files that could not be read back.
    pub corrupt_total: u64,
    /// Batches that the aggregator acknowledged.
    pub acknowledged_total: u64,
    /// Sessions that the aggregator welcomed.
    pub sessions_total: u64,
}

/// A batch to send, behind what its receiver lacks of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What leads to the version that the batch uses.
    pub changes: Vec<SchemaChange>,
    /// What to send.
    pub batch: EncodedBatch,
}

impl Spool {
    /// No batches, and nothing is kept on disk. `first` is random: further spools of this process count on from it.
    #[must_use]
    pub fn new(run: RunId, first: SpoolId) -> Self {
        Self::with_limits(run, first, Limits::new(DiskLimits { bytes_max: 0, age_max: Duration::ZERO }))
    }

    /// No batches, and other limits.
    #[must_use]
    pub fn with_limits(run: RunId, first: SpoolId, limits: Limits) -> Self {
        let spools = Mutex::new(Spools::new(run, first, limits));
        Self(Arc::new(Shared { spools, filled: Notify::new(), emptied: Notify::new(), due: Notify::new() }))
    }

    /// Takes in a file that an earlier run left, in the order of their numbers.
    pub fn adopt(&self, number: u64, file: &[u8]) {
        self.lock().adopt(number, file);
    }

    /// Takes a window that closed. `schema` is the run's, at the version that the batch uses; `now` is time since boot.
    pub fn push(&self, batch: &Batch, schema: &Schema, now: Duration) {
        self.lock().push(batch, schema, now);
        self.0.filled.notify_one();
        self.0.due.notify_one();
    }

    /// Waits until something was pushed, or read back from disk, since the last wait.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// Waits until nothing in memory is left to acknowledge.
    pub async fn emptied(&self) {
        while 0 < self.figures().in_memory {
            self.0.emptied.notified().await;
        }
    }

    /// The run that fills it.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.lock().run()
    }

    /// The same, and the latest version of its schema that a batch used.
    #[must_use]
    pub fn schema(&self) -> (RunId, u32) {
        let spools = self.lock();
        (spools.run(), spools.schema_version())
    }

    /// The spools held, the live one first, then the oldest first; at most as many as may be named. Each with the place
    /// behind its last batch.
    #[must_use]
    pub fn named(&self) -> Vec<(SpoolId, Seq)> {
        self.lock().named()
    }

    /// Whether somebody holds more of a spool of this process than the process has sent.
    #[must_use]
    pub fn is_behind(&self, held: &[SpoolHeld]) -> bool {
        self.lock().is_behind(held)
    }

    /// Drops all that this process made: what has its numbers elsewhere is something else. Returns how many batches are
    /// dropped with these.
    #[must_use]
    pub fn renounce(&self) -> u64 {
        let dropped = self.lock().renounce();
        self.0.emptied.notify_one();
        self.0.due.notify_one();
        dropped
    }

    /// Counts batches that were dropped before it was there.
    pub fn count_dropped(&self, batches: u64) {
        self.lock().count_dropped(batches);
    }

    /// Begins a session: what the aggregator holds of each spool, and the codec that it wants.
    pub fn welcome(&self, held: &[SpoolHeld], codec: u8) {
        self.lock().welcome(held, codec);
        self.0.emptied.notify_one();
        self.0.due.notify_one();
    }

    /// Begins a new run. What was pushed belongs to the one before; the next batch brings a schema of its own.
    pub fn renew(&self) {
        self.lock().renew();
        self.0.filled.notify_one();
        self.0.due.notify_one();
    }

    /// The next batch of the live spool to send in this session. `held` is the version of a run's schema that the receiver
    /// has.
    #[must_use]
    pub fn next_live(&self, held: impl Fn(RunId) -> u32) -> Option<Outgoing> {
        self.lock().next_live(held)
    }

    /// The next batch of the closed spools to send in this session: those on disk in order, then those in memory. None
    /// while it is being read. `held` is the version of a run's schema that the receiver has.
    #[must_use]
    pub fn next_backlog(&self, held: impl Fn(RunId) -> u32) -> Option<Outgoing> {
        let next = self.lock().next_backlog(held);
        if next.is_none() {
            self.0.due.notify_one();
        }
        next
    }

    /// Forgets what is durable: all batches of the spool before `next`.
    pub fn ack(&self, spool: SpoolId, next: Seq) {
        self.lock().ack(spool, next);
        self.0.emptied.notify_one();
        self.0.due.notify_one();
    }

    /// What is not acknowledged goes to disk without waiting: the agent stops.
    pub fn leave(&self) {
        self.lock().leave();
        self.0.due.notify_one();
    }

    /// The next thing to do on disk, if there is one and none is under way.
    #[must_use]
    pub fn job(&self, now: Duration) -> Option<Job> {
        self.lock().job(now)
    }

    /// What became of the job. `now` is time since boot.
    pub fn done(&self, outcome: Outcome, now: Duration) {
        self.lock().done(outcome, now);
        self.0.filled.notify_one();
    }

    /// When there may be something to do on disk without anything else happening, in time since boot.
    #[must_use]
    pub fn due_at(&self) -> Option<Duration> {
        self.lock().due_at()
    }

    /// Waits until there may be something to do on disk because something happened.
    pub async fn due(&self) {
        self.0.due.notified().await;
    }

    /// Why nothing can be kept on disk, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble()
    }

    /// Figures for the agent's own metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures()
    }

    fn lock(&self) -> MutexGuard<'_, Spools> {
        // Nothing panics under the lock; if it did, the spools would still be whole batches.
        self.0.spools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
