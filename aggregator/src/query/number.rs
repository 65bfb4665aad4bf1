//! Sums, means and quantiles as Prometheus computes them, to the last bit.

use common::time::Timestamp;

/// A sum that keeps what rounding lost (Kahan, with Neumaier's improvement).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    /// Of one value.
    pub(super) const fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    /// Adds what another sum came to.
    pub(super) fn add_sum(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(super) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }

    /// The mean of `count` values with this sum.
    pub(super) fn over(self, count: f64) -> f64 {
        self.sum / count + self.lost / count
    }

    fn scaled(self, factor: f64) -> Self {
        Self { sum: self.sum * factor, lost: self.lost * factor }
    }
}

/// A mean: the sum by the count, or, once the sum would overflow, a mean that moves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: Sum,
    count: f64,
    moves: bool,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.add_many(value, 1.0);
    }

    /// Takes in `count` values by their sum.
    pub(super) fn add_many(&mut self, sum: f64, count: f64) {
        let before = self.count;
        self.count += count;
        if !self.moves {
            let mut grown = self.sum;
            grown.add(sum);
            if !grown.sum.is_infinite() || before == 0.0 {
                self.sum = grown;
                return;
            }
            self.moves = true;
            self.sum = self.sum.scaled(1.0 / before);
        }
        self.sum = self.sum.scaled(before / self.count);
        self.sum.add(sum / self.count);
    }

    pub(super) fn mean(self) -> f64 {
        if self.moves { self.sum.sum + self.sum.lost } else { self.sum.over(self.count) }
    }
}

/// Variance, one value at a time (Welford).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.lost);
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - (self.mean.sum + self.mean.lost)));
    }

    pub(super) fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

/// The quantile of values in any order, interpolated between ranks. NaN counts as smallest.
pub(super) fn quantile(share: f64, values: &mut [f64]) -> f64 {
    values.sort_unstable_by(|left, right| ascending(*left, *right));
    quantile_sorted(share, values)
}

/// The same of values that are sorted.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank lies within the values")]
pub(super) fn quantile_sorted(share: f64, values: &[f64]) -> f64 {
    if values.is_empty() || share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 < share {
        return f64::INFINITY;
    }
    let rank = share * float(values.len() - 1);
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Orders values, NaN first.
pub(super) fn ascending(left: f64, right: f64) -> std::cmp::Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) const fn float(count: usize) -> f64 {
    count as f64
}

/// A stamp as a float that keeps it to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "exact for the next 285,000 years")]
pub(super) const fn float_millis(stamp: Timestamp) -> f64 {
    stamp.as_millis() as f64
}

/// The stamp that was kept so.
#[expect(clippy::cast_possible_truncation, reason = "it came from whole milliseconds")]
pub(super) const fn millis(stamp: f64) -> Timestamp {
    Timestamp::from_millis(stamp as i64)
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact for the next 285,000 years")]
pub(super) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

/// A value as Go's shortest form prints it, and so as a label of `count_values`.
pub(super) fn shown(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}
