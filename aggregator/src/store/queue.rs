//! What waits for the writer. Bounded: whoever hands in more waits.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use common::batch::{HostId, RunId, SpoolId};
use rusqlite::Transaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::commit::Held;
use crate::store::ledger::Ledger;
use crate::store::record::Record;

/// Jobs that may wait: four seconds of 10,000 agents, about 12 MiB of batches.
pub(super) const JOBS_MAX: usize = 4_096;

/// A job takes up the room of one for each of these of its bytes, so that waiting ones are 64 MiB at most.
const JOB_BYTES: usize = 16 << 10;

/// The callers' end.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: Arc<SyncSender<Job>>,
    room: Arc<Semaphore>,
}

/// One thing to do for the writer.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) room: Room,
}

/// What a job takes up in the queue: dropping it makes room for another.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// What to do, and whom to tell.
pub(super) enum Task {
    /// Make it durable.
    Commit(Commit, oneshot::Sender<Result<Committed, CommitError>>),
    /// Say what is held, and note that it was asked for.
    Held(Question),
    /// Change what the store itself keeps books of.
    Change(Change, SyncSender<rusqlite::Result<()>>),
    /// End.
    Close,
}

impl Task {
    /// Whether somebody waits for it who does nothing else meanwhile: what keeps coming may wait for more of it.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Commit(commit, _) => !commit.records.iter().all(Record::keeps_coming),
            Self::Held(_) | Self::Change(..) | Self::Close => true,
        }
    }
}

/// What the store itself changes in its books, in a transaction of its own, and what is to be done once that is durable,
/// before anything else is written.
pub(super) struct Change {
    pub(super) make: Make,
    /// Places of rows that go from the tail of the logs, in their order.
    pub(super) gone: Vec<i64>,
    pub(super) then: Box<dyn FnOnce() + Send>,
}

type Make = Box<dyn FnOnce(&Transaction<'_>, &Ledger) -> rusqlite::Result<()> + Send>;

/// What is held of a run and of the spools that its agent named.
pub(super) struct Question {
    pub(super) host: HostId,
    pub(super) run: RunId,
    pub(super) spools: Vec<SpoolId>,
    pub(super) reply: oneshot::Sender<Held>,
}

/// Both ends.
pub(super) fn queue() -> (Queue, Receiver<Job>) {
    // Two more than there is room for, so that `Close` and the one change under way never find the channel full.
    let (jobs, receiver) = sync_channel(JOBS_MAX + 2);
    (Queue { jobs: Arc::new(jobs), room: Arc::new(Semaphore::new(JOBS_MAX)) }, receiver)
}

/// The store's own end, which does not keep the queue open.
#[derive(Clone)]
pub(super) struct Changes(Weak<SyncSender<Job>>);

impl Changes {
    /// Waits until a change is durable, or was not made; nothing when the writer has ended.
    pub(super) fn make(&self, change: Change) -> Option<rusqlite::Result<()>> {
        let (reply, answer) = sync_channel(1);
        self.0.upgrade()?.try_send(Job { task: Task::Change(change, reply), room: None }).ok()?;
        answer.recv().ok()
    }
}

impl Queue {
    /// For changes of the store itself: one at a time.
    pub(super) fn changes(&self) -> Changes {
        Changes(Arc::downgrade(&self.jobs))
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let (reply, answer) = oneshot::channel();
        let room = (1 + commit.bytes() / JOB_BYTES).min(JOBS_MAX);
        self.push(Task::Commit(commit, reply), room).await?;
        answer.await.map_err(|_| CommitError::Closed)?
    }

    pub(super) async fn held(&self, host: HostId, run: RunId, spools: Vec<SpoolId>) -> Result<Held, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.push(Task::Held(Question { host, run, spools, reply }), 1).await?;
        answer.await.map_err(|_| CommitError::Closed)
    }

    pub(super) fn close(&self) {
        self.room.close();
        // A full or closed channel means that the writer was told before, or is gone.
        drop(self.jobs.try_send(Job { task: Task::Close, room: None }));
    }

    async fn push(&self, task: Task, room: usize) -> Result<(), CommitError> {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(room).await.map_err(|_| CommitError::Closed)?;
        self.jobs.try_send(Job { task, room: Some(room) }).map_err(|_| CommitError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use common::batch::EncodedBatch;
    use common::batch::Seq;
    use common::time::Timestamp;
    use futures::FutureExt;

    use super::*;
    use crate::store::commit::Append;

    #[test]
    fn large_commits_wait_before_many_are_there() {
        let (queue, _jobs) = queue();
        let commit = |bytes| {
            let batch = EncodedBatch {
                run: RunId([1; 16]),
                spool: SpoolId([1; 16]),
                seq: Seq(0),
                schema_version: 1,
                stamp: Timestamp::default(),
                codec: 1,
                keyframe: true,
                payload: vec![0; bytes],
            };
            Commit { appends: vec![Append::Batch { host: HostId(1), batch }], records: Vec::new() }
        };
        for _ in 0..15 {
            // Nobody answers; it takes its room.
            assert!(queue.commit(commit(4 << 20)).now_or_never().is_none());
        }
        assert_eq!(queue.room.available_permits(), JOBS_MAX - 15 * 257);
        assert!(queue.commit(commit(100)).now_or_never().is_none());
        assert_eq!(queue.room.available_permits(), JOBS_MAX - 15 * 257 - 1);
    }
}
