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

use crate::ingest::blind::Blind;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::hearing::Hearing;
use crate::ingest::hearing::RETURN_MAX;
use crate::ingest::hearing::Unheard;
use crate::ingest::presence::Change;
use crate::ingest::presence::HostChange;
use crate::ingest::presence::HostState;
use crate::ingest::presence::NotChanged;
use crate::ingest::presence::Opened;
use crate::ingest::presence::State;
use crate::ingest::session::End;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::record::Record;
use crate::store::record::hosts::Host;

/// A window committed later than this after its end did not come in time.
pub(super) const UP_WITHIN: Duration = Duration::from_secs(15);

/// A clock that jumped further than this is not followed window by window.
const BEHIND_MAX: Duration = Duration::from_secs(3_600);

/// How far ahead of the clock a window's stamp may be and still say that its host is there: clocks that are kept differ
/// by less, and a stamp from further ahead would speak for the host until then.
const AHEAD_MAX: Duration = Duration::from_secs(10 * 60);

/// The programs that the agent stands for: each has its own `up`.
const JOBS: [&str; 3] = ["cadvisor", "node", "process"];

/// All hosts.
#[derive(Debug)]
pub(super) struct Book {
    hearing: Hearing,
    blind: Blind,
    /// The window for which `lapwing_blind` is written.
    blind_written: Timestamp,
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
    dismissal: Dismissal,
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
            if entry.host.revoked {
                entry.state = State::Revoked;
            }
            (entry.host.id, entry)
        };
        Self {
            hearing: Hearing::new(now),
            blind: Blind::default(),
            blind_written: now.align_down(WINDOW),
            hosts: hosts.into_iter().map(entry).collect(),
            sessions: 0,
        }
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

    pub(super) fn renewed(&mut self, id: HostId, expires: Timestamp) -> Option<Record> {
        let entry = self.hosts.get_mut(&id)?;
        entry.host.certificate_expires = expires;
        Some(entry.record())
    }

    pub(super) fn change(
        &mut self,
        id: HostId,
        change: &HostChange,
        now: Timestamp,
    ) -> Result<(Commit, Vec<Change>), NotChanged> {
        let is_other = |entry: &Entry| entry.host.id != id && Some(&entry.host.instance) == change.instance.as_ref();
        if self.hosts.values().any(is_other) {
            return Err(NotChanged::Taken);
        }
        let entry = self.hosts.get_mut(&id).ok_or(NotChanged::Unknown)?;
        let mut appends = entry.relabel(now, |host| {
            if let Some(instance) = &change.instance {
                host.instance.clone_from(instance);
            }
            for (name, value) in &change.labels {
                host.operator_labels = std::mem::take(&mut host.operator_labels).with(name.as_str(), value.as_str());
            }
        });
        let mut changes = Vec::new();
        if change.revoke && !entry.host.revoked {
            entry.host.revoked = true;
            appends.push(event(id, now, "host_revoked", format!("{} was revoked", entry.host.instance)));
            appends.extend(entry.end_up(now));
            changes.extend(entry.turn(State::Revoked, now));
            entry.dismiss(End::revoked());
        }
        Ok((Commit { appends, records: vec![entry.record()] }, changes))
    }

    /// Forgets a host. Returns it, and what is cancelled when its session has ended.
    pub(super) fn remove(&mut self, id: HostId) -> Option<(Host, Option<CancellationToken>)> {
        let entry = self.hosts.remove(&id)?;
        entry.dismiss(End::forgotten());
        Some((entry.host, entry.session.map(|session| session.ended)))
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
            Session { number: self.sessions, dismissal: Dismissal::default(), ended: CancellationToken::new() };
        let (dismissal, ended) = (session.dismissal.clone(), session.ended.clone());
        let older = entry.session.replace(session).map(|older| {
            older.dismissal.give(End::replaced());
            older.ended
        });
        entry.address = Some(from);
        let opened = Opened {
            instance: entry.host.instance.clone(),
            number: self.sessions,
            dismissal,
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
        if now.after(AHEAD_MAX) < stamp {
            return changes;
        }
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
                State::New | State::Up | State::Silent | State::Stopped | State::Revoked => {
                    ("agent_stopped", "the agent was stopped")
                }
            };
            commit.appends.push(event(id, now, kind, text.to_owned()));
        }
        let changes = state.and_then(|state| entry.turn(state, now)).into_iter().collect();
        (commit, changes)
    }

    /// Decides `up` for each window that can be decided, and who has gone silent.
    pub(super) fn tick(&mut self, now: Timestamp, can_store: bool) -> (Commit, Vec<Change>) {
        self.look(now, can_store);
        let mut samples: BTreeMap<Timestamp, Vec<(Labels, f64)>> = BTreeMap::new();
        let (mut commit, mut changes) = (Commit::default(), Vec::new());
        let in_grace = self.hearing.is_grace(now);
        if !in_grace {
            self.forget(now, &mut commit);
            self.blind.look(&self.expected(), now);
        }
        let window = now.align_down(WINDOW);
        if self.blind_written < window {
            self.blind_written = window;
            let value = if self.blind.is_blind() { 1.0 } else { 0.0 };
            let samples = vec![(Labels::new().with(NAME, "lapwing_blind"), value)];
            commit.appends.push(Append::Own { stamp: window, samples });
        }
        for entry in self.hosts.values_mut().filter(|entry| !entry.host.revoked) {
            for (stamp, up) in entry.decide(now, in_grace) {
                samples.entry(stamp).or_default().extend(entry.up().map(|labels| (labels, up)));
            }
            if entry.is_silent(now, in_grace) {
                changes.extend(entry.turn(State::Silent, now));
                let seconds = now.since(entry.host.last_seen).as_secs();
                let text = format!("nothing came from {} for {seconds} s", entry.host.instance);
                commit.appends.push(event(entry.host.id, now, "host_silent", text));
                commit.records.push(entry.record());
            }
        }
        commit.appends.extend(samples.into_iter().map(|(stamp, samples)| Append::Own { stamp, samples }));
        (commit, changes)
    }

    /// Of whom nothing can be known at an evaluation.
    pub(super) fn unheard(&mut self, at: Timestamp, now: Timestamp, can_store: bool) -> Unheard {
        self.look(now, can_store);
        let through = self.hearing.deaf_through();
        if self.hearing.is_deaf(at) {
            return Unheard::Everybody;
        }
        let returning = at < through.after(RETURN_MAX + WINDOW);
        // Nobody misses a host from which nothing ever came.
        let expected = self.hosts.values().filter(|entry| !entry.host.revoked && entry.decided.is_some());
        let missing = expected.filter(|entry| {
            let unheard = returning && entry.latest.is_none_or(|latest| latest <= through);
            unheard || self.blind.vanished().contains(&entry.host.id)
        });
        Unheard::Instances(missing.map(|entry| entry.host.instance.clone()).collect())
    }

    /// The end of the latest window of each host that should be there: it did not say that it goes.
    fn expected(&self) -> BTreeMap<HostId, Timestamp> {
        let here = |state| matches!(state, State::Up | State::Silent);
        let expected = self.hosts.iter().filter(|(_, entry)| here(entry.state));
        expected.filter_map(|(id, entry)| Some((*id, entry.latest?))).collect()
    }

    fn look(&mut self, now: Timestamp, can_store: bool) {
        let set_back = self.hearing.look(now, can_store);
        if set_back.is_zero() {
            return;
        }
        for entry in self.hosts.values_mut() {
            entry.set_back(now);
            // Agents stamp by the time that they were told: they come again for the new one.
            if let Some(session) = entry.session.as_ref().filter(|_| AHEAD_MAX < set_back) {
                session.dismissal.give(End::set_back());
            }
        }
    }

    /// Forgets the ephemeral hosts that have been away for as long as they may. What they sent stays.
    fn forget(&mut self, now: Timestamp, commit: &mut Commit) {
        self.hosts.retain(|id, entry| {
            let kept = entry.session.is_some()
                || entry.host.ephemeral.is_none_or(|time| now.since(entry.host.last_seen) < time);
            if !kept {
                commit.records.push(Record::HostForgotten(*id));
                commit.appends.extend(entry.end_up(now));
            }
            kept
        });
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
            joined: entry.host.created,
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

    /// The series that say whether it is up.
    fn up(&self) -> [Labels; 3] {
        let labels = self.host.labels().with(NAME, "up");
        JOBS.map(|job| labels.clone().with("job", job))
    }

    /// Ends the series that say whether it is up, if there are any.
    fn end_up(&self, now: Timestamp) -> Option<Append> {
        self.decided.map(|_| Append::Stale { stamp: now.align_down(WINDOW), series: self.up().to_vec() })
    }

    fn dismiss(&self, end: End) {
        if let Some(session) = &self.session {
            session.dismissal.give(end);
        }
    }

    /// Changes what its labels are made of. Returns what follows: other labels are other series.
    fn relabel(&mut self, now: Timestamp, change: impl FnOnce(&mut Host)) -> Vec<Append> {
        let (before, ended) = (self.host.labels(), self.end_up(now));
        change(&mut self.host);
        let labels = self.host.labels();
        let ended = ended.filter(|_| labels != before);
        // Also labels that did not change: those of before may not have been stored.
        ended.into_iter().chain([Append::HostLabels { host: self.host.id, labels }]).collect()
    }

    fn record(&self) -> Record {
        Record::Host(Box::new(self.host.clone()))
    }

    /// Takes in who the agent says it is. Returns what is to be stored of that.
    fn greet(&mut self, hello: &Hello, now: Timestamp) -> Vec<Append> {
        let mut appends = self.relabel(now, |host| host.agent_labels.clone_from(&hello.labels));
        let Self { host, .. } = self;
        if host.boot_id.is_some_and(|boot_id| boot_id != hello.boot_id) {
            appends.push(event(host.id, now, "rebooted", format!("{} was booted", host.instance)));
        }
        host.run = Some(hello.run);
        host.boot_id = Some(hello.boot_id);
        host.agent_version.clone_from(&hello.agent_version);
        host.hostname.clone_from(&hello.hostname);
        host.last_seen = now;
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

    /// The clock was set back: what is known of the time after it speaks for nobody. `up` is never rewritten, so that it
    /// goes on where it ended, after at most [`AHEAD_MAX`].
    fn set_back(&mut self, now: Timestamp) {
        self.latest = self.latest.map(|latest| latest.min(now));
        self.decided = self.decided.map(|decided| decided.min(now.after(AHEAD_MAX).align_down(WINDOW)));
        self.in_time.retain(|stamp| *stamp <= now.after(AHEAD_MAX));
        self.host.last_seen = self.host.last_seen.min(now);
        self.since = self.since.min(now);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use common::batch::RunId;
    use futures::FutureExt as _;

    use super::*;

    const START: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(START + second)
    }

    fn host(agent_version: &str) -> Host {
        Host {
            id: HostId(1),
            key_hash: [1; 32],
            instance: "web".to_owned(),
            hostname: "web".to_owned(),
            token_labels: Labels::new(),
            agent_labels: Labels::new().with("env", "test"),
            operator_labels: Labels::new(),
            ephemeral: None,
            certificate_expires: at(1_000_000),
            created: at(0),
            revoked: false,
            agent_version: agent_version.to_owned(),
            boot_id: None,
            run: None,
            last_seen: at(0),
            goodbye: None,
        }
    }

    fn hello(boot_id: u8) -> Hello {
        Hello {
            agent_version: "0.1.0".to_owned(),
            run: RunId([1; 16]),
            schema_version: 0,
            spools: Vec::new(),
            codec_max: 1,
            boot_id: [boot_id; 16],
            hostname: "web".to_owned(),
            labels: Labels::new().with("env", "test"),
            wall: at(0),
            ext: Vec::new(),
        }
    }

    /// The samples of one of our own metrics.
    fn own(commit: Commit, name: &str) -> Vec<(Timestamp, Vec<(Labels, f64)>)> {
        let mut own = Vec::new();
        for append in commit.appends {
            if let Append::Own { stamp, samples } = append
                && samples[0].0.get(NAME) == name
            {
                own.push((stamp, samples));
            }
        }
        own
    }

    /// `up` of a host whose windows are committed at (stamp, moment), ticked each second until `until`: one character a
    /// window from second 10 on, `1`, `0`, or `.` for none.
    fn check(agent_version: &str, commits: &[(i64, i64)], until: i64, expect: &str) {
        let mut book = Book::new(vec![host(agent_version)], at(0));
        let mut up = vec!['.'; expect.len()];
        for second in 0..=until {
            for (stamp, _) in commits.iter().filter(|(_, moment)| *moment == second) {
                book.committed(HostId(1), at(*stamp), at(second));
            }
            for (stamp, samples) in own(book.tick(at(second), true).0, "up") {
                assert_eq!(samples.len(), JOBS.len());
                assert_eq!(samples[1].0.to_string(), r#"up{env="test", instance="web", job="node"}"#);
                let window = usize::try_from((stamp.as_millis() / 1_000 - START) / 10 - 1).unwrap();
                assert_eq!(up[window], '.', "`up` is never rewritten");
                up[window] = if samples[1].1 == 1.0 { '1' } else { '0' };
            }
        }
        assert_eq!(up.iter().collect::<String>(), expect);
    }

    #[test]
    fn a_window_that_comes_in_time_is_up_and_one_that_does_not_is_not() {
        check("", &[(70, 70), (80, 81), (90, 105)], 106, "......111.");
        check("", &[(70, 70), (80, 96), (90, 91)], 106, "......101.");
        check("", &[(70, 70)], 106, "......100.");
        check("", &[], 106, "..........");
    }

    #[test]
    fn who_is_absent_after_a_start_has_a_minute() {
        check("0.1.0", &[], 86, "....000.");
        check("0.1.0", &[(30, 31)], 66, "..1.0..");
        check("0.1.0", &[(80, 81), (10, 82)], 86, "....0001");
    }

    #[test]
    fn a_pulled_plug_shows_within_25_seconds() {
        let mut book = Book::new(vec![host("0.1.0")], at(0));
        misses(&mut book, 0..=100);
        book.committed(HostId(1), at(100), at(101));
        let silent =
            (101..).find(|second| book.tick(at(*second), true).1.contains(&Change::Host(HostId(1), State::Silent)));
        assert_eq!(silent, Some(126), "the next window would have ended at 110");
        assert_eq!(book.committed(HostId(1), at(200), at(201))[1], Change::Host(HostId(1), State::Up));
    }

    /// The moments from the first to the last second at which `up` of host 1 is decided to be 0, and those at which it
    /// goes silent.
    fn misses(book: &mut Book, seconds: std::ops::RangeInclusive<i64>) -> (Vec<i64>, Vec<i64>) {
        let (mut zeros, mut silent) = (Vec::new(), Vec::new());
        for second in seconds {
            let (commit, changes) = book.tick(at(second), true);
            let down = own(commit, "up").iter().any(|(_, samples)| samples[0].1 == 0.0);
            zeros.extend(down.then_some(second));
            silent.extend(changes.contains(&Change::Host(HostId(1), State::Silent)).then_some(second));
        }
        (zeros, silent)
    }

    #[test]
    fn an_aggregator_that_stood_still_blames_nobody() {
        let mut book = Book::new(vec![host("0.1.0")], at(0));
        misses(&mut book, 0..=110);
        book.committed(HostId(1), at(110), at(110));
        let (zeros, silent) = misses(&mut book, 700..=790);
        assert_eq!((zeros[0], silent[0]), (766, 760), "a minute after it goes on");
        assert_eq!(book.unheard(at(500), at(790), true), Unheard::Everybody);
        let gone = Unheard::Instances(["web".to_owned()].into());
        assert_eq!(book.unheard(at(710), at(790), true), gone, "it has not come back");
        book.committed(HostId(1), at(710), at(711));
        assert_eq!(book.unheard(at(710), at(790), true), Unheard::Instances(BTreeSet::new()));
    }

    #[test]
    fn a_clock_that_was_set_back_delays_nothing_for_long() {
        let mut book = Book::new(vec![host("0.1.0")], at(7_200));
        book.committed(HostId(1), at(7_300), at(7_301));
        misses(&mut book, 7_301..=7_310);
        let (zeros, silent) = misses(&mut book, 0..=700);
        assert_eq!((zeros.first(), silent), (Some(&626), vec![60]));
    }

    #[test]
    fn sessions_end_when_the_clock_is_set_far_back() {
        let check = |back: i64, expect| {
            let mut book = Book::new(vec![host("0.1.0")], at(7_200));
            let session = open(&mut book, 1, 7_201);
            misses(&mut book, 7_201..=7_210);
            misses(&mut book, 7_210 - back..=7_211 - back);
            assert_eq!(session.dismissal.given().now_or_never().is_some(), expect, "{back} s");
        };
        check(600, false);
        check(601, true);
    }

    #[test]
    fn a_window_from_the_far_future_says_nothing_about_its_host() {
        let mut book = Book::new(vec![host("0.1.0")], at(0));
        open(&mut book, 1, 1);
        misses(&mut book, 0..=100);
        book.committed(HostId(1), at(100), at(100));
        book.committed(HostId(1), at(701), at(100));
        assert_eq!(book.committed_through(), at(100));
        let (zeros, silent) = misses(&mut book, 101..=130);
        assert_eq!((zeros.last(), silent), (Some(&126), vec![126]));
    }

    fn open(book: &mut Book, boot_id: u8, now: i64) -> Opened {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        book.open(HostId(1), &hello(boot_id), from, at(now)).unwrap().0
    }

    #[test]
    fn when_most_hosts_vanish_their_silence_is_put_down_to_the_aggregator() {
        let name = |id: u32| format!("web-{id}");
        let hosts = (1..=8).map(|id| Host {
            id: HostId(id),
            key_hash: [u8::try_from(id).unwrap(); 32],
            instance: name(id),
            ..host("0.1.0")
        });
        let mut book = Book::new(hosts.collect(), at(0));
        let mut blind = Vec::new();
        for second in 1..=300 {
            // All send until 200, three go on, and all are back at 260.
            for id in 1..=8 {
                if second % 10 == 1 && (second <= 201 || 260 <= second || id <= 3) {
                    book.committed(HostId(id), at(second - 1), at(second));
                }
            }
            let (commit, _) = book.tick(at(second), true);
            blind.extend(own(commit, "lapwing_blind").iter().map(|(_, samples)| (second, samples[0].1)));
            let unheard = book.unheard(at(second), at(second), true);
            let hidden = (226..261).contains(&second);
            if 100 < second {
                let expect = if hidden { (4..=8).map(name).collect() } else { BTreeSet::new() };
                assert_eq!(unheard, Unheard::Instances(expect), "{second}");
            }
        }
        let blind_at: Vec<_> = blind.iter().filter(|(_, value)| *value == 1.0).map(|(second, _)| *second).collect();
        assert_eq!((blind.len(), blind_at), (30, vec![230, 240, 250, 260]));
    }

    fn dismissed(session: &Opened) -> Option<Reason> {
        session.dismissal.given().now_or_never().map(|end| end.reason)
    }

    #[test]
    fn an_operator_names_labels_and_revokes() {
        let other = Host { id: HostId(2), key_hash: [2; 32], instance: "db".to_owned(), ..host("") };
        let mut book = Book::new(vec![host("0.1.0"), other], at(0));
        let session = open(&mut book, 1, 1);
        let mut check = |change: HostChange, expect: Result<(&str, &[&str]), NotChanged>| {
            let changed = book.change(HostId(1), &change, at(7)).map(|(commit, _)| {
                let labels = book.hosts[&HostId(1)].host.labels().to_string();
                let appends = commit.appends.iter().map(|append| match append {
                    Append::Stale { series, .. } => format!("ends {}", series[1]),
                    Append::HostLabels { .. } => "labels".to_owned(),
                    Append::Event { event, .. } => event.kind.clone(),
                    Append::Schema { .. }
                    | Append::Batch { .. }
                    | Append::Own { .. }
                    | Append::Written { .. }
                    | Append::Forget { .. } => {
                        format!("{append:?}")
                    }
                });
                (labels, appends.collect::<Vec<_>>())
            });
            let expect = expect.map(|(labels, appends)| {
                (labels.to_owned(), appends.iter().map(|&append| append.to_owned()).collect::<Vec<_>>())
            });
            assert_eq!(changed, expect);
        };
        let rename = |name: &str| HostChange { instance: Some(name.to_owned()), ..HostChange::default() };
        let label = |name, value: &str| HostChange {
            labels: [(name, value)].map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned())).into(),
            ..HostChange::default()
        };
        let ends = |labels: &str| format!("ends up{{{labels}, job=\"node\"}}");
        check(rename("db"), Err(NotChanged::Taken));
        check(rename("web"), Ok((r#"{env="test", instance="web"}"#, &["labels"])));
        let ended = ends(r#"env="test", instance="web""#);
        check(rename("shop"), Ok((r#"{env="test", instance="shop"}"#, &[&ended, "labels"])));
        let ended = ends(r#"env="test", instance="shop""#);
        check(label("env", "prod"), Ok((r#"{env="prod", instance="shop"}"#, &[&ended, "labels"])));
        let ended = ends(r#"env="prod", instance="shop""#);
        check(label("env", ""), Ok((r#"{env="test", instance="shop"}"#, &[&ended, "labels"])));
        let (revoke, ended) =
            (HostChange { revoke: true, ..HostChange::default() }, ends(r#"env="test", instance="shop""#));
        let labels = r#"{env="test", instance="shop"}"#;
        check(revoke.clone(), Ok((labels, &["labels", "host_revoked", &ended])));
        check(revoke.clone(), Ok((labels, &["labels"])));
        assert_eq!(dismissed(&session), Some(Reason::Revoked));
        assert_eq!(book.change(HostId(3), &revoke, at(7)).err(), Some(NotChanged::Unknown));
    }

    #[test]
    fn a_newer_session_replaces_the_older() {
        let mut book = Book::new(vec![host("")], at(0));
        let older = open(&mut book, 1, 1);
        assert!(older.older.is_none());
        let newer = open(&mut book, 1, 2);
        assert_eq!((dismissed(&older), dismissed(&newer)), (Some(Reason::Replaced), None));
        older.ended.cancel();
        assert!(newer.older.unwrap().is_cancelled(), "the newer waits for the older to end");
        assert!(book.close(HostId(1), older.number, None, at(3)).0.records.is_empty());
        assert!(book.snapshot()[0].connected);
    }

    #[test]
    fn an_ephemeral_host_is_forgotten_when_it_has_been_away_for_its_time() {
        let mut book = Book::new(vec![Host { ephemeral: Some(Duration::from_secs(100)), ..host("") }], at(0));
        let session = open(&mut book, 1, 1);
        let mut forgotten = None;
        for second in 1..400 {
            if second <= 200 {
                book.committed(HostId(1), at(second - second % 10), at(second));
            }
            if second == 250 {
                drop(book.close(HostId(1), session.number, None, at(second)));
            }
            let commit = book.tick(at(second), true).0;
            if commit.records.iter().any(|record| matches!(record, Record::HostForgotten(HostId(1)))) {
                let marked =
                    |append: &Append| matches!(append, Append::Stale { series, .. } if series.len() == JOBS.len());
                assert!(commit.appends.iter().any(marked), "{commit:?}");
                assert_eq!(forgotten.replace(second), None);
            }
        }
        assert_eq!(forgotten, Some(300));
        assert!(book.snapshot().is_empty());
    }

    #[test]
    fn labels_are_handed_in_at_each_greeting() {
        let mut book = Book::new(vec![host("")], at(0));
        for second in 1..4 {
            let labels = open(&mut book, 1, second).commit.appends;
            // What was handed in before may not have been stored.
            assert!(matches!(&labels[..], [Append::HostLabels { .. }]), "{labels:?}");
        }
    }

    #[test]
    fn a_clean_end_is_told_from_a_silent_one_and_a_reboot_from_a_restart() {
        let mut book = Book::new(vec![host("")], at(0));
        let session = open(&mut book, 1, 1);
        book.committed(HostId(1), at(10), at(10));
        let (commit, changes) = book.close(HostId(1), session.number, Some(Reason::Shutdown), at(11));
        assert_eq!(changes, [Change::Host(HostId(1), State::Shutdown)]);
        assert!(matches!(&commit.appends[0], Append::Event { event, .. } if event.kind == "host_shutdown"));
        let reboots = |opened: Opened| {
            let kinds = opened.commit.appends.into_iter().filter_map(|append| match append {
                Append::Event { event, .. } => Some(event.kind),
                Append::Schema { .. }
                | Append::Batch { .. }
                | Append::HostLabels { .. }
                | Append::Own { .. }
                | Append::Stale { .. }
                | Append::Written { .. }
                | Append::Forget { .. } => None,
            });
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(reboots(open(&mut book, 1, 20)), Vec::<String>::new());
        assert_eq!(reboots(open(&mut book, 2, 30)), ["rebooted"]);
    }

    #[test]
    fn evaluation_waits_for_the_slowest_host_that_is_up() {
        let other = Host { id: HostId(2), key_hash: [2; 32], instance: "db".to_owned(), ..host("") };
        let mut book = Book::new(vec![host(""), other], at(0));
        assert_eq!(book.committed_through(), Timestamp::from_millis(i64::MAX));
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        for id in [1, 2] {
            book.open(HostId(id), &hello(1), from, at(1)).unwrap();
            book.committed(HostId(id), at(10 * i64::from(id)), at(20));
        }
        assert_eq!(book.committed_through(), at(10));
    }
}
