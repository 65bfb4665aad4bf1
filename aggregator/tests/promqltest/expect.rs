//! What an evaluation must answer, beside what it does.

use aggregator::query::Moments;
use aggregator::query::Value;
use common::metric::Labels;
use common::time::Timestamp;

use crate::door::Reply;
use crate::script::Evaluation;
use crate::script::Expect;
use crate::series::Item;
use crate::series::items;
use crate::series::metric;
use crate::series::number;

/// Says how a reply differs from what is expected.
pub(crate) fn differences(evaluation: &Evaluation, reply: &Reply) -> Result<(), String> {
    for (expect, none, said) in
        [(Expect::Warn, Expect::NoWarn, &reply.warnings), (Expect::Info, Expect::NoInfo, &reply.infos)]
    {
        let said: Vec<_> = said.iter().map(|text| without_place(text)).collect();
        if let Some(missing) = evaluation.said(expect).position(|words| !said.iter().any(|text| words.is(text))) {
            return Err(format!("{expect:?} {missing} is not said; this is: {said:?}"));
        }
        let expected = |text: &str| evaluation.said(expect).any(|words| words.is(text));
        let counts = evaluation.expects(none) || evaluation.expects(expect);
        if let Some(text) = said.into_iter().find(|text| counts && !expected(text)) {
            return Err(format!("says {text:?}"));
        }
    }
    answers(evaluation, &reply.value)
}

/// What is said, without where in the query: ` (1:6)`. Upstream's runner looks at no place either.
fn without_place(text: &str) -> &str {
    let place = |behind: &str| !behind.is_empty() && behind.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    text.strip_suffix(')')
        .and_then(|text| text.rsplit_once(" ("))
        .filter(|(_, behind)| place(behind))
        .map_or(text, |(text, _)| text)
}

/// Says how an answer differs from what is expected.
pub(crate) fn answers(evaluation: &Evaluation, answer: &Value) -> Result<(), String> {
    match (answer, evaluation.moments) {
        (Value::Scalar(value), _) => {
            let expected = number(evaluation.expected.first().ok_or("expected nothing, got a scalar")?);
            if close(*value, expected) { Ok(()) } else { Err(format!("{value} where {expected} is expected")) }
        }
        (Value::String(text), _) => Err(format!("answers the text {text}")),
        (Value::Vector(samples), _) => {
            let expected = evaluation.expected.iter().map(|line| metric(line));
            let expected = expected.map(|(labels, value)| (labels, vec![items(value)[0]])).collect();
            let got = samples.iter().map(|(labels, _, value)| (labels.clone(), vec![Item::Value(*value)])).collect();
            compare(evaluation, expected, got)
        }
        (Value::Matrix(series), moments) => {
            let expected = evaluation.expected.iter().map(|line| metric(line));
            let expected = expected.map(|(labels, values)| (labels, trimmed(items(values)))).collect();
            let got = series.iter().map(|(labels, samples)| (labels.clone(), on_grid(samples, moments))).collect();
            compare(evaluation, expected, got)
        }
    }
}

/// Equal, or nearly.
fn close(left: f64, right: f64) -> bool {
    let nearly = (left - right).abs() <= 1e-6 * (left.abs() + right.abs()).min(f64::MAX);
    left == right || (left.is_nan() && right.is_nan()) || (left.is_finite() && right.is_finite() && nearly)
}

type Series = (Labels, Vec<Item>);
type Answer = Vec<Series>;

fn compare(evaluation: &Evaluation, mut expected: Answer, mut got: Answer) -> Result<(), String> {
    expected.retain(|(_, items)| !items.is_empty());
    if !evaluation.expects(Expect::Ordered) {
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        got.sort_by(|left, right| left.0.cmp(&right.0));
    }
    let same_series = |(left, right): (&Series, &Series)| {
        left.0 == right.0
            && left.1.len() == right.1.len()
            && left.1.iter().zip(&right.1).all(|(left, right)| same(*left, *right))
    };
    if expected.len() == got.len() && expected.iter().zip(&got).all(same_series) {
        return Ok(());
    }
    Err(format!("got      {}\n    expected {}", shown(&got), shown(&expected)))
}

fn same(left: Item, right: Item) -> bool {
    match (left, right) {
        (Item::Value(left), Item::Value(right)) => close(left, right),
        (left, right) => left == right,
    }
}

fn shown(answer: &Answer) -> String {
    let series = answer.iter().map(|(labels, items)| {
        let items = items.iter().map(|item| match item {
            Item::None => "_".to_owned(),
            Item::Stale => "stale".to_owned(),
            Item::Histogram => "{{…}}".to_owned(),
            Item::Value(value) => value.to_string(),
        });
        format!("{labels} {}", items.collect::<Vec<_>>().join(" "))
    });
    series.collect::<Vec<_>>().join("; ")
}

/// Samples at the steps of the evaluation; of an instant one as they come.
fn on_grid(samples: &[(Timestamp, f64)], moments: Moments) -> Vec<Item> {
    let Moments::Range { start, end, step } = moments else {
        return samples.iter().map(|(_, value)| Item::Value(*value)).collect();
    };
    let steps = std::iter::successors(Some(start), |at| Some(at.after(step))).take_while(|at| *at <= end);
    let item = |at: Timestamp| {
        samples.iter().find(|(stamp, _)| *stamp == at).map_or(Item::None, |(_, value)| Item::Value(*value))
    };
    trimmed(steps.map(item).collect())
}

fn trimmed(mut items: Vec<Item>) -> Vec<Item> {
    while items.last() == Some(&Item::None) {
        items.pop();
    }
    items
}

/// Says how two answers differ by more than a share of 1e-9.
pub(crate) fn nearly(ours: &Value, theirs: &Value) -> Result<(), String> {
    let (left, right) = (flat(ours), flat(theirs));
    let near = |left: f64, right: f64| {
        left == right || (left.is_nan() && right.is_nan()) || (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
    };
    let same = left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(left, right)| (&left.0, left.1) == (&right.0, right.1) && near(left.2, right.2));
    let differ = |(left, right): &(&Flat, &Flat)| (&left.0, left.1) != (&right.0, right.1) || !near(left.2, right.2);
    let first = left.iter().zip(&right).find(differ);
    let (count, others) = (left.len(), right.len());
    if same { Ok(()) } else { Err(format!("{count} samples where they have {others}; first {first:?}")) }
}

type Flat = (String, Timestamp, f64);

fn flat(value: &Value) -> Vec<Flat> {
    let mut samples: Vec<_> = match value {
        Value::Vector(samples) => samples.iter().map(|(labels, at, value)| (labels.to_string(), *at, *value)).collect(),
        Value::Matrix(series) => {
            let of = |(labels, samples): &(Labels, Vec<(Timestamp, f64)>)| {
                samples.iter().map(|(at, value)| (labels.to_string(), *at, *value)).collect::<Vec<_>>()
            };
            series.iter().flat_map(of).collect()
        }
        Value::Scalar(value) => vec![(String::new(), Timestamp::default(), *value)],
        Value::String(text) => vec![(text.clone(), Timestamp::default(), 0.0)],
    };
    samples.sort_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
    samples
}
