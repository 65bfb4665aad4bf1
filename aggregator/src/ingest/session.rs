//! One agent's session. Pure: messages in; appends, acknowledgements or an end with a reason out.

use std::time::Duration;

use common::batch::HostId;
use common::time::Timestamp;
use common::wire::codec::CODEC;
use common::wire::codec::CODEC_VARINTS;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::FrameError;
use common::wire::message::Ack;
use common::wire::message::Busy;
use common::wire::message::Copied;
use common::wire::message::Goodbye;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::Recorded;
use common::wire::message::Settled;
use common::wire::message::Welcome;
use common::wire::message::copied;
use common::wire::message::renew_after;
use common::wire::message::return_within;

use crate::ingest::trust::RENEWED_BEFORE;
use crate::store::commit::Append;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::commit::Held;

/// Spools that an agent may name: an hour's backlog in spools of 30 batches is twelve; a disk full of older runs has
/// room besides.
pub const SPOOLS_MAX: usize = 1_024;

/// How long an agent is asked to wait at least when the store cannot store.
pub const BUSY_FOR: Duration = Duration::from_secs(2);

/// How long a commit may take beyond the interval of group commits before the agent is asked to hold back: one waits for a
/// few of them, and what agents send meanwhile waits in memory.
pub const SLOW_AFTER: Duration = Duration::from_secs(5);

/// Agents that may come back in one second: each takes half a millisecond of a core for its handshake, and a little more
/// for its first words.
const RETURNS_PER_SECOND: u32 = 1_250;

/// Over how long a fleet of so many hosts spreads its return when it loses its sessions at once.
#[must_use]
pub fn return_within_of(hosts: usize) -> Duration {
    Duration::from_secs(1) * u32::try_from(hosts).unwrap_or(u32::MAX) / RETURNS_PER_SECOND
}

/// Where a session stands.
#[derive(Debug)]
pub struct Session {
    host: HostId,
    greeted: bool,
    pending: Vec<Append>,
}

/// What a message asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing at once: there may be something to commit.
    Nothing,
    /// Look up what is held and answer with [`Session::welcome`].
    Hello(Hello),
    /// The agent answers what its flight recorder was asked.
    Recorded(Recorded),
    /// The agent says what became of its settings.
    Settled(Settled),
    /// The agent ends the session.
    Goodbye(Reason, String),
}

/// The session must end, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct End {
    /// For the agent's program.
    pub reason: Reason,
    /// For the agent's log.
    pub text: String,
    /// What of the agent there is twice, if it is kept out for that.
    pub copied: Option<Copied>,
}

/// What to do about a commit that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Have the agent hold back, and try again.
    Retry,
    /// Commit the appends before this place, then end.
    End(usize, End),
}

impl Session {
    /// A session with a host whose certificate is known.
    #[must_use]
    pub const fn new(host: HostId) -> Self {
        Self { host, greeted: false, pending: Vec::new() }
    }

    /// Whose it is.
    #[must_use]
    pub const fn host(&self) -> HostId {
        self.host
    }

    /// Takes a message.
    ///
    /// # Errors
    /// When an agent would not say this here.
    pub fn hear(&mut self, message: Message) -> Result<Heard, End> {
        let host = self.host;
        match message {
            Message::Hello(hello) if !self.greeted => {
                if SPOOLS_MAX < hello.spools.len() {
                    return Err(End::new(Reason::Limit, format!("more than {SPOOLS_MAX} spools")));
                }
                self.greeted = true;
                Ok(Heard::Hello(hello))
            }
            Message::Schema(schema) if self.greeted => {
                self.pending.push(Append::Schema { host, run: schema.run, change: schema.change });
                Ok(Heard::Nothing)
            }
            Message::Batch(batch) if self.greeted => {
                self.pending.push(Append::Batch { host, batch });
                Ok(Heard::Nothing)
            }
            Message::Recorded(recorded) if self.greeted => Ok(Heard::Recorded(recorded)),
            Message::Settled(settled) if self.greeted => Ok(Heard::Settled(settled)),
            Message::Goodbye(goodbye) => Ok(Heard::Goodbye(Reason::from(goodbye.reason), goodbye.text)),
            Message::Schema(_) | Message::Batch(_) => Err(End::malformed("a batch came before hello")),
            Message::Hello(_) => Err(End::malformed("hello came twice")),
            Message::Welcome(_)
            | Message::Ack(_)
            | Message::Busy(_)
            | Message::Enroll(_)
            | Message::Enrolled(_)
            | Message::Recall(_)
            | Message::Recorded(_)
            | Message::Settings(_)
            | Message::Settled(_) => Err(End::malformed("a message that an agent does not send here")),
        }
    }

