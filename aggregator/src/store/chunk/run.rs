//! The same window again and again: what a chunk grows from.

use common::batch::WINDOW;
use common::time::{TimeRange, Timestamp};
use common::window::Window;

use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::select::Field;
use crate::store::select::STALE;
use crate::store::select::Samples;

#[expect(clippy::cast_possible_truncation, reason = "it is ten seconds")]
const WINDOW_MILLIS: i64 = WINDOW.as_millis() as i64;

/// The same window, or mark, again and again, a window's length apart.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Run {
    pub(in crate::store) first: Timestamp,
    pub(in crate::store) windows: u32,
    pub(in crate::store) window: Option<Window>,
}

impl Run {
    /// One entry.
    pub(in crate::store) const fn of(entry: Entry) -> Self {
        Self { first: entry.stamp, windows: 1, window: entry.window }
    }

    /// Stamp of the latest.
    pub(in crate::store) fn last(self) -> Timestamp {
        self.stamp(self.windows.saturating_sub(1))
    }

    /// Where the next one begins, if nothing is between.
    pub(super) fn due(self) -> Timestamp {
        self.stamp(self.windows)
    }

    /// The latest one that is not after a stamp, alone, if there is one.
    pub(in crate::store) fn latest(self, through: Timestamp) -> Option<Self> {
        let at = self.through(through).checked_sub(1)?;
        Some(Self { first: self.stamp(at), windows: 1, ..self })
    }

    /// How many are not after a stamp.
    fn through(self, stamp: Timestamp) -> u32 {
        if stamp < self.first {
            return 0;
        }
        let since = stamp.as_millis().saturating_sub(self.first.as_millis());
        u32::try_from(since / WINDOW_MILLIS + 1).map_or(self.windows, |count| count.min(self.windows))
    }

    fn stamp(self, at: u32) -> Timestamp {
        Timestamp::from_millis(self.first.as_millis().saturating_add(WINDOW_MILLIS * i64::from(at)))
    }

    /// How many there are.
    pub(in crate::store) const fn len(self) -> usize {
        self.windows as usize
    }

    /// Whether an entry is one more.
    pub(in crate::store) fn continues(self, entry: Entry) -> bool {
        let alike = match (self.window, entry.window) {
            (Some(left), Some(right)) => left.is(&right),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        alike && entry.stamp == self.due()
    }

    /// All of them.
    pub(in crate::store) fn entries(self) -> impl DoubleEndedIterator<Item = Entry> {
        let Self { windows, window, .. } = self;
        (0..windows).map(move |at| Entry { stamp: self.stamp(at), window })
    }

    /// Appends those that are in a range.
    pub(in crate::store) fn append_within(
        self,
        (shape, fields): (Shape, &[Field]),
        range: TimeRange,
        into: &mut Samples,
    ) {
        let values = fields.iter().map(|field| value(self.window, *field, shape)).zip(&mut into.columns);
        // Most are one window inside: those need no division.
        if self.windows == 1 && range.contains(self.first) {
            into.stamps.push(self.first);
            values.for_each(|(value, column)| column.push(value));
            return;
        }
        let within = self.through(range.after)..self.through(range.through);
        into.stamps.extend(within.map(|at| self.stamp(at)));
        values.for_each(|(value, column)| column.resize(into.stamps.len(), value));
    }
}

/// One field of an entry. A mark reads as a mark in all of them.
fn value(window: Option<Window>, field: Field, shape: Shape) -> f64 {
    let Some(window) = window else {
        return f64::from_bits(STALE);
    };
    match (window, field) {
        (_, Field::Count) => f64::from(window.count()),
        (Window::Counter(counter), Field::Peak) if shape.peak => counter.peak,
        (_, Field::Peak) => f64::NAN,
        (Window::Gauge(gauge), Field::Min) => gauge.min,
        (Window::Gauge(gauge), Field::Max) => gauge.max,
        (Window::Gauge(gauge), Field::Sum) => gauge.sum,
        (Window::Counter(counter), Field::Increase) => counter.increase,
        (Window::Gauge(_), Field::Last | Field::Increase)
        | (Window::Counter(_), Field::Last | Field::Min | Field::Max | Field::Sum) => window.last(),
    }
}

#[cfg(test)]
mod tests {
    use common::metric::{Decimals, Kind};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_within_a_range_is_known_without_looking_at_all(
            first in prop_oneof![-50_000..50_000_i64, Just(i64::MIN), Just(i64::MAX)],
            windows in 1..9_u32,
            ends in prop::array::uniform2(prop_oneof![8 => -150_000..150_000_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]),
        ) {
            let run = Run { first: Timestamp::from_millis(first), windows, window: None };
            let [after, through] = [ends[0].min(ends[1]), ends[0].max(ends[1])].map(Timestamp::from_millis);
            let range = TimeRange { after, through };
            let mut samples = Samples::default();
            let shape = Shape { kind: Kind::Gauge, decimals: Decimals::FULL, peak: false };
            run.append_within((shape, &[]), range, &mut samples);
            // At the end of time all that follows falls on its last moment.
            if first != i64::MAX {
                let stamps = || run.entries().map(|entry| entry.stamp);
                let expect: Vec<Timestamp> = stamps().filter(|stamp| range.contains(*stamp)).collect();
                prop_assert_eq!(samples.stamps, expect);
                prop_assert_eq!(run.latest(through).map(|run| run.first), stamps().rfind(|stamp| *stamp <= through));
            }
        }
    }
}
