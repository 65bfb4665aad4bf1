//! The live spool, the closed ones, and which of them leave the memory for the disk. Pure.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use common::batch::Batch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::time::Timestamp;
use common::wire::codec::CODEC;
use common::wire::message::SpoolHeld;

use crate::spool::Figures;
use crate::spool::Limits;
use crate::spool::NAMED_MAX;
use crate::spool::Outgoing;
use crate::spool::chain::Chain;
use crate::spool::shelf::Job;
use crate::spool::shelf::Outcome;
use crate::spool::shelf::Shelf;

/// How long a batch waits for its acknowledgement before it goes to disk: the most that a killed agent loses.
const WRITE_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Spools {
    limits: Limits,
    runs: Runs,
    /// The first spool of this process: the others count on from it.
    first: SpoolId,
    live: Chain,
    /// Those that the disk has not taken, the oldest first. None is empty.
    closed: VecDeque<Chain>,
    shelf: Shelf,
    /// The codec of the latest session: what is sent next is likely to be wanted in it.
    codec: u8,
    /// End of the newest window.
    newest: Timestamp,
    /// The agent stops: everything goes to disk.
    leaving: bool,
    figures: Figures,
}

impl Spools {
    pub(super) fn new(run: RunId, first: SpoolId, limits: Limits) -> Self {
        Self {
            limits,
            runs: Runs { run, schema: Schema::default(), past: Vec::new() },
            first,
            live: Chain::new(first),
            closed: VecDeque::new(),
            shelf: Shelf::new(limits.disk),
            codec: CODEC,
            newest: Timestamp::default(),
            leaving: false,
            figures: Figures::default(),
        }
    }

    pub(super) const fn run(&self) -> RunId {
        self.runs.run
    }

    pub(super) fn schema_version(&self) -> u32 {
        self.runs.schema.version()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.shelf.trouble().map(ToOwned::to_owned)
    }

    pub(super) fn adopt(&mut self, number: u64, file: &[u8]) {
        self.shelf.adopt(number, file);
    }

    pub(super) const fn leave(&mut self) {
        self.leaving = true;
    }

    pub(super) fn named(&self) -> Vec<(SpoolId, Seq)> {
        let mut named = vec![(self.live.id, self.live.end())];
        for (id, end) in self.shelf.spools().chain(self.closed.iter().map(|chain| (chain.id, chain.end()))) {
            match named.iter().position(|(known, _)| *known == id) {
                Some(at) => named[at].1 = end.max(named[at].1),
                None if named.len() < NAMED_MAX => named.push((id, end)),
                None => {}
            }
        }
        named
    }

    pub(super) fn push(&mut self, batch: &Batch, schema: &Schema, now: Duration) {
        self.runs.grow(schema);
        let Limits { live_batches_max, bytes_max, .. } = self.limits;
        if live_batches_max < self.live.len() || bytes_max / 2 < self.live.bytes() {
            self.close();
        }
        self.newest = batch.stamp;
        self.live.push((self.runs.run, self.codec), batch, &self.runs.schema, now);
        while self.limits.batches_max < self.in_memory() || self.limits.bytes_max < self.bytes() {
            self.drop_oldest();
        }
    }

    /// Begins a new run: batches use the schema that the next one brings.
    pub(super) fn renew(&mut self) {
        let run = RunId(one_more(self.runs.run.0));
        let before = std::mem::replace(&mut self.runs.run, run);
        self.runs.past.push((before, std::mem::take(&mut self.runs.schema)));
        self.close();
    }

    /// Begins a new live spool.
    fn close(&mut self) {
        let Self { live, closed, .. } = self;
        let following = Chain::new(SpoolId(one_more(live.id.0)));
        let before = std::mem::replace(live, following).close();
        if !before.is_empty() {
            closed.push_back(before);
        }
        self.hand_over();
    }

    /// Forgets what has no batches in memory any more: closed spools, and the schemas of past runs.
    fn forget_empty(&mut self) {
        let Self { closed, runs, .. } = self;
        closed.retain(|chain| !chain.is_empty());
        runs.past.retain(|(run, _)| closed.iter().any(|chain| chain.run() == Some(*run)));
    }

