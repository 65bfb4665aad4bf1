//! What the agent says in one session, and when. Pure: messages in, messages out.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Labels;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::CODEC;
use common::wire::message::ANSWERS_RECALL;
use common::wire::message::Ack;
use common::wire::message::Goodbye;
use common::wire::message::Hello;
use common::wire::message::Lineage;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::SchemaMessage;
use common::wire::message::TAKES_SETTINGS;
use common::wire::message::Welcome;
use common::wire::message::abilities;
use common::wire::message::lineage;
use common::wire::message::spool_ends;

use crate::spool::Outgoing;
use crate::spool::Spool;
use crate::uplink::recall::Recalls;

/// Batches sent and not acknowledged: enough that a backlog of an hour drains in a few round trips, few enough that an
/// aggregator never holds much of one host.
pub const IN_FLIGHT_MAX: usize = 32;

/// Those of them that may be of the backlog: a live batch never waits for one of them.
pub const BACKLOG_IN_FLIGHT_MAX: usize = 24;

/// The backlog is paced, so that an agent that catches up costs a few per cent of a core: between two of its batches
/// passes this long, and longer behind a large one.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);
const BACKLOG_BYTES_PER_SECOND: u32 = 1 << 20;

/// Who the agent is, for `Hello`.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// Version of this program.
    pub agent_version: String,
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// Name of the host.
    pub hostname: String,
    /// Labels from the configuration.
    pub labels: Labels,
    /// Which session it opens, and which was before.
    pub lineage: Lineage,
}

/// One session.
#[derive(Debug)]
pub struct Dialogue {
    spool: Spool,
    welcomed: bool,
    /// The run that `Hello` named, and the version of its schema: another one may begin before the welcome.
    named: (RunId, u32),
    /// Version of each run's schema that the aggregator has, or will have when it reads on.
    schemas: BTreeMap<RunId, u32>,
    /// A batch, and the schema versions before it that it needs.
    waiting: VecDeque<Message>,
    in_flight: VecDeque<InFlight>,
    silent_until: Duration,
    is_busy: bool,
    /// When the next batch of the backlog may go.
    backlog_at: Duration,
    recalls: Recalls,
    asked_at: Duration,
}

#[derive(Debug)]
struct InFlight {
    spool: SpoolId,
    seq: Seq,
    is_backlog: bool,
}

/// What a message from the aggregator asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Go on.
    Nothing,
    /// The session is open: set the stamps to this time.
    Welcome(Welcome),
    /// The aggregator cannot store at present; nothing is sent for so long.
    Busy(Duration),
    /// The aggregator sets a part of the configuration; [`Dialogue::answer`] says what became of it.
    Settings(String),
    /// The aggregator, whose time this is, holds what this process would say and has not said: another process says it.
    Copied(Timestamp),
    /// The session is over, for what the aggregator says or for something that it may not say.
    End(Goodbye),
}

