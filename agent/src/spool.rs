//! Unacknowledged batches. Filled by the sampler, drained by the uplink; bounded, oldest dropped first and counted.
//!
//! A batch is encoded when it is pushed, against the one before it. The state before the oldest is kept, so that what
//! follows a gap can be encoded anew as a keyframe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::State;
use common::wire::message::SpoolHeld;
use tokio::sync::Notify;

/// Batches kept: 1 h at one per 10 s.
pub const SPOOL_BATCHES_MAX: usize = 360;

/// Bytes kept: an hour of an ordinary host is about 1 MiB; an agent has 8 MiB in all.
pub const SPOOL_BYTES_MAX: usize = 4 << 20;

/// Longer backlogs wait in closed spools, and live batches overtake them: five minutes at one per 10 s.
pub const LIVE_BATCHES_MAX: usize = 30;

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Batches in all spools.
    pub batches_max: usize,
    /// Bytes in all spools.
    pub bytes_max: usize,
    /// Batches in the live spool before it is closed.
    pub live_batches_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batches_max: SPOOL_BATCHES_MAX, bytes_max: SPOOL_BYTES_MAX, live_batches_max: LIVE_BATCHES_MAX }
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
}

/// What the agent tells about its spools in its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Batches not yet acknowledged.
    pub depth: usize,
    /// Bytes they take.
    pub bytes: usize,
    /// Batches dropped to make room.
    pub dropped_total: u64,
    /// Batches that the aggregator acknowledged.
    pub acknowledged_total: u64,
    /// Sessions that the aggregator welcomed.
    pub sessions_total: u64,
}

impl Spool {
    /// No batches. `first` is random: further spools of this process count on from it.
    #[must_use]
    pub fn new(run: RunId, first: SpoolId) -> Self {
        Self::with_limits(run, first, Limits::default())
    }

    /// No batches, and other limits than an agent's.
    #[must_use]
    pub fn with_limits(run: RunId, first: SpoolId, limits: Limits) -> Self {
        let spools = Spools {
            run,
            limits,
            schema: Schema::default(),
            live: Chain::new(first),
            closed: VecDeque::new(),
            figures: Figures::default(),
        };
        Self(Arc::new(Shared { spools: Mutex::new(spools), filled: Notify::new(), emptied: Notify::new() }))
    }

    /// Takes a window that closed. `schema` is the run's, at the version that the batch uses.
    pub fn push(&self, batch: &Batch, schema: &Schema) {
        self.lock().push(batch, schema);
        self.0.filled.notify_one();
    }

    /// Waits until something was pushed since the last wait.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// Waits until nothing is left to acknowledge.
    pub async fn emptied(&self) {
        while 0 < self.figures().depth {
            self.0.emptied.notified().await;
        }
    }

    /// The run that fills it.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.lock().run
    }

    /// Latest version of the run's schema that a batch used.
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        self.lock().schema.version()
    }

    /// What leads from one version of the schema (not included) to another.
    #[must_use]
    pub fn schema_changes(&self, held: u32, wanted: u32) -> Vec<SchemaChange> {
        self.lock().schema.changes_since(held).take_while(|change| change.version <= wanted).collect()
    }

    /// All spools held, the live one first.
    #[must_use]
    pub fn ids(&self) -> Vec<SpoolId> {
        self.lock().chains().map(|chain| chain.id).collect()
    }

    /// Begins a session: what the aggregator holds of each spool.
    pub fn welcome(&self, held: &[SpoolHeld]) {
        self.lock().welcome(held);
        self.0.emptied.notify_one();
    }

    /// The next batch to send in this session: of the live spool if it has one, else of the closed ones in order.
    #[must_use]
    pub fn next(&self) -> Option<EncodedBatch> {
        self.lock().next()
    }

    /// Forgets what is durable: all batches of the spool before `next`.
    pub fn ack(&self, spool: SpoolId, next: Seq) {
        self.lock().ack(spool, next);
        self.0.emptied.notify_one();
    }

    /// Figures for the agent's own metrics.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures
    }

    fn lock(&self) -> MutexGuard<'_, Spools> {
        // Nothing panics under the lock; if it did, the spools would still be whole batches.
        self.0.spools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Spools {
    run: RunId,
    limits: Limits,
    /// All versions that batches use.
    schema: Schema,
    live: Chain,
    /// The oldest first. None is empty.
    closed: VecDeque<Chain>,
    figures: Figures,
}

/// One ordered run of batches.
#[derive(Debug)]
struct Chain {
    id: SpoolId,
    next: Seq,
    batches: VecDeque<EncodedBatch>,
    /// Where decoding stands before the first batch.
    before: State,
    /// Where encoding stands behind the last batch.
    behind: State,
    /// Progress in this session: the first batch not sent, and the one that the receiver can decode without a keyframe.
    unsent: Seq,
    decodable: Option<Seq>,
}

