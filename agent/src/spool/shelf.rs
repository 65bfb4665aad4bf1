//! What of the spools is on disk: which files there are, what each still holds, and what is to be done to them next.
//! Pure: jobs out, what became of them in.

use std::collections::VecDeque;
use std::time::Duration;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::time::Timestamp;
use common::wire::codec;
use common::wire::codec::State;

use crate::config::DiskLimits;
use crate::spool::chain::Chain;
use crate::spool::segment;
use crate::spool::segment::Content;
use crate::spool::segment::MAGIC;
use crate::spool::segment::Tail;

/// Files at most: a day in spools of 31 batches is 279.
pub const SEGMENTS_MAX: usize = 600;

/// Batches in one file: what a closed spool has.
const SEGMENT_BATCHES_MAX: u64 = 32;

/// Bytes of batches in one file, which is read as a whole to be sent.
const SEGMENT_BYTES_MAX: usize = 1 << 20;

/// How long the disk is left alone after it refused something.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Something to do to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Append to a file, and see that it is durable. `begin`: there is no such file.
    Append {
        /// Which file.
        number: u64,
        /// Whether it begins here.
        begin: bool,
        /// What to append.
        bytes: Vec<u8>,
    },
    /// Read a whole file.
    Read {
        /// Which file.
        number: u64,
    },
    /// Remove a file.
    Remove {
        /// Which file.
        number: u64,
    },
}

/// What became of a job: the bytes of a file that was read, else none.
pub type Outcome = Result<Vec<u8>, String>;

/// Batches that a write put on disk: those of `spool` before `end`.
pub(super) struct Written {
    pub(super) spool: SpoolId,
    pub(super) end: Seq,
}

/// A file that was read back.
#[derive(Debug)]
pub(super) struct Loaded {
    number: u64,
    pub(super) chain: Chain,
    pub(super) run: RunId,
    pub(super) schema: Schema,
}

#[derive(Debug)]
pub(super) struct Shelf {
    limits: DiskLimits,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// Files that are not needed any more.
    unneeded: VecDeque<u64>,
    /// The number of the next file.
    next: u64,
    writing: Option<Writing>,
    loaded: Option<Loaded>,
    /// The file that somebody wants to send from.
    wanted: Option<u64>,
    /// When the disk is asked again, after it did not give a file.
    read_at: Duration,
    out: Option<Out>,
    trouble: Option<Trouble>,
    corrupt_total: u64,
    lost_total: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    spool: SpoolId,
    first: Seq,
    /// Behind the last batch that is there.
    end: Seq,
    acked: Seq,
    unsent: Seq,
    bytes: u64,
    newest: Timestamp,
    /// How often it could not be read.
    failures: u32,
}

/// The file that is appended to.
#[derive(Debug)]
struct Writing {
    number: u64,
    spool: SpoolId,
    next: Seq,
    batches: u64,
    bytes: usize,
    schema_version: u32,
    state: State,
}

/// The job that is under way.
#[derive(Debug)]
enum Out {
    Append { number: u64, spool: SpoolId, end: Seq, bytes: u64, newest: Timestamp },
    Read(u64),
    Remove,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    retry_at: Duration,
}

impl Segment {
    fn left(&self) -> u64 {
        self.end.0.saturating_sub(self.acked.max(self.first).0)
    }
}

impl Shelf {
    pub(super) const fn new(limits: DiskLimits) -> Self {
        Self {
            limits,
            segments: VecDeque::new(),
            unneeded: VecDeque::new(),
            next: 0,
            writing: None,
            loaded: None,
            wanted: None,
            read_at: Duration::ZERO,
            out: None,
            trouble: None,
            corrupt_total: 0,
            lost_total: 0,
        }
    }

    /// Takes in a file that an earlier run left.
    pub(super) fn adopt(&mut self, number: u64, file: &[u8]) {
        self.next = self.next.max(number.saturating_add(1));
        let (content, tail) = segment::read(file);
        self.corrupt_total += u64::from(tail == Tail::Corrupt);
        let ends = content.as_ref().and_then(|content| content.batches.front().zip(content.batches.back()));
        let Some((first, last)) = ends else {
            self.unneeded.push_back(number);
            return;
        };
        self.segments.push_back(Segment {
            number,
            spool: first.spool,
            first: first.seq,
            end: last.seq.next(),
            acked: Seq::default(),
            unsent: first.seq,
            bytes: file.len() as u64,
            newest: last.stamp,
            failures: 0,
        });
    }

    /// The spools that have something there, the oldest first, and the place behind what is there of each file of theirs.
    pub(super) fn spools(&self) -> impl Iterator<Item = (SpoolId, Seq)> {
        self.segments.iter().map(|segment| (segment.spool, segment.end))
    }

