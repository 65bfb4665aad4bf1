//! How far the log has been read since the start. What lies in the rest of it is not known yet: nobody is told that there is
//! nothing.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use common::time::TimeRange;
use common::time::Timestamp;
use tokio::sync::watch;

use crate::store::ReadError;
use crate::store::select::SelectError;

/// How far the log has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Which series there are is being read: nothing can be answered.
    Series,
    /// Batches are: what came before this can be answered.
    Batches(Timestamp),
    /// All of it has been.
    Done,
    /// It could not be read.
    Failed,
}

/// Who knows.
#[derive(Debug)]
pub(super) struct Progress {
    reading: watch::Sender<Reading>,
    rows: AtomicU64,
    of: AtomicU64,
    stopped: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        let reading = watch::Sender::new(Reading::Series);
        Self { reading, rows: AtomicU64::new(0), of: AtomicU64::new(0), stopped: AtomicBool::new(false) }
    }
}

impl Progress {
    pub(super) fn reading(&self) -> Reading {
        *self.reading.borrow()
    }

    pub(super) fn set(&self, reading: Reading) {
        self.reading.send_replace(reading);
    }

    /// Rows that have been read, and of how many.
    pub(super) fn rows(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed))
    }

    /// Says how many there are.
    pub(super) fn expect(&self, rows: u64) {
        self.of.store(rows, Ordering::Relaxed);
    }

    /// Notes that one more has been read.
    pub(super) fn note(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses questions about what is not known yet.
    pub(super) fn answers(&self, range: TimeRange) -> Result<(), SelectError> {
        let knows = match self.reading() {
            Reading::Series | Reading::Failed => false,
            Reading::Batches(unknown) => range.through < unknown,
            Reading::Done => true,
        };
        let (read, of) = self.rows();
        if knows { Ok(()) } else { Err(SelectError::Unread { read, of }) }
    }

    /// Makes whoever reads stop.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it is to go on.
    pub(super) fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Waits until all has been read.
    pub(super) async fn done(&self) -> Result<(), ReadError> {
        let mut reading = self.reading.subscribe();
        let ended = reading.wait_for(|reading| matches!(reading, Reading::Done | Reading::Failed)).await;
        if ended.is_ok_and(|reading| *reading == Reading::Done) { Ok(()) } else { Err(ReadError::Closed) }
    }
}
