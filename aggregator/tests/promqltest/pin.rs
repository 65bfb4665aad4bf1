//! A query with `@` at each selector that has none: it answers the same whenever it is asked.

use std::time::Duration;
use std::time::SystemTime;

use aggregator::query;
use common::time::Timestamp;
use promql_parser::parser::AtModifier;
use promql_parser::parser::Expr;

/// Functions that look at the moment of the evaluation, or at the stamps of samples.
const OF_THE_MOMENT: &[&str] = &[
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

/// Pins a query to a moment, unless it looks at the moment by itself.
pub(crate) fn pinned(query: &str, at: Timestamp) -> Option<String> {
    let mut ast = promql_parser::parser::parse(&query::format(query).ok()?).ok()?;
    let at = AtModifier::At(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap()));
    pin(&mut ast, &at).then(|| ast.to_string())
}

/// The moments at which a pinned query is asked beside its own.
pub(crate) fn moments(at: Timestamp) -> Vec<Timestamp> {
    let millis = at.as_millis();
    let moments =
        if millis == 0 { vec![-1_000, 1_000] } else { vec![-10 * millis, 0, millis / 5, millis, 10 * millis] };
    moments.into_iter().map(Timestamp::from_millis).collect()
}

fn pin(ast: &mut Expr, at: &AtModifier) -> bool {
    match ast {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => true,
        Expr::VectorSelector(selector) => {
            selector.at.get_or_insert_with(|| at.clone());
            true
        }
        Expr::MatrixSelector(matrix) => {
            matrix.vs.at.get_or_insert_with(|| at.clone());
            true
        }
        Expr::Subquery(subquery) => {
            // What stands inside of a subquery that is pinned moves with it.
            let unpinned = subquery.at.is_none();
            subquery.at.get_or_insert_with(|| at.clone());
            !unpinned || !mentions_the_moment(&subquery.expr)
        }
        Expr::Aggregate(aggregate) => {
            let parameter = aggregate.param.as_mut().is_none_or(|parameter| pin(parameter, at));
            pin(&mut aggregate.expr, at) && parameter
        }
        Expr::Unary(unary) => pin(&mut unary.expr, at),
        Expr::Binary(binary) => pin(&mut binary.lhs, at) & pin(&mut binary.rhs, at),
        Expr::Paren(paren) => pin(&mut paren.expr, at),
        Expr::Call(call) => {
            !OF_THE_MOMENT.contains(&call.func.name) && call.args.args.iter_mut().all(|argument| pin(argument, at))
        }
        Expr::Extension(_) => false,
    }
}

fn mentions_the_moment(ast: &Expr) -> bool {
    OF_THE_MOMENT.iter().any(|name| ast.to_string().contains(&format!("{name}(")))
}
