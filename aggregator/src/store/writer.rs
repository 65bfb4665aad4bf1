//! The one thread that writes `lapwing.db`: takes what is queued a group at a time, one transaction each.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use common::schema::Schema;
use common::time::Timestamp;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::store::Health;
use crate::store::Reading;
use crate::store::Shared;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::commit::Held;
use crate::store::ledger::Ledger;
use crate::store::ledger::STATE_KEPT;
use crate::store::log;
use crate::store::origin::Numbers;
use crate::store::queue::Change;
use crate::store::queue::JOBS_MAX;
use crate::store::queue::Job;
use crate::store::queue::Question;
use crate::store::queue::Room;
use crate::store::queue::Task;
use crate::store::recall::Recall;
use crate::store::recent::Recent;
use crate::store::replay::replay;
use crate::store::reserve::Reserve;
use crate::store::retention;
use crate::store::settle::Settler;
use crate::store::settle::delete::Waiting;
use crate::store::stage::Effect;
use crate::store::stage::Stage;
use crate::store::stage::StageError;
use crate::store::stage::Staged;
use crate::store::stage::Undo;
use crate::store::tail;
use crate::store::tail::Fresh;

/// How often what has expired is removed.
const RETENTION_EVERY: Duration = Duration::from_secs(300);

/// Longest time between two group commits of what somebody waits for, however long samples may wait for theirs.
const AWAITED_WITHIN: Duration = Duration::from_millis(200);

/// Writes what is queued until the store is closed.
pub struct Writer {
    pub(super) jobs: Receiver<Job>,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Ledger,
    pub(super) numbers: Numbers,
    /// Who seals and merges while this writes, and what that one is told to delete.
    pub(super) settler: Option<(Settler, mpsc::Receiver<Waiting>)>,
    pub(super) expired_at: Timestamp,
    /// When a group last failed; the beginning of time before.
    pub(super) failed_at: Timestamp,
    pub(super) reserve: Reserve,
}

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

/// What waits for one transaction.
#[derive(Default)]
struct Group {
    commits: Vec<(Commit, Reply)>,
    questions: Vec<Question>,
    changes: Vec<(Change, SyncSender<rusqlite::Result<()>>)>,
    /// What the jobs take up in the queue until they are done.
    rooms: Vec<Room>,
    /// Whether somebody waits for some of it.
    awaited: bool,
    close: bool,
}

