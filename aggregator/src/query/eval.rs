//! Walks a parsed query over a grid of steps. Each selector is selected once, for all steps.

use std::cell::RefCell;
use std::time::Duration;

use common::metric::Kind;
use common::metric::Labels;
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
use crate::query::function::Folds;
use crate::query::function::Function;
use crate::query::function::How;
use crate::query::number::seconds;
use crate::query::number::shown;
use crate::query::place::Place;
use crate::query::plan::At;
use crate::query::plan::Call;
use crate::query::plan::INSTANT;
use crate::query::plan::Node;
use crate::query::plan::Range;
use crate::query::plan::Ranged;
use crate::query::plan::Selector;
use crate::query::plan::Shift;
use crate::query::source::Lend;
use crate::query::source::Source;
use crate::query::stats;
use crate::query::stats::Selection;
use crate::query::tier;
use crate::store::select::Field;
use crate::store::select::Grains;
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
    /// Windows whose length does not divide this may not answer in the place of others.
    pub(super) longest: Option<Duration>,
    pub(super) budget: Budget<'a>,
    /// The steps of the whole query, for `@ start()` and `@ end()`.
    pub(super) query: Grid,
    /// What is to be said beside the answer.
    pub(super) said: RefCell<Annotations>,
    /// What is to be said of long windows that answer: that is the same the next time.
    pub(super) coarse: RefCell<Option<String>>,
    /// What was read.
    pub(super) selections: RefCell<Vec<Selection>>,
}

/// What is read of some series.
pub(super) struct What<'a> {
    pub(super) grid: Grid,
    pub(super) fields: &'a [Field],
    /// Whether of each series the latest sample alone is seen.
    pub(super) latest: bool,
    pub(super) grains: Grains,
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
            Node::Select(selector) => Answer::Vector(self.held(grid, |give| self.select_values(selector, grid, give))?),
            Node::Range(_) => return Err(QueryError::bad("a range vector is no answer: wrap it in a function")),
            Node::Call(call) => self.call(call, grid)?,
            Node::Aggregate(aggregate) => Answer::Vector(aggregate::aggregate(self, aggregate, grid)?),
            Node::Binary(binary) => binary::binary(self, binary, grid)?,
            Node::Negate(of) => self.negate(of, grid)?,
        })
    }

    /// Says that the answer may be wrong.
    pub(super) fn warn(&self, what: &str, place: Option<Place>) {
        self.said.borrow_mut().warn(what, place);
    }

    /// Notes what is to be said of the windows that answer from a moment on.
    pub(super) fn note_coarse(&self, after: Timestamp) {
        let said = self.source.said_of(after);
        let mut coarse = self.coarse.borrow_mut();
        *coarse = coarse.take().or(said);
    }

    /// Says that the question may be wrong.
    pub(super) fn inform(&self, what: &str, place: Option<Place>) {
        self.said.borrow_mut().inform(what, place);
    }

    /// Says that something is no share of a whole.
    pub(super) fn warn_of_share(&self, share: f64, place: Option<Place>) {
        self.warn(&format!("quantile value should be between 0 and 1, got {}", shown(share)), place);
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
            return self.select_values(selector, grid, give);
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
        self.held(grid, |give| self.each_selected(selector, (grid, Folds::None), of, give))
    }

    /// The same, of the values alone.
    fn select_values(&self, selector: &Selector, grid: Grid, give: &mut Give<'_>) -> Result<(), QueryError> {
        self.each_selected(selector, (grid, Folds::All), |value, _| value, give)
    }

    fn each_selected(
        &self,
        selector: &Selector,
        (grid, folds): (Grid, Folds),
        of: impl Fn(f64, Timestamp) -> f64,
        give: &mut Give<'_>,
    ) -> Result<(), QueryError> {
        let moments = grid.moments().map(|moment| self.moment(selector.shift, moment));
        let lookbacks = self.source.lookbacks(self.lookback_ms, moments);
        let back = (lookbacks.first().copied().unwrap_or(self.lookback_ms), selector.shift);
        let mut values = Vec::with_capacity(grid.count);
        let grains = self.grains(folds, (selector.shift, self.lookback_ms), grid);
        // One step sees one sample.
        let what = What { grid, fields: INSTANT, latest: grid.count == 1, grains };
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
                let what = What { grid, fields, latest: false, grains: Grains::default() };
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

    /// Which longer windows may answer for a selector in the place of those that were written.
    pub(super) fn grains(&self, folds: Folds, (shift, range_ms): (Shift, i64), grid: Grid) -> Grains {
        let start = self.moment(shift, grid.start);
        let count = if shift.at.is_none() { grid.count } else { 1 };
        tier::grains(folds, (Grid { start, count, ..grid }, range_ms), self.longest)
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

    /// Gives what a selector selects, so far before its moments.
    pub(super) fn each_fetched(
        &self,
        matchers: &[Matcher],
        (back_ms, shift): (i64, Shift),
        What { grid, fields, latest, grains }: What<'_>,
        give: &mut Lend<'_>,
    ) -> Result<(), QueryError> {
        let after = Timestamp::from_millis(self.moment(shift, grid.start) - back_ms);
        let through = Timestamp::from_millis(self.moment(shift, grid.end()));
        if through <= after {
            return Ok(());
        }
        self.note_coarse(after);
        let began = self.budget.clock.monotonic();
        let (mut series, mut samples) = (0, 0);
        let mut tiers: Vec<Vec<Tiered>> = Vec::new();
        let question = Question { matchers, range: TimeRange { after, through }, fields, latest, grains };
        self.source.select(question, &mut |selected| {
            series += 1;
            samples += selected.samples.len();
            // Of all series of one kind they are the same.
            if tiers.last().is_none_or(|last| last != selected.tiers) {
                tiers.push(selected.tiers.to_vec());
            }
            self.budget.touch(selected.samples.len() + grid.count)?;
            give(selected)
        })?;
        let took = self.budget.clock.monotonic().saturating_sub(began);
        let tiers = tiers.iter().map(|tiers| tier::shown(tiers)).collect::<Vec<_>>().join(" and ");
        let selection = Selection { selector: stats::selector(matchers), series, samples, tiers, took };
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
}

/// Takes one series after the other; an error ends the giving.
pub(super) type Give<'a> = dyn FnMut(Passing<'_>) -> Result<(), QueryError> + 'a;

/// Gives a series unless it has no sample.
pub(super) fn give_present(series: Passing<'_>, give: &mut Give<'_>) -> Result<(), QueryError> {
    if series.is_absent() { Ok(()) } else { give(series) }
}

/// The scalar arguments of a function.
pub(super) struct Scalars(pub(super) Vec<Vec<f64>>);

impl Scalars {
    pub(super) fn evaluate(evaluator: &Evaluator<'_>, nodes: &[Node], grid: Grid) -> Result<Self, QueryError> {
        nodes.iter().map(|node| evaluator.scalar(node, grid)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn buffer(&self) -> Vec<f64> {
        vec![0.0; self.0.len()]
    }

    pub(super) fn at<'a>(&self, step: usize, buffer: &'a mut [f64]) -> &'a [f64] {
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
