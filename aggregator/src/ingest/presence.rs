//! Which hosts there are, how they are, and whether they were up: who is connected, what was committed of each, `up`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use common::batch::HostId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;
use common::wire::message::Hello;
use common::wire::message::Reason;
use common::wire::message::Recorded;
use common::wire::message::SpoolHeld;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Policy;
use crate::ingest::book::Book;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::hearing::Unheard;
use crate::ingest::holes::Holes;
use crate::ingest::lineage::KeptOut;
use crate::ingest::obituary::Obituary;
use crate::ingest::policy::Settlement;
use crate::ingest::recall::NotRecalled;
use crate::ingest::recall::Recalls;
use crate::ingest::session::End;
use crate::ingest::session::return_within_of;
use crate::store::Health;
use crate::store::Store;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::disk::Disk;
use crate::store::record::Record;
use crate::store::record::hosts::Host;
use crate::store::record::windows::Windows;

/// Changes that a slow listener may fall behind before it loses some.
const CHANGES_MAX: usize = 1_024;

/// How often `up` is written and silence noticed.
const TICK: Duration = Duration::from_secs(1);

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Enrolled, and nothing came from it.
    New,
    /// Its windows come in time.
    Up,
    /// Nothing comes, and it did not say why.
    Silent,
    /// Its agent was stopped.
    Stopped,
    /// It was shut down.
    Shutdown,
    /// Its agent said that it will be back.
    Rebooting,
    /// An operator revoked it: it may not come back.
    Revoked,
}

/// One host as it is at a moment.
#[derive(Clone, Debug)]
pub struct HostState {
    /// Its number.
    pub id: HostId,
    /// Its `instance` label.
    pub instance: String,
    /// All labels that its series share, `instance` among them.
    pub labels: Labels,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// When it was enrolled: it has no data from before.
    pub joined: Timestamp,
    /// The latest moment at which something came from it.
    pub last_seen: Timestamp,
    /// Where its latest session came from, since the aggregator started.
    pub address: Option<SocketAddr>,
    /// Version of its agent.
    pub agent_version: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Another agent with its state, that was kept out since the aggregator started.
    pub kept_out: Option<KeptOut>,
    /// What is set of its agent's configuration, if it is connected and takes that.
    pub settings: Option<String>,
    /// What became of that.
    pub settled: Settlement,
}

/// Something that a watcher of hosts wants to know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A window was committed.
    Window(HostId, Timestamp),
    /// A host's state changed.
    Host(HostId, State),
}

/// What an operator changes of a host.
#[derive(Clone, Debug, Default)]
pub struct HostChange {
    /// Its new name.
    pub instance: Option<String>,
    /// Labels to give it; an empty value takes the label away that was given here.
    pub labels: BTreeMap<String, String>,
    /// Whether it shall not come back.
    pub revoke: bool,
}

impl HostChange {
    /// What makes the name and the labels of a host what they are before this. A host that shall not come back is kept out
    /// either way.
    pub(super) fn back_to(&self, host: &Host) -> Self {
        let label = |name: &String| (name.clone(), host.operator_labels.get(name).to_owned());
        Self {
            instance: self.instance.as_ref().map(|_| host.instance.clone()),
            labels: self.labels.keys().map(label).collect(),
            revoke: false,
        }
    }
}

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChanged {
    /// There is no such host.
    Unknown,
    /// Another host has that name.
    Taken,
}

/// A handle. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Presence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    through: watch::Sender<Timestamp>,
    changes: broadcast::Sender<Change>,
}

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The host's `instance`.
    pub instance: String,
    /// Which session of the host this is.
    pub number: u64,
    /// Given when a newer session of the same host takes over, or an operator ends it.
    pub dismissal: Dismissal,
    /// To be cancelled when nothing more of this session will be committed.
    pub ended: CancellationToken,
    /// The session that this one takes over from: wait until it has ended.
    pub older: Option<CancellationToken>,
    /// Questions to the agent.
    pub(super) recalls: Recalls,
    /// What is set of the agent's configuration, if it takes that.
    pub(super) settings: Option<watch::Receiver<Arc<str>>>,
    /// What the opening changed: labels, events, the host itself.
    pub commit: Commit,
}

