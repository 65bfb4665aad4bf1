//! One ordered run of batches in memory, each coded against the one before it.
//!
//! A batch is encoded when it is pushed. The state before the oldest is kept, so that what follows a gap can be encoded
//! anew as a keyframe.

use std::collections::VecDeque;
use std::time::Duration;

use common::batch::Batch;
use common::batch::EncodedBatch;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::schema::Schema;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::State;

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) id: SpoolId,
    next: Seq,
    batches: VecDeque<EncodedBatch>,
    /// When each batch was pushed.
    since: VecDeque<Duration>,
    /// Where decoding stands before the first batch.
    before: State,
    /// Where encoding stands behind the last batch.
    behind: State,
    /// Progress in this session: the first batch not sent, and the one that the receiver can decode without a keyframe.
    unsent: Seq,
    decodable: Option<Seq>,
    /// The first batch that was sent in no session.
    untold: Seq,
    /// The first batch that is not on disk.
    unwritten: Seq,
}

impl Chain {
    pub(super) fn new(id: SpoolId) -> Self {
        Self {
            id,
            next: Seq::default(),
            batches: VecDeque::new(),
            since: VecDeque::new(),
            before: State::default(),
            behind: State::default(),
            unsent: Seq::default(),
            decodable: None,
            untold: Seq::default(),
            unwritten: Seq::default(),
        }
    }

    /// What was read back, to be sent from `unsent` on. What the receiver holds before may have been coded otherwise.
    pub(super) fn of(batches: VecDeque<EncodedBatch>, unsent: Seq) -> Option<Self> {
        let (first, last) = (batches.front()?, batches.back()?);
        let (id, next) = (first.spool, last.seq.next());
        Some(Self { next, batches, unsent, unwritten: next, ..Self::new(id) })
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// The run of its batches.
    pub(super) fn run(&self) -> Option<RunId> {
        self.batches.front().map(|batch| batch.run)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.payload.len()).sum()
    }

    /// The place of its first batch that is not acknowledged.
    pub(super) fn first(&self) -> Seq {
        self.batches.front().map_or(self.next, |batch| batch.seq)
    }

    /// The place behind its last batch.
    pub(super) const fn end(&self) -> Seq {
        self.next
    }

    pub(super) const fn unsent(&self) -> Seq {
        self.unsent
    }

    /// The first batch that was sent in no session: nobody can hold it.
    pub(super) const fn untold(&self) -> Seq {
        self.untold
    }

    pub(super) fn push(&mut self, (run, codec): (RunId, u8), batch: &Batch, schema: &Schema, now: Duration) {
        let keyframe = self.next == Seq::default() || EncodedBatch::quarter_begins(batch.stamp);
        if keyframe {
            self.behind = State::default();
        }
        let schema_version = schema.version();
        self.batches.push_back(EncodedBatch {
            run,
            spool: self.id,
            seq: self.next,
            schema_version,
            stamp: batch.stamp,
            codec,
            keyframe,
            payload: codec::encode(codec, batch, (schema, schema_version), &mut self.behind),
        });
        self.since.push_back(now);
        self.next = self.next.next();
    }

    /// Nothing is encoded behind its last batch any more.
    pub(super) fn close(self) -> Self {
        Self { behind: State::default(), ..self }
    }

    /// Removes all batches before `end`. Returns how many that were.
    pub(super) fn pop_before(&mut self, end: Seq, schema: &Schema) -> u64 {
        let mut popped = 0;
        while self.batches.front().is_some_and(|batch| batch.seq < end) && self.pop(schema).is_some() {
            popped += 1;
        }
        popped
    }

    /// Removes the first batch. Returns its place.
    pub(super) fn pop(&mut self, schema: &Schema) -> Option<Seq> {
        let batch = self.batches.pop_front()?;
        self.since.pop_front();
        // What this process encoded it can decode; if it could not, the next would have to be a keyframe.
        if decode(&batch, schema, &mut self.before).is_none() {
            self.before = State::default();
        }
        Some(batch.seq)
    }

    /// Where a session begins.
    pub(super) const fn begin(&mut self, decodable: Option<Seq>) {
        (self.unsent, self.decodable) = (Seq(0), decodable);
    }

    /// The next batch to send in this session, by the codec that both sides know.
    pub(super) fn send(&mut self, schema: &Schema, codec: u8) -> Option<EncodedBatch> {
        let at = self.batches.partition_point(|batch| batch.seq < self.unsent);
        let batch = self.batches.get(at)?;
        if batch.codec != codec || (!batch.keyframe && self.decodable != Some(batch.seq)) {
            self.encode_anew(at, schema, codec);
        }
        let batch = self.batches.get(at)?.clone();
        self.unsent = batch.seq.next();
        self.untold = self.untold.max(self.unsent);
        self.decodable = Some(self.unsent);
        Some(batch)
    }

    /// Makes a batch a keyframe. Those behind it are coded against it, so they change too, until the next keyframe.
    fn encode_anew(&mut self, from: usize, schema: &Schema, codec: u8) {
        let mut read = self.before.clone();
        let mut written = State::default();
        for (at, batch) in self.batches.iter_mut().enumerate() {
            if from < at && batch.keyframe {
                return;
            }
            let Some(decoded) = decode(batch, schema, &mut read) else { return };
            if from <= at {
                batch.keyframe = at == from;
                batch.codec = codec;
                batch.payload = codec::encode(codec, &decoded, (schema, batch.schema_version), &mut written);
            }
        }
        self.behind = written;
    }

    /// Since when its first batch that is not on disk waits.
    pub(super) fn unwritten_since(&self) -> Option<Duration> {
        let at = self.batches.partition_point(|batch| batch.seq < self.unwritten);
        self.since.get(at).copied()
    }

    /// Notes that all before `end` is on disk.
    pub(super) fn wrote(&mut self, end: Seq) {
        self.unwritten = self.unwritten.max(end);
    }

    /// What is not on disk, decoded, each with what else it takes to encode it.
    pub(super) fn unwritten(&self, schema: &Schema) -> Vec<(EncodedBatch, Batch)> {
        let mut read = self.before.clone();
        let mut unwritten = Vec::new();
        for batch in &self.batches {
            let Some(decoded) = decode(batch, schema, &mut read) else { break };
            if self.unwritten <= batch.seq {
                unwritten.push((EncodedBatch { payload: Vec::new(), ..*batch }, decoded));
            }
        }
        unwritten
    }
}

fn decode(batch: &EncodedBatch, schema: &Schema, state: &mut State) -> Option<Batch> {
    if batch.keyframe {
        *state = State::default();
    }
    let against = Against { schema, version: batch.schema_version, stamp: batch.stamp };
    codec::decode(batch.codec, &batch.payload, against, state).ok()
}