    /// Batches of the spools that are not in memory and not acknowledged.
    pub(super) fn batches(&self, in_memory: impl Fn(SpoolId) -> bool) -> u64 {
        self.segments.iter().filter(|segment| !in_memory(segment.spool)).map(Segment::left).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Files that were not what was written.
    pub(super) const fn corrupt_total(&self) -> u64 {
        self.corrupt_total
    }

    /// Batches in them that could not be read back.
    pub(super) const fn lost_total(&self) -> u64 {
        self.lost_total
    }

    /// Why nothing can be kept on disk, if that is so.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.why.as_str())
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.out.is_some()
    }

    /// Where a session begins.
    pub(super) fn begin_session(&mut self) {
        for segment in &mut self.segments {
            segment.unsent = segment.acked.max(segment.first);
        }
        self.loaded = None;
    }

    /// All batches of a spool before `end` are not needed any more. Returns how many that were.
    pub(super) fn release(&mut self, spool: SpoolId, end: Seq) -> u64 {
        let mut released = 0;
        for segment in self.segments.iter_mut().filter(|segment| segment.spool == spool) {
            let left = segment.left();
            segment.acked = segment.acked.max(end);
            segment.unsent = segment.unsent.max(end);
            released += left - segment.left();
        }
        self.clear_away();
        released
    }

    fn clear_away(&mut self) {
        let Self { segments, unneeded, loaded, writing, out, .. } = self;
        let appending = match out {
            Some(Out::Append { number, .. }) => Some(*number),
            Some(Out::Read(_) | Out::Remove) | None => None,
        };
        segments.retain(|segment| {
            let needed = 0 < segment.left() || appending == Some(segment.number);
            if !needed {
                unneeded.push_back(segment.number);
                loaded.take_if(|loaded| loaded.number == segment.number);
                writing.take_if(|writing| writing.number == segment.number);
            }
            needed
        });
    }

    /// A spool has left the memory; what was sent of it in this session goes on from there.
    pub(super) fn take_over(&mut self, spool: SpoolId, unsent: Seq) {
        for segment in self.segments.iter_mut().filter(|segment| segment.spool == spool) {
            segment.unsent = segment.unsent.max(unsent);
        }
    }

    /// The oldest file, if there is more than there may be: its spool, the batches before which go, and how many of
    /// them are left. `newest` is the end of the newest window.
    pub(super) fn excess(&self, newest: Timestamp) -> Option<(SpoolId, Seq, u64)> {
        let oldest = self.segments.front()?;
        let too_much = self.limits.bytes_max < self.bytes() || SEGMENTS_MAX < self.segments.len();
        let is_out = self.writing.as_ref().is_some_and(|writing| writing.number == oldest.number);
        let too_old = self.limits.age_max < newest.since(oldest.newest);
        (!is_out && (too_much || too_old)).then(|| (oldest.spool, oldest.end, oldest.left()))
    }

    /// A file that is not needed.
    pub(super) fn remove(&mut self) -> Option<Job> {
        let number = self.unneeded.pop_front()?;
        self.out = Some(Out::Remove);
        Some(Job::Remove { number })
    }

    /// Whether something may be written: the disk is used, and did not refuse something just before.
    pub(super) fn may_write(&self, now: Duration) -> bool {
        self.due_from(now).is_some_and(|from| from <= now)
    }

    /// When something that is due at `at` can be written; never where the disk is not used.
    pub(super) fn due_from(&self, at: Duration) -> Option<Duration> {
        let from = self.trouble.as_ref().map_or(at, |trouble| trouble.retry_at.max(at));
        (0 < self.limits.bytes_max).then_some(from)
    }

    /// Writes batches that are not on disk, as many as one file takes.
    pub(super) fn append(&mut self, unwritten: Vec<(EncodedBatch, Batch)>, schema: &Schema) -> Option<Job> {
        let (first, _) = unwritten.first()?;
        let (spool, first, newest) = (first.spool, first.seq, first.stamp);
        let bytes_max = self.segment_bytes();
        let is_full = |writing: &Writing| SEGMENT_BATCHES_MAX <= writing.batches || bytes_max <= writing.bytes;
        let fits = |writing: &Writing| (writing.spool, writing.next) == (spool, first) && !is_full(writing);
        let begun = self.writing.take().filter(fits);
        let begin = begun.is_none();
        let mut writing = begun.unwrap_or_else(|| Writing::new(self.next, spool, first));
        if begin {
            self.next += 1;
            let number = writing.number;
            let (acked, unsent) = (Seq::default(), first);
            let segment = Segment { number, spool, first, end: first, acked, unsent, bytes: 0, newest, failures: 0 };
            self.segments.push_back(segment);
        }
        let mut bytes = if begin { MAGIC.to_vec() } else { Vec::new() };
        let mut newest = newest;
        for (batch, decoded) in unwritten {
            if is_full(&writing) {
                break;
            }
            newest = batch.stamp;
            writing.put(&mut bytes, &batch, &decoded, schema);
        }
        let (number, end) = (writing.number, writing.next);
        self.out = Some(Out::Append { number, spool, end, bytes: bytes.len() as u64, newest });
        self.writing = Some(writing);
        Some(Job::Append { number, begin, bytes })
    }

