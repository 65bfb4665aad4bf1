//! Functions that look at their arguments as they stand: the query's time, its selector, or all series at once.

use common::metric::Labels;
use common::metric::NAME;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::eval::as_range;
use crate::query::number::ascending;
use crate::query::number::seconds;
use crate::query::plan::Arguments;
use crate::query::plan::INSTANT;
use crate::query::plan::Node;
use crate::query::plan::Ranged;
use crate::store::select::Is;
use crate::store::select::Matcher;

/// The argument at a place; the parser has checked that it is there.
pub(super) fn argument(arguments: &[Node], at: usize) -> Result<&Node, QueryError> {
    arguments.get(at).ok_or_else(|| QueryError::bad("an argument is missing"))
}

pub(super) fn time(_: &Evaluator<'_>, _: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    Ok(Answer::Scalar(grid.moments().map(seconds).collect()))
}

pub(super) fn pi(_: &Evaluator<'_>, _: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    Ok(Answer::Scalar(vec![std::f64::consts::PI; grid.count]))
}

pub(super) fn vector(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let values = evaluator.scalar(argument(arguments, 0)?, grid)?;
    Ok(Answer::Vector(vec![Series { labels: Labels::new(), drops_name: false, values }]))
}

/// The value of a vector of one series, NaN for any other.
pub(super) fn scalar(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let series = evaluator.vector(argument(arguments, 0)?, grid)?;
    let value = |step: usize| {
        let mut present = series.iter().map(|series| series.values[step]).filter(|value| is_present(*value));
        match (present.next(), present.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    Ok(Answer::Scalar((0..grid.count).map(value).collect()))
}

/// When each sample was taken; of calculated ones the moment of the step.
pub(super) fn timestamp(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let mut series = if let Node::Select(selector) = argument(arguments, 0)? {
        evaluator.select(selector, grid, |_, stamp| stamp.as_seconds())?
    } else {
        let mut series = evaluator.vector(argument(arguments, 0)?, grid)?;
        for series in &mut series {
            let values = series.values.iter_mut().zip(grid.moments()).filter(|(value, _)| is_present(**value));
            values.for_each(|(value, moment)| *value = seconds(moment));
        }
        series
    };
    series.iter_mut().for_each(|series| series.drops_name = true);
    Ok(Answer::Vector(series))
}

/// 1 where the argument has no series, with the labels that its selector names.
pub(super) fn absent(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let node = argument(arguments, 0)?;
    let labels = if let Node::Select(selector) = node { named(&selector.matchers) } else { Labels::new() };
    let series = evaluator.vector(node, grid)?;
    Ok(Answer::Vector(vec![where_absent(labels, series.iter().map(|series| &series.values), grid)]))
}

/// 1 where the range holds no sample of any series, with the labels that its selector names.
pub(super) fn absent_over_time(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    grid: Grid,
) -> Result<Answer, QueryError> {
    let range = as_range(argument(arguments, 0)?).ok_or_else(|| QueryError::bad("expected a range vector"))?;
    let labels = match &range.of {
        Ranged::Selector(matchers) => named(matchers),
        Ranged::Subquery { .. } => Labels::new(),
    };
    let mut columns = Vec::new();
    for series in evaluator.windows(range, INSTANT, grid)? {
        let stamps = &series.samples.stamps;
        let holds = |moment: i64| {
            let through = evaluator.moment(range.shift, moment);
            let behind = stamps.partition_point(|stamp| stamp.as_millis() <= through);
            behind.checked_sub(1).is_some_and(|latest| through - range.range_ms < stamps[latest].as_millis())
        };
        columns.push(grid.moments().map(|moment| if holds(moment) { 1.0 } else { ABSENT }).collect::<Vec<_>>());
    }
    Ok(Answer::Vector(vec![where_absent(labels, columns.iter(), grid)]))
}

fn where_absent<'a>(labels: Labels, columns: impl Iterator<Item = &'a Vec<f64>>, grid: Grid) -> Series {
    let mut values = vec![1.0; grid.count];
    for column in columns {
        let present = values.iter_mut().zip(column).filter(|(_, value)| is_present(**value));
        present.for_each(|(absent, _)| *absent = ABSENT);
    }
    Series { labels, drops_name: false, values }
}

/// The labels that matchers pin: equal to one value, and said once.
fn named(matchers: &[Matcher]) -> Labels {
    let mut labels = Labels::new();
    let mut said: Vec<&str> = vec![NAME];
    for matcher in matchers.iter().filter(|matcher| matcher.name != NAME) {
        match &matcher.is {
            Is::Equal(value) if !said.contains(&matcher.name.as_str()) => {
                labels.set(matcher.name.as_str(), value.as_str());
                said.push(&matcher.name);
            }
            Is::Equal(_) | Is::NotEqual(_) | Is::Match(_) | Is::NoMatch(_) => labels.set(matcher.name.as_str(), ""),
        }
    }
    labels
}

pub(super) fn sort(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    sorted(evaluator, arguments, grid, |value| value)
}

pub(super) fn sort_descending(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    grid: Grid,
) -> Result<Answer, QueryError> {
    sorted(evaluator, arguments, grid, |value| -value)
}

/// Orders an instant query's series, NaN last. A range query's are sorted by their labels.
fn sorted(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    grid: Grid,
    key: fn(f64) -> f64,
) -> Result<Answer, QueryError> {
    let mut series = evaluator.vector(argument(arguments, 0)?, grid)?;
    if grid.count == 1 {
        series.sort_by(|left, right| {
            let (left, right) = (left.values[0], right.values[0]);
            left.is_nan().cmp(&right.is_nan()).then_with(|| ascending(key(left), key(right)))
        });
    }
    Ok(Answer::Vector(series))
}
