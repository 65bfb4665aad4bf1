//! One series of the head: compressed chunks, a tail that is still growing, what came late, and what is being sealed.
//!
//! A backlog comes in its own order behind the live windows; it is gathered and merged a chunk at a time.

use common::time::{TimeRange, Timestamp};

use crate::store::chunk::Chunk;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::merge;
use crate::store::chunk::run::Run;
use crate::store::chunk::tail::Tail;
use crate::store::pile::Author;
use crate::store::pile::Pile;

/// Differing windows that make a chunk: half of what is there when it is sealed, in a third of the room. Smaller chunks are
/// more of their own heads.
const RUNS_IN_CHUNK: u32 = 60;

/// Differing windows that make one where they come together: what grows one by one costs more until there are so many.
const RUNS_AT_ONCE: u32 = 20;

/// Windows that make a chunk however few of them differ: an hour, so that retention can drop whole chunks.
const WINDOWS_IN_CHUNK: u32 = 360;

/// What is set aside to be written to block files.
#[derive(Debug, Default)]
enum Aside {
    #[default]
    Nothing,
    /// What is not after a stamp: nothing of its time has come since.
    Through(Timestamp),
    /// Chunks beside the others: what is behind may say something else about the same stamp, and is right.
    Apart(Box<[Chunk]>),
}

/// The windows of one series.
#[derive(Debug, Default)]
pub(super) struct Series {
    aside: Aside,
    /// Ascending, none overlapping another.
    chunks: Vec<Chunk>,
    /// Behind all chunks.
    tail: Tail,
    /// Not behind the tail when it came; newer than what it may replace.
    late: Option<Box<Tail>>,
    /// The latest stamp that it ever had, also when that is in no chunk any more, and whether it marks the end there.
    latest: Option<(Timestamp, bool)>,
}

impl Series {
    /// Adds entries, wherever their stamps belong. Answers how many entries are known to have been replaced since the
    /// last call: late ones meet those with the same stamp when they are merged.
    pub(super) fn append(&mut self, shape: Shape, entries: &[Entry]) -> u64 {
        let mut rest = entries;
        while let Some(some) = self.chunk_of(rest) {
            self.make_chunk(shape, some);
            some.iter().for_each(|entry| self.note_latest(*entry));
            rest = &rest[some.len()..];
        }
        rest.iter().map(|entry| self.append_one(shape, *entry)).sum()
    }

