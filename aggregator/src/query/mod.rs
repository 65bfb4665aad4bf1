//! PromQL over a [`source::Source`], as Prometheus 3 evaluates it.
//!
//! A query is parsed once ([`parse()`]) into an [`Expr`] and evaluated over a grid of steps; an instant query is a grid of
//! one. Each selector is selected once for the whole grid, with the window fields that its function reads; what flows
//! between nodes is a column a series. Metric names that an operation drops go last, so that `label_replace` and
//! `by (__name__)` still see them.

mod aggregate;
mod annotation;
mod binary;
mod budget;
mod cache;
mod column;
mod cursor;
mod date;
mod desugar;
mod error;
mod eval;
mod function;
mod growth;
mod histogram;
mod info;
mod label;
mod log;
mod mistake;
mod number;
mod over;
mod parse;
mod place;
mod plan;
mod ranged;
mod slide;
pub mod source;
mod stats;
mod tier;
mod turn;
mod value;
mod whole;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use common::metric::Labels;
use common::time::Clock;
use common::time::Timestamp;

pub use crate::query::annotation::ANNOTATIONS_MAX;
pub use crate::query::annotation::Annotations;
pub use crate::query::budget::Held;
pub use crate::query::cache::Caching;
pub use crate::query::error::QueryError;
pub use crate::query::log::Asked;
pub use crate::query::log::Asking;
pub use crate::query::log::Log;
pub use crate::query::parse::QUERY_BYTES_MAX;
pub use crate::query::parse::QUERY_DEPTH_MAX;
pub use crate::query::parse::QUERY_OPERATORS_MAX;
pub use crate::query::parse::format;
pub use crate::query::parse::is_query;
pub use crate::query::parse::parse;
pub use crate::query::parse::tree;
pub use crate::query::plan::Expr;
pub use crate::query::stats::Selection;
pub use crate::query::stats::Stats;
pub use crate::query::turn::Turn;
pub use crate::query::turn::Turns;
pub use crate::query::value::Moments;
pub use crate::query::value::Reply;
pub use crate::query::value::Sample;
pub use crate::query::value::Value;

use crate::query::budget::Budget;
use crate::query::budget::Purse;
use crate::query::cache::Cache;
use crate::query::cache::Question;
use crate::query::cache::Rows;
use crate::query::cache::STEPS;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::drop_name;
use crate::query::column::duplicate;
use crate::query::column::is_present;
use crate::query::column::merge;
use crate::query::eval::Evaluator;
use crate::query::eval::RangeSeries;
use crate::query::plan::INSTANT;
use crate::query::plan::Node;
use crate::query::plan::Range;
use crate::query::plan::reach;
use crate::query::source::Source;
use crate::store::select::Grains;
use crate::store::select::Spend;

/// Most steps after the first of a range query, as in Prometheus: more than any screen has pixels.
pub const POINTS_MAX: usize = 11_000;

/// How far one looks back at most where windows of an hour answer.
const COARSE_LOOKBACK_MS: i64 = 2 * 3_600_000;

/// The shortest windows that are made of others.
const SHORTEST_COARSE_MS: i64 = 300_000;

/// What one label set costs beside samples: half a kilobyte.
const SAMPLES_PER_SERIES: usize = 32;

/// What queries may look back to and cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// How old an instant selector's sample may be.
    pub lookback: Duration,
    /// Longer windows answer in the place of shorter ones, where they say the same, if their length divides this; all may if
    /// there is none.
    pub longest: Option<Duration>,
    /// Samples that one query may hold: what an aggregation takes in one by one is not held.
    pub samples_max: usize,
    /// Bytes that all queries together may hold.
    pub memory_max: usize,
    /// Bytes of what range queries answered that are kept; 0 for none.
    pub cache_max: usize,
    /// How long one query may take.
    pub deadline: Duration,
    /// A query that takes so long is logged.
    pub slow: Duration,
}

impl Default for EngineConfig {
    /// Prometheus' lookback and sample limit; no person waits longer than half a minute, and none likes to wait a second.
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            longest: None,
            samples_max: 50_000_000,
            memory_max: 1 << 30,
            cache_max: 64 << 20,
            deadline: Duration::from_secs(30),
            slow: Duration::from_secs(1),
        }
    }
}

