//! Operators between two sides: arithmetic, comparison, and the sets `and`, `or`, `unless`.

use std::collections::HashMap;

use common::metric::Labels;

use crate::query::QueryError;
use crate::query::aggregate::group_labels;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::drop_name;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::plan::Binary;
use crate::query::plan::BinaryOp;
use crate::query::plan::Calculation;
use crate::query::plan::Card;
use crate::query::plan::Comparison;
use crate::query::plan::Grouping;
use crate::query::plan::Matching;

/// Evaluates a binary expression.
pub(super) fn binary(evaluator: &Evaluator<'_>, binary: &Binary, grid: Grid) -> Result<Answer, QueryError> {
    let left = evaluator.answer(&binary.left, grid)?;
    let right = evaluator.answer(&binary.right, grid)?;
    let operator = Operator { op: binary.op, returns_bool: binary.returns_bool };
    Ok(match (left, right) {
        (Answer::Scalar(left), Answer::Scalar(right)) => {
            let bool_operator = Operator { returns_bool: true, ..operator };
            Answer::Scalar(left.iter().zip(&right).map(|(left, right)| bool_operator.apply(*left, *right)).collect())
        }
        (Answer::Vector(left), Answer::Scalar(right)) => {
            Answer::Vector(with_scalar(operator, left, |step, value| (value, right[step])))
        }
        (Answer::Scalar(left), Answer::Vector(right)) => {
            Answer::Vector(with_scalar(operator, right, |step, value| (left[step], value)))
        }
        (Answer::Vector(left), Answer::Vector(right)) => Answer::Vector(match binary.op {
            BinaryOp::And => keep(left, &right, &binary.matching, true),
            BinaryOp::Unless => keep(left, &right, &binary.matching, false),
            BinaryOp::Or => either(left, right, &binary.matching),
            BinaryOp::Calculate(_) | BinaryOp::Compare(_) => {
                Join { operator, matching: &binary.matching, grid }.join(left, right)?
            }
        }),
        _ => return Err(QueryError::bad("a string has no operators")),
    })
}

/// An operator between two numbers.
#[derive(Clone, Copy)]
struct Operator {
    op: BinaryOp,
    returns_bool: bool,
}

impl Operator {
    /// The result, or absent where a comparison filters.
    fn apply(self, left: f64, right: f64) -> f64 {
        match self.op {
            BinaryOp::Calculate(calculation) => calculate(calculation, left, right),
            BinaryOp::Compare(comparison) => match (self.returns_bool, compare(comparison, left, right)) {
                (true, holds) => f64::from(u8::from(holds)),
                (false, true) => left,
                (false, false) => ABSENT,
            },
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => ABSENT,
        }
    }

    const fn drops_name(self) -> bool {
        self.returns_bool || matches!(self.op, BinaryOp::Calculate(_))
    }
}

fn calculate(calculation: Calculation, left: f64, right: f64) -> f64 {
    match calculation {
        Calculation::Add => left + right,
        Calculation::Subtract => left - right,
        Calculation::Multiply => left * right,
        Calculation::Divide => left / right,
        Calculation::Modulo => left % right,
        Calculation::Power => left.powf(right),
        Calculation::Atan2 => left.atan2(right),
    }
}

fn compare(comparison: Comparison, left: f64, right: f64) -> bool {
    match comparison {
        Comparison::Equal => left == right,
        Comparison::NotEqual => left != right,
        Comparison::Less => left < right,
        Comparison::LessOrEqual => left <= right,
        Comparison::Greater => left > right,
        Comparison::GreaterOrEqual => left >= right,
    }
}

/// A vector and a scalar: a filter keeps the vector's value, whichever side it stands on.
fn with_scalar(operator: Operator, mut vector: Vec<Series>, sides: impl Fn(usize, f64) -> (f64, f64)) -> Vec<Series> {
    let filters = matches!(operator.op, BinaryOp::Compare(_)) && !operator.returns_bool;
    for series in &mut vector {
        series.drops_name |= operator.drops_name();
        for (step, value) in series.values.iter_mut().enumerate().filter(|(_, value)| is_present(**value)) {
            let (left, right) = sides(step, *value);
            let result = operator.apply(left, right);
            if !filters || !is_present(result) {
                *value = result;
            }
        }
    }
    vector.retain(|series| !series.is_absent());
    vector
}

/// The labels by which the two sides find each other.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    group_labels(labels, &matching.on)
}

/// At which steps a match group has a sample.
fn present_steps(series: &[Series], matching: &Matching) -> HashMap<Labels, Vec<bool>> {
    let mut steps: HashMap<Labels, Vec<bool>> = HashMap::new();
    for series in series {
        let present =
            steps.entry(signature(&series.labels, matching)).or_insert_with(|| vec![false; series.values.len()]);
        present.iter_mut().zip(&series.values).for_each(|(present, value)| *present |= is_present(*value));
    }
    steps
}

/// `and`, `unless`: the left side's samples where the right side has one, or has none.
fn keep(mut left: Vec<Series>, right: &[Series], matching: &Matching, where_present: bool) -> Vec<Series> {
    let right = present_steps(right, matching);
    for series in &mut left {
        let present = right.get(&signature(&series.labels, matching));
        for (step, value) in series.values.iter_mut().enumerate() {
            if present.is_some_and(|present| present[step]) != where_present {
                *value = ABSENT;
            }
        }
    }
    left.retain(|series| !series.is_absent());
    left
}

