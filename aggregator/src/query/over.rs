//! Functions of the windows in a range: one function a name, from windows to a number.

use common::time::Timestamp;

use crate::query::number::Sum;
use crate::query::number::Variance;
use crate::query::number::float;
use crate::query::number::quantile;
use crate::query::number::seconds;

/// The windows of one series in a range (after, through]. Never empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows<'a> {
    /// The moment of the step, in milliseconds.
    pub(super) now: i64,
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) stamps: &'a [Timestamp],
    /// The fields that the function asked for, over the whole series.
    pub(super) columns: &'a [Vec<f64>],
    /// Where the range begins in the columns.
    pub(super) first: usize,
    /// Where, over the whole series, values of the first field are smaller than the one before.
    pub(super) falls: &'a [usize],
}

impl<'a> Windows<'a> {
    /// The field that the function asked for first.
    fn values(&self) -> &'a [f64] {
        self.column(0)
    }

    fn column(&self, which: usize) -> &'a [f64] {
        &self.columns[which][self.first..self.first + self.stamps.len()]
    }

    /// The values before those that are smaller: what a counter had reached when it was reset.
    fn before_falls(&self) -> impl ExactSizeIterator<Item = f64> {
        let from = self.falls.partition_point(|at| *at <= self.first);
        let behind = self.falls.partition_point(|at| *at < self.first + self.stamps.len());
        // A range that ends where it begins has none.
        self.falls[from..behind.max(from)].iter().map(|at| self.columns[0][at - 1])
    }

    fn seconds(&self, at: usize) -> f64 {
        self.stamps[at].as_seconds()
    }
}

pub(super) fn rate(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    Some(extrapolated(windows, true)? / seconds(windows.through - windows.after))
}

pub(super) fn increase(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(windows, true)
}

pub(super) fn delta(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    extrapolated(windows, false)
}

/// Growth between the first and the last value, stretched to the range's ends where the values come close to them.
fn extrapolated(windows: &Windows<'_>, counter: bool) -> Option<f64> {
    let values = windows.values();
    let ([first, .., last], [from, .., to]) = (values, windows.stamps) else {
        return None;
    };
    let mut grown = last - first;
    if counter {
        // The resets are known from the series as a whole: a step costs what was reset in it, not what was sampled.
        grown = windows.before_falls().fold(grown, |grown, bridged| grown + bridged);
    }
    let sampled = seconds(to.as_millis() - from.as_millis());
    let average = sampled / float(values.len() - 1);
    let stretch = |gap: f64| if average * 1.1 <= gap { average / 2.0 } else { gap };
    let mut before = stretch(seconds(from.as_millis() - windows.after));
    if counter && 0.0 < grown && 0.0 <= *first {
        // A counter is never negative: it cannot have begun before it would have been zero.
        before = before.min(sampled * (first / grown));
    }
    let after = stretch(seconds(windows.through - to.as_millis()));
    Some(grown * ((sampled + before + after) / sampled))
}

pub(super) fn irate(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    let (before, last, elapsed) = last_two(windows)?;
    Some(if last < before { last } else { last - before } / elapsed)
}

pub(super) fn idelta(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    last_two(windows).map(|(before, last, _)| last - before)
}

fn last_two(windows: &Windows<'_>) -> Option<(f64, f64, f64)> {
    let ([.., before, last], [.., from, to]) = (windows.values(), windows.stamps) else {
        return None;
    };
    Some((*before, *last, seconds(to.as_millis() - from.as_millis())))
}

/// Largest `peak`; windows without one say nothing.
pub(super) fn peak_rate(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    windows.values().iter().copied().filter(|peak| !peak.is_nan()).reduce(f64::max)
}

pub(super) fn last(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    windows.values().last().copied()
}

pub(super) fn present(_: &Windows<'_>, _: &[f64]) -> Option<f64> {
    Some(1.0)
}

pub(super) fn stddev(windows: &Windows<'_>, scalars: &[f64]) -> Option<f64> {
    stdvar(windows, scalars).map(f64::sqrt)
}

pub(super) fn stdvar(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    let mut variance = Variance::default();
    windows.values().iter().for_each(|value| variance.add(*value));
    Some(variance.variance())
}

/// Median distance from the median.
pub(super) fn mad(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    let mut values = windows.values().to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(quantile(0.5, &mut values))
}

pub(super) fn deriv(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    let from = windows.stamps.first()?.as_millis();
    regression(windows, from).map(|(slope, _)| slope)
}

pub(super) fn predict_linear(windows: &Windows<'_>, scalars: &[f64]) -> Option<f64> {
    let (slope, value) = regression(windows, windows.now)?;
    Some(slope * scalars.first()? + value)
}

/// Least squares: growth per second, and the value at `origin`.
fn regression(windows: &Windows<'_>, origin: i64) -> Option<(f64, f64)> {
    let values = windows.values();
    let ([first, .., _], count) = (values, float(values.len())) else {
        return None;
    };
    if values.iter().all(|value| value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, *first) });
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_x2] = [Sum::default(); 4];
    for (stamp, y) in windows.stamps.iter().zip(values) {
        let x = seconds(stamp.as_millis() - origin);
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_x2.add(x * x);
    }
    let [sum_x, sum_y, sum_xy, sum_x2] = [sum_x, sum_y, sum_xy, sum_x2].map(Sum::total);
    let covariance = sum_xy - sum_x * sum_y / count;
    let variance = sum_x2 - sum_x * sum_x / count;
    let slope = covariance / variance;
    Some((slope, sum_y / count - slope * sum_x / count))
}

/// Holt's linear smoothing, by a factor of the level and one of the trend.
pub(super) fn double_exponential_smoothing(windows: &Windows<'_>, scalars: &[f64]) -> Option<f64> {
    let ([smoothing, trending], [first, second, ..]) = (scalars, windows.values()) else {
        return None;
    };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (at, value) in windows.values().iter().enumerate().skip(1) {
        if 1 < at {
            trend = trending * (level - before) + (1.0 - trending) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    Some(level)
}

pub(super) fn ts_of_last(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    windows.stamps.last().map(|stamp| stamp.as_seconds())
}

pub(super) fn ts_of_max(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    Some(windows.seconds(latest_best(windows.values(), |value, best| best <= value)))
}

pub(super) fn ts_of_min(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    Some(windows.seconds(latest_best(windows.values(), |value, best| value <= best)))
}

fn latest_best(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> usize {
    (1..values.len()).fold(0, |best, at| {
        let (value, held) = (values[at], values[best]);
        if beats(value, held) || held.is_nan() { at } else { best }
    })
}
