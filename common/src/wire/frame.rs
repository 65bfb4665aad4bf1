//! Frames: how messages stand in a stream of bytes. Type, flags, length, content; a type that is not known is skipped.

use bincode::Decode;
use bincode::Encode;
use bincode::config;

use crate::batch::EncodedBatch;
use crate::batch::RunId;
use crate::batch::Seq;
use crate::batch::SpoolId;
use crate::time::Timestamp;
use crate::wire::bytes::Reader as Bytes;
use crate::wire::bytes::put_sized;
use crate::wire::bytes::put_varint;
use crate::wire::bytes::zigzag;
use crate::wire::codec::CodecError;
use crate::wire::message::Message;

/// Longest frame. The first schema and a keyframe of the largest host (200,000 series at about ten bytes) take half of
/// it; a session that says more is wrong or hostile.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Longest frame on the enrolment protocol, where anyone may speak: a signing request takes less than 1 KiB.
pub const ENROLL_FRAME_BYTES_MAX: usize = 16 << 10;

/// What a control message may take in memory when decoded: strings and lists take a few times their bytes.
const DECODED_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Flag of a batch frame: it can be decoded without the batch before it.
const KEYFRAME: u8 = 1;

/// Numbers of the frame types. Never reused.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const SCHEMA: u8 = 3;
    pub(super) const BATCH: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const BUSY: u8 = 6;
    pub(super) const GOODBYE: u8 = 7;
    pub(super) const ENROLL: u8 = 8;
    pub(super) const ENROLLED: u8 = 9;
    pub(super) const RECALL: u8 = 10;
    pub(super) const RECORDED: u8 = 11;
    pub(super) const SETTINGS: u8 = 12;
    pub(super) const SETTLED: u8 = 13;
}

/// Why a stream of frames cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame longer than agreed.
    #[error("a frame of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// What it says it has.
        bytes: u64,
        /// What it may have.
        limit: usize,
    },
    /// A frame whose content is not what its type says.
    #[error("a frame of type {kind} is malformed")]
    Malformed {
        /// Its type.
        kind: u8,
    },
}

/// A message as it travels.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    match message {
        Message::Hello(hello) => control(kind::HELLO, hello),
        Message::Welcome(welcome) => control(kind::WELCOME, welcome),
        Message::Schema(schema) => control(kind::SCHEMA, schema),
        Message::Batch(batch) => frame(kind::BATCH, if batch.keyframe { KEYFRAME } else { 0 }, &batch_content(batch)),
        Message::Ack(ack) => control(kind::ACK, ack),
        Message::Busy(busy) => control(kind::BUSY, busy),
        Message::Goodbye(goodbye) => control(kind::GOODBYE, goodbye),
        Message::Enroll(enroll) => control(kind::ENROLL, enroll),
        Message::Enrolled(enrolled) => control(kind::ENROLLED, enrolled),
        Message::Recall(recall) => control(kind::RECALL, recall),
        Message::Recorded(recorded) => control(kind::RECORDED, recorded),
        Message::Settings(settings) => control(kind::SETTINGS, settings),
        Message::Settled(settled) => control(kind::SETTLED, settled),
    }
}

/// Takes bytes as they come and gives messages as they are whole.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes at the buffer's front that were given out already.
    used: usize,
}

impl Reader {
    /// A reader that takes frames of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), used: 0 }
    }

    /// Takes bytes. Call [`Self::next`] until it has none before the next push, so that at most one frame waits.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When the stream cannot be read on: the session must end.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where this one waits for bytes")]
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        while let Some((header, content, end)) = self.whole()? {
            let content = self.buffer.get(content..end).unwrap_or_default();
            let message = decode(header, content)?;
            self.used = end;
            if message.is_some() {
                return Ok(message);
            }
        }
        if self.used == self.buffer.len() {
            // A large frame must not leave its memory to an idle session.
            self.buffer = Vec::new();
            self.used = 0;
        }
        Ok(None)
    }

    /// Type and flags of the frame at the front, and where its content begins and ends, if all of it is there.
    fn whole(&self) -> Result<Option<([u8; 2], usize, usize)>, FrameError> {
        let waiting = self.buffer.get(self.used..).unwrap_or_default();
        let mut bytes = Bytes::new(waiting);
        let (Ok(kind), Ok(flags)) = (bytes.byte(), bytes.byte()) else { return Ok(None) };
        let length = match bytes.varint() {
            Ok(length) => length,
            Err(CodecError::Truncated) => return Ok(None),
            Err(_) => return Err(FrameError::Malformed { kind }),
        };
        let begin = self.buffer.len() - bytes.len();
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => {
                let end = begin + length;
                Ok((end <= self.buffer.len()).then_some(([kind, flags], begin, end)))
            }
            _ => Err(FrameError::TooLong { bytes: length, limit: self.limit }),
        }
    }
}

