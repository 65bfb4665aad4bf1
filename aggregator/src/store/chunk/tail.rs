//! What grows behind the chunks of a series, until it makes one: windows in few bytes, each told by what is new beside the
//! one before it. The latest stands as it is, for it is what grows and what is asked for most.

use common::metric::{Decimals, Kind};
use common::time::{TimeRange, Timestamp};
use common::window::{Counter, Gauge, Window, same_bits};

use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::chunk::column::Reader;
use crate::store::chunk::column::put_varint;
use crate::store::chunk::column::unzigzag;
use crate::store::chunk::column::zigzag;
use crate::store::chunk::run::Run;
use crate::store::select::Field;
use crate::store::select::Samples;

/// Some windows, ascending by stamp.
#[derive(Debug, Default)]
pub(in crate::store) struct Tail {
    /// The first run, and what each other one has that the one before it has not.
    bytes: Vec<u8>,
    /// The latest run, which is among them but for how long it is.
    latest: Option<Run>,
    first: Timestamp,
    runs: u32,
    windows: u32,
}

/// Bytes that a run seldom has more of.
const RUN_BYTES: usize = 24;

// The first byte of a run: what is told of it.
/// The one before it is longer than a window.
const LONGER: u8 = 1;
/// It does not begin where the one before it ends.
const GAP: u8 = 1 << 1;
/// It is a mark.
const MARK: u8 = 1 << 2;
const COUNT: u8 = 1 << 3;
/// What usually follows from the last value does not.
const ODD: u8 = 1 << 4;
const PEAK: u8 = 1 << 5;
const SCALE_SHIFT: u32 = 6;

impl Tail {
    /// Adds an entry, which is behind all others.
    pub(in crate::store) fn push(&mut self, shape: Shape, entry: Entry) {
        self.windows += 1;
        let entry = shape.fitted(entry);
        if let Some(run) = self.latest.as_mut().filter(|run| run.continues(entry)) {
            run.windows += 1;
            return;
        }
        let run = Run::of(entry);
        if self.runs == 0 {
            self.first = run.first;
        }
        let bytes = self.bytes.len();
        if self.bytes.capacity() < bytes + RUN_BYTES {
            // Twice as much as there is would mostly stay empty: there are many of these, and they become chunks.
            self.bytes.reserve_exact(RUN_BYTES + bytes / 8);
        }
        put(&mut self.bytes, shape.decimals, self.latest, run);
        self.latest = Some(run);
        self.runs += 1;
    }

    /// Takes all out.
    pub(in crate::store) fn take(&mut self, shape: Shape) -> Vec<Entry> {
        let taken = std::mem::take(self);
        taken.entries(shape)
    }

    /// The same, and keeps the room for those that come next: what is given back and wanted again lies in pieces meanwhile.
    pub(in crate::store) fn drain(&mut self, shape: Shape) -> Vec<Entry> {
        let entries = self.entries(shape);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self { bytes, ..Self::default() };
        entries
    }

    /// How many differing windows there are, and how many in all.
    pub(in crate::store) const fn len(&self) -> (u32, u32) {
        (self.runs, self.windows)
    }

    pub(in crate::store) const fn is_empty(&self) -> bool {
        self.runs == 0
    }

    pub(in crate::store) fn first_stamp(&self) -> Option<Timestamp> {
        (!self.is_empty()).then_some(self.first)
    }

    pub(in crate::store) fn last_stamp(&self) -> Option<Timestamp> {
        self.latest.map(Run::last)
    }

    /// Whether there may be one in a range.
    pub(in crate::store) fn touches(&self, range: TimeRange) -> bool {
        self.latest.is_some_and(|latest| range.after < latest.last() && self.first <= range.through)
    }

    /// What there is, if some of it may be in a range.
    pub(in crate::store) fn reaching(&self, range: TimeRange) -> Option<TailRef<'_>> {
        self.lend().filter(|_| self.touches(range))
    }

    /// The latest one that is not after a stamp, alone.
    pub(in crate::store) fn latest(&self, shape: Shape, through: Timestamp) -> Option<Run> {
        let latest = self.latest?;
        if latest.first <= through {
            return latest.latest(through);
        }
        let before = self.lend()?.runs(shape).take_while(|run| run.first <= through).last();
        before.and_then(|run| run.latest(through))
    }

    /// Bytes on the heap.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// All of them.
    pub(in crate::store) fn entries(&self, shape: Shape) -> Vec<Entry> {
        self.lend().into_iter().flat_map(|tail| tail.runs(shape)).flat_map(Run::entries).collect()
    }

    fn lend(&self) -> Option<TailRef<'_>> {
        let Self { bytes, latest, first, runs, windows } = self;
        Some(TailRef { bytes, latest: (*latest)?, first: *first, runs: *runs, windows: *windows })
    }
}

