//! Functions of a range that slides over the windows of each series.

use std::slice::from_ref;

use common::metric::Kind;
use common::metric::NAME;
use common::time::Timestamp;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Grid;
use crate::query::column::Passing;
use crate::query::column::is_present;
use crate::query::cursor::Cursor;
use crate::query::eval::Evaluator;
use crate::query::eval::Give;
use crate::query::eval::Scalars;
use crate::query::eval::What;
use crate::query::eval::as_range;
use crate::query::eval::give_present;
use crate::query::function::Apply;
use crate::query::function::Over;
use crate::query::function::Remark;
use crate::query::over::Whole;
use crate::query::place::Place;
use crate::query::plan::Arguments;
use crate::query::plan::Node;
use crate::query::plan::Range;
use crate::query::plan::Ranged;
use crate::query::slide::Ranges;
use crate::query::slide::Slide;
use crate::query::tier;
use crate::store::select::Grains;
use crate::store::select::Levels;
use crate::store::select::Samples;
use crate::store::select::Tiered;

impl Evaluator<'_> {
    /// A function of a range: gives what it makes of each series.
    pub(super) fn each_over(
        &self,
        over: &Over,
        arguments: &Arguments,
        grid: Grid,
        give: &mut Give<'_>,
    ) -> Result<(), QueryError> {
        let Some(range) = arguments.iter().find_map(as_range) else {
            return Err(QueryError::bad("expected a range vector"));
        };
        let scalars: Vec<Node> = arguments.iter().filter(|argument| as_range(argument).is_none()).cloned().collect();
        let scalars = Scalars::evaluate(self, &scalars, grid)?;
        let mut sliding = Sliding::default();
        let mut named = String::new();
        let mut each = |labels: Levels<'_>, drops_name: bool, of: (Kind, &[Tiered], &Samples)| {
            self.slide(over, (range, of), (&scalars, grid), &mut sliding)?;
            let series = Passing { labels, drops_name: drops_name || !over.keeps_name, values: &sliding.values };
            self.remark((over.remark, arguments.place(0)), &scalars, (series, &mut named))?;
            give_present(series, give)
        };
        match &range.of {
            Ranged::Selector(matchers) => {
                let grains = self.grains(over.folds, (range.shift, range.range_ms), grid);
                let after = self.moment(range.shift, grid.start) - range.range_ms;
                let chosen = if over.grows() { grains } else { Grains::default() };
                let before_ms = self.source.before_ms(after, chosen).unwrap_or(0);
                let what = What { grid, fields: over.fields(0 < before_ms), latest: false, grains };
                self.each_fetched(matchers, (range.range_ms + before_ms, range.shift), what, &mut |series| {
                    series.samples.drop_stale();
                    each(series.labels, false, (series.kind, series.tiers, series.samples))
                })
            }
            Ranged::Subquery { .. } => self.windows(range, over.fields(false), grid)?.iter().try_for_each(|series| {
                each(Levels(from_ref(&series.labels)), series.drops_name, (series.kind, &[], &series.samples))
            }),
        }
    }

    /// Says what is to be said of a function's arguments, where it gave an answer; of a metric that is `named` it was said.
    fn remark(
        &self,
        (remark, place): (Remark, Option<Place>),
        scalars: &Scalars,
        (answer, named): (Passing<'_>, &mut String),
    ) -> Result<(), QueryError> {
        let answered = |step: usize| is_present(answer.values[step]);
        let scalars = |at: usize| scalars.0.get(at).into_iter().flatten().copied().enumerate();
        match remark {
            Remark::None => {}
            Remark::Counter => {
                const ENDINGS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];
                let name = answer.labels.get(NAME);
                let is_named = !name.is_empty() && !ENDINGS.iter().any(|end| name.ends_with(end));
                if is_named && name != named && !answer.is_absent() {
                    name.clone_into(named);
                    self.inform(
                        &format!(
                            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
                        ),
                        place,
                    );
                }
            }
            Remark::Share => {
                let strange = scalars(0).filter(|(step, share)| !(0.0..=1.0).contains(share) && answered(*step));
                strange.for_each(|(_, share)| self.warn_of_share(share, place));
            }
            Remark::Factors => {
                for (at, name) in ["smoothing", "trend"].into_iter().enumerate() {
                    let wrong = |(step, factor): &(usize, f64)| !(0.0 < *factor && *factor < 1.0) && answered(*step);
                    if let Some((_, factor)) = scalars(at).find(wrong) {
                        let short = if at == 0 { "sf" } else { "tf" };
                        return Err(QueryError::execution(format!(
                            "invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// Slides a range over one series.
    fn slide(
        &self,
        over: &Over,
        (range, (kind, tiers, Samples { stamps, columns })): (&Range, (Kind, &[Tiered], &Samples)),
        (scalars, grid): (&Scalars, Grid),
        sliding: &mut Sliding,
    ) -> Result<(), QueryError> {
        let Sliding { spans, falls, values } = sliding;
        let stride = if range.shift.at.is_none() { grid.step } else { 0 };
        let ranges = Ranges { grid, through: self.moment(range.shift, grid.start), stride, length: range.range_ms };
        spans.clear();
        spans.extend(self::spans(ranges, stamps, tiers));
        falls.clear();
        if over.grows() {
            find_falls(columns, falls);
        }
        let of = Whole { kind, tiers, stamps, columns, falls, coarse: tier::coarse(stamps, tiers) };
        let slide = Slide { of, ranges, spans };
        let apply = match over.apply {
            Apply::Step(apply) => apply,
            Apply::Slide(apply) => {
                self.budget.touch(stamps.len() + grid.count)?;
                *values = apply(slide, &scalars.0);
                return Ok(());
            }
            Apply::Grow(apply) => {
                self.budget.touch(stamps.len())?;
                *values = apply(slide, &self.budget)?;
                return Ok(());
            }
        };
        let mut at_step = scalars.buffer();
        values.clear();
        for (step, windows) in slide.windows().enumerate() {
            let value = if windows.stamps.is_empty() { None } else { apply(&windows, scalars.at(step, &mut at_step)) };
            values.push(value.unwrap_or(ABSENT));
            self.budget.touch(windows.stamps.len() + 1)?;
        }
        Ok(())
    }
}

/// Which of a series' samples a range holds at each step. One that is shorter than the windows that answer has the latest of
/// them.
fn spans(ranges: Ranges, stamps: &[Timestamp], tiers: &[Tiered]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (mut first, mut end) = (Cursor::default(), Cursor::default());
    ranges.ends().map(move |(after, through)| {
        let first = first.behind(stamps, after);
        let end = end.behind(stamps, through).max(first);
        let latest = first.checked_sub(1).filter(|_| first == end && !tiers.is_empty());
        latest.filter(|latest| tier::covers(tiers, stamps[*latest], (after, through))).unwrap_or(first)..end
    })
}

/// What sliding a range over a series needs and makes; its place is used again for the next.
#[derive(Default)]
struct Sliding {
    spans: Vec<std::ops::Range<usize>>,
    falls: Vec<usize>,
    values: Vec<f64>,
}

/// Where values of the first column are smaller than the one before.
fn find_falls(columns: &[Vec<f64>], falls: &mut Vec<usize>) {
    let values = columns.first().map_or(&[][..], |values| values);
    let falls_at = |at: &usize| values[*at] < values[at - 1];
    // Looked for without a way out in the middle: there mostly are none, and so it is many at a time.
    let pairs = values.iter().zip(values.get(1..).unwrap_or_default());
    if pairs.fold(false, |any, (before, value)| any | (value < before)) {
        falls.extend((1..values.len()).filter(falls_at));
    }
}
