//! What is known of each host at a moment, and what follows from time passing. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use common::batch::Event;
use common::batch::HostId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use common::wire::message::Hello;
use common::wire::message::Reason;
use tokio_util::sync::CancellationToken;

use crate::ingest::presence::Change;
use crate::ingest::presence::HostState;
use crate::ingest::presence::Opened;
use crate::ingest::presence::State;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::record::Record;
use crate::store::record::hosts::Host;

/// A window committed later than this after its end did not come in time.
pub(super) const UP_WITHIN: Duration = Duration::from_secs(15);

/// Hosts have so long after the aggregator's start to come back before their absence counts.
pub(super) const START_GRACE: Duration = Duration::from_secs(60);

/// A clock that jumped further than this is not followed window by window.
const BEHIND_MAX: Duration = Duration::from_secs(3_600);

/// The programs that the agent stands for: each has its own `up`.
const JOBS: [&str; 3] = ["cadvisor", "node", "process"];

/// All hosts.
#[derive(Debug)]
pub(super) struct Book {
    started: Timestamp,
    hosts: BTreeMap<HostId, Entry>,
    sessions: u64,
}

#[derive(Debug)]
struct Entry {
    host: Host,
    session: Option<Session>,
    address: Option<SocketAddr>,
    /// The latest window that was committed since the start.
    latest: Option<Timestamp>,
    /// Windows that came in time and for which `up` is not written.
    in_time: Vec<Timestamp>,
    /// The window up to which `up` is decided; none before the first window.
    decided: Option<Timestamp>,
    state: State,
    since: Timestamp,
}

#[derive(Debug)]
struct Session {
    number: u64,
    replaced: CancellationToken,
    ended: CancellationToken,
}

impl Book {
    pub(super) fn new(hosts: Vec<Host>, now: Timestamp) -> Self {
        let entry = |host: Host| {
            let mut entry = Entry::new(host, now);
            if !entry.host.agent_version.is_empty() {
                entry.decided = Some(now.align_down(WINDOW));
                entry.state = goodbye_state(entry.host.goodbye).unwrap_or(State::Up);
                entry.since = entry.host.last_seen;
            }
            (entry.host.id, entry)
        };
        Self { started: now, hosts: hosts.into_iter().map(entry).collect(), sessions: 0 }
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().map(|entry| &entry.host)
    }

    pub(super) fn enrolled(&mut self, host: Host, now: Timestamp) {
        match self.hosts.get_mut(&host.id) {
            Some(entry) => entry.host = host,
            None => drop(self.hosts.insert(host.id, Entry::new(host, now))),
        }
    }

    pub(super) fn open(
        &mut self,
        id: HostId,
        hello: &Hello,
        from: SocketAddr,
        now: Timestamp,
    ) -> Option<(Opened, Vec<Change>)> {
        let entry = self.hosts.get_mut(&id)?;
        self.sessions += 1;
        let appends = entry.greet(hello, now);
        let session =
            Session { number: self.sessions, replaced: CancellationToken::new(), ended: CancellationToken::new() };
        let (replaced, ended) = (session.replaced.clone(), session.ended.clone());
        let older = entry.session.replace(session).map(|older| {
            older.replaced.cancel();
            older.ended
        });
        entry.address = Some(from);
        let opened = Opened {
            instance: entry.host.instance.clone(),
            number: self.sessions,
            replaced,
            ended,
            older,
            commit: Commit { appends, records: vec![entry.record()] },
        };
        Some((opened, Vec::new()))
    }

    pub(super) fn committed(&mut self, id: HostId, stamp: Timestamp, now: Timestamp) -> Vec<Change> {
        let Some(entry) = self.hosts.get_mut(&id) else { return Vec::new() };
        let mut changes = vec![Change::Window(id, stamp)];
        entry.host.last_seen = now;
        entry.latest = entry.latest.max(Some(stamp));
        if now.since(stamp) <= UP_WITHIN {
            let decided = *entry.decided.get_or_insert(stamp.before(WINDOW));
            if decided < stamp {
                entry.in_time.push(stamp);
            }
            entry.host.goodbye = None;
            changes.extend(entry.turn(State::Up, now));
        }
        changes
    }

    pub(super) fn close(
        &mut self,
        id: HostId,
        number: u64,
        goodbye: Option<Reason>,
        now: Timestamp,
    ) -> (Commit, Vec<Change>) {
        let Some(entry) = self.hosts.get_mut(&id) else { return (Commit::default(), Vec::new()) };
        if entry.session.as_ref().is_none_or(|session| session.number != number) {
            return (Commit::default(), Vec::new());
        }
        entry.session = None;
        entry.host.goodbye = goodbye.map(|reason| reason as u16);
        let mut commit = Commit { appends: Vec::new(), records: vec![entry.record()] };
        let state = goodbye_state(entry.host.goodbye);
        if let Some(state) = state {
            let (kind, text) = match state {
                State::Shutdown => ("host_shutdown", "the host was shut down"),
                State::Rebooting => ("agent_restarting", "the agent restarts"),
                State::New | State::Up | State::Silent | State::Stopped => ("agent_stopped", "the agent was stopped"),
            };
            commit.appends.push(event(id, now, kind, text.to_owned()));
        }
        let changes = state.and_then(|state| entry.turn(state, now)).into_iter().collect();
        (commit, changes)
    }

