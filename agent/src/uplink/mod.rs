//! The QUIC client: connect, greet, send, take acknowledgements, back off.

mod certificate;
pub mod comeback;
mod connection;
pub mod dialogue;
mod identity;
mod proxy;
pub mod recall;
pub mod settings;
pub mod time;
mod verify;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::batch::RunId;
use common::time::Clock;
use common::time::Timestamp;
use common::trust::JoinToken;
use common::wire::message::Copied;
use common::wire::message::Lineage;
use common::wire::message::Message;
use common::wire::message::Reason;
use common::wire::message::SessionName;
use common::wire::message::read_copied;
use common::wire::message::read_renew_after;
use common::wire::message::read_return_within;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::collect::OwnCounts;
use crate::config;
use crate::recorder::Recorder;
use crate::spool::Spool;
use crate::uplink::certificate::Desk;
use crate::uplink::certificate::Due;
use crate::uplink::comeback::Comeback;
use crate::uplink::connection::Credentials;
use crate::uplink::connection::Link;
use crate::uplink::connection::LinkError;
use crate::uplink::connection::Transport;
use crate::uplink::dialogue::Dialogue;
use crate::uplink::dialogue::Heard;
use crate::uplink::dialogue::Introduction;
use crate::uplink::dialogue::goodbye;
use crate::uplink::identity::Identity;
use crate::uplink::identity::StateDir;
use crate::uplink::identity::StateError;
use crate::uplink::recall::Recalls;
use crate::uplink::settings::Settings;
use crate::window::Stamps;

/// How long the aggregator may take to say welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How long this agent stays away when another host comes with its identity: two that replace each other at once would
/// both be there for nobody.
const REPLACED_PAUSE: Duration = Duration::from_secs(60);

/// How often an agent on TCP tries whether UDP passes by now.
const QUIC_AGAIN: Duration = Duration::from_secs(600);

/// How long batches that are closed already may take to leave when the agent stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Ships what the spool holds.
#[derive(Debug)]
pub struct Uplink {
    /// Where to, and how to join.
    pub config: config::Uplink,
    /// Who the agent is.
    pub introduction: Introduction,
    /// What to ship.
    pub spool: Spool,
    /// What the aggregator may ask for.
    pub recorder: Recorder,
    /// Where it says how the way to the aggregator is.
    pub counts: Arc<OwnCounts>,
    /// What the aggregator may set.
    pub settings: Settings,
    /// The run of its first rows.
    pub first_run: RunId,
    /// Set to the aggregator's time once a session.
    pub stamps: Stamps,
    /// For backing off.
    pub clock: Clock,
    /// Why the agent stops, asked when it does.
    pub farewell: fn() -> Reason,
}

/// Why the agent cannot go on. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// It was not told where to.
    #[error("no aggregator: give `--aggregator HOST:PORT`, or `uplink.aggregator` in the configuration")]
    NoAggregator,
    /// It has no identity and no token.
    #[error(
        "this host has not joined: run the line that `lapwing-aggregator token create` prints, or give `--join TOKEN`"
    )]
    NotJoined,
    /// The token is none.
    #[error(transparent)]
    Token(#[from] common::trust::NotAToken),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The aggregator does not want this host.
    #[error("the aggregator refused this host: {0}")]
    Refused(String),
    /// The process goes on somewhere else too: it must begin anew.
    #[error(
        "this process runs twice, with its memory copied: {0} windows are dropped, whose numbers the other gave away"
    )]
    Copied(u64),
}

impl UplinkError {
    /// Whether it stays until somebody says something else: to start again would not help.
    #[must_use]
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::NoAggregator | Self::NotJoined | Self::Token(_))
    }
}

/// How a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the agent stops")]
    Stopped,
    #[error(transparent)]
    Lost(#[from] LinkError),
    #[error("{1}")]
    Dismissed(Reason, String),
    #[error("{1}")]
    Copied(Copied, String),
}