    /// The first of some entries, if there are as many as make a chunk, behind all others.
    fn chunk_of<'a>(&self, entries: &'a [Entry]) -> Option<&'a [Entry]> {
        let some = &entries[..entries.len().min(RUNS_IN_CHUNK as usize)];
        if some.len() < RUNS_AT_ONCE as usize {
            return None;
        }
        let first = some[0].stamp;
        let is_behind = self.growing_at().is_none_or(|last| last < first)
            && !matches!(self.aside, Aside::Through(cut) if first <= cut)
            && some.is_sorted_by(|before, entry| before.stamp < entry.stamp);
        let runs = || some.windows(2).filter(|pair| !Run::of(pair[0]).continues(pair[1])).take(RUNS_AT_ONCE as usize);
        (is_behind && RUNS_AT_ONCE as usize <= runs().count() + 1).then_some(some)
    }

    /// Makes a chunk of entries behind all others, and of the tail: one of its own where that is long.
    fn make_chunk(&mut self, shape: Shape, behind: &[Entry]) {
        let (runs, windows) = self.tail.len();
        let together = windows as usize + behind.len();
        if !behind.is_empty() && (RUNS_AT_ONCE <= runs || WINDOWS_IN_CHUNK as usize <= together) {
            self.make_chunk(shape, &[]);
        }
        let chunk = if self.tail.is_empty() {
            Chunk::encode(shape, behind)
        } else {
            // Only what goes on to grow keeps its room.
            let mut entries = if behind.is_empty() { self.tail.drain(shape) } else { self.tail.take(shape) };
            entries.extend_from_slice(behind);
            Chunk::encode(shape, &entries)
        };
        // There are a few until they are sealed: twice as many places as there are would mostly stay empty.
        self.chunks.reserve_exact(1);
        self.chunks.push(chunk);
    }

    fn append_one(&mut self, shape: Shape, entry: Entry) -> u64 {
        if matches!(self.aside, Aside::Through(cut) if entry.stamp <= cut) {
            self.part(shape);
        }
        self.note_latest(entry);
        if self.growing_at().is_none_or(|last| last < entry.stamp) {
            if is_enough(self.tail.len()) {
                self.make_chunk(shape, &[]);
            }
            self.tail.push(shape, entry);
            return 0;
        }
        let out_of_order =
            self.late.as_ref().and_then(|late| late.last_stamp()).is_some_and(|last| entry.stamp <= last);
        let before = if out_of_order { self.settle(shape) } else { 0 };
        let late = self.late.get_or_insert_default();
        late.push(shape, entry);
        before + if is_enough(late.len()) { self.settle(shape) } else { 0 }
    }

    fn note_latest(&mut self, entry: Entry) {
        if self.latest.is_none_or(|(latest, _)| latest <= entry.stamp) {
            self.latest = Some((entry.stamp, entry.window.is_none()));
        }
    }

    /// Puts what there is in a range on a pile. Where only the latest entry counts, no more than what that lies in, if that
    /// is easily known; then it answers the first stamp of that.
    pub(super) fn put(&self, shape: Shape, (range, latest): (TimeRange, bool), pile: &mut Pile) -> Option<Timestamp> {
        let frozen = self.apart();
        let is_late = self.late.as_ref().is_some_and(|late| late.touches(range));
        if latest && !is_late && !self.is_overlapped() {
            return self.put_latest(shape, range, pile);
        }
        for (author, chunks) in [(Author::Frozen, frozen), (Author::Growing, &self.chunks)] {
            reaching(chunks, range).iter().for_each(|chunk| pile.push_chunk((author, shape), chunk.lend(), range));
        }
        for (author, tail) in [(Author::Growing, Some(&self.tail)), (Author::Late, self.late.as_deref())] {
            let reaching = tail.and_then(|tail| tail.reaching(range));
            reaching.into_iter().for_each(|tail| pile.push_tail((author, shape), tail, range));
        }
        None
    }

    /// The same where everything ascends: what the latest entry of the range lies in is the last that begins in time, and
    /// mostly the last of all.
    fn put_latest(&self, shape: Shape, range: TimeRange, pile: &mut Pile) -> Option<Timestamp> {
        if let Some(run) = self.tail.latest(shape, range.through) {
            pile.push_run((Author::Growing, shape), run, range);
            return Some(run.first);
        }
        let frozen = self.apart();
        let mut chunks = frozen
            .iter()
            .map(|chunk| (Author::Frozen, chunk))
            .chain(self.chunks.iter().map(|chunk| (Author::Growing, chunk)));
        let (author, chunk) = chunks.rfind(|(_, chunk)| chunk.first <= range.through)?;
        pile.push_chunk((author, shape), chunk.lend(), range);
        Some(chunk.first)
    }

    /// Whether there is an entry in `range`. May err towards yes by what lies between the entries of one chunk.
    pub(super) fn touches(&self, range: TimeRange) -> bool {
        let chunks = self.apart().iter().chain(&self.chunks);
        let chunk = chunks.into_iter().any(|chunk| range.after < chunk.last && chunk.first <= range.through);
        chunk || self.tail.touches(range) || self.late.as_ref().is_some_and(|late| late.touches(range))
    }

    /// Drops what is not after `cutoff`; a chunk goes when its last entry does.
    pub(super) fn drop_through(&mut self, shape: Shape, cutoff: Timestamp) {
        if matches!(&self.aside, Aside::Apart(chunks) if chunks.iter().all(|chunk| chunk.last <= cutoff)) {
            self.aside = Aside::Nothing;
        }
        self.chunks.retain(|chunk| cutoff < chunk.last);
        for tail in std::iter::once(&mut self.tail).chain(self.late.as_deref_mut()) {
            if tail.first_stamp().is_some_and(|first| first <= cutoff) {
                let entries = tail.take(shape).into_iter().filter(|entry| cutoff < entry.stamp);
                entries.for_each(|entry| tail.push(shape, entry));
            }
        }
        self.late.take_if(|late| late.is_empty());
    }

    /// Whether it has no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.apart().is_empty() && self.first_stamp().is_none() && self.late.is_none()
    }

    /// The first stamp of what is set aside.
    pub(super) fn frozen_first(&self) -> Option<Timestamp> {
        match &self.aside {
            Aside::Nothing => None,
            Aside::Through(cut) => self.first_stamp().filter(|first| first <= cut),
            Aside::Apart(chunks) => chunks.first().map(|chunk| chunk.first),
        }
    }

    /// The last stamp of what is set aside, and whether it marks the end there.
    pub(super) fn frozen_last(&self, shape: Shape) -> Option<(Timestamp, bool)> {
        let of = |entry: Entry| (entry.stamp, entry.window.is_none());
        match &self.aside {
            Aside::Nothing => None,
            Aside::Through(cut) => {
                let growing = self.tail.latest(shape, *cut).map(|run| (run.first, run.window.is_none()));
                let chunk = || self.chunks.iter().rfind(|chunk| chunk.first <= *cut);
                let in_chunk = || chunk()?.decode(shape).into_iter().rfind(|entry| entry.stamp <= *cut).map(of);
                growing.or_else(in_chunk)
            }
            Aside::Apart(chunks) => chunks.last()?.decode(shape).pop().map(of),
        }
    }

    /// Whether it has entries that are not set aside.
    pub(super) fn is_growing(&self) -> bool {
        let is_behind = |last: Timestamp| !matches!(self.aside, Aside::Through(cut) if last <= cut);
        self.growing_at().is_some_and(is_behind) || self.late.is_some()
    }

    /// What it had before it came to be in the head.
    pub(super) fn continuing(latest: Option<(Timestamp, bool)>) -> Self {
        Self { latest, ..Self::default() }
    }

    /// Whether its latest entry came after a stamp, and does not mark the end.
    pub(super) fn lives_at(&self, stamp: Timestamp) -> bool {
        self.latest.is_some_and(|(latest, marked)| stamp < latest && !marked)
    }

    /// What is not after `cut`, and what was set aside before, to be written to block files: it stays readable until it is
    /// released, and where it is. A copy of all series at once would be a fifth of a head.
    pub(super) fn freeze(&mut self, shape: Shape, cut: Timestamp) -> Vec<Chunk> {
        self.settle(shape);
        if let Aside::Apart(before) = &self.aside {
            let merged = merge(decoded(shape, before), decoded(shape, &self.through(shape, cut)));
            self.aside = Aside::Through(cut);
            self.drop_aside(shape);
            let merged = encoded(shape, &merged);
            self.aside = Aside::Apart(merged.clone().into());
            return merged;
        }
        let frozen = self.through(shape, cut);
        self.aside = if frozen.is_empty() { Aside::Nothing } else { Aside::Through(cut) };
        frozen
    }

    /// Drops what was set aside: block files have it.
    pub(super) fn release(&mut self, shape: Shape) {
        self.drop_aside(shape);
        self.aside = Aside::Nothing;
    }

    /// Chunks of what is not after `cut`.
    fn through(&self, shape: Shape, cut: Timestamp) -> Vec<Chunk> {
        let whole = self.chunks.partition_point(|chunk| chunk.last <= cut);
        let (through, behind) = self.chunks.split_at(whole);
        let mut through = through.to_vec();
        let straddling = behind.first().filter(|chunk| chunk.first <= cut).map(|chunk| chunk.decode(shape));
        let growing = self.tail.first_stamp().filter(|first| *first <= cut).map(|_| self.tail.entries(shape));
        for mut entries in [straddling, growing].into_iter().flatten() {
            entries.truncate(entries.partition_point(|entry| entry.stamp <= cut));
            through.push(Chunk::encode(shape, &entries));
        }
        through
    }

    /// Keeps apart what is set aside: something of its time comes, and is not to go with it.
    fn part(&mut self, shape: Shape) {
        if let Aside::Through(cut) = self.aside {
            let through = self.through(shape, cut);
            self.drop_aside(shape);
            self.aside = Aside::Apart(through.into());
        }
    }

    /// Drops what is set aside from where it is.
    fn drop_aside(&mut self, shape: Shape) {
        let Aside::Through(cut) = self.aside else {
            return;
        };
        self.chunks.drain(..self.chunks.partition_point(|chunk| chunk.last <= cut));
        let behind = |mut entries: Vec<Entry>| entries.split_off(entries.partition_point(|entry| entry.stamp <= cut));
        if let Some(chunk) = self.chunks.first_mut().filter(|chunk| chunk.first <= cut) {
            *chunk = Chunk::encode(shape, &behind(chunk.decode(shape)));
        }
        if self.tail.first_stamp().is_some_and(|first| first <= cut) {
            let entries = behind(self.tail.drain(shape));
            entries.iter().for_each(|entry| self.tail.push(shape, *entry));
            if entries.is_empty() {
                // It may be silent from here on.
                self.tail = Tail::default();
            }
        }
    }

    /// Bytes of the compressed chunks, the tail and what came late.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.apart().iter().chain(&self.chunks);
        let chunks: usize = chunks.map(|chunk| size_of::<Chunk>() + chunk.bytes.len()).sum();
        chunks + self.tail.bytes() + self.late.as_ref().map_or(0, |late| size_of::<Tail>() + late.bytes())
    }

    /// Whether what is set aside goes on behind the beginning of the rest.
    fn is_overlapped(&self) -> bool {
        self.apart().last().is_some_and(|frozen| self.first_stamp().is_some_and(|first| first <= frozen.last))
    }

    /// What is set aside and kept apart.
    fn apart(&self) -> &[Chunk] {
        if let Aside::Apart(chunks) = &self.aside { chunks } else { &[] }
    }

    /// The latest stamp of what is not kept apart.
    fn growing_at(&self) -> Option<Timestamp> {
        self.tail.last_stamp().or_else(|| self.chunks.last().map(|chunk| chunk.last))
    }

    /// The first one, but for what came late.
    fn first_stamp(&self) -> Option<Timestamp> {
        self.chunks.first().map(|chunk| chunk.first).or_else(|| self.tail.first_stamp())
    }

    /// Merges what came late into the chunks it overlaps. Answers how many entries it replaced.
    fn settle(&mut self, shape: Shape) -> u64 {
        let late = self.late.take().map(|mut late| late.take(shape)).unwrap_or_default();
        let (Some(first), Some(last)) = (late.first().map(|entry| entry.stamp), late.last().map(|entry| entry.stamp))
        else {
            return 0;
        };
        let from = self.chunks.partition_point(|chunk| chunk.last < first);
        let to = self.chunks.partition_point(|chunk| chunk.first <= last);
        let mut there: Vec<Entry> = self.chunks[from..to].iter().flat_map(|chunk| chunk.decode(shape)).collect();
        if self.tail.first_stamp().is_some_and(|first| first <= last) {
            there.extend(self.tail.take(shape));
        }
        let count = there.len() + late.len();
        let merged = merge(there, late);
        drop(self.chunks.splice(from..to, encoded(shape, &merged)));
        (count - merged.len()) as u64
    }
}

