//! Some windows of one series, compressed by columns, as the head and the block files hold them. A field that follows from the others costs nothing.

pub(super) mod column;
pub(super) mod read;
pub(super) mod run;
pub(super) mod tail;

use common::metric::{Decimals, Kind};
use common::time::Timestamp;
use common::window::{Counter, Gauge, Window};

use crate::store::chunk::column::put_floats;
use crate::store::chunk::column::put_integers;
use crate::store::chunk::column::put_varint;
use crate::store::chunk::column::zigzag;

/// A window of a series, or the mark that it ended, at a stamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    /// End of the window.
    pub(super) stamp: Timestamp,
    /// `None` marks that the series ended.
    pub(super) window: Option<Window>,
}

/// What all windows of a series have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Gauge or counter.
    pub(super) kind: Kind,
    /// Digits that the values mean.
    pub(super) decimals: Decimals,
    /// Whether the fastest growth is kept.
    pub(super) peak: bool,
}

impl Shape {
    /// Of series that come with their whole label sets: nobody says more of them than their samples.
    pub(super) const WRITTEN: Self = Self { kind: Kind::Gauge, decimals: Decimals::FULL, peak: false };

    /// A window as a series of this kind has it.
    pub(super) const fn fit(self, window: Window) -> Window {
        match self.kind {
            Kind::Gauge => Window::Gauge(gauge(window)),
            Kind::Counter => Window::Counter(counter(window)),
        }
    }

    /// An entry of such a window.
    const fn fitted(self, entry: Entry) -> Entry {
        match entry.window {
            Some(window) => Entry { window: Some(self.fit(window)), ..entry },
            None => entry,
        }
    }
}

/// At least one entry, ascending by stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Stamp of the first entry.
    pub(super) first: Timestamp,
    /// Stamp of the last entry.
    pub(super) last: Timestamp,
    /// How many there are, and what they are.
    pub(super) bytes: Box<[u8]>,
}

/// Entries of one chunk: a day of a window a second.
pub(super) const ENTRIES_MAX: usize = 86_400;

/// Bytes that a chunk of the head seldom has more of.
const BYTES_MOSTLY: usize = 512;

// The first byte behind the number of entries: what is not implied, and the scale of the values.
const STAMPS: u8 = 1;
const MARKS: u8 = 2;
const COUNTS: u8 = 4;
const ODD: u8 = 8;
const SCALE_SHIFT: u32 = 4;

impl Chunk {
    /// Compresses entries that ascend by stamp.
    pub(super) fn encode(shape: Shape, entries: &[Entry]) -> Self {
        let windows: Vec<Window> =
            entries.iter().filter_map(|entry| entry.window).map(|window| shape.fit(window)).collect();
        let columns = Columns::of(shape, &windows);
        let odd = columns.odd(&windows);
        let count = windows.first().map_or(0, Window::count);
        let has = |what: u8, has: bool| if has { what } else { 0 };
        let flags = has(STAMPS, !evenly_spaced(entries))
            | has(MARKS, windows.len() < entries.len())
            | has(COUNTS, windows.iter().any(|window| window.count() != count))
            | has(ODD, odd.contains(&1));
        let mut out = Vec::with_capacity(BYTES_MOSTLY);
        put_varint(&mut out, entries.len() as u64);
        out.push(flags | columns.scale.byte() << SCALE_SHIFT);
        let mut put = |what: u8, column: &mut dyn Iterator<Item = i64>| {
            if flags & what != 0 {
                put_integers(&mut out, &column.collect::<Vec<i64>>());
            }
        };
        put(STAMPS, &mut entries.iter().map(|entry| entry.stamp.as_millis()));
        put(MARKS, &mut entries.iter().map(|entry| i64::from(entry.window.is_none())));
        put(COUNTS, &mut windows.iter().map(|window| window.count().into()));
        put(ODD, &mut odd.iter().copied());
        if flags & COUNTS == 0 {
            put_varint(&mut out, zigzag(count.into()));
        }
        columns.put(&mut out, &columns.last);
        match shape.kind {
            Kind::Gauge => columns.put_gauges(&mut out, &windows, &odd),
            Kind::Counter => columns.put_counters(&mut out, shape, &odd),
        }
        let stamp = |entry: Option<&Entry>| entry.map_or(Timestamp::from_millis(0), |entry| entry.stamp);
        // As long as it is: what it was made in goes.
        Self { first: stamp(entries.first()), last: stamp(entries.last()), bytes: out.as_slice().into() }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.lend().len()
    }

