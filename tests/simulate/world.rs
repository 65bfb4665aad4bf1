//! One agent, one aggregator, one link between them, and everything that can go wrong.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use agent::config::DiskLimits;
use agent::spool::Limits;
use agent::spool::Spool;
use agent::uplink::dialogue::Dialogue;
use agent::uplink::dialogue::Heard as AgentHeard;
use agent::uplink::dialogue::Introduction;
use aggregator::ingest::session::Failed;
use aggregator::ingest::session::Heard;
use aggregator::ingest::session::Session;
use aggregator::store::commit::Append;
use aggregator::store::commit::CommitError;
use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::Event;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::SpoolId;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::window::Counter;
use common::window::Gauge;
use common::window::Window;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Ack;
use common::wire::message::Message;

use crate::ledger::Ledger;

/// Steps with faults, and steps within which all must have drained afterwards.
const STEPS: u64 = 600;
const DRAIN_STEPS: u64 = 2_000;

const DISK: DiskLimits = DiskLimits { bytes_max: 0, age_max: Duration::ZERO };
const LIMITS: Limits = Limits { batches_max: 24, bytes_max: 4_000, live_batches_max: 6, disk: DISK };

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// A batch is held back until the next one of its spool has gone.
    LiveFirst,
    /// What is waiting to be committed is acknowledged.
    AckBeforeCommit,
    /// A restarted store does not know what it holds.
    ForgetNext,
}

/// What happened, to show that the seeds reach it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) produced: u64,
    pub(crate) stored: u64,
    pub(crate) dropped: u64,
    pub(crate) overtakings: u64,
    pub(crate) anew: u64,
}

impl Summary {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            produced: self.produced + other.produced,
            stored: self.stored + other.stored,
            dropped: self.dropped + other.dropped,
            overtakings: self.overtakings + other.overtakings,
            anew: self.anew + other.anew,
        }
    }
}

/// Plays one seed.
pub(crate) fn simulate(seed: u64, sabotage: Sabotage) -> Result<Summary, String> {
    let mut world = World::new(seed, sabotage);
    for step in 0..STEPS {
        world.produce();
        world.step(step)?;
        world.fault();
    }
    (world.down_until, world.full_until) = (0, 0);
    for step in STEPS..STEPS + DRAIN_STEPS {
        world.step(step)?;
        if world.spool.figures().depth == 0 {
            return world.judge();
        }
    }
    Err(format!("{} batches do not drain", world.spool.figures().depth))
}

