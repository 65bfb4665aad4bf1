//! Quantiles and shares of classic histograms: series with a cumulative count for each upper bound `le`.

use std::collections::HashMap;

use common::metric::Labels;

use crate::query::QueryError;
use crate::query::column::ABSENT;
use crate::query::column::Answer;
use crate::query::column::Grid;
use crate::query::column::Series;
use crate::query::column::is_present;
use crate::query::eval::Evaluator;
use crate::query::plan::Node;
use crate::query::whole::argument;

/// `histogram_quantile(share, buckets)`.
pub(super) fn quantile(evaluator: &Evaluator<'_>, arguments: &[Node], grid: Grid) -> Result<Answer, QueryError> {
    let shares = evaluator.scalar(argument(arguments, 0)?, grid)?;
    let series = evaluator.vector(argument(arguments, 1)?, grid)?;
    Ok(of_histograms(series, grid, |buckets, step| bucket_quantile(shares[step], buckets)))
}

/// `histogram_fraction(lower, upper, buckets)`.
pub(super) fn fraction(evaluator: &Evaluator<'_>, arguments: &[Node], grid: Grid) -> Result<Answer, QueryError> {
    let lower = evaluator.scalar(argument(arguments, 0)?, grid)?;
    let upper = evaluator.scalar(argument(arguments, 1)?, grid)?;
    let series = evaluator.vector(argument(arguments, 2)?, grid)?;
    Ok(of_histograms(series, grid, |buckets, step| bucket_fraction(lower[step], upper[step], buckets)))
}

/// One bucket: how many observations lie at or below its upper bound.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    upper: f64,
    count: f64,
}

fn of_histograms(series: Vec<Series>, grid: Grid, of: impl Fn(&mut Vec<Bucket>, usize) -> f64) -> Answer {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Vec<(f64, Series)>)> = Vec::new();
    for series in series {
        let Some(upper) = bound(series.labels.get("le")) else { continue };
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
        Series { labels, drops_name: true, values: values.collect() }
    });
    Answer::Vector(answer.collect())
}

fn bound(le: &str) -> Option<f64> {
    le.parse().ok()
}

fn bucket_quantile(share: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 < share {
        return f64::INFINITY;
    }
    let Some(observations) = prepare(buckets).filter(|_| 2 <= buckets.len()) else {
        return f64::NAN;
    };
    let rank = share * observations;
    let last = buckets.len() - 1;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank);
    if at == last {
        return buckets[last - 1].upper;
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return buckets[0].upper;
    }
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { (buckets[at - 1].upper, buckets[at - 1].count) };
    lower + (buckets[at].upper - lower) * ((rank - below) / (buckets[at].count - below))
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    let Some(observations) = prepare(buckets) else {
        return f64::NAN;
    };
    if lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if upper <= lower {
        return 0.0;
    }
    (rank(upper, buckets) - rank(lower, buckets)) / observations
}

/// Observations at or below a value, interpolated inside its bucket.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let at = buckets.partition_point(|bucket| bucket.upper < value);
    let Some(bucket) = buckets.get(at) else {
        return buckets.last().map_or(0.0, |last| last.count);
    };
    let (lower, below) = match at.checked_sub(1).map(|before| buckets[before]) {
        Some(before) => (before.upper, before.count),
        // The first bucket begins at zero, unless it ends below.
        None => (if bucket.upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 }, 0.0),
    };
    if value <= lower {
        return below;
    }
    if bucket.upper.is_infinite() || lower.is_infinite() {
        return if value == bucket.upper { bucket.count } else { below };
    }
    below + (bucket.count - below) * ((value - lower) / (bucket.upper - lower))
}

/// Sorts buckets by their bound, joins those that share one, mends counts that fall, and gives the count of all, if
/// there is a bucket without a bound and anything in it.
fn prepare(buckets: &mut Vec<Bucket>) -> Option<f64> {
    buckets.sort_by(|left, right| left.upper.total_cmp(&right.upper));
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
    let mut most = f64::NEG_INFINITY;
    for bucket in buckets.iter_mut() {
        most = most.max(bucket.count);
        bucket.count = most;
    }
    let last = buckets.last()?;
    (last.upper == f64::INFINITY && last.count != 0.0).then_some(last.count)
}
