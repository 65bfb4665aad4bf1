//! What the agent says in one session, and when. Pure: messages in, messages out.

use std::collections::VecDeque;
use std::time::Duration;

use common::batch::EncodedBatch;
use common::batch::Seq;
use common::batch::SpoolId;
use common::metric::Labels;
use common::time::Timestamp;
use common::wire::codec::CODEC;
use common::wire::message::Ack;
use common::wire::message::Goodbye;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::SchemaMessage;
use common::wire::message::Welcome;

use crate::spool::Spool;

/// Batches sent and not acknowledged: enough that a backlog of an hour drains in a few round trips, few enough that an
/// aggregator never holds much of one host.
pub const IN_FLIGHT_MAX: usize = 32;

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
}

/// One session.
#[derive(Debug)]
pub struct Dialogue {
    spool: Spool,
    welcomed: Option<Welcomed>,
    /// The batch that waits for the schema that it needs.
    waiting: Option<EncodedBatch>,
    schemas: VecDeque<Message>,
    in_flight: VecDeque<(SpoolId, Seq)>,
    silent_until: Duration,
}

#[derive(Debug)]
struct Welcomed {
    schema_version: u32,
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
    /// The session is over.
    End(Reason, String),
}

impl Dialogue {
    /// Opens with `Hello`. `wall` is the host's clock.
    #[must_use]
    pub fn open(spool: Spool, introduction: &Introduction, wall: Timestamp) -> (Self, Message) {
        let hello = Hello {
            agent_version: introduction.agent_version.clone(),
            run: spool.run(),
            schema_version: spool.schema_version(),
            spools: spool.ids(),
            codec_max: CODEC,
            boot_id: introduction.boot_id,
            hostname: introduction.hostname.clone(),
            labels: introduction.labels.clone(),
            wall,
            ext: Vec::new(),
        };
        let dialogue = Self {
            spool,
            welcomed: None,
            waiting: None,
            schemas: VecDeque::new(),
            in_flight: VecDeque::new(),
            silent_until: Duration::ZERO,
        };
        (dialogue, Message::Hello(hello))
    }

    /// Takes a message. `now` is time since boot.
    pub fn hear(&mut self, message: Message, now: Duration) -> Heard {
        match message {
            Message::Welcome(welcome) => self.welcome(welcome),
            Message::Ack(ack) => self.ack(&ack),
            Message::Busy(busy) => {
                let pause = Duration::from_millis(busy.retry_ms.into());
                self.silent_until = now.saturating_add(pause);
                Heard::Busy(pause)
            }
            Message::Goodbye(Goodbye { reason, text, .. }) => Heard::End(Reason::from(reason), text),
            Message::Hello(_) | Message::Schema(_) | Message::Batch(_) | Message::Enroll(_) | Message::Enrolled(_) => {
                Heard::End(Reason::Malformed, "the aggregator said what only an agent says".to_owned())
            }
        }
    }

    /// The next message to send, if it is time for one.
    pub fn next(&mut self, now: Duration) -> Option<Message> {
        let held = self.welcomed.as_ref()?.schema_version;
        if now < self.silent_until {
            return None;
        }
        if let Some(schema) = self.schemas.pop_front() {
            return Some(schema);
        }
        if let Some(batch) = self.waiting.take() {
            return Some(self.send(batch));
        }
        if IN_FLIGHT_MAX <= self.in_flight.len() {
            return None;
        }
        let batch = self.spool.next()?;
        if batch.schema_version <= held {
            return Some(self.send(batch));
        }
        let changes = self.spool.schema_changes(held, batch.schema_version);
        let run = batch.run;
        self.schemas
            .extend(changes.into_iter().map(|change| Message::Schema(SchemaMessage { run, change, ext: Vec::new() })));
        self.welcomed = Some(Welcomed { schema_version: batch.schema_version });
        self.waiting = Some(batch);
        self.schemas.pop_front()
    }

    /// Whether the aggregator has opened the session.
    #[must_use]
    pub const fn is_welcomed(&self) -> bool {
        self.welcomed.is_some()
    }

    /// Until when nothing may be sent, in time since boot.
    #[must_use]
    pub const fn silent_until(&self) -> Duration {
        self.silent_until
    }

    fn send(&mut self, batch: EncodedBatch) -> Message {
        self.in_flight.push_back((batch.spool, batch.seq));
        Message::Batch(batch)
    }

    fn welcome(&mut self, welcome: Welcome) -> Heard {
        if self.welcomed.is_some() {
            return Heard::End(Reason::Malformed, "the aggregator said welcome twice".to_owned());
        }
        if welcome.codec != CODEC {
            let text = format!("the aggregator wants codec {}; update this agent", welcome.codec);
            return Heard::End(Reason::Error, text);
        }
        self.spool.welcome(&welcome.spools);
        self.welcomed = Some(Welcomed { schema_version: welcome.schema_version });
        Heard::Welcome(welcome)
    }

    fn ack(&mut self, ack: &Ack) -> Heard {
        self.in_flight.retain(|(spool, seq)| *spool != ack.spool || ack.next <= *seq);
        self.spool.ack(ack.spool, ack.next);
        Heard::Nothing
    }
}

/// The last words of a session.
#[must_use]
pub fn goodbye(reason: Reason, text: &str) -> Message {
    Message::Goodbye(Goodbye { reason: reason as u16, text: text.to_owned(), ext: Vec::new() })
}
