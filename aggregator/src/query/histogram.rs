//! Quantiles and shares of classic histograms: series with a cumulative count for each upper bound `le`. Native ones are
//! not stored (`docs/adr/0006-native-histograms.md`).

use std::collections::HashMap;

use common::metric::Labels;
use common::metric::NAME;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::place::Place;
use crate::query::plan::Arguments;
use crate::query::whole::argument;

/// Counts further apart than this share of their sum are different; nearer ones differ by rounding.
const ROUNDING: f64 = 1e-12;

/// `histogram_quantile(share, buckets)`.
pub(super) fn quantile(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let shares = evaluator.scalar(argument(arguments, 0)?, grid)?;
    let series = evaluator.vector(argument(arguments, 1)?, grid)?;
    shares
        .iter()
        .filter(|share| !(0.0..=1.0).contains(*share))
        .for_each(|share| evaluator.warn_of_share(*share, arguments.place(0)));
    let mut mended = false;
    let answer = of_histograms(evaluator, (series, arguments.place(1)), grid, |buckets, step| {
        let (value, falls) = bucket_quantile(shares[step], buckets);
        mended |= falls;
        value
    });
    if mended {
        // Prometheus has taken the metric's name away by then, and says so of "".
        evaluator.inform(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"\"",
            arguments.place(1),
        );
    }
    Ok(answer)
}

/// `histogram_fraction(lower, upper, buckets)`.
pub(super) fn fraction(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    let lower = evaluator.scalar(argument(arguments, 0)?, grid)?;
    let upper = evaluator.scalar(argument(arguments, 1)?, grid)?;
    let series = evaluator.vector(argument(arguments, 2)?, grid)?;
    Ok(of_histograms(evaluator, (series, arguments.place(2)), grid, |buckets, step| {
        bucket_fraction(lower[step], upper[step], buckets)
    }))
}

/// `histogram_count(v)` and its like: of native histograms only, so of nothing.
pub(super) fn none(evaluator: &Evaluator<'_>, arguments: &Arguments, grid: Grid) -> Result<Answer, QueryError> {
    evaluator.vector(argument(arguments, 0)?, grid)?;
    Ok(Answer::Vector(Vec::new()))
}

/// One bucket: how many observations lie at or below its upper bound.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    upper: f64,
    count: f64,
}

fn of_histograms(
    evaluator: &Evaluator<'_>,
    (series, place): (Vec<Series>, Option<Place>),
    grid: Grid,
    mut of: impl FnMut(&mut Vec<Bucket>, usize) -> f64,
) -> Answer {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Vec<(f64, Series)>)> = Vec::new();
    for series in series {
        let le = series.labels.get("le");
        let Some(upper) = bound(le) else {
            let name = series.labels.get(NAME);
            evaluator.warn(
                &format!("bucket label \"le\" is missing or has a malformed value of {le:?} for metric name {name:?}"),
                place,
            );
            continue;
        };
        let mut labels = series.labels.clone();
        labels.retain(|name| name != "le");
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            histograms.push((labels.clone(), Vec::new()));
            histograms.len() - 1
        });
        histograms[place].1.push((upper, series));
    }
    let mut buckets = Vec::new();
    let answer = histograms.into_iter().map(|(labels, members)| {
        let values = (0..grid.count).map(|step| {
            buckets.clear();
            let present = members.iter().map(|(upper, series)| Bucket { upper: *upper, count: series.values[step] });
            buckets.extend(present.filter(|bucket| is_present(bucket.count)));
            if buckets.is_empty() { ABSENT } else { of(&mut buckets, step) }
        });
        Series { values: values.collect(), labels, drops_name: true }
    });
    Answer::Vector(answer.collect())
}

fn bound(le: &str) -> Option<f64> {
    le.parse().ok()
}

/// The quantile, and whether counts fell where they may only grow.
fn bucket_quantile(share: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if share.is_nan() {
        return (f64::NAN, false);
    }
    if share < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if 1.0 < share {
        return (f64::INFINITY, false);
    }
    if !sort(buckets) {
        return (f64::NAN, false);
    }
    let falls = mend(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, falls);
    }
    let rank = share * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank);
    let value = if at == last {
        buckets[last - 1].upper
    } else if at == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let (lower, below) = if at == 0 { (0.0, 0.0) } else { (buckets[at - 1].upper, buckets[at - 1].count) };
        lower + (buckets[at].upper - lower) * ((rank - below) / (buckets[at].count - below))
    };
    (value, falls)
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !sort(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |last| last.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if upper <= lower {
        return 0.0;
    }
    (rank(upper, buckets).min(count) - rank(lower, buckets).min(count)) / count
}

/// Observations at or below a value, interpolated inside its bucket.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let at = buckets.partition_point(|bucket| bucket.upper <= value);
    let below = at.checked_sub(1).map(|before| buckets[before]);
    let Some(bucket) = buckets.get(at) else {
        return below.map_or(0.0, |last| last.count);
    };
    let (lower, below) = match below {
        Some(before) => (before.upper, before.count),
        // The first bucket begins at zero, unless it ends below.
        None => (if bucket.upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 }, 0.0),
    };
    if value <= lower {
        return below;
    }
    if lower.is_infinite() {
        return bucket.count;
    }
    below + (bucket.count - below) * (value - lower) / (bucket.upper - lower)
}

/// Sorts buckets by their bound and joins those that share one. Whether there is one without a bound, as there must be.
fn sort(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|left, right| left.upper.total_cmp(&right.upper));
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|last| last.upper == f64::INFINITY)
}

/// Lifts counts that fall to the one before. Whether any fell by more than rounding.
fn mend(buckets: &mut [Bucket]) -> bool {
    let mut falls = false;
    let mut before = buckets.first().map_or(0.0, |first| first.count);
    for bucket in buckets.iter_mut().skip(1) {
        if nearly(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            falls = true;
        } else {
            before = bucket.count;
        }
    }
    falls
}

fn nearly(left: f64, right: f64) -> bool {
    let sum = left.abs() + right.abs();
    let apart = (left - right).abs();
    if left == right {
        true
    } else if left == 0.0 || right == 0.0 || sum < f64::MIN_POSITIVE {
        apart < ROUNDING * f64::MIN_POSITIVE
    } else {
        apart / sum.min(f64::MAX) < ROUNDING
    }
}