/// `or`: the left side's samples, and the right side's where the left has none.
fn either(mut left: Vec<Series>, mut right: Vec<Series>, matching: &Matching) -> Vec<Series> {
    let present = present_steps(&left, matching);
    for series in &mut right {
        if let Some(present) = present.get(&signature(&series.labels, matching)) {
            let covered = series.values.iter_mut().zip(present).filter(|(_, present)| **present);
            covered.for_each(|(value, _)| *value = ABSENT);
        }
    }
    right.retain(|series| !series.is_absent());
    left.append(&mut right);
    left
}

/// Arithmetic or comparison of two vectors.
struct Join<'a> {
    operator: Operator,
    matching: &'a Matching,
    grid: Grid,
}

/// What the "one" side has in a match group: which of its series, at each step.
struct One {
    members: Vec<Series>,
    /// Member number plus one; zero where there is none.
    at_step: Vec<u32>,
}

/// The series that come out, by their labels.
#[derive(Default)]
struct Joined {
    series: Vec<Series>,
    places: HashMap<Labels, usize>,
}

impl Join<'_> {
    fn join(&self, left: Vec<Series>, right: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        let (many, one) = if self.one_is_left() { (right, left) } else { (left, right) };
        let ones = self.ones(&many, one)?;
        let mut joined = Joined::default();
        // Which result each match group has had at a step: one-to-one allows a single one.
        let mut taken: HashMap<Labels, Vec<bool>> = HashMap::new();
        for series in many {
            let signature = signature(&series.labels, self.matching);
            let Some(one) = ones.get(&signature) else { continue };
            let taken = taken.entry(signature).or_insert_with(|| vec![false; self.grid.count]);
            self.join_series(&series, one, taken, &mut joined)?;
        }
        joined.series.retain(|series| !series.is_absent());
        Ok(joined.series)
    }

    fn one_is_left(&self) -> bool {
        matches!(self.matching.card, Card::OneToMany(_))
    }

    /// Groups the "one" side, and refuses two of its series in one group at one step.
    fn ones(&self, many: &[Series], one: Vec<Series>) -> Result<HashMap<Labels, One>, QueryError> {
        let mut ones: HashMap<Labels, One> = HashMap::new();
        for series in one {
            let signature = signature(&series.labels, self.matching);
            let one =
                ones.entry(signature).or_insert_with(|| One { members: Vec::new(), at_step: vec![0; self.grid.count] });
            let number = u32::try_from(one.members.len()).unwrap_or(u32::MAX - 1) + 1;
            for (step, held) in one.at_step.iter_mut().enumerate().filter(|(step, _)| is_present(series.values[*step]))
            {
                // Prometheus looks no further where the other side is empty.
                if *held != 0 && many.iter().any(|many| is_present(many.values[step])) {
                    return Err(self.many_to_many(&one.members[*held as usize - 1], &series));
                }
                *held = number;
            }
            one.members.push(series);
        }
        Ok(ones)
    }

    fn many_to_many(&self, first: &Series, second: &Series) -> QueryError {
        let side = if self.one_is_left() { "left" } else { "right" };
        let group = signature(&first.labels, self.matching);
        QueryError::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
            first.labels, second.labels
        ))
    }

    fn join_series(&self, many: &Series, one: &One, taken: &mut [bool], joined: &mut Joined) -> Result<(), QueryError> {
        for (number, member) in one.members.iter().enumerate() {
            let meets = |step: &usize| one.at_step[*step] as usize == number + 1 && is_present(many.values[*step]);
            let mut place = None;
            for step in (0..self.grid.count).filter(meets) {
                let value = self.apply(many.values[step], member.values[step]);
                if !is_present(value) {
                    continue;
                }
                let place = *place.get_or_insert_with(|| joined.place(self.labels(many, member), self, many));
                let held = &mut joined.series[place].values[step];
                if self.one_to_one() && taken[step] {
                    return Err(QueryError::execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                if is_present(*held) {
                    return Err(QueryError::execution(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    ));
                }
                *held = value;
                taken[step] = true;
            }
        }
        Ok(())
    }

    fn apply(&self, many: f64, one: f64) -> f64 {
        if self.one_is_left() { self.operator.apply(one, many) } else { self.operator.apply(many, one) }
    }

    const fn one_to_one(&self) -> bool {
        matches!(self.matching.card, Card::OneToOne)
    }

    /// The labels of a result: those that matched, or all of the many side and those it takes from the one.
    fn labels(&self, many: &Series, one: &Series) -> Labels {
        let mut labels = many.labels.clone();
        if matches!(self.operator.op, BinaryOp::Calculate(_)) {
            drop_name(&mut labels);
        }
        match &self.matching.card {
            Card::OneToOne => match &self.matching.on {
                Grouping::By(names) => labels.retain(|name| names.iter().any(|wanted| wanted == name)),
                Grouping::Without(names) => labels.retain(|name| !names.iter().any(|unwanted| unwanted == name)),
            },
            Card::ManyToOne(include) | Card::OneToMany(include) => {
                include.iter().for_each(|name| labels.set(name.as_str(), one.labels.get(name)));
            }
        }
        labels
    }
}

impl Joined {
    fn place(&mut self, labels: Labels, join: &Join<'_>, many: &Series) -> usize {
        let drops_name = many.drops_name || join.operator.drops_name();
        *self.places.entry(labels).or_insert_with_key(|labels| {
            self.series.push(Series::absent(labels.clone(), drops_name, join.grid));
            self.series.len() - 1
        })
    }
}
