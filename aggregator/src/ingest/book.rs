//! What is known of each host at a moment, and what follows from time passing. Pure.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;

use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use common::wire::message::ANSWERS_RECALL;
use common::wire::message::Hello;
use common::wire::message::Reason;
use common::wire::message::SpoolHeld;
use common::wire::message::TAKES_SETTINGS;
use common::wire::message::read_abilities;
use common::wire::message::read_spool_ends;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Policy;
use crate::ingest::blind::Blind;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::entry::AHEAD_MAX;
use crate::ingest::entry::Entry;
use crate::ingest::entry::Session;
use crate::ingest::entry::UP_WITHIN;
use crate::ingest::entry::event;
use crate::ingest::entry::goodbye_state;
use crate::ingest::hearing::Hearing;
use crate::ingest::hearing::RETURN_MAX;
use crate::ingest::hearing::Unheard;
use crate::ingest::holes::Hole;
use crate::ingest::holes::Holes;
use crate::ingest::obituary::Obituary;
use crate::ingest::policy;
use crate::ingest::policy::Settlement;
use crate::ingest::presence::Change;
use crate::ingest::presence::HostChange;
use crate::ingest::presence::HostState;
use crate::ingest::presence::NotChanged;
use crate::ingest::presence::Opened;
use crate::ingest::presence::State;
use crate::ingest::recall;
use crate::ingest::recall::Asks;
use crate::ingest::recall::NotRecalled;
use crate::ingest::session::End;
use crate::ingest::through::Through;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommittedBatch;
use crate::store::record::Record;
use crate::store::record::hosts::Host;
use crate::store::record::windows::Windows;

/// All hosts.
#[derive(Debug)]
pub(super) struct Book {
    hearing: Hearing,
    blind: Blind,
    /// The window for which `lapwing_blind` is written.
    blind_written: Timestamp,
    hosts: BTreeMap<HostId, Entry>,
    /// Whose keys they are. Of a host that was forgotten, or has another key, it may say more than there is.
    keys: HashMap<[u8; 32], HostId>,
    through: Through,
    sessions: u64,
    /// What is set of the configuration of agents.
    policies: Vec<Policy>,
}

impl Book {
    pub(super) fn new(hosts: Vec<Host>, windows: Vec<Windows>, now: Timestamp) -> Self {
        let mut holes: BTreeMap<_, _> =
            windows.into_iter().map(|windows| (windows.host, Holes::new(windows))).collect();
        let entry = |host: Host| {
            let holes = holes.remove(&host.id).unwrap_or_default();
            let mut entry = Entry { holes, ..Entry::new(host, now) };
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
            keys: hosts.iter().map(|host| (host.key_hash, host.id)).collect(),
            hosts: hosts.into_iter().map(entry).collect(),
            through: Through::default(),
            sessions: 0,
            policies: Vec::new(),
        }
    }

    /// Sets a part of the configuration of agents.
    pub(super) fn set(&mut self, policies: Vec<Policy>) {
        self.policies = policies;
        self.hosts.values_mut().for_each(|entry| entry.set(&self.policies));
    }

    /// An agent says what became of that.
    pub(super) fn settled(&mut self, id: HostId, settled: Settlement) {
        if let Some(entry) = self.hosts.get_mut(&id) {
            entry.settled = settled;
        }
    }

    /// Before this, nobody could be heard.
    pub(super) fn hear_from(&mut self, now: Timestamp) {
        self.hearing = Hearing::new(now);
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().map(|entry| &entry.host)
    }

    /// The host that a key belongs to.
    pub(super) fn by_key(&self, key_hash: [u8; 32]) -> Option<&Host> {
        let host = &self.hosts.get(self.keys.get(&key_hash)?)?.host;
        (host.key_hash == key_hash).then_some(host)
    }