    /// What memory cannot hold while the disk does not take it.
    fn drop_oldest(&mut self) {
        let Self { live, closed, runs, shelf, figures, .. } = self;
        let oldest = closed.front_mut().unwrap_or(live);
        let schema = runs.of(oldest);
        if let Some(popped) = oldest.pop(schema) {
            figures.dropped_total += 1;
            // On disk it goes too: what follows it in memory is sent first, and behind that it would be refused.
            shelf.release(oldest.id, popped.next());
        }
        self.forget_empty();
    }

    pub(super) fn ack(&mut self, spool: SpoolId, next: Seq) {
        let popped = self.pop_before(spool, next);
        let released = self.shelf.release(spool, next);
        self.figures.acknowledged_total += popped.unwrap_or(released);
    }

    /// How many batches left the memory; none if the spool is not there.
    fn pop_before(&mut self, spool: SpoolId, end: Seq) -> Option<u64> {
        let Self { live, closed, runs, .. } = self;
        let chain = std::iter::once(live).chain(&mut *closed).find(|chain| chain.id == spool)?;
        let popped = chain.pop_before(end, runs.of(chain));
        self.forget_empty();
        Some(popped)
    }

    pub(super) fn is_behind(&self, held: &[SpoolHeld]) -> bool {
        let mut chains = self.closed.iter().chain([&self.live]);
        chains.any(|chain| held.iter().any(|held| held.spool == chain.id && chain.untold() < held.next))
    }

    pub(super) fn renounce(&mut self) -> u64 {
        let number = |id: SpoolId| u128::from_be_bytes(id.0).wrapping_sub(u128::from_be_bytes(self.first.0));
        let made = number(self.live.id);
        let on_disk = self.shelf.spools().map(|(id, _)| id);
        let held: BTreeSet<_> = on_disk.chain(self.closed.iter().map(|chain| chain.id)).chain([self.live.id]).collect();
        let own: Vec<_> = held.into_iter().filter(|id| number(*id) <= made).collect();
        for spool in own {
            let popped = self.pop_before(spool, Seq(u64::MAX));
            let released = self.shelf.release(spool, Seq(u64::MAX));
            self.figures.dropped_total += popped.unwrap_or(released);
        }
        self.figures.dropped_total
    }

    pub(super) const fn count_dropped(&mut self, batches: u64) {
        self.figures.dropped_total += batches;
    }

    pub(super) fn welcome(&mut self, held: &[SpoolHeld], codec: u8) {
        self.codec = codec;
        self.figures.sessions_total += 1;
        self.shelf.begin_session();
        for chain in std::iter::once(&mut self.live).chain(&mut self.closed) {
            let held = held.iter().find(|held| held.spool == chain.id && held.predecessor_held);
            // What is held and was never acknowledged here may be what a copy of this process sent: nothing is coded
            // against it.
            let held = held.filter(|held| held.next <= chain.first());
            chain.begin(held.map(|held| held.next));
        }
        for held in held {
            self.ack(held.spool, held.next);
        }
    }

    pub(super) fn next_live(&mut self, held: impl Fn(RunId) -> u32) -> Option<Outgoing> {
        let Runs { run, schema, .. } = &self.runs;
        let batch = self.live.send(schema, self.codec)?;
        Some(Outgoing { changes: changes(schema, held(*run), batch.schema_version), batch })
    }

    pub(super) fn next_backlog(&mut self, held: impl Fn(RunId) -> u32) -> Option<Outgoing> {
        let Self { live, closed, shelf, runs, codec, .. } = self;
        let number = shelf.next_unsent(|id| is_in_memory(live, closed, id));
        if let Some((batch, loaded)) = number.and_then(|number| shelf.send(number, *codec)) {
            let changes = changes(&loaded.schema, held(loaded.run), batch.schema_version);
            return Some(Outgoing { changes, batch });
        }
        closed.iter_mut().find_map(|chain| {
            let schema = runs.of(chain);
            let batch = chain.send(schema, *codec)?;
            Some(Outgoing { changes: changes(schema, held(batch.run), batch.schema_version), batch })
        })
    }

    pub(super) fn job(&mut self, now: Duration) -> Option<Job> {
        if self.shelf.is_busy() {
            return None;
        }
        self.expire();
        self.shelf.remove().or_else(|| self.write(now)).or_else(|| self.shelf.read(now))
    }