    /// The entries.
    pub(super) fn decode(&self, shape: Shape) -> Vec<Entry> {
        self.lend().decode(shape)
    }

    pub(super) fn lend(&self) -> ChunkRef<'_> {
        ChunkRef { first: self.first, last: self.last, bytes: &self.bytes }
    }
}

/// A chunk that lies elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkRef<'a> {
    /// Stamp of the first entry.
    pub(super) first: Timestamp,
    /// Stamp of the last entry.
    pub(super) last: Timestamp,
    /// As [`Chunk::bytes`].
    pub(super) bytes: &'a [u8],
}

impl ChunkRef<'_> {
    /// The same, kept here.
    pub(super) fn to_chunk(self) -> Chunk {
        Chunk { first: self.first, last: self.last, bytes: self.bytes.into() }
    }
}

/// Both together, ascending; of two with the same stamp the one that was written later stands.
pub(super) fn merge(mut entries: Vec<Entry>, later: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    entries.extend(later);
    // Stable, so that what is later is behind what it replaces, and survives when the order is turned round.
    entries.sort_by_key(|entry| entry.stamp);
    entries.reverse();
    entries.dedup_by_key(|entry| entry.stamp);
    entries.reverse();
    entries
}

/// Whether the first stamp, the last and their number say what the others are.
fn evenly_spaced(entries: &[Entry]) -> bool {
    let step = |pair: &[Entry]| pair[1].stamp.as_millis().checked_sub(pair[0].stamp.as_millis());
    let first = entries.get(..2).and_then(step);
    entries.len() < 2 || entries.windows(2).all(|pair| step(pair).is_some() && step(pair) == first)
}

/// The window of a gauge that had one value all the time.
fn still(count: u32, last: f64, scale: Scale) -> Gauge {
    let sum = scale.round(last * f64::from(count));
    Gauge { count, min: last, max: last, sum, last }
}

/// What a counter grew by when no reset happened; nothing is known before the first.
fn growth(before: Option<f64>, last: f64, scale: Scale) -> f64 {
    before.map_or(0.0, |before| scale.round(last - before))
}

/// A window of the other kind has no place in the column; its last value has.
const fn gauge(window: Window) -> Gauge {
    match window {
        Window::Gauge(gauge) => gauge,
        Window::Counter(counter) => Gauge::of(counter.last),
    }
}

const fn counter(window: Window) -> Counter {
    match window {
        Window::Counter(counter) => counter,
        Window::Gauge(gauge) => Counter::first(gauge.last),
    }
}

/// Digits that the values of some entries mean: what their series says, or the fewest that give all of them back to the bit.
pub(super) fn meant(shape: Shape, entries: &[Entry]) -> Decimals {
    if shape.decimals != Decimals::FULL {
        return shape.decimals;
    }
    let windows: Vec<Window> =
        entries.iter().filter_map(|entry| entry.window).map(|window| shape.fit(window)).collect();
    Columns::of(shape, &windows).scale.decimals()
}

const FLOATS: u8 = 15;
const ORDERED: u8 = 14;

/// How a chunk writes its values.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// As integers with so many digits behind the point.
    Digits(u8),
    /// As floats, if there is no number of digits that gives all of them back to the bit.
    Floats,
    /// As integers that ascend as the floats do, where that is shorter: what moves a little in each window is.
    Ordered,
}

impl Scale {
    const fn read(byte: u8) -> Self {
        match byte {
            FLOATS => Self::Floats,
            ORDERED => Self::Ordered,
            digits => Self::Digits(digits),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Floats => FLOATS,
            Self::Ordered => ORDERED,
            Self::Digits(digits) => digits,
        }
    }

    const fn decimals(self) -> Decimals {
        match self {
            Self::Digits(digits) => Decimals::new(digits),
            Self::Floats | Self::Ordered => Decimals::FULL,
        }
    }

    fn round(self, value: f64) -> f64 {
        self.decimals().round(value)
    }

    /// The integer that stands for a value, if there is one that gives it back to the bit.
    fn integer(self, value: f64) -> Option<i64> {
        match self {
            Self::Digits(digits) => Decimals::new(digits).mantissa(value),
            Self::Floats | Self::Ordered => Some(ordered(value.to_bits().cast_signed())),
        }
    }
}

