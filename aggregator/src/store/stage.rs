//! A commit becomes rows of a transaction and effects on the head, which wait until the rows are durable.

use std::collections::HashMap;

use common::batch::{Batch, EncodedBatch, Event, HostId, RunId};
use common::metric::Labels;
use common::schema::SchemaChange;
use common::time::Timestamp;
use common::wire::codec::{self, Against, State};
use rusqlite::{ErrorCode, Transaction};

use crate::store::catalog::series;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::commit::CommittedBatch;
use crate::store::commit::Written;
use crate::store::forwarding::Forwarding;
use crate::store::head::Head;
use crate::store::ledger::Admission;
use crate::store::ledger::Key;
use crate::store::ledger::Ledger;
use crate::store::ledger::Refusal;
use crate::store::ledger::Spool;
use crate::store::log;
use crate::store::origin;
use crate::store::origin::Numbers;
use crate::store::recall::Recall;
use crate::store::recent::Recent;
use crate::store::record::windows;
use crate::store::room::refuse;
use crate::store::rows::Row;
use crate::store::tail;
use crate::store::tail::Fresh;

/// What a commit changes.
pub(super) struct Stage<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) head: &'a Head,
    pub(super) ledger: &'a mut Ledger,
    pub(super) numbers: &'a mut Numbers,
    pub(super) forwarding: &'a Forwarding,
    pub(super) now: Timestamp,
    /// After when samples are kept.
    pub(super) kept_after: Timestamp,
}

/// What is to be done to the head once the rows are durable.
pub(super) enum Effect {
    Row { key: Key, run: RunId, row: Row },
    Batch { host: HostId, run: RunId, version: u32, row: (i64, Batch) },
    Labels { host: HostId, labels: Labels },
    Written { origin: HostId, row: i64, series: Vec<Written> },
    Event { host: HostId, row: i64, event: Event },
    Forget { host: HostId, instance: String },
}

/// What staging changed outside the transaction, as it was before.
#[derive(Default)]
pub(super) struct Undo {
    spools: HashMap<Key, Option<Spool>>,
    /// Versions of their schemas.
    runs: HashMap<(HostId, RunId), u32>,
}

/// A commit whose records are written, and whose rows are to be.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) effects: Vec<Effect>,
    pub(super) recent: Recent,
    pub(super) fresh: Fresh,
    pub(super) committed: Committed,
}

/// Why a commit was not staged.
pub(super) enum StageError {
    /// It is this commit's own fault.
    Commit(CommitError),
    /// Nothing can be written: no commit of the group is made.
    Disk(rusqlite::Error),
}

impl From<rusqlite::Error> for StageError {
    fn from(error: rusqlite::Error) -> Self {
        let disk = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
            )
        );
        if disk { Self::Disk(error) } else { Self::Commit(CommitError::Io(error.to_string())) }
    }
}

impl Undo {
    /// Adds what was changed after this.
    pub(super) fn join(&mut self, later: Self) {
        later.spools.into_iter().for_each(|(key, spool)| self.spool(key, spool));
        later.runs.into_iter().for_each(|(run, version)| self.run(run, version));
    }

    /// Makes everything as it was.
    pub(super) fn take_back(self, head: &Head, ledger: &mut Ledger) {
        self.spools.into_iter().for_each(|(key, spool)| ledger.put_back(key, spool));
        self.runs.into_iter().for_each(|(run, version)| head.truncate(run, version));
    }

    // Of several changes to one thing, the first knows how it was.

    fn spool(&mut self, key: Key, before: Option<Spool>) {
        self.spools.entry(key).or_insert(before);
    }

    fn run(&mut self, run: (HostId, RunId), version: u32) {
        self.runs.entry(run).or_insert(version);
    }
}