impl Uplink {
    /// Joins if need be, then keeps a session until the stop. Runs on real time but for its back-off.
    ///
    /// # Errors
    /// When trying again is no use.
    pub async fn run(self, stop: CancellationToken) -> Result<(), UplinkError> {
        if self.config.aggregators.is_empty() {
            return Err(UplinkError::NoAggregator);
        }
        let state = StateDir::new(self.config.state_dir.clone());
        let hostname = &self.introduction.hostname;
        let desk = Desk { uplink: &self.config, hostname, state: &state, clock: &self.clock };
        let Some(mut identity) = self.identity(&desk, &stop).await? else { return Ok(()) };
        let mut comeback = Comeback::new();
        let mut transport = Transport::Quic;
        let (mut before, mut told) = (None, String::new());
        loop {
            let acknowledged = self.spool.figures().acknowledged_total;
            let way = (&mut transport, &mut comeback, &mut before);
            let ended = match self.session(&desk, &identity, way, &stop).await {
                Ended::Copied(Copied::Process, _) => return Err(UplinkError::Copied(self.spool.renounce())),
                Ended::Stopped => return Ok(()),
                // A host that was off for weeks: the next attempt shows the new certificate.
                Ended::Dismissed(Reason::Expired, _) => match desk.renew(&identity).await? {
                    Ok(_) => Ended::Lost(LinkError::Broken("the certificate had expired and is renewed".to_owned())),
                    Err(ended) => ended,
                },
                ended @ (Ended::Lost(_) | Ended::Dismissed(..) | Ended::Copied(..)) => ended,
            };
            // What was renewed meanwhile is shown from now on; if it cannot be read, what is known is shown once more.
            if let Ok(Some(renewed)) = state.identity() {
                identity = renewed;
            }
            // A session that stored nothing was no success, however politely it began.
            if acknowledged < self.spool.figures().acknowledged_total {
                comeback.succeed();
                told.clear();
            }
            let replaced = matches!(ended, Ended::Dismissed(Reason::Replaced, _) | Ended::Copied(..));
            let turned_away = matches!(ended, Ended::Lost(LinkError::TurnedAway));
            self.counts.kept_out.store(u64::from(matches!(ended, Ended::Copied(..))), Relaxed);
            report(ended, comeback.attempts(), &mut told)?;
            let delay = match turned_away {
                true => comeback.next_turned_away(random()),
                false => comeback.next(random()),
            };
            let least = if replaced { REPLACED_PAUSE } else { Duration::ZERO };
            if !self.pause(delay.max(least), &stop).await {
                return Ok(());
            }
        }
    }