/// Answers queries. Clones share the source.
#[derive(Clone)]
pub struct Engine {
    source: Arc<dyn Source>,
    clock: Clock,
    config: EngineConfig,
    purse: Purse,
    cache: Cache,
    log: Log,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over a source. The clock measures deadlines, and dates what is logged.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, clock: Clock, config: EngineConfig) -> Self {
        Self { source, clock, config, purse: Purse::default(), cache: Cache::default(), log: Log::default() }
    }

    /// Parses and evaluates a query at one moment. Takes the calling thread for as long as that takes.
    ///
    /// # Errors
    /// When the query is wrong, has no answer, or costs more than it may.
    pub fn instant(&self, query: &str, at: Timestamp) -> Result<Value, QueryError> {
        self.evaluate(&parse(query)?, at, &Turn::default())
    }

    /// Parses and evaluates a query at each step from `start` through `end`.
    ///
    /// # Errors
    /// As [`Self::instant`], and when there are more than [`POINTS_MAX`] steps.
    pub fn range(&self, query: &str, start: Timestamp, end: Timestamp, step: Duration) -> Result<Value, QueryError> {
        self.reply(&parse(query)?, Moments::Range { start, end, step }, &Turn::default()).map(|reply| reply.value)
    }

    /// Evaluates a parsed query at one moment.
    ///
    /// # Errors
    /// As [`Self::instant`].
    pub fn evaluate(&self, query: &Expr, at: Timestamp, turn: &Turn) -> Result<Value, QueryError> {
        self.reply(query, Moments::At(at), turn).map(|reply| reply.value)
    }

    /// Evaluates a parsed query, and says what is to be said beside the answer.
    ///
    /// # Errors
    /// As [`Self::instant`] and [`Self::range`].
    pub fn reply(&self, query: &Expr, moments: Moments, turn: &Turn) -> Result<Reply, QueryError> {
        let grid = grid(moments)?;
        let evaluator = self.evaluator(grid, turn);
        let answer = match moments {
            Moments::At(at) => instant(&evaluator, query, at, grid).map(|value| (value, 0)),
            Moments::Range { .. } => self.range_of(&evaluator, query, grid),
        };
        let (value, steps_cached) = answer.map_or_else(|error| (Err(error), 0), |(value, cached)| (Ok(value), cached));
        let held = evaluator.budget.keep(value.as_ref().map_or(0, Value::samples));
        let stats = Stats {
            samples_held: evaluator.budget.samples.get(),
            steps: grid.count,
            steps_cached,
            took: evaluator.budget.took(),
            selections: evaluator.selections.into_inner(),
        };
        let asked = Asked {
            at: self.clock.wall(),
            query: query.text().to_owned(),
            moments,
            stats: stats.clone(),
            error: value.as_ref().err().cloned(),
        };
        self.log.note(asked, self.config.slow);
        let mut annotations = evaluator.said.into_inner();
        evaluator.coarse.into_inner().iter().for_each(|said| annotations.inform(said, None));
        Ok(Reply { value: value?, annotations, stats, held })
    }

    /// A value at each step, and how many steps were answered as before.
    fn range_of(&self, evaluator: &Evaluator<'_>, query: &Expr, grid: Grid) -> Result<(Value, usize), QueryError> {
        let EngineConfig { lookback, cache_max, .. } = self.config;
        let lookback_ms = millis(lookback);
        let Some(reach_ms) = self.reach(query, grid).filter(|_| 0 < cache_max && STEPS <= grid.count) else {
            return rows(evaluator, query, grid).map(|rows| (matrix(rows, grid), 0));
        };
        let (text, step_ms) = (query.text().into(), grid.step);
        let phase_ms = grid.start.rem_euclid(step_ms);
        let question = Question { text, step_ms, phase_ms, lookback_ms, longest: self.config.longest, reach_ms };
        let run = |some: Grid| rows(evaluator, query, some).map(|rows| (rows, evaluator.said.borrow().is_empty()));
        if 0 < reach_ms.0 {
            evaluator.note_coarse(Timestamp::from_millis(grid.start.saturating_sub(reach_ms.0)));
        }
        let (rows, cached) = self.cache.answer(&question, (grid, cache_max), &*self.source, run)?;
        Ok((matrix(rows, grid), cached))
    }

    /// How far before a step a query looks, and how far behind it; further where windows are long.
    fn reach(&self, query: &Expr, grid: Grid) -> Option<(i64, i64)> {
        let usual_ms = millis(self.config.lookback);
        let (back, ahead) = reach(&query.root, (usual_ms, 0))?;
        let begin = Timestamp::from_millis(grid.start.saturating_sub(back));
        let chosen = (grid.step % SHORTEST_COARSE_MS == 0).then_some(Duration::ZERO);
        match self.source.resolution(begin, Grains::default()).or(chosen) {
            Some(_) => reach(&query.root, (usual_ms.max(COARSE_LOOKBACK_MS), COARSE_LOOKBACK_MS)),
            None => Some((back, ahead)),
        }
    }

    /// The latest samples of what a selector matches, each with its own stamp.
    ///
    /// # Errors
    /// As [`Self::instant`], and when the query is no selector.
    pub fn latest(&self, query: &Expr, at: Timestamp, turn: &Turn) -> Result<Vec<Sample>, QueryError> {
        let Node::Select(selector) = &query.root else {
            return Err(QueryError::bad("it must be a selector"));
        };
        let grid = grid(Moments::At(at))?;
        let evaluator = self.evaluator(grid, turn);
        let values = evaluator.select(selector, grid, |value, _| value)?;
        let stamps = evaluator.select(selector, grid, |_, stamp| number::float_millis(stamp))?;
        let stamps: HashMap<_, _> = stamps.into_iter().map(|series| (series.labels, series.values)).collect();
        let sample = |series: Series| {
            let stamp = stamps.get(&series.labels)?.first()?;
            let value = *series.values.first()?;
            Some((series.labels, number::millis(*stamp), value))
        };
        Ok(values.into_iter().filter_map(sample).collect())
    }

    /// The same engine with another lookback.
    #[must_use]
    pub const fn looking_back(mut self, lookback: Duration) -> Self {
        self.config.lookback = lookback;
        self
    }

    /// The same engine with longer windows in the place of shorter ones only if their length divides this.
    #[must_use]
    pub const fn at_longest(mut self, longest: Duration) -> Self {
        self.config.longest = Some(longest);
        self
    }

    /// The same engine with a deadline that is at most this.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.config.deadline = self.config.deadline.min(deadline);
        self
    }

    /// How often range queries were answered as before.
    #[must_use]
    pub fn caching(&self) -> Caching {
        self.cache.caching()
    }

    /// What was asked.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// What queries may look back to and cost.
    #[must_use]
    pub const fn config(&self) -> EngineConfig {
        self.config
    }

    /// Looks series up within the budget of one query: `look` hands in, at each series that it comes to, how many label
    /// sets more it holds.
    ///
    /// # Errors
    /// When that costs more than a query may, or nobody waits for it any more.
    pub fn look_up<T>(
        &self,
        turn: &Turn,
        look: impl FnOnce(Spend<'_, QueryError>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let budget = self.budget(turn);
        look(&|held| match held {
            0 => budget.touch(SAMPLES_PER_SERIES),
            held => budget.hold(held.saturating_mul(SAMPLES_PER_SERIES)),
        })
    }

    fn evaluator<'a>(&'a self, grid: Grid, turn: &'a Turn) -> Evaluator<'a> {
        Evaluator {
            source: &*self.source,
            lookback_ms: millis(self.config.lookback),
            longest: self.config.longest,
            budget: self.budget(turn),
            query: grid,
            said: RefCell::default(),
            coarse: RefCell::default(),
            selections: RefCell::default(),
        }
    }

    fn budget<'a>(&'a self, turn: &'a Turn) -> Budget<'a> {
        Budget {
            clock: &self.clock,
            turn,
            memory_max: self.config.memory_max,
            all: &self.purse,
            began: self.clock.monotonic(),
            deadline: self.config.deadline,
            samples_max: self.config.samples_max,
            samples: Cell::new(0),
            unchecked: Cell::new(0),
        }
    }
}