/// Decodes one frame's content; none for a type that is not known.
///
/// # Errors
/// When the content is not what the type says.
pub fn decode([kind, flags]: [u8; 2], content: &[u8]) -> Result<Option<Message>, FrameError> {
    let message = match kind {
        kind::HELLO => parse(content).map(Message::Hello),
        kind::WELCOME => parse(content).map(Message::Welcome),
        kind::SCHEMA => parse(content).map(Message::Schema),
        kind::BATCH => parse_batch(flags, content).map(Message::Batch),
        kind::ACK => parse(content).map(Message::Ack),
        kind::BUSY => parse(content).map(Message::Busy),
        kind::GOODBYE => parse(content).map(Message::Goodbye),
        kind::ENROLL => parse(content).map(Message::Enroll),
        kind::ENROLLED => parse(content).map(Message::Enrolled),
        kind::RECALL => parse(content).map(Message::Recall),
        kind::RECORDED => parse(content).map(Message::Recorded),
        kind::SETTINGS => parse(content).map(Message::Settings),
        kind::SETTLED => parse(content).map(Message::Settled),
        _ => return Ok(None),
    };
    message.map(Some).ok_or(FrameError::Malformed { kind })
}

fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(content.len() + 8);
    frame.extend([kind, flags]);
    put_sized(&mut frame, content);
    frame
}

fn control(kind: u8, message: &impl Encode) -> Vec<u8> {
    // Writing to memory does not fail.
    frame(kind, 0, &bincode::encode_to_vec(message, config::standard()).unwrap_or_default())
}

fn parse<T: Decode<()>>(content: &[u8]) -> Option<T> {
    let config = config::standard().with_limit::<DECODED_BYTES_MAX>();
    let (message, used) = bincode::decode_from_slice(content, config).ok()?;
    (used == content.len()).then_some(message)
}

fn batch_content(batch: &EncodedBatch) -> Vec<u8> {
    let mut content = Vec::with_capacity(batch.payload.len() + 64);
    content.extend(batch.run.0);
    content.extend(batch.spool.0);
    put_varint(&mut content, batch.seq.0);
    put_varint(&mut content, batch.schema_version.into());
    put_varint(&mut content, zigzag(batch.stamp.as_millis()));
    content.push(batch.codec);
    content.extend_from_slice(&batch.payload);
    content
}