/// A tail that lies elsewhere, and is not empty.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct TailRef<'a> {
    pub(in crate::store) bytes: &'a [u8],
    pub(in crate::store) latest: Run,
    pub(in crate::store) first: Timestamp,
    pub(in crate::store) runs: u32,
    pub(in crate::store) windows: u32,
}

impl<'a> TailRef<'a> {
    /// Appends those that are in a range.
    pub(in crate::store) fn append_within(
        self,
        (shape, fields): (Shape, &[Field]),
        range: TimeRange,
        into: &mut Samples,
    ) {
        let mut runs = self.runs(shape);
        loop {
            if let ([Field::Last], [values]) = (fields, &mut into.columns[..]) {
                runs.append_plain(range, (&mut into.stamps, values));
            }
            let Some(run) = runs.next().filter(|run| run.first <= range.through) else {
                return;
            };
            if range.after < run.last() {
                run.append_within((shape, fields), range, into);
            }
        }
    }

    fn runs(self, shape: Shape) -> Runs<'a> {
        let mut bytes = Reader(self.bytes);
        let mut known = Known::default();
        let (next, _) = take(&mut bytes, shape, &mut known, None);
        Runs { bytes, shape, left: self.runs, next, known, latest: self.latest }
    }
}

/// Runs that are read.
struct Runs<'a> {
    bytes: Reader<'a>,
    shape: Shape,
    left: u32,
    /// The next one, but for how long it is.
    next: Run,
    /// Its last value.
    known: Known,
    latest: Run,
}

impl Runs<'_> {
    /// Appends the last values of runs in a range, as long as each is one window and the next one follows it, of which no more
    /// than its last value is told: most are so.
    fn append_plain(&mut self, range: TimeRange, (stamps, values): (&mut Vec<Timestamp>, &mut Vec<f64>)) {
        while 1 < self.left
            && self.next.first <= range.through
            && let (Some(window), Some((flags, told))) = (&mut self.next.window, self.bytes.0.split_first())
            && flags & (LONGER | GAP | MARK | COUNT | ODD | PEAK) == 0
        {
            if range.after < self.next.first {
                stamps.push(self.next.first);
                values.push(window.last());
            }
            self.bytes = Reader(told);
            let decimals = scaled(flags >> SCALE_SHIFT, self.shape.decimals);
            self.known = take_value(&mut self.bytes, self.known.or_of(window.last(), decimals));
            // What else it has nobody asks for here, and nothing is told beside it.
            match window {
                Window::Gauge(gauge) => gauge.last = self.known.value,
                Window::Counter(counter) => counter.last = self.known.value,
            }
            self.next.first = self.next.due();
            self.left -= 1;
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.left = self.left.checked_sub(1)?;
        if self.left == 0 {
            return Some(self.latest);
        }
        let (next, windows) = take(&mut self.bytes, self.shape, &mut self.known, Some(self.next));
        let run = std::mem::replace(&mut self.next, next);
        Some(Run { windows, ..run })
    }
}

/// Appends a run, and how long the one before it is.
fn put(out: &mut Vec<u8>, decimals: Decimals, before: Option<Run>, run: Run) {
    let at = out.len();
    out.push(0);
    let mut flags = 0;
    let longer = before.map(|before| before.windows).filter(|windows| *windows != 1);
    tell(out, &mut flags, LONGER, longer.map(u64::from));
    let gap = run.first.as_millis().wrapping_sub(due(before).as_millis());
    tell(out, &mut flags, GAP, (gap != 0).then(|| zigzag(gap)));
    match run.window {
        None => flags |= MARK,
        Some(window) => {
            let past = Past::of(before);
            tell(out, &mut flags, COUNT, (window.count() != past.count).then(|| window.count().into()));
            let begin = out.len();
            let told = scales(decimals).into_iter().find_map(|scale| {
                out.truncate(begin);
                Some(put_window(out, scaled(scale, decimals), past, window)? | scale << SCALE_SHIFT)
            });
            flags |= told.unwrap_or(0);
        }
    }
    out[at] = flags;
}

