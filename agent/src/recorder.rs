//! The flight recorder: the last ten minutes of every series at each tick, compressed in memory, for whoever asks inside
//! the process.
//!
//! A block holds two minutes of ticks and can be read by itself; `common::wire::recording` says how ticks stand in it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use common::metric::Decimals;
use common::metric::Tier;
use common::schema::SeriesIndex;
use common::time::TimeRange;
use common::time::Timestamp;
use common::wire::bytes::put_varint;
use common::wire::bytes::zigzag;
use common::wire::recording::BITS_FOLLOW;
use common::wire::recording::Slot;
use common::wire::recording::Tick;
use common::wire::recording::Track;
use common::wire::recording::kind;
use tokio::sync::Notify;

/// Ticks in a block: what is forgotten at once, and what must be read to find one tick.
const BLOCK_TICKS: usize = 120;

/// Blocks that are full. With the open one they reach back ten minutes or a little more.
const BLOCKS: usize = 5;

/// Bytes of all blocks: twice what ten minutes of an ordinary host take. On a larger one the recorder reaches back less
/// far, which `lapwing_agent_recorded_seconds` shows: an agent has 8 MiB in all.
pub const RECORDED_BYTES_MAX: usize = 1 << 20;

/// Bytes after which a block is full, whatever its ticks: a bounded recorder forgets in small steps.
const BLOCK_BYTES: usize = RECORDED_BYTES_MAX / 8;

/// A handle on the recorder of this process. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Ring>>, Arc<Notify>);

/// What had a value at one tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// When.
    pub stamp: Timestamp,
    /// In which run of this process: the first is 0.
    pub run: u32,
    /// Series of that run and their values, in the order of their index.
    pub values: Vec<(SeriesIndex, f64)>,
}

/// Bytes of a block, from where a reader stopped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// In which run of this process: the first is 0.
    pub run: u32,
    /// Whether a block begins with it.
    pub begin: bool,
    /// What the values of its series mean that the pieces before it of the block did not have.
    pub decimals: Vec<Decimals>,
    /// Whole ticks.
    pub bytes: Vec<u8>,
}

/// Where a reader of pieces stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The block, as all that ever were are counted.
    block: u64,
    /// Bytes of it that were read, and series whose decimals were.
    read: (usize, usize),
}

/// What was recorded in a stretch of time, tick by tick: it is decoded as it is asked for.
#[derive(Debug)]
pub struct Recording {
    range: TimeRange,
    blocks: VecDeque<Part>,
    /// Place in the first of the blocks.
    at: usize,
    track: Track,
}

impl Recorder {
    /// Records a tick. `due` is the slowest tier that has values at it; `decimals` tells what a series' values mean.
    pub fn record(
        &self,
        stamp: Timestamp,
        due: Tier,
        values: &[(SeriesIndex, f64)],
        decimals: impl Fn(SeriesIndex) -> Decimals,
    ) {
        self.lock().record(stamp, due, values, decimals);
        self.1.notify_one();
    }

    /// Begins a new run, with a schema of its own.
    pub fn renew(&self) {
        self.lock().renew();
    }

    /// What was recorded in a stretch of time, as far as it is still held.
    #[must_use]
    pub fn read(&self, range: TimeRange) -> Recording {
        let ring = self.lock();
        let mut blocks: VecDeque<_> = ring.full.iter().map(|block| block.part.clone()).collect();
        blocks.push_back(ring.part());
        Recording { range, blocks, at: 0, track: Track::default() }
    }

    /// Where to begin to read all that is held from `from` on, and a little before.
    #[must_use]
    pub fn cursor(&self, from: Timestamp) -> Cursor {
        let ring = self.lock();
        let begun = ring.full.iter().filter_map(|block| block.first.le(&from).then_some(())).count();
        let open = ring.first.is_some_and(|first| first <= from);
        let before = if open { ring.full.len() } else { begun.saturating_sub(1) };
        Cursor { block: ring.forgotten + before as u64, read: (0, 0) }
    }

