//! What the store does for delivery: schemas by run, the next batch of each spool, and every window that was stored.

use std::collections::BTreeMap;

use aggregator::store::commit::Append;
use aggregator::store::commit::Committed;
use aggregator::store::commit::CommittedBatch;
use aggregator::store::commit::Held;
use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::State;
use common::wire::message::SpoolHeld;

/// Everything durable. The states survive because the log is replayed.
#[derive(Default)]
pub(crate) struct Ledger {
    schemas: BTreeMap<RunId, Schema>,
    next: BTreeMap<SpoolId, Seq>,
    states: BTreeMap<SpoolId, State>,
    stored: Vec<Batch>,
}

impl Ledger {
    pub(crate) fn held(&self, run: RunId, spools: &[SpoolId]) -> Held {
        let held = |spool: &SpoolId| SpoolHeld {
            spool: *spool,
            next: self.next.get(spool).copied().unwrap_or_default(),
            predecessor_held: self.states.contains_key(spool),
        };
        Held {
            schema_version: self.schemas.get(&run).map_or(0, Schema::version),
            spools: spools.iter().map(held).collect(),
        }
    }

    pub(crate) fn commit(&mut self, appends: &[Append]) -> Result<Committed, String> {
        let mut batches = Vec::new();
        for append in appends {
            match append {
                Append::Schema { run, change, .. } => {
                    let schema = self.schemas.entry(*run).or_default();
                    if schema.version() < change.version {
                        schema.apply(change).map_err(|error| error.to_string())?;
                    }
                }
                Append::Batch { host, batch } => {
                    let samples = self.store(batch)?;
                    let next = self.next[&batch.spool];
                    batches.push(CommittedBatch { host: *host, spool: batch.spool, next, stamp: batch.stamp, samples });
                }
                Append::HostLabels { .. }
                | Append::Own { .. }
                | Append::Stale { .. }
                | Append::Event { .. }
                | Append::Forget { .. } => {
                    return Err("a session appends schemas and batches only".to_owned());
                }
            }
        }
        Ok(Committed { batches })
    }

    /// All windows in the order in which they were stored.
    pub(crate) fn stored(&self) -> &[Batch] {
        &self.stored
    }

    /// The log was cut: batches cannot be decoded against what came before.
    pub(crate) fn forget_states(&mut self) {
        self.states.clear();
    }

    /// A store that breaks its promise.
    pub(crate) fn forget_next(&mut self) {
        self.next.clear();
    }

    fn store(&mut self, batch: &EncodedBatch) -> Result<Option<usize>, String> {
        let next = self.next.get(&batch.spool).copied().unwrap_or_default();
        if batch.seq < next {
            return Ok(None);
        }
        let mut state = match self.states.remove(&batch.spool) {
            _ if batch.keyframe => State::default(),
            Some(state) if batch.seq == next => state,
            _ => return Err(format!("batch {:?} is not a keyframe and its predecessor is not held", batch.seq)),
        };
        let schema = self.schemas.get(&batch.run).ok_or("no schema")?;
        let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
        let decoded =
            codec::decode(batch.codec, &batch.payload, against, &mut state).map_err(|error| error.to_string())?;
        let samples = decoded.samples.len();
        self.stored.push(decoded);
        self.states.insert(batch.spool, state);
        self.next.insert(batch.spool, batch.seq.next());
        Ok(Some(samples))
    }
}
