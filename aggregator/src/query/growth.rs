//! How much a series grew in a range: between its samples, and inside the windows that were made of others.

use common::metric::Kind;
use common::time::Timestamp;

use crate::query::over::Whole;
use crate::query::over::Windows;
use crate::query::tier;

/// What is known of the growth in a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) amount: f64,
    /// The value from which it grew.
    pub(super) base: f64,
    pub(super) from: From,
    /// When the latest window ends, in milliseconds.
    pub(super) to: i64,
    /// How many stretches of time it is the sum of.
    pub(super) steps: usize,
}

/// From when on growth is known, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// Since a sample.
    Sample(i64),
    /// Since a window began.
    Window(i64),
}

impl From {
    pub(super) const fn at(self) -> i64 {
        let (Self::Sample(at) | Self::Window(at)) = self;
        at
    }
}

/// The growth in a range, of a counter with resets bridged. Nothing where less than two samples say so, or one window that
/// was made of others.
#[inline]
pub(super) fn growth(windows: &Windows<'_>, counter: bool) -> Option<Growth> {
    if windows.first < windows.of.coarse {
        return growth_of_made(windows, counter);
    }
    let ([first, .., last], [from, .., to]) = (windows.values(), windows.stamps) else {
        return None;
    };
    let amount = bridged(windows, (last - first, 0), counter);
    let from = From::Sample(from.as_millis());
    Some(Growth { amount, base: *first, from, to: to.as_millis(), steps: windows.stamps.len() - 1 })
}

/// The same where windows were made of others, the first ones of the range.
fn growth_of_made(windows: &Windows<'_>, counter: bool) -> Option<Growth> {
    let (values, stamps) = (windows.values(), windows.stamps);
    let (first, last, to) = (values.first()?, values.last()?, stamps.last()?.as_millis());
    let coarse = windows.of.coarse.saturating_sub(windows.first).min(values.len());
    let begun = begun(windows, counter);
    let steps = values.len() - 1 + usize::from(begun.is_some());
    if steps == 0 {
        return None;
    }
    let inside = |sum: f64, at: usize| sum + grown(&windows.of, windows.first + at, counter);
    let mut amount = (1..coarse).fold(begun.unwrap_or(0.0), inside);
    let bridge = coarse.saturating_sub(1);
    if coarse < values.len() {
        amount += last - values[bridge];
    }
    let amount = bridged(windows, (amount, bridge), counter);
    let from = match begun {
        Some(_) => From::Window(begin(&windows.of, windows.first)),
        None => From::Sample(stamps[0].as_millis()),
    };
    Some(Growth { amount, base: first - begun.unwrap_or(0.0), from, to, steps })
}

/// The growth with what a counter had reached where it was reset, behind one of the windows.
#[inline]
fn bridged(windows: &Windows<'_>, (amount, behind): (f64, usize), counter: bool) -> f64 {
    if !counter || windows.falls.is_empty() {
        return amount;
    }
    // The resets are known from the series as a whole: a step costs what was reset in it, not what was sampled.
    windows.before_falls(behind).fold(amount, |grown, bridged| grown + bridged)
}

/// The growth in the first window of the range; nothing if that is not known.
fn begun(windows: &Windows<'_>, counter: bool) -> Option<f64> {
    let Windows { first, of, .. } = windows;
    let begin = Timestamp::from_millis(begin(of, *first));
    let follows = first.checked_sub(1).is_some_and(|before| begin <= of.stamps[before]);
    if follows { Some(grown(of, *first, counter)) } else { told(of, *first, counter) }
}

/// The growth in a window that was made of others.
///
/// Nobody saw what happened while an agent was away: the window before may know of more.
fn grown(of: &Whole<'_>, at: usize, counter: bool) -> f64 {
    let told = told(of, at, counter);
    let since = at.checked_sub(1).map(|before| (of.columns[0][before], of.columns[0][at]));
    let since = since.map(|(before, value)| if counter && value < before { value } else { value - before });
    told.into_iter().chain(since).reduce(f64::max).unwrap_or(0.0)
}

/// What a counter's window says itself.
fn told(of: &Whole<'_>, at: usize, counter: bool) -> Option<f64> {
    let increases = of.columns.get(1).filter(|_| counter && of.kind == Kind::Counter);
    increases.map(|increases| increases[at])
}

/// When a window began that was made of others, in milliseconds.
fn begin(of: &Whole<'_>, at: usize) -> i64 {
    let stamp = of.stamps[at];
    tier::resolution(of.tiers, stamp).map_or(stamp, |length| stamp.align_up(length).before(length)).as_millis()
}
