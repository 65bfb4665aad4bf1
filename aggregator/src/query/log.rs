//! What was asked: counted, and the slow queries kept and told in the program's log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::time::Timestamp;

use crate::query::Moments;
use crate::query::QueryError;
use crate::query::Stats;

/// Slow queries that are kept: two screens.
const KEPT_MAX: usize = 100;

/// Bytes of a query's text that are kept: enough to know it again.
const TEXT_MAX: usize = 2_048;

/// The log of an engine. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queries: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
    slow: Mutex<VecDeque<Asked>>,
}

/// One query that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// When it was done.
    pub at: Timestamp,
    /// Its text, or the beginning of a long one.
    pub query: String,
    /// What moments it was asked about.
    pub moments: Moments,
    /// What it took.
    pub stats: Stats,
    /// Why it was not answered, if it was not.
    pub error: Option<QueryError>,
}

/// How much was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// Queries answered or refused.
    pub queries: u64,
    /// Those that were not answered.
    pub failed: u64,
    /// How long all of them ran.
    pub took: Duration,
}

impl Log {
    /// Notes a query. One that took at least `slow` is kept, and told.
    pub(super) fn note(&self, mut asked: Asked, slow: Duration) {
        let Inner { queries, failed, nanos, slow: kept } = &*self.0;
        let took = asked.stats.took;
        queries.fetch_add(1, Ordering::Relaxed);
        failed.fetch_add(u64::from(asked.error.is_some()), Ordering::Relaxed);
        nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if took < slow {
            return;
        }
        let end = (0..=TEXT_MAX.min(asked.query.len())).rev().find(|end| asked.query.is_char_boundary(*end));
        asked.query.truncate(end.unwrap_or(0));
        let (series, samples) = (asked.stats.series_selected(), asked.stats.samples_selected());
        let error = asked.error.as_ref().map(tracing::field::display);
        tracing::info!(query = asked.query, seconds = took.as_secs_f64(), series, samples, error, "slow query");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if KEPT_MAX <= kept.len() {
            kept.pop_front();
        }
        kept.push_back(asked);
    }

    /// The latest slow queries, oldest first.
    #[must_use]
    pub fn slow(&self) -> Vec<Asked> {
        self.0.slow.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How much was asked.
    #[must_use]
    pub fn asking(&self) -> Asking {
        Asking {
            queries: self.0.queries.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed)),
        }
    }
}