    /// What comes next, if there is something.
    #[must_use]
    pub fn next(&self, cursor: &mut Cursor) -> Option<Piece> {
        let ring = self.lock();
        loop {
            // What was forgotten meanwhile is not there any more.
            if cursor.block < ring.forgotten {
                *cursor = Cursor { block: ring.forgotten, read: (0, 0) };
            }
            let at = usize::try_from(cursor.block - ring.forgotten).ok()?;
            let (read, known) = cursor.read;
            let (run, decimals, bytes, closed) = match ring.full.get(at) {
                Some(Block { part, .. }) => (part.run, &part.decimals, &*part.bytes, true),
                None if at == ring.full.len() => (ring.run, &ring.decimals, ring.open.as_slice(), false),
                None => return None,
            };
            if let Some(bytes) = bytes.get(read..).filter(|bytes| !bytes.is_empty()) {
                let decimals = decimals.get(known..).unwrap_or_default().to_vec();
                cursor.read = (read + bytes.len(), known + decimals.len());
                return Some(Piece { run, begin: read == 0, decimals, bytes: bytes.to_vec() });
            }
            if !closed {
                return None;
            }
            *cursor = Cursor { block: cursor.block + 1, read: (0, 0) };
        }
    }

    /// The latest tick; the beginning of time before the first.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.lock().latest
    }

    /// Waits until a tick was recorded since the last wait.
    pub async fn recorded(&self) {
        self.1.notified().await;
    }

    /// The oldest tick that is held.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        let ring = self.lock();
        ring.full.front().map(|block| block.first).or(ring.first)
    }

    /// Bytes that the values held take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let ring = self.lock();
        ring.full_bytes + ring.open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing panics under the lock; if it did, a block would end early and its reader with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Ring {
    full: VecDeque<Block>,
    full_bytes: usize,
    /// Blocks that were forgotten.
    forgotten: u64,
    open: Vec<u8>,
    /// The first tick of the open block.
    first: Option<Timestamp>,
    /// The latest tick.
    latest: Timestamp,
    ticks: usize,
    track: Track,
    run: u32,
    decimals: Arc<Vec<Decimals>>,
    /// The values of the tick that is being recorded, by series.
    row: Vec<Option<f64>>,
    boundaries: Vec<u64>,
}

#[derive(Debug)]
struct Block {
    first: Timestamp,
    part: Part,
}

/// What it takes to read a block.
#[derive(Clone, Debug)]
struct Part {
    run: u32,
    /// Of the run's series, at least as many as are in the block.
    decimals: Arc<Vec<Decimals>>,
    bytes: Arc<[u8]>,
}

impl Ring {
    fn record(
        &mut self,
        stamp: Timestamp,
        due: Tier,
        values: &[(SeriesIndex, f64)],
        decimals: impl Fn(SeriesIndex) -> Decimals,
    ) {
        if BLOCK_TICKS <= self.ticks || BLOCK_BYTES <= self.open.len() {
            self.close();
        }
        self.open.reserve(BLOCK_BYTES.saturating_sub(self.open.len()));
        self.first.get_or_insert(stamp);
        self.ticks += 1;
        self.latest = stamp;
        for &(series, value) in values {
            let at = series.0 as usize;
            while self.row.len() <= at {
                let next = SeriesIndex(u32::try_from(self.row.len()).unwrap_or(u32::MAX));
                Arc::make_mut(&mut self.decimals).push(decimals(next));
                self.row.push(None);
            }
            self.row[at] = Some(value);
        }
        self.track.slots.resize(self.row.len(), Slot::default());
        put_varint(&mut self.open, zigzag(stamp.as_millis() - mem::replace(&mut self.track.stamp, stamp).as_millis()));
        self.open.push(kind(due));
        self.put_presence(kind(due));
        self.put_values();
    }

