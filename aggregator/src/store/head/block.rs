//! Some windows of one series, compressed by columns. A field that follows from the others costs nothing.

use common::metric::{Decimals, Kind};
use common::time::Timestamp;
use common::window::{Counter, Gauge, Window};

use crate::store::head::column::Reader;
use crate::store::head::column::floats;
use crate::store::head::column::integers;
use crate::store::head::column::put_floats;
use crate::store::head::column::put_integers;
use crate::store::head::column::put_varint;

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

/// Which fields a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Stamps, marks and the last value; other fields are made up.
    Last,
    /// All.
    Full,
}

/// At least one entry, ascending by stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Stamp of the first entry.
    pub(super) first: Timestamp,
    /// Stamp of the last entry.
    pub(super) last: Timestamp,
    bytes: Box<[u8]>,
}

impl Block {
    /// Compresses entries that ascend by stamp.
    pub(super) fn encode(shape: Shape, entries: &[Entry]) -> Self {
        let stamp = |entry: Option<&Entry>| entry.map_or(Timestamp::default(), |entry| entry.stamp);
        let mut out = Vec::with_capacity(64);
        put_varint(&mut out, entries.len() as u64);
        put_integers(&mut out, &entries.iter().map(|entry| entry.stamp.as_millis()).collect::<Vec<_>>());
        put_integers(&mut out, &entries.iter().map(|entry| i64::from(entry.window.is_none())).collect::<Vec<_>>());
        let windows: Vec<Window> = entries.iter().filter_map(|entry| entry.window).collect();
        let scale = Scale::of(shape, &windows);
        out.push(scale.0.unwrap_or(FLOATS));
        let last: Vec<f64> = windows.iter().map(Window::last).collect();
        scale.put(&mut out, &last, &[]);
        put_integers(&mut out, &windows.iter().map(|window| i64::from(window.count())).collect::<Vec<_>>());
        match shape.kind {
            Kind::Gauge => put_gauges(&mut out, scale, &windows),
            Kind::Counter => put_counters(&mut out, scale, shape, &windows),
        }
        Self { first: stamp(entries.first()), last: stamp(entries.last()), bytes: out.into() }
    }

    /// The entries.
    pub(super) fn decode(&self, shape: Shape, detail: Detail) -> Vec<Entry> {
        let mut reader = Reader(&self.bytes);
        let len = usize::try_from(reader.varint()).unwrap_or(0);
        let stamps = integers(&mut reader, len);
        let ended = integers(&mut reader, len);
        let windows = windows(&mut reader, shape, detail, ended.iter().filter(|ended| **ended == 0).count());
        let mut windows = windows.into_iter();
        let entry = |(stamp, ended): (i64, i64)| Entry {
            stamp: Timestamp::from_millis(stamp),
            window: if ended == 0 { windows.next() } else { None },
        };
        stamps.into_iter().zip(ended).map(entry).collect()
    }

