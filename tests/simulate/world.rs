//! One host, one aggregator, one link between them, and everything that can go wrong.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use agent::config::DiskLimits;
use agent::recorder::Recorder;
use agent::spool::Limits;
use agent::spool::Spool;
use agent::uplink::dialogue::Dialogue;
use agent::uplink::dialogue::Heard as AgentHeard;
use agent::uplink::dialogue::IN_FLIGHT_MAX;
use agent::uplink::dialogue::Introduction;
use agent::uplink::recall::Recalls;
use aggregator::ingest::session::Failed;
use aggregator::ingest::session::Heard;
use aggregator::ingest::session::Session;
use aggregator::store::commit::Append;
use aggregator::store::commit::CommitError;
use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::Event;
use common::batch::Seq;
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
use common::wire::codec::CODEC;
use common::wire::codec::CODEC_VARINTS;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Ack;
use common::wire::message::Goodbye;
use common::wire::message::Lineage;
use common::wire::message::Message;

use crate::disk::Crash;
use crate::disk::Disk;
use crate::ledger::HOST;
use crate::ledger::Store;
use crate::random::Random;

/// Steps with faults, of a second each, and steps within which all must have drained afterwards.
const STEPS: u64 = 300;
const DRAIN_STEPS: u64 = 3_000;

const BATCHES_MAX: usize = 24;

/// What is written at once may exceed the limit until the oldest has gone, and so may files that a power loss brings back.
const DISK_SLACK: u64 = 6_000;

/// A window may wait for the disk half a minute, and then for the disk to do what else it was asked for.
const WAITED_MAX: u64 = 45;

/// A frame that neither side knows.
const UNKNOWN_FRAME: [u8; 6] = [200, 0xff, 3, 1, 2, 3];

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// A batch is held back until the next one of its spool has gone.
    LiveFirst,
    /// What is waiting to be committed is acknowledged.
    AckBeforeCommit,
    /// One batch more than is stored is acknowledged.
    AckTooMuch,
    /// A restarted store does not know what it holds.
    ForgetNext,
    /// The store says that it has each batch before at hand.
    AlwaysHeld,
    /// A version of a schema does not arrive.
    SkipSchema,
    /// The disk says that it wrote, and did not.
    WriteNothing,
    /// Files are not removed.
    NeverRemove,
    /// Files are not read.
    NeverRead,
    /// Batches go to disk when they have waited long.
    WriteLate,
    /// A later run does not look at all files.
    AdoptNotAll,
    /// Memory has no limit.
    NoLimit,
}

/// What happened, to show that the seeds reach it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) produced: u64,
    pub(crate) stored: u64,
    pub(crate) died: u64,
    pub(crate) dropped: u64,
    pub(crate) overtakings: u64,
    pub(crate) anew: u64,
    pub(crate) written: u64,
    pub(crate) replayed: u64,
    pub(crate) damaged: u64,
}

impl Summary {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            produced: self.produced + other.produced,
            stored: self.stored + other.stored,
            died: self.died + other.died,
            dropped: self.dropped + other.dropped,
            overtakings: self.overtakings + other.overtakings,
            anew: self.anew + other.anew,
            written: self.written + other.written,
            replayed: self.replayed + other.replayed,
            damaged: self.damaged + other.damaged,
        }
    }
}

/// Plays one seed.
pub(crate) fn simulate(seed: u64, sabotage: Sabotage) -> Result<Summary, String> {
    let mut world = World::new(seed, sabotage);
    for _ in 0..STEPS {
        world.produce();
        world.step()?;
        world.fault()?;
    }
    (world.down_until, world.full_until) = (0, 0);
    world.disk.refuses = false;
    for _ in 0..DRAIN_STEPS {
        world.step()?;
        if world.spool.figures().depth == 0 && !world.disk.is_busy() {
            match world.spool.job(world.now()) {
                Some(job) => world.disk.begin(job),
                None => return world.judge(),
            }
        }
    }
    Err(format!("{} batches do not drain", world.spool.figures().depth))
}