    /// The identity that the host has, or the one that its token gets it. None at the stop.
    async fn identity(&self, desk: &Desk<'_>, stop: &CancellationToken) -> Result<Option<Identity>, UplinkError> {
        let token = self.config.join.as_deref().map(str::parse::<JoinToken>);
        if let Some(identity) = desk.state.identity()? {
            match token {
                None => return Ok(Some(identity)),
                Some(Ok(token)) if identity.knows(token.ca) => {
                    tracing::info!("this host has joined already: the join token is not used");
                    return Ok(Some(identity));
                }
                Some(_) => {}
            }
        }
        let token = token.ok_or(UplinkError::NotJoined)??;
        let credentials = Credentials::Join(token.ca);
        let (mut comeback, mut told) = (Comeback::new(), String::new());
        loop {
            let joined = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                joined = desk.ask(&credentials, token.to_string()) => joined?,
            };
            match joined {
                Ok(given) => {
                    tracing::info!(instance = %given.instance, "this host has joined");
                    return desk.state.identity()?.map(Some).ok_or(UplinkError::NotJoined);
                }
                Err(ended) => report(ended, comeback.attempts(), &mut told)?,
            }
            if !self.pause(comeback.next(random()), stop).await {
                return Ok(None);
            }
        }
    }

    /// One session. It begins by the transport that worked last.
    async fn session(
        &self,
        desk: &Desk<'_>,
        identity: &Identity,
        (transport, comeback, before): (&mut Transport, &mut Comeback, &mut Option<SessionName>),
        stop: &CancellationToken,
    ) -> Ended {
        let credentials = Credentials::Identity(identity);
        let transports = match transport {
            Transport::Quic => [Transport::Quic, Transport::Tcp],
            Transport::Tcp => [Transport::Tcp, Transport::Quic],
        };
        let dialled = tokio::select! {
            () = stop.cancelled() => return Ended::Stopped,
            dialled = Link::dial(desk.uplink, &credentials, &transports) => dialled,
        };
        let mut link = match dialled {
            Ok(link) => link,
            Err(error) => return Ended::Lost(error),
        };
        if *transport != link.transport() {
            tracing::info!(transport = ?link.transport(), "the aggregator is reached otherwise than before");
        }
        *transport = link.transport();
        let on_tcp = *transport == Transport::Tcp;
        let there = config::Uplink { aggregators: vec![link.aggregator().to_owned()], ..self.config.clone() };
        self.counts.session_over_tcp.store(u64::from(on_tcp), Relaxed);
        let due = Due::default();
        let talked = tokio::select! {
            talked = self.talk(&mut link, (&due, comeback, before)) => talked,
            never = desk.keep_renewed(identity, &due) => match never {},
            never = desk.keep_identity(identity) => match never {},
            () = self.quic_passes(&there, &credentials), if on_tcp => {
                *transport = Transport::Quic;
                Err(Ended::Lost(LinkError::Broken("UDP passes again".to_owned())))
            }
            () = stopped(stop, &self.spool) => Ok(()),
        };
        self.counts.round_trip_us.store(0, Relaxed);
        match talked {
            Ok(()) => {
                drop(link.say(&goodbye((self.farewell)(), "the agent stops")).await);
                link.close().await;
                Ended::Stopped
            }
            Err(ended) => {
                link.close().await;
                ended
            }
        }
    }

    /// Waits until QUIC passes again, looking now and then.
    async fn quic_passes(&self, there: &config::Uplink, credentials: &Credentials<'_>) {
        loop {
            self.clock.sleep(QUIC_AGAIN).await;
            if let Ok(link) = Link::dial(there, credentials, &[Transport::Quic]).await {
                return link.close().await;
            }
        }
    }

    /// The session, until it breaks.
    async fn talk(
        &self,
        link: &mut Link,
        (due, comeback, before): (&Due, &mut Comeback, &mut Option<SessionName>),
    ) -> Result<(), Ended> {
        let recalls = Recalls::new(self.recorder.clone(), self.first_run);
        let now = (self.clock.wall(), self.clock.boot());
        let lineage = Lineage { session: name(), before: *before };
        let introduction = Introduction { lineage, ..self.introduction.clone() };
        let (mut dialogue, hello) = Dialogue::open(self.spool.clone(), recalls, &introduction, now);
        link.say(&hello).await?;
        let mut lost = 0;
        let mut unwelcome = pin!(tokio::time::sleep(WELCOME_TIMEOUT));
        loop {
            while let Some(message) = dialogue.next(self.clock.boot()) {
                link.say(&message).await?;
            }
            let wakes_at = dialogue.wakes_at(self.clock.boot());
            tokio::select! {
                () = &mut unwelcome, if !dialogue.is_welcomed() => {
                    return Err(Ended::Lost(LinkError::Broken(format!("no welcome within {WELCOME_TIMEOUT:?}"))));
                }
                () = self.spool.filled() => {}
                () = dialogue.recorded() => {}
                () = self.clock.sleep_until_boot(wakes_at.unwrap_or_default()), if wakes_at.is_some() => {}
                filled = link.fill() => {
                    filled?;
                    lost = self.note_path(link, lost);
                }
            }
            while let Some(message) = link.next()? {
                self.hear(&mut dialogue, message, (due, comeback))?;
            }
            if dialogue.is_welcomed() {
                *before = Some(lineage.session);
            }
        }
    }

    /// Shows how the way to the aggregator is. Answers how many packets the link lost, of which `lost` are counted.
    fn note_path(&self, link: &Link, lost: u64) -> u64 {
        let Some(path) = link.path() else { return lost };
        let micros = u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX);
        self.counts.round_trip_us.store(micros, Relaxed);
        self.counts.congestion_window_bytes.store(path.cwnd, Relaxed);
        self.counts.lost_packets.fetch_add(path.lost_packets.saturating_sub(lost), Relaxed);
        path.lost_packets
    }

    fn hear(
        &self,
        dialogue: &mut Dialogue,
        message: Message,
        (due, comeback): (&Due, &mut Comeback),
    ) -> Result<(), Ended> {
        let was_busy = dialogue.is_busy();
        match dialogue.hear(message, self.clock.boot()) {
            Heard::Nothing if was_busy && !dialogue.is_busy() => tracing::info!("the aggregator stores again"),
            Heard::Nothing => {}
            Heard::Welcome(welcome) => {
                comeback.hear(read_return_within(&welcome.ext));
                let after = read_renew_after(&welcome.ext);
                due.send_replace(after.map(|after| self.clock.boot().saturating_add(after)));
                let moved_ms = self.set_stamps(welcome.now, dialogue.asked_at());
                tracing::info!(instance = %welcome.instance, moved_ms, "session opened");
            }
            Heard::Settings(text) => {
                let state = StateDir::new(self.config.state_dir.clone());
                dialogue.answer(self.settings.hear(&text, &state, &self.counts));
            }
            Heard::Busy(_) if was_busy => {}
            Heard::Busy(_) => tracing::info!("the aggregator cannot store: windows wait until it can"),
            Heard::Copied(now) => {
                // What begins anew does so in the aggregator's time.
                self.set_stamps(now, dialogue.asked_at());
                let why = "the aggregator holds windows that this process numbered and did not send";
                return Err(Ended::Copied(Copied::Process, why.to_owned()));
            }
            Heard::End(goodbye) => {
                comeback.hear(read_return_within(&goodbye.ext));
                if let Some(copied) = read_copied(&goodbye.ext) {
                    if copied == Copied::Process {
                        time::forget(&self.config.state_dir);
                    }
                    return Err(Ended::Copied(copied, goodbye.text));
                }
                return Err(Ended::Dismissed(Reason::from(goodbye.reason), goodbye.text));
            }
        }
        Ok(())
    }

    /// Sets the stamps to the aggregator's time, and keeps how they stand. Returns by how many milliseconds they move.
    fn set_stamps(&self, aggregator: Timestamp, asked: Duration) -> i64 {
        let now = self.clock.boot();
        let moved_ms = self.stamps.set(aggregator, asked, now);
        if let Err(error) = time::keep(&self.stamps, &self.config.state_dir, (self.introduction.boot_id, now)) {
            tracing::warn!(%error, "the aggregator's time is not kept: a restart begins by the host's clock");
        }
        moved_ms
    }

    /// Waits before the next attempt. False at the stop.
    async fn pause(&self, delay: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.clock.sleep(delay) => true,
        }
    }
}

