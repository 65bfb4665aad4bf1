//! Everything that is kept: `lapwing.db` on disk, the head in memory. One writer thread; readers share the head.
//!
//! A caller hands in a [`Commit`] and hears back when it is durable. Nothing is acknowledged before.

pub mod backup;
pub mod commit;
pub mod disk;
pub mod ledger;
pub mod lock;
pub mod record;
pub mod room;
pub mod select;
pub mod snapshot;
pub mod verify;

mod beside;
mod block;
mod catalog;
mod chunk;
mod config;
mod database;
mod first;
mod forwarding;
mod head;
mod log;
mod lookup;
mod memory;
mod migration;
mod open;
mod origin;
mod pile;
mod processes;
mod queue;
mod reading;
mod recall;
mod recent;
mod replay;
mod reserve;
mod retention;
mod rows;
mod settle;
mod stage;
mod stats;
mod tail;
mod union;
mod writer;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::batch::{Event, HostId, RunId, SpoolId};
use common::metric::Labels;
use common::schema::Schema;
use common::time::{Clock, TimeRange, Timestamp};
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::store::block::Tier;
use crate::store::block::set::Blocks;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::commit::Held;
pub use crate::store::config::StoreConfig;
use crate::store::database::Readers;
use crate::store::disk::Disk;
use crate::store::forwarding::Forwarding;
use crate::store::head::Head;
use crate::store::head::lookup::When;
use crate::store::ledger::Ledger;
use crate::store::lock::Lock;
use crate::store::log::LogRow;
use crate::store::lookup::Lookup;
pub use crate::store::open::OpenError;
use crate::store::open::open;
use crate::store::origin::Numbers;
use crate::store::queue::Queue;
use crate::store::queue::queue;
use crate::store::reading::Progress;
pub use crate::store::reading::Reading;
use crate::store::reserve::Reserve;
pub use crate::store::retention::Retention;
use crate::store::room::Limits;
use crate::store::room::Refusals;
use crate::store::rows::Rows;
use crate::store::select::Matcher;
use crate::store::select::SelectError;
use crate::store::select::Spend;
use crate::store::settle::Settler;
use crate::store::settle::Stop;
use crate::store::settle::delete::DELETIONS_MAX;
pub use crate::store::settle::delete::Deletion;
use crate::store::settle::delete::Waiting;
use crate::store::stats::Counters;
pub use crate::store::stats::Stats;
use crate::store::tail::Tail;
pub use crate::store::union::Version;
use crate::store::union::lived;
pub use crate::store::writer::Writer;

/// A handle on the store. Cloning is cheap.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    queue: Queue,
}

struct Shared {
    config: StoreConfig,
    clock: Clock,
    head: Head,
    /// Which rows of batches there are.
    rows: Mutex<Rows>,
    /// Those of both logs that came last.
    tail: Mutex<Tail>,
    blocks: Blocks,
    readers: Readers,
    counters: Counters,
    health: Mutex<Health>,
    disk: Mutex<Option<Disk>>,
    /// How far the log has been read since the start.
    progress: Progress,
    /// Ends what is sealed and merged.
    stop: Stop,
    deletions: mpsc::Sender<Waiting>,
    forwarding: Forwarding,
    lock: Lock,
}

impl Shared {
    fn samples_after(&self, now: Timestamp) -> Timestamp {
        let begins = self.blocks.begins().get(&Tier::Raw).copied().unwrap_or_default();
        now.before(self.config.retention.raw).max(begins)
    }

    /// To look or to change, never while the disk works.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::rows`].
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of batches at some places, in that order, without those that went meanwhile. Blocks: on a thread that may.
    fn batches(&self, places: &[i64]) -> rusqlite::Result<Vec<LogRow>> {
        // Before the log is looked at: what is no more in the tail lies there.
        let last = self.tail().batches(places);
        let found: BTreeSet<i64> = last.iter().map(|row| row.id).collect();
        let others: Vec<i64> = places.iter().copied().filter(|place| !found.contains(place)).collect();
        let others = self.readers.ask(|connection| log::at(connection, &others))?;
        let mut rows: HashMap<i64, LogRow> = last.into_iter().chain(others).map(|row| (row.id, row)).collect();
        Ok(places.iter().filter_map(|place| rows.remove(place)).collect())
    }
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database refused.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The program is stopping.
    #[error("the store is closed")]
    Closed,
}