fn parse_batch(flags: u8, content: &[u8]) -> Option<EncodedBatch> {
    let mut bytes = Bytes::new(content);
    Some(EncodedBatch {
        run: RunId(bytes.take(16).ok()?.try_into().ok()?),
        spool: SpoolId(bytes.take(16).ok()?.try_into().ok()?),
        seq: Seq(bytes.varint().ok()?),
        schema_version: bytes.varint32().ok()?,
        stamp: Timestamp::from_millis(bytes.signed().ok()?),
        codec: bytes.byte().ok()?,
        keyframe: flags & KEYFRAME != 0,
        payload: bytes.rest().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Decimals;
    use crate::metric::Kind;
    use crate::metric::Labels;
    use crate::metric::Tier;
    use crate::schema::Column;
    use crate::schema::Entity;
    use crate::schema::SchemaChange;
    use crate::schema::SeriesIndex;
    use crate::wire::message::Ack;
    use crate::wire::message::Busy;
    use crate::wire::message::Enroll;
    use crate::wire::message::Enrolled;
    use crate::wire::message::Goodbye;
    use crate::wire::message::Hello;
    use crate::wire::message::Reason;
    use crate::wire::message::Recall;
    use crate::wire::message::Recorded;
    use crate::wire::message::SchemaMessage;
    use crate::wire::message::Settings;
    use crate::wire::message::Settled;
    use crate::wire::message::SpoolHeld;
    use crate::wire::message::Welcome;

    const RUN: RunId = RunId([1; 16]);
    const SPOOL: SpoolId = SpoolId([2; 16]);
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);

    fn hello() -> Message {
        Message::Hello(Hello {
            agent_version: "0.1.0".to_owned(),
            run: RUN,
            schema_version: 3,
            spools: vec![SPOOL],
            codec_max: 1,
            boot_id: [3; 16],
            hostname: "web".to_owned(),
            labels: Labels::new().with("env", "prod"),
            wall: NOW,
            ext: vec![(7, vec![1, 2])],
        })
    }

    fn schema() -> Message {
        let column = Column {
            metric: "node_load1".to_owned(),
            labels: Labels::new().with("job", "node"),
            kind: Kind::Gauge,
            decimals: Decimals::new(2),
            peak: true,
            tier: Tier::Minute,
        };
        let change = SchemaChange {
            version: 1,
            entities: vec![Entity::default()],
            columns: vec![column],
            series: vec![(0, 0)],
            ended: vec![SeriesIndex(0)],
        };
        Message::Schema(SchemaMessage { run: RUN, change, ext: vec![] })
    }

    fn batch() -> Message {
        Message::Batch(EncodedBatch {
            run: RUN,
            spool: SPOOL,
            seq: Seq(300),
            schema_version: 3,
            stamp: NOW,
            codec: 1,
            keyframe: true,
            payload: vec![9, 8, 7],
        })
    }

    fn all() -> Vec<Message> {
        let held = SpoolHeld { spool: SPOOL, next: Seq(5), predecessor_held: true };
        vec![
            hello(),
            Message::Welcome(Welcome {
                now: NOW,
                instance: "web".to_owned(),
                schema_version: 2,
                spools: vec![held],
                codec: 1,
                frame_bytes_max: 65_536,
                ext: vec![],
            }),
            schema(),
            batch(),
            Message::Ack(Ack { spool: SPOOL, next: Seq(6), ext: vec![] }),
            Message::Busy(Busy { retry_ms: 1_000, ext: vec![] }),
            Message::Goodbye(Goodbye { reason: Reason::Token as u16, text: "no".to_owned(), ext: vec![] }),
            Message::Enroll(Enroll { token: "t".to_owned(), csr: vec![4], hostname: "web".to_owned(), ext: vec![] }),
            Message::Enrolled(Enrolled { certificate: vec![5], ca: vec![6], instance: "web".to_owned(), ext: vec![] }),
            Message::Recall(Recall { id: 7, from: NOW, to: NOW, ext: vec![] }),
            Message::Settings(Settings { text: "a = 1".to_owned(), ext: Vec::new() }),
            Message::Settled(Settled {
                refused: "no".to_owned(),
                overruled: vec!["processes.groups".to_owned()],
                ext: Vec::new(),
            }),
            Message::Recorded(Recorded {
                id: 7,
                run: RUN,
                begin: true,
                decimals: vec![Decimals::new(2)],
                bytes: vec![9, 8],
                end: false,
                ext: vec![],
            }),
        ]
    }

    /// Bytes that other versions of the programs send and expect.
    const GOLDEN: [&str; 13] = [
        "01005505302e312e30010101010101010101010101010101010301020202020202020202020202020202020103030303030303030303030303030303037765620103656e760470726f64fdf6d0ca9f170300000107020102",
        "020028fdf6d0ca9f1703000003776562020102020202020202020202020202020202050101fc0000010000",
        "03003301010101010101010101010101010101010100010a6e6f64655f6c6f61643101036a6f62046e6f646500020102010000010000",
        "04012d0101010101010101010101010101010102020202020202020202020202020202ac0203f6a1abfef96201090807",
        "050012020202020202020202020202020202020600",
        "060004fbe80300",
        "07000506026e6f00",
        "080009017401040377656200",
        "090009010501060377656200",
        "0a001407fdf6d0ca9f17030000fdf6d0ca9f1703000000",
        "0c00070561203d203100",
        "0d0016026e6f011070726f6365737365732e67726f75707300",
        "0b001907010101010101010101010101010101010101020209080000",
    ];

    #[test]
    fn bytes_stay() {
        let hexadecimal =
            |message: &Message| encode(message).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let found: Vec<_> = all().iter().map(hexadecimal).collect();
        assert_eq!(found, GOLDEN);
    }

    fn read_in_chunks_of(bytes: &[u8], chunk: usize) -> Result<Vec<Message>, FrameError> {
        let mut reader = Reader::new(FRAME_BYTES_MAX);
        let mut messages = Vec::new();
        for chunk in bytes.chunks(chunk) {
            reader.push(chunk);
            while let Some(message) = reader.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_back_however_the_bytes_arrive() {
        let bytes: Vec<u8> = all().iter().flat_map(encode).collect();
        for chunk in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(read_in_chunks_of(&bytes, chunk), Ok(all()), "in chunks of {chunk}");
        }
    }

    #[test]
    fn an_unknown_frame_is_skipped() {
        let bytes = [frame(200, 0xff, &[0; 300]), encode(&hello())].concat();
        assert_eq!(read_in_chunks_of(&bytes, 11), Ok(vec![hello()]));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let check = |bytes: &[u8], expect| assert_eq!(read_in_chunks_of(bytes, 64), Err(expect), "{bytes:?}");
        check(&[9, 0, 0xff, 0xff, 0xff, 0x7f], FrameError::TooLong { bytes: 0x0fff_ffff, limit: FRAME_BYTES_MAX });
        check(&[1, 0, 1, 0xff], FrameError::Malformed { kind: 1 });
        check(&[4, 0, 3, 1, 2, 3], FrameError::Malformed { kind: 4 });
        check(&[[5, 0].as_slice(), &[0xff; 11]].concat(), FrameError::Malformed { kind: 5 });
        let mut longer = encode(&Message::Busy(Busy { retry_ms: 1, ext: vec![] }));
        longer[2] += 1;
        longer.push(0);
        check(&longer, FrameError::Malformed { kind: 6 });
    }
}
