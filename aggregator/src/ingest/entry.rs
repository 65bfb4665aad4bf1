//! What is known of one host at a moment, and what follows from time passing for it. Pure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::batch::Event;
use common::batch::HostId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use common::wire::message::Hello;
use common::wire::message::Reason;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Policy;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::holes::Holes;
use crate::ingest::lineage::Lineage;
use crate::ingest::obituary::How;
use crate::ingest::policy;
use crate::ingest::policy::Settlement;
use crate::ingest::presence::Change;
use crate::ingest::presence::State;
use crate::ingest::recall::Asks;
use crate::ingest::session::End;
use crate::store::commit::Append;
use crate::store::record::Record;
use crate::store::record::hosts::Host;

/// A window committed later than this after its end did not come in time.
pub(super) const UP_WITHIN: Duration = Duration::from_secs(15);

/// A clock that jumped further than this is not followed window by window.
const BEHIND_MAX: Duration = Duration::from_secs(3_600);

/// How often it is written how many windows of a host will not come, besides when that changes: a query looks back for five
/// minutes.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The programs that the agent stands for: each has its own `up`.
pub(super) const JOBS: [&str; 3] = ["cadvisor", "node", "process"];

/// How far ahead of the clock a window's stamp may be and still say that its host is there: clocks that are kept differ
/// by less, and a stamp from further ahead would speak for the host until then.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(10 * 60);

/// One host.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) host: Host,
    pub(super) session: Option<Session>,
    pub(super) address: Option<SocketAddr>,
    /// When its latest session ended.
    pub(super) left: Option<Timestamp>,
    pub(super) lineage: Lineage,
    /// What its agent says became of its settings.
    pub(super) settled: Settlement,
    /// The latest window that was committed since the start.
    pub(super) latest: Option<Timestamp>,
    /// Windows that came in time and for which `up` is not written.
    pub(super) in_time: Vec<Timestamp>,
    /// The window up to which `up` is decided; none before the first window.
    pub(super) decided: Option<Timestamp>,
    pub(super) state: State,
    pub(super) since: Timestamp,
    pub(super) holes: Holes,
    /// How the process of its agent ended that was there before the one that greeted last.
    pub(super) how: How,
    /// The window for which it was written how many are missing, and how many that were, if its labels are those still.
    pub(super) told: (Timestamp, Option<u64>),
}

/// A session of its agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) dismissal: Dismissal,
    pub(super) ended: CancellationToken,
    /// Where questions to its recorder are put, if it answers them.
    pub(super) asks: Option<Asks>,
    /// What is set of its configuration, if it takes that.
    pub(super) settings: Option<watch::Sender<Arc<str>>>,
}

impl Entry {
    pub(super) fn new(host: Host, now: Timestamp) -> Self {
        Self {
            host,
            session: None,
            address: None,
            left: None,
            lineage: Lineage::default(),
            settled: Settlement::default(),
            latest: None,
            in_time: Vec::new(),
            decided: None,
            state: State::New,
            since: now,
            holes: Holes::default(),
            how: How::Killed,
            told: (now.align_down(WINDOW), Some(0)),
        }
    }

    /// The series that say whether it is up.
    pub(super) fn up(&self) -> [Labels; 3] {
        let labels = self.host.labels().with(NAME, "up");
        JOBS.map(|job| labels.clone().with("job", job))
    }

    /// The series that counts its windows that will not come.
    pub(super) fn missing(&self) -> Labels {
        self.host.labels().with(NAME, "lapwing_windows_missing_total")
    }

    /// How many windows will not come, if that is to be written for this window.
    #[expect(clippy::cast_precision_loss, reason = "2^53 at most")]
    pub(super) fn tell_missing(&mut self, window: Timestamp) -> Option<f64> {
        let (told, before) = self.told;
        let missing = self.holes.missing();
        let due = told < window && (before != Some(missing) || TOLD_EVERY <= window.since(told));
        if !due || self.decided.is_none() {
            return None;
        }
        self.told = (window, Some(missing));
        Some(missing as f64)
    }

    /// Ends the series that the aggregator writes about it, if there are any, each where its next sample would be: what is
    /// written stays, and one that goes on with other labels does so there or behind it.
    pub(super) fn end_own(&self) -> Vec<Append> {
        // Those of a host that was revoked ended then.
        let Some(decided) = self.decided.filter(|_| !self.host.revoked) else { return Vec::new() };
        let stale = |last: Timestamp, series| Append::Stale { stamp: last.after(WINDOW), series };
        vec![stale(decided, self.up().into()), stale(decided.max(self.told.0), vec![self.missing()])]
    }