fn grid(moments: Moments) -> Result<Grid, QueryError> {
    let (start, end, step) = match moments {
        Moments::At(at) => return check_moment(at).map(|()| Grid::instant(at.as_millis())),
        Moments::Range { start, end, step } => (start, end, step),
    };
    let step_ms = i64::try_from(step.as_millis()).ok().filter(|step| 0 < *step).ok_or_else(|| {
        QueryError::bad("zero or negative query resolution step widths are not accepted: give a positive step")
    })?;
    check_moment(start)?;
    check_moment(end)?;
    if end < start {
        return Err(QueryError::bad("end timestamp must not be before start time"));
    }
    Grid::through(start.as_millis(), end.as_millis(), step_ms, POINTS_MAX + 1).ok_or_else(|| {
        QueryError::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        )
    })
}

fn instant(evaluator: &Evaluator<'_>, query: &Expr, at: Timestamp, grid: Grid) -> Result<Value, QueryError> {
    if let Node::Range(range) = &query.root {
        return samples(evaluator, range, grid);
    }
    match evaluator.answer(&query.root, grid)? {
        Answer::Scalar(values) => Ok(Value::Scalar(values.first().copied().unwrap_or(f64::NAN))),
        Answer::Text(text) => Ok(Value::String(text)),
        Answer::Vector(series) => vector(series, at),
    }
}

