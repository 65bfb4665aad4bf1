//! Walks a parsed query over a grid of steps. Each selector is selected once, for all steps.

use std::cell::RefCell;
use std::slice::from_ref;

use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::query::QueryError;
use crate::query::aggregate;
use crate::query::annotation::Annotations;
use crate::query::binary;
use crate::query::budget::Budget;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Passing;
use crate::query::column::Series;
use crate::query::column::is_present;
use crate::query::cursor::Cursor;
use crate::query::function::Apply;
use crate::query::function::Function;
use crate::query::function::How;
use crate::query::function::Over;
use crate::query::function::Remark;
use crate::query::number::seconds;
use crate::query::number::shown;
use crate::query::over::Whole;
use crate::query::over::Windows;
use crate::query::plan::At;
use crate::query::plan::Call;
use crate::query::plan::INSTANT;
use crate::query::plan::Node;
use crate::query::plan::Range;
use crate::query::plan::Ranged;
use crate::query::plan::Selector;
use crate::query::plan::Shift;
use crate::query::slide::Slide;
use crate::query::source::Lend;
use crate::query::source::Source;
use crate::query::stats;
use crate::query::stats::Selection;
use crate::query::tier;
use crate::store::select::Field;
use crate::store::select::Levels;
use crate::store::select::Matcher;
use crate::store::select::Question;
use crate::store::select::Samples;
use crate::store::select::Selected;
use crate::store::select::Tiered;

/// Step of a subquery that names none: Prometheus' default evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// Evaluates one query.
pub(super) struct Evaluator<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) lookback_ms: i64,
    pub(super) budget: Budget<'a>,
    /// The steps of the whole query, for `@ start()` and `@ end()`.
    pub(super) query: Grid,
    /// What is to be said beside the answer.
    pub(super) said: RefCell<Annotations>,
    /// What was read.
    pub(super) selections: RefCell<Vec<Selection>>,
}

/// One series of a range vector: windows without staleness marks.
pub(super) struct RangeSeries {
    pub(super) labels: Labels,
    pub(super) drops_name: bool,
    pub(super) kind: Kind,
    pub(super) samples: Samples,
}