/// The values of windows, field by field, as the integers that stand for them.
struct Columns {
    scale: Scale,
    last: Vec<i64>,
    /// The least of a gauge, or what a counter grew by.
    second: Vec<i64>,
    /// The greatest of a gauge, or how fast a counter grew.
    third: Vec<i64>,
    /// The sum of a gauge.
    fourth: Vec<i64>,
}

impl Columns {
    /// Those with the digits that the series means, or the fewest that give all values back to the bit, if there are any:
    /// what each digit more multiplies by is no power of two, so that it is not shifted out again.
    fn of(shape: Shape, windows: &[Window]) -> Self {
        let meant = (0..=Decimals::MAX).find(|digits| Decimals::new(*digits) == shape.decimals);
        let mut columns = Self::with_capacity(windows.len());
        for digits in meant.into_iter().chain(0..=Decimals::MAX) {
            if columns.fill(Scale::Digits(digits), shape, windows) {
                return columns;
            }
        }
        columns.fill(Scale::Ordered, shape, windows);
        columns.scale = columns.shorter();
        columns
    }

    fn with_capacity(windows: usize) -> Self {
        let column = || Vec::with_capacity(windows);
        Self { scale: Scale::Ordered, last: column(), second: column(), third: column(), fourth: column() }
    }

    /// Takes windows in place of what it holds. Answers whether there is an integer for each value.
    fn fill(&mut self, scale: Scale, shape: Shape, windows: &[Window]) -> bool {
        self.scale = scale;
        let Self { last, second, third, fourth, .. } = self;
        [&mut *last, second, third, fourth].into_iter().for_each(Vec::clear);
        let each = |window: &Window| {
            let first = (window.last(), scale.integer(window.last())?);
            // Mostly some are the same, and to find the integer takes longer than to look.
            let integer = |value: f64| {
                if value.to_bits() == first.0.to_bits() { Some(first.1) } else { scale.integer(value) }
            };
            match *window {
                Window::Gauge(Gauge { min, max, sum, .. }) => {
                    second.push(integer(min)?);
                    third.push(integer(max)?);
                    fourth.push(integer(sum)?);
                }
                Window::Counter(Counter { increase, peak, .. }) => {
                    second.push(integer(increase)?);
                    if shape.peak {
                        third.push(integer(peak)?);
                    }
                }
            }
            last.push(first.1);
            Some(())
        };
        windows.iter().try_for_each(each).is_some()
    }

    /// The shorter of the ways that give everything back.
    fn shorter(&self) -> Scale {
        let bytes = |scale: Scale| {
            let mut out = Vec::new();
            Self { scale, ..Self::with_capacity(0) }.put(&mut out, &self.last);
            out.len()
        };
        if bytes(Scale::Floats) < bytes(Scale::Ordered) { Scale::Floats } else { Scale::Ordered }
    }

    /// For each window whether what is usually implied is not: 1 or 0.
    fn odd(&self, windows: &[Window]) -> Vec<i64> {
        let mut before = None;
        let is_implied = |window: &Window| match *window {
            Window::Gauge(gauge) => gauge.is(&still(gauge.count, gauge.last, self.scale)),
            Window::Counter(Counter { last, increase, .. }) => {
                increase.to_bits() == growth(before.replace(last), last, self.scale).to_bits()
            }
        };
        windows.iter().map(is_implied).map(|is_implied| i64::from(!is_implied)).collect()
    }

    fn put_gauges(&self, out: &mut Vec<u8>, windows: &[Window], odd: &[i64]) {
        let moved: Vec<usize> = (0..).zip(odd).filter(|(_, odd)| **odd == 1).map(|(at, _)| at).collect();
        if moved.is_empty() {
            return;
        }
        let even = |at: usize| match windows[at] {
            Window::Gauge(Gauge { count, last, .. }) => {
                self.scale.integer(still(count, last, self.scale).sum).unwrap_or(0)
            }
            Window::Counter(_) => 0,
        };
        // What follows from the last value mostly is close.
        let above = |integer: i64, base: i64| match self.scale {
            Scale::Digits(_) => integer - base,
            Scale::Floats | Scale::Ordered => integer,
        };
        let mut put =
            |integer: &dyn Fn(usize) -> i64| self.put(out, &moved.iter().map(|at| integer(*at)).collect::<Vec<_>>());
        put(&|at| above(self.second[at], self.last[at]));
        put(&|at| above(self.third[at], self.last[at]));
        put(&|at| above(self.fourth[at], even(at)));
    }