    /// Decides `up` for each window that can be decided, and who has gone silent.
    pub(super) fn tick(&mut self, now: Timestamp) -> (Commit, Vec<Change>) {
        let mut samples: BTreeMap<Timestamp, Vec<(Labels, f64)>> = BTreeMap::new();
        let (mut commit, mut changes) = (Commit::default(), Vec::new());
        let in_grace = now.since(self.started) < START_GRACE;
        for entry in self.hosts.values_mut().filter(|entry| !entry.host.revoked) {
            for (stamp, up) in entry.decide(now, in_grace) {
                let labels = entry.host.labels().with(NAME, "up");
                samples.entry(stamp).or_default().extend(JOBS.map(|job| (labels.clone().with("job", job), up)));
            }
            if entry.is_silent(now, in_grace) {
                changes.extend(entry.turn(State::Silent, now));
                let text = format!("nothing came from {} since {}", entry.host.instance, entry.host.last_seen);
                commit.appends.push(event(entry.host.id, now, "host_silent", text));
                commit.records.push(entry.record());
            }
        }
        commit.appends.extend(samples.into_iter().map(|(stamp, samples)| Append::Own { stamp, samples }));
        (commit, changes)
    }

    pub(super) fn committed_through(&self) -> Timestamp {
        let followed = |entry: &&Entry| entry.session.is_some() && entry.state == State::Up;
        let latest = self.hosts.values().filter(followed).filter_map(|entry| entry.latest);
        latest.min().unwrap_or(Timestamp::from_millis(i64::MAX))
    }

    pub(super) fn snapshot(&self) -> Vec<HostState> {
        let state = |entry: &Entry| HostState {
            id: entry.host.id,
            instance: entry.host.instance.clone(),
            labels: entry.host.labels(),
            state: entry.state,
            since: entry.since,
            last_seen: entry.host.last_seen,
            address: entry.address,
            agent_version: entry.host.agent_version.clone(),
            connected: entry.session.is_some(),
        };
        self.hosts.values().map(state).collect()
    }
}

impl Entry {
    const fn new(host: Host, now: Timestamp) -> Self {
        Self {
            host,
            session: None,
            address: None,
            latest: None,
            in_time: Vec::new(),
            decided: None,
            state: State::New,
            since: now,
        }
    }

    fn record(&self) -> Record {
        Record::Host(Box::new(self.host.clone()))
    }

    /// Takes in who the agent says it is. Returns what that changed.
    fn greet(&mut self, hello: &Hello, now: Timestamp) -> Vec<Append> {
        let Self { host, .. } = self;
        let (id, labels) = (host.id, host.labels());
        let mut appends = Vec::new();
        let first = host.run.is_none();
        if host.boot_id.is_some_and(|boot_id| boot_id != hello.boot_id) {
            appends.push(event(id, now, "rebooted", format!("{} was booted", host.instance)));
        }
        host.run = Some(hello.run);
        host.boot_id = Some(hello.boot_id);
        host.agent_version.clone_from(&hello.agent_version);
        host.hostname.clone_from(&hello.hostname);
        host.agent_labels.clone_from(&hello.labels);
        host.last_seen = now;
        if first || host.labels() != labels {
            appends.push(Append::HostLabels { host: id, labels: host.labels() });
        }
        appends
    }

    /// The windows whose `up` is certain, in order.
    fn decide(&mut self, now: Timestamp, in_grace: bool) -> Vec<(Timestamp, f64)> {
        let mut up = Vec::new();
        let Some(mut decided) = self.decided else { return up };
        decided = decided.max(now.before(BEHIND_MAX).align_down(WINDOW));
        loop {
            let window = decided.after(WINDOW);
            if self.in_time.contains(&window) {
                up.push((window, 1.0));
            } else if now <= window.after(UP_WITHIN) {
                break;
            } else if !in_grace {
                up.push((window, 0.0));
            }
            decided = window;
        }
        self.decided = Some(decided);
        self.in_time.retain(|stamp| decided < *stamp);
        up
    }

    fn is_silent(&self, now: Timestamp, in_grace: bool) -> bool {
        let latest = self.latest.unwrap_or(self.host.last_seen);
        !in_grace && self.state == State::Up && latest.after(WINDOW + UP_WITHIN) < now
    }

    fn turn(&mut self, state: State, now: Timestamp) -> Option<Change> {
        if self.state == state {
            return None;
        }
        (self.state, self.since) = (state, now);
        Some(Change::Host(self.host.id, state))
    }
}

fn goodbye_state(goodbye: Option<u16>) -> Option<State> {
    match Reason::from(goodbye?) {
        Reason::Stopped => Some(State::Stopped),
        Reason::Shutdown => Some(State::Shutdown),
        Reason::Restart => Some(State::Rebooting),
        Reason::Error
        | Reason::Malformed
        | Reason::Unknown
        | Reason::Token
        | Reason::Revoked
        | Reason::Replaced
        | Reason::Limit
        | Reason::Expired => None,
    }
}

pub(super) fn event(host: HostId, at: Timestamp, kind: &str, text: String) -> Append {
    Append::Event { host, event: Event { at, kind: kind.to_owned(), entity: Labels::new(), text } }
}