impl Stage<'_> {
    /// Writes the rows of a commit. What has to be taken back if they do not become durable is noted in `undo`.
    pub(super) fn commit(&mut self, commit: Commit, undo: &mut Undo) -> Result<Staged, StageError> {
        let mut staged = Staged::default();
        for (append, what) in commit.appends.into_iter().enumerate() {
            let malformed = |why: String| StageError::Commit(CommitError::Malformed { append, why });
            self.append(what, &mut staged, undo).map_err(|error| match error {
                AppendError::Malformed(why) => malformed(why),
                AppendError::Unfounded => StageError::Commit(CommitError::Unfounded { append }),
                AppendError::Sqlite(error) => error.into(),
            })?;
        }
        for record in &commit.records {
            record.write(self.transaction, &mut staged.recent)?;
        }
        Ok(staged)
    }

    fn append(&mut self, append: Append, staged: &mut Staged, undo: &mut Undo) -> Result<(), AppendError> {
        match append {
            Append::Schema { host, run, change } => self.schema(host, run, &change, undo)?,
            Append::Batch { host, batch } => self.batch(host, &batch, staged, undo)?,
            Append::HostLabels { host, labels } => {
                if log::labels(self.transaction, host)?.unwrap_or_default() != labels {
                    log::insert_labels(self.transaction, (host, self.ledger.last_place()), &labels)?;
                    staged.effects.push(Effect::Labels { host, labels });
                }
            }
            Append::Own { stamp, samples } => {
                let values = samples.into_iter().map(|(labels, value)| (labels, Some(value)));
                self.own(at(stamp, values), staged)?;
            }
            Append::Stale { stamp, series } => {
                let ends = series.into_iter().map(|labels| (labels, None));
                self.own(at(stamp, ends), staged)?;
            }
            Append::Written { origin, mut series } => {
                let refused = Recall { connection: self.transaction, head: self.head }.admit(origin, &mut series);
                for (limit, over) in refused {
                    refuse(&mut staged.committed.refused, limit, over.samples, || over.example);
                }
                if !series.is_empty() {
                    self.written(origin, series, staged)?;
                }
            }
            Append::Event { host, event } => {
                let row = log::insert_event(self.transaction, host, &event)?;
                staged.effects.push(Effect::Event { host, row, event });
            }
            Append::Forget { host, instance } => {
                staged.fresh.forget(host);
                log::forget(self.transaction, (host, self.ledger.last_place()))?;
                origin::forget(self.transaction, &instance)?;
                let named = ("instance", instance.as_str());
                series::forget_entities(self.transaction, HostId::AGGREGATOR, named)?;
                self.numbers.forget();
                for key in self.ledger.keys().filter(|(of, _)| *of == host).collect::<Vec<_>>() {
                    undo.spool(key, self.ledger.take(key));
                }
                staged.effects.push(Effect::Forget { host, instance });
            }
        }
        Ok(())
    }

    fn schema(&self, host: HostId, run: RunId, change: &SchemaChange, undo: &mut Undo) -> Result<(), AppendError> {
        let held = self.head.with_schema(host, run, common::schema::Schema::version).unwrap_or(0);
        if change.version <= held {
            return Ok(());
        }
        let applied = self.head.apply((host, run), change, self.now);
        applied.map_err(|error| AppendError::Malformed(error.to_string()))?;
        undo.run((host, run), held);
        log::insert_schema(self.transaction, (host, run), change)?;
        Ok(())
    }

    fn batch(
        &mut self,
        host: HostId,
        batch: &EncodedBatch,
        staged: &mut Staged,
        undo: &mut Undo,
    ) -> Result<(), AppendError> {
        let key = (host, batch.spool);
        let next = self.ledger.next(key);
        let mut stored =
            CommittedBatch { host, spool: batch.spool, next, stamp: batch.stamp, samples: None, missing: 0 };
        let Admission::New(mut state, missing) = self.ledger.admit(host, batch)? else {
            staged.committed.batches.push(stored);
            return Ok(());
        };
        let decoded = decode(self.head, host, batch, &mut state).map_err(AppendError::Malformed)?;
        // A later one may be decoded against its row, also if nothing of it is kept.
        let row = self.ledger.place();
        staged.fresh.push(tail::Row::Batch(row, host, batch.clone()));
        staged.effects.push(Effect::Row { key, run: batch.run, row: Row::of(row, batch) });
        undo.spool(key, self.ledger.store(key, batch.seq, (batch.run, state, self.now)));
        windows::add_missing(self.transaction, host, missing)?;
        if 0 < missing {
            self.append(given_up(host, batch, missing), staged, undo)?;
        }
        stored.missing = missing;
        stored.next = batch.seq.next();
        let is_kept = self.kept_after < batch.stamp;
        stored.samples = Some(if is_kept { decoded.samples.len() } else { 0 });
        staged.committed.batches.push(stored);
        // What it would end ends with the first batch that is kept.
        if !is_kept {
            staged.committed.too_old += 1;
            return Ok(());
        }
        self.forwarding.note(self.transaction, (host, batch.stamp, batch.stamp))?;
        let (run, version) = (batch.run, batch.schema_version);
        staged.effects.push(Effect::Batch { host, run, version, row: (row, decoded) });
        Ok(())
    }

    /// What the aggregator itself makes of what others sent is bounded by that.
    fn own(&mut self, series: Vec<Written>, staged: &mut Staged) -> Result<(), AppendError> {
        let recall = Recall { connection: self.transaction, head: self.head };
        recall.recall(HostId::AGGREGATOR, &self.head.absent_written(HostId::AGGREGATOR, &series));
        self.written(HostId::AGGREGATOR, series, staged)
    }

    fn written(&mut self, origin: HostId, mut series: Vec<Written>, staged: &mut Staged) -> Result<(), AppendError> {
        // Each that is older than those before it would make a chunk of its own. Of equal stamps the last still counts.
        series.iter_mut().for_each(|written| written.samples.sort_by_key(|(stamp, _)| *stamp));
        let rows = self.numbers.rows(self.transaction, (origin, &mut || self.ledger.place()), &series)?;
        let row = rows.last().map_or(0, |row| row.id);
        rows.into_iter().for_each(|row| staged.fresh.push(tail::Row::Origin(row)));
        let stamps = || series.iter().flat_map(|written| &written.samples).map(|(stamp, _)| *stamp);
        if let (Some(first), Some(last)) = (stamps().min(), stamps().max()) {
            self.forwarding.note(self.transaction, (origin, first, last))?;
        }
        staged.effects.push(Effect::Written { origin, row, series });
        Ok(())
    }
}

