//! How many series memory has room for: of one host, of one metric, and in all. What is over is refused, counted and named.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many series there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all: about a kilobyte each.
    pub series_max: u64,
    /// Of one host, or of one token to write with.
    pub series_per_host_max: u64,
    /// Of one metric.
    pub series_per_metric_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series_max: 10_000_000, series_per_host_max: 1_000_000, series_per_metric_max: 2_000_000 }
    }
}

/// Which of them was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// In all.
    Series,
    /// Of one host.
    PerHost,
    /// Of one metric.
    PerMetric,
}

impl fmt::Display for Limit {
    /// As the configuration calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Series => "series_max",
            Self::PerHost => "series_per_host_max",
            Self::PerMetric => "series_per_metric_max",
        })
    }
}

/// Samples for whose series there was no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How many.
    pub samples: u64,
    /// One of their series.
    pub example: String,
}

/// By which limit they were refused.
pub type Refusals = BTreeMap<Limit, Refusal>;

/// Adds refused samples of a series. Answers whether they are the first of their limit.
pub(super) fn refuse(refusals: &mut Refusals, limit: Limit, samples: u64, example: impl FnOnce() -> String) -> bool {
    match refusals.get_mut(&limit) {
        Some(refusal) => {
            refusal.samples += samples;
            false
        }
        None => refusals.insert(limit, Refusal { samples, example: example() }).is_none(),
    }
}

/// How many series there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A series that is counted for as long as this is there.
#[derive(Debug)]
pub(super) struct Seat([Count; 2]);

impl Seat {
    pub(super) fn take(all: &Count, of_metric: &Count) -> Self {
        let counts = [all.clone(), of_metric.clone()];
        for Count(count) in &counts {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for Count(count) in &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
