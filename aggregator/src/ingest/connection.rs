//! The shell around a session: reads and writes one connection's stream, asks the store, and lets the core decide.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::batch::HostId;
use common::time::Timestamp;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use quinn::Connection;
use quinn::Incoming;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ingest::Shared;
use crate::ingest::allowance::Allowance;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::enroll;
use crate::ingest::entry::event;
use crate::ingest::link::Gone;
use crate::ingest::link::HANDSHAKE_TIMEOUT;
use crate::ingest::link::Link;
use crate::ingest::obituary;
use crate::ingest::policy;
use crate::ingest::presence::Opened;
use crate::ingest::session::End;
use crate::ingest::session::Failed;
use crate::ingest::session::Heard;
use crate::ingest::session::SLOW_AFTER;
use crate::ingest::session::Session;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::commit::Committed;
use crate::store::record::hosts::Host;

/// How a session came to its end.
enum Over {
    /// The agent left: with its reason, or without a word.
    Left(Option<Reason>),
    /// The aggregator ends it.
    Ended(End),
}

impl From<End> for Over {
    fn from(end: End) -> Self {
        Self::Ended(end)
    }
}

/// A commit that is not made, because the session is over.
struct Cut {
    /// The appends before this place can still be committed.
    at: usize,
    over: Over,
}

/// What ends a session from outside, whatever it waits for.
struct Ends<'a> {
    gone: &'a Gone,
    dismissal: &'a Dismissal,
    stop: &'a CancellationToken,
}

impl Ends<'_> {
    /// Waits for something, unless the session ends before.
    async fn or<T>(&self, something: impl Future<Output = T>) -> Result<T, Over> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Over::Ended(End::stopping())),
            end = self.dismissal.given() => Err(Over::Ended(end)),
            // Before the connection: what it brought can still be read when it is closed.
            something = something => Ok(something),
            () = self.gone.wait() => Err(Over::Left(None)),
        }
    }
}

/// Completes a handshake within its time.
pub(super) async fn accept(incoming: Incoming) -> Option<Connection> {
    let connecting = incoming.accept().ok()?;
    timeout(HANDSHAKE_TIMEOUT, connecting).await.ok()?.ok()
}

/// Serves a connection until it ends.
pub(super) async fn serve(mut link: Link, shared: Arc<Shared>, stop: CancellationToken) {
    let from = link.from;
    let end = if link.enrolling {
        certify(&mut link, &shared).await
    } else {
        match judge(&link, &shared) {
            Ok(host) => session(&mut link, host, (&shared, &stop)).await,
            Err(end) => Err(end),
        }
    };
    if let Err(end) = end {
        shared.counters.count_end(&end);
        if end.reason == Reason::Restart {
            tracing::debug!(%from, "session ended: the aggregator stops");
        } else {
            tracing::warn!(%from, reason = ?end.reason, text = %end.text, "session ended by the aggregator");
        }
        link.say(&end.message(shared.presence.return_within())).await;
    }
    link.close().await;
}

/// The host whose certificate the connection shows.
fn judge(link: &Link, shared: &Shared) -> Result<Host, End> {
    let none = || End::new(Reason::Unknown, "no certificate: join with a token first".to_owned());
    let host = enroll::known(&shared.presence, link.shown.ok_or_else(none)?)?;
    if host.certificate_expires < shared.clock.wall() {
        return Err(End::new(Reason::Expired, "the certificate has expired: renew it".to_owned()));
    }
    Ok(host)
}

/// Gives a certificate: to a host with a token its first, to one that shows a certificate its next.
async fn certify(link: &mut Link, shared: &Shared) -> Result<(), End> {
    let message = timeout(HANDSHAKE_TIMEOUT, link.hear()).await;
    let Ok(Ok(Some(Message::Enroll(enroll)))) = message else {
        shared.counters.wordless_total.count(u64::from(message.is_err()));
        return Err(End::new(Reason::Malformed, "enrolment is all that is spoken here".to_owned()));
    };
    let from = link.from;
    let enrolled = if let Some(key) = link.shown {
        let enrolled = shared.registrar.renew(&enroll, key, &shared.authority).await?;
        tracing::info!(%from, instance = %enrolled.instance, "certificate renewed");
        enrolled
    } else {
        let wanted = enroll.hostname.clone();
        let (enrolled, host) = shared.registrar.enroll(enroll, &shared.authority).await?;
        if host.instance != wanted {
            tracing::warn!(%from, %wanted, instance = %host.instance, "name was taken: host is called otherwise");
        }
        tracing::info!(%from, host = host.id.0, instance = %host.instance, "host enrolled");
        enrolled
    };
    link.say(&Message::Enrolled(enrolled)).await;
    Ok(())
}