impl Spools {
    fn push(&mut self, batch: &Batch, schema: &Schema) {
        for change in schema.changes_since(self.schema.version()) {
            // The schema given is the run's own, grown: its changes follow.
            if self.schema.apply(&change).is_err() {
                break;
            }
        }
        if self.limits.live_batches_max < self.live.batches.len() {
            let following = Chain::new(following(self.live.id));
            let closed = std::mem::replace(&mut self.live, following);
            // Nothing is encoded behind its last batch any more.
            self.closed.push_back(Chain { behind: State::default(), ..closed });
        }
        self.figures.bytes += self.live.push(self.run, batch, &self.schema);
        self.figures.depth += 1;
        while self.limits.batches_max < self.figures.depth || self.limits.bytes_max < self.figures.bytes {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.closed.front_mut().unwrap_or(&mut self.live);
        if let Some(bytes) = oldest.pop(&self.schema) {
            self.figures.bytes -= bytes;
            self.figures.depth -= 1;
            self.figures.dropped_total += 1;
        }
        self.closed.retain(|chain| !chain.batches.is_empty());
    }

    fn ack(&mut self, spool: SpoolId, next: Seq) {
        let Self { live, closed, schema, figures, .. } = self;
        for chain in std::iter::once(live).chain(closed).filter(|chain| chain.id == spool) {
            while chain.batches.front().is_some_and(|batch| batch.seq < next) {
                if let Some(bytes) = chain.pop(schema) {
                    figures.bytes -= bytes;
                    figures.depth -= 1;
                    figures.acknowledged_total += 1;
                }
            }
        }
        self.closed.retain(|chain| !chain.batches.is_empty());
    }

    fn welcome(&mut self, held: &[SpoolHeld]) {
        self.figures.sessions_total += 1;
        for chain in std::iter::once(&mut self.live).chain(&mut self.closed) {
            (chain.unsent, chain.decodable) = (Seq::default(), None);
        }
        for held in held {
            self.ack(held.spool, held.next);
            for chain in std::iter::once(&mut self.live).chain(&mut self.closed).filter(|chain| chain.id == held.spool)
            {
                chain.decodable = held.predecessor_held.then_some(held.next);
            }
        }
    }

    fn next(&mut self) -> Option<EncodedBatch> {
        let Self { live, closed, schema, figures, .. } = self;
        std::iter::once(live).chain(closed).find_map(|chain| chain.send(schema, figures))
    }

    fn chains(&self) -> impl Iterator<Item = &Chain> {
        std::iter::once(&self.live).chain(&self.closed)
    }
}

impl Chain {
    fn new(id: SpoolId) -> Self {
        Self {
            id,
            next: Seq::default(),
            batches: VecDeque::new(),
            before: State::default(),
            behind: State::default(),
            unsent: Seq::default(),
            decodable: None,
        }
    }

    /// Returns the bytes that the batch takes.
    fn push(&mut self, run: RunId, batch: &Batch, schema: &Schema) -> usize {
        let keyframe = self.next == Seq::default() || EncodedBatch::hour_begins(batch.stamp);
        if keyframe {
            self.behind = State::default();
        }
        let schema_version = schema.version();
        let encoded = EncodedBatch {
            run,
            spool: self.id,
            seq: self.next,
            schema_version,
            stamp: batch.stamp,
            codec: CODEC,
            keyframe,
            payload: codec::encode(batch, schema, schema_version, &mut self.behind),
        };
        let bytes = encoded.payload.len();
        self.batches.push_back(encoded);
        self.next = self.next.next();
        bytes
    }

    /// Removes the first batch and returns the bytes that it took.
    fn pop(&mut self, schema: &Schema) -> Option<usize> {
        let batch = self.batches.pop_front()?;
        // What this process encoded it can decode; if it could not, the next would have to be a keyframe.
        if decode(&batch, schema, &mut self.before).is_none() {
            self.before = State::default();
        }
        Some(batch.payload.len())
    }

    fn send(&mut self, schema: &Schema, figures: &mut Figures) -> Option<EncodedBatch> {
        let at = self.batches.partition_point(|batch| batch.seq < self.unsent);
        let batch = self.batches.get(at)?;
        if !batch.keyframe && self.decodable != Some(batch.seq) {
            self.encode_anew(schema, figures);
        }
        let batch = self.batches.get(at)?.clone();
        self.unsent = batch.seq.next();
        self.decodable = Some(self.unsent);
        Some(batch)
    }

