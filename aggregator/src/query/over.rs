//! Functions of the windows in a range: one function a name, from windows to a number.

use common::metric::Kind;
use common::time::Timestamp;

use crate::query::QueryError;
use crate::query::budget::Budget;
use crate::query::column::ABSENT;
use crate::query::growth::From;
use crate::query::growth::Growth;
use crate::query::growth::growth;
use crate::query::number::Sum;
use crate::query::number::Variance;
use crate::query::number::float;
use crate::query::number::quantile;
use crate::query::number::seconds;
use crate::query::slide::Slide;
use crate::store::select::Tiered;

/// The windows of one series in a range (after, through].
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows<'a> {
    /// The moment of the step, in milliseconds.
    pub(super) now: i64,
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) stamps: &'a [Timestamp],
    /// Where the range begins in the series.
    pub(super) first: usize,
    /// Of the falls of the series those behind the first window.
    pub(super) falls: &'a [usize],
    pub(super) of: Whole<'a>,
}

/// The windows of a series that any step can see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) kind: Kind,
    pub(super) tiers: &'a [Tiered],
    pub(super) stamps: &'a [Timestamp],
    /// The fields that the function asked for.
    pub(super) columns: &'a [Vec<f64>],
    /// Where values of the first field are smaller than the one before, if the function asks what grew.
    pub(super) falls: &'a [usize],
    /// How many of the windows, the earliest of them, were made of others.
    pub(super) coarse: usize,
}

impl<'a> Windows<'a> {
    /// The field that the function asked for first.
    pub(super) fn values(&self) -> &'a [f64] {
        &self.of.columns[0][self.first..self.first + self.stamps.len()]
    }

    /// The values before those that are smaller: what a counter had reached when it was reset. Of those behind one.
    pub(super) fn before_falls(&self, behind: usize) -> impl ExactSizeIterator<Item = f64> {
        let from = self.falls.partition_point(|at| *at <= self.first + behind);
        self.falls[from..].iter().map(|at| self.of.columns[0][at - 1])
    }

    /// How many were made of others.
    fn made_of_others(&self) -> usize {
        self.of.coarse.saturating_sub(self.first).min(self.stamps.len())
    }

    /// Whether the latest one was made of others.
    const fn ends_coarse(&self) -> bool {
        self.first + self.stamps.len() <= self.of.coarse
    }

    /// The latest one alone.
    const fn latest(&self) -> Self {
        let at = self.stamps.len() - 1;
        Self { first: self.first + at, stamps: self.stamps.split_at(at).1, falls: &[], ..*self }
    }

    fn seconds(&self, at: usize) -> f64 {
        self.stamps[at].as_seconds()
    }
}

pub(super) fn rate(slide: Slide<'_>, budget: &Budget<'_>) -> Result<Vec<f64>, QueryError> {
    let seconds = seconds(slide.ranges.length);
    grown(slide, budget, |windows| Some(extrapolated(windows, true)? / seconds))
}

pub(super) fn increase(slide: Slide<'_>, budget: &Budget<'_>) -> Result<Vec<f64>, QueryError> {
    grown(slide, budget, |windows| extrapolated(windows, true))
}

pub(super) fn delta(slide: Slide<'_>, budget: &Budget<'_>) -> Result<Vec<f64>, QueryError> {
    grown(slide, budget, |windows| extrapolated(windows, false))
}

/// A value for each step: `of` the windows of its range.
fn grown(
    slide: Slide<'_>,
    budget: &Budget<'_>,
    of: impl Fn(&Windows<'_>) -> Option<f64>,
) -> Result<Vec<f64>, QueryError> {
    let mut values = Vec::with_capacity(slide.spans.len());
    for windows in slide.windows() {
        // What was reset is looked at in each step anew, and so is each window that was made of others; nothing else is.
        budget.touch(1 + windows.falls.len() + windows.made_of_others())?;
        values.push(of(&windows).unwrap_or(ABSENT));
    }
    Ok(values)
}

/// What grew in a range, stretched to its ends where it is known close to them.
#[inline]
fn extrapolated(windows: &Windows<'_>, counter: bool) -> Option<f64> {
    let Growth { amount, base, from, to, steps } = growth(windows, counter)?;
    let sampled = seconds(to - from.at());
    let average = sampled / float(steps);
    let stretch = |gap: f64| if average * 1.1 <= gap { average / 2.0 } else { gap };
    let mut before = match from {
        From::Sample(from) => stretch(seconds(from - windows.after)),
        // All of a window is known. What of it lies before the range does not count, and nothing was before it.
        From::Window(from) => seconds(from - windows.after).min(0.0),
    };
    if counter && 0.0 < amount && 0.0 <= base {
        // A counter is never negative: it cannot have begun before it would have been zero.
        before = before.min(sampled * (base / amount));
    }
    let after = stretch(seconds(windows.through - to));
    Some(amount * ((sampled + before + after) / sampled))
}

pub(super) fn irate(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    if windows.ends_coarse() {
        let Growth { amount, from, to, .. } = growth(&windows.latest(), true)?;
        return Some(amount / seconds(to - from.at()));
    }
    let (before, last, elapsed) = last_two(windows)?;
    Some(if last < before { last } else { last - before } / elapsed)
}

pub(super) fn idelta(windows: &Windows<'_>, _: &[f64]) -> Option<f64> {
    if windows.ends_coarse() {
        return growth(&windows.latest(), false).map(|growth| growth.amount);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_were_made_of_others_come_first() {
        let stamps: Vec<Timestamp> = (0..10).map(Timestamp::from_seconds).collect();
        let of = Whole {
            kind: Kind::Counter,
            tiers: &[],
            stamps: &stamps,
            columns: &[vec![0.0; 10]],
            falls: &[],
            coarse: 5,
        };
        for (first, end, expect) in [(0, 10, 5), (0, 3, 3), (3, 8, 2), (5, 10, 0), (8, 8, 0)] {
            let windows = Windows { now: 0, after: 0, through: 0, stamps: &stamps[first..end], first, falls: &[], of };
            assert_eq!(windows.made_of_others(), expect, "{first}..{end}");
        }
    }
}