    /// Bytes it takes besides its own struct.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

fn windows(reader: &mut Reader<'_>, shape: Shape, detail: Detail, len: usize) -> Vec<Window> {
    let scale = Scale::read(reader.byte());
    let last = scale.read_values(reader, len, &[]);
    if detail == Detail::Last {
        return last.into_iter().map(|last| plain(shape.kind, last)).collect();
    }
    let counts = integers(reader, len).into_iter().map(|count| u32::try_from(count).unwrap_or(0));
    match shape.kind {
        Kind::Gauge => gauges(reader, scale, counts, &last),
        Kind::Counter => counters(reader, scale, shape, (counts, &last)),
    }
}

const fn plain(kind: Kind, last: f64) -> Window {
    match kind {
        Kind::Gauge => Window::Gauge(Gauge::of(last)),
        Kind::Counter => Window::Counter(Counter::first(last)),
    }
}

fn put_gauges(out: &mut Vec<u8>, scale: Scale, windows: &[Window]) {
    let gauges = windows.iter().map(|window| gauge(*window));
    put_integers(out, &gauges.clone().map(|gauge| i64::from(!stood_still(gauge, scale))).collect::<Vec<_>>());
    let moved: Vec<Gauge> = gauges.filter(|gauge| !stood_still(*gauge, scale)).collect();
    let column = |field: fn(&Gauge) -> f64| moved.iter().map(field).collect::<Vec<f64>>();
    let last = column(|gauge| gauge.last);
    scale.put(out, &column(|gauge| gauge.min), &last);
    scale.put(out, &column(|gauge| gauge.max), &last);
    let even: Vec<f64> = moved.iter().map(|gauge| still(gauge.count, gauge.last, scale).sum).collect();
    scale.put(out, &column(|gauge| gauge.sum), &even);
}

fn gauges(reader: &mut Reader<'_>, scale: Scale, counts: impl Iterator<Item = u32>, last: &[f64]) -> Vec<Window> {
    let moved = integers(reader, last.len());
    let mut gauges: Vec<Gauge> = counts.zip(last).map(|(count, last)| still(count, *last, scale)).collect();
    let mut moved: Vec<&mut Gauge> =
        gauges.iter_mut().zip(moved).filter(|(_, moved)| *moved == 1).map(|(gauge, _)| gauge).collect();
    let last: Vec<f64> = moved.iter().map(|gauge| gauge.last).collect();
    let even: Vec<f64> = moved.iter().map(|gauge| gauge.sum).collect();
    let min = scale.read_values(reader, moved.len(), &last);
    let max = scale.read_values(reader, moved.len(), &last);
    let sum = scale.read_values(reader, moved.len(), &even);
    for (((gauge, min), max), sum) in moved.iter_mut().zip(min).zip(max).zip(sum) {
        (gauge.min, gauge.max, gauge.sum) = (min, max, sum);
    }
    gauges.into_iter().map(Window::Gauge).collect()
}

/// The window of a gauge that had one value all the time.
fn still(count: u32, last: f64, scale: Scale) -> Gauge {
    let sum = scale.round(last * f64::from(count));
    Gauge { count, min: last, max: last, sum, last }
}

fn stood_still(gauge: Gauge, scale: Scale) -> bool {
    same(Window::Gauge(gauge), Window::Gauge(still(gauge.count, gauge.last, scale)))
}

fn put_counters(out: &mut Vec<u8>, scale: Scale, shape: Shape, windows: &[Window]) {
    let counters: Vec<Counter> = windows.iter().map(|window| counter(*window)).collect();
    let before = std::iter::once(None).chain(counters.iter().map(|counter| Some(counter.last)));
    let odd: Vec<bool> = counters
        .iter()
        .zip(before)
        .map(|(counter, before)| counter.increase.to_bits() != growth(before, counter.last, scale).to_bits())
        .collect();
    put_integers(out, &odd.iter().map(|odd| i64::from(*odd)).collect::<Vec<_>>());
    let increase: Vec<f64> =
        counters.iter().zip(&odd).filter(|(_, odd)| **odd).map(|(counter, _)| counter.increase).collect();
    scale.put(out, &increase, &[]);
    if shape.peak {
        scale.put(out, &counters.iter().map(|counter| counter.peak).collect::<Vec<_>>(), &[]);
    }
}

fn counters(
    reader: &mut Reader<'_>,
    scale: Scale,
    shape: Shape,
    (counts, last): (impl Iterator<Item = u32>, &[f64]),
) -> Vec<Window> {
    let odd = integers(reader, last.len());
    let explicit = odd.iter().filter(|odd| **odd == 1).count();
    let mut increase = scale.read_values(reader, explicit, &[]).into_iter();
    let peaks = if shape.peak { scale.read_values(reader, last.len(), &[]) } else { vec![f64::NAN; last.len()] };
    let mut before = None;
    let mut windows = Vec::with_capacity(last.len());
    for (((count, last), odd), peak) in counts.zip(last.iter().copied()).zip(odd).zip(peaks) {
        let implied = growth(before.replace(last), last, scale);
        let increase = if odd == 1 { increase.next().unwrap_or(f64::NAN) } else { implied };
        windows.push(Window::Counter(Counter { count, last, increase, peak }));
    }
    windows
}

/// What a counter grew by when no reset happened; nothing is known before the first.
fn growth(before: Option<f64>, last: f64, scale: Scale) -> f64 {
    before.map_or(0.0, |before| scale.round(last - before))
}

/// Whether two windows are the same to the bit.
pub(super) fn same(left: Window, right: Window) -> bool {
    let bits = |window| match window {
        Window::Gauge(Gauge { count, min, max, sum, last }) => (count, [min, max, sum, last].map(f64::to_bits)),
        Window::Counter(Counter { count, last, increase, peak }) => {
            (count, [last, increase, peak, f64::NAN].map(f64::to_bits))
        }
    };
    bits(left) == bits(right)
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

const FLOATS: u8 = u8::MAX;

/// How a block writes its values: as integers with so many digits behind the point, or, if there is no number of digits
/// that gives all of them back to the bit, as floats.
#[derive(Clone, Copy, Debug)]
struct Scale(Option<u8>);

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
        Self(meant.into_iter().chain([0, 3, 6]).find(|digits| fits(*digits)))
    }

