//! What a series did during one aligned stretch of time: folded by the agent, merged by rollups, read by queries.
//!
//! The only aggregation algebra there is. A window of resolution r stamped t covers (t − r, t].

use std::time::Duration;

use crate::metric::Decimals;

/// One series over one stretch. Never empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// Of a series that goes up and down.
    Gauge(Gauge),
    /// Of a series that only grows.
    Counter(Counter),
}

/// A gauge's window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gauge {
    /// Ticks folded in; at least one.
    pub count: u32,
    /// Smallest value seen.
    pub min: f64,
    /// Largest value seen.
    pub max: f64,
    /// Sum of all values, so that `sum / count` is the mean.
    pub sum: f64,
    /// Value at the latest tick.
    pub last: f64,
}

/// A counter's window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counter {
    /// Ticks folded in; at least one.
    pub count: u32,
    /// Value at the latest tick.
    pub last: f64,
    /// Growth since the window before, resets bridged.
    pub increase: f64,
    /// Fastest growth per second between two ticks.
    pub peak: f64,
}

/// Whether numbers are the same to the bit: NaN is itself, and the two zeros differ. Bits are gathered because arrays that are
/// compared as such are put into memory and waited for: windows are compared wherever they come, go and lie.
#[must_use]
pub fn same_bits<const N: usize>(left: [f64; N], right: [f64; N]) -> bool {
    left.iter().zip(&right).fold(0, |differing, (left, right)| differing | (left.to_bits() ^ right.to_bits())) == 0
}

impl Window {
    /// Whether it is the same to the bit.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gauge(left), Self::Gauge(right)) => left.is(right),
            (Self::Counter(left), Self::Counter(right)) => left.is(right),
            (Self::Gauge(_), Self::Counter(_)) | (Self::Counter(_), Self::Gauge(_)) => false,
        }
    }

    /// Ticks folded in.
    #[must_use]
    pub const fn count(&self) -> u32 {
        match self {
            Self::Gauge(gauge) => gauge.count,
            Self::Counter(counter) => counter.count,
        }
    }

    /// Value at the latest tick.
    #[must_use]
    pub const fn last(&self) -> f64 {
        match self {
            Self::Gauge(gauge) => gauge.last,
            Self::Counter(counter) => counter.last,
        }
    }

    /// Joins two neighbouring windows of one series, `self` being the earlier. Of two kinds the later stands: a series
    /// that changed its kind has nothing to join.
    #[must_use]
    pub fn merge(self, later: Self, decimals: Decimals) -> Self {
        match (self, later) {
            (Self::Gauge(earlier), Self::Gauge(later)) => Self::Gauge(earlier.merge(later, decimals)),
            (Self::Counter(earlier), Self::Counter(later)) => Self::Counter(earlier.merge(later, decimals)),
            (Self::Gauge(_), Self::Counter(_)) | (Self::Counter(_), Self::Gauge(_)) => later,
        }
    }
}

impl Gauge {
    /// Whether it is the same to the bit.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let fields = |gauge: &Self| [gauge.min, gauge.max, gauge.sum, gauge.last];
        self.count == other.count && same_bits(fields(self), fields(other))
    }

    /// A window of one tick. `value` is rounded already.
    #[must_use]
    pub const fn of(value: f64) -> Self {
        Self { count: 1, min: value, max: value, sum: value, last: value }
    }

    /// Joins two neighbouring windows, `self` being the earlier.
    #[must_use]
    pub fn merge(self, later: Self, decimals: Decimals) -> Self {
        Self {
            count: self.count.saturating_add(later.count),
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            sum: decimals.round(self.sum + later.sum),
            last: later.last,
        }
    }
}

impl Counter {
    /// Whether it is the same to the bit.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let fields = |counter: &Self| [counter.last, counter.increase, counter.peak];
        self.count == other.count && same_bits(fields(self), fields(other))
    }

    /// A window of one tick: what happened since the tick before, `elapsed` ago. A value below `previous` is a counter
    /// that started again at zero. Values are rounded already.
    #[must_use]
    pub fn of(previous: f64, value: f64, elapsed: Duration, decimals: Decimals) -> Self {
        let increase = if value < previous { value } else { decimals.round(value - previous) };
        let seconds = elapsed.as_secs_f64();
        let peak = if seconds > 0.0 { decimals.round(increase / seconds) } else { 0.0 };
        Self { count: 1, last: value, increase, peak }
    }

    /// A window of one tick that has none before it: nothing is known to have grown.
    #[must_use]
    pub const fn first(value: f64) -> Self {
        Self { count: 1, last: value, increase: 0.0, peak: 0.0 }
    }

    /// Joins two neighbouring windows, `self` being the earlier.
    #[must_use]
    pub fn merge(self, later: Self, decimals: Decimals) -> Self {
        Self {
            count: self.count.saturating_add(later.count),
            last: later.last,
            increase: decimals.round(self.increase + later.increase),
            peak: self.peak.max(later.peak),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gauges(values: &[f64], decimals: Decimals) -> Gauge {
        values.iter().copied().map(Gauge::of).reduce(|open, tick| open.merge(tick, decimals)).unwrap()
    }

    fn counters(previous: f64, values: &[f64], decimals: Decimals) -> Counter {
        let before = std::iter::once(previous).chain(values.iter().copied());
        before
            .zip(values)
            .map(|(previous, value)| Counter::of(previous, *value, SECOND, decimals))
            .reduce(|open, tick| open.merge(tick, decimals))
            .unwrap()
    }

    #[test]
    fn a_reset_inside_a_window_loses_no_growth() {
        let counter = counters(90.0, &[100.0, 5.0, 8.0], Decimals::new(0));
        assert_eq!(counter, Counter { count: 3, last: 8.0, increase: 18.0, peak: 10.0 });
    }

    #[test]
    fn a_late_tick_is_one_longer_interval() {
        let counter = Counter::of(0.0, 30.0, 3 * SECOND, Decimals::new(0));
        assert_eq!((counter.increase, counter.peak), (30.0, 10.0));
    }

    fn rounded(digits: u8) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec((0.0..1e9_f64).prop_map(move |value| Decimals::new(digits).round(value)), 2..40)
    }

    proptest! {
        #[test]
        fn folding_all_ticks_is_merging_the_windows_of_any_cut(values in rounded(3), cut in 1..39_usize) {
            let decimals = Decimals::new(3);
            let cut = cut.min(values.len() - 1);
            let (earlier, later) = values.split_at(cut);
            prop_assert_eq!(gauges(&values, decimals), gauges(earlier, decimals).merge(gauges(later, decimals), decimals));
            prop_assert_eq!(
                counters(0.0, &values, decimals),
                counters(0.0, earlier, decimals).merge(counters(earlier[cut - 1], later, decimals), decimals)
            );
        }
    }
}
