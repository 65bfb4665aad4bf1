//! One series of the head: compressed blocks, a tail that is still growing, and what came late.
//!
//! A backlog comes in its own order behind the live windows; it is gathered and merged a block at a time.

use common::batch::WINDOW;
use common::time::{TimeRange, Timestamp};
use common::window::Window;

use crate::store::head::block::Block;
use crate::store::head::block::Detail;
use crate::store::head::block::Entry;
use crate::store::head::block::Shape;
use crate::store::head::block::same;

/// Differing windows that make a block.
const RUNS_IN_BLOCK: usize = 32;

/// Windows that make a block however few of them differ: an hour, so that retention can drop whole blocks.
const WINDOWS_IN_BLOCK: u32 = 360;

/// The windows of one series.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// Ascending, none overlapping another.
    blocks: Vec<Block>,
    /// Behind all blocks.
    tail: Runs,
    /// Not behind the tail when it came; newer than what it may replace.
    late: Runs,
}

/// Some windows, ascending by stamp.
#[derive(Debug, Default)]
struct Runs(Vec<Run>);

/// The same window again and again, a window's length apart.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Timestamp,
    windows: u32,
    window: Option<Window>,
}

impl Run {
    fn last(self) -> Timestamp {
        self.first.after(WINDOW * (self.windows - 1))
    }

    fn continues(self, entry: Entry) -> bool {
        let alike = match (self.window, entry.window) {
            (Some(left), Some(right)) => same(left, right),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        alike && entry.stamp == self.last().after(WINDOW)
    }

    fn entries(self) -> impl DoubleEndedIterator<Item = Entry> {
        let Self { first, windows, window } = self;
        (0..windows).map(move |at| Entry { stamp: first.after(WINDOW * at), window })
    }
}

impl Runs {
    fn push(&mut self, entry: Entry) {
        match self.0.last_mut() {
            Some(run) if run.continues(entry) => run.windows += 1,
            _ => self.0.push(Run { first: entry.stamp, windows: 1, window: entry.window }),
        }
    }

    fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.0).into_iter().flat_map(Run::entries).collect()
    }

    fn is_full(&self) -> bool {
        RUNS_IN_BLOCK <= self.0.len() || WINDOWS_IN_BLOCK <= self.0.iter().map(|run| run.windows).sum()
    }

    fn last_stamp(&self) -> Option<Timestamp> {
        self.0.last().map(|run| run.last())
    }

    fn within(&self, range: TimeRange) -> impl Iterator<Item = Entry> {
        let from = self.0.partition_point(|run| run.last() <= range.after);
        let runs = self.0[from..].iter().take_while(move |run| run.first <= range.through);
        runs.flat_map(|run| run.entries()).filter(move |entry| range.contains(entry.stamp))
    }

    fn touches(&self, range: TimeRange) -> bool {
        self.0.iter().any(|run| range.after < run.last() && run.first <= range.through)
    }
}

impl Series {
    /// Adds an entry, wherever its stamp belongs. Answers how many entries are known to have been replaced since the
    /// last call: late ones meet those with the same stamp when they are merged.
    pub(super) fn append(&mut self, shape: Shape, entry: Entry) -> u64 {
        if self.last_stamp().is_none_or(|last| last < entry.stamp) {
            self.tail.push(entry);
            if self.tail.is_full() {
                self.blocks.push(Block::encode(shape, &self.tail.take()));
            }
            return 0;
        }
        let out_of_order = self.late.last_stamp().is_some_and(|last| entry.stamp <= last);
        let before = if out_of_order { self.settle(shape) } else { 0 };
        self.late.push(entry);
        before + if self.late.is_full() { self.settle(shape) } else { 0 }
    }

    /// Hands out the entries in `range`, oldest first.
    pub(super) fn each(&self, shape: Shape, range: TimeRange, detail: Detail, mut give: impl FnMut(Entry)) {
        let from = self.blocks.partition_point(|block| block.last <= range.after);
        let blocks = self.blocks[from..].iter().take_while(|block| block.first <= range.through);
        let in_blocks = blocks.flat_map(|block| block.decode(shape, detail));
        let in_order = in_blocks.filter(|entry| range.contains(entry.stamp)).chain(self.tail.within(range));
        if self.late.touches(range) {
            merge(in_order.collect(), self.late.within(range)).into_iter().for_each(give);
        } else {
            in_order.for_each(&mut give);
        }
    }

    /// Whether there is an entry in `range`. May err towards yes by what lies between the entries of one block.
    pub(super) fn touches(&self, range: TimeRange) -> bool {
        let block = self.blocks.iter().any(|block| range.after < block.last && block.first <= range.through);
        block || self.tail.touches(range) || self.late.touches(range)
    }

    /// Drops what is not after `cutoff`; a block goes when its last entry does.
    pub(super) fn drop_through(&mut self, cutoff: Timestamp) {
        self.blocks.retain(|block| cutoff < block.last);
        self.tail.0.retain(|run| cutoff < run.last());
        self.late.0.retain(|run| cutoff < run.last());
    }

