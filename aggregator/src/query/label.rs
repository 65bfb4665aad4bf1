//! Functions that change or order by labels.

use std::collections::HashMap;

use common::metric::Labels;
use common::metric::NAME;
use regex::Regex;

use crate::query::QueryError;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::merge;
use crate::query::eval::Evaluator;
use crate::query::plan::Arguments;
use crate::query::plan::Node;
use crate::query::whole::argument;

/// `label_replace(v, target, replacement, source, regex)`.
pub(super) fn replace(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let [target, replacement, source, pattern] = [1, 2, 3, 4].map(|at| text(arguments, at));
    let (target, replacement, source, pattern) = (target?, replacement?, source?, pattern?);
    check_name("label_replace", target)?;
    let regex = Regex::new(&format!("^(?s:{pattern})$"))
        .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
    relabel(evaluator, arguments, (grid, target), |labels| {
        let captures = regex.captures(labels.get(source))?;
        let mut value = String::new();
        captures.expand(replacement, &mut value);
        Some(value)
    })
}

/// `label_join(v, target, separator, source…)`.
pub(super) fn join(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let (target, separator) = (text(arguments, 1)?, text(arguments, 2)?);
    check_name("label_join", target)?;
    let sources: Vec<&str> = (3..arguments.len()).map(|at| text(arguments, at)).collect::<Result<_, _>>()?;
    relabel(evaluator, arguments, (grid, target), |labels| {
        Some(sources.iter().map(|source| labels.get(source)).collect::<Vec<_>>().join(separator))
    })
}

/// Orders an instant query's series by the values of labels, numbers in them as numbers.
pub(super) fn sort(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    sorted(evaluator, arguments, grid, false)
}

/// As [`sort`], the other way round.
pub(super) fn sort_descending(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    grid: Grid,
) -> Result<Answer, QueryError> {
    sorted(evaluator, arguments, grid, true)
}

fn sorted(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    grid: Grid,
    descending: bool,
) -> Result<Answer, QueryError> {
    let mut series = evaluator.vector(argument(arguments, 0)?, grid)?;
    let names: Vec<&str> = (1..arguments.len()).map(|at| text(arguments, at)).collect::<Result<_, _>>()?;
    series.sort_by(|left, right| {
        let by_names = names.iter().map(|name| natural(left.labels.get(name)).cmp(&natural(right.labels.get(name))));
        let order = by_names.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
        let order = order.then_with(|| left.labels.cmp(&right.labels));
        if descending { order.reverse() } else { order }
    });
    Ok(Answer::Vector(series))
}

/// A text in pieces that compare as a person would: `host2` before `host10`.
fn natural(text: &str) -> Vec<(u64, &str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let length =
            if digits == 0 { rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len()) } else { digits };
        let (piece, behind) = rest.split_at(length);
        pieces.push(if digits == 0 { (u64::MAX, piece) } else { (piece.parse().unwrap_or(u64::MAX - 1), "") });
        rest = behind;
    }
    pieces
}

/// Sets the target label where `value` gives one. Series that share their labels afterwards are one.
fn relabel(
    evaluator: &Evaluator<'_>,
    arguments: &Arguments,
    (grid, target): (Grid, &str),
    value: impl Fn(&Labels) -> Option<String>,
) -> Result<Answer, QueryError> {
    let mut answer: Vec<Series> = Vec::new();
    let mut places: HashMap<(Labels, bool), usize> = HashMap::new();
    for mut series in evaluator.vector(argument(arguments, 0)?, grid)? {
        if let Some(value) = value(&series.labels) {
            series.labels.set(target, value);
            series.drops_name &= target != NAME;
        }
        let place = *places.entry((series.labels.clone(), series.drops_name)).or_insert(answer.len());
        match answer.get_mut(place) {
            Some(same) => merge(&mut same.values, &series.values)?,
            None => answer.push(series),
        }
    }
    Ok(Answer::Vector(answer))
}

fn text(arguments: &[Node], at: usize) -> Result<&str, QueryError> {
    if let Node::Text(text) = argument(arguments, at)? { Ok(text) } else { Err(QueryError::bad("expected a string")) }
}

fn check_name(function: &str, name: &str) -> Result<(), QueryError> {
    if name.is_empty() {
        return Err(QueryError::execution(format!("invalid destination label name in {function}(): {name}")));
    }
    Ok(())
}