impl Evaluator<'_> {
    /// Evaluates a node at each step.
    pub(super) fn answer(&self, node: &Node, grid: Grid) -> Result<Answer, QueryError> {
        self.budget.hold(grid.count)?;
        Ok(match node {
            Node::Number(number) => Answer::Scalar(vec![*number; grid.count]),
            Node::Text(text) => Answer::Text(text.clone()),
            Node::Select(selector) => Answer::Vector(self.select(selector, grid, |value, _| value)?),
            Node::Range(_) => return Err(QueryError::bad("a range vector is no answer: wrap it in a function")),
            Node::Call(call) => self.call(call, grid)?,
            Node::Aggregate(aggregate) => Answer::Vector(aggregate::aggregate(self, aggregate, grid)?),
            Node::Binary(binary) => binary::binary(self, binary, grid)?,
            Node::Negate(of) => self.negate(of, grid)?,
        })
    }

    /// Says that the answer may be wrong.
    pub(super) fn warn(&self, what: &str) {
        self.said.borrow_mut().warn(what);
    }

    /// Says that the question may be wrong.
    pub(super) fn inform(&self, what: &str) {
        self.said.borrow_mut().inform(what);
    }

    /// Says that something is no share of a whole.
    pub(super) fn warn_of_share(&self, share: f64) {
        self.warn(&format!("quantile value should be between 0 and 1, got {}", shown(share)));
    }

    /// Evaluates a node that must be an instant vector.
    pub(super) fn vector(&self, node: &Node, grid: Grid) -> Result<Vec<Series>, QueryError> {
        match self.answer(node, grid)? {
            Answer::Vector(series) => Ok(series),
            Answer::Scalar(_) | Answer::Text(_) => Err(QueryError::bad("expected an instant vector")),
        }
    }

    /// Evaluates a node that must be a scalar.
    pub(super) fn scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.answer(node, grid)? {
            Answer::Scalar(values) => Ok(values),
            Answer::Vector(_) | Answer::Text(_) => Err(QueryError::bad("expected a scalar")),
        }
    }

    /// Gives the series of a node that must be an instant vector, one after the other where they need not be held.
    pub(super) fn stream(&self, node: &Node, grid: Grid, give: &mut Give<'_>) -> Result<(), QueryError> {
        if let Node::Select(selector) = node {
            return self.each_selected(selector, grid, |value, _| value, give);
        }
        if let Node::Call(Call { function: Function { how: How::Over(over), .. }, arguments }) = node {
            return self.each_over(over, arguments, grid, give);
        }
        self.vector(node, grid)?.iter().try_for_each(|series| give(series.pass()))
    }

    /// An instant selector: for each step `of` the latest sample in the lookback, and of its stamp.
    pub(super) fn select(
        &self,
        selector: &Selector,
        grid: Grid,
        of: impl Fn(f64, Timestamp) -> f64,
    ) -> Result<Vec<Series>, QueryError> {
        self.held(grid, |give| self.each_selected(selector, grid, of, give))
    }

    fn each_selected(
        &self,
        selector: &Selector,
        grid: Grid,
        of: impl Fn(f64, Timestamp) -> f64,
        give: &mut Give<'_>,
    ) -> Result<(), QueryError> {
        let moments = grid.moments().map(|moment| self.moment(selector.shift, moment));
        let lookbacks = self.source.lookbacks(self.lookback_ms, moments);
        let back = (lookbacks.first().copied().unwrap_or(self.lookback_ms), selector.shift);
        let mut values = Vec::with_capacity(grid.count);
        // One step sees one sample.
        let what = (grid, INSTANT, grid.count == 1);
        self.each_fetched(&selector.matchers, back, what, &mut |series| {
            let Samples { stamps, columns } = &*series.samples;
            let mut next = Cursor::default();
            let value = |(step, moment): (usize, i64)| {
                let at = self.moment(selector.shift, moment);
                let lookback_ms = lookbacks.get(step).copied().unwrap_or(self.lookback_ms);
                let latest = next.behind(stamps, at).checked_sub(1)?;
                let (value, stamp) = (columns[0][latest], stamps[latest]);
                (at - lookback_ms < stamp.as_millis() && is_present(value)).then(|| of(value, stamp))
            };
            values.clear();
            values.extend(grid.moments().enumerate().map(value).map(|value| value.unwrap_or(ABSENT)));
            give_present(Passing { labels: series.labels, drops_name: false, values: &values }, give)
        })
    }

    /// Holds what is given.
    fn held(
        &self,
        grid: Grid,
        each: impl FnOnce(&mut Give<'_>) -> Result<(), QueryError>,
    ) -> Result<Vec<Series>, QueryError> {
        let mut held = Vec::new();
        each(&mut |series| {
            self.budget.hold(grid.count)?;
            held.push(series.held());
            Ok(())
        })?;
        Ok(held)
    }

    /// A range vector: all windows that any step can see.
    pub(super) fn windows(&self, range: &Range, fields: &[Field], grid: Grid) -> Result<Vec<RangeSeries>, QueryError> {
        match &range.of {
            Ranged::Selector(matchers) => {
                let mut fetched = Vec::new();
                let what = (grid, fields, false);
                self.each_fetched(matchers, (range.range_ms, range.shift), what, &mut |series| {
                    let Selected { labels, kind, samples, .. } = series;
                    self.budget.hold(samples.len())?;
                    samples.drop_stale();
                    let (labels, samples) = (labels.whole(), samples.clone());
                    fetched.push(RangeSeries { labels, drops_name: false, kind, samples });
                    Ok(())
                })?;
                Ok(fetched)
            }
            Ranged::Subquery { node, step_ms } => {
                let inner = self.inner_grid(range, step_ms.unwrap_or(SUBQUERY_STEP_MS), grid)?;
                let series = self.vector(node, inner)?;
                Ok(series.into_iter().map(|series| windows_of_one(series, fields, inner)).collect())
            }
        }
    }

    /// The moment at which a selector looks when the query stands at `moment`.
    pub(super) fn moment(&self, shift: Shift, moment: i64) -> i64 {
        let at = match shift.at {
            None => moment,
            Some(At::Start) => self.query.start,
            Some(At::End) => self.query.end(),
            Some(At::Millis(at)) => at,
        };
        at - shift.offset_ms
    }

    fn each_fetched(
        &self,
        matchers: &[Matcher],
        (back_ms, shift): (i64, Shift),
        (grid, fields, latest): (Grid, &[Field], bool),
        give: &mut Lend<'_>,
    ) -> Result<(), QueryError> {
        let after = Timestamp::from_millis(self.moment(shift, grid.start) - back_ms);
        let through = Timestamp::from_millis(self.moment(shift, grid.end()));
        if through <= after {
            return Ok(());
        }
        self.source.said_of(after).iter().for_each(|said| self.inform(said));
        let began = self.budget.clock.monotonic();
        let (mut series, mut samples) = (0, 0);
        let question = Question { matchers, range: TimeRange { after, through }, fields, latest };
        self.source.select(question, &mut |selected| {
            series += 1;
            samples += selected.samples.len();
            self.budget.touch(selected.samples.len() + grid.count)?;
            give(selected)
        })?;
        let took = self.budget.clock.monotonic().saturating_sub(began);
        let selection = Selection { selector: stats::selector(matchers), series, samples, took };
        self.selections.borrow_mut().push(selection);
        Ok(())
    }

    /// The steps of a subquery: all multiples of its step that any step of the outer grid can see.
    fn inner_grid(&self, range: &Range, step_ms: i64, grid: Grid) -> Result<Grid, QueryError> {
        let after = self.moment(range.shift, grid.start) - range.range_ms;
        let start = (after.div_euclid(step_ms) + 1) * step_ms;
        let through = self.moment(range.shift, grid.end());
        Grid::through(start, through, step_ms, self.budget.samples_max).ok_or_else(|| {
            let limit = self.budget.samples_max;
            QueryError::execution(format!(
                "a subquery has more than {limit} steps: widen its step, or raise [query] samples_max"
            ))
        })
    }

    fn call(&self, call: &Call, grid: Grid) -> Result<Answer, QueryError> {
        match &call.function.how {
            How::Each(apply) => self.each(*apply, &call.arguments, grid),
            How::Over(over) => {
                Ok(Answer::Vector(self.held(grid, |give| self.each_over(over, &call.arguments, grid, give))?))
            }
            How::Whole(apply) => apply(self, &call.arguments, grid),
        }
    }

    fn negate(&self, of: &Node, grid: Grid) -> Result<Answer, QueryError> {
        Ok(match self.answer(of, grid)? {
            Answer::Scalar(values) => Answer::Scalar(values.into_iter().map(|value| -value).collect()),
            Answer::Vector(mut series) => {
                for series in &mut series {
                    series.map(|value| -value);
                    series.drops_name = true;
                }
                Answer::Vector(series)
            }
            Answer::Text(_) => return Err(QueryError::bad("a string has no negative")),
        })
    }

    fn each(&self, apply: fn(f64, &[f64]) -> f64, arguments: &[Node], grid: Grid) -> Result<Answer, QueryError> {
        let mut vector = match arguments.first() {
            Some(vector) => self.vector(vector, grid)?,
            None => {
                vec![Series { labels: Labels::new(), drops_name: true, values: grid.moments().map(seconds).collect() }]
            }
        };
        let scalars = Scalars::evaluate(self, arguments.get(1..).unwrap_or_default(), grid)?;
        let mut at_step = scalars.buffer();
        for series in &mut vector {
            series.drops_name = true;
            for (step, value) in series.values.iter_mut().enumerate().filter(|(_, value)| is_present(**value)) {
                *value = apply(*value, scalars.at(step, &mut at_step));
            }
        }
        vector.retain(|series| !series.is_absent());
        Ok(Answer::Vector(vector))
    }

    fn each_over(&self, over: &Over, arguments: &[Node], grid: Grid, give: &mut Give<'_>) -> Result<(), QueryError> {
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
            self.remark(over.remark, &scalars, (series, &mut named))?;
            give_present(series, give)
        };
        match &range.of {
            Ranged::Selector(matchers) => {
                let before_ms = self.source.before_ms(self.moment(range.shift, grid.start) - range.range_ms);
                let what = (grid, over.fields(0 < before_ms), false);
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
        remark: Remark,
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
                    self.inform(&format!(
                        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
                    ));
                }
            }
            Remark::Share => {
                let strange = scalars(0).filter(|(step, share)| !(0.0..=1.0).contains(share) && answered(*step));
                strange.for_each(|(_, share)| self.warn_of_share(share));
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
        spans.clear();
        spans.extend(self.spans(range, (stamps, tiers), grid));
        values.clear();
        let apply = match over.apply {
            Apply::Step(apply) => apply,
            Apply::Slide(apply) => {
                self.budget.touch(stamps.len() + grid.count)?;
                *values = apply(Slide { kind, columns, spans }, &scalars.0);
                return Ok(());
            }
        };
        let mut at_step = scalars.buffer();
        find_falls(columns, falls);
        let of = Whole { kind, tiers, stamps, columns, falls, coarse: tier::coarse(stamps, tiers) };
        for (step, (now, span)) in grid.moments().zip(spans).enumerate() {
            let through = self.moment(range.shift, now);
            let after = through - range.range_ms;
            let (first, stamps) = (span.start, &stamps[span.clone()]);
            let windows = Windows { now, after, through, stamps, first, of };
            let value = if stamps.is_empty() { None } else { apply(&windows, scalars.at(step, &mut at_step)) };
            values.push(value.unwrap_or(ABSENT));
            self.budget.touch(stamps.len() + 1)?;
        }
        Ok(())
    }

    /// Which of a series' samples a range holds at each step. One that is shorter than the windows that answer has the
    /// latest of them.
    fn spans(
        &self,
        range: &Range,
        (stamps, tiers): (&[Timestamp], &[Tiered]),
        grid: Grid,
    ) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (mut first, mut end) = (Cursor::default(), Cursor::default());
        grid.moments().map(move |now| {
            let through = self.moment(range.shift, now);
            let after = through - range.range_ms;
            let first = first.behind(stamps, after);
            let end = end.behind(stamps, through).max(first);
            let latest = first.checked_sub(1).filter(|_| first == end && !tiers.is_empty());
            latest.filter(|latest| tier::covers(tiers, stamps[*latest], (after, through))).unwrap_or(first)..end
        })
    }
}