/// Whether the store can store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not yet: it reads its log.
    Reading,
    /// It can.
    Writable,
    /// The disk was full at the last attempt.
    Full,
    /// The last attempt failed otherwise.
    Failing,
}

/// The database, in the data directory.
const FILE: &str = "lapwing.db";

impl Store {
    /// Whether there is one in a directory.
    #[must_use]
    pub fn is_in(data_dir: &Path) -> bool {
        data_dir.join(FILE).exists()
    }

    /// Opens `lapwing.db` in the directory owned, and rebuilds the head from its log. The writer wants a thread of its own.
    ///
    /// # Errors
    /// When the database is newer than this program, or cannot be read or written.
    pub fn open(lock: Lock, config: StoreConfig, clock: Clock) -> Result<(Self, Writer), OpenError> {
        let file = lock.data_dir().join(FILE);
        let (store, mut writer) = Self::begin(lock, config, clock)?;
        writer.read_log().map_err(|why| OpenError::Sqlite { file, why })?;
        Ok((store, writer))
    }

    /// The same, but that the writer reads the log, before it writes anything. Until then it is not known what lies there:
    /// questions about its time are refused, and commits wait.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin(lock: Lock, config: StoreConfig, clock: Clock) -> Result<(Self, Writer), OpenError> {
        let file = lock.data_dir().join(FILE);
        let failed = |why| OpenError::Sqlite { file: file.clone(), why };
        snapshot::remove_leftovers(lock.data_dir());
        let mut reserve = Reserve::of(lock.data_dir());
        let (connection, (tail, damaged)) = match open(&file) {
            Err(error) if error.wants_room() && reserve.give_up() => open(&file),
            other => other,
        }?;
        let recorded = catalog::blocks(&connection).map_err(failed)?;
        let begins = catalog::begins(&connection).map_err(failed)?;
        let forwarding = Forwarding::new(record::forwards::all(&connection).map_err(failed)?);
        let (deletions, to_delete) = mpsc::channel(DELETIONS_MAX);
        let shared = Shared {
            head: Head::new(config.limits),
            rows: Mutex::default(),
            tail: Mutex::new(tail),
            config,
            clock,
            blocks: Blocks::open(lock.data_dir(), recorded, begins),
            readers: Readers::new(file.clone()),
            counters: Counters::default(),
            health: Mutex::new(Health::Reading),
            disk: Mutex::default(),
            progress: Progress::default(),
            stop: Stop::default(),
            deletions,
            forwarding,
            lock,
        };
        if damaged != 0 {
            tracing::error!(damaged, "records of what came last before the start cannot be read: a checksum is wrong");
        }
        shared.counters.unreadable(damaged);
        let now = shared.clock.wall();
        let shared = Arc::new(shared);
        let (queue, jobs) = queue();
        let settle = shared.config.settle_every.is_some();
        let settler = settle.then(|| Settler::new(&shared, queue.changes())).transpose().map_err(failed)?;
        let writer = Writer {
            jobs,
            connection,
            shared: Arc::clone(&shared),
            ledger: Ledger::default(),
            numbers: Numbers::default(),
            settler: settler.map(|settler| (settler, to_delete)),
            expired_at: now,
            failed_at: Timestamp::default(),
            reserve,
        };
        Ok((Self { shared, queue }, writer))
    }

    /// Stores a commit and waits until it is durable.
    ///
    /// # Errors
    /// When the commit is malformed, the disk is full or fails, or the store is closed. Nothing is stored then.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.queue.commit(commit).await
    }

    /// Longest time between two group commits.
    #[must_use]
    pub fn commit_interval(&self) -> Duration {
        self.shared.config.commit_interval
    }

    /// What is held of a host's run and of the spools that its agent named; the naming keeps them from being forgotten.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn held(&self, host: HostId, run: RunId, spools: &[SpoolId]) -> Result<Held, CommitError> {
        self.queue.held(host, run, spools.to_vec()).await
    }

    /// Gives a host its labels, `instance` among them. They are part of every series from here on.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn set_host_labels(&self, host: HostId, labels: Labels) -> Result<(), CommitError> {
        let commit = Commit { appends: vec![Append::HostLabels { host, labels }], records: Vec::new() };
        self.commit(commit).await.map(drop)
    }

    /// Asks the records a question.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn read<T, F>(&self, question: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || shared.readers.ask(question)).await;
        Ok(answer.map_err(|_| ReadError::Closed)??)
    }

    /// How far the log has been read since the start; how many of its rows, and of how many.
    #[must_use]
    pub fn reading(&self) -> (Reading, u64, u64) {
        let progress = &self.shared.progress;
        let (read, of) = progress.rows();
        (progress.reading(), read, of)
    }

    /// Waits until all of the log has been read.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn has_read(&self) -> Result<(), ReadError> {
        self.shared.progress.done().await
    }

    /// After when samples are kept: less long than is meant where files went for want of room.
    #[must_use]
    pub fn samples_after(&self, now: Timestamp) -> Timestamp {
        self.shared.samples_after(now)
    }

    /// How long samples are kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.shared.config.retention
    }

    /// The label sets of all series that match and have a sample in `range`, sorted: the first `limit` of them.
    ///
    /// # Errors
    /// When what is stored cannot be read, and that of `spend`.
    pub fn series<E: From<SelectError>>(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Labels>, E> {
        self.lookup(matchers, range, (limit, spend))?.series()
    }

    /// The names of their labels, as [`Self::series`].
    ///
    /// # Errors
    /// When what is stored cannot be read, and that of `spend`.
    pub fn label_names<E: From<SelectError>>(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Arc<str>>, E> {
        self.lookup(matchers, range, (limit, spend))?.label_names()
    }

    /// The values of one of their labels, as [`Self::series`].
    ///
    /// # Errors
    /// When what is stored cannot be read, and that of `spend`.
    pub fn label_values<E: From<SelectError>>(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'_, E>),
    ) -> Result<Vec<Arc<str>>, E> {
        self.lookup(matchers, range, (limit, spend))?.label_values(name)
    }

    fn lookup<'a, E: From<SelectError>>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
        (limit, spend): (usize, Spend<'a, E>),
    ) -> Result<Lookup<'a, E>, E> {
        let Shared { head, readers, progress, .. } = &*self.shared;
        progress.answers(range)?;
        let when = When { in_memory: range, in_files: lived(&self.tiers(range, Duration::ZERO), range) };
        Ok(Lookup { head, readers, matchers, when, limit, spend })
    }

    /// What happened in `range`, oldest first: to one host or to all of them. Blocks: on a thread that may.
    #[must_use]
    pub fn events(&self, host: Option<HostId>, range: TimeRange) -> Vec<(HostId, Event)> {
        let mut events = self.shared.head.events(host, range);
        // After the head was asked: what it let go of meanwhile is in a file of the list.
        for file in self.shared.blocks.overlapping(Tier::Raw, range) {
            let hosts = host.map_or_else(|| self.shared.head.ids(), |host| vec![host]);
            for host in hosts {
                let sealed = beside::events(&self.shared.blocks, &file, (host, range));
                events.extend(sealed.into_iter().map(|event| (host, event)));
            }
        }
        events.sort_by_key(|(_, event)| event.at);
        events
    }

    /// Reads the schema of a run of a host's agent, if it is held.
    pub fn with_schema<T>(&self, host: HostId, run: RunId, read: impl FnOnce(&Schema) -> T) -> Option<T> {
        self.shared.head.with_schema(host, run, read)
    }

    /// The end of the latest window stored of a host.
    #[must_use]
    pub fn last_stamp(&self, host: HostId) -> Option<Timestamp> {
        self.shared.head.last_stamp(host)
    }

    /// Whether the store can store.
    #[must_use]
    pub fn health(&self) -> Health {
        *self.shared.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples for whose series there was no room since the start, of each host or token to write with.
    #[must_use]
    pub fn refused(&self) -> Vec<(HostId, Refusals)> {
        self.shared.head.refused()
    }

    /// How many series there may be at once.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.config.limits
    }

    /// Figures about the store itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Shared { counters, head, blocks, .. } = &*self.shared;
        counters.stats(head.size(), (blocks.bytes(), blocks.damaged_total()))
    }

    /// Lets the writer finish what is queued and end. Later commits find the store closed.
    pub fn close(&self) {
        self.shared.progress.stop();
        self.queue.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("data_dir", &self.shared.lock.data_dir()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod full;
#[cfg(test)]
mod tests;