    /// The answer to `Hello`, to an agent that writes codecs up to `codec_max`, whose certificate ends at `expires`, and
    /// whose fleet returns `within` that time.
    #[must_use]
    pub fn welcome(
        held: Held,
        instance: &str,
        codec_max: u8,
        (now, expires, within): (Timestamp, Timestamp, Duration),
    ) -> Message {
        Message::Welcome(Welcome {
            now,
            instance: instance.to_owned(),
            schema_version: held.schema_version,
            spools: held.spools,
            codec: codec_max.clamp(CODEC_VARINTS, CODEC),
            frame_bytes_max: u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX),
            ext: vec![renew_after(expires.before(RENEWED_BEFORE).since(now)), return_within(within)],
        })
    }

    /// What is to be committed since the last call.
    pub fn take(&mut self) -> Vec<Append> {
        std::mem::take(&mut self.pending)
    }

    /// Acknowledges what is durable: once for each spool.
    #[must_use]
    pub fn acknowledge(committed: &Committed) -> Vec<Message> {
        let mut acks: Vec<Ack> = Vec::new();
        for batch in &committed.batches {
            match acks.iter_mut().find(|ack| ack.spool == batch.spool) {
                Some(ack) => ack.next = ack.next.max(batch.next),
                None => acks.push(Ack { spool: batch.spool, next: batch.next, ext: Vec::new() }),
            }
        }
        acks.into_iter().map(Message::Ack).collect()
    }

    /// Asks the agent to hold back, of a fleet that comes back `within` that time. Answers also for how long: each host has
    /// a moment of its own, so that not all go on at once.
    #[must_use]
    pub fn hold_back(&self, within: Duration) -> (Message, Duration) {
        // Multiples of the golden section lie evenly between 0 and 1, however many hosts there are.
        let place = (f64::from(self.host.0) * 0.618_033_988_749_895).fract();
        let pause = BUSY_FOR.saturating_add(within.mul_f64(place));
        let retry_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        (Message::Busy(Busy { retry_ms, ext: Vec::new() }), pause)
    }

    /// What to do about a commit that was not made.
    #[must_use]
    pub fn fail(error: &CommitError) -> Failed {
        match error {
            CommitError::Malformed { append, why } => {
                Failed::End(*append, End::new(Reason::Malformed, format!("a batch is malformed: {why}")))
            }
            CommitError::Unfounded { append } => {
                let text = "the batch before is not at hand any more: greet again";
                Failed::End(*append, End::new(Reason::Error, text.to_owned()))
            }
            CommitError::Full | CommitError::Io(_) => Failed::Retry,
            CommitError::Closed => Failed::End(0, End::stopping()),
        }
    }
}

impl End {
    /// An end for a reason.
    #[must_use]
    pub const fn new(reason: Reason, text: String) -> Self {
        Self { reason, text, copied: None }
    }

    /// Another process with the same state is in session, and stays.
    #[must_use]
    pub fn copied(copied: Copied) -> Self {
        let text = "another agent with this host's identity is in session: one of the two machines is a copy; stop the \
                    agent on the copy, remove its state directory and let it join with a token of its own";
        Self { copied: Some(copied), ..Self::new(Reason::Replaced, text.to_owned()) }
    }

