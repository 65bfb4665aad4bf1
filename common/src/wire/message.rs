//! What agent and aggregator say to each other. A released struct never changes: later fields go into `ext` by number.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::batch::{EncodedBatch, RunId, Seq, SpoolId};
use crate::metric::Decimals;
use crate::metric::Labels;
use crate::schema::SchemaChange;
use crate::time::Timestamp;
use crate::wire::bytes::Reader;
use crate::wire::bytes::put_varint;

/// Fields that came after the release of their message, by number. Unknown ones are ignored, missing ones default.
pub type Extensions = Vec<(u16, Vec<u8>)>;

/// Of `Welcome` and `Enrolled`: in how many seconds the agent shall ask for its next certificate; `u64`, little-endian.
const RENEW_AFTER: u16 = 1;

/// The field that says when the agent shall ask for its next certificate. The aggregator's clock decides: the host's may be
/// wrong.
#[must_use]
pub fn renew_after(after: Duration) -> (u16, Vec<u8>) {
    (RENEW_AFTER, after.as_secs().to_le_bytes().to_vec())
}

/// What [`renew_after`] says, if the field is there.
#[must_use]
pub fn read_renew_after(ext: &Extensions) -> Option<Duration> {
    let (_, bytes) = ext.iter().find(|(number, _)| *number == RENEW_AFTER)?;
    Some(Duration::from_secs(u64::from_le_bytes(bytes.as_slice().try_into().ok()?)))
}

/// Of `Hello`: for each spool that it names, in its order, the place behind the last batch that is held; varints.
const SPOOL_ENDS: u16 = 2;

/// The field that says where each spool ends: what has come before its end is all that will come of it.
#[must_use]
pub fn spool_ends(ends: impl IntoIterator<Item = Seq>) -> (u16, Vec<u8>) {
    let mut bytes = Vec::new();
    ends.into_iter().for_each(|end| put_varint(&mut bytes, end.0));
    (SPOOL_ENDS, bytes)
}

/// What [`spool_ends`] says: as many ends as can be read.
#[must_use]
pub fn read_spool_ends(ext: &Extensions) -> Vec<Seq> {
    let bytes = ext.iter().find(|(number, _)| *number == SPOOL_ENDS).map(|(_, bytes)| bytes.as_slice());
    let mut reader = Reader::new(bytes.unwrap_or_default());
    std::iter::from_fn(|| reader.varint().ok().map(Seq)).collect()
}

/// Of `Hello`: what the agent can do beyond the first version, a bit each; `u64`, little-endian.
const ABILITIES: u16 = 3;

/// The agent answers `Recall`.
pub const ANSWERS_RECALL: u64 = 1;

/// The agent takes `Settings`.
pub const TAKES_SETTINGS: u64 = 2;

/// Longest text of [`Settings`]: a few hundred rules that name groups of processes.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// The field that says what an agent can do.
#[must_use]
pub fn abilities(bits: u64) -> (u16, Vec<u8>) {
    (ABILITIES, bits.to_le_bytes().to_vec())
}

/// What [`abilities`] says; nothing of an agent that does not say.
#[must_use]
pub fn read_abilities(ext: &Extensions) -> u64 {
    let bytes = ext.iter().find(|(number, _)| *number == ABILITIES).map(|(_, bytes)| bytes.as_slice());
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Of `Welcome` and of the aggregator's `Goodbye`: over how many milliseconds its agents spread their return when they lose
/// their sessions; `u64`, little-endian.
const RETURN_WITHIN: u16 = 4;

/// The field that says over how long agents that lose their sessions together spread their return.
#[must_use]
pub fn return_within(within: Duration) -> (u16, Vec<u8>) {
    let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    (RETURN_WITHIN, millis.to_le_bytes().to_vec())
}

/// What [`return_within`] says, if the field is there.
#[must_use]
pub fn read_return_within(ext: &Extensions) -> Option<Duration> {
    let (_, bytes) = ext.iter().find(|(number, _)| *number == RETURN_WITHIN)?;
    Some(Duration::from_millis(u64::from_le_bytes(bytes.as_slice().try_into().ok()?)))
}

/// Of `Hello`: the name of the session that it opens, and behind it that of the one before it; 16 bytes each.
const LINEAGE: u16 = 5;

/// A session, named by chance.
pub type SessionName = [u8; 16];

/// Which session follows which: two processes that hold the same are told apart by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The session that `Hello` opens.
    pub session: SessionName,
    /// The latest one before it of the same process in which the agent was welcomed.
    pub before: Option<SessionName>,
}

/// The field that says which session follows which.
#[must_use]
pub fn lineage(lineage: Lineage) -> (u16, Vec<u8>) {
    let before = lineage.before.iter().flatten();
    (LINEAGE, lineage.session.iter().chain(before).copied().collect())
}

/// What [`lineage`] says, if the field is there.
#[must_use]
pub fn read_lineage(ext: &Extensions) -> Option<Lineage> {
    let (_, bytes) = ext.iter().find(|(number, _)| *number == LINEAGE)?;
    let (session, before) = bytes.split_first_chunk()?;
    Some(Lineage { session: *session, before: before.first_chunk().copied() })
}