    fn put_counters(&self, out: &mut Vec<u8>, shape: Shape, odd: &[i64]) {
        let explicit = self.second.iter().zip(odd).filter(|(_, odd)| **odd == 1);
        let explicit: Vec<i64> = explicit.map(|(increase, _)| *increase).collect();
        if !explicit.is_empty() {
            self.put(out, &explicit);
        }
        if shape.peak {
            self.put(out, &self.third);
        }
    }

    /// Writes a column.
    fn put(&self, out: &mut Vec<u8>, integers: &[i64]) {
        match self.scale {
            Scale::Floats => put_floats(out, integers.iter().map(|integer| ordered(*integer).cast_unsigned())),
            Scale::Ordered | Scale::Digits(_) => put_integers(out, integers),
        }
    }
}

/// The bits of a float as an integer that is greater where the float is; and the other way round.
const fn ordered(bits: i64) -> i64 {
    bits ^ (bits >> 63 & i64::MAX)
}

#[cfg(test)]
mod tests {
    use common::time::TimeRange;
    use proptest::prelude::*;

    use super::*;
    use crate::store::chunk::read::Unpacked;
    use crate::store::chunk::run::Run;
    use crate::store::select::Field;
    use crate::store::select::Samples;

    fn entries_equal(left: &[Entry], right: &[Entry]) -> bool {
        let equal = |(left, right): (&Entry, &Entry)| {
            left.stamp == right.stamp
                && match (left.window, right.window) {
                    (Some(left), Some(right)) => left.is(&right),
                    (left, right) => left.is_none() && right.is_none(),
                }
        };
        left.len() == right.len() && left.iter().zip(right).all(equal)
    }