impl Dialogue {
    /// Opens with `Hello`. `wall` is the host's clock, `now` time since boot.
    #[must_use]
    pub fn open(
        spool: Spool,
        recalls: Recalls,
        introduction: &Introduction,
        (wall, now): (Timestamp, Duration),
    ) -> (Self, Message) {
        let (spools, ends): (Vec<_>, Vec<_>) = spool.named().into_iter().unzip();
        let named @ (run, schema_version) = spool.schema();
        let hello = Hello {
            agent_version: introduction.agent_version.clone(),
            run,
            schema_version,
            spools,
            codec_max: CODEC,
            boot_id: introduction.boot_id,
            hostname: introduction.hostname.clone(),
            labels: introduction.labels.clone(),
            wall,
            ext: vec![spool_ends(ends), abilities(ANSWERS_RECALL | TAKES_SETTINGS), lineage(introduction.lineage)],
        };
        let dialogue = Self {
            spool,
            welcomed: false,
            named,
            schemas: BTreeMap::new(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            silent_until: Duration::ZERO,
            is_busy: false,
            backlog_at: Duration::ZERO,
            recalls,
            asked_at: now,
        };
        (dialogue, Message::Hello(hello))
    }

    /// When the session was opened: the aggregator read the time of its welcome later than that.
    #[must_use]
    pub const fn asked_at(&self) -> Duration {
        self.asked_at
    }

    /// Takes a message. `now` is time since boot.
    pub fn hear(&mut self, message: Message, now: Duration) -> Heard {
        match message {
            Message::Welcome(welcome) => self.welcome(welcome),
            Message::Ack(ack) => self.ack(&ack),
            Message::Busy(busy) => {
                let pause = Duration::from_millis(busy.retry_ms.into());
                self.silent_until = now.saturating_add(pause);
                self.is_busy = true;
                Heard::Busy(pause)
            }
            Message::Goodbye(goodbye) => Heard::End(goodbye),
            Message::Recall(recall) => {
                self.recalls.ask(&recall);
                Heard::Nothing
            }
            Message::Settings(settings) => Heard::Settings(settings.text),
            Message::Hello(_)
            | Message::Schema(_)
            | Message::Batch(_)
            | Message::Enroll(_)
            | Message::Enrolled(_)
            | Message::Recorded(_)
            | Message::Settled(_) => {
                Heard::End(words(Reason::Malformed, "the aggregator said what only an agent says"))
            }
        }
    }

    /// Sends this before anything else.
    pub fn answer(&mut self, message: Message) {
        self.waiting.push_front(message);
    }

    /// The next message to send, if it is time for one.
    pub fn next(&mut self, now: Duration) -> Option<Message> {
        if !self.welcomed || now < self.silent_until {
            return None;
        }
        if self.waiting.is_empty()
            && let Some((outgoing, is_backlog)) = self.outgoing(now)
        {
            self.send(outgoing, is_backlog);
        }
        self.waiting.pop_front().or_else(|| self.recalls.next(now))
    }

    fn outgoing(&mut self, now: Duration) -> Option<(Outgoing, bool)> {
        if IN_FLIGHT_MAX <= self.in_flight.len() {
            return None;
        }
        let held = |run: RunId| self.schemas.get(&run).copied().unwrap_or(0);
        if let Some(live) = self.spool.next_live(held) {
            return Some((live, false));
        }
        if now < self.backlog_at || BACKLOG_IN_FLIGHT_MAX <= self.backlog_in_flight() {
            return None;
        }
        let backlog = self.spool.next_backlog(held)?;
        let bytes = u32::try_from(backlog.batch.payload.len()).unwrap_or(u32::MAX);
        let pause = BACKLOG_PAUSE.max(Duration::from_secs(1) * bytes / BACKLOG_BYTES_PER_SECOND);
        self.backlog_at = now.saturating_add(pause);
        Some((backlog, true))
    }

    fn backlog_in_flight(&self) -> usize {
        self.in_flight.iter().filter(|sent| sent.is_backlog).count()
    }

    fn send(&mut self, Outgoing { changes, batch }: Outgoing, is_backlog: bool) {
        let run = batch.run;
        let held = self.schemas.entry(run).or_default();
        *held = batch.schema_version.max(*held);
        let schemas = changes.into_iter().map(|change| SchemaMessage { run, change, ext: Vec::new() });
        self.waiting.extend(schemas.map(Message::Schema));
        self.in_flight.push_back(InFlight { spool: batch.spool, seq: batch.seq, is_backlog });
        self.waiting.push_back(Message::Batch(batch));
    }

    /// Whether the aggregator has opened the session.
    #[must_use]
    pub const fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    /// Whether the aggregator could not store when it was asked last.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// When there may be something to send without anything else happening, in time since boot; none if not for time
    /// alone.
    #[must_use]
    pub fn wakes_at(&self, now: Duration) -> Option<Duration> {
        if now < self.silent_until {
            return Some(self.silent_until);
        }
        let backlog = (now < self.backlog_at).then_some(self.backlog_at);
        backlog.into_iter().chain(self.recalls.wakes_at(now)).min()
    }

    /// Waits until there may be something to send of what is recorded.
    pub async fn recorded(&self) {
        self.recalls.recorded().await;
    }

    fn welcome(&mut self, welcome: Welcome) -> Heard {
        if self.welcomed {
            return Heard::End(words(Reason::Malformed, "the aggregator said welcome twice"));
        }
        if !codec::is_known(welcome.codec) {
            let text = format!("the aggregator wants codec {}; update this agent", welcome.codec);
            return Heard::End(words(Reason::Error, &text));
        }
        let (run, schema_version) = self.named;
        if schema_version < welcome.schema_version || self.spool.is_behind(&welcome.spools) {
            return Heard::Copied(welcome.now);
        }
        self.spool.welcome(&welcome.spools, welcome.codec);
        self.schemas.insert(run, welcome.schema_version);
        self.welcomed = true;
        Heard::Welcome(welcome)
    }

    fn ack(&mut self, ack: &Ack) -> Heard {
        self.in_flight.retain(|sent| sent.spool != ack.spool || ack.next <= sent.seq);
        self.spool.ack(ack.spool, ack.next);
        self.is_busy = false;
        Heard::Nothing
    }
}

/// The last words of a session.
#[must_use]
pub fn goodbye(reason: Reason, text: &str) -> Message {
    Message::Goodbye(words(reason, text))
}

fn words(reason: Reason, text: &str) -> Goodbye {
    Goodbye { reason: reason as u16, text: text.to_owned(), ext: Vec::new() }
}

#[cfg(test)]
mod tests {
    use common::batch::Batch;
    use common::schema::Entity;
    use common::schema::Schema;
    use common::schema::SchemaChange;
    use common::wire::message::Busy;