/// Waits for the stop, and then until the spool is empty or has had its time.
async fn stopped(stop: &CancellationToken, spool: &Spool) {
    stop.cancelled().await;
    drop(timeout(DRAIN_TIMEOUT, spool.emptied()).await);
}

/// Logs why a session ended; an error when trying again is no use. Why the aggregator does not want it is told once, until
/// that is something else than what was `told` last.
fn report(ended: Ended, attempts: u32, told: &mut String) -> Result<(), UplinkError> {
    let mut is_news = |text: &str| std::mem::replace(told, text.to_owned()) != text;
    match ended {
        Ended::Stopped => {}
        // An outage is told once.
        Ended::Lost(error) if attempts == 0 => tracing::warn!(%error, "no session with the aggregator"),
        Ended::Lost(error) => tracing::debug!(%error, "no session with the aggregator"),
        Ended::Copied(_, text) if is_news(&text) => {
            tracing::error!(%text, "this host's agent is there twice: this one is kept out");
        }
        Ended::Copied(..) => tracing::debug!("this one is still kept out"),
        Ended::Dismissed(reason, text) => match reason {
            Reason::Unknown | Reason::Token | Reason::Revoked | Reason::Expired => {
                return Err(UplinkError::Refused(text));
            }
            Reason::Restart => tracing::info!("the aggregator restarts"),
            Reason::Error
            | Reason::Stopped
            | Reason::Shutdown
            | Reason::Malformed
            | Reason::Replaced
            | Reason::Limit => match is_news(&text) {
                true => tracing::warn!(?reason, %text, "the aggregator ended the session"),
                false => tracing::debug!(?reason, %text, "the aggregator ended the session again"),
            },
        },
    }
    Ok(())
}

/// From 0 to 1; without randomness the middle, which spreads nothing but works.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

/// A name for a session; without randomness none that another one has not.
fn name() -> SessionName {
    let mut name = SessionName::default();
    getrandom::fill(&mut name).map_or_else(|_| SessionName::default(), |()| name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::io::Seek as _;

    use super::*;

    /// What is logged at WARN or above while sessions end like this, a letter each.
    fn check(ends: &str, expect: &[&str]) {
        let mut log = tempfile::tempfile().unwrap();
        let writer: Arc<File> = Arc::new(log.try_clone().unwrap());
        let listener = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
        let listener = listener.without_time().with_target(false).with_writer(writer).finish();
        tracing::subscriber::with_default(listener, || {
            let mut told = String::new();
            for end in ends.chars() {
                let ended = match end {
                    'c' => Ended::Copied(Copied::State, "a copy".to_owned()),
                    'l' => Ended::Dismissed(Reason::Limit, "too much".to_owned()),
                    _ => Ended::Lost(LinkError::Broken("gone".to_owned())),
                };
                report(ended, 1, &mut told).unwrap();
            }
        });
        let mut lines = String::new();
        log.rewind().unwrap();
        log.read_to_string(&mut lines).unwrap();
        let levels: Vec<_> = lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(levels, expect, "{ends}: {lines}");
    }

    #[test]
    fn why_there_is_no_session_is_told_once() {
        check("c", &["ERROR"]);
        check("ccc", &["ERROR"]);
        check("cxc", &["ERROR"]);
        check("lclc", &["WARN", "ERROR", "WARN", "ERROR"]);
        check("llcc", &["WARN", "ERROR"]);
    }
}
