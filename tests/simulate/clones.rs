//! Two processes with one state, as those of a machine and its copy: the agent's real spools and dialogue, and what the
//! aggregator really judges by who is in session and what it holds. What is copied is the state directory, or the process
//! with its memory; links break, processes and the aggregator start again.
//!
//! What must hold: no window is stored twice, each is stored that its process did not give up when it was told that it is a
//! copy, and the two do not take turns.

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
use agent::uplink::dialogue::Introduction;
use agent::uplink::recall::Recalls;
use aggregator::ingest::lineage::Lineage;
use aggregator::ingest::session::End;
use aggregator::ingest::session::Failed;
use aggregator::ingest::session::Heard;
use aggregator::ingest::session::Session;
use aggregator::store::commit::Append;
use aggregator::store::commit::CommitError;
use common::batch::Batch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Kind;
use common::metric::Labels;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::wire::codec::CODEC;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message;
use common::wire::message::Copied;
use common::wire::message::Goodbye;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::SessionName;
use common::wire::message::SpoolHeld;
use common::wire::message::read_copied;
use common::wire::message::read_spool_ends;

use crate::disk::Crash;
use crate::disk::Disk;
use crate::ledger::HOST;
use crate::ledger::Store;
use crate::random::Random;
use crate::world;

/// Steps with faults, of a second each, and steps within which all must have drained afterwards.
const STEPS: u64 = 600;
const DRAIN_STEPS: u64 = 5_000;

/// How long somebody who was replaced or kept out stays away, as the agent does.
const PAUSE: u64 = 60;

/// How often one may take the other's place until the aggregator knows which of the two comes behind itself.
const TURNS_MAX: u64 = 2;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// Whoever greets is let in.
    LetIn,
    /// An agent is not told that more of its spools is held than it sent.
    HideHeld,
    /// A restarted store does not know what it holds.
    ForgetNext,
}

/// What happened, to show that the seeds reach it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) stored: u64,
    /// Times that an agent was told that it is there twice.
    pub(crate) told: u64,
    /// Windows that were given up for that.
    pub(crate) given_up: u64,
}

impl Summary {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            told: self.told + other.told,
            given_up: self.given_up + other.given_up,
        }
    }
}

/// Plays one seed.
pub(crate) fn simulate(seed: u64, sabotage: Sabotage) -> Result<Summary, String> {
    let mut world = World::new(seed, sabotage);
    let copied_at = 50 + world.random.below(200);
    for step in 0..STEPS {
        if step == copied_at {
            world.copy();
        }
        world.step(true)?;
        world.fault();
    }
    world.processes.iter_mut().for_each(|process| process.away_until = 0);
    for _ in 0..DRAIN_STEPS {
        world.step(false)?;
        if world.leave() {
            return world.judge();
        }
    }
    Err("they do not drain".to_owned())
}

/// What befell a spool since its process began: whoever goes through the same has the same memory.
#[derive(Clone)]
enum Befell {
    Pushed(Batch, Duration),
    Sent,
    Welcomed(Vec<SpoolHeld>),
    Acknowledged(SpoolId, Seq),
}

struct Process {
    first: (RunId, SpoolId),
    spool: Spool,
    disk: Disk,
    befell: Vec<Befell>,
    dialogue: Option<Dialogue>,
    session: SessionName,
    before: Option<SessionName>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    greeting: Session,
    away_until: u64,
    numbered: BTreeMap<(SpoolId, Seq), Timestamp>,
    /// Windows that it holds.
    own: BTreeSet<Timestamp>,
}

impl Process {
    fn new(first: (RunId, SpoolId), limits: Limits, disk: Disk) -> Self {
        let spool = Spool::with_limits(first.0, first.1, limits);
        disk.files.iter().for_each(|(number, file)| spool.adopt(*number, file));
        Self {
            first,
            spool,
            own: disk.windows(),
            disk,
            befell: Vec::new(),
            dialogue: None,
            session: SessionName::default(),
            before: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            greeting: Session::new(HOST),
            away_until: 0,
            numbered: BTreeMap::new(),
        }
    }

    /// A process that has the same memory.
    fn twin(&self, limits: Limits, schema: &Schema) -> Self {
        let mut twin = Self::new(self.first, limits, Disk::default());
        for befell in &self.befell {
            match befell {
                Befell::Pushed(batch, now) => twin.spool.push(batch, schema, *now),
                Befell::Sent => drop(twin.spool.next_live(|_| 0).or_else(|| twin.spool.next_backlog(|_| 0))),
                Befell::Welcomed(held) => twin.spool.welcome(held, CODEC),
                Befell::Acknowledged(spool, next) => twin.spool.ack(*spool, *next),
            }
        }
        twin.befell.clone_from(&self.befell);
        (twin.before, twin.numbered, twin.own) = (self.before, self.numbered.clone(), self.own.clone());
        twin
    }