    use super::*;
    use crate::recorder::Recorder;

    fn opened(spool: &Spool) -> Dialogue {
        let recalls = Recalls::new(Recorder::default(), spool.run());
        let introduction = Introduction {
            agent_version: String::new(),
            boot_id: [0; 16],
            hostname: String::new(),
            labels: Labels::new(),
            lineage: Lineage { session: [1; 16], before: None },
        };
        Dialogue::open(spool.clone(), recalls, &introduction, (Timestamp::default(), Duration::ZERO)).0
    }

    #[test]
    fn an_aggregator_is_busy_until_it_takes_something() {
        let mut dialogue = opened(&Spool::new(RunId([1; 16]), SpoolId([1; 16])));
        let mut check = |message: Message, expect: bool| {
            dialogue.hear(message, Duration::ZERO);
            assert_eq!(dialogue.is_busy(), expect);
        };
        let busy = || Message::Busy(Busy { retry_ms: 2_000, ext: Vec::new() });
        let ack = || Message::Ack(Ack { spool: SpoolId([1; 16]), next: Seq(0), ext: Vec::new() });
        for _ in 0..2 {
            check(ack(), false);
            check(busy(), true);
            check(busy(), true);
        }
    }

    #[test]
    fn a_run_that_begins_before_the_welcome_is_no_copy_and_tells_its_whole_schema() {
        let schema = |versions: u32| {
            let mut schema = Schema::default();
            for version in 1..=versions {
                let entities = vec![Entity::default()];
                schema.apply(&SchemaChange { version, entities, ..SchemaChange::default() }).unwrap();
            }
            schema
        };
        let batch = |second| Batch { stamp: Timestamp::from_seconds(second), ..Batch::default() };
        let check = |versions_of_next: u32| {
            let spool = Spool::new(RunId([1; 16]), SpoolId([1; 16]));
            let first = spool.run();
            spool.push(&batch(10), &schema(2), Duration::ZERO);
            let mut dialogue = opened(&spool);
            spool.renew();
            spool.push(&batch(20), &schema(versions_of_next), Duration::ZERO);
            let welcome = Welcome {
                now: Timestamp::default(),
                instance: String::new(),
                schema_version: 2,
                spools: Vec::new(),
                codec: CODEC,
                frame_bytes_max: 1 << 20,
                ext: Vec::new(),
            };
            let heard = dialogue.hear(Message::Welcome(welcome.clone()), Duration::ZERO);
            assert_eq!(heard, Heard::Welcome(welcome));
            let mut told = BTreeMap::new();
            while let Some(message) = dialogue.next(Duration::from_secs(1)) {
                if let Message::Schema(SchemaMessage { run, .. }) = message {
                    *told.entry(run == first).or_insert(0) += 1;
                }
            }
            assert_eq!(told, BTreeMap::from([(false, versions_of_next)]));
        };
        // Less than the aggregator has of the run before, as much, and more.
        (1..4).for_each(check);
    }
}