    const fn read(byte: u8) -> Self {
        if byte == FLOATS { Self(None) } else { Self(Some(byte)) }
    }

    fn decimals(self) -> Decimals {
        self.0.map_or(Decimals::FULL, Decimals::new)
    }

    fn round(self, value: f64) -> f64 {
        self.decimals().round(value)
    }

    /// Writes a column; as differences from `base` if there is one.
    fn put(self, out: &mut Vec<u8>, values: &[f64], base: &[f64]) {
        if self.0.is_none() {
            put_floats(out, values);
            return;
        }
        let mantissa = |value: f64| self.decimals().mantissa(value).unwrap_or(0);
        let base = base.iter().copied().chain(std::iter::repeat(0.0));
        let integers: Vec<i64> =
            values.iter().zip(base).map(|(value, base)| mantissa(*value) - mantissa(base)).collect();
        put_integers(out, &integers);
    }

    fn read_values(self, reader: &mut Reader<'_>, len: usize, base: &[f64]) -> Vec<f64> {
        if self.0.is_none() {
            return floats(reader, len);
        }
        let decimals = self.decimals();
        let base = base.iter().copied().chain(std::iter::repeat(0.0));
        let value = |(difference, base): (i64, f64)| decimals.value(difference + decimals.mantissa(base).unwrap_or(0));
        integers(reader, len).into_iter().zip(base).map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries_equal(left: &[Entry], right: &[Entry]) -> bool {
        let equal = |(left, right): (&Entry, &Entry)| {
            left.stamp == right.stamp
                && match (left.window, right.window) {
                    (Some(left), Some(right)) => same(left, right),
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
        let block = Block::encode(shape, entries);
        assert!(entries_equal(&block.decode(shape, Detail::Full), entries));
        assert!(block.bytes() <= bytes_max, "{} bytes", block.bytes());
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
            let block = Block::encode(shape, &entries);
            prop_assert!(entries_equal(&block.decode(shape, Detail::Full), &entries));
        }

        #[test]
        fn counters_come_back(entries in entries(Kind::Counter, true), digits in prop::sample::select(vec![0, 2, 9, 255])) {
            let shape = Shape { decimals: Decimals::new(digits), peak: true, ..COUNTER };
            let block = Block::encode(shape, &entries);
            prop_assert!(entries_equal(&block.decode(shape, Detail::Full), &entries));
        }

        #[test]
        fn counters_without_peak_come_back(entries in entries(Kind::Counter, false)) {
            let block = Block::encode(COUNTER, &entries);
            prop_assert!(entries_equal(&block.decode(COUNTER, Detail::Full), &entries));
        }

        #[test]
        fn the_last_value_can_be_read_alone(entries in entries(Kind::Gauge, false)) {
            let block = Block::encode(GAUGE, &entries);
            let read = block.decode(GAUGE, Detail::Last);
            let last = |entries: &[Entry]| entries.iter().map(|entry| entry.window.map(|window| window.last().to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(last(&read), last(&entries));
        }
    }
}