impl Presence {
    /// The hosts that are known, and which windows came of each. `now` is when the aggregator starts.
    #[must_use]
    pub fn new(hosts: Vec<Host>, windows: Vec<Windows>, now: Timestamp) -> Self {
        let shared = Shared {
            book: Mutex::new(Book::new(hosts, windows, now)),
            through: watch::Sender::new(Timestamp::from_millis(i64::MAX)),
            changes: broadcast::Sender::new(CHANGES_MAX),
        };
        Self(Arc::new(shared))
    }

    /// Says that nobody could be heard before this: the aggregator was not ready.
    pub fn hear_from(&self, now: Timestamp) {
        self.book().hear_from(now);
    }

    /// Writes `up` and how much room there is, and notices silence, until the stop.
    pub async fn run(self, store: Store, clock: Clock, stop: CancellationToken) {
        // The window in which this starts may have been written by the run before.
        let mut looked = clock.wall().align_down(WINDOW);
        store.look_at_disk().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(TICK) => {}
            }
            let now = clock.wall();
            let (mut commit, changes) = self.book().tick(now, can_store(&store));
            self.tell(changes);
            // In the commit that each window has anyway: another one is another write of the disk.
            if looked != now.align_down(WINDOW) {
                looked = now.align_down(WINDOW);
                let sample = |(name, value)| (Labels::new().with(NAME, format!("lapwing_aggregator_{name}")), value);
                let samples: Vec<_> =
                    store.look_at_disk().await.into_iter().flat_map(Disk::figures).map(sample).collect();
                commit.appends.push(Append::Own { stamp: looked, samples });
            }
            if commit.appends.is_empty() && commit.records.is_empty() {
                continue;
            }
            // `up` is not worth a retry: what is missing says that the store was in trouble. It says itself when it is full.
            match store.commit(commit).await {
                Ok(_) | Err(CommitError::Full) => {}
                Err(error) => tracing::warn!(%error, "cannot write the presence of hosts"),
            }
        }
    }

    /// Sets a part of the configuration of agents.
    pub fn set(&self, policies: Vec<Policy>) {
        self.book().set(policies);
    }

    /// An agent says what became of that.
    pub fn settled(&self, host: HostId, settled: Settlement) {
        self.book().settled(host, settled);
    }

    /// All hosts, by their number.
    #[must_use]
    pub fn snapshot(&self) -> Vec<HostState> {
        self.book().snapshot()
    }

    /// Follows the stamp up to which the windows of all hosts that are connected and up are committed; without such
    /// hosts it is the end of time.
    #[must_use]
    pub fn committed_through(&self) -> watch::Receiver<Timestamp> {
        self.0.through.subscribe()
    }

    /// Of whom nothing can be known at an evaluation.
    #[must_use]
    pub fn unheard(&self, at: Timestamp, now: Timestamp, store: &Store) -> Unheard {
        self.book().unheard(at, now, can_store(store))
    }

    /// Follows what changes.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The host that a key belongs to.
    #[must_use]
    pub fn by_key(&self, key_hash: [u8; 32]) -> Option<Host> {
        self.book().by_key(key_hash).cloned()
    }

    /// Over how long its hosts spread their return when they lose their sessions at once.
    #[must_use]
    pub fn return_within(&self) -> Duration {
        return_within_of(self.book().fleet())
    }

    /// Lets `look` see all hosts as they are recorded.
    pub fn with_hosts<T>(&self, look: impl FnOnce(Vec<&Host>) -> T) -> T {
        look(self.book().hosts().collect())
    }

    /// A host was enrolled, or its record changed.
    pub fn enrolled(&self, host: Host, now: Timestamp) {
        self.book().enrolled(host, now);
    }

    /// A host has a new certificate, that ends at `expires`. Returns what is to be recorded.
    #[must_use]
    pub fn renewed(&self, host: HostId, expires: Timestamp) -> Option<Record> {
        self.book().renewed(host, expires)
    }

    /// Changes what an operator may change of a host. Returns what is to be stored of that, and what takes it back if that is
    /// refused.
    ///
    /// # Errors
    /// When there is no such host, or another one has its name.
    pub fn change(
        &self,
        host: HostId,
        change: &HostChange,
        now: Timestamp,
    ) -> Result<(Commit, HostChange), NotChanged> {
        let (commit, back, changes) = self.book().change(host, change, now)?;
        self.tell(changes);
        Ok((commit, back))
    }

    /// Forgets a host and ends its session. Returns the host, and what is cancelled when nothing more of the session will
    /// be committed.
    #[must_use]
    pub fn forget(&self, host: HostId) -> Option<(Host, Option<CancellationToken>)> {
        let forgotten = self.book().remove(host)?;
        self.tell(Vec::new());
        Some(forgotten)
    }

    /// A session of a known host begins.
    ///
    /// # Errors
    /// When it may not, and what is to be stored about that.
    pub fn open(&self, host: HostId, hello: &Hello, from: SocketAddr, now: Timestamp) -> Result<Opened, (End, Commit)> {
        let (opened, changes) = self.book().open(host, hello, from, now)?;
        self.tell(changes);
        Ok(opened)
    }

    /// Something came in a session: its agent has heard its welcome.
    pub fn welcomed(&self, host: HostId, number: u64) {
        self.book().welcomed(host, number);
    }

    /// Asks a host's flight recorder for what it holds between two moments, the later of which may be to come. The answers
    /// end with one that says so, or when the session does.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn recall(
        &self,
        host: HostId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<mpsc::Receiver<Recorded>, NotRecalled> {
        let asks = self.book().asks(host)?;
        asks.ask(from, to)
    }

    /// What the aggregator holds of the spools that a host greeted with.
    pub fn holds(&self, host: HostId, hello: &Hello, held: &[SpoolHeld]) {
        self.book().holds(host, hello, held);
    }

    /// Batches of a host arrive. Returns what is to be stored with them, and what to tell [`Self::arrived`] when it is.
    pub(super) fn arrive(&self, host: HostId, appends: &[Append], now: Timestamp) -> Option<(Commit, Holes)> {
        let batches: Vec<_> = appends.iter().filter_map(Append::batch).collect();
        self.book().arrive(host, &batches, now)
    }

    /// What is to be told with the next batches of a host, and its `instance`.
    pub(super) fn obituary(&self, host: HostId) -> Option<(Obituary, String)> {
        self.book().obituary(host)
    }

    /// They became durable.
    pub(super) fn arrived(&self, host: HostId, holes: Holes) {
        self.book().arrived(host, holes);
    }

    /// Windows became durable.
    pub fn committed(&self, committed: &Committed, now: Timestamp) {
        let changes = {
            let mut book = self.book();
            committed.batches.iter().flat_map(|batch| book.committed(batch, now)).collect()
        };
        self.tell(changes);
    }

    /// A session ended, with the agent's reason if it gave one. Returns what that changed.
    #[must_use]
    pub fn close(&self, host: HostId, number: u64, goodbye: Option<Reason>, now: Timestamp) -> Commit {
        let (commit, changes) = self.book().close(host, number, goodbye, now);
        self.tell(changes);
        commit
    }

    fn tell(&self, changes: Vec<Change>) {
        let through = self.book().committed_through();
        self.0.through.send_if_modified(|known| std::mem::replace(known, through) != through);
        for change in changes {
            // Nobody may be listening.
            self.0.changes.send(change).unwrap_or_default();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // The book is consistent between any two of its methods, so a panic elsewhere does not spoil it.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn can_store(store: &Store) -> bool {
    store.health() == Health::Writable
}