/// Of `Goodbye` with [`Reason::Replaced`]: another agent with the state of this one is there and stays. One byte: see
/// [`Copied`].
const COPIED: u16 = 6;

/// What of an agent there is twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Its state directory.
    State,
    /// The whole process: what it has not delivered has numbers that the other one gave to something else.
    Process,
}

/// The field that tells an agent that it is a copy, or has one.
#[must_use]
pub fn copied(copied: Copied) -> (u16, Vec<u8>) {
    (COPIED, vec![u8::from(copied == Copied::Process)])
}

/// What [`copied`] says, if the field is there.
#[must_use]
pub fn read_copied(ext: &Extensions) -> Option<Copied> {
    let (_, bytes) = ext.iter().find(|(number, _)| *number == COPIED)?;
    Some(if bytes.first() == Some(&1) { Copied::Process } else { Copied::State })
}

/// Everything that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Agent, first: who and what it holds.
    Hello(Hello),
    /// Aggregator, in answer: what it holds, and the time.
    Welcome(Welcome),
    /// Agent: the next version of its schema.
    Schema(SchemaMessage),
    /// Agent: one window.
    Batch(EncodedBatch),
    /// Aggregator: what is durable.
    Ack(Ack),
    /// Aggregator: not so fast.
    Busy(Busy),
    /// Either: the session ends, and why.
    Goodbye(Goodbye),
    /// Aggregator, to an agent that answers it: what the flight recorder holds.
    Recall(Recall),
    /// Agent, in answer.
    Recorded(Recorded),
    /// Aggregator, to an agent that takes it: a part of its configuration.
    Settings(Settings),
    /// Agent, in answer.
    Settled(Settled),
    /// Host without a certificate, on the enrolment protocol: the only thing it may say.
    Enroll(Enroll),
    /// Aggregator, in answer.
    Enrolled(Enrolled),
}

/// Who an agent is and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Version of the agent program.
    pub agent_version: String,
    /// This process start.
    pub run: RunId,
    /// Latest version of the run's schema.
    pub schema_version: u32,
    /// All spools held, the live one first.
    pub spools: Vec<SpoolId>,
    /// Newest codec it can write.
    pub codec_max: u8,
    /// The kernel's boot id: a changed one tells a reboot.
    pub boot_id: [u8; 16],
    /// Name of the host, wanted as `instance`.
    pub hostname: String,
    /// Labels from the agent's configuration.
    pub labels: Labels,
    /// The host's wall clock.
    pub wall: Timestamp,
    /// Later fields.
    pub ext: Extensions,
}

/// What the aggregator holds of a host.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// The aggregator's time, which the agent's stamps follow.
    pub now: Timestamp,
    /// The host's `instance` label.
    pub instance: String,
    /// Version of the run's schema that is held; 0 is none.
    pub schema_version: u32,
    /// For each spool that `Hello` named, in its order.
    pub spools: Vec<SpoolHeld>,
    /// The codec to write.
    pub codec: u8,
    /// Longest frame that is read.
    pub frame_bytes_max: u32,
    /// Later fields.
    pub ext: Extensions,
}

/// What the aggregator holds of one spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SpoolHeld {
    /// Which.
    pub spool: SpoolId,
    /// The first batch that is not stored.
    pub next: Seq,
    /// Whether the batch before `next` is at hand to decode `next` against; else a keyframe is wanted.
    pub predecessor_held: bool,
}

/// One version of a run's schema.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SchemaMessage {
    /// Whose.
    pub run: RunId,
    /// What the version adds.
    pub change: SchemaChange,
    /// Later fields.
    pub ext: Extensions,
}

/// All batches of a spool before `next` are durable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ack {
    /// Which spool.
    pub spool: SpoolId,
    /// The first batch that is not stored.
    pub next: Seq,
    /// Later fields.
    pub ext: Extensions,
}

/// The aggregator cannot store at present.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Busy {
    /// Come back after this many milliseconds.
    pub retry_ms: u32,
    /// Later fields.
    pub ext: Extensions,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Goodbye {
    /// Number of a [`Reason`]; unknown numbers are treated as [`Reason::Error`].
    pub reason: u16,
    /// One sentence for the log of the other side.
    pub text: String,
    /// Later fields.
    pub ext: Extensions,
}

/// What the flight recorder holds of a stretch of time, and goes on to hold until its end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recall {
    /// Names the answers.
    pub id: u32,
    /// What is older is not wanted; some of it comes all the same.
    pub from: Timestamp,
    /// Up to when what is recorded is wanted; before `from` nothing is any more.
    pub to: Timestamp,
    /// Later fields.
    pub ext: Extensions,
}

