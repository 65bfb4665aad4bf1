//! What one query may cost, and whether somebody still waits for it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::time::Clock;

use crate::query::QueryError;

/// A flag that ends a running query. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the queries that were started with this flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The purse of one query. Samples are those selected and those calculated.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    pub(super) clock: &'a Clock,
    pub(super) cancel: &'a Cancel,
    pub(super) began: Duration,
    pub(super) deadline: Duration,
    pub(super) samples_max: usize,
    pub(super) samples: Cell<usize>,
    pub(super) unchecked: Cell<usize>,
}

impl Budget<'_> {
    /// Samples touched between two looks at the clock: a millisecond or so.
    const CHECKED_EVERY: usize = 1 << 20;

    /// Takes samples that will be held.
    pub(super) fn hold(&self, samples: usize) -> Result<(), QueryError> {
        let held = self.samples.get().saturating_add(samples);
        self.samples.set(held);
        if self.samples_max < held {
            return Err(QueryError::execution(format!(
                "the query holds more than {} samples: narrow its labels or its range, or raise [query] samples_max",
                self.samples_max
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
        if self.cancel.is_canceled() {
            return Err(QueryError::Canceled);
        }
        if self.deadline <= self.clock.monotonic().saturating_sub(self.began) {
            return Err(QueryError::Timeout { deadline: self.deadline });
        }
        Ok(())
    }
}
