//! One file of the spool: a stretch of one spool's batches, with all that it takes to replay them.
//!
//! Behind the magic stand records: checksum, length, and a frame as it travels. The first batch is a keyframe, and a
//! schema version stands before the batch that uses it. A record that is not what was written ends the file.

use std::collections::VecDeque;

use common::batch::EncodedBatch;
use common::batch::RunId;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Message;
use common::wire::message::SchemaMessage;

/// What a file begins with: the last byte is the version of the format.
pub(super) const MAGIC: &[u8; 8] = b"LWSPOOL\x01";

/// What a file can be read back from.
#[derive(Debug)]
pub(super) struct Content {
    /// Whose schema the batches use.
    pub(super) run: RunId,
    pub(super) schema: Schema,
    /// One behind the other, all of one spool. Not empty.
    pub(super) batches: VecDeque<EncodedBatch>,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// In the midst of a write.
    Torn,
    /// With something that was never written there.
    Corrupt,
}

/// Appends a version of a run's schema.
pub(super) fn put_schema(out: &mut Vec<u8>, run: RunId, change: SchemaChange) {
    put(out, &Message::Schema(SchemaMessage { run, change, ext: Vec::new() }));
}

/// Appends a batch.
pub(super) fn put_batch(out: &mut Vec<u8>, batch: EncodedBatch) {
    put(out, &Message::Batch(batch));
}

fn put(out: &mut Vec<u8>, message: &Message) {
    let frame = frame::encode(message);
    // A frame is far shorter than 4 GiB.
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend(checksum(length, &frame).to_le_bytes());
    out.extend(length);
    out.extend(frame);
}

fn checksum(length: [u8; 4], frame: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&length);
    checksum.update(frame);
    checksum.finalize()
}

/// What of a file can be read, and why not more.
pub(super) fn read(file: &[u8]) -> (Option<Content>, Tail) {
    let Some(mut rest) = file.strip_prefix(MAGIC) else {
        let begun = MAGIC.starts_with(file) || file.iter().all(|byte| *byte == 0);
        return (None, if begun { Tail::Torn } else { Tail::Corrupt });
    };
    let mut replay = Replay::default();
    let tail = loop {
        if rest.is_empty() {
            break Tail::Whole;
        }
        let Some((frame, behind)) = split(rest) else { break tail(rest) };
        if !replay.take(frame) {
            break Tail::Corrupt;
        }
        rest = behind;
    };
    let Replay { run, schema, batches } = replay;
    let content = run.filter(|_| !batches.is_empty()).map(|run| Content { run, schema, batches });
    (content, tail)
}

/// The frame of the first record, if it is whole and intact, and what stands behind it.
fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (expected, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (frame, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (checksum(*length, frame) == u32::from_le_bytes(*expected)).then_some((frame, rest))
}

/// A write that was cut off reaches to the end of the file; where blocks of it are missing there are zeros.
fn tail(rest: &[u8]) -> Tail {
    let length = rest.get(4..8).and_then(|length| <[u8; 4]>::try_from(length).ok()).map(u32::from_le_bytes);
    let reaches_end = length.is_none_or(|length| rest.len().saturating_sub(8) <= length as usize);
    if reaches_end || rest.iter().all(|byte| *byte == 0) { Tail::Torn } else { Tail::Corrupt }
}

#[derive(Default)]
struct Replay {
    run: Option<RunId>,
    schema: Schema,
    batches: VecDeque<EncodedBatch>,
}

impl Replay {
    /// Whether the frame is one that follows.
    fn take(&mut self, frame: &[u8]) -> bool {
        let mut reader = Reader::new(FRAME_BYTES_MAX);
        reader.push(frame);
        match reader.next() {
            Ok(Some(Message::Schema(SchemaMessage { run, change, .. }))) => {
                *self.run.get_or_insert(run) == run && self.schema.apply(&change).is_ok()
            }
            Ok(Some(Message::Batch(batch))) => {
                let follows = match self.batches.back() {
                    Some(before) => before.spool == batch.spool && before.seq.next() == batch.seq,
                    None => batch.keyframe,
                };
                let known = self.run == Some(batch.run) && batch.schema_version <= self.schema.version();
                if follows && known {
                    self.batches.push_back(batch);
                }
                follows && known
            }
            _ => false,
        }
    }
}