async fn session(link: &mut Link, host: Host, (shared, stop): (&Shared, &CancellationToken)) -> Result<(), End> {
    let (host, expires) = (host.id, host.certificate_expires);
    let mut session = Session::new(host);
    let first = timeout(HANDSHAKE_TIMEOUT, link.hear()).await;
    let wordless = |_| {
        shared.counters.wordless_total.count(1);
        End::new(Reason::Error, "no hello in time".to_owned())
    };
    let Ok(Some(first)) = first.map_err(wordless)? else {
        return Ok(());
    };
    let hello = match session.hear(first)? {
        Heard::Hello(hello) => hello,
        Heard::Nothing | Heard::Recorded(_) | Heard::Settled(_) | Heard::Goodbye(..) => return Ok(()),
    };
    let (from, now) = (link.from, shared.clock.wall());
    let mut opened = match shared.presence.open(host, &hello, from, now) {
        Ok(opened) => opened,
        Err((end, commit)) => {
            if !commit.appends.is_empty()
                && let Err(error) = shared.store.commit(commit).await
            {
                tracing::debug!(%error, "cannot record that a copy was kept out");
            }
            return Err(end);
        }
    };
    shared.counters.sessions_total.count(1);
    shared.counters.tcp_sessions_total.count(u64::from(link.is_tcp()));
    let working = opened.ended.clone().drop_guard();
    let gone = link.gone();
    let dismissal = opened.dismissal.clone();
    let ends = Ends { gone: &gone, dismissal: &dismissal, stop };
    let Err(over) = talk(link, (&mut session, &mut opened), (hello, expires), (shared, &ends)).await;
    drop(working);
    let (goodbye, result) = match over {
        Over::Left(Some(goodbye)) => (Some(goodbye), Ok(())),
        Over::Left(None) => (last_words(link).await, Ok(())),
        Over::Ended(end) => (None, Err(end)),
    };
    let reason = goodbye.map_or("link broken", Reason::words);
    tracing::info!(%from, instance = %opened.instance, reason, "session closed");
    let close = shared.presence.close(host, opened.number, goodbye, shared.clock.wall());
    if !close.records.is_empty()
        && let Err(error) = shared.store.commit(close).await
    {
        tracing::debug!(%error, "cannot record the end of a session");
    }
    result
}