    /// Makes the first batch a keyframe. Those behind it are coded against it, so they change too, until the next
    /// keyframe. Only the first batch can lack its predecessor: batches leave from the front.
    fn encode_anew(&mut self, schema: &Schema, figures: &mut Figures) {
        let mut read = std::mem::take(&mut self.before);
        let mut written = State::default();
        for (at, batch) in self.batches.iter_mut().enumerate() {
            if batch.keyframe {
                return;
            }
            let Some(decoded) = decode(batch, schema, &mut read) else { return };
            figures.bytes -= batch.payload.len();
            batch.keyframe = at == 0;
            batch.payload = codec::encode(&decoded, schema, batch.schema_version, &mut written);
            figures.bytes += batch.payload.len();
        }
        self.behind = written;
    }
}

fn decode(batch: &EncodedBatch, schema: &Schema, state: &mut State) -> Option<Batch> {
    if batch.keyframe {
        *state = State::default();
    }
    let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
    codec::decode(batch.codec, &batch.payload, against, state).ok()
}

fn following(id: SpoolId) -> SpoolId {
    SpoolId(u128::from_be_bytes(id.0).wrapping_add(1).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use common::metric::Decimals;
    use common::metric::Kind;
    use common::metric::Labels;
    use common::metric::Tier;
    use common::schema::Column;
    use common::schema::Entity;
    use common::schema::SeriesIndex;
    use common::time::Timestamp;
    use common::window::Gauge;
    use common::window::Window;

    use super::*;

    const LIMITS: Limits = Limits { batches_max: 8, bytes_max: 10_000, live_batches_max: 3 };

    fn schema() -> Schema {
        let column = Column {
            metric: "m".to_owned(),
            labels: Labels::new(),
            kind: Kind::Gauge,
            decimals: Decimals::new(0),
            peak: false,
            tier: Tier::Second,
        };
        let series = vec![(0, 0), (0, 0)];
        let entities = vec![Entity::default()];
        let mut schema = Schema::default();
        schema.apply(&SchemaChange { version: 1, entities, columns: vec![column], series, ended: vec![] }).unwrap();
        schema
    }

    /// The window of this number: one series always there, one in every other window.
    fn batch(number: i64) -> Batch {
        let value = Window::Gauge(Gauge::of(f64::from(i32::try_from(number * number).unwrap())));
        let samples = (0..2).filter(|series| *series == 0 || number % 2 == 0);
        Batch {
            stamp: Timestamp::from_seconds(7_200 + 20 + 10 * number),
            samples: samples.map(|series| (SeriesIndex(series), value)).collect(),
            ..Batch::default()
        }
    }

    fn filled(batches: i64) -> Spool {
        let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), LIMITS);
        (0..batches).for_each(|number| spool.push(&batch(number), &schema()));
        spool
    }

    /// Sends all, decodes as a receiver that holds what `held` says, and shows spool, seq and `k` for a keyframe.
    fn check(spool: &Spool, held: &[SpoolHeld], state: &mut State, expect: &str) {
        spool.welcome(held);
        let mut shown = Vec::new();
        let mut states = std::collections::BTreeMap::new();
        while let Some(sent) = spool.next() {
            let state = states.entry(sent.spool).or_insert_with(|| state.clone());
            let decoded = decode(&sent, &schema(), state).unwrap();
            let number = (decoded.stamp.as_millis() / 1_000 - 7_220) / 10;
            assert_eq!(decoded, batch(number));
            shown.push(format!("{}.{}{}", sent.spool.0[15], sent.seq.0, if sent.keyframe { "k" } else { "" }));
        }
        assert_eq!(shown.join(" "), expect);
    }

    #[test]
    fn live_batches_overtake_and_closed_spools_follow_in_order() {
        check(&filled(6), &[], &mut State::default(), "1.0k 1.1 0.0k 0.1 0.2 0.3");
        check(&filled(3), &[], &mut State::default(), "0.0k 0.1 0.2");
    }

    #[test]
    fn the_oldest_is_dropped_and_counted_and_what_follows_can_be_decoded() {
        let spool = filled(10);
        assert_eq!((spool.figures().depth, spool.figures().dropped_total), (8, 2));
        check(&spool, &[], &mut State::default(), "2.0k 2.1 0.2k 0.3 1.0k 1.1 1.2 1.3");
    }

    #[test]
    fn a_batch_dropped_within_a_session_makes_the_next_a_keyframe() {
        let spool = filled(1);
        spool.welcome(&[]);
        assert!(spool.next().unwrap().keyframe);
        (1..12).for_each(|number| spool.push(&batch(number), &schema()));
        let sent: Vec<_> =
            std::iter::from_fn(|| spool.next()).map(|batch| (batch.spool.0[15], batch.keyframe)).collect();
        assert_eq!(sent[0], (2, true));
        let rest: Vec<_> = sent.iter().filter(|(_, keyframe)| *keyframe).collect();
        assert_eq!(rest, [&(2, true), &(1, true)], "the first closed spool is gone, the second whole");
    }

    #[test]
    fn what_is_held_is_not_sent_again() {
        let id = SpoolId([0; 16]);
        let held = |predecessor_held| [SpoolHeld { spool: id, next: Seq(2), predecessor_held }];
        let mut state = State::default();
        let spool = filled(3);
        spool.welcome(&[]);
        for _ in 0..2 {
            decode(&spool.next().unwrap(), &schema(), &mut state).unwrap();
        }
        check(&spool, &held(true), &mut state, "0.2");
        check(&spool, &held(false), &mut State::default(), "0.2k");
        assert_eq!(spool.figures().depth, 1);
    }

    #[test]
    fn the_first_window_of_an_hour_is_a_keyframe() {
        let spool = filled(0);
        let mut shown = Vec::new();
        spool.welcome(&[]);
        for second in [3_590, 3_600, 3_610, 3_620] {
            spool.push(&Batch { stamp: Timestamp::from_seconds(second), ..Batch::default() }, &schema());
            shown.push(spool.next().unwrap().keyframe);
        }
        assert_eq!(shown, [true, false, true, false]);
    }
}