/// Whether so many differing windows of so many make a chunk.
const fn is_enough((runs, windows): (u32, u32)) -> bool {
    RUNS_IN_CHUNK <= runs || WINDOWS_IN_CHUNK <= windows
}

/// Those that reach into a range.
fn reaching(chunks: &[Chunk], range: TimeRange) -> &[Chunk] {
    let chunks = &chunks[chunks.partition_point(|chunk| chunk.last <= range.after)..];
    &chunks[..chunks.partition_point(|chunk| chunk.first <= range.through)]
}

fn decoded(shape: Shape, chunks: &[Chunk]) -> Vec<Entry> {
    chunks.iter().flat_map(|chunk| chunk.decode(shape)).collect()
}

fn encoded(shape: Shape, entries: &[Entry]) -> Vec<Chunk> {
    entries.chunks(WINDOWS_IN_CHUNK as usize).map(|entries| Chunk::encode(shape, entries)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::metric::{Decimals, Kind};
    use common::window::{Gauge, Window};
    use proptest::prelude::*;

    use super::*;
    use crate::store::pile::Piled;
    use crate::store::select::Field;
    use crate::store::select::STALE;
    use crate::store::select::Samples;

    const SHAPE: Shape = Shape { kind: Kind::Gauge, decimals: Decimals::new(0), peak: false };
    const ALL: TimeRange =
        TimeRange { after: Timestamp::from_millis(i64::MIN), through: Timestamp::from_millis(i64::MAX) };

    fn read(series: &Series, range: TimeRange) -> Vec<(i64, Option<f64>)> {
        unpacked(series, (range, false))
    }

    fn unpacked(series: &Series, what: (TimeRange, bool)) -> Vec<(i64, Option<f64>)> {
        let mut pile = Pile::default();
        pile.begin(Piled { number: 0, labels: Default::default(), kind: SHAPE.kind, sealed: false, lived: ALL });
        series.put(SHAPE, what, &mut pile);
        let mut read = Vec::new();
        pile.each::<()>((&[Field::Last], &[]), &mut |selected| {
            let Samples { stamps, columns } = selected.samples;
            let value = |value: &f64| (value.to_bits() != STALE).then_some(*value);
            read.extend(stamps.iter().map(|stamp| stamp.as_millis()).zip(columns[0].iter().map(value)));
            Ok(())
        })
        .unwrap();
        read
    }

    fn entry(stamp: i64, value: Option<f64>) -> Entry {
        let window = value.map(|value| Window::Gauge(Gauge::of(value)));
        Entry { stamp: Timestamp::from_millis(stamp), window }
    }

    /// Mostly on the grid and in order, values that repeat.
    fn appends() -> impl Strategy<Value = Vec<(i64, Option<f64>)>> {
        let step = prop_oneof![20 => Just(10_000), 1 => -900_000..60_000_i64, 1 => Just(0_i64)];
        let value = prop_oneof![10 => (0..3_i32).prop_map(|value| Some(f64::from(value))), 1 => Just(None)];
        prop::collection::vec((step, value), 1..500).prop_map(|steps| {
            let walk = steps.into_iter().scan(1_000_000, |stamp, (step, value)| {
                *stamp += step;
                Some((*stamp, value))
            });
            walk.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_series_is_an_ordered_map_of_its_stamps(
            appends in appends(),
            at_once in 1..200_usize,
            after in 0..9_000_000_i64,
            length in 0..9_000_000_i64,
        ) {
            let (mut series, mut one_by_one) = (Series::default(), Series::default());
            let mut oracle = BTreeMap::new();
            let (mut replaced, mut expected) = (0, 0);
            for appends in appends.chunks(at_once) {
                let entries: Vec<Entry> = appends.iter().map(|(stamp, value)| entry(*stamp, *value)).collect();
                replaced += series.append(SHAPE, &entries);
                for entry in entries {
                    one_by_one.append(SHAPE, &[entry]);
                }
                expected += appends.iter().filter(|(stamp, value)| oracle.insert(*stamp, *value).is_some()).count() as u64;
            }
            prop_assert_eq!(series.latest, one_by_one.latest);
            prop_assert_eq!(read(&series, ALL), read(&one_by_one, ALL));
            prop_assert_eq!(read(&series, ALL), oracle.clone().into_iter().collect::<Vec<_>>());
            let range = TimeRange { after: Timestamp::from_millis(after), through: Timestamp::from_millis(after + length) };
            let inside: Vec<_> = oracle.range(after + 1..=after + length).map(|(stamp, value)| (*stamp, *value)).collect();
            prop_assert_eq!(unpacked(&series, (range, true)).last().copied(), inside.last().copied());
            prop_assert_eq!(read(&series, range), inside);
            prop_assert_eq!(replaced + series.settle(SHAPE), expected);
            prop_assert_eq!(read(&series, ALL), oracle.into_iter().collect::<Vec<_>>());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_set_aside_goes_and_what_came_since_stays(
            appends in prop::array::uniform4(appends()),
            cuts in prop::array::uniform3(800_000..4_000_000_i64),
            released in prop::array::uniform3(any::<bool>()),
        ) {
            let mut series = Series::default();
            // What was set aside, and what is not.
            let (mut aside, mut rest) = (BTreeMap::new(), BTreeMap::new());
            for (at, appends) in appends.into_iter().enumerate() {
                for (stamp, value) in appends {
                    series.append(SHAPE, &[entry(stamp, value)]);
                    rest.insert(stamp, value);
                }
                let mut all = aside.clone();
                all.extend(rest.clone());
                prop_assert_eq!(read(&series, ALL), all.into_iter().collect::<Vec<_>>());
                let Some(cut) = cuts.get(at) else { continue };
                let behind = rest.split_off(&(cut + 1));
                aside.append(&mut std::mem::replace(&mut rest, behind));
                let frozen = decoded(SHAPE, &series.freeze(SHAPE, Timestamp::from_millis(*cut)));
                let value = |entry: Entry| (entry.stamp.as_millis(), entry.window.map(|window| window.last()));
                let frozen: Vec<_> = frozen.into_iter().map(value).collect();
                prop_assert_eq!(&frozen, &aside.clone().into_iter().collect::<Vec<_>>());
                let last = frozen.last().map(|(stamp, value)| (Timestamp::from_millis(*stamp), value.is_none()));
                prop_assert_eq!((series.frozen_last(SHAPE), series.is_growing()), (last, !rest.is_empty()));
                if released[at] {
                    series.release(SHAPE);
                    aside.clear();
                }
            }
        }
    }

    #[test]
    fn what_comes_together_makes_a_chunk_at_once() {
        let some = |windows: std::ops::Range<i32>, still: i32| {
            let value = |window: i32| Some(f64::from(window.max(still)));
            windows.map(|window| entry(i64::from(window) * 10_000, value(window))).collect::<Vec<_>>()
        };
        let mut series = Series::default();
        // Those of which few differ, and few, grow.
        series.append(SHAPE, &some(0..60, 41));
        series.append(SHAPE, &some(60..79, 0));
        assert_eq!((series.chunks.len(), series.tail.len()), (0, (38, 79)));
        // What is long stands alone.
        series.append(SHAPE, &some(79..159, 0));
        series.append(SHAPE, &some(159..170, 0));
        series.append(SHAPE, &some(170..200, 0));
        let windows: Vec<usize> = series.chunks.iter().map(Chunk::len).collect();
        assert_eq!((&windows[..], series.tail.len()), (&[79, 60, 20, 41][..], (0, 0)));
        assert_eq!(read(&series, ALL).len(), 200);
        series.freeze(SHAPE, ALL.through);
        series.release(SHAPE);
        assert_eq!(series.bytes(), 0);
    }

    #[test]
    fn a_backlog_behind_the_live_windows_is_merged_by_the_block() {
        let mut series = Series::default();
        for window in (1_000..1_100).chain(0..900) {
            let entry = entry(i64::from(window) * 10_000, Some(f64::from(window)));
            assert_eq!(series.append(SHAPE, &[entry]), 0);
        }
        assert_eq!((series.chunks.len(), series.tail.len().1), (16, 40));
        assert_eq!(read(&series, ALL).len(), 1_000);
    }

    #[test]
    fn a_flat_day_is_small_and_a_dropped_one_is_gone() {
        let mut series = Series::default();
        for window in 0..8_640 {
            series.append(SHAPE, &[entry(window * 10_000, Some(4.0))]);
        }
        assert!(series.bytes() < 2_000, "{} bytes", series.bytes());
        series.drop_through(SHAPE, Timestamp::from_seconds(86_390));
        assert_eq!(read(&series, ALL), []);
    }
}
