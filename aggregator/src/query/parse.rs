//! Text to [`Expr`]: the grammar is promql-parser's, what it means is decided here.

use std::cell::Cell;
use std::panic;
use std::panic::catch_unwind;
use std::sync::Once;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use common::metric::NAME;
use promql_parser::label::{MatchOp, Matcher as AstMatcher};
use promql_parser::parser::function::{Function as AstFunction, register_extra_functions};
use promql_parser::parser::token;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, AtModifier, LabelModifier, Offset, VectorMatchCardinality};
use serde_json::Value;
use serde_json::json;

use crate::query::QueryError;
use crate::query::desugar::DURATION_MAX_MS;
use crate::query::desugar::LINE_ENDS;
use crate::query::desugar::desugar;
use crate::query::function;
use crate::query::function::How;
use crate::query::mistake::located;
use crate::query::place::Calls;
use crate::query::plan::Aggregate;
use crate::query::plan::AggregateOp;
use crate::query::plan::Arguments;
use crate::query::plan::At;
use crate::query::plan::Binary;
use crate::query::plan::BinaryOp;
use crate::query::plan::Calculation;
use crate::query::plan::Call;
use crate::query::plan::Card;
use crate::query::plan::Comparison;
use crate::query::plan::Expr;
use crate::query::plan::Grouping;
use crate::query::plan::Matching;
use crate::query::plan::Node;
use crate::query::plan::Range;
use crate::query::plan::Ranged;
use crate::query::plan::Selector;
use crate::query::plan::Shift;
use crate::store::select::Field;
use crate::store::select::Is;
use crate::store::select::Matcher;

/// Longest text of a query: a dashboard's widest list of host names, ten times over.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;

/// Most operators and brackets in a query. Each may nest, and the parser recurses.
pub const QUERY_OPERATORS_MAX: usize = 500;

/// How deep a query may nest: the evaluator recurses, and nobody reads deeper.
pub const QUERY_DEPTH_MAX: usize = 100;

/// Parses and checks a query.
///
/// # Errors
/// [`QueryError::BadData`] with what is wrong with the text.
pub fn parse(text: &str) -> Result<Expr, QueryError> {
    register_functions();
    check_size(text)?;
    let ast = parsed(text)?;
    Ok(Expr { text: text.to_owned(), root: root(&ast, text)? })
}

/// Whether a text is a query: what is wrong with it is not looked for, which takes longer than to parse it.
#[must_use]
pub fn is_query(text: &str) -> bool {
    register_functions();
    let ast = check_size(text).and_then(|()| parse_quietly(&desugar(text)?));
    ast.is_ok_and(|ast| ast.is_ok_and(|ast| root(&ast, text).is_ok()))
}

/// A query as it is written well, a line for each part of a long one. Durations that are calculated are numbers.
///
/// # Errors
/// As [`parse`].
pub fn format(text: &str) -> Result<String, QueryError> {
    Ok(checked(text)?.prettify())
}

/// A query as a tree, in the shape of Prometheus' `parse_query`.
///
/// # Errors
/// As [`parse`].
pub fn tree(text: &str) -> Result<Value, QueryError> {
    let mut tree = serde_json::to_value(checked(text)?).map_err(|error| QueryError::bad(error.to_string()))?;
    name_matchers(&mut tree);
    Ok(tree)
}

/// A metric's name is a matcher too.
fn name_matchers(tree: &mut Value) {
    match tree {
        Value::Object(node) => {
            let name = node.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
            if let (Some(name), Some(Value::Array(matchers))) = (name, node.get_mut("matchers")) {
                matchers.insert(0, json!({"name": NAME, "type": "=", "value": name}));
            }
            node.values_mut().for_each(name_matchers);
        }
        Value::Array(nodes) => nodes.iter_mut().for_each(name_matchers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A query that can be evaluated, as the parser gives it.
fn checked(text: &str) -> Result<parser::Expr, QueryError> {
    register_functions();
    check_size(text)?;
    let ast = parsed(text)?;
    root(&ast, text)?;
    Ok(ast)
}

fn parsed(text: &str) -> Result<parser::Expr, QueryError> {
    let found = parse_quietly(&desugar(text)?)?;
    found.map_err(|complaint| QueryError::BadData(located(text, &complaint, self::complaint)))
}

/// What the parser says of a text that it does not take.
pub(super) fn complaint(text: &str) -> Option<String> {
    let parsed = desugar(text).and_then(|plain| parse_quietly(&plain));
    parsed.map_or_else(|error| Some(error.to_string()), Result::err)
}

thread_local! {
    /// Whether this thread is inside of promql-parser: its panics are answered, so nobody needs to read of them.
    static IN_PARSER: Cell<bool> = const { Cell::new(false) };
}

/// The parser panics on some durations that do not fit its type (`[1e30]`).
fn parse_quietly(text: &str) -> Result<Result<parser::Expr, String>, QueryError> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IN_PARSER.get() {
                before(panic);
            }
        }));
    });
    IN_PARSER.set(true);
    let parsed = catch_unwind(|| parser::parse(text));
    IN_PARSER.set(false);
    parsed.map_err(|_panic| QueryError::bad("a duration or a number is out of range"))
}