struct World {
    random: Random,
    sabotage: Sabotage,
    limits: Limits,
    step: u64,
    spool: Spool,
    disk: Disk,
    schema: Schema,
    dialogue: Option<Dialogue>,
    held_back: Option<Message>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    reader: Reader,
    session: Option<Session>,
    /// What it agreed on.
    codec: u8,
    waiting: Vec<Append>,
    store: Store,
    /// How far the aggregator's clock is ahead.
    ahead: Duration,
    /// How far stamps have jumped.
    jumped: i64,
    down_until: u64,
    full_until: u64,
    /// When the disk last refused something.
    refused_at: u64,
    /// Whether the store let go of batches before in this session.
    let_go: bool,
    /// Every window ever pushed, by its stamp.
    produced: BTreeMap<Timestamp, Batch>,
    /// Windows that died with their agent or its disk, and may be missing.
    died: BTreeSet<Timestamp>,
    /// Windows that the present agent pushed and that are not acknowledged, and when.
    own: BTreeMap<Timestamp, u64>,
    sent: BTreeMap<(SpoolId, Seq), Timestamp>,
    summary: Summary,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let bytes_max = [0, 3_000, 1 << 20][usize::try_from(random.below(3)).unwrap()];
        let age_max = Duration::from_secs(if random.chance(30) { 3_600 } else { 1 << 30 });
        let unlimited = sabotage == Sabotage::NoLimit;
        let limits = Limits {
            batches_max: if unlimited { usize::MAX } else { BATCHES_MAX },
            bytes_max: if unlimited { usize::MAX } else { 6_000 },
            live_batches_max: 6,
            disk: DiskLimits { bytes_max, age_max },
        };
        Self {
            spool: Spool::with_limits(random.run(), random.spool(), limits),
            random,
            sabotage,
            limits,
            step: 0,
            disk: Disk::default(),
            schema: Schema::default(),
            dialogue: None,
            held_back: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            reader: Reader::new(FRAME_BYTES_MAX),
            session: None,
            codec: CODEC,
            waiting: Vec::new(),
            store: Store::default(),
            ahead: Duration::ZERO,
            jumped: 0,
            down_until: 0,
            full_until: 0,
            refused_at: 0,
            let_go: false,
            produced: BTreeMap::new(),
            died: BTreeSet::new(),
            own: BTreeMap::new(),
            sent: BTreeMap::new(),
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
        let stamp = Timestamp::from_seconds(1_000_000_800 + 10 * number + self.jumped);
        let random = &mut self.random;
        let samples = self.schema.living(self.schema.version()).filter(|_| random.below(8) != 0);
        let samples: Vec<_> = samples.map(|(index, column)| (index, column.kind)).collect();
        let samples = samples.into_iter().map(|(index, kind)| (index, self.random.window(kind))).collect();
        let event = Event { at: stamp, kind: "k".to_owned(), entity: Labels::new(), text: String::new() };
        let events = if self.random.chance(5) { vec![event] } else { Vec::new() };
        let batch = Batch { stamp, samples, processes: Vec::new(), events };
        self.spool.push(&batch, &self.schema, self.now());
        self.own.insert(stamp, self.step);
        self.produced.insert(stamp, batch);
    }