    /// How many hosts there are.
    pub(super) fn fleet(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn enrolled(&mut self, host: Host, now: Timestamp) {
        self.keys.insert(host.key_hash, host.id);
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
    ) -> Result<(Commit, HostChange, Vec<Change>), NotChanged> {
        let is_other = |entry: &Entry| entry.host.id != id && Some(&entry.host.instance) == change.instance.as_ref();
        if self.hosts.values().any(is_other) {
            return Err(NotChanged::Taken);
        }
        let entry = self.hosts.get_mut(&id).ok_or(NotChanged::Unknown)?;
        let back = change.back_to(&entry.host);
        let revoke = change.revoke && !entry.host.revoked;
        let mut appends = if revoke { entry.end_own() } else { Vec::new() };
        entry.host.revoked |= revoke;
        appends.extend(entry.relabel(|host| {
            if let Some(instance) = &change.instance {
                host.instance.clone_from(instance);
            }
            for (name, value) in &change.labels {
                host.operator_labels = std::mem::take(&mut host.operator_labels).with(name.as_str(), value.as_str());
            }
        }));
        entry.set(&self.policies);
        let mut changes = Vec::new();
        if revoke {
            appends.push(event(id, now, "host_revoked", format!("{} was revoked", entry.host.instance)));
            changes.extend(entry.turn(State::Revoked, now));
            entry.dismiss(End::revoked());
            self.through.note(id, entry.followed());
        }
        Ok((Commit { appends, records: vec![entry.record()] }, back, changes))
    }

    /// Forgets a host. Returns it, and what is cancelled when its session has ended.
    pub(super) fn remove(&mut self, id: HostId) -> Option<(Host, Option<CancellationToken>)> {
        let entry = self.hosts.remove(&id)?;
        self.keys.remove(&entry.host.key_hash);
        self.through.note(id, None);
        entry.dismiss(End::forgotten());
        Some((entry.host, entry.session.map(|session| session.ended)))
    }

    pub(super) fn open(
        &mut self,
        id: HostId,
        hello: &Hello,
        from: SocketAddr,
        now: Timestamp,
    ) -> Result<(Opened, Vec<Change>), (End, Commit)> {
        let entry = self.hosts.get_mut(&id).ok_or_else(|| (End::unknown(), Commit::default()))?;
        let left = entry.left.filter(|_| entry.session.is_none());
        if let Some(copied) = entry.lineage.judge(hello, left, now) {
            let appends = entry.keep_out(from, now).into_iter().collect();
            return Err((End::copied(copied), Commit { appends, records: Vec::new() }));
        }
        self.sessions += 1;
        entry.lineage.greet(hello, self.sessions);
        let appends = entry.greet(hello, now);
        let (asks, recalls) = recall::channel();
        let can = |ability| read_abilities(&hello.ext) & ability != 0;
        let settings =
            can(TAKES_SETTINGS).then(|| watch::Sender::new(policy::settings(&self.policies, &entry.host.labels())));
        let told = settings.as_ref().map(watch::Sender::subscribe);
        entry.settled = Settlement::Unknown;
        let session = Session {
            number: self.sessions,
            dismissal: Dismissal::default(),
            ended: CancellationToken::new(),
            asks: can(ANSWERS_RECALL).then_some(asks),
            settings,
        };
        let (dismissal, ended) = (session.dismissal.clone(), session.ended.clone());
        let older = entry.session.replace(session).map(|older| {
            older.dismissal.give(End::replaced());
            older.ended
        });
        entry.address = Some(from);
        self.through.note(id, entry.followed());
        let opened = Opened {
            instance: entry.host.instance.clone(),
            number: self.sessions,
            dismissal,
            ended,
            older,
            recalls,
            settings: told,
            commit: Commit { appends, records: vec![entry.record()] },
        };
        Ok((opened, Vec::new()))
    }

    /// Something came in a session: its agent has heard its welcome.
    pub(super) fn welcomed(&mut self, id: HostId, number: u64) {
        if let Some(entry) = self.hosts.get_mut(&id) {
            entry.lineage.welcomed(number);
        }
    }

    /// Where questions to the recorder of a host are put.
    pub(super) fn asks(&self, id: HostId) -> Result<Asks, NotRecalled> {
        let session = self.hosts.get(&id).and_then(|entry| entry.session.as_ref()).ok_or(NotRecalled::Away)?;
        session.asks.clone().ok_or(NotRecalled::Unable)
    }

    /// What the aggregator holds of the spools that a host greeted with.
    pub(super) fn holds(&mut self, id: HostId, hello: &Hello, held: &[SpoolHeld]) {
        if let Some(entry) = self.hosts.get_mut(&id) {
            entry.holes.greet(hello.run, held, &read_spool_ends(&hello.ext), entry.how);
        }
    }

    /// Batches of a host arrive. Returns what is to be stored with them, and what is known of its windows if it is.
    pub(super) fn arrive(&self, id: HostId, batches: &[&EncodedBatch], now: Timestamp) -> Option<(Commit, Holes)> {
        let entry = self.hosts.get(&id).filter(|_| !batches.is_empty())?;
        let mut after = entry.holes.clone();
        if entry.holes.obituary().is_some() {
            after.told();
        }
        let credible = |batch: &&&EncodedBatch| batch.stamp <= now.after(AHEAD_MAX);
        batches.iter().filter(credible).for_each(|batch| after.arrive(batch));
        let holes = after.settle();
        let records = vec![Record::Windows(after.record(id, &holes))];
        Some((Commit { appends: holes.iter().map(|hole| missing(id, hole)).collect(), records }, after))
    }

    /// What is to be told with the next batches of a host, and its `instance`.
    pub(super) fn obituary(&self, id: HostId) -> Option<(Obituary, String)> {
        let entry = self.hosts.get(&id)?;
        Some((entry.holes.obituary()?, entry.host.instance.clone()))
    }

    /// What [`Self::arrive`] returned is durable.
    pub(super) fn arrived(&mut self, id: HostId, holes: Holes) {
        if let Some(entry) = self.hosts.get_mut(&id) {
            entry.holes = holes;
        }
    }

    pub(super) fn committed(
        &mut self,
        &CommittedBatch { host: id, stamp, missing, .. }: &CommittedBatch,
        now: Timestamp,
    ) -> Vec<Change> {
        let Some(entry) = self.hosts.get_mut(&id) else { return Vec::new() };
        let mut changes = vec![Change::Window(id, stamp)];
        entry.holes.add(missing);
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
        self.through.note(id, entry.followed());
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
        entry.left = Some(now);
        entry.host.goodbye = goodbye.map(|reason| reason as u16);
        let mut commit = Commit { appends: Vec::new(), records: vec![entry.record()] };
        let state = goodbye_state(entry.host.goodbye);
        if let Some(state) = state {
            entry.holes.excuse();
            commit.records.push(Record::Windows(entry.holes.record(id, &[])));
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
        self.through.note(id, entry.followed());
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
            if let Some(missing) = entry.tell_missing(window) {
                samples.entry(window).or_default().push((entry.missing(), missing));
            }
            if entry.is_silent(now, in_grace) {
                changes.extend(entry.turn(State::Silent, now));
                self.through.note(entry.host.id, entry.followed());
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
            self.through.note(entry.host.id, entry.followed());
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
                self.keys.remove(&entry.host.key_hash);
                self.through.note(*id, None);
                commit.records.push(Record::HostForgotten(*id));
                commit.appends.extend(entry.end_own());
            }
            kept
        });
    }

