//! A parsed query, as the evaluator walks it: functions resolved, durations in milliseconds, matchers compiled.

use std::fmt;
use std::ops::Deref;

use crate::query::function::Function;
use crate::query::place::Place;
use crate::store::select::Field;
use crate::store::select::Matcher;

/// A query that was parsed and checked. Parsed once, evaluated as often as needed.
#[derive(Clone, Debug)]
pub struct Expr {
    pub(super) text: String,
    pub(super) root: Node,
}

impl Expr {
    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its matchers, if the query is an instant vector selector and nothing else.
    #[must_use]
    pub fn matchers(&self) -> Option<&[Matcher]> {
        if let Node::Select(selector) = &self.root { Some(&selector.matchers) } else { None }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One step of the calculation.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Number(f64),
    Text(String),
    Select(Selector),
    Range(Box<Range>),
    Call(Call),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Negate(Box<Self>),
}

/// An instant vector selector.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) shift: Shift,
}

/// A range vector: a selector or a subquery, and how far back it looks.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) of: Ranged,
    pub(super) range_ms: i64,
    pub(super) shift: Shift,
}

/// What a range vector is made of.
#[derive(Clone, Debug)]
pub(super) enum Ranged {
    Selector(Vec<Matcher>),
    Subquery { node: Node, step_ms: Option<i64> },
}

/// `@` and `offset`: at which moment a selector looks when the query stands at another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shift {
    pub(super) at: Option<At>,
    pub(super) offset_ms: i64,
}

/// How the first selector of a node is shifted.
pub(super) fn shift_of(node: &Node) -> Shift {
    fn first(node: &Node) -> Option<Shift> {
        match node {
            Node::Number(_) | Node::Text(_) => None,
            Node::Select(selector) => Some(selector.shift),
            Node::Range(range) => match &range.of {
                Ranged::Selector(_) => Some(range.shift),
                Ranged::Subquery { node, .. } => first(node),
            },
            Node::Call(call) => call.arguments.iter().find_map(first),
            Node::Aggregate(aggregate) => first(&aggregate.of),
            Node::Binary(binary) => first(&binary.left).or_else(|| first(&binary.right)),
            Node::Negate(of) => first(of),
        }
    }
    first(node).unwrap_or_default()
}

/// How far before a step a node looks, and how far behind it: from an instant so far, and so far before a range. Nothing
/// where that does not move with the step.
pub(super) fn reach(node: &Node, (lookback_ms, before_ms): (i64, i64)) -> Option<(i64, i64)> {
    let shifted = |shift: Shift, (back, ahead): (i64, i64)| {
        let offset = shift.offset_ms;
        shift.at.is_none().then(|| (back.saturating_add(offset), ahead.saturating_sub(offset)))
    };
    let further = |nodes: Vec<&Node>| {
        nodes.into_iter().try_fold((0, 0), |(back, ahead): (i64, i64), node| {
            let (of_back, of_ahead) = reach(node, (lookback_ms, before_ms))?;
            Some((back.max(of_back), ahead.max(of_ahead)))
        })
    };
    match node {
        Node::Number(_) | Node::Text(_) => Some((0, 0)),
        Node::Select(selector) => shifted(selector.shift, (lookback_ms, 0)),
        Node::Range(range) => {
            let (back, ahead) = match &range.of {
                Ranged::Selector(_) => (before_ms, 0),
                Ranged::Subquery { node, .. } => reach(node, (lookback_ms, before_ms))?,
            };
            shifted(range.shift, (back.saturating_add(range.range_ms), ahead))
        }
        // It selects by itself.
        Node::Call(call) if call.function.name == "info" => None,
        Node::Call(call) => further(call.arguments.iter().collect()),
        Node::Aggregate(aggregate) => further(aggregate.parameter.iter().chain([&aggregate.of]).collect()),
        Node::Binary(binary) => further(vec![&binary.left, &binary.right]),
        Node::Negate(of) => reach(of, (lookback_ms, before_ms)),
    }
}

/// The moment of an `@`.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Start,
    End,
    Millis(i64),
}

/// A function and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) arguments: Arguments,
}

/// What a function is called with, and where each of it stands in the query's text.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) nodes: Vec<Node>,
    pub(super) places: Vec<Place>,
}

impl Arguments {
    /// Where one of them stands, if that is known.
    pub(super) fn place(&self, at: usize) -> Option<Place> {
        self.places.get(at).copied()
    }
}

impl Deref for Arguments {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

/// Which labels count: those named, or all but those named.
#[derive(Clone, Debug)]
pub(super) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

/// An aggregation over series.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) op: AggregateOp,
    pub(super) of: Node,
    pub(super) parameter: Option<Node>,
    /// Where the parameter stands in the query's text.
    pub(super) place: Option<Place>,
    pub(super) grouping: Grouping,
}

/// How values of a group become one, or which of them stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    CountValues,
    Topk,
    Bottomk,
    Limitk,
    LimitRatio,
}

/// Two sides and what joins them.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    pub(super) op: BinaryOp,
    pub(super) left: Node,
    pub(super) right: Node,
    pub(super) returns_bool: bool,
    pub(super) matching: Matching,
}

/// What joins two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Calculate(Calculation),
    Compare(Comparison),
    And,
    Or,
    Unless,
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calculation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

/// Comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which series of the two sides belong together.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) on: Grouping,
    pub(super) card: Card,
}

/// How many series of each side may share a match group, and the labels that the many take from the one.
#[derive(Clone, Debug)]
pub(super) enum Card {
    OneToOne,
    ManyToOne(Vec<String>),
    OneToMany(Vec<String>),
}

/// The fields of an instant selector: the value at the window's end.
pub(super) const INSTANT: &[Field] = &[Field::Last];