/// What [`put`] was given: a run, but for how long it is, and how long the one before it is, whose last value is known.
fn take(bytes: &mut Reader<'_>, shape: Shape, known: &mut Known, before: Option<Run>) -> (Run, u32) {
    let flags = bytes.byte();
    let told = |bytes: &mut Reader<'_>, flag: u8| (flags & flag != 0).then(|| bytes.varint());
    let windows = told(bytes, LONGER).map_or(1, |windows| u32::try_from(windows).unwrap_or(1));
    let before = before.map(|before| Run { windows, ..before });
    let first = due(before).as_millis().wrapping_add(told(bytes, GAP).map_or(0, unzigzag));
    let window = (flags & MARK == 0).then(|| {
        let mut past = Past::of(before);
        past.count = told(bytes, COUNT).map_or(past.count, |count| u32::try_from(count).unwrap_or(0));
        take_window(bytes, scaled(flags >> SCALE_SHIFT, shape.decimals), shape.kind, (past, known, flags))
    });
    (Run { first: Timestamp::from_millis(first), windows: 1, window }, windows)
}

fn tell(out: &mut Vec<u8>, flags: &mut u8, flag: u8, number: Option<u64>) {
    if let Some(number) = number {
        *flags |= flag;
        put_varint(out, number);
    }
}

/// Where the next run begins, if nothing is between.
fn due(before: Option<Run>) -> Timestamp {
    before.map_or(Timestamp::from_millis(0), Run::due)
}

/// How values are told, in the order of trying: as integers with the digits behind the point that they mean, with none or
/// three; or as floats.
fn scales(decimals: Decimals) -> [u8; 4] {
    if decimals == Decimals::FULL { [1, 2, 0, 0] } else { [0, 1, 2, 3] }
}

const fn scaled(scale: u8, decimals: Decimals) -> Decimals {
    match scale {
        0 => decimals,
        1 => Decimals::new(0),
        2 => Decimals::new(3),
        _ => Decimals::FULL,
    }
}

/// What is known of a window from the one before it.
#[derive(Clone, Copy)]
struct Past {
    count: u32,
    last: Option<f64>,
    peak: f64,
}

impl Past {
    fn of(before: Option<Run>) -> Self {
        match before.and_then(|before| before.window) {
            None => Self { count: 0, last: None, peak: 0.0 },
            Some(Window::Gauge(Gauge { count, last, .. })) => Self { count, last: Some(last), peak: 0.0 },
            Some(Window::Counter(Counter { count, last, peak, .. })) => Self { count, last: Some(last), peak },
        }
    }
}

/// A value, and the integer that stands for it with so many digits behind the point, if one does: to find that takes longer
/// than to read what is told beside it.
#[derive(Clone, Copy)]
struct Known {
    value: f64,
    decimals: Decimals,
    mantissa: Option<i64>,
}

impl Default for Known {
    fn default() -> Self {
        Self::of(0.0, Decimals::new(0))
    }
}

impl Known {
    fn of(value: f64, decimals: Decimals) -> Self {
        Self { value, decimals, mantissa: decimals.mantissa(value) }
    }

    /// What is known of a value, which mostly is this one.
    fn or_of(self, value: f64, decimals: Decimals) -> Self {
        let is_known = self.decimals == decimals && self.value.to_bits() == value.to_bits();
        if is_known { self } else { Self::of(value, decimals) }
    }

    /// What a counter grew by that had this value before, if it was not reset.
    fn growth(self, before: Self) -> f64 {
        let growth = match (before.mantissa, self.mantissa) {
            (Some(before), Some(last)) => self.decimals.value(last - before),
            _ => self.value - before.value,
        };
        // What arithmetic leaves of a NaN's bits is not defined.
        if growth.is_nan() { 0.0 } else { growth }
    }

    /// The sum of a gauge that stood still here.
    fn still(self, count: u32) -> f64 {
        match self.mantissa {
            Some(mantissa) => self.decimals.value(mantissa.wrapping_mul(count.into())),
            None if self.value.is_nan() || count == 1 => self.value,
            None => self.value * f64::from(count),
        }
    }
}