    /// Drops what is too much or too old for the disk, wherever it is.
    fn expire(&mut self) {
        while let Some((spool, end, left)) = self.shelf.excess(self.newest) {
            self.figures.dropped_total += self.pop_before(spool, end).unwrap_or(left);
            self.shelf.release(spool, end);
        }
    }

    fn write(&mut self, now: Duration) -> Option<Job> {
        let Self { live, closed, shelf, runs, leaving, .. } = self;
        if !shelf.may_write(now) {
            return None;
        }
        let is_due = |since: Duration| *leaving || since.saturating_add(WRITE_AFTER) <= now;
        let chain = closed.iter().chain([&*live]).find(|chain| chain.unwritten_since().is_some_and(is_due))?;
        let schema = runs.of(chain);
        shelf.append(chain.unwritten(schema), schema)
    }

    /// When something is to be written or read.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let oldest = self.closed.iter().chain([&self.live]).filter_map(Chain::unwritten_since).min();
        let write_at = oldest.and_then(|oldest| self.shelf.due_from(oldest.saturating_add(WRITE_AFTER)));
        write_at.into_iter().chain(self.shelf.read_at()).min()
    }

    pub(super) fn done(&mut self, outcome: Outcome, now: Duration) {
        let Some(written) = self.shelf.done(outcome, now) else { return };
        let chains = std::iter::once(&mut self.live).chain(&mut self.closed);
        chains.filter(|chain| chain.id == written.spool).for_each(|chain| chain.wrote(written.end));
        self.hand_over();
    }

    /// Closed spools that are on disk as a whole leave the memory.
    fn hand_over(&mut self) {
        let Self { closed, shelf, .. } = self;
        closed.retain(|chain| {
            let stays = chain.unwritten_since().is_some();
            if !stays {
                shelf.take_over(chain.id, chain.unsent());
            }
            stays
        });
        self.forget_empty();
    }

    /// Runs of which something is held.
    #[cfg(test)]
    pub(super) fn runs_held(&self) -> usize {
        1 + self.runs.past.len()
    }

    pub(super) fn figures(&self) -> Figures {
        let Self { live, closed, shelf, figures, .. } = self;
        let in_memory = self.in_memory();
        Figures {
            depth: in_memory as u64 + shelf.batches(|id| is_in_memory(live, closed, id)),
            in_memory,
            disk_bytes: shelf.bytes(),
            dropped_total: figures.dropped_total + shelf.lost_total(),
            corrupt_total: shelf.corrupt_total(),
            ..*figures
        }
    }

    fn in_memory(&self) -> usize {
        self.closed.iter().map(Chain::len).sum::<usize>() + self.live.len()
    }

    fn bytes(&self) -> usize {
        self.closed.iter().map(Chain::bytes).sum::<usize>() + self.live.bytes()
    }
}

/// The run that goes on, and those before it that have batches in memory.
#[derive(Debug)]
struct Runs {
    run: RunId,
    /// All versions that its batches use.
    schema: Schema,
    past: Vec<(RunId, Schema)>,
}

impl Runs {
    fn grow(&mut self, schema: &Schema) {
        for change in schema.changes_since(self.schema.version()) {
            // The schema given is the run's own, grown: its changes follow.
            if self.schema.apply(&change).is_err() {
                break;
            }
        }
    }

    /// The schema that a chain's batches use.
    fn of(&self, chain: &Chain) -> &Schema {
        let past = self.past.iter().find(|(run, _)| chain.run() == Some(*run));
        past.map_or(&self.schema, |(_, schema)| schema)
    }
}

fn is_in_memory(live: &Chain, closed: &VecDeque<Chain>, id: SpoolId) -> bool {
    live.id == id || closed.iter().any(|chain| chain.id == id)
}

/// What leads from one version of a schema (not included) to another.
fn changes(schema: &Schema, held: u32, wanted: u32) -> Vec<SchemaChange> {
    if wanted <= held {
        return Vec::new();
    }
    schema.changes_since(held).take_while(|change| change.version <= wanted).collect()
}

fn one_more(id: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(id).wrapping_add(1).to_be_bytes()
}