/// The session from `Welcome` on, until it is over.
async fn talk(
    link: &mut Link,
    (session, opened): (&mut Session, &mut Opened),
    (hello, expires): (Hello, Timestamp),
    (shared, ends): (&Shared, &Ends<'_>),
) -> Result<Infallible, Over> {
    if let Some(older) = &opened.older {
        tracing::warn!(instance = %opened.instance, "a newer session of the same host takes over");
        // What the older session still commits must be known before the answer says what is held; asking has it written soon.
        let asked = shared.store.held(session.host(), hello.run, &[]);
        let ((), held) = ends.or(futures::future::join(older.cancelled(), asked)).await?;
        held.map_err(End::from)?;
    }
    store(link, (session, &opened.commit), (shared, ends)).await.map_err(|cut| cut.over)?;
    let host = session.host();
    let held = shared.store.held(host, hello.run, &hello.spools).await.map_err(End::from)?;
    shared.presence.holds(host, &hello, &held.spools);
    let when = (shared.clock.wall(), expires, shared.presence.return_within());
    link.say(&Session::welcome(held, &opened.instance, hello.codec_max, when)).await;
    tracing::info!(instance = %opened.instance, version = %hello.agent_version, "session opened");
    if let Some(settings) = &mut opened.settings {
        let message = policy::message(&settings.borrow_and_update());
        link.say(&message).await;
    }
    let (mut welcomed, began, mut allowance) = (false, Instant::now(), Allowance::new(Duration::ZERO));
    loop {
        let filled = async {
            tokio::select! {
                filled = link.fill() => Ok(filled),
                question = opened.recalls.asked() => Err(question),
                settings = changed(&mut opened.settings) => Err(settings),
            }
        };
        match ends.or(filled).await? {
            Ok(true) => {
                let pause = allowance.take(link.arrived(), began.elapsed());
                if !pause.is_zero() {
                    shared.counters.throttled_total.count(1);
                    ends.or(tokio::time::sleep(pause)).await?;
                }
            }
            Ok(false) => return Err(Over::Left(None)),
            Err(question) => link.say(&question).await,
        }
        while let Some(message) = link.next()? {
            if !std::mem::replace(&mut welcomed, true) {
                shared.presence.welcomed(host, opened.number);
            }
            match session.hear(message)? {
                Heard::Hello(_) | Heard::Nothing => {}
                Heard::Recorded(recorded) => {
                    if let Some(taken_back) = opened.recalls.hear(recorded) {
                        link.say(&taken_back).await;
                    }
                }
                Heard::Settled(settled) => shared.presence.settled(host, policy::settled(settled)),
                Heard::Goodbye(reason, _text) => {
                    return Err(match append(link, session, (shared, ends)).await {
                        Err(Over::Ended(end)) => Over::Ended(end),
                        Ok(()) | Err(Over::Left(_)) => Over::Left(Some(reason)),
                    });
                }
            }
        }
        append(link, session, (shared, ends)).await?;
    }
}

/// What is set of the agent's configuration, when that changes.
async fn changed(settings: &mut Option<watch::Receiver<Arc<str>>>) -> Message {
    if let Some(settings) = settings
        && settings.changed().await.is_ok()
    {
        return policy::message(&settings.borrow_and_update());
    }
    // The agent takes none, or the book has let go of the session, which is about to end.
    std::future::pending().await
}

/// Commits and acknowledges. What stands behind a batch that means nothing is not committed.
async fn append(link: &mut Link, session: &mut Session, (shared, ends): (&Shared, &Ends<'_>)) -> Result<(), Over> {
    let (host, mut appends) = (session.host(), session.take());
    let mut result = Ok(());
    while !appends.is_empty() {
        let mut commit = Commit { appends: appends.clone(), records: Vec::new() };
        let obituary = obituary(host, shared).await;
        let arriving = shared.presence.arrive(host, &appends, shared.clock.wall());
        let arriving = arriving.map(|(noticed, holes)| {
            commit.join(noticed);
            commit.appends.extend(obituary);
            holes
        });
        match store(link, (session, &commit), (shared, ends)).await {
            Ok(committed) => {
                if let Some(holes) = arriving {
                    shared.presence.arrived(host, holes);
                }
                shared.presence.committed(&committed, shared.clock.wall());
                shared.counters.count_batches(&committed);
                for ack in Session::acknowledge(&committed) {
                    link.say(&ack).await;
                }
                break;
            }
            Err(Cut { at, over }) => {
                appends.truncate(at);
                result = Err(over);
            }
        }
    }
    result
}

/// What there is to tell of the process of the agent before.
async fn obituary(host: HostId, shared: &Shared) -> Option<Append> {
    let (obituary, instance) = shared.presence.obituary(host)?;
    let (store, name) = (shared.store.clone(), instance.clone());
    let windows = spawn_blocking(move || obituary::windows(&store, host, (&name, obituary.last))).await;
    let text = obituary.text(&instance, &windows.unwrap_or_default());
    Some(event(host, shared.clock.wall(), "obituary", text))
}

/// Commits; waits as long as the store cannot store, which holds the agent up by flow control.
async fn store(
    link: &mut Link,
    (session, commit): (&Session, &Commit),
    (shared, ends): (&Shared, &Ends<'_>),
) -> Result<Committed, Cut> {
    loop {
        let error = match stored(link, (session, commit), shared).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        match Session::fail(&error) {
            Failed::Retry => {
                let pause = hold_back(link, session, shared).await;
                ends.or(shared.clock.sleep(pause)).await.map_err(|over| Cut { at: 0, over })?;
            }
            Failed::End(at, end) => return Err(Cut { at, over: Over::Ended(end) }),
        }
    }
}

/// Waits for a commit; an agent whose commit takes long is asked to hold back meanwhile.
async fn stored(
    link: &mut Link,
    (session, commit): (&Session, &Commit),
    shared: &Shared,
) -> Result<Committed, CommitError> {
    let mut committing = pin!(shared.store.commit(commit.clone()));
    let mut patience = shared.store.commit_interval() + SLOW_AFTER;
    loop {
        // The pace of the disk is real time even where a test moves the clock.
        match timeout(patience, &mut committing).await {
            Ok(committed) => return committed,
            Err(_) => patience = hold_back(link, session, shared).await,
        }
    }
}

/// Asks the agent to hold back. Answers for how long.
async fn hold_back(link: &mut Link, session: &Session, shared: &Shared) -> Duration {
    let (busy, pause) = session.hold_back(shared.presence.return_within());
    shared.counters.busy_total.count(1);
    link.say(&busy).await;
    pause
}

/// The agent's goodbye, if it stands among what was not taken any more when it left.
async fn last_words(link: &mut Link) -> Option<Reason> {
    while let Ok(Some(message)) = link.hear().await {
        if let Message::Goodbye(goodbye) = message {
            return Some(Reason::from(goodbye.reason));
        }
    }
    None
}