impl Writer {
    /// Ends when the store is closed or all its handles are gone, and everything queued before is durable. What is
    /// sealed and merged meanwhile is written on another thread, so that no commit waits for it.
    pub fn run(mut self) {
        if self.shared.progress.reading() != Reading::Done {
            match self.read_log() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::error!(%error, "cannot read the log"),
            }
        }
        let settler = self.settler.take();
        let shared = Arc::clone(&self.shared);
        std::thread::scope(move |scope| {
            let settling = settler.map(|(settler, deletions)| scope.spawn(move || settler.run(deletions)));
            self.write_all();
            if let Err(error) = self.empty_tail() {
                tracing::warn!(%error, "cannot put what came last into the logs: the next start does");
            }
            // Whoever waits for an answer hears that there is none.
            drop(self);
            shared.stop.tell();
            if let Some(settling) = settling {
                settling.thread().unpark();
            }
        });
    }

    /// Rebuilds the head from the log. Answers whether it came to the end before the store was closed.
    pub(super) fn read_log(&mut self) -> rusqlite::Result<bool> {
        let Self { connection, shared, .. } = self;
        let read = replay(connection, shared, shared.clock.wall());
        let Ok(Some(ledger)) = read else {
            shared.progress.set(Reading::Failed);
            return read.map(|_| false);
        };
        self.ledger = ledger;
        *shared.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::Writable;
        shared.progress.set(Reading::Done);
        Ok(true)
    }

    fn write_all(&mut self) {
        // The pace of the disk is real time even where a test moves the clock: a commit must not wait for that.
        let mut committed_at: Option<Instant> = None;
        let mut close = false;
        while !close && let Some(group) = self.gather(committed_at) {
            close = group.close;
            self.write(group);
            committed_at = Some(Instant::now());
            self.expire();
        }
    }

    /// The next group: what comes until it is due, or one job at once when that has passed. `None` at the end.
    fn gather(&self, committed_at: Option<Instant>) -> Option<Group> {
        let interval = self.shared.config.commit_interval;
        let mut group = Group::default();
        group.push(self.jobs.recv().ok()?);
        while !group.close && group.rooms.len() < JOBS_MAX {
            let interval = if group.awaited { interval.min(AWAITED_WITHIN) } else { interval };
            let due = committed_at.map(|at| at + interval);
            let remaining = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
            match self.jobs.recv_timeout(remaining) {
                Ok(job) => group.push(job),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => group.close = true,
            }
        }
        Some(group)
    }

    fn write(&mut self, group: Group) {
        let Group { commits, questions, changes, rooms, .. } = group;
        let (commits, replies): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        if !commits.is_empty() {
            self.commit(commits, replies);
        }
        if let Err(error) = self.name(&questions) {
            tracing::warn!(%error, "cannot note which spools were named");
        }
        for question in questions {
            let held = self.held(&question);
            // The asker may be gone.
            drop(question.reply.send(held));
        }
        drop(rooms);
        for (change, reply) in changes {
            // Who asked for it may have ended meanwhile.
            drop(reply.send(self.change(change)));
        }
    }

    fn change(&mut self, change: Change) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        (change.make)(&transaction, &self.ledger)?;
        let plan = self.shared.tail().remove(&change.gone)?;
        plan.write(&transaction)?;
        transaction.commit()?;
        self.shared.tail().apply(plan);
        (change.then)();
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>, replies: Vec<Reply>) {
        let mut undo = Undo::default();
        let has_samples = commits.iter().any(|commit| !commit.appends.is_empty());
        let has_room = !has_samples || self.reserve.keep();
        let outcome = self.transact(commits, has_room, &mut undo);
        self.shared.counters.commit(has_room && outcome.is_ok());
        if !has_room {
            self.failed_at = self.shared.clock.wall();
        }
        // What is little may have room where samples have none.
        if has_samples || outcome.is_err() {
            self.shared.note_health(outcome.as_ref().err().or((!has_room).then(full).as_ref()));
        }
        match outcome {
            Ok(results) => {
                for (result, reply) in results.into_iter().zip(replies) {
                    let result = result.map(|staged| self.shared.take_effect(&self.connection, staged));
                    // The committer may be gone; what it handed in is stored all the same.
                    drop(reply.send(result));
                }
            }
            Err(error) => {
                undo.take_back(&self.shared.head, &mut self.ledger);
                self.numbers.forget();
                self.failed_at = self.shared.clock.wall();
                let error = refused(&error);
                for reply in replies {
                    // The committer may be gone.
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }

    /// One transaction. A commit that is malformed is left out of it, and one that appends where there is no room for that; an
    /// error means that none was made.
    fn transact(
        &mut self,
        commits: Vec<Commit>,
        has_room: bool,
        undo: &mut Undo,
    ) -> rusqlite::Result<Vec<Result<Staged, CommitError>>> {
        let Self { connection, shared, ledger, numbers, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (now, forwarding) = (shared.clock.wall(), &shared.forwarding);
        let kept_after = shared.samples_after(now);
        let mut results = Vec::with_capacity(commits.len());
        let (mut recent, mut fresh) = (Recent::default(), Fresh::default());
        for commit in commits {
            if !has_room && !commit.appends.is_empty() {
                results.push(Err(CommitError::Full));
                continue;
            }
            let mut done = Undo::default();
            transaction.execute_batch("SAVEPOINT one")?;
            let head = &shared.head;
            let staged = Stage { transaction: &transaction, head, ledger, numbers, forwarding, now, kept_after }
                .commit(commit, &mut done);
            match staged {
                Ok(mut staged) => {
                    transaction.execute_batch("RELEASE one")?;
                    recent.join(std::mem::take(&mut staged.recent));
                    fresh.join(std::mem::take(&mut staged.fresh));
                    undo.join(done);
                    results.push(Ok(staged));
                }
                Err(StageError::Commit(error)) => {
                    roll_back(&transaction)?;
                    done.take_back(&shared.head, ledger);
                    numbers.forget();
                    results.push(Err(error));
                }
                Err(StageError::Disk(error)) => {
                    undo.join(done);
                    return Err(error);
                }
            }
        }
        if !recent.is_empty() {
            fresh.push(tail::Row::Origin(recent.row(ledger.place(), now)?));
        }
        let plan = shared.tail().append(fresh)?;
        plan.write(&transaction)?;
        transaction.commit()?;
        shared.tail().apply(plan);
        ledger.note(recent);
        Ok(results)
    }

    /// Notes all spools that were asked for, in one transaction: each takes a write to the disk.
    fn name(&mut self, questions: &[Question]) -> rusqlite::Result<()> {
        if questions.iter().all(|question| question.spools.is_empty()) {
            return Ok(());
        }
        let now = self.shared.clock.wall();
        let transaction = self.connection.transaction()?;
        for Question { host, spools, .. } in questions {
            for spool in spools {
                log::name_spool(&transaction, *host, *spool, now)?;
            }
        }
        transaction.commit()
    }

    fn held(&self, question: &Question) -> Held {
        let Question { host, run, ref spools, .. } = *question;
        Held {
            schema_version: self.shared.head.with_schema(host, run, Schema::version).unwrap_or(0),
            spools: spools.iter().map(|spool| self.ledger.held((host, *spool))).collect(),
        }
    }

    /// Leaves nothing to do for a start.
    fn empty_tail(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let plan = self.shared.tail().empty()?;
        plan.write(&transaction)?;
        transaction.commit()?;
        self.shared.tail().apply(plan);
        Ok(())
    }

    fn expire(&mut self) {
        let now = self.shared.clock.wall();
        if now.since(self.expired_at) < RETENTION_EVERY {
            return;
        }
        self.expired_at = now;
        let Self { connection, shared, ledger, .. } = self;
        let mut removed = retention::expire(connection, shared, ledger, now);
        // Agents that wait until something can be stored continue what was stored before, however long ago.
        if STATE_KEPT <= now.since(self.failed_at) {
            removed = removed.and_then(|()| retention::forget(connection, shared, ledger, now));
        }
        if let Err(error) = removed {
            tracing::warn!(%error, "cannot remove what has expired");
        }
        self.numbers.forget();
    }
}

impl Group {
    fn push(&mut self, job: Job) {
        self.rooms.push(job.room);
        self.awaited |= job.task.is_awaited();
        match job.task {
            Task::Commit(commit, reply) => self.commits.push((commit, reply)),
            Task::Held(question) => self.questions.push(question),
            Task::Change(change, reply) => self.changes.push((change, reply)),
            Task::Close => self.close = true,
        }
    }
}

fn roll_back(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("ROLLBACK TO one; RELEASE one")
}

fn full() -> rusqlite::Error {
    let why = "the room kept for a start is not there";
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), Some(why.to_owned()))
}

fn refused(error: &rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => CommitError::Full,
        _ => CommitError::Io(error.to_string()),
    }
}