/// What sliding a range over a series needs and makes; its place is used again for the next.
#[derive(Default)]
struct Sliding {
    spans: Vec<std::ops::Range<usize>>,
    falls: Vec<usize>,
    values: Vec<f64>,
}

/// Takes one series after the other; an error ends the giving.
pub(super) type Give<'a> = dyn FnMut(Passing<'_>) -> Result<(), QueryError> + 'a;

/// Gives a series unless it has no sample.
fn give_present(series: Passing<'_>, give: &mut Give<'_>) -> Result<(), QueryError> {
    if series.is_absent() { Ok(()) } else { give(series) }
}

/// Where values of the first column are smaller than the one before.
fn find_falls(columns: &[Vec<f64>], falls: &mut Vec<usize>) {
    falls.clear();
    let values = columns.first().map_or(&[][..], |values| values);
    let falls_at = |at: &usize| values[*at] < values[at - 1];
    // Looked for without a way out in the middle: there mostly are none, and so it is many at a time.
    let pairs = values.iter().zip(values.get(1..).unwrap_or_default());
    if pairs.fold(false, |any, (before, value)| any | (value < before)) {
        falls.extend((1..values.len()).filter(falls_at));
    }
}

/// The scalar arguments of a function.
struct Scalars(Vec<Vec<f64>>);