fn register_functions() {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        let ours = function::OURS.iter().map(|name| {
            let (arguments, returns) = (vec![ValueType::Matrix], ValueType::Vector);
            AstFunction::new(name, arguments, 0, returns, false)
        });
        register_extra_functions(ours.collect())
    });
}

fn check_size(text: &str) -> Result<(), QueryError> {
    if QUERY_BYTES_MAX < text.len() {
        return Err(QueryError::bad(format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    if QUERY_OPERATORS_MAX < operators(text) {
        let message = format!("the query has more than {QUERY_OPERATORS_MAX} operators and brackets: split it");
        return Err(QueryError::bad(message));
    }
    Ok(())
}

/// Operators and brackets outside of strings, comments and matchers.
fn operators(text: &str) -> usize {
    let mut count = 0;
    let mut braces = 0_usize;
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char.is_alphanumeric() || char == '_' || char == ':' {
            word.push(char.to_ascii_lowercase());
            continue;
        }
        count += usize::from(matches!(word.as_str(), "and" | "or" | "unless" | "atan2"));
        word.clear();
        match char {
            '"' | '\'' | '`' => skip_string(&mut chars, char),
            '#' => drop(chars.by_ref().find(|char| LINE_ENDS.contains(char))),
            '{' => (count, braces) = (count + 1, braces + 1),
            '}' => braces = braces.saturating_sub(1),
            '(' | '[' | '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '=' | '!' if braces == 0 => count += 1,
            _ => {}
        }
    }
    count
}

fn skip_string(chars: &mut std::str::Chars<'_>, quote: char) {
    while let Some(char) = chars.next() {
        match char {
            '\\' if quote != '`' => drop(chars.next()),
            char if char == quote => break,
            _ => {}
        }
    }
}

/// Where the walk along the parser's tree is.
#[derive(Clone, Copy)]
struct Walk<'a> {
    depth: usize,
    calls: &'a Calls,
}

impl Walk<'_> {
    const fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

fn root(ast: &parser::Expr, text: &str) -> Result<Node, QueryError> {
    let calls = Calls::of(text);
    let root = node(ast, Walk { depth: 1, calls: &calls })?;
    if calls.fits() { Ok(root) } else { node(ast, Walk { depth: 1, calls: &Calls::unknown() }) }
}

fn node(ast: &parser::Expr, walk: Walk<'_>) -> Result<Node, QueryError> {
    if QUERY_DEPTH_MAX < walk.depth {
        return Err(QueryError::bad(format!("the query nests deeper than {QUERY_DEPTH_MAX}: split it")));
    }
    match ast {
        parser::Expr::Paren(inner) => node(&inner.expr, walk),
        parser::Expr::NumberLiteral(number) => Ok(Node::Number(number.val)),
        parser::Expr::StringLiteral(text) => Ok(Node::Text(text.val.clone())),
        parser::Expr::VectorSelector(selector) => {
            let shift = shift(selector.at.as_ref(), selector.offset.as_ref())?;
            Ok(Node::Select(Selector { matchers: matchers(selector)?, shift }))
        }
        parser::Expr::MatrixSelector(matrix) => {
            let shift = shift(matrix.vs.at.as_ref(), matrix.vs.offset.as_ref())?;
            let of = Ranged::Selector(matchers(&matrix.vs)?);
            Ok(Node::Range(Box::new(Range { of, range_ms: positive(matrix.range)?, shift })))
        }
        parser::Expr::Subquery(ast) => subquery(ast, walk),
        parser::Expr::Call(ast) => call(ast, walk),
        parser::Expr::Aggregate(ast) => aggregate(ast, walk),
        parser::Expr::Binary(ast) => binary(ast, walk),
        parser::Expr::Unary(unary) => Ok(Node::Negate(Box::new(node(&unary.expr, walk.deeper())?))),
        parser::Expr::Extension(_) => Err(QueryError::bad("extensions are not part of PromQL")),
    }
}

fn subquery(subquery: &parser::SubqueryExpr, walk: Walk<'_>) -> Result<Node, QueryError> {
    let step_ms = subquery.step.map(positive).transpose()?;
    let shift = shift(subquery.at.as_ref(), subquery.offset.as_ref())?;
    let of = Ranged::Subquery { node: node(&subquery.expr, walk.deeper())?, step_ms };
    Ok(Node::Range(Box::new(Range { of, range_ms: positive(subquery.range)?, shift })))
}

fn call(call: &parser::Call, walk: Walk<'_>) -> Result<Node, QueryError> {
    let name = call.func.name;
    let places = walk.calls.take(name);
    let function =
        function::find(name).ok_or_else(|| QueryError::bad(format!("function '{name}' is not supported")))?;
    let argument = |at: usize, argument: &parser::Expr| {
        if let (parser::Expr::VectorSelector(selector), "info", 1) = (argument, name, at) {
            // The labels that are wanted of an info metric: they may match nothing.
            return Ok(Node::Select(Selector { matchers: any_matchers(selector)?, shift: Shift::default() }));
        }
        node(argument, walk.deeper())
    };
    let nodes: Vec<Node> =
        call.args.args.iter().enumerate().map(|(at, of)| argument(at, of)).collect::<Result<_, _>>()?;
    let subquery = nodes
        .iter()
        .any(|argument| matches!(argument, Node::Range(range) if matches!(range.of, Ranged::Subquery { .. })));
    if subquery && matches!(&function.how, How::Over(over) if over.fields.contains(&Field::Peak)) {
        return Err(QueryError::bad(format!("{name} takes a selector: a subquery keeps no peaks")));
    }
    Ok(Node::Call(Call { function, arguments: Arguments { nodes, places } }))
}

fn aggregate(aggregate: &parser::AggregateExpr, walk: Walk<'_>) -> Result<Node, QueryError> {
    let op = aggregate_op(aggregate.op)?;
    let place = walk.calls.take(&aggregate.op.to_string()).first().copied();
    // As they are written, one behind the other.
    let parameter = aggregate.param.as_ref().map(|parameter| node(parameter, walk.deeper())).transpose()?;
    let of = node(&aggregate.expr, walk.deeper())?;
    let grouping = aggregate.modifier.as_ref().map_or(Grouping::By(Vec::new()), grouping);
    Ok(Node::Aggregate(Box::new(Aggregate { op, of, parameter, place, grouping })))
}

fn binary(binary: &parser::BinaryExpr, walk: Walk<'_>) -> Result<Node, QueryError> {
    let op = binary_op(binary.op)?;
    let left = node(&binary.lhs, walk.deeper())?;
    let right = node(&binary.rhs, walk.deeper())?;
    let (mut on, mut card) = (Grouping::Without(Vec::new()), Card::OneToOne);
    if let Some(modifier) = &binary.modifier {
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            return Err(QueryError::bad("modifier 'fill' is not supported"));
        }
        on = modifier.matching.as_ref().map_or(on, grouping);
        card = match &modifier.card {
            VectorMatchCardinality::ManyToOne(labels) => Card::ManyToOne(labels.labels.clone()),
            VectorMatchCardinality::OneToMany(labels) => Card::OneToMany(labels.labels.clone()),
            VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => Card::OneToOne,
        };
    }
    let matching = Matching { on, card };
    Ok(Node::Binary(Box::new(Binary { op, left, right, returns_bool: binary.return_bool(), matching })))
}

