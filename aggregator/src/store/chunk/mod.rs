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

// The first byte behind the number of entries: what is not implied, and the scale of the values.
const STAMPS: u8 = 1;
const MARKS: u8 = 2;
const COUNTS: u8 = 4;
const ODD: u8 = 8;
const SCALE_SHIFT: u32 = 4;

impl Chunk {
    /// Compresses entries that ascend by stamp.
    pub(super) fn encode(shape: Shape, entries: &[Entry]) -> Self {
        let stamps: Vec<i64> = entries.iter().map(|entry| entry.stamp.as_millis()).collect();
        let marks: Vec<i64> = entries.iter().map(|entry| i64::from(entry.window.is_none())).collect();
        let windows: Vec<Window> = entries.iter().filter_map(|entry| entry.window).collect();
        let counts: Vec<i64> = windows.iter().map(|window| i64::from(window.count())).collect();
        let scale = Scale::of(shape, &windows);
        let odd = odd(shape, scale, &windows);
        let has = |what: u8, has: bool| if has { what } else { 0 };
        let flags = has(STAMPS, !evenly_spaced(&stamps))
            | has(MARKS, marks.contains(&1))
            | has(COUNTS, counts.iter().any(|count| *count != counts[0]))
            | has(ODD, odd.contains(&1));
        let mut out = Vec::with_capacity(64);
        put_varint(&mut out, entries.len() as u64);
        out.push(flags | scale.byte() << SCALE_SHIFT);
        let columns = [(STAMPS, &stamps), (MARKS, &marks), (COUNTS, &counts), (ODD, &odd)];
        columns.iter().filter(|(what, _)| flags & what != 0).for_each(|(_, column)| put_integers(&mut out, column));
        if flags & COUNTS == 0 {
            put_varint(&mut out, zigzag(counts.first().copied().unwrap_or(0)));
        }
        scale.put(&mut out, &windows.iter().map(Window::last).collect::<Vec<_>>(), &[]);
        match shape.kind {
            Kind::Gauge => put_gauges(&mut out, scale, &windows, &odd),
            Kind::Counter => put_counters(&mut out, scale, shape, (&windows, &odd)),
        }
        let stamp = |at: Option<&i64>| Timestamp::from_millis(at.copied().unwrap_or(0));
        Self { first: stamp(stamps.first()), last: stamp(stamps.last()), bytes: out.into() }
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
fn evenly_spaced(stamps: &[i64]) -> bool {
    let step = |pair: &[i64]| pair[1].checked_sub(pair[0]);
    let first = stamps.get(..2).and_then(step);
    stamps.len() < 2 || stamps.windows(2).all(|pair| step(pair).is_some() && step(pair) == first)
}

/// For each window whether what is usually implied is not: 1 or 0.
fn odd(shape: Shape, scale: Scale, windows: &[Window]) -> Vec<i64> {
    match shape.kind {
        Kind::Gauge => windows.iter().map(|window| i64::from(!stood_still(gauge(*window), scale))).collect(),
        Kind::Counter => {
            let mut before = None;
            let odd = windows.iter().map(|window| {
                let counter = counter(*window);
                let implied = growth(before.replace(counter.last), counter.last, scale);
                i64::from(counter.increase.to_bits() != implied.to_bits())
            });
            odd.collect()
        }
    }
}

fn put_gauges(out: &mut Vec<u8>, scale: Scale, windows: &[Window], odd: &[i64]) {
    let moved = windows.iter().zip(odd).filter(|(_, odd)| **odd == 1);
    let moved: Vec<Gauge> = moved.map(|(window, _)| gauge(*window)).collect();
    if moved.is_empty() {
        return;
    }
    let column = |field: fn(&Gauge) -> f64| moved.iter().map(field).collect::<Vec<f64>>();
    let last = column(|gauge| gauge.last);
    scale.put(out, &column(|gauge| gauge.min), &last);
    scale.put(out, &column(|gauge| gauge.max), &last);
    let even: Vec<f64> = moved.iter().map(|gauge| still(gauge.count, gauge.last, scale).sum).collect();
    scale.put(out, &column(|gauge| gauge.sum), &even);
}

/// The window of a gauge that had one value all the time.
fn still(count: u32, last: f64, scale: Scale) -> Gauge {
    let sum = scale.round(last * f64::from(count));
    Gauge { count, min: last, max: last, sum, last }
}

fn stood_still(gauge: Gauge, scale: Scale) -> bool {
    gauge.is(&still(gauge.count, gauge.last, scale))
}

fn put_counters(out: &mut Vec<u8>, scale: Scale, shape: Shape, (windows, odd): (&[Window], &[i64])) {
    let counters: Vec<Counter> = windows.iter().map(|window| counter(*window)).collect();
    let explicit = counters.iter().zip(odd).filter(|(_, odd)| **odd == 1);
    let explicit: Vec<f64> = explicit.map(|(counter, _)| counter.increase).collect();
    if !explicit.is_empty() {
        scale.put(out, &explicit, &[]);
    }
    if shape.peak {
        scale.put(out, &counters.iter().map(|counter| counter.peak).collect::<Vec<_>>(), &[]);
    }
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
    let windows: Vec<Window> = entries.iter().filter_map(|entry| entry.window).collect();
    Scale::of(shape, &windows).decimals()
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
    fn of(shape: Shape, windows: &[Window]) -> Self {
        let fields = |window: &Window| match *window {
            Window::Gauge(Gauge { min, max, sum, last, .. }) => [min, max, sum, last],
            Window::Counter(Counter { last, increase, peak, .. }) => {
                [last, increase, if shape.peak { peak } else { 0.0 }, 0.0]
            }
        };
        let fits = |digits: u8| {
            let decimals = Decimals::new(digits);
            windows.iter().flat_map(fields).all(|value| decimals.mantissa(value).is_some())
        };
        let meant = (0..=Decimals::MAX).find(|digits| Decimals::new(*digits) == shape.decimals);
        // The fewest: what each digit more multiplies by is no power of two, so that it is not shifted out again.
        let digits = meant.into_iter().chain(0..=Decimals::MAX).find(|digits| fits(*digits));
        digits.map_or_else(|| Self::exact(windows), Self::Digits)
    }

    /// The shorter of the ways that give everything back.
    fn exact(windows: &[Window]) -> Self {
        let last: Vec<f64> = windows.iter().map(Window::last).collect();
        let bytes = |scale: &Self| {
            let mut out = Vec::new();
            scale.put(&mut out, &last, &[]);
            out.len()
        };
        if bytes(&Self::Floats) < bytes(&Self::Ordered) { Self::Floats } else { Self::Ordered }
    }

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

    /// Writes a column; as differences from `base` if there is one.
    fn put(self, out: &mut Vec<u8>, values: &[f64], base: &[f64]) {
        let integers: Vec<i64> = match self {
            Self::Floats => return put_floats(out, values),
            Self::Ordered => values.iter().map(|value| ordered(value.to_bits().cast_signed())).collect(),
            Self::Digits(_) => {
                let mantissa = |value: f64| self.decimals().mantissa(value).unwrap_or(0);
                let base = base.iter().copied().chain(std::iter::repeat(0.0));
                values.iter().zip(base).map(|(value, base)| mantissa(*value) - mantissa(base)).collect()
            }
        };
        put_integers(out, &integers);
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