/// A piece of the flight recorder: ticks as `wire::recording` reads them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recorded {
    /// Of the `Recall`.
    pub id: u32,
    /// Whose series they are.
    pub run: RunId,
    /// Whether a block begins with it.
    pub begin: bool,
    /// Digits that the values of its series mean, of those that the pieces before it of the block did not have.
    pub decimals: Vec<Decimals>,
    /// Whole ticks.
    pub bytes: Vec<u8>,
    /// Whether nothing follows.
    pub end: bool,
    /// Later fields.
    pub ext: Extensions,
}

/// What the aggregator sets of an agent's configuration, where the host's own says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// TOML, with the keys of the agent's configuration that may be set; empty is none.
    pub text: String,
    /// Later fields.
    pub ext: Extensions,
}

/// What became of [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settled {
    /// Why all of it is refused, and what was before stays in force; empty if it is not.
    pub refused: String,
    /// Keys that are not taken, because the host's own configuration sets them.
    pub overruled: Vec<String>,
    /// Later fields.
    pub ext: Extensions,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something that has no number.
    Error = 0,
    /// The agent was stopped; the host lives.
    Stopped = 1,
    /// The host is shutting down.
    Shutdown = 2,
    /// The program restarts and will be back.
    Restart = 3,
    /// A frame or message that cannot be read.
    Malformed = 4,
    /// No certificate, or none that is known here.
    Unknown = 5,
    /// The join token is wrong, spent or expired.
    Token = 6,
    /// The host was revoked.
    Revoked = 7,
    /// A newer session of the same host took over.
    Replaced = 8,
    /// A limit was passed.
    Limit = 9,
    /// The certificate has expired; only renewal is possible.
    Expired = 10,
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::Error,
        Self::Stopped,
        Self::Shutdown,
        Self::Restart,
        Self::Malformed,
        Self::Unknown,
        Self::Token,
        Self::Revoked,
        Self::Replaced,
        Self::Limit,
        Self::Expired,
    ];

    /// For a line of a log.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Stopped => "stopped",
            Self::Shutdown => "shutdown",
            Self::Restart => "restart",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Token => "token",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
            Self::Limit => "limit",
            Self::Expired => "expired",
        }
    }
}

impl From<u16> for Reason {
    fn from(number: u16) -> Self {
        Self::ALL.into_iter().find(|reason| *reason as u16 == number).unwrap_or(Self::Error)
    }
}

/// A host asks for a certificate: its first one by a token, the next by the one that it shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Enroll {
    /// The bare join token; empty of a host that shows a certificate.
    pub token: String,
    /// Certificate signing request, DER.
    pub csr: Vec<u8>,
    /// Name of the host, wanted as `instance`.
    pub hostname: String,
    /// Later fields.
    pub ext: Extensions,
}

/// A host has its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Enrolled {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The aggregator's CA certificate, DER.
    pub ca: Vec<u8>,
    /// The host's `instance` label.
    pub instance: String,
    /// Later fields.
    pub ext: Extensions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_came_later_is_found_by_its_number() {
        let check = |ext: Extensions, expect: Option<u64>| {
            assert_eq!(read_renew_after(&ext), expect.map(Duration::from_secs), "{ext:?}");
        };
        check(vec![], None);
        check(vec![(7, vec![0; 8]), renew_after(Duration::from_secs(1_000_000))], Some(1_000_000));
        check(vec![(RENEW_AFTER, vec![1, 2])], None);
    }

    #[test]
    fn a_return_is_spread_as_far_as_it_says() {
        let check = |ext: Extensions, expect: Option<u64>| {
            assert_eq!(read_return_within(&ext), expect.map(Duration::from_millis), "{ext:?}");
        };
        check(vec![], None);
        check(vec![renew_after(Duration::from_secs(9)), return_within(Duration::from_millis(8_000))], Some(8_000));
        check(vec![return_within(Duration::MAX)], Some(u64::MAX));
        check(vec![(RETURN_WITHIN, vec![1; 4])], None);
    }

    #[test]
    fn sessions_are_named_and_copies_told() {
        let check = |given: Lineage| assert_eq!(read_lineage(&vec![lineage(given)]), Some(given));
        check(Lineage { session: [1; 16], before: None });
        check(Lineage { session: [1; 16], before: Some([2; 16]) });
        assert_eq!(read_lineage(&vec![(LINEAGE, vec![1; 15])]), None);
        assert_eq!(read_lineage(&Vec::new()), None);
        let check = |given: Copied| assert_eq!(read_copied(&vec![copied(given)]), Some(given));
        check(Copied::State);
        check(Copied::Process);
        assert_eq!(read_copied(&vec![(COPIED, Vec::new())]), Some(Copied::State));
        assert_eq!(read_copied(&Vec::new()), None);
    }

    #[test]
    fn ends_of_spools_are_read_as_far_as_they_go() {
        let ends = [0, 31, 1 << 40].map(Seq);
        assert_eq!(read_spool_ends(&vec![spool_ends(ends)]), ends);
        assert_eq!(read_spool_ends(&vec![(SPOOL_ENDS, vec![5, 0x80])]), [Seq(5)]);
        assert_eq!(read_spool_ends(&Vec::new()), []);
    }
}