fn matchers(selector: &parser::VectorSelector) -> Result<Vec<Matcher>, QueryError> {
    let matchers = any_matchers(selector)?;
    if matchers.iter().all(|matcher| matcher.matches("")) {
        return Err(QueryError::bad("vector selector must contain at least one non-empty matcher"));
    }
    Ok(matchers)
}

fn any_matchers(selector: &parser::VectorSelector) -> Result<Vec<Matcher>, QueryError> {
    if !selector.matchers.or_matchers.is_empty() {
        return Err(QueryError::bad("'or' between label matchers is not supported"));
    }
    let name = selector.name.iter().map(|name| Ok(Matcher { name: NAME.to_owned(), is: Is::Equal(name.clone()) }));
    name.chain(selector.matchers.matchers.iter().map(matcher)).collect()
}

fn matcher(matcher: &AstMatcher) -> Result<Matcher, QueryError> {
    // Anchored by the parser; `.` matches a line's end, as in Prometheus.
    let regex = |regex: &regex::Regex| {
        regex::Regex::new(&format!("(?s){regex}")).map_err(|error| QueryError::bad(error.to_string()))
    };
    let value = matcher.value.clone();
    let is = match &matcher.op {
        MatchOp::Equal => Is::Equal(value),
        MatchOp::NotEqual => Is::NotEqual(value),
        MatchOp::Re(pattern) => Is::Match(regex(pattern)?),
        MatchOp::NotRe(pattern) => Is::NoMatch(regex(pattern)?),
    };
    Ok(Matcher { name: matcher.name.clone(), is })
}