    fn disconnect(&mut self) {
        self.dialogue = None;
        self.up.clear();
        self.down.clear();
    }

    fn acknowledged(&mut self, spool: SpoolId, next: Seq) {
        for (_, stamp) in self.numbered.range((spool, Seq(0))..(spool, next)) {
            self.own.remove(stamp);
        }
    }

    fn work(&mut self, random: &mut Random, now: Duration) {
        if !self.disk.is_busy()
            && let Some(job) = self.spool.job(now)
        {
            self.disk.begin(job);
        }
        if let Some(outcome) = self.disk.finish(random, world::Sabotage::None) {
            self.spool.done(outcome, now);
        }
    }
}

struct World {
    random: Random,
    sabotage: Sabotage,
    limits: Limits,
    /// Whether a copy has the memory of a process, and not its state directory.
    of_memory: bool,
    step: u64,
    schema: Schema,
    processes: Vec<Process>,
    store: Store,
    lineage: Lineage,
    /// Who is in session, and when the latest one ended.
    present: Option<usize>,
    left: Option<Timestamp>,
    sessions: u64,
    /// Times that one who was in session before took the place of the other, since the aggregator began.
    turns: u64,
    waiting: Vec<Append>,
    produced: BTreeMap<Timestamp, Batch>,
    given_up: BTreeSet<Timestamp>,
    summary: Summary,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let of_memory = random.chance(50);
        let disk = DiskLimits { bytes_max: if of_memory { 0 } else { 1 << 20 }, age_max: Duration::from_secs(1 << 30) };
        let limits = Limits { batches_max: 1_000, bytes_max: 1 << 30, live_batches_max: 6, disk };
        let first = (random.run(), random.spool());
        Self {
            random,
            sabotage,
            limits,
            of_memory,
            step: 0,
            schema: schema(),
            processes: vec![Process::new(first, limits, Disk::default())],
            store: Store::default(),
            lineage: Lineage::default(),
            present: None,
            left: None,
            sessions: 0,
            turns: 0,
            waiting: Vec::new(),
            produced: BTreeMap::new(),
            given_up: BTreeSet::new(),
            summary: Summary::default(),
        }
    }

    /// The machine is copied, and the copy begins.
    fn copy(&mut self) {
        let Self { random, processes, limits, .. } = self;
        let original = &processes[0];
        let copy = if self.of_memory {
            original.twin(*limits, &self.schema)
        } else {
            let mut disk = original.disk.clone();
            disk.crash(Crash::Process, random);
            Process::new((random.run(), random.spool()), *limits, disk)
        };
        processes.push(copy);
    }

    fn step(&mut self, producing: bool) -> Result<(), String> {
        self.step += 1;
        for at in 0..self.processes.len() {
            if producing && self.random.chance(10) {
                self.produce(at);
            }
            if self.processes[at].away_until <= self.step && self.random.chance(30) {
                self.connect(at);
            }
            let now = self.now();
            self.processes[at].work(&mut self.random, now);
            for _ in 0..3 {
                self.speak(at);
                self.aggregator_hears(at)?;
                self.commit()?;
                self.agent_hears(at)?;
            }
        }
        Ok(())
    }

    fn produce(&mut self, at: usize) {
        let stamp = Timestamp::from_seconds(1_000_000_000 + 10 * i64::try_from(self.produced.len()).unwrap());
        let samples = vec![(SeriesIndex(0), self.random.window(Kind::Gauge))];
        let (batch, now) = (Batch { stamp, samples, ..Batch::default() }, self.now());
        let process = &mut self.processes[at];
        process.spool.push(&batch, &self.schema, now);
        let (live, end) = process.spool.named()[0];
        process.numbered.insert((live, Seq(end.0 - 1)), stamp);
        process.own.insert(stamp);
        process.befell.push(Befell::Pushed(batch.clone(), now));
        self.produced.insert(stamp, batch);
    }

    fn connect(&mut self, at: usize) {
        if self.processes[at].dialogue.is_some() {
            return;
        }
        let mut session = SessionName::default();
        session.fill_with(|| u8::try_from(self.random.below(256)).unwrap());
        let process = &mut self.processes[at];
        let introduction = Introduction {
            agent_version: String::new(),
            boot_id: [0; 16],
            hostname: "host".to_owned(),
            labels: Labels::new(),
            lineage: message::Lineage { session, before: process.before },
        };
        let recalls = Recalls::new(Recorder::default(), process.first.0);
        let times = (Timestamp::default(), Duration::ZERO);
        let (dialogue, hello) = Dialogue::open(process.spool.clone(), recalls, &introduction, times);
        (process.dialogue, process.session, process.greeting) = (Some(dialogue), session, Session::new(HOST));
        process.up.push_back(frame::encode(&hello));
    }

    fn speak(&mut self, at: usize) {
        let now = self.now();
        let process = &mut self.processes[at];
        let Some(message) = process.dialogue.as_mut().and_then(|dialogue| dialogue.next(now)) else { return };
        if matches!(message, Message::Batch(_)) {
            process.befell.push(Befell::Sent);
        }
        process.up.push_back(frame::encode(&message));
    }

    fn aggregator_hears(&mut self, at: usize) -> Result<(), String> {
        if !self.random.chance(60) {
            return Ok(());
        }
        let process = &mut self.processes[at];
        let Some(message) = process.up.pop_front().map(|bytes| decoded(&bytes)).transpose()? else { return Ok(()) };
        if let Heard::Hello(hello) = process.greeting.hear(message).map_err(|end| end.to_string())? {
            self.greet(at, &hello)?;
        } else if self.present == Some(at) {
            self.lineage.welcomed(self.sessions);
            self.waiting.extend(self.processes[at].greeting.take());
        }
        Ok(())
    }

    /// As the aggregator's book does.
    fn greet(&mut self, at: usize, hello: &Hello) -> Result<(), String> {
        let left = self.left.filter(|_| self.present.is_none());
        let copied = self.lineage.judge(hello, left, self.wall());
        if let Some(copied) = copied.filter(|_| self.sabotage != Sabotage::LetIn) {
            self.say(at, &End::copied(copied).message(Duration::ZERO));
            return Ok(());
        }
        self.sessions += 1;
        self.lineage.greet(hello, self.sessions);
        if let Some(older) = self.present.replace(at).filter(|older| *older != at) {
            self.say(older, &End::replaced().message(Duration::ZERO));
            self.turns += u64::from(self.processes[older].before.is_some() && self.processes[at].before.is_some());
        }
        if TURNS_MAX < self.turns {
            return Err("they take turns".to_owned());
        }
        self.waiting.clear();
        let mut held = self.store.held(hello.run, &hello.spools);
        if self.sabotage == Sabotage::HideHeld {
            held.schema_version = held.schema_version.min(hello.schema_version);
            for (held, end) in held.spools.iter_mut().zip(read_spool_ends(&hello.ext)) {
                held.next = held.next.min(end);
            }
        }
        let times = (Timestamp::default(), Timestamp::default(), Duration::ZERO);
        self.say(at, &Session::welcome(held, "host", CODEC, times));
        Ok(())
    }

    fn say(&mut self, at: usize, message: &Message) {
        self.processes[at].down.push_back(frame::encode(message));
    }

    fn commit(&mut self) -> Result<(), String> {
        let Some(present) = self.present.filter(|_| !self.waiting.is_empty() && self.random.chance(70)) else {
            return Ok(());
        };
        let mut appends = std::mem::take(&mut self.waiting);
        let committed = match self.store.commit(&appends, self.wall()) {
            Err(error @ CommitError::Unfounded { .. }) => {
                let Failed::End(good, end) = Session::fail(&error) else { return Err(error.to_string()) };
                appends.truncate(good);
                self.say(present, &end.message(Duration::ZERO));
                self.store.commit(&appends, self.wall())
            }
            committed => committed,
        }
        .map_err(|error| error.to_string())?;
        Session::acknowledge(&committed).iter().for_each(|ack| self.say(present, ack));
        Ok(())
    }

    fn agent_hears(&mut self, at: usize) -> Result<(), String> {
        let (now, step) = (self.now(), self.step);
        if !self.random.chance(60) {
            return Ok(());
        }
        let process = &mut self.processes[at];
        let Some(message) = process.down.pop_front().map(|bytes| decoded(&bytes)).transpose()? else { return Ok(()) };
        let acknowledged = if let Message::Ack(ack) = &message { Some((ack.spool, ack.next)) } else { None };
        match process.dialogue.as_mut().map(|dialogue| dialogue.hear(message, now)) {
            Some(AgentHeard::Welcome(welcome)) => {
                process.before = Some(process.session);
                welcome.spools.iter().for_each(|held| process.acknowledged(held.spool, held.next));
                process.befell.push(Befell::Welcomed(welcome.spools));
            }
            Some(AgentHeard::Copied(_)) => return self.begin_anew(at),
            Some(AgentHeard::End(Goodbye { ext, .. })) => {
                self.disconnect(at);
                self.processes[at].away_until = step + PAUSE;
                match read_copied(&ext) {
                    Some(Copied::Process) => return self.begin_anew(at),
                    Some(Copied::State) => self.summary.told += 1,
                    None => {}
                }
            }
            _ => {
                if let Some((spool, next)) = acknowledged {
                    process.acknowledged(spool, next);
                    process.befell.push(Befell::Acknowledged(spool, next));
                }
            }
        }
        Ok(())
    }

    /// The process is told that it goes on elsewhere too: it gives up what has numbers that the other one gave away.
    fn begin_anew(&mut self, at: usize) -> Result<(), String> {
        self.disconnect(at);
        let first = (self.random.run(), self.random.spool());
        let process = &mut self.processes[at];
        let dropped = process.spool.renounce();
        if dropped != process.own.len() as u64 {
            return Err(format!("{dropped} were given up, but {} held", process.own.len()));
        }
        self.summary.told += 1;
        self.summary.given_up += dropped;
        self.given_up.append(&mut process.own);
        *process = Process::new(first, self.limits, Disk::default());
        Ok(())
    }

    fn fault(&mut self) {
        let at = usize::try_from(self.random.below(self.processes.len() as u64)).unwrap();
        if self.random.once_in(60) {
            self.disconnect(at);
            let long = if self.random.chance(30) { 200 } else { 20 };
            self.processes[at].away_until = self.step + self.random.below(long);
        }
        if !self.of_memory && self.random.once_in(150) {
            self.restart(at);
        }
        if self.random.once_in(200) {
            self.restart_aggregator();
        }
    }

    /// The agent stops in good order, and begins again.
    fn restart(&mut self, at: usize) {
        self.disconnect(at);
        let (now, first) = (self.now(), (self.random.run(), self.random.spool()));
        let process = &mut self.processes[at];
        process.spool.leave();
        (0..100).for_each(|_| process.work(&mut self.random, now));
        *process = Process::new(first, self.limits, std::mem::take(&mut process.disk));
    }

    fn restart_aggregator(&mut self) {
        (0..self.processes.len()).for_each(|at| self.disconnect(at));
        (self.lineage, self.left, self.turns) = (Lineage::default(), None, 0);
        if self.random.chance(40) {
            self.store.restart_without_states();
        }
        if self.sabotage == Sabotage::ForgetNext {
            self.store.forget_next();
        }
    }

    fn disconnect(&mut self, at: usize) {
        self.processes[at].disconnect();
        if self.present.take_if(|present| *present == at).is_some() {
            self.left = Some(self.wall());
            self.waiting.clear();
        }
    }

    /// Whoever has nothing left goes for good. Whether all have.
    fn leave(&mut self) -> bool {
        if let Some(at) = self.present
            && self.processes[at].spool.figures().depth == 0
        {
            self.disconnect(at);
            self.processes[at].away_until = u64::MAX;
        }
        self.processes.iter().all(|process| process.away_until == u64::MAX)
    }

    fn judge(mut self) -> Result<Summary, String> {
        let mut seen = BTreeSet::new();
        for batch in self.store.stored() {
            if !seen.insert(batch.stamp) {
                return Err(format!("the window of {} is stored twice", batch.stamp));
            }
            if self.produced.get(&batch.stamp) != Some(batch) {
                return Err(format!("the window of {} is not what was pushed", batch.stamp));
            }
        }
        let missing = self.produced.keys().filter(|stamp| !seen.contains(stamp) && !self.given_up.contains(stamp));
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            return Err(format!("{} windows are lost: {missing:?}", missing.len()));
        }
        self.summary.stored = seen.len() as u64;
        Ok(self.summary)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.step)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(1_000_000_000).after(self.now())
    }
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    let change = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: vec![world::column(Kind::Gauge)],
        series: vec![(0, 0)],
        ended: Vec::new(),
    };
    schema.apply(&change).unwrap();
    schema
}

fn decoded(bytes: &[u8]) -> Result<Message, String> {
    let mut reader = Reader::new(FRAME_BYTES_MAX);
    reader.push(bytes);
    reader.next().map_err(|error| error.to_string())?.ok_or_else(|| "no whole message".to_owned())
}