    /// Stamp of the latest entry.
    pub(super) fn last_stamp(&self) -> Option<Timestamp> {
        self.tail.last_stamp().or_else(|| self.blocks.last().map(|block| block.last))
    }

    /// Whether the latest entry marks the end.
    pub(super) fn has_ended(&self, shape: Shape) -> bool {
        match (self.tail.0.last(), self.blocks.last()) {
            (Some(run), _) => run.window.is_none(),
            (None, Some(block)) => block.decode(shape, Detail::Last).last().is_some_and(|entry| entry.window.is_none()),
            (None, None) => true,
        }
    }

    /// Bytes of the compressed blocks, the tail and what came late.
    pub(super) fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| size_of::<Block>() + block.bytes()).sum();
        blocks + (self.tail.0.capacity() + self.late.0.capacity()) * size_of::<Run>()
    }

    /// Merges what came late into the blocks it overlaps. Answers how many entries it replaced.
    fn settle(&mut self, shape: Shape) -> u64 {
        let late = self.late.take();
        let (Some(first), Some(last)) = (late.first().map(|entry| entry.stamp), late.last().map(|entry| entry.stamp))
        else {
            return 0;
        };
        let from = self.blocks.partition_point(|block| block.last < first);
        let to = self.blocks.partition_point(|block| block.first <= last);
        let mut there: Vec<Entry> =
            self.blocks[from..to].iter().flat_map(|block| block.decode(shape, Detail::Full)).collect();
        if self.tail.0.first().is_some_and(|run| run.first <= last) {
            there.extend(self.tail.take());
        }
        let count = there.len() + late.len();
        let merged = merge(there, late);
        let blocks = merged.chunks(WINDOWS_IN_BLOCK as usize).map(|entries| Block::encode(shape, entries));
        drop(self.blocks.splice(from..to, blocks.collect::<Vec<_>>()));
        (count - merged.len()) as u64
    }
}

/// Both together, ascending; of two with the same stamp the one that came late stands.
fn merge(mut entries: Vec<Entry>, late: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    entries.extend(late);
    // Stable, so that what came late is behind what it replaces, and survives when the order is turned round.
    entries.sort_by_key(|entry| entry.stamp);
    entries.reverse();
    entries.dedup_by_key(|entry| entry.stamp);
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::metric::{Decimals, Kind};
    use common::window::Gauge;
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { kind: Kind::Gauge, decimals: Decimals::new(0), peak: false };
    const ALL: TimeRange =
        TimeRange { after: Timestamp::from_millis(i64::MIN), through: Timestamp::from_millis(i64::MAX) };

    fn read(series: &Series, range: TimeRange) -> Vec<(i64, Option<f64>)> {
        let mut read = Vec::new();
        let mut give = |entry: Entry| read.push((entry.stamp.as_millis(), entry.window.map(|window| window.last())));
        series.each(SHAPE, range, Detail::Full, &mut give);
        read
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
        fn a_series_is_an_ordered_map_of_its_stamps(appends in appends(), after in 0..9_000_000_i64, length in 0..9_000_000_i64) {
            let mut series = Series::default();
            let mut oracle = BTreeMap::new();
            let (mut replaced, mut expected) = (0, 0);
            for (stamp, value) in appends {
                let entry = Entry {
                    stamp: Timestamp::from_millis(stamp),
                    window: value.map(|value| Window::Gauge(Gauge::of(value))),
                };
                replaced += series.append(SHAPE, entry);
                expected += u64::from(oracle.insert(stamp, value).is_some());
            }
            prop_assert_eq!(read(&series, ALL), oracle.clone().into_iter().collect::<Vec<_>>());
            let range = TimeRange { after: Timestamp::from_millis(after), through: Timestamp::from_millis(after + length) };
            let inside: Vec<_> = oracle.range(after + 1..=after + length).map(|(stamp, value)| (*stamp, *value)).collect();
            prop_assert_eq!(read(&series, range), inside);
            prop_assert_eq!(replaced + series.settle(SHAPE), expected);
            prop_assert_eq!(read(&series, ALL), oracle.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_backlog_behind_the_live_windows_is_merged_by_the_block() {
        let mut series = Series::default();
        let entry = |window: i32| Entry {
            stamp: Timestamp::from_seconds(i64::from(window) * 10),
            window: Some(Window::Gauge(Gauge::of(f64::from(window)))),
        };
        (1_000..1_100).chain(0..900).for_each(|window| assert_eq!(series.append(SHAPE, entry(window)), 0));
        assert_eq!(series.blocks.len(), 3 + 28);
        assert_eq!(read(&series, ALL).len(), 1_000);
    }

    #[test]
    fn a_flat_day_is_small_and_a_dropped_one_is_gone() {
        let mut series = Series::default();
        for window in 0..8_640 {
            let stamp = Timestamp::from_seconds(window * 10);
            series.append(SHAPE, Entry { stamp, window: Some(Window::Gauge(Gauge::of(4.0))) });
        }
        assert!(series.bytes() < 2_000, "{} bytes", series.bytes());
        series.drop_through(Timestamp::from_seconds(86_390));
        assert_eq!(read(&series, ALL), []);
    }
}