fn shift(at: Option<&AtModifier>, offset: Option<&Offset>) -> Result<Shift, QueryError> {
    let at = match at {
        None => None,
        Some(AtModifier::Start) => Some(At::Start),
        Some(AtModifier::End) => Some(At::End),
        Some(AtModifier::At(moment)) => Some(At::Millis(match moment.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => millis(after)?,
            Err(before) => -millis(before.duration())?,
        })),
    };
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(offset)) => millis(*offset)?,
        Some(Offset::Neg(offset)) => -millis(*offset)?,
    };
    Ok(Shift { at, offset_ms })
}

fn positive(duration: Duration) -> Result<i64, QueryError> {
    match millis(duration)? {
        0 => Err(QueryError::bad("duration must be greater than 0")),
        millis => Ok(millis),
    }
}

/// Milliseconds, at most a thousand years of them, so that sums of a few never overflow.
fn millis(duration: Duration) -> Result<i64, QueryError> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|_| duration.as_secs_f64() * 1_000.0 <= DURATION_MAX_MS)
        .ok_or_else(|| QueryError::bad("duration out of range"))
}

fn grouping(modifier: &LabelModifier) -> Grouping {
    match modifier {
        LabelModifier::Include(labels) => Grouping::By(labels.labels.clone()),
        LabelModifier::Exclude(labels) => Grouping::Without(labels.labels.clone()),
    }
}

fn aggregate_op(op: token::TokenType) -> Result<AggregateOp, QueryError> {
    Ok(match op.id() {
        token::T_SUM => AggregateOp::Sum,
        token::T_AVG => AggregateOp::Avg,
        token::T_MIN => AggregateOp::Min,
        token::T_MAX => AggregateOp::Max,
        token::T_COUNT => AggregateOp::Count,
        token::T_GROUP => AggregateOp::Group,
        token::T_STDDEV => AggregateOp::Stddev,
        token::T_STDVAR => AggregateOp::Stdvar,
        token::T_QUANTILE => AggregateOp::Quantile,
        token::T_COUNT_VALUES => AggregateOp::CountValues,
        token::T_TOPK => AggregateOp::Topk,
        token::T_BOTTOMK => AggregateOp::Bottomk,
        token::T_LIMITK => AggregateOp::Limitk,
        token::T_LIMIT_RATIO => AggregateOp::LimitRatio,
        _ => return Err(QueryError::bad(format!("aggregation '{op}' is not supported"))),
    })
}

fn binary_op(op: token::TokenType) -> Result<BinaryOp, QueryError> {
    Ok(match op.id() {
        token::T_ADD => BinaryOp::Calculate(Calculation::Add),
        token::T_SUB => BinaryOp::Calculate(Calculation::Subtract),
        token::T_MUL => BinaryOp::Calculate(Calculation::Multiply),
        token::T_DIV => BinaryOp::Calculate(Calculation::Divide),
        token::T_MOD => BinaryOp::Calculate(Calculation::Modulo),
        token::T_POW => BinaryOp::Calculate(Calculation::Power),
        token::T_ATAN2 => BinaryOp::Calculate(Calculation::Atan2),
        token::T_EQLC => BinaryOp::Compare(Comparison::Equal),
        token::T_NEQ => BinaryOp::Compare(Comparison::NotEqual),
        token::T_LSS => BinaryOp::Compare(Comparison::Less),
        token::T_LTE => BinaryOp::Compare(Comparison::LessOrEqual),
        token::T_GTR => BinaryOp::Compare(Comparison::Greater),
        token::T_GTE => BinaryOp::Compare(Comparison::GreaterOrEqual),
        token::T_LAND => BinaryOp::And,
        token::T_LOR => BinaryOp::Or,
        token::T_LUNLESS => BinaryOp::Unless,
        _ => return Err(QueryError::bad(format!("operator '{op}' is not supported"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn operators_are_counted_outside_of_text() {
        let check = |text, expect| assert_eq!(operators(text), expect, "{text}");
        check("up", 0);
        check("a + b", 1);
        check("a or b OR c unless d", 3);
        check("rate(up{a=~\"x|y\", b!=\"(+)\"}[5m])", 3);
        check("\"-\\\"-\" + '(' + `\\`", 2);
        check("a # + - *\n + b", 1);
        check("orange + android", 1);
    }

    const PIECES: &[&str] = &[
        "up",
        "rate",
        "sum",
        "by",
        "without",
        "topk",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "5m",
        "1e30",
        "-1",
        "0",
        ":",
        ",",
        "+",
        "-",
        "^",
        "and",
        "unless",
        "on",
        "group_left",
        "bool",
        "==",
        "=~",
        "\"a\"",
        "\"(\"",
        "'",
        "`",
        "offset",
        "@",
        "start()",
        "end()",
        "le",
        "=",
        "!",
        "#",
        "\\",
        "\u{fc}",
        "inf",
        "nan",
        "histogram_quantile",
        "\n",
        "fill",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..20), spaced in any::<bool>()) {
            let text = pieces.join(if spaced { " " } else { "" });
            let _unused = parse(&text).is_ok();
        }
    }
}