/// What a query answers at each step.
fn rows(evaluator: &Evaluator<'_>, query: &Expr, grid: Grid) -> Result<Rows, QueryError> {
    match evaluator.answer(&query.root, grid)? {
        Answer::Scalar(values) => Ok(vec![(Labels::new(), values)]),
        Answer::Vector(series) => seen(series),
        Answer::Text(_) => {
            Err(QueryError::bad("invalid expression type \"string\" for range query, must be Scalar or instant Vector"))
        }
    }
}

/// Refuses moments so far away that sums with offsets and ranges would overflow.
fn check_moment(at: Timestamp) -> Result<(), QueryError> {
    const MILLIS_END: u64 = 1 << 53;
    if at.as_millis().unsigned_abs() <= MILLIS_END { Ok(()) } else { Err(QueryError::bad("timestamp out of range")) }
}

/// The samples of a range vector as they are stored.
fn samples(evaluator: &Evaluator<'_>, range: &Range, grid: Grid) -> Result<Value, QueryError> {
    let series = evaluator.windows(range, INSTANT, grid)?;
    let mut matrix = Vec::new();
    for RangeSeries { mut labels, drops_name, samples, .. } in
        series.into_iter().filter(|series| !series.samples.is_empty())
    {
        if drops_name {
            drop_name(&mut labels);
        }
        let values = samples.columns.into_iter().next().unwrap_or_default();
        matrix.push((labels, samples.stamps.into_iter().zip(values).collect::<Vec<_>>()));
    }
    matrix.sort_by(|(left, _), (right, _)| left.cmp(right));
    if matrix.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(duplicate());
    }
    Ok(Value::Matrix(matrix))
}

fn vector(series: Vec<Series>, at: Timestamp) -> Result<Value, QueryError> {
    let series = seen(series)?;
    let sample = |(labels, values): (Labels, Vec<f64>)| Some((labels, at, *values.first()?));
    Ok(Value::Vector(series.into_iter().filter_map(sample).collect()))
}

fn matrix(mut rows: Rows, grid: Grid) -> Value {
    rows.sort_by(|(left, _), (right, _)| left.cmp(right));
    let samples = |values: Vec<f64>| -> Vec<_> {
        let samples = grid.moments().map(Timestamp::from_millis).zip(values);
        samples.filter(|(_, value)| is_present(*value)).collect()
    };
    Value::Matrix(rows.into_iter().map(|(labels, values)| (labels, samples(values))).collect())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Drops the names that go, and joins series that share their labels then and have no sample at one step.
fn seen(series: Vec<Series>) -> Result<Rows, QueryError> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut seen: Rows = Vec::with_capacity(series.len());
    for series in series.into_iter().filter(|series| !series.is_absent()) {
        let (labels, values) = series.seen_labels();
        match places.entry(labels) {
            Entry::Occupied(place) if values.len() == 1 || merge(&mut seen[*place.get()].1, &values).is_err() => {
                return Err(duplicate());
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                seen.push((place.key().clone(), values));
                place.insert(seen.len() - 1);
            }
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests;