impl Scalars {
    fn evaluate(evaluator: &Evaluator<'_>, nodes: &[Node], grid: Grid) -> Result<Self, QueryError> {
        nodes.iter().map(|node| evaluator.scalar(node, grid)).collect::<Result<_, _>>().map(Self)
    }

    fn buffer(&self) -> Vec<f64> {
        vec![0.0; self.0.len()]
    }

    fn at<'a>(&self, step: usize, buffer: &'a mut [f64]) -> &'a [f64] {
        buffer.iter_mut().zip(&self.0).for_each(|(value, column)| *value = column[step]);
        buffer
    }
}

pub(super) fn as_range(node: &Node) -> Option<&Range> {
    if let Node::Range(range) = node { Some(range) } else { None }
}

/// A series that was calculated has windows of one sample.
fn windows_of_one(series: Series, fields: &[Field], grid: Grid) -> RangeSeries {
    let present = || grid.moments().zip(&series.values).filter(|(_, value)| is_present(**value));
    let stamps: Vec<Timestamp> = present().map(|(moment, _)| Timestamp::from_millis(moment)).collect();
    let column = |field: &Field| match field {
        Field::Count => vec![1.0; stamps.len()],
        Field::Last | Field::Min | Field::Max | Field::Sum | Field::Increase | Field::Peak => {
            present().map(|(_, value)| *value).collect()
        }
    };
    let columns = fields.iter().map(column).collect();
    let samples = Samples { stamps, columns };
    RangeSeries { labels: series.labels, drops_name: series.drops_name, kind: Kind::Gauge, samples }
}
