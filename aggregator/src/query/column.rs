//! The evaluator's currency: a grid of steps, and for each series a column with a value for each step.

use std::ops::Range;
use std::slice::from_ref;

use common::metric::Labels;
use common::metric::NAME;

use crate::query::QueryError;
use crate::store::select::Levels;
use crate::store::select::STALE;

/// Stands in a column where a series has no sample. A staleness mark never leaves a selector, so its bits are free.
pub(super) const ABSENT: f64 = f64::from_bits(STALE);

/// Whether a column has a sample here.
pub(super) const fn is_present(value: f64) -> bool {
    value.to_bits() != STALE
}

/// The moments that are evaluated, in milliseconds. An instant query has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

impl Grid {
    pub(super) const fn instant(at: i64) -> Self {
        Self { start: at, step: 1, count: 1 }
    }

    /// From `start` through `end`, if not more than `count_max` steps.
    pub(super) fn through(start: i64, end: i64, step: i64, count_max: usize) -> Option<Self> {
        let steps =
            usize::try_from(end.saturating_sub(start).div_euclid(step)).map_or(0, |steps| steps.saturating_add(1));
        (steps <= count_max).then_some(Self { start, step, count: steps })
    }

    /// Some of its steps.
    pub(super) fn part(self, steps: Range<usize>) -> Self {
        let before = i64::try_from(steps.start).unwrap_or(i64::MAX);
        Self { start: self.start + self.step * before, count: steps.len(), ..self }
    }

    pub(super) const fn end(self) -> i64 {
        self.start + self.step * (self.count as i64 - 1)
    }

    pub(super) fn moments(self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.count).map(move |at| self.start + self.step * (at as i64))
    }
}

/// One series of an instant vector.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// Whether the metric's name goes once the query is answered. Until then `by (__name__)` and `label_replace` see it.
    pub(super) drops_name: bool,
    /// A value for each step, or [`ABSENT`].
    pub(super) values: Vec<f64>,
}

impl Series {
    /// A series without a sample.
    pub(super) fn absent(labels: Labels, drops_name: bool, grid: Grid) -> Self {
        Self { labels, drops_name, values: vec![ABSENT; grid.count] }
    }

    /// Puts `of` in the place of each value that is present.
    pub(super) fn map(&mut self, of: impl Fn(f64) -> f64) {
        self.values.iter_mut().filter(|value| is_present(**value)).for_each(|value| *value = of(*value));
    }

    pub(super) fn is_absent(&self) -> bool {
        self.pass().is_absent()
    }

    pub(super) fn pass(&self) -> Passing<'_> {
        Passing { labels: Levels(from_ref(&self.labels)), drops_name: self.drops_name, values: &self.values }
    }

    /// The labels that a user sees.
    pub(super) fn seen_labels(self) -> (Labels, Vec<f64>) {
        let mut labels = self.labels;
        if self.drops_name {
            drop_name(&mut labels);
        }
        (labels, self.values)
    }
}

/// One series of an instant vector as it passes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing<'a> {
    pub(super) labels: Levels<'a>,
    /// As [`Series::drops_name`].
    pub(super) drops_name: bool,
    /// As [`Series::values`].
    pub(super) values: &'a [f64],
}

impl Passing<'_> {
    /// To be held.
    pub(super) fn held(self) -> Series {
        Series { labels: self.labels.whole(), drops_name: self.drops_name, values: self.values.to_vec() }
    }

    pub(super) fn is_absent(self) -> bool {
        !self.values.iter().any(|value| is_present(*value))
    }
}

/// Takes away what a metric is called, and what type and unit it says it has: a value that was calculated is another
/// thing.
pub(super) fn drop_name(labels: &mut Labels) {
    [NAME, "__type__", "__unit__"].into_iter().for_each(|name| labels.set(name, ""));
}

/// What a node evaluates to.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A value for each step.
    Scalar(Vec<f64>),
    Vector(Vec<Series>),
    Text(String),
}

/// Where two series may not share a label set at one step.
pub(super) fn duplicate() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

/// Copies the samples of `from` into `into`, which must not have one at the same step.
pub(super) fn merge(into: &mut [f64], from: &[f64]) -> Result<(), QueryError> {
    for (into, from) in into.iter_mut().zip(from).filter(|(_, from)| is_present(**from)) {
        if is_present(*into) {
            return Err(duplicate());
        }
        *into = *from;
    }
    Ok(())
}
