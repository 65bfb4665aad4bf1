//! What one query may cost, and what all of them together may hold.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::time::Clock;

use crate::query::QueryError;
use crate::query::Turn;

/// Bytes that a sample takes: its stamp and its value.
const SAMPLE_BYTES: usize = 16;

/// What the queries of an engine hold together. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Purse(Arc<AtomicUsize>);

/// What an answer holds until it is sent.
#[derive(Debug, Default)]
pub struct Held {
    all: Purse,
    samples: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

/// The purse of one query. Samples are those selected and those calculated.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    pub(super) clock: &'a Clock,
    pub(super) turn: &'a Turn,
    pub(super) began: Duration,
    pub(super) deadline: Duration,
    pub(super) samples_max: usize,
    pub(super) memory_max: usize,
    pub(super) all: &'a Purse,
    pub(super) samples: Cell<usize>,
    pub(super) unchecked: Cell<usize>,
}

impl Budget<'_> {
    /// Samples touched between two looks at the clock: a millisecond or so.
    const CHECKED_EVERY: usize = 1 << 20;

    /// Takes samples that will be held.
    pub(super) fn hold(&self, samples: usize) -> Result<(), QueryError> {
        let held = self.samples.get().saturating_add(samples);
        if self.samples_max < held {
            return Err(QueryError::execution(format!(
                "the query holds more than {} samples: narrow its labels or its range, or raise [query] samples_max",
                self.samples_max
            )));
        }
        self.samples.set(held);
        let together = self.all.0.fetch_add(samples, Ordering::Relaxed) + samples;
        if self.memory_max / SAMPLE_BYTES < together {
            return Err(QueryError::execution(format!(
                "all queries together hold more than {} bytes: ask again when there are fewer, narrow the labels or the \
                 range, or raise [query] memory_max",
                self.memory_max
            )));
        }
        self.check()
    }

    /// Says that samples were read, again perhaps.
    pub(super) fn touch(&self, samples: usize) -> Result<(), QueryError> {
        let unchecked = self.unchecked.get().saturating_add(samples);
        self.unchecked.set(unchecked);
        if unchecked < Self::CHECKED_EVERY { Ok(()) } else { self.check() }
    }

    fn check(&self) -> Result<(), QueryError> {
        self.unchecked.set(0);
        self.turn.go_on(&|| self.took(), self.deadline)
    }

    /// What an answer of so many samples holds when the query is done.
    pub(super) fn keep(&self, samples: usize) -> Held {
        self.all.0.fetch_add(samples, Ordering::Relaxed);
        Held { all: self.all.clone(), samples }
    }

    /// How long the query has run.
    pub(super) fn took(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.samples.get(), Ordering::Relaxed);
    }
}