    /// The aggregator is stopping and will be back.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(Reason::Restart, "the aggregator is stopping".to_owned())
    }

    /// A newer session of the same host took over.
    #[must_use]
    pub fn replaced() -> Self {
        let text = "a newer session of this host took over: its agent began anew, or a copy of the machine did";
        Self::new(Reason::Replaced, text.to_owned())
    }

    /// What the agent was told of the time is wrong.
    #[must_use]
    pub fn set_back() -> Self {
        Self::new(Reason::Error, "the aggregator's clock was set back: greet again for the time".to_owned())
    }

    /// The host may not come back.
    #[must_use]
    pub fn revoked() -> Self {
        let text = "this host was revoked; to let the machine in again, stop its agent, remove its state directory and join with a token";
        Self::new(Reason::Revoked, text.to_owned())
    }

    /// There is no such host.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new(Reason::Unknown, "this host is not known here".to_owned())
    }

    /// An operator had the host forgotten.
    #[must_use]
    pub fn forgotten() -> Self {
        Self::new(Reason::Unknown, "this host was forgotten: join with a new token".to_owned())
    }

    /// As it travels, to an agent whose fleet returns `within` that time.
    #[must_use]
    pub fn message(&self, within: Duration) -> Message {
        let ext = self.copied.map(copied).into_iter().chain([return_within(within)]).collect();
        Message::Goodbye(Goodbye { reason: self.reason as u16, text: self.text.clone(), ext })
    }

    fn malformed(text: &str) -> Self {
        Self::new(Reason::Malformed, text.to_owned())
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let reason = match error {
            FrameError::TooLong { .. } => Reason::Limit,
            FrameError::Malformed { .. } => Reason::Malformed,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use common::batch::EncodedBatch;
    use common::batch::RunId;
    use common::batch::Seq;
    use common::batch::SpoolId;
    use common::metric::Labels;

    use super::*;
    use crate::store::commit::CommittedBatch;

    const HOST: HostId = HostId(7);

    fn hello(spools: usize) -> Message {
        Message::Hello(Hello {
            agent_version: String::new(),
            run: RunId([1; 16]),
            schema_version: 0,
            spools: vec![SpoolId([2; 16]); spools],
            codec_max: 1,
            boot_id: [0; 16],
            hostname: "web".to_owned(),
            labels: Labels::new(),
            wall: Timestamp::default(),
            ext: Vec::new(),
        })
    }

    fn batch() -> Message {
        Message::Batch(EncodedBatch {
            run: RunId([1; 16]),
            spool: SpoolId([2; 16]),
            seq: Seq(0),
            schema_version: 1,
            stamp: Timestamp::default(),
            codec: 1,
            keyframe: true,
            payload: Vec::new(),
        })
    }

    fn check(messages: Vec<Message>, expect: Result<usize, Reason>) {
        let mut session = Session::new(HOST);
        let heard = messages.into_iter().try_for_each(|message| session.hear(message).map(drop));
        assert_eq!(heard.map(|()| session.take().len()).map_err(|end| end.reason), expect);
    }

    #[test]
    fn an_agent_greets_once_and_then_sends() {
        check(vec![hello(1), batch(), batch()], Ok(2));
        check(vec![batch()], Err(Reason::Malformed));
        check(vec![hello(1), hello(1)], Err(Reason::Malformed));
        check(vec![hello(SPOOLS_MAX + 1)], Err(Reason::Limit));
        check(vec![hello(1), Message::Busy(Busy { retry_ms: 1, ext: Vec::new() })], Err(Reason::Malformed));
    }

    #[test]
    fn each_spool_is_acknowledged_once() {
        let of = |spool, next| CommittedBatch {
            host: HOST,
            spool: SpoolId([spool; 16]),
            next: Seq(next),
            stamp: Timestamp::default(),
            samples: None,
            missing: 0,
        };
        let acks =
            Session::acknowledge(&Committed { batches: vec![of(1, 5), of(2, 1), of(1, 6)], ..Committed::default() });
        let ack = |spool, next| Message::Ack(Ack { spool: SpoolId([spool; 16]), next: Seq(next), ext: Vec::new() });
        assert_eq!(acks, [ack(1, 6), ack(2, 1)]);
    }

    #[test]
    fn agents_that_hold_back_go_on_one_after_the_other() {
        let within = return_within_of(10_000);
        assert_eq!((within, return_within_of(0)), (Duration::from_secs(8), Duration::ZERO));
        let mut pauses: Vec<_> = (1..=10_000)
            .map(|host| {
                let (message, pause) = Session::new(HostId(host)).hold_back(within);
                let retry_ms = u32::try_from(pause.as_millis()).unwrap();
                assert_eq!(message, Message::Busy(Busy { retry_ms, ext: Vec::new() }));
                pause
            })
            .collect();
        pauses.sort();
        assert!(BUSY_FOR <= pauses[0] && pauses[9_999] <= BUSY_FOR + within);
        // No stretch of a tenth of a second has more than a part more than its share.
        let most = pauses.windows(140).filter(|some| some[139] - some[0] < Duration::from_millis(100)).count();
        assert_eq!(most, 0);
        assert_eq!(Session::new(HOST).hold_back(Duration::ZERO).1, BUSY_FOR);
    }

    #[test]
    fn a_full_disk_is_waited_for_and_nonsense_is_not() {
        assert_eq!(Session::fail(&CommitError::Full), Failed::Retry);
        let nonsense = CommitError::Malformed { append: 2, why: String::new() };
        assert!(matches!(Session::fail(&nonsense), Failed::End(2, End { reason: Reason::Malformed, .. })));
        let unfounded = CommitError::Unfounded { append: 1 };
        assert!(matches!(Session::fail(&unfounded), Failed::End(1, End { reason: Reason::Error, .. })));
        assert!(matches!(Session::fail(&CommitError::Closed), Failed::End(0, End { reason: Reason::Restart, .. })));
    }
}