    /// Says which series have a value: stretches of those that are as they were at the last tick of the kind, and of
    /// those that are not, in turn.
    fn put_presence(&mut self, kind: u8) {
        let (mut odd_before, mut at_before) = (false, 0);
        self.boundaries.clear();
        for (at, (slot, value)) in (0..).zip(self.track.slots.iter_mut().zip(&self.row)) {
            let odd = value.is_some() != (slot.kinds & kind != 0);
            slot.kinds ^= if odd { kind } else { 0 };
            if odd != odd_before {
                self.boundaries.push(at - at_before);
                (odd_before, at_before) = (odd, at);
            }
        }
        put_varint(&mut self.open, self.row.len() as u64);
        put_varint(&mut self.open, self.boundaries.len() as u64);
        self.boundaries.iter().for_each(|&length| put_varint(&mut self.open, length));
    }

    fn put_values(&mut self) {
        let Self { open, track, row, decimals, .. } = self;
        let mut still = 0;
        for ((slot, value), decimals) in track.slots.iter_mut().zip(row).zip(decimals.iter()) {
            let Some(value) = value.take() else { continue };
            let before = mem::replace(&mut slot.value, value);
            if before.to_bits() == value.to_bits() {
                still += 1;
                continue;
            }
            put_still(open, &mut still);
            if let (Some(before), Some(now)) = (decimals.mantissa(before), decimals.mantissa(value)) {
                // Mantissas are below 2^53: the difference has room for the mark.
                put_varint(open, zigzag(now - before) << 1 | 1);
            } else {
                put_varint(open, BITS_FOLLOW);
                open.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        put_still(open, &mut still);
    }

    fn renew(&mut self) {
        self.close();
        self.run += 1;
        (self.decimals, self.row, self.track) = (Arc::default(), Vec::new(), Track::default());
    }

    /// The open block.
    fn part(&self) -> Part {
        Part { run: self.run, decimals: Arc::clone(&self.decimals), bytes: self.open.as_slice().into() }
    }

    /// Ends the open block, and forgets what is too old or too much.
    fn close(&mut self) {
        if let Some(first) = self.first.take() {
            self.full_bytes += self.open.len();
            self.full.push_back(Block { first, part: self.part() });
        }
        while BLOCKS < self.full.len() || RECORDED_BYTES_MAX < self.full_bytes + BLOCK_BYTES {
            let Some(oldest) = self.full.pop_front() else { break };
            self.full_bytes -= oldest.part.bytes.len();
            self.forgotten += 1;
        }
        self.open.clear();
        self.open.shrink_to(2 * BLOCK_BYTES);
        self.ticks = 0;
        self.track.begin_block();
    }
}

fn put_still(out: &mut Vec<u8>, still: &mut u64) {
    if 0 < *still {
        put_varint(out, mem::take(still) << 1);
    }
}

impl Iterator for Recording {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        while let Some(block) = self.blocks.front() {
            match self.track.next(&block.decimals, &block.bytes, &mut self.at) {
                Some(Tick { stamp, values }) if self.range.contains(stamp) => {
                    return Some(Row { stamp, run: block.run, values });
                }
                Some(_) => {}
                None => {
                    self.blocks.pop_front();
                    (self.at, self.track) = (0, Track::default());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVER: TimeRange = TimeRange { after: Timestamp::from_seconds(0), through: Timestamp::from_seconds(1 << 40) };

    fn decimals(series: SeriesIndex) -> Decimals {
        [Decimals::new(0), Decimals::new(2), Decimals::FULL][series.0 as usize % 3]
    }

    fn second(at: usize) -> Timestamp {
        Timestamp::from_seconds(1_000 + i64::try_from(at).unwrap())
    }

    /// What a recorder holds of rows of one value of one series.
    fn held(recorder: &Recorder, range: TimeRange) -> Option<(Timestamp, Timestamp, usize)> {
        let rows: Vec<_> = recorder.read(range).map(|row| row.stamp).collect();
        Some((*rows.first()?, *rows.last()?, rows.len()))
    }

    #[test]
    fn ten_minutes_are_held_and_what_is_older_goes_by_blocks() {
        let recorder = Recorder::default();
        assert_eq!((recorder.oldest(), held(&recorder, EVER)), (None, None));
        for at in 0..2_000 {
            recorder.record(second(at), Tier::Second, &[(SeriesIndex(0), 1.0)], decimals);
            let kept = (at + 1).min(BLOCKS * BLOCK_TICKS + at % BLOCK_TICKS + 1);
            let oldest = second(at + 1 - kept);
            assert_eq!(recorder.oldest(), Some(oldest));
            if at % 97 == 0 {
                assert_eq!(held(&recorder, EVER), Some((oldest, second(at), kept)));
            }
        }
        let range = |after, through| TimeRange { after: second(after), through: second(through) };
        assert_eq!(held(&recorder, range(1_500, 1_700)), Some((second(1_501), second(1_700), 200)));
        assert_eq!(held(&recorder, range(1_990, 9_000)), Some((second(1_991), second(1_999), 9)));
        assert_eq!(held(&recorder, range(0, 100)), None);
    }

    #[test]
    fn a_host_with_too_much_to_record_reaches_back_less_far() {
        let recorder = Recorder::default();
        let mut noise = 1_u64;
        for at in 0..700 {
            let mut next = || {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                f64::from_bits(noise >> 2)
            };
            let values: Vec<_> = (0..2_000).map(|series| (SeriesIndex(series * 3 + 2), next())).collect();
            recorder.record(second(at), Tier::Second, &values, decimals);
            let bytes = recorder.bytes();
            assert!(bytes <= RECORDED_BYTES_MAX + values.len() * 10, "{bytes} at {at}");
        }
        let (oldest, newest, ticks) = held(&recorder, EVER).unwrap();
        assert_eq!((newest, newest.since(oldest).as_secs()), (second(699), ticks as u64 - 1));
        assert!((40..100).contains(&ticks), "{ticks}");
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-50..50_i32).prop_map(f64::from),
            3 => (0..1_000_i32).prop_map(|hundredths| f64::from(hundredths) / 100.0),
            1 => any::<i64>().prop_map(|bits| f64::from_bits(bits.cast_unsigned())),
            1 => Just(-0.0),
        ]
    }

    fn row() -> impl Strategy<Value = (Tier, Vec<(u32, f64)>)> {
        let tier = prop_oneof![6 => Just(Tier::Second), 2 => Just(Tier::Window), 1 => Just(Tier::Minute)];
        (tier, prop::collection::btree_map(0..40_u32, value(), 0..30).prop_map(|row| row.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_recorded(rows in prop::collection::vec(row(), 1..400)) {
            let recorder = Recorder::default();
            let mut recorded = Vec::new();
            for (at, (due, values)) in rows.into_iter().enumerate() {
                let mut values: Vec<_> = values.into_iter().map(|(series, value)| (SeriesIndex(series), value)).collect();
                recorded.push((second(at), values.clone()));
                values.reverse();
                recorder.record(second(at), due, &values, decimals);
            }
            let read: Vec<_> = recorder.read(EVER).map(|row| (row.stamp, row.values)).collect();
            let bits = |rows: &[(Timestamp, Vec<(SeriesIndex, f64)>)]| -> Vec<_> {
                let values = |(stamp, row): &(Timestamp, Vec<(SeriesIndex, f64)>)| {
                    (*stamp, row.iter().map(|(series, value)| (*series, value.to_bits())).collect::<Vec<_>>())
                };
                rows.iter().map(values).collect()
            };
            prop_assert_eq!(bits(&read), bits(&recorded));
        }
    }
}
