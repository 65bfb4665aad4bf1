//! Functions of a sliding range that need not look at each sample again at each step.

use std::ops::Range;

use common::metric::Kind;

use crate::query::column::ABSENT;
use crate::query::column::Grid;
use crate::query::number::Mean;
use crate::query::number::Sum;
use crate::query::number::ascending;
use crate::query::number::float;
use crate::query::number::quantile_sorted;
use crate::query::over::Whole;
use crate::query::over::Windows;

/// One series, and which of its samples the range holds at each step. Neither end ever goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slide<'a> {
    pub(super) of: Whole<'a>,
    pub(super) ranges: Ranges,
    pub(super) spans: &'a [Range<usize>],
}

/// The range that is looked at in each step of a grid, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    pub(super) grid: Grid,
    /// Where that of the first step ends.
    pub(super) through: i64,
    /// How far that of the next step is behind it.
    pub(super) stride: i64,
    pub(super) length: i64,
}

impl Ranges {
    /// What each begins behind, and where it ends.
    pub(super) fn ends(self) -> impl Iterator<Item = (i64, i64)> {
        let ends = Grid { start: self.through, step: self.stride, ..self.grid };
        ends.moments().map(move |through| (through - self.length, through))
    }
}

/// What two neighbouring stretches of samples come to is known from what each comes to.
trait Fold: Copy {
    /// Of both stretches; the other one is the later.
    fn join(self, later: Self) -> Self;
}

impl Fold for Sum {
    fn join(mut self, later: Self) -> Self {
        self.add_sum(later);
        self
    }
}

impl<A: Fold, B: Fold> Fold for (A, B) {
    fn join(self, later: Self) -> Self {
        (self.0.join(later.0), self.1.join(later.1))
    }
}

#[derive(Clone, Copy)]
struct Least(f64);

impl Fold for Least {
    fn join(self, later: Self) -> Self {
        Self(self.0.min(later.0))
    }
}

#[derive(Clone, Copy)]
struct Most(f64);

impl Fold for Most {
    fn join(self, later: Self) -> Self {
        Self(self.0.max(later.0))
    }
}

impl<'a> Slide<'a> {
    /// The windows of the range at each step, which may be none.
    pub(super) fn windows(self) -> impl Iterator<Item = Windows<'a>> {
        let Self { of, ranges, spans } = self;
        let (mut from, mut end) = (0, 0);
        let (mut now, mut through) = (ranges.grid.start, ranges.through);
        spans.iter().map(move |span| {
            let is_before = |at: usize, place: usize| of.falls.get(at).is_some_and(|fall| *fall < place);
            while is_before(from, span.start + 1) {
                from += 1;
            }
            while is_before(end, span.end) {
                end += 1;
            }
            // A range that ends where it begins has none.
            let falls = &of.falls[from.min(end)..end];
            let stamps = &of.stamps[span.clone()];
            let after = through - ranges.length;
            let windows = Windows { now, after, through, stamps, first: span.start, falls, of };
            // Behind the last step nobody looks.
            now = now.wrapping_add(ranges.grid.step);
            through = through.wrapping_add(ranges.stride);
            windows
        })
    }

    /// A value for each step: `of` what the samples of its span come to, by `at` of each.
    fn fold<F: Fold>(self, at: impl Fn(usize) -> F, of: impl Fn(F, Range<usize>) -> f64) -> Vec<f64> {
        if let [span] = self.spans {
            let all = span.clone().map(at).reduce(F::join);
            return vec![all.map_or(ABSENT, |all| of(all, span.clone()))];
        }
        // Two stacks: behind `middle` one fold grows, before it all suffixes are kept, the shortest first. A step takes
        // one of these and joins that one; a sample is looked at twice, however many ranges it lies in.
        let mut suffixes: Vec<F> = Vec::new();
        let mut middle = 0;
        let mut grown: Option<F> = None;
        let mut behind = 0;
        let value = |span: &Range<usize>| {
            if span.is_empty() {
                return ABSENT;
            }
            if middle <= span.start {
                suffixes.clear();
                middle = span.end;
                for sample in span.clone().rev() {
                    let one = at(sample);
                    suffixes.push(suffixes.last().map_or(one, |longer| one.join(*longer)));
                }
                grown = None;
            } else {
                for sample in behind.max(middle)..span.end {
                    let one = at(sample);
                    grown = Some(grown.map_or(one, |grown| grown.join(one)));
                }
            }
            behind = span.end;
            let early = suffixes[middle - span.start - 1];
            of(grown.map_or(early, |late| early.join(late)), span.clone())
        };
        self.spans.iter().map(value).collect()
    }

    fn values(&self) -> &[f64] {
        &self.of.columns[0]
    }

    /// For each step how many of the pairs of neighbours inside are `alike`.
    fn count_pairs(self, alike: impl Fn(f64, f64) -> bool) -> Vec<f64> {
        let values = self.values();
        let mut count = 0;
        let mut through = Vec::with_capacity(values.len());
        for at in 0..values.len() {
            count += usize::from(0 < at && alike(values[at - 1], values[at]));
            through.push(count);
        }
        let value = |span: &Range<usize>| match span.len() {
            0 => ABSENT,
            _ => float(through[span.end - 1] - through[span.start]),
        };
        self.spans.iter().map(value).collect()
    }
}