/// Appends the values of a window, if they can be told so. Answers which are.
fn put_window(out: &mut Vec<u8>, decimals: Decimals, past: Past, window: Window) -> Option<u8> {
    let known = |value: f64| Known::of(value, decimals);
    let (before, last) = (past.last.map(known), known(window.last()));
    put_value(out, last, before.unwrap_or_else(|| known(0.0)))?;
    match window {
        Window::Gauge(Gauge { count, min, max, sum, .. }) => {
            let still = last.still(count);
            if same_bits([min, max, sum], [last.value, last.value, still]) {
                return Some(0);
            }
            for (value, base) in [(min, last), (max, last), (sum, known(still))] {
                put_value(out, known(value), base)?;
            }
            Some(ODD)
        }
        Window::Counter(Counter { increase, peak, .. }) => {
            let usual = before.map_or(0.0, |before| last.growth(before));
            let mut flags = 0;
            for (flag, value, base) in [(ODD, increase, usual), (PEAK, peak, past.peak)] {
                if value.to_bits() != base.to_bits() {
                    put_value(out, known(value), known(base))?;
                    flags |= flag;
                }
            }
            Some(flags)
        }
    }
}

/// What [`put_window`] was given.
#[inline]
fn take_window(
    bytes: &mut Reader<'_>,
    decimals: Decimals,
    kind: Kind,
    (past, known, flags): (Past, &mut Known, u8),
) -> Window {
    let before = known.or_of(past.last.unwrap_or(0.0), decimals);
    let known_last = take_value(bytes, before);
    let (count, last) = (past.count, known_last.value);
    *known = known_last;
    let mut take = |told: bool, base: f64| if told { take_value(bytes, Known::of(base, decimals)).value } else { base };
    let odd = flags & ODD != 0;
    match kind {
        Kind::Gauge => {
            let [min, max] = [take(odd, last), take(odd, last)];
            let sum = take(odd, known_last.still(count));
            Window::Gauge(Gauge { count, min, max, sum, last })
        }
        Kind::Counter => {
            let growth = past.last.map_or(0.0, |_| known_last.growth(before));
            let increase = take(odd, growth);
            let peak = take(flags & PEAK != 0, past.peak);
            Window::Counter(Counter { count, last, increase, peak })
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: Known, base: Known) -> Option<()> {
    if value.decimals == Decimals::FULL {
        out.extend_from_slice(&value.value.to_le_bytes());
    } else {
        put_varint(out, zigzag(value.mantissa? - base.mantissa.unwrap_or(0)));
    }
    Some(())
}

#[inline]
fn take_value(bytes: &mut Reader<'_>, base: Known) -> Known {
    let decimals = base.decimals;
    if decimals == Decimals::FULL {
        let value = f64::from_le_bytes(std::array::from_fn(|_| bytes.byte()));
        return Known { value, decimals, mantissa: None };
    }
    let mantissa = unzigzag(bytes.varint()).wrapping_add(base.mantissa.unwrap_or(0));
    Known { value: decimals.value(mantissa), decimals, mantissa: Some(mantissa) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::select::STALE;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (-1_000..1_000_i64).prop_map(|mantissa| Decimals::new(2).value(mantissa)),
            2 => (0..1_000_000_i32).prop_map(f64::from),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop::sample::select(vec![-0.0, f64::NAN, f64::INFINITY, 9_007_199_254_740_991.0, 1e300]),
        ]
    }

    fn window(kind: Kind) -> impl Strategy<Value = Option<Window>> {
        let count = prop_oneof![8 => Just(10_u32), 1 => any::<u32>()];
        let window = (count, [value(), value(), value(), value()], 0..4_u8);
        let window = window.prop_map(move |(count, [a, b, c, d], which)| match (kind, which) {
            (Kind::Gauge, 0) => Window::Gauge(Gauge::of(a)),
            (Kind::Gauge, 1) => Window::Gauge(Gauge { count: 10, min: 7.0, max: 7.0, sum: 70.0, last: 7.0 }),
            (Kind::Gauge, _) => Window::Gauge(Gauge { count, min: a, max: b, sum: c, last: d }),
            (Kind::Counter, 0) => Window::Counter(Counter::first(a)),
            (Kind::Counter, 1) => Window::Counter(Counter { count: 10, last: 7.0, increase: 0.0, peak: 0.0 }),
            (Kind::Counter, _) => Window::Counter(Counter { count, last: a, increase: b, peak: c }),
        });
        prop::option::weighted(0.9, window)
    }

    fn entries(kind: Kind) -> impl Strategy<Value = Vec<Entry>> {
        let step = prop_oneof![10 => Just(10_000_i64), 1 => 1..1_000_000_i64];
        prop::collection::vec((step, window(kind)), 1..100).prop_map(|steps| {
            let walk = steps.into_iter().scan(-50_000, |stamp, (step, window)| {
                *stamp += step;
                Some(Entry { stamp: Timestamp::from_millis(*stamp), window })
            });
            walk.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn windows_come_back_to_the_bit(
            (kind, entries) in prop_oneof![Just(Kind::Gauge), Just(Kind::Counter)]
                .prop_flat_map(|kind| (Just(kind), entries(kind))),
            digits in prop::sample::select(vec![0, 2, 9, 255]),
            ends in prop::array::uniform2(-100_000..2_000_000_i64),
        ) {
            let shape = Shape { kind, decimals: Decimals::new(digits), peak: true };
            let mut tail = Tail::default();
            entries.iter().for_each(|entry| tail.push(shape, *entry));
            let [after, through] = [ends[0].min(ends[1]), ends[0].max(ends[1])].map(Timestamp::from_millis);
            let within = |run: Run| run.entries().filter(|entry| after < entry.stamp && entry.stamp <= through).collect::<Vec<_>>();
            let reaching = tail.reaching(TimeRange { after, through });
            let read: Vec<Entry> = reaching.into_iter().flat_map(|tail| tail.runs(shape)).flat_map(within).collect();
            let inside: Vec<Entry> =
                entries.iter().copied().filter(|entry| after < entry.stamp && entry.stamp <= through).collect();
            check(&read, &inside)?;
            let mut lasts = Samples::default();
            lasts.reset(1);
            let reaching = tail.reaching(TimeRange { after, through });
            reaching.into_iter().for_each(|tail| tail.append_within((shape, &[Field::Last]), TimeRange { after, through }, &mut lasts));
            let bits = |entry: &Entry| (entry.stamp, entry.window.map_or(STALE, |window| window.last().to_bits()));
            let expect: Vec<_> = inside.iter().map(bits).collect();
            let found = lasts.stamps.iter().copied().zip(lasts.columns[0].iter().map(|value| value.to_bits()));
            prop_assert_eq!(found.collect::<Vec<_>>(), expect);
            let latest = entries.iter().rfind(|entry| entry.stamp <= through).copied();
            let found = tail.latest(shape, through).and_then(|run| run.entries().last());
            check(&Vec::from_iter(found), &Vec::from_iter(latest))?;
            prop_assert_eq!(tail.len().1 as usize, entries.len());
            check(&tail.take(shape), &entries)?;
            prop_assert!(tail.is_empty());
        }
    }

    fn check(found: &[Entry], expected: &[Entry]) -> Result<(), TestCaseError> {
        let equal = |(found, expected): (&Entry, &Entry)| {
            found.stamp == expected.stamp
                && match (found.window, expected.window) {
                    (Some(found), Some(expected)) => found.is(&expected),
                    (found, expected) => found.is_none() && expected.is_none(),
                }
        };
        prop_assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(equal),
            "{:?} {:?}",
            found,
            expected
        );
        Ok(())
    }

    #[test]
    fn what_is_usual_takes_a_few_bytes() {
        let bytes = |kind: Kind, window: fn(u32) -> Window| {
            let shape = Shape { kind, decimals: Decimals::new(0), peak: false };
            let mut tail = Tail::default();
            for at in 0..100 {
                let stamp = Timestamp::from_seconds(1_700_000_000 + 10 * i64::from(at));
                tail.push(shape, Entry { stamp, window: Some(window(at)) });
            }
            tail.bytes.len()
        };
        let still = |_| Window::Gauge(Gauge { count: 10, min: 7.0, max: 7.0, sum: 70.0, last: 7.0 });
        assert_eq!(bytes(Kind::Gauge, still), 9);
        let grows = |at| {
            Window::Counter(Counter {
                count: 10,
                last: f64::from(at) * 50.0,
                increase: if at == 0 { 0.0 } else { 50.0 },
                peak: 0.0,
            })
        };
        assert_eq!(bytes(Kind::Counter, grows), 9 + 99 * 2);
    }
}