    /// The stamp up to which the windows of all hosts that are in session and up are committed.
    pub(super) fn committed_through(&self) -> Timestamp {
        self.through.all()
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
            kept_out: entry.lineage.kept_out(),
            settled: entry.settled.clone(),
            settings: entry.session.as_ref().and_then(|session| Some(session.settings.as_ref()?.borrow().to_string())),
        };
        self.hosts.values().map(state).collect()
    }
}

/// The event that tells of windows between two processes of an agent that will not come.
fn missing(host: HostId, hole: &Hole) -> Append {
    let seconds = (hole.until.before(WINDOW)).since(hole.after).as_secs();
    let text = format!("{} windows are missing, {seconds} s: the agent ended there without a word", hole.missing);
    event(host, hole.until, "windows_missing", text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use common::batch::RunId;
    use common::batch::Seq;
    use common::batch::SpoolId;
    use futures::FutureExt as _;

    use super::*;
    use crate::ingest::entry::JOBS;

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
            let Append::Own { stamp, mut samples } = append else { continue };
            samples.retain(|(labels, _)| labels.get(NAME) == name);
            own.extend((!samples.is_empty()).then_some((stamp, samples)));
        }
        own
    }

    /// The window that ends at `stamp` is committed.
    fn commit(book: &mut Book, host: u32, stamp: i64, now: i64) -> Vec<Change> {
        let (host, spool, next, stamp) = (HostId(host), SpoolId([2; 16]), Seq(0), at(stamp));
        book.committed(&CommittedBatch { host, spool, next, stamp, samples: None, missing: 0 }, at(now))
    }

    /// `up` of a host whose windows are committed at (stamp, moment), ticked each second until `until`: one character a
    /// window from second 10 on, `1`, `0`, or `.` for none.
    fn check(agent_version: &str, commits: &[(i64, i64)], until: i64, expect: &str) {
        let mut book = Book::new(vec![host(agent_version)], Vec::new(), at(0));
        let mut up = vec!['.'; expect.len()];
        for second in 0..=until {
            for (stamp, _) in commits.iter().filter(|(_, moment)| *moment == second) {
                commit(&mut book, 1, *stamp, second);
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
        let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(0));
        misses(&mut book, 0..=100);
        commit(&mut book, 1, 100, 101);
        let silent =
            (101..).find(|second| book.tick(at(*second), true).1.contains(&Change::Host(HostId(1), State::Silent)));
        assert_eq!(silent, Some(126), "the next window would have ended at 110");
        assert_eq!(commit(&mut book, 1, 200, 201)[1], Change::Host(HostId(1), State::Up));
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
        let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(0));
        misses(&mut book, 0..=110);
        commit(&mut book, 1, 110, 110);
        let (zeros, silent) = misses(&mut book, 700..=790);
        assert_eq!((zeros[0], silent[0]), (766, 760), "a minute after it goes on");
        assert_eq!(book.unheard(at(500), at(790), true), Unheard::Everybody);
        let gone = Unheard::Instances(["web".to_owned()].into());
        assert_eq!(book.unheard(at(710), at(790), true), gone, "it has not come back");
        commit(&mut book, 1, 710, 711);
        assert_eq!(book.unheard(at(710), at(790), true), Unheard::Instances(BTreeSet::new()));
    }

    #[test]
    fn a_clock_that_was_set_back_delays_nothing_for_long() {
        let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(7_200));
        commit(&mut book, 1, 7_300, 7_301);
        misses(&mut book, 7_301..=7_310);
        let (zeros, silent) = misses(&mut book, 0..=700);
        assert_eq!((zeros.first(), silent), (Some(&626), vec![60]));
    }

    #[test]
    fn sessions_end_when_the_clock_is_set_far_back() {
        let check = |back: i64, expect| {
            let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(7_200));
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
        let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(0));
        open(&mut book, 1, 1);
        misses(&mut book, 0..=100);
        commit(&mut book, 1, 100, 100);
        commit(&mut book, 1, 701, 100);
        assert_eq!(book.committed_through(), at(100));
        let (zeros, silent) = misses(&mut book, 101..=130);
        assert_eq!((zeros.last(), silent), (Some(&126), vec![126]));
    }

    #[test]
    fn what_is_missing_is_written_each_minute_and_when_it_changes() {
        let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(0));
        let mut told = Vec::new();
        for second in 1..=200 {
            if second == 133 {
                let lost = CommittedBatch {
                    host: HostId(1),
                    spool: SpoolId([2; 16]),
                    next: Seq(9),
                    stamp: at(130),
                    samples: Some(1),
                    missing: 8,
                };
                book.committed(&lost, at(second));
            }
            let samples = own(book.tick(at(second), true).0, "lapwing_windows_missing_total");
            told.extend(samples.into_iter().map(|(stamp, samples)| (stamp.since(at(0)).as_secs(), samples[0].1)));
        }
        assert_eq!(told, [(60, 0.0), (120, 0.0), (130, 8.0), (190, 8.0)]);
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
        let mut book = Book::new(hosts.collect(), Vec::new(), at(0));
        let mut blind = Vec::new();
        for second in 1..=300 {
            // All send until 200, three go on, and all are back at 260.
            for id in 1..=8 {
                if second % 10 == 1 && (second <= 201 || 260 <= second || id <= 3) {
                    commit(&mut book, id, second - 1, second);
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
        let mut book = Book::new(vec![host("0.1.0"), other], Vec::new(), at(0));
        let session = open(&mut book, 1, 1);
        let mut check = |change: HostChange, expect: Result<(&str, &[&str]), NotChanged>| {
            let changed = book.change(HostId(1), &change, at(7)).map(|(commit, ..)| {
                let labels = book.hosts[&HostId(1)].host.labels().to_string();
                let appends = commit.appends.iter().map(|append| match append {
                    Append::Stale { series, .. } => format!("ends {}", series.last().unwrap()),
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
        let ends = |labels: &str| {
            let up = format!(r#"ends up{{{labels}, job="process"}}"#);
            (up, format!("ends lapwing_windows_missing_total{{{labels}}}"))
        };
        check(rename("db"), Err(NotChanged::Taken));
        check(rename("web"), Ok((r#"{env="test", instance="web"}"#, &["labels"])));
        let (up, missing) = ends(r#"env="test", instance="web""#);
        check(rename("shop"), Ok((r#"{env="test", instance="shop"}"#, &[&up, &missing, "labels"])));
        let (up, missing) = ends(r#"env="test", instance="shop""#);
        check(label("env", "prod"), Ok((r#"{env="prod", instance="shop"}"#, &[&up, &missing, "labels"])));
        let (up, missing) = ends(r#"env="prod", instance="shop""#);
        check(label("env", ""), Ok((r#"{env="test", instance="shop"}"#, &[&up, &missing, "labels"])));
        let revoke = HostChange { revoke: true, ..HostChange::default() };
        let (up, missing) = ends(r#"env="test", instance="shop""#);
        let labels = r#"{env="test", instance="shop"}"#;
        check(revoke.clone(), Ok((labels, &[&up, &missing, "labels", "host_revoked"])));
        check(revoke.clone(), Ok((labels, &["labels"])));
        check(rename("gone"), Ok((r#"{env="test", instance="gone"}"#, &["labels"])));
        assert_eq!(dismissed(&session), Some(Reason::Revoked));
        assert_eq!(book.change(HostId(3), &revoke, at(7)).err(), Some(NotChanged::Unknown));
    }

    #[test]
    fn a_change_that_was_refused_is_taken_back_but_for_who_is_kept_out() {
        let given = Host { operator_labels: Labels::new().with("team", "shop"), ..host("0.1.0") };
        let before = given.labels();
        let mut book = Book::new(vec![given], Vec::new(), at(0));
        let labels = [("env", "prod"), ("team", ""), ("rack", "7")];
        let change = HostChange {
            instance: Some("db".to_owned()),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            revoke: true,
        };
        let (_, back, _) = book.change(HostId(1), &change, at(7)).unwrap();
        let expect = Labels::new().with("env", "prod").with("instance", "db").with("rack", "7");
        assert_eq!(book.snapshot()[0].labels, expect);
        book.change(HostId(1), &back, at(8)).unwrap();
        let taken_back = book.snapshot().remove(0);
        assert_eq!((taken_back.labels, taken_back.state), (before, State::Revoked));
    }

    #[test]
    fn what_is_written_of_a_host_ends_behind_its_last_sample_where_it_goes_on_with_other_labels() {
        let instance = |labels: &Labels| labels.get("instance").to_owned();
        // A host that is renamed at each second of a window and a half.
        for renamed in 160..175 {
            let mut book = Book::new(vec![host("0.1.0")], Vec::new(), at(0));
            let mut written: BTreeMap<(String, String), Vec<(Timestamp, char)>> = BTreeMap::new();
            for second in 100..240 {
                if second % 10 == 3 {
                    commit(&mut book, 1, second - 3, second);
                }
                let mut appends = book.tick(at(second), true).0.appends;
                if second == renamed {
                    let rename = HostChange { instance: Some("shop".to_owned()), ..HostChange::default() };
                    appends.extend(book.change(HostId(1), &rename, at(second)).unwrap().0.appends);
                }
                for append in appends {
                    let own = |(of, _): (Labels, f64)| of;
                    let (stamp, what, of) = match append {
                        Append::Own { stamp, samples } => (stamp, '+', samples.into_iter().map(own).collect()),
                        Append::Stale { stamp, series } => (stamp, '!', series),
                        Append::Schema { .. }
                        | Append::Batch { .. }
                        | Append::HostLabels { .. }
                        | Append::Written { .. }
                        | Append::Event { .. }
                        | Append::Forget { .. } => continue,
                    };
                    for of in of.iter().filter(|of| !instance(of).is_empty() && ["", "node"].contains(&of.get("job"))) {
                        written.entry((of.get(NAME).to_owned(), instance(of))).or_default().push((stamp, what));
                    }
                }
            }
            for ((name, instance), all) in &written {
                assert!(all.is_sorted_by(|one, next| one.0 < next.0), "{name} of {instance}, {renamed}: {all:?}");
                assert_eq!(all.last().unwrap().1 == '!', instance == "web", "{name}, {renamed}: {all:?}");
            }
            let up = |instance: &str| &written[&("up".to_owned(), instance.to_owned())];
            assert_eq!(up("web").last().unwrap().0, up("shop")[0].0, "{renamed}");
            let missing = |instance: &str| &written[&("lapwing_windows_missing_total".to_owned(), instance.to_owned())];
            let between = missing("shop")[0].0.since(missing("web").last().unwrap().0);
            assert!(between <= WINDOW, "{renamed}: {between:?}");
        }
    }

    #[test]
    fn a_newer_session_replaces_the_older() {
        let mut book = Book::new(vec![host("")], Vec::new(), at(0));
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
        let mut book =
            Book::new(vec![Host { ephemeral: Some(Duration::from_secs(100)), ..host("") }], Vec::new(), at(0));
        let session = open(&mut book, 1, 1);
        let mut forgotten = None;
        for second in 1..400 {
            if second <= 200 {
                commit(&mut book, 1, second - second % 10, second);
            }
            if second == 250 {
                drop(book.close(HostId(1), session.number, None, at(second)));
            }
            let commit = book.tick(at(second), true).0;
            if commit.records.iter().any(|record| matches!(record, Record::HostForgotten(HostId(1)))) {
                let all = JOBS.len() + 1;
                let marked = |append: &Append| if let Append::Stale { series, .. } = append { series.len() } else { 0 };
                assert_eq!(commit.appends.iter().map(marked).sum::<usize>(), all, "{commit:?}");
                assert_eq!(forgotten.replace(second), None);
            }
        }
        assert_eq!(forgotten, Some(300));
        assert!(book.snapshot().is_empty());
    }

    #[test]
    fn what_is_written_of_a_revoked_host_ends_once() {
        let ephemeral = Host { ephemeral: Some(Duration::from_secs(100)), revoked: true, ..host("0.1.0") };
        // After a restart, too.
        let mut book =
            Book::new(vec![ephemeral, Host { id: HostId(2), key_hash: [2; 32], ..host("0.1.0") }], Vec::new(), at(0));
        let ticks: Vec<Commit> = (1..=200).map(|second| book.tick(at(second), true).0).collect();
        let is_gone = |record: &Record| matches!(record, Record::HostForgotten(HostId(1)));
        assert!(ticks.iter().flat_map(|commit| &commit.records).any(is_gone));
        assert!(!ticks.iter().flat_map(|commit| &commit.appends).any(|append| matches!(append, Append::Stale { .. })));
        // With a name that it never had before.
        let change = HostChange { revoke: true, instance: Some("shop".to_owned()), ..HostChange::default() };
        let (renamed, ..) = book.change(HostId(2), &change, at(200)).unwrap();
        let marked =
            |append: &Append| if let Append::Stale { series, .. } = append { series.clone() } else { Vec::new() };
        let marked = renamed.appends.iter().flat_map(marked);
        let marked: BTreeSet<_> = marked.map(|labels| labels.get("instance").to_owned()).collect();
        assert_eq!(marked, BTreeSet::from(["web".to_owned()]));
    }

    #[test]
    fn labels_are_handed_in_at_each_greeting() {
        let mut book = Book::new(vec![host("")], Vec::new(), at(0));
        for second in 1..4 {
            let labels = open(&mut book, 1, second).commit.appends;
            // What was handed in before may not have been stored.
            assert!(matches!(&labels[..], [Append::HostLabels { .. }]), "{labels:?}");
        }
    }

    #[test]
    fn a_clean_end_is_told_from_a_silent_one_and_a_reboot_from_a_restart() {
        let mut book = Book::new(vec![host("")], Vec::new(), at(0));
        let session = open(&mut book, 1, 1);
        commit(&mut book, 1, 10, 10);
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
        let mut book = Book::new(vec![host(""), other], Vec::new(), at(0));
        assert_eq!(book.committed_through(), Timestamp::from_millis(i64::MAX));
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        for id in [1, 2] {
            book.open(HostId(id), &hello(1), from, at(1)).unwrap();
            commit(&mut book, id, 10 * i64::from(id), 20);
        }
        assert_eq!(book.committed_through(), at(10));
    }
}