    /// Has its agent told what is set of its configuration, if that is something else than before.
    pub(super) fn set(&mut self, policies: &[Policy]) {
        let Some(settings) = self.session.as_ref().and_then(|session| session.settings.as_ref()) else { return };
        let wanted = policy::settings(policies, &self.host.labels());
        let changed = settings.send_if_modified(|told| std::mem::replace(told, Arc::clone(&wanted)) != wanted);
        if changed {
            self.settled = Settlement::Unknown;
        }
    }

    pub(super) fn dismiss(&self, end: End) {
        if let Some(session) = &self.session {
            session.dismissal.give(end);
        }
    }

    /// Changes what its labels are made of. Returns what follows: other labels are other series.
    pub(super) fn relabel(&mut self, change: impl FnOnce(&mut Host)) -> Vec<Append> {
        let before = self.host.labels();
        let own = self.end_own();
        change(&mut self.host);
        let labels = self.host.labels();
        let mut appends = Vec::new();
        if labels != before {
            appends = own;
            self.told.1 = None;
        }
        // Also labels that did not change: those of before may not have been stored.
        appends.push(Append::HostLabels { host: self.host.id, labels });
        appends
    }

    pub(super) fn record(&self) -> Record {
        Record::Host(Box::new(self.host.clone()))
    }

    /// Takes in who the agent says it is. Returns what is to be stored of that.
    pub(super) fn greet(&mut self, hello: &Hello, now: Timestamp) -> Vec<Append> {
        let mut appends = self.relabel(|host| host.agent_labels.clone_from(&hello.labels));
        let Self { host, how, .. } = self;
        let booted = host.boot_id.is_some_and(|boot_id| boot_id != hello.boot_id);
        *how = How::of(host.goodbye, booted);
        if booted {
            appends.push(event(host.id, now, "rebooted", format!("{} was booted", host.instance)));
        }
        host.run = Some(hello.run);
        host.boot_id = Some(hello.boot_id);
        host.agent_version.clone_from(&hello.agent_version);
        host.hostname.clone_from(&hello.hostname);
        host.last_seen = now;
        appends
    }

    /// Another agent with its state is kept out. Returns the event that tells of it, if it is to be told.
    pub(super) fn keep_out(&mut self, from: SocketAddr, now: Timestamp) -> Option<Append> {
        let tell = self.lineage.keep_out(from, now);
        let Self { host: Host { id, instance, .. }, address, .. } = self;
        let there = address.map_or_else(|| "elsewhere".to_owned(), |address| format!("at {}", address.ip()));
        let text = format!(
            "two agents have the state of {instance}: one {there} is in session, one at {} is kept out; on the machine \
             that is the copy, stop the agent, remove its state directory and join with a token of its own, or revoke {instance}",
            from.ip()
        );
        tell.then(|| event(*id, now, "agent_copied", text))
    }

    /// The windows whose `up` is certain, in order.
    pub(super) fn decide(&mut self, now: Timestamp, in_grace: bool) -> Vec<(Timestamp, f64)> {
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
    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.latest = self.latest.map(|latest| latest.min(now));
        self.decided = self.decided.map(|decided| decided.min(now.after(AHEAD_MAX).align_down(WINDOW)));
        self.in_time.retain(|stamp| *stamp <= now.after(AHEAD_MAX));
        self.host.last_seen = self.host.last_seen.min(now);
        self.left = self.left.map(|left| left.min(now));
        self.since = self.since.min(now);
        self.told.0 = self.told.0.min(now.align_down(WINDOW));
    }

    /// How far its windows are, if they are waited for.
    pub(super) fn followed(&self) -> Option<Timestamp> {
        self.latest.filter(|_| self.session.is_some() && self.state == State::Up)
    }

    pub(super) fn is_silent(&self, now: Timestamp, in_grace: bool) -> bool {
        let latest = self.latest.unwrap_or(self.host.last_seen);
        !in_grace && self.state == State::Up && latest.after(WINDOW + UP_WITHIN) < now
    }

    pub(super) fn turn(&mut self, state: State, now: Timestamp) -> Option<Change> {
        if self.state == state {
            return None;
        }
        (self.state, self.since) = (state, now);
        Some(Change::Host(self.host.id, state))
    }
}

pub(super) fn goodbye_state(goodbye: Option<u16>) -> Option<State> {
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

/// An event of a host that the aggregator noticed.
pub(super) fn event(host: HostId, at: Timestamp, kind: &str, text: String) -> Append {
    Append::Event { host, event: Event { at, kind: kind.to_owned(), entity: Labels::new(), text } }
}
