//! One series of the head: compressed blocks, and a tail that is still growing.

use common::batch::WINDOW;
use common::time::{TimeRange, Timestamp};
use common::window::Window;

use crate::store::head::block::Block;
use crate::store::head::block::Detail;
use crate::store::head::block::Entry;
use crate::store::head::block::Shape;
use crate::store::head::block::same;

/// Differing windows that make a block.
const RUNS_MAX: usize = 32;

/// Windows that make a block however few of them differ: an hour, so that retention can drop whole blocks.
const WINDOWS_MAX: u32 = 360;

/// The windows of one series.
#[derive(Debug, Default)]
pub(super) struct Series {
    blocks: Vec<Block>,
    /// Behind all blocks.
    tail: Vec<Run>,
}

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

impl Series {
    /// Adds an entry, wherever its stamp belongs. Answers whether it took the place of one with the same stamp.
    pub(super) fn append(&mut self, shape: Shape, entry: Entry) -> bool {
        if self.last_stamp().is_none_or(|last| last < entry.stamp) {
            self.push(entry);
            self.seal_if_full(shape);
            return false;
        }
        let at = self.blocks.partition_point(|block| block.last < entry.stamp);
        let Some(block) = self.blocks.get_mut(at) else {
            let mut entries: Vec<Entry> = self.tail.drain(..).flat_map(Run::entries).collect();
            let replaced = place(&mut entries, entry);
            entries.into_iter().for_each(|entry| self.push(entry));
            self.seal_if_full(shape);
            return replaced;
        };
        let mut entries = block.decode(shape, Detail::Full);
        let replaced = place(&mut entries, entry);
        let halves = entries.chunks(2 * WINDOWS_MAX as usize).map(|entries| Block::encode(shape, entries));
        drop(self.blocks.splice(at..=at, halves.collect::<Vec<_>>()));
        replaced
    }

    /// Hands out the entries in `range`, oldest first.
    pub(super) fn each(&self, shape: Shape, range: TimeRange, detail: Detail, mut give: impl FnMut(Entry)) {
        let from = self.blocks.partition_point(|block| block.last <= range.after);
        for block in self.blocks[from..].iter().take_while(|block| block.first <= range.through) {
            let entries = block.decode(shape, detail);
            entries.into_iter().filter(|entry| range.contains(entry.stamp)).for_each(&mut give);
        }
        let from = self.tail.partition_point(|run| run.last() <= range.after);
        for run in self.tail[from..].iter().take_while(|run| run.first <= range.through) {
            run.entries().filter(|entry| range.contains(entry.stamp)).for_each(&mut give);
        }
    }

    /// Whether there is an entry in `range`. May err towards yes by what lies between the entries of one block.
    pub(super) fn touches(&self, range: TimeRange) -> bool {
        let block = self.blocks.iter().any(|block| range.after < block.last && block.first <= range.through);
        block || self.tail.iter().any(|run| range.after < run.last() && run.first <= range.through)
    }

    /// Drops what is not after `cutoff`; a block goes when its last entry does.
    pub(super) fn drop_through(&mut self, cutoff: Timestamp) {
        self.blocks.retain(|block| cutoff < block.last);
        self.tail.retain(|run| cutoff < run.last());
    }

    /// Stamp of the latest entry.
    pub(super) fn last_stamp(&self) -> Option<Timestamp> {
        self.tail.last().map(|run| run.last()).or_else(|| self.blocks.last().map(|block| block.last))
    }

    /// Whether the latest entry marks the end.
    pub(super) fn has_ended(&self, shape: Shape) -> bool {
        match (self.tail.last(), self.blocks.last()) {
            (Some(run), _) => run.window.is_none(),
            (None, Some(block)) => block.decode(shape, Detail::Last).last().is_some_and(|entry| entry.window.is_none()),
            (None, None) => true,
        }
    }

    /// Bytes of the compressed blocks and the tail.
    pub(super) fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| size_of::<Block>() + block.bytes()).sum();
        blocks + self.tail.capacity() * size_of::<Run>()
    }

    fn push(&mut self, entry: Entry) {
        match self.tail.last_mut() {
            Some(run) if run.continues(entry) => run.windows += 1,
            _ => self.tail.push(Run { first: entry.stamp, windows: 1, window: entry.window }),
        }
    }

    fn seal_if_full(&mut self, shape: Shape) {
        let windows: u32 = self.tail.iter().map(|run| run.windows).sum();
        if RUNS_MAX <= self.tail.len() || WINDOWS_MAX <= windows {
            let entries: Vec<Entry> = self.tail.drain(..).flat_map(Run::entries).collect();
            self.blocks.push(Block::encode(shape, &entries));
            self.tail = Vec::new();
        }
    }
}

/// Puts an entry into its place among those that ascend by stamp; answers whether it replaced one.
fn place(entries: &mut Vec<Entry>, entry: Entry) -> bool {
    match entries.binary_search_by_key(&entry.stamp, |entry| entry.stamp) {
        Ok(at) => {
            entries[at] = entry;
            true
        }
        Err(at) => {
            entries.insert(at, entry);
            false
        }
    }
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
            for (stamp, value) in appends {
                let entry = Entry {
                    stamp: Timestamp::from_millis(stamp),
                    window: value.map(|value| Window::Gauge(Gauge::of(value))),
                };
                prop_assert_eq!(series.append(SHAPE, entry), oracle.insert(stamp, value).is_some());
            }
            prop_assert_eq!(read(&series, ALL), oracle.clone().into_iter().collect::<Vec<_>>());
            let range = TimeRange { after: Timestamp::from_millis(after), through: Timestamp::from_millis(after + length) };
            let inside: Vec<_> = oracle.range(after + 1..=after + length).map(|(stamp, value)| (*stamp, *value)).collect();
            prop_assert_eq!(read(&series, range), inside);
        }
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
