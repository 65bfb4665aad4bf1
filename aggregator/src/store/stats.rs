//! Figures about the store itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::commit::Committed;
use crate::store::head::Appended;

/// Figures about the store itself, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub series: u64,
    /// Bytes that their windows take there.
    pub head_bytes: u64,
    /// Samples appended since the start, replay included.
    pub samples_total: u64,
    /// Samples that took the place of one with the same stamp.
    pub replaced_total: u64,
    /// Batches stored since the start.
    pub batches_total: u64,
    /// Batches that came again.
    pub repeated_total: u64,
    /// Batches that spools dropped before they were sent.
    pub missing_total: u64,
    /// Batches that were older than what is kept when they came.
    pub too_old_total: u64,
    /// Group commits made.
    pub commits_total: u64,
    /// Group commits that failed.
    pub commits_failed_total: u64,
    /// Rows of the log that could not be read at the start.
    pub unreadable_total: u64,
    /// Bytes of all block files.
    pub block_bytes: u64,
    /// Times that a block file, or a part of one, was not what was written.
    pub damaged_total: u64,
}

/// Those that are counted as they happen.
#[derive(Debug, Default)]
pub(super) struct Counters {
    samples: AtomicU64,
    replaced: AtomicU64,
    late: AtomicU64,
    batches: AtomicU64,
    repeated: AtomicU64,
    missing: AtomicU64,
    too_old: AtomicU64,
    commits: AtomicU64,
    commits_failed: AtomicU64,
    unreadable: AtomicU64,
}

impl Counters {
    pub(super) fn append(&self, appended: Appended) {
        add(&self.samples, appended.samples);
        add(&self.replaced, appended.replaced);
        add(&self.late, appended.late);
    }

    /// Samples that came for a time that was sealed already.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, committed: &Committed) {
        let stored = committed.batches.iter().filter(|batch| batch.samples.is_some()).count();
        add(&self.batches, stored as u64);
        add(&self.repeated, (committed.batches.len() - stored) as u64);
        add(&self.missing, committed.batches.iter().map(|batch| batch.missing).sum());
        add(&self.too_old, committed.too_old);
    }

    pub(super) fn commit(&self, made: bool) {
        add(if made { &self.commits } else { &self.commits_failed }, 1);
    }

    pub(super) fn unreadable(&self, rows: u64) {
        add(&self.unreadable, rows);
    }

    /// All figures, with those of the head and of the block files.
    pub(super) fn stats(&self, (series, head_bytes): (u64, u64), (block_bytes, damaged_total): (u64, u64)) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            series,
            head_bytes,
            samples_total: read(&self.samples),
            replaced_total: read(&self.replaced),
            batches_total: read(&self.batches),
            repeated_total: read(&self.repeated),
            missing_total: read(&self.missing),
            too_old_total: read(&self.too_old),
            commits_total: read(&self.commits),
            commits_failed_total: read(&self.commits_failed),
            unreadable_total: read(&self.unreadable),
            block_bytes,
            damaged_total,
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