    fn at(second: usize) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + i64::try_from(second).unwrap())
    }

    fn series(windows: impl IntoIterator<Item = Window>) -> Vec<Entry> {
        windows
            .into_iter()
            .enumerate()
            .map(|(step, window)| Entry { stamp: at(step * 10), window: Some(window) })
            .collect()
    }

    const GAUGE: Shape = Shape { kind: Kind::Gauge, decimals: Decimals::new(2), peak: false };
    const COUNTER: Shape = Shape { kind: Kind::Counter, decimals: Decimals::new(2), peak: false };

    fn check(shape: Shape, entries: &[Entry], bytes_max: usize) {
        let chunk = Chunk::encode(shape, entries);
        assert!(entries_equal(&chunk.decode(shape), entries));
        assert!(chunk.bytes.len() <= bytes_max, "{} bytes", chunk.bytes.len());
    }

    #[test]
    fn what_is_implied_costs_nothing() {
        let still = Gauge { count: 10, min: 0.29, max: 0.29, sum: 2.9, last: 0.29 };
        check(GAUGE, &series(vec![Window::Gauge(still); 360]), 32);
        let steady = |step: u32| Counter {
            count: 10,
            last: f64::from(step) * 0.25,
            increase: if step == 0 { 0.0 } else { 0.25 },
            peak: f64::NAN,
        };
        check(COUNTER, &series((0..360).map(|step| Window::Counter(steady(step)))), 28);
    }

    /// What others write, of values that each differ from the one before by so much at most, up and down without a pattern.
    fn walk(step: f64, digits: u8) -> Vec<Entry> {
        let mut random: u32 = 1;
        let values = (0..360).scan(30.0, |value, _| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value =
                Decimals::new(digits).round(*value + step * (f64::from(random >> 8) / f64::from(1_u32 << 23) - 1.0));
            Some(Window::Gauge(Gauge::of(*value)))
        });
        series(values)
    }

    #[test]
    fn what_others_write_costs_what_it_tells() {
        // Differences of 41 values, and of 2^50.
        check(Shape::WRITTEN, &walk(2.0, 1), 360 * 6 / 8 + 40);
        check(Shape::WRITTEN, &walk(0.2, 2), 360 * 6 / 8 + 40);
        check(Shape::WRITTEN, &walk(0.2, 255), 360 * 51 / 8);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-1_000_000..1_000_000_i64).prop_map(|mantissa| Decimals::new(2).value(mantissa)),
            1 => any::<f64>(),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop::sample::select(vec![-0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 9_007_199_254_740_992.0, 1e300]),
        ]
    }

    fn entries(kind: Kind, peak: bool) -> impl Strategy<Value = Vec<Entry>> {
        let window = (any::<u32>(), [value(), value(), value(), value()], any::<bool>()).prop_map(
            move |(count, [a, b, c, d], still)| match kind {
                Kind::Gauge if still => Window::Gauge(Gauge::of(a)),
                Kind::Gauge => Window::Gauge(Gauge { count, min: a, max: b, sum: c, last: d }),
                Kind::Counter if still => Window::Counter(Counter::first(a)),
                Kind::Counter => Window::Counter(Counter { count, last: a, increase: b, peak: c }),
            },
        );
        let window = window.prop_map(move |window| match window {
            Window::Counter(counter) if !peak => Window::Counter(Counter { peak: f64::NAN, ..counter }),
            Window::Counter(_) | Window::Gauge(_) => window,
        });
        let stamps = prop::collection::btree_set(prop_oneof![any::<i32>().prop_map(i64::from), any::<i64>()], 1..70);
        (stamps, prop::collection::vec(prop::option::weighted(0.9, window), 70)).prop_map(|(stamps, windows)| {
            let stamped = stamps.into_iter().zip(windows);
            stamped.map(|(stamp, window)| Entry { stamp: Timestamp::from_millis(stamp), window }).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gauges_come_back(entries in entries(Kind::Gauge, false), digits in prop::sample::select(vec![0, 2, 9, 255])) {
            let shape = Shape { decimals: Decimals::new(digits), ..GAUGE };
            let chunk = Chunk::encode(shape, &entries);
            prop_assert!(entries_equal(&chunk.decode(shape), &entries));
        }

        #[test]
        fn counters_come_back(entries in entries(Kind::Counter, true), digits in prop::sample::select(vec![0, 2, 9, 255])) {
            let shape = Shape { decimals: Decimals::new(digits), peak: true, ..COUNTER };
            let chunk = Chunk::encode(shape, &entries);
            prop_assert!(entries_equal(&chunk.decode(shape), &entries));
        }

        #[test]
        fn counters_without_peak_come_back(entries in entries(Kind::Counter, false)) {
            let chunk = Chunk::encode(COUNTER, &entries);
            prop_assert!(entries_equal(&chunk.decode(COUNTER), &entries));
        }

        #[test]
        fn each_field_can_be_read_alone_and_of_any_range(
            (kind, peak, entries) in prop_oneof![Just((Kind::Gauge, false)), Just((Kind::Counter, false)), Just((Kind::Counter, true))]
                .prop_flat_map(|(kind, peak)| (Just(kind), Just(peak), entries(kind, peak))),
            digits in prop::sample::select(vec![0, 2, 255]),
            field in prop::sample::select(vec![Field::Last, Field::Min, Field::Max, Field::Sum, Field::Count, Field::Increase, Field::Peak]),
            ends in prop::array::uniform2(0..70_usize),
        ) {
            let shape = Shape { kind, decimals: Decimals::new(digits), peak };
            let stamp = |at: usize| entries[at.min(entries.len() - 1)].stamp;
            let range = TimeRange { after: stamp(ends[0].min(ends[1])), through: stamp(ends[0].max(ends[1])) };
            // What a run of one says, which keeps the window as it is.
            let run = |entry: &Entry| Run { first: entry.stamp, windows: 1, window: entry.window };
            let (mut read, mut expect) = (Samples::default(), Samples::default());
            read.reset(1);
            expect.reset(1);
            entries.iter().for_each(|entry| run(entry).append_within((shape, &[field]), range, &mut expect));
            let chunk = Chunk::encode(shape, &entries);
            let mut unpacked = Unpacked::default();
            // Another chunk was read before.
            unpacked.append_within(Chunk::encode(shape, &entries[..1]).lend(), (shape, &[field]), range, &mut read);
            read.reset(1);
            unpacked.append_within(chunk.lend(), (shape, &[field]), range, &mut read);
            let bits = |samples: &Samples| samples.columns[0].iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(&read.stamps, &expect.stamps);
            prop_assert_eq!(bits(&read), bits(&expect));
        }
    }
}