impl Shared {
    /// The rows are durable: the head may show them.
    fn take_effect(&self, connection: &Connection, staged: Staged) -> Committed {
        let recall = Recall { connection, head: &self.head };
        for effect in staged.effects {
            match effect {
                Effect::Row { key, run, row } => self.rows().push(key, run, row),
                Effect::Batch { host, run, version, row } => {
                    self.counters.append(recall.append((host, run), version, &[row]));
                }
                Effect::Written { origin, row, series } => {
                    self.counters.append(self.head.append_written(origin, (row, &series)));
                }
                Effect::Labels { host, labels } => self.head.set_labels(host, &labels),
                Effect::Event { host, row, event } => self.head.push_event(host, (row, event)),
                Effect::Forget { host, instance } => {
                    self.rows().forget(host);
                    self.head.forget(host, &instance);
                }
            }
        }
        self.counters.count(&staged.committed);
        staged.committed
    }

    /// Whether samples were stored, or why not.
    fn note_health(&self, failed: Option<&rusqlite::Error>) {
        let health = match failed.map(refused) {
            None => Health::Writable,
            Some(CommitError::Full) => Health::Full,
            Some(_) => Health::Failing,
        };
        let before = std::mem::replace(&mut *self.health.lock().unwrap_or_else(PoisonError::into_inner), health);
        if before == health {
            return;
        }
        match failed {
            None => tracing::info!("the store can store again"),
            Some(error) => tracing::error!(%error, "cannot store: nothing is acknowledged until it works"),
        }
    }
}
