//! Over random samples off any grid: functions against their definitions, and ranges against their instants.

use std::collections::BTreeMap;
use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;
use proptest::prelude::*;

use crate::query::Engine;
use crate::query::Value;
use crate::query::source::Memory;
use crate::query::tests::engine;
use crate::query::tests::labels;

/// One sample, or a staleness mark: milliseconds since the one before, and a value.
type Steps = Vec<(u16, Option<i16>)>;

const STEP: Duration = Duration::from_millis(7_300);
const END: i64 = 200_000;

fn steps() -> impl Strategy<Value = Steps> {
    let value = prop_oneof![9 => (-3_i16..50).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((1_u16..9_000, value), 1..60)
}

fn samples(steps: &Steps) -> Vec<(i64, Option<f64>)> {
    let mut stamp = 0;
    let sample = |(gap, value): &(u16, Option<i16>)| {
        stamp += i64::from(*gap);
        (stamp, value.map(f64::from))
    };
    steps.iter().map(sample).collect()
}

fn add(memory: &Memory, labels: &Labels, samples: &[(i64, Option<f64>)]) {
    for (stamp, value) in samples {
        let stamp = Timestamp::from_millis(*stamp);
        match value {
            Some(value) => memory.append_sample(labels, stamp, *value),
            None => memory.mark_stale(labels, stamp),
        }
    }
}

/// What a function is by definition, of the samples in (after, through].
type Definition = fn(&[(f64, f64)], (f64, f64)) -> Option<f64>;

const DEFINITIONS: &[(&str, Definition)] = &[
    ("sum_over_time", |samples, _| Some(samples.iter().map(|(_, value)| value).sum())),
    ("count_over_time", |samples, _| Some(samples.iter().map(|_| 1.0).sum())),
    ("avg_over_time", |samples, _| {
        let count: f64 = samples.iter().map(|_| 1.0).sum();
        Some(samples.iter().map(|(_, value)| value).sum::<f64>() / count)
    }),
    ("min_over_time", |samples, _| samples.iter().map(|(_, value)| *value).reduce(f64::min)),
    ("max_over_time", |samples, _| samples.iter().map(|(_, value)| *value).reduce(f64::max)),
    ("last_over_time", |samples, _| samples.last().map(|(_, value)| *value)),
    ("present_over_time", |_, _| Some(1.0)),
    ("changes", |samples, _| Some(samples.windows(2).map(|pair| f64::from(u8::from(pair[0].1 != pair[1].1))).sum())),
    ("resets", |samples, _| Some(samples.windows(2).map(|pair| f64::from(u8::from(pair[1].1 < pair[0].1))).sum())),
    ("idelta", |samples, _| match samples {
        [.., before, last] => Some(last.1 - before.1),
        _ => None,
    }),
    ("irate", |samples, _| match samples {
        [.., before, last] if last.1 < before.1 => Some(last.1 / (last.0 - before.0)),
        [.., before, last] => Some((last.1 - before.1) / (last.0 - before.0)),
        _ => None,
    }),
    ("stdvar_over_time", |samples, _| {
        let count: f64 = samples.iter().map(|_| 1.0).sum();
        let mean = samples.iter().map(|(_, value)| value).sum::<f64>() / count;
        Some(samples.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>() / count)
    }),
    ("delta", |samples, range| growth(samples, range, false)),
    ("increase", |samples, range| growth(samples, range, true)),
    ("rate", |samples, range| Some(growth(samples, range, true)? / (range.1 - range.0))),
];

/// The growth between the first and the last sample, by the share of the range that they are taken to stand for.
fn growth(samples: &[(f64, f64)], (after, through): (f64, f64), counter: bool) -> Option<f64> {
    let ([first, .., last], [_, behind @ ..]) = (samples, samples) else { return None };
    let mut grown = last.1 - first.1;
    if counter {
        grown = samples
            .iter()
            .zip(behind)
            .map(|(before, next)| if next.1 < before.1 { next.1 } else { next.1 - before.1 })
            .sum();
    }
    let covered = last.0 - first.0;
    let count: f64 = behind.iter().map(|_| 1.0).sum();
    let interval = covered / count;
    let mut stands_for = covered;
    let mut ahead = if first.0 - after < 1.1 * interval { first.0 - after } else { interval / 2.0 };
    if counter && grown > 0.0 && first.1 >= 0.0 {
        ahead = ahead.min(covered * first.1 / grown);
    }
    stands_for += ahead;
    stands_for += if through - last.0 < 1.1 * interval { through - last.0 } else { interval / 2.0 };
    Some(grown * stands_for / covered)
}

/// What `topk`, `bottomk` and `limitk` keep at one step: the places of the first of each group, in their order.
fn first(op: &str, count: usize, values: &[Option<f64>]) -> Vec<usize> {
    let mut ranks: Vec<usize> = (0..values.len()).filter(|at| values[*at].is_some()).collect();
    let value = |at: usize| values[at].unwrap();
    let order = |left: &usize, right: &usize| {
        let (left, right) = (value(*left), value(*right));
        let by_value = match op {
            "topk" => right.total_cmp(&left),
            "bottomk" => left.total_cmp(&right),
            _ => std::cmp::Ordering::Equal,
        };
        left.is_nan().cmp(&right.is_nan()).then(if left.is_nan() { std::cmp::Ordering::Equal } else { by_value })
    };
    ranks.sort_by(order);
    ranks.truncate(count);
    ranks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_first_of_a_group_are_the_first_when_all_are_sorted(
        values in prop::collection::vec(prop::collection::vec(prop_oneof![8 => (0..9_i32).prop_map(|value| Some(f64::from(value))), 1 => Just(Some(f64::NAN)), 1 => Just(None)], 3), 1..60),
        count in 0..12_usize,
        op in prop::sample::select(vec!["topk", "bottomk", "limitk"]),
    ) {
        let memory = Memory::default();
        let series = |at: usize| labels("metric", &[("at", &format!("{at:02}"))]);
        for (at, steps) in values.iter().enumerate() {
            for (step, value) in (0..).zip(steps) {
                let stamp = Timestamp::from_seconds(1_000 * step + 10);
                match value {
                    Some(value) => memory.append_sample(&series(at), stamp, *value),
                    None => memory.mark_stale(&series(at), stamp),
                }
            }
        }
        let engine = engine(memory);
        let query = format!("{op}({count}, metric)");
        let step = |step: usize| values.iter().map(|steps| steps[step]).collect::<Vec<_>>();
        let instant = engine.instant(&query, Timestamp::from_seconds(10)).unwrap();
        let Value::Vector(picked) = instant else { panic!("{instant:?}") };
        let expect: Vec<Labels> = first(op, count, &step(0)).into_iter().map(series).collect();
        prop_assert_eq!(picked.into_iter().map(|(labels, ..)| labels).collect::<Vec<_>>(), expect);
        let (start, end) = (Timestamp::from_seconds(10), Timestamp::from_seconds(2_010));
        let range = engine.range(&query, start, end, Duration::from_secs(1_000)).unwrap();
        let Value::Matrix(picked) = range else { panic!("{range:?}") };
        let picked: Vec<(Labels, i64)> = picked
            .into_iter()
            .flat_map(|(labels, samples)| samples.into_iter().map(move |(at, _)| (labels.clone(), at.as_millis() / 1_000_000)))
            .collect();
        let mut expect: Vec<(Labels, i64)> = (0..)
            .zip(0..3)
            .flat_map(|(number, at)| first(op, count, &step(at)).into_iter().map(move |at| (series(at), number)))
            .collect();
        expect.sort();
        prop_assert_eq!(picked, expect);
    }

    #[test]
    fn functions_are_what_they_are_defined_to_be(steps in steps(), range_ms in 500_i64..60_000, later in any::<bool>(), shift_ms in 1_i64..20_000) {
        let samples = samples(&steps);
        let memory = Memory::default();
        add(&memory, &labels("metric", &[]), &samples);
        let engine = engine(memory);
        let offset_ms = if later { -shift_ms } else { shift_ms };
        for (function, definition) in DEFINITIONS {
            let query = format!("{function}(metric[{range_ms}ms] offset {offset_ms}ms)");
            let answer = by_stamp(engine.range(&query, Timestamp::default(), Timestamp::from_millis(END), STEP).unwrap());
            for stamp in grid() {
                let (after, through) = (stamp - offset_ms - range_ms, stamp - offset_ms);
                let inside: Vec<_> = samples
                    .iter()
                    .filter(|(at, _)| after < *at && *at <= through)
                    .filter_map(|(at, value)| Some((seconds(*at), (*value)?)))
                    .collect();
                let expect = if inside.is_empty() { None } else { definition(&inside, (seconds(after), seconds(through))) };
                let got = answer.get(&stamp).copied();
                prop_assert!(nearly(got, expect), "{} at {}: {:?} where {:?} is expected", query, stamp, got, expect);
            }
        }
    }

    #[test]
    fn an_instant_selector_gives_the_latest_sample_unless_it_is_stale(steps in steps()) {
        let samples = samples(&steps);
        let memory = Memory::default();
        add(&memory, &labels("metric", &[]), &samples);
        let answer = by_stamp(engine(memory).range("metric", Timestamp::default(), Timestamp::from_millis(1_000_000), 5 * STEP).unwrap());
        for stamp in (0..=1_000_000).step_by(36_500) {
            let latest = samples.iter().rfind(|(at, _)| *at <= stamp && stamp - 300_000 < *at);
            prop_assert_eq!(answer.get(&stamp).copied(), latest.and_then(|(_, value)| *value), "at {}", stamp);
        }
    }

    #[test]
    fn a_range_is_its_instants(left in prop::collection::vec(steps(), 3), right in prop::collection::vec(steps(), 3)) {
        let memory = Memory::default();
        for (name, series) in [("left", &left), ("right", &right)] {
            for (number, steps) in series.iter().enumerate() {
                let number = number.to_string();
                add(&memory, &labels(name, &[("n", &number), ("half", if number == "0" { "a" } else { "b" })]), &samples(steps));
            }
        }
        let engine = engine(memory);
        for query in QUERIES {
            check_instants(&engine, query)?;
        }
    }
}

/// Queries that walk each part of the evaluator.
const QUERIES: &[&str] = &[
    "left + on (n) group_left right",
    "left > right",
    "left > bool ignoring (half) right",
    "left - 3 > 10",
    "left and right",
    "left or on (half) right",
    "left unless on (n) (right > 20)",
    "left + on (half) group_left (n) sum by (half) (right)",
    "sum by (half) (left) * on (half) group_right avg by (half, n) (right)",
    "topk(2, left)",
    "bottomk by (half) (1, left)",
    "topk(scalar(right{n=\"0\"}), left)",
    "sum without (n) (left)",
    "stddev(left) + stdvar(right)",
    "quantile by (half) (0.3, left)",
    "count_values(\"v\", left)",
    "max by (half) (left) - min by (half) (left)",
    "absent(left{n=\"0\"})",
    "absent_over_time(left{n=\"1\"}[5s])",
    "scalar(left{n=\"0\"}) + vector(time())",
    "timestamp(left)",
    "clamp(left, 3, scalar(right{n=\"1\"}))",
    "label_replace(left, \"half\", \"$1$1\", \"half\", \"(.)\")",
    "label_join(left, \"both\", \"-\", \"n\", \"half\")",
    "rate(left[20s]) / rate(right[20s])",
    "max_over_time(rate(left[15s])[40s:7s])",
    "sum_over_time((left + right)[30s:4s] offset 3s)",
    "predict_linear(left[30s], 60)",
    "deriv(left[30s] @ 100)",
    "left @ 77 + right offset -4s",
    "quantile_over_time(0.9, left[30s])",
    "avg_over_time(left[9s]) + changes(left[50s]) * resets(left[50s])",
    "quantile_over_time(scalar(right{n=\"2\"}) / 50, left[30s])",
    "double_exponential_smoothing(left[30s], 0.3, 0.4)",
    "-left ^ 2 % 7",
    "sort_desc(left)",
    "{__name__=~\"left|right\", n=\"0\"}",
];

fn check_instants(engine: &Engine, query: &str) -> Result<(), TestCaseError> {
    let range = engine.range(query, Timestamp::default(), Timestamp::from_millis(END), STEP);
    let mut by_stamp: BTreeMap<i64, BTreeMap<Labels, u64>> = BTreeMap::new();
    let Ok(Value::Matrix(series)) = range else {
        // Then one of its instants has no answer either.
        let fails = grid().any(|stamp| engine.instant(query, Timestamp::from_millis(stamp)).is_err());
        prop_assert!(fails, "{}: {:?}", query, range);
        return Ok(());
    };
    for (labels, samples) in series {
        for (stamp, value) in samples {
            by_stamp.entry(stamp.as_millis()).or_default().insert(labels.clone(), bits(value));
        }
    }
    for stamp in grid() {
        let Value::Vector(samples) = engine.instant(query, Timestamp::from_millis(stamp)).unwrap() else { panic!() };
        let instant: BTreeMap<_, _> = samples.into_iter().map(|(labels, _, value)| (labels, bits(value))).collect();
        prop_assert_eq!(&by_stamp.remove(&stamp).unwrap_or_default(), &instant, "{} at {}", query, stamp);
    }
    Ok(())
}

/// The bits of a value; all NaN are one.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn grid() -> impl Iterator<Item = i64> {
    (0..=END).step_by(7_300)
}

fn by_stamp(value: Value) -> BTreeMap<i64, f64> {
    let Value::Matrix(series) = value else { panic!("{value:?}") };
    series.into_iter().flat_map(|(_, samples)| samples).map(|(stamp, value)| (stamp.as_millis(), value)).collect()
}

fn nearly(left: Option<f64>, right: Option<f64>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => (left - right).abs() <= 1e-9 * (1.0 + right.abs()),
        (left, right) => left == right,
    }
}

fn seconds(millis: i64) -> f64 {
    Timestamp::from_millis(millis).as_seconds()
}
