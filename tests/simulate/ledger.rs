//! The store without its database: its real ledger, schemas by run, and every window that was stored.

use std::collections::BTreeMap;

use aggregator::store::commit::Append;
use aggregator::store::commit::CommitError;
use aggregator::store::commit::Committed;
use aggregator::store::commit::CommittedBatch;
use aggregator::store::commit::Held;
use aggregator::store::ledger::Admission;
use aggregator::store::ledger::Ledger;
use aggregator::store::ledger::Refusal;
use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::SpoolId;
use common::schema::Schema;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::Against;

pub(crate) const HOST: HostId = HostId(1);

#[derive(Default)]
pub(crate) struct Store {
    schemas: BTreeMap<RunId, Schema>,
    ledger: Ledger,
    stored: Vec<Batch>,
    /// Batches that spools dropped before they were sent.
    pub(crate) missing: u64,
}

impl Store {
    pub(crate) fn held(&self, run: RunId, spools: &[SpoolId]) -> Held {
        Held {
            schema_version: self.schemas.get(&run).map_or(0, Schema::version),
            spools: spools.iter().map(|spool| self.ledger.held((HOST, *spool))).collect(),
        }
    }

    /// All appends or none, as a transaction does.
    pub(crate) fn commit(&mut self, appends: &[Append], now: Timestamp) -> Result<Committed, CommitError> {
        let mut batches = Vec::new();
        let mut undo = Vec::new();
        let stored = self.stored.len();
        for (place, append) in appends.iter().enumerate() {
            let done = match append {
                Append::Schema { run, change, .. } => self.schema(*run, change),
                Append::Batch { batch, .. } => self.batch(batch, now, &mut undo).map(|done| batches.push(done)),
                Append::HostLabels { .. }
                | Append::Own { .. }
                | Append::Stale { .. }
                | Append::Written { .. }
                | Append::Event { .. }
                | Append::Forget { .. } => Err(Fault::Malformed("not what a session appends".to_owned())),
            };
            if let Err(fault) = done {
                // Schemas stay: a version that is held already is passed over.
                undo.into_iter().rev().for_each(|(key, before)| self.ledger.put_back(key, before));
                self.stored.truncate(stored);
                return Err(match fault {
                    Fault::Unfounded => CommitError::Unfounded { append: place },
                    Fault::Malformed(why) => CommitError::Malformed { append: place, why },
                });
            }
        }
        Ok(Committed { batches, ..Committed::default() })
    }

    fn schema(&mut self, run: RunId, change: &common::schema::SchemaChange) -> Result<(), Fault> {
        let schema = self.schemas.entry(run).or_default();
        if schema.version() < change.version {
            schema.apply(change).map_err(|error| Fault::Malformed(error.to_string()))?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &EncodedBatch, now: Timestamp, undo: &mut Vec<Undo>) -> Result<CommittedBatch, Fault> {
        let key = (HOST, batch.spool);
        let next = self.ledger.next(key);
        let answer =
            CommittedBatch { host: HOST, spool: batch.spool, next, stamp: batch.stamp, samples: None, missing: 0 };
        let Admission::New(mut state, missing) = self.ledger.admit(HOST, batch)? else { return Ok(answer) };
        let malformed = |why: String| Fault::Malformed(why);
        let schema = self.schemas.get(&batch.run).ok_or_else(|| malformed("no schema".to_owned()))?;
        let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
        let decoded = codec::decode(batch.codec, &batch.payload, against, &mut state);
        let decoded = decoded.map_err(|error| malformed(error.to_string()))?;
        let samples = Some(decoded.samples.len());
        self.stored.push(decoded);
        undo.push((key, self.ledger.store(key, batch.seq, (batch.run, state, now))));
        self.missing += missing;
        Ok(CommittedBatch { next: batch.seq.next(), samples, ..answer })
    }

    /// All windows in the order in which they were stored.
    pub(crate) fn stored(&self) -> &[Batch] {
        &self.stored
    }

    /// Batches before that stood for an hour are let go of.
    pub(crate) fn let_go(&mut self, now: Timestamp) {
        self.ledger.let_go(now);
    }

    /// The log was cut: batches cannot be decoded against what came before.
    pub(crate) fn restart_without_states(&mut self) {
        for key in self.ledger.keys().collect::<Vec<_>>() {
            let next = self.ledger.next(key);
            self.ledger.reset(key, next);
        }
    }

    /// A store that breaks its promise.
    pub(crate) fn forget_next(&mut self) {
        self.ledger = Ledger::default();
    }
}

type Undo = ((HostId, SpoolId), Option<aggregator::store::ledger::Spool>);

enum Fault {
    Malformed(String),
    Unfounded,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Predecessor => Self::Unfounded,
            Refusal::Place(_) => Self::Malformed(refusal.to_string()),
        }
    }
}