pub(super) fn sum(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    let values = slide.values();
    slide.fold(|at| Sum::of(values[at]), |sum, _| sum.total())
}

/// Of a gauge the mean of all values inside the windows, of a counter that of their ends.
pub(super) fn avg(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    let (values, counts) = (slide.values(), &slide.of.columns[1]);
    let count = |at: usize| if slide.of.kind == Kind::Gauge { counts[at] } else { 1.0 };
    let both = |at: usize| (Sum::of(values[at]), Sum::of(count(at)));
    slide.fold(both, |(sum, counted), span| {
        if sum.total().is_finite() {
            return sum.over(counted.total());
        }
        // The sum would overflow, or a value is infinite: the mean moves from value to value.
        let mut mean = Mean::default();
        span.for_each(|at| mean.add_many(values[at], count(at)));
        mean.mean()
    })
}

pub(super) fn min(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    let values = slide.values();
    slide.fold(|at| Least(values[at]), |least, _| least.0)
}

pub(super) fn max(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    let values = slide.values();
    slide.fold(|at| Most(values[at]), |most, _| most.0)
}

pub(super) fn changes(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    slide.count_pairs(|before, value| value != before && !(value.is_nan() && before.is_nan()))
}

pub(super) fn resets(slide: Slide<'_>, _: &[Vec<f64>]) -> Vec<f64> {
    slide.count_pairs(|before, value| value < before)
}

/// The samples inside are kept sorted.
pub(super) fn quantile(slide: Slide<'_>, scalars: &[Vec<f64>]) -> Vec<f64> {
    let values = slide.values();
    let mut sorted: Vec<f64> = Vec::new();
    let mut held = 0..0;
    let mut value = |(step, span): (usize, &Range<usize>)| {
        if held.end <= span.start {
            sorted.clear();
            sorted.extend_from_slice(&values[span.clone()]);
            sorted.sort_unstable_by(|left, right| ascending(*left, *right));
        } else {
            for gone in &values[held.start..span.start] {
                sorted.remove(place(&sorted, *gone));
            }
            for new in &values[held.end..span.end] {
                sorted.insert(place(&sorted, *new), *new);
            }
        }
        held = span.clone();
        if span.is_empty() { ABSENT } else { quantile_sorted(scalars[0][step], &sorted) }
    };
    slide.spans.iter().enumerate().map(&mut value).collect()
}

/// Where in sorted values the first one stands that is not smaller.
fn place(sorted: &[f64], value: f64) -> usize {
    sorted.partition_point(|other| ascending(*other, value).is_lt())
}