struct World {
    random: Random,
    sabotage: Sabotage,
    step: u64,
    spool: Spool,
    schema: Schema,
    dialogue: Option<Dialogue>,
    held_back: Option<Message>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    reader: Reader,
    session: Option<Session>,
    waiting: Vec<Append>,
    ledger: Ledger,
    down_until: u64,
    full_until: u64,
    /// Every window ever pushed, by its stamp.
    produced: BTreeMap<Timestamp, Batch>,
    /// Windows that died with their agent, and may be missing.
    died: BTreeSet<Timestamp>,
    /// Windows that the present agent pushed.
    own: BTreeSet<Timestamp>,
    summary: Summary,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self {
            spool: random.spool(),
            random,
            sabotage,
            step: 0,
            schema: Schema::default(),
            dialogue: None,
            held_back: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            reader: Reader::new(FRAME_BYTES_MAX),
            session: None,
            waiting: Vec::new(),
            ledger: Ledger::default(),
            down_until: 0,
            full_until: 0,
            produced: BTreeMap::new(),
            died: BTreeSet::new(),
            own: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    /// The sampler: a window now and then, the schema growing and shrinking under it.
    fn produce(&mut self) {
        if !self.random.chance(30) {
            return;
        }
        if self.schema.version() == 0 || self.random.chance(5) {
            let change = self.growth();
            self.schema.apply(&change).unwrap();
        }
        let number = i64::try_from(self.produced.len()).unwrap();
        // Started at an hour's end, so that some windows begin one.
        let stamp = Timestamp::from_seconds(1_000_000_800 + 10 * number);
        let random = &mut self.random;
        let samples = self.schema.living(self.schema.version()).filter(|_| random.below(8) != 0);
        let samples: Vec<_> = samples.map(|(index, column)| (index, column.kind)).collect();
        let samples = samples.into_iter().map(|(index, kind)| (index, self.random.window(kind))).collect();
        let event = Event { at: stamp, kind: "k".to_owned(), entity: Labels::new(), text: String::new() };
        let events = if self.random.chance(5) { vec![event] } else { Vec::new() };
        let batch = Batch { stamp, samples, processes: Vec::new(), events };
        self.spool.push(&batch, &self.schema, self.now());
        self.own.insert(stamp);
        self.produced.insert(stamp, batch);
    }

    fn growth(&mut self) -> SchemaChange {
        let column = |kind| Column {
            metric: "m".to_owned(),
            labels: Labels::new(),
            kind,
            decimals: Decimals::new(0),
            peak: false,
            tier: Tier::Second,
        };
        let first = self.schema.version() == 0;
        let ended = self.random.below(4);
        SchemaChange {
            version: self.schema.version() + 1,
            entities: first.then(Entity::default).into_iter().collect(),
            columns: if first { vec![column(Kind::Gauge), column(Kind::Counter)] } else { Vec::new() },
            series: vec![(0, 0), (0, 1)],
            ended: if first { Vec::new() } else { vec![SeriesIndex(u32::try_from(ended).unwrap() % 2)] },
        }
    }

    /// Everybody does what there is to do; the link delivers now and then.
    fn step(&mut self, step: u64) -> Result<(), String> {
        self.step = step;
        if self.dialogue.is_none() && self.down_until <= step && self.random.chance(30) {
            self.connect();
        }
        self.speak();
        if self.random.chance(60)
            && let Some(bytes) = self.up.pop_front()
        {
            self.aggregator_hears(&bytes)?;
        }
        self.commit()?;
        if self.random.chance(60)
            && let Some(bytes) = self.down.pop_front()
        {
            self.agent_hears(&bytes)?;
        }
        Ok(())
    }

    fn connect(&mut self) {
        self.disconnect();
        let introduction = Introduction {
            agent_version: String::new(),
            boot_id: [0; 16],
            hostname: "host".to_owned(),
            labels: Labels::new(),
        };
        let (dialogue, hello) = Dialogue::open(self.spool.clone(), &introduction, Timestamp::default());
        self.dialogue = Some(dialogue);
        self.session = Some(Session::new(HostId(1)));
        self.reader = Reader::new(FRAME_BYTES_MAX);
        self.up.push_back(frame::encode(&hello));
    }

    fn speak(&mut self) {
        let now = self.now();
        let Some(message) = self.dialogue.as_mut().and_then(|dialogue| dialogue.next(now)) else { return };
        if let Message::Batch(batch) = &message {
            self.watch(batch);
            if self.sabotage == Sabotage::LiveFirst && self.held_back.is_none() {
                self.held_back = Some(message);
                return;
            }
        }
        self.up.push_back(frame::encode(&message));
        self.up.extend(self.held_back.take().map(|message| frame::encode(&message)));
    }

    fn watch(&mut self, batch: &EncodedBatch) {
        let ids = self.spool.ids();
        self.summary.overtakings += u64::from(ids.len() > 1 && ids[0] == batch.spool);
        let due = batch.seq.0 == 0 || EncodedBatch::hour_begins(batch.stamp);
        self.summary.anew += u64::from(batch.keyframe && !due);
    }

    fn aggregator_hears(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.push(bytes);
        while let Some(message) = self.reader.next().map_err(|error| error.to_string())? {
            let Some(session) = &mut self.session else { return Ok(()) };
            if let Heard::Hello(hello) = session.hear(message).map_err(|end| end.to_string())? {
                let held = self.ledger.held(hello.run, &hello.spools);
                let welcome = Session::welcome(held, "host", Timestamp::default(), Timestamp::default());
                self.down.push_back(frame::encode(&welcome));
            }
            self.waiting.extend(session.take());
        }
        if self.sabotage == Sabotage::AckBeforeCommit {
            for append in &self.waiting {
                if let Append::Batch { batch, .. } = append {
                    let ack = Ack { spool: batch.spool, next: batch.seq.next(), ext: Vec::new() };
                    self.down.push_back(frame::encode(&Message::Ack(ack)));
                }
            }
        }
        Ok(())
    }

    /// The shell's part: what waits is committed whole and then acknowledged, or the agent is told to wait.
    fn commit(&mut self) -> Result<(), String> {
        if self.waiting.is_empty() || !self.random.chance(70) {
            return Ok(());
        }
        if self.step < self.full_until {
            let Failed::Retry(busy, _) = Session::fail(&CommitError::Full) else {
                return Err("a full disk ends a session".to_owned());
            };
            self.down.push_back(frame::encode(&busy));
            return Ok(());
        }
        let committed = self.ledger.commit(&std::mem::take(&mut self.waiting))?;
        self.down.extend(Session::acknowledge(&committed).iter().map(frame::encode));
        Ok(())
    }

    fn agent_hears(&mut self, bytes: &[u8]) -> Result<(), String> {
        let now = self.now();
        let mut reader = Reader::new(FRAME_BYTES_MAX);
        reader.push(bytes);
        let message = reader.next().map_err(|error| error.to_string())?.ok_or("half a frame")?;
        match self.dialogue.as_mut().map(|dialogue| dialogue.hear(message, now)) {
            Some(AgentHeard::End(reason, text)) => Err(format!("the agent ends the session: {reason:?} {text}")),
            _ => Ok(()),
        }
    }

    fn fault(&mut self) {
        if self.random.chance(2) {
            self.disconnect();
            // Mostly short, at times long enough that the spool overflows.
            let long = if self.random.chance(20) { 200 } else { 20 };
            self.down_until = self.step + self.random.below(long);
        }
        if self.random.below(200) == 0 {
            self.disconnect();
            self.died.append(&mut self.own);
            self.summary.dropped += self.spool.figures().dropped_total;
            self.spool = self.random.spool();
            self.schema = Schema::default();
        }
        if self.random.chance(1) {
            self.disconnect();
            if self.random.chance(30) {
                self.ledger.forget_states();
            }
            if self.sabotage == Sabotage::ForgetNext {
                self.ledger.forget_next();
            }
        }
        if self.random.chance(1) {
            self.full_until = self.step + self.random.below(50);
        }
    }

    /// The link is lost with all that is under way; what waits for its commit is lost with the session.
    fn disconnect(&mut self) {
        self.dialogue = None;
        self.session = None;
        self.held_back = None;
        self.up.clear();
        self.down.clear();
        self.waiting.clear();
    }

    fn judge(mut self) -> Result<Summary, String> {
        let dropped = self.spool.figures().dropped_total;
        self.summary.dropped += dropped;
        let mut seen = BTreeSet::new();
        for batch in self.ledger.stored() {
            if !seen.insert(batch.stamp) {
                return Err(format!("the window of {} is stored twice", batch.stamp));
            }
            if self.produced.get(&batch.stamp) != Some(batch) {
                return Err(format!("the window of {} is not what was pushed", batch.stamp));
            }
        }
        let missing: Vec<_> = self.own.iter().filter(|stamp| !seen.contains(stamp)).collect();
        if dropped < missing.len() as u64 {
            return Err(format!("{dropped} dropped, but {} lost: {missing:?}", missing.len()));
        }
        self.summary.produced = self.produced.len() as u64;
        self.summary.stored = seen.len() as u64;
        Ok(self.summary)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(100 * self.step)
    }
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn id(&mut self) -> [u8; 16] {
        (u128::from(self.below(u64::MAX)) << 64 | u128::from(self.below(u64::MAX))).to_be_bytes()
    }

    fn spool(&mut self) -> Spool {
        Spool::with_limits(RunId(self.id()), SpoolId(self.id()), LIMITS)
    }

    fn window(&mut self, kind: Kind) -> Window {
        let value = f64::from(u32::try_from(self.below(1_000)).unwrap());
        match kind {
            Kind::Gauge => Window::Gauge(Gauge::of(value)),
            Kind::Counter => Window::Counter(Counter { count: 10, last: value, increase: value, peak: 0.0 }),
        }
    }
}