    /// Small where little may be kept, so that not all goes when the oldest does.
    fn segment_bytes(&self) -> usize {
        let share = usize::try_from(self.limits.bytes_max / 8).unwrap_or(usize::MAX);
        SEGMENT_BYTES_MAX.min(share)
    }

    /// When the file that was asked for can be read.
    pub(super) fn read_at(&self) -> Option<Duration> {
        self.wanted.map(|_| self.read_at)
    }

    /// Reads the file that was asked for.
    pub(super) fn read(&mut self, now: Duration) -> Option<Job> {
        let number = self.wanted.take_if(|_| self.read_at <= now)?;
        self.out = Some(Out::Read(number));
        Some(Job::Read { number })
    }

    /// Takes what became of the job that is under way.
    pub(super) fn done(&mut self, outcome: Outcome, now: Duration) -> Option<Written> {
        match (self.out.take()?, outcome) {
            (Out::Append { number, spool, end, bytes, newest }, Ok(_)) => {
                self.trouble = None;
                for segment in self.segments.iter_mut().filter(|segment| segment.number == number) {
                    (segment.end, segment.newest) = (end, newest);
                    segment.bytes += bytes;
                }
                self.clear_away();
                Some(Written { spool, end })
            }
            (Out::Append { .. }, Err(why)) => {
                self.trouble = Some(Trouble { why, retry_at: now.saturating_add(RETRY_AFTER) });
                // What is written next begins a file of its own.
                self.writing = None;
                self.clear_away();
                None
            }
            (Out::Read(number), Ok(file)) => {
                self.load(number, &file);
                None
            }
            (Out::Read(number), Err(_)) => {
                self.pass_over(number, now);
                None
            }
            (Out::Remove, _) => None,
        }
    }

    fn load(&mut self, number: u64, file: &[u8]) {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) else { return };
        let (content, _) = segment::read(file);
        let found = content.as_ref().and_then(|content| content.batches.back()).map(|last| last.seq.next());
        let found = found.unwrap_or(segment.first).max(segment.acked);
        if found < segment.end {
            self.corrupt_total += 1;
            self.lost_total += segment.end.0 - found.0;
            segment.end = found;
        }
        self.loaded = content.and_then(|Content { run, schema, batches }| {
            Some(Loaded { number, chain: Chain::of(batches, segment.unsent)?, run, schema })
        });
        self.clear_away();
    }

    /// What cannot be read at present is tried again behind the others.
    fn pass_over(&mut self, number: u64, now: Duration) {
        self.read_at = now.saturating_add(RETRY_AFTER);
        for segment in self.segments.iter_mut().filter(|segment| segment.number == number) {
            segment.failures += 1;
        }
    }

    /// The file that the next batch stands in: of a spool that is not in memory.
    pub(super) fn next_unsent(&self, in_memory: impl Fn(SpoolId) -> bool) -> Option<u64> {
        let has_more = |segment: &&Segment| segment.unsent < segment.end && !in_memory(segment.spool);
        let next = self.segments.iter().filter(has_more).min_by_key(|segment| segment.failures);
        next.map(|segment| segment.number)
    }

    /// The next batch of a file by a codec, if it has been read; else that is asked for.
    pub(super) fn send(&mut self, number: u64, codec: u8) -> Option<(EncodedBatch, &Loaded)> {
        let loaded = match &mut self.loaded {
            Some(loaded) if loaded.number == number => loaded,
            _ => {
                self.wanted = Some(number);
                return None;
            }
        };
        let batch = loaded.chain.send(&loaded.schema, codec)?;
        for segment in self.segments.iter_mut().filter(|segment| segment.number == number) {
            segment.unsent = batch.seq.next();
        }
        self.loaded.as_ref().map(|loaded| (batch, loaded))
    }
}

impl Writing {
    fn new(number: u64, spool: SpoolId, next: Seq) -> Self {
        Self { number, spool, next, batches: 0, bytes: 0, schema_version: 0, state: State::default() }
    }

    /// Coded against the batch before it in the file, whatever was sent of it meanwhile.
    fn put(&mut self, bytes: &mut Vec<u8>, batch: &EncodedBatch, decoded: &Batch, schema: &Schema) {
        let version = batch.schema_version;
        for change in schema.changes_since(self.schema_version).take_while(|change| change.version <= version) {
            segment::put_schema(bytes, batch.run, change);
        }
        self.schema_version = self.schema_version.max(version);
        let keyframe = batch.keyframe || self.batches == 0;
        if keyframe {
            self.state = State::default();
        }
        let payload = codec::encode(batch.codec, decoded, (schema, version), &mut self.state);
        self.bytes += payload.len();
        self.batches += 1;
        self.next = batch.seq.next();
        segment::put_batch(bytes, EncodedBatch { keyframe, payload, ..*batch });
    }
}