    fn growth(&mut self) -> SchemaChange {
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
    fn step(&mut self) -> Result<(), String> {
        self.step += 1;
        if self.dialogue.is_none() && self.down_until <= self.step && self.random.chance(30) {
            self.connect();
        }
        self.work();
        for _ in 0..3 {
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
        }
        self.look()
    }

    /// The disk's part.
    fn work(&mut self) {
        let late = Duration::from_secs(if self.sabotage == Sabotage::WriteLate { 1_000 } else { 0 });
        let now = self.now();
        if !self.disk.is_busy()
            && let Some(job) = self.spool.job(now.saturating_sub(late))
        {
            self.disk.begin(job);
        }
        if self.random.chance(60)
            && let Some(outcome) = self.disk.finish(&mut self.random, self.sabotage)
        {
            if outcome.is_err() {
                self.refused_at = self.step;
            }
            self.spool.done(outcome, now);
        }
    }

    /// Memory and disk stay within their limits.
    fn look(&self) -> Result<(), String> {
        let in_memory = self.spool.figures().in_memory;
        if BATCHES_MAX < in_memory {
            return Err(format!("{in_memory} batches are in memory"));
        }
        let (bytes, bytes_max) = (self.disk.bytes() as u64, self.limits.disk.bytes_max);
        // What a disk kept that refused a write is not ours to count.
        if 0 < bytes_max && bytes_max + DISK_SLACK < bytes && self.refused_at == 0 {
            return Err(format!("{bytes} bytes are on disk"));
        }
        let waiting = self.waiting.iter().filter(|append| matches!(append, Append::Batch { .. })).count();
        if IN_FLIGHT_MAX < waiting {
            return Err(format!("{waiting} batches wait for their commit"));
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
            lineage: Lineage::default(),
        };
        let recalls = Recalls::new(Recorder::default(), self.spool.run());
        let (dialogue, hello) =
            Dialogue::open(self.spool.clone(), recalls, &introduction, (Timestamp::default(), Duration::ZERO));
        self.dialogue = Some(dialogue);
        self.session = Some(Session::new(HOST));
        self.reader = Reader::new(FRAME_BYTES_MAX);
        self.let_go = false;
        self.up.push_back(frame::encode(&hello));
    }

    fn speak(&mut self) {
        let now = self.now();
        let Some(message) = self.dialogue.as_mut().and_then(|dialogue| dialogue.next(now)) else { return };
        if self.random.chance(1) {
            self.up.push_back(UNKNOWN_FRAME.to_vec());
        }
        if let Message::Batch(batch) = &message {
            self.watch(batch);
            if self.sabotage == Sabotage::LiveFirst && self.held_back.is_none() {
                self.held_back = Some(message);
                return;
            }
        }
        if matches!(message, Message::Schema(_)) && self.sabotage == Sabotage::SkipSchema && self.random.chance(5) {
            return;
        }
        self.up.push_back(frame::encode(&message));
        self.up.extend(self.held_back.take().map(|message| frame::encode(&message)));
    }

    fn watch(&mut self, batch: &EncodedBatch) {
        self.sent.insert((batch.spool, batch.seq), batch.stamp);
        let named = self.spool.named();
        self.summary.overtakings += u64::from(named.len() > 1 && named[0].0 == batch.spool);
        self.summary.replayed += u64::from(batch.run != self.spool.run());
        let due = batch.seq.0 == 0 || EncodedBatch::quarter_begins(batch.stamp);
        self.summary.anew += u64::from(batch.keyframe && !due);
    }

    fn aggregator_hears(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.push(bytes);
        while let Some(message) = self.reader.next().map_err(|error| error.to_string())? {
            let Some(session) = &mut self.session else { return Ok(()) };
            if let Message::Batch(batch) = &message
                && self.codec < batch.codec
            {
                return Err(format!("a batch in codec {}, where {} was agreed", batch.codec, self.codec));
            }
            if let Heard::Hello(hello) = session.hear(message).map_err(|end| end.to_string())? {
                let mut held = self.store.held(hello.run, &hello.spools);
                if self.sabotage == Sabotage::AlwaysHeld {
                    held.spools.iter_mut().for_each(|spool| spool.predecessor_held = true);
                }
                // An older aggregator now and then.
                let known = if self.random.chance(30) { CODEC_VARINTS } else { CODEC };
                self.codec = hello.codec_max.min(known);
                let welcome = Session::welcome(
                    held,
                    "host",
                    self.codec,
                    (Timestamp::default(), Timestamp::default(), Duration::ZERO),
                );
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
        let mut appends = std::mem::take(&mut self.waiting);
        let full = self.step < self.full_until;
        let committed = if full { Err(CommitError::Full) } else { self.store.commit(&appends, self.wall()) };
        match committed.map_err(|error| (Session::fail(&error), error)) {
            Ok(committed) => self.acknowledge(Session::acknowledge(&committed)),
            Err((Failed::Retry, _)) => {
                self.waiting = appends;
                let (busy, _) = Session::new(HOST).hold_back(Duration::ZERO);
                self.down.push_back(frame::encode(&busy));
            }
            Err((Failed::End(at, _), error @ CommitError::Unfounded { .. })) if self.let_go => {
                appends.truncate(at);
                let committed = self.store.commit(&appends, self.wall()).map_err(|_| error.to_string())?;
                self.acknowledge(Session::acknowledge(&committed));
                self.session = None;
                self.dialogue = None;
            }
            Err((Failed::End(..), error)) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn acknowledge(&mut self, mut acks: Vec<Message>) {
        if self.sabotage == Sabotage::AckTooMuch {
            for ack in &mut acks {
                if let Message::Ack(ack) = ack {
                    ack.next = ack.next.next();
                }
            }
        }
        if self.random.chance(1) {
            self.down.push_back(UNKNOWN_FRAME.to_vec());
        }
        self.down.extend(acks.iter().map(frame::encode));
    }

    fn agent_hears(&mut self, bytes: &[u8]) -> Result<(), String> {
        let now = self.now();
        let mut reader = Reader::new(FRAME_BYTES_MAX);
        reader.push(bytes);
        let Some(message) = reader.next().map_err(|error| error.to_string())? else { return Ok(()) };
        if let Message::Ack(ack) = &message {
            for (_, stamp) in self.sent.range((ack.spool, Seq(0))..(ack.spool, ack.next)) {
                self.own.remove(stamp);
            }
        }
        match self.dialogue.as_mut().map(|dialogue| dialogue.hear(message, now)) {
            Some(AgentHeard::End(Goodbye { reason, text, .. })) => {
                Err(format!("the agent ends the session: {reason:?} {text}"))
            }
            _ => Ok(()),
        }
    }

    fn fault(&mut self) -> Result<(), String> {
        if self.random.once_in(150) {
            self.disconnect();
            // Mostly short, at times long enough that spools overflow.
            let long = if self.random.chance(30) { 300 } else { 40 };
            self.down_until = self.step + self.random.below(long);
        }
        if self.random.once_in(200) {
            self.crash()?;
        }
        if self.random.once_in(200) {
            self.disconnect();
            if self.random.chance(40) {
                self.store.restart_without_states();
            }
            if self.sabotage == Sabotage::ForgetNext {
                self.store.forget_next();
            }
        }
        if self.random.once_in(100) {
            self.full_until = self.step + self.random.below(50);
        }
        if self.random.once_in(200) {
            self.disk.refuses = !self.disk.refuses;
        }
        if self.random.once_in(500) {
            self.disk.corrupt(&mut self.random);
            self.died.extend(self.disk.damaged());
            self.summary.damaged += 1;
        }
        if self.random.once_in(400) {
            self.jumped += i64::try_from(self.random.below(7_200)).unwrap();
            self.ahead += Duration::from_secs(self.random.below(4_000));
        }
        if self.random.once_in(100) {
            self.store.let_go(self.wall());
            self.let_go = true;
        }
        Ok(())
    }

    /// The agent ends at once, and another begins on what it left.
    fn crash(&mut self) -> Result<(), String> {
        self.disconnect();
        let crash = if self.random.chance(50) { Crash::Process } else { Crash::Power };
        if self.random.chance(20) {
            // Told to stop: what is left goes to disk first.
            self.spool.leave();
            (0..20).for_each(|_| self.work());
        }
        self.died.extend(self.disk.damaged());
        let mut kept = self.disk.windows();
        self.disk.crash(crash, &mut self.random);
        kept.retain(|stamp| self.own.contains_key(stamp));
        let figures = self.spool.figures();
        let willing = 0 < self.limits.disk.bytes_max && !self.disk.refuses && figures.dropped_total == 0;
        for (stamp, pushed) in std::mem::take(&mut self.own) {
            if kept.contains(&stamp) {
                continue;
            }
            let waited = self.step - pushed.max(self.refused_at);
            if willing && WAITED_MAX < waited && self.store.stored().iter().all(|batch| batch.stamp != stamp) {
                return Err(format!("the window of {stamp} waited {waited} s and died with its agent"));
            }
            self.died.insert(stamp);
        }
        self.summary.dropped += figures.dropped_total;
        self.spool = Spool::with_limits(self.random.run(), self.random.spool(), self.limits);
        let skip = usize::from(self.sabotage == Sabotage::AdoptNotAll);
        self.disk.files.iter().skip(skip).for_each(|(number, file)| self.spool.adopt(*number, file));
        self.schema = Schema::default();
        Ok(())
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
        let dropped = self.summary.dropped + self.spool.figures().dropped_total;
        let mut seen = BTreeSet::new();
        for batch in self.store.stored() {
            if !seen.insert(batch.stamp) {
                return Err(format!("the window of {} is stored twice", batch.stamp));
            }
            if self.produced.get(&batch.stamp) != Some(batch) {
                return Err(format!("the window of {} is not what was pushed", batch.stamp));
            }
        }
        let missing = self.produced.keys().filter(|stamp| !seen.contains(stamp) && !self.died.contains(stamp));
        let missing: Vec<_> = missing.collect();
        if dropped < missing.len() as u64 {
            return Err(format!("{dropped} dropped, but {} lost: {missing:?}", missing.len()));
        }
        if !self.disk.files.is_empty() {
            return Err(format!("{} files are left", self.disk.files.len()));
        }
        self.summary.dropped = dropped;
        self.summary.written = self.disk.written;
        self.summary.produced = self.produced.len() as u64;
        self.summary.died = self.died.len() as u64;
        self.summary.stored = seen.len() as u64;
        Ok(self.summary)
    }

    /// Time since boot.
    fn now(&self) -> Duration {
        Duration::from_secs(self.step)
    }

    /// The aggregator's clock.
    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(1_000_000_000).after(self.ahead).after(self.now())
    }
}

pub(crate) fn column(kind: Kind) -> Column {
    Column {
        metric: "m".to_owned(),
        labels: Labels::new(),
        kind,
        decimals: Decimals::new(0),
        peak: false,
        tier: Tier::Second,
    }
}
