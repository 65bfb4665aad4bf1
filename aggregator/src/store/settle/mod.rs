//! What the head has becomes block files: finished quarters of an hour are sealed, finished hours and days merged, what has
//! expired removed.
//!
//! A thread of its own does it, in steps that can end anywhere: a file counts from the commit that records it.

pub(super) mod delete;
mod fold;
mod merge;
pub(super) mod retain;
mod seal;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::batch::HostId;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Transaction;
use tokio::sync::mpsc;

use crate::store::Shared;
use crate::store::block::QUARTER;
use crate::store::block::Tier;
use crate::store::block::file::FileError;
use crate::store::catalog;
use crate::store::catalog::Sealed;
use crate::store::ledger::Ledger;
use crate::store::memory;
use crate::store::queue::Change;
use crate::store::queue::Changes;
use crate::store::settle::delete::Waiting;

/// How long after its end a quarter of an hour is sealed: what agents send in time is there, and rules have looked at it.
const SEAL_AFTER: Duration = Duration::from_secs(300);

/// How long after a failure the next attempt is made.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Who settles.
pub(super) struct Settler {
    shared: Arc<Shared>,
    changes: Changes,
    /// How far the block files of each host go.
    sealed: HashMap<HostId, Sealed>,
    /// Up to where was sealed since the start.
    cut: Timestamp,
    /// How many samples had come late when they were.
    late: u64,
    next_block: i64,
    /// The last attempt to seal, whatever came of it.
    seal: i64,
    /// When what was merged since the start was last, by where it ends.
    merged: HashMap<(Tier, Timestamp), Timestamp>,
    failed_at: Option<Timestamp>,
}

/// Why a step ended early. What it had done is done; the rest is done by a later one.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
}

/// Asked between any two things that reach the disk.
#[derive(Debug, Default)]
pub(super) struct Stop {
    told: AtomicBool,
    /// Times that it may still be asked before it says so by itself: a test stops anywhere.
    #[cfg(test)]
    pub(super) left: std::sync::Mutex<Option<u32>>,
}

impl Stop {
    pub(super) fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    pub(super) fn go_on(&self) -> Result<(), SettleError> {
        #[cfg(test)]
        if let Some(left) = self.left.lock().unwrap().as_mut() {
            *left = left.checked_sub(1).ok_or(SettleError::Stopped)?;
        }
        if self.told.load(Ordering::Relaxed) { Err(SettleError::Stopped) } else { Ok(()) }
    }
}

/// Rows that one commit removes: a few tens of milliseconds of the writer.
const ROWS_IN_CHANGE: usize = 2_000;

impl Settler {
    pub(super) fn new(shared: &Arc<Shared>, changes: Changes) -> rusqlite::Result<Self> {
        let books = |connection: &_| Ok((catalog::sealed(connection)?, catalog::next_block(connection)?));
        let (sealed, next_block) = shared.readers.ask(books)?;
        let cut = Timestamp::from_millis(i64::MIN);
        let seal = sealed.values().map(|sealed| sealed.seal).max().unwrap_or_default();
        let shared = Arc::clone(shared);
        Ok(Self { shared, changes, sealed, cut, late: 0, next_block, seal, merged: HashMap::new(), failed_at: None })
    }

    /// Takes steps until it is told to stop, and deletes what it is told to.
    pub(super) fn run(mut self, mut deletions: mpsc::Receiver<Waiting>) {
        let every = self.shared.config.settle_every.unwrap_or(RETRY_AFTER);
        let mut freed = false;
        while self.shared.stop.go_on().is_ok() {
            let now = self.shared.clock.wall();
            if let Ok(waiting) = deletions.try_recv() {
                self.answer(waiting, now);
                continue;
            }
            let resting = self.failed_at.is_some_and(|failed| now.since(failed) < RETRY_AFTER);
            if !resting && self.step(now) {
                freed = true;
                continue;
            }
            if std::mem::take(&mut freed) {
                memory::give_back();
            }
            std::thread::park_timeout(every);
        }
    }

    /// Does one thing that is to be done. Answers whether there was one.
    pub(super) fn step(&mut self, now: Timestamp) -> bool {
        match self.try_step(now) {
            Ok(done) => {
                self.failed_at = None;
                done
            }
            Err(SettleError::Stopped) => false,
            Err(error) => {
                tracing::warn!(%error, "cannot seal or merge what is stored: it stays where it is");
                self.failed_at = Some(now);
                false
            }
        }
    }

    fn try_step(&mut self, now: Timestamp) -> Result<bool, SettleError> {
        let cut = now.before(SEAL_AFTER).align_down(QUARTER);
        let late = self.shared.counters.late();
        if self.cut != cut || self.shared.config.late_max <= late - self.late {
            let head = &Arc::clone(&self.shared).head;
            head.begin_sealing();
            self.seal(head.ids().into_iter().map(|host| (host, cut)).collect())?;
            head.end_sealing();
            (self.cut, self.late) = (cut, late);
            return Ok(true);
        }
        Ok(self.retain(now)? || self.merge(now, cut)?)
    }

    /// Makes a change to the books and waits until it is durable.
    fn change(
        &self,
        change: impl FnOnce(&Transaction<'_>, &Ledger) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), SettleError> {
        self.change_and(change, || {})
    }

    /// Removes rows of the logs, a few of them at a time; they are in the order of their places.
    fn remove_rows(
        &self,
        rows: &[i64],
        remove: fn(&Connection, &[i64]) -> rusqlite::Result<()>,
    ) -> Result<(), SettleError> {
        rows.chunks(ROWS_IN_CHANGE).try_for_each(|some| {
            let gone = some.to_vec();
            self.hand_in(Change {
                make: Box::new(move |transaction, _| remove(transaction, &gone)),
                gone: some.to_vec(),
                then: Box::new(|| {}),
            })
        })
    }

    /// The same, with what is to be done by the writer once it is.
    fn change_and(
        &self,
        make: impl FnOnce(&Transaction<'_>, &Ledger) -> rusqlite::Result<()> + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<(), SettleError> {
        self.hand_in(Change { make: Box::new(make), gone: Vec::new(), then: Box::new(then) })
    }

    fn hand_in(&self, change: Change) -> Result<(), SettleError> {
        self.shared.stop.go_on()?;
        self.changes.make(change).ok_or(SettleError::Stopped)??;
        Ok(())
    }
}

#[cfg(test)]
impl crate::store::Store {
    /// Seals, merges and removes what is to be.
    pub(crate) fn settle(&self) {
        let mut settler = Settler::new(&self.shared, self.queue.changes()).unwrap();
        while settler.step(self.shared.clock.wall()) {}
    }
}
