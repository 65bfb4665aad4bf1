//! What is written together: all of a commit, or nothing of it.

use common::batch::{EncodedBatch, Event, HostId, RunId, Seq, SpoolId};
use common::metric::Labels;
use common::schema::SchemaChange;
use common::time::Timestamp;
use common::wire::message::SpoolHeld;

use crate::store::record::Record;
use crate::store::room::Refusals;

/// Appended and recorded in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Samples and what belongs to them, in order.
    pub appends: Vec<Append>,
    /// Changes to nouns, in order.
    pub records: Vec<Record>,
}

impl Commit {
    /// Adds what is to be written in the same transaction, behind the rest.
    pub fn join(&mut self, other: Self) {
        self.appends.extend(other.appends);
        self.records.extend(other.records);
    }

    /// About what it takes in memory, as far as a peer decides that.
    pub(super) fn bytes(&self) -> usize {
        let labels = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let bytes = |append: &Append| match append {
            Append::Batch { batch, .. } => batch.payload.len(),
            Append::Schema { change, .. } => {
                let entities: usize = change.entities.iter().map(|entity| labels(&entity.labels)).sum();
                let columns: usize = change.columns.iter().map(|column| labels(&column.labels)).sum();
                entities + columns + 8 * change.series.len()
            }
            Append::Written { series, .. } => {
                series.iter().map(|written| labels(&written.labels) + SAMPLE_BYTES * written.samples.len()).sum()
            }
            Append::HostLabels { .. }
            | Append::Own { .. }
            | Append::Stale { .. }
            | Append::Event { .. }
            | Append::Forget { .. } => 0,
        };
        self.appends.iter().map(bytes).sum()
    }
}

/// Samples of one series that comes with its whole label set.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// All of it, the name among them.
    pub labels: Labels,
    /// Stamps, in any order, with a value each; `None` marks the end of the series.
    pub samples: Vec<(Timestamp, Option<f64>)>,
}

/// What one sample that was written takes up while it waits.
const SAMPLE_BYTES: usize = size_of::<(Timestamp, Option<f64>)>();

/// One thing to append.
#[derive(Clone, Debug)]
pub enum Append {
    /// The next version of a run's schema. A version that is held already is passed over.
    Schema {
        /// Whose.
        host: HostId,
        /// Which process start.
        run: RunId,
        /// What the version adds.
        change: SchemaChange,
    },
    /// One window of a host. A batch before its spool's next one is stored already and is passed over.
    Batch {
        /// Whose.
        host: HostId,
        /// As it came over the wire.
        batch: EncodedBatch,
    },
    /// The labels that series of a host have from here on, `instance` among them. A change starts new series.
    HostLabels {
        /// Whose.
        host: HostId,
        /// All of them.
        labels: Labels,
    },
    /// Gauges of the aggregator itself, with all their labels.
    Own {
        /// When.
        stamp: Timestamp,
        /// Series and value.
        samples: Vec<(Labels, f64)>,
    },
    /// Series of the aggregator itself that ended.
    Stale {
        /// When.
        stamp: Timestamp,
        /// All their labels.
        series: Vec<Labels>,
    },
    /// Series that somebody else wrote, with all their labels.
    Written {
        /// Who.
        origin: HostId,
        /// What.
        series: Vec<Written>,
    },
    /// Something that the aggregator noticed about a host.
    Event {
        /// About whom.
        host: HostId,
        /// What.
        event: Event,
    },
    /// Everything that is held of a host goes: what it sent, and the series of the aggregator itself that name it.
    Forget {
        /// Whom.
        host: HostId,
        /// Its `instance` label.
        instance: String,
    },
}

impl Append {
    /// The batch, if it is one.
    #[must_use]
    pub const fn batch(&self) -> Option<&EncodedBatch> {
        if let Self::Batch { batch, .. } = self { Some(batch) } else { None }
    }
}

/// What a durable commit stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each [`Append::Batch`], in order.
    pub batches: Vec<CommittedBatch>,
    /// Samples of [`Append::Written`] that are not stored, because there is no room for their series.
    pub refused: Refusals,
    /// Batches that are taken and not stored, because they are older than what is kept.
    pub too_old: u64,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedBatch {
    /// Whose.
    pub host: HostId,
    /// Its spool.
    pub spool: SpoolId,
    /// The spool's first batch that is not stored: acknowledge this.
    pub next: Seq,
    /// End of its window.
    pub stamp: Timestamp,
    /// Samples stored; `None` for a batch that was stored before.
    pub samples: Option<usize>,
    /// Batches before it that its spool gave up.
    pub missing: u64,
}

/// Why a commit was not made. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// One append does not mean anything. The sender is wrong; trying again is no use.
    #[error("append {append} is malformed: {why}")]
    Malformed {
        /// Its place in the commit.
        append: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A batch is coded against one that is not at hand any more. Greeting again is right: the sender learns it then.
    #[error("append {append} is coded against a batch that is not at hand")]
    Unfounded {
        /// Its place in the commit.
        append: usize,
    },
    /// The disk is full. Trying again later is right.
    #[error("the disk is full")]
    Full,
    /// The disk or the database failed otherwise.
    #[error("the database failed: {0}")]
    Io(String),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

/// What the store holds of one run of a host: the answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Latest version of the run's schema; 0 is none.
    pub schema_version: u32,
    /// For each spool asked for, in that order.
    pub spools: Vec<SpoolHeld>,
}