/// Series that have one stamp.
fn at(stamp: Timestamp, values: impl Iterator<Item = (Labels, Option<f64>)>) -> Vec<Written> {
    values.map(|(labels, value)| Written { labels, samples: vec![(stamp, value)] }).collect()
}

/// The event that tells of windows whose batches a spool gave up.
fn given_up(host: HostId, batch: &EncodedBatch, missing: u64) -> Append {
    let text =
        format!("{missing} windows did not come: the agent gave them up for want of room, or could not read them");
    Append::Event {
        host,
        event: Event { at: batch.stamp, kind: "windows_missing".to_owned(), entity: Labels::new(), text },
    }
}

/// Decodes a batch with the schema that the head has.
pub(super) fn decode(head: &Head, host: HostId, batch: &EncodedBatch, state: &mut State) -> Result<Batch, String> {
    let decode = |schema: &_| {
        let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
        codec::decode(batch.codec, &batch.payload, against, state).map_err(|error| error.to_string())
    };
    head.with_schema(host, batch.run, decode).unwrap_or_else(|| Err("the schema of its run is not held".to_owned()))
}

enum AppendError {
    Malformed(String),
    Unfounded,
    Sqlite(rusqlite::Error),
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Place(_) => Self::Malformed(refusal.to_string()),
            Refusal::Predecessor => Self::Unfounded,
        }
    }
}

impl From<rusqlite::Error> for AppendError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
