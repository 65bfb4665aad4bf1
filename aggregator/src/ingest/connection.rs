//! The shell around a session: reads and writes one connection's stream, asks the store, and lets the core decide.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::time::Timestamp;
use common::trust::ALPN_ENROLL;
use common::wire::frame;
use common::wire::frame::ENROLL_FRAME_BYTES_MAX;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Hello;
use common::wire::message::Message;
use common::wire::message::Reason;
use quinn::Connection;
use quinn::Incoming;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ingest::Shared;
use crate::ingest::dismissal::Dismissal;
use crate::ingest::enroll;
use crate::ingest::presence::Opened;
use crate::ingest::session::End;
use crate::ingest::session::Failed;
use crate::ingest::session::Heard;
use crate::ingest::session::Session;
use crate::ingest::trust;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::commit::Committed;
use crate::store::record::hosts::Host;

/// A handshake, and then the first frame, take a few round trips; whoever needs longer is not an agent.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long last words may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes taken from a stream at once.
const CHUNK_BYTES: usize = 64 << 10;

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
    connection: &'a Connection,
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
            _ = self.connection.closed() => Err(Over::Left(None)),
        }
    }
}

/// The two directions of the one stream of a connection.
struct Stream {
    send: SendStream,
    receive: RecvStream,
    reader: Reader,
}

/// Completes a handshake within its time.
pub(super) async fn accept(incoming: Incoming) -> Option<Connection> {
    let connecting = incoming.accept().ok()?;
    timeout(HANDSHAKE_TIMEOUT, connecting).await.ok()?.ok()
}

/// Serves a connection until it ends.
pub(super) async fn serve(connection: Connection, shared: Arc<Shared>, stop: CancellationToken) {
    let from = connection.remote_address();
    let Ok(Ok((send, receive))) = timeout(HANDSHAKE_TIMEOUT, connection.accept_bi()).await else {
        return;
    };
    let enrolling = protocol(&connection) == ALPN_ENROLL;
    let limit = if enrolling { ENROLL_FRAME_BYTES_MAX } else { FRAME_BYTES_MAX };
    let mut stream = Stream { send, receive, reader: Reader::new(limit) };
    let end = if enrolling {
        certify(&mut stream, &connection, &shared).await
    } else {
        match judge(&connection, &shared) {
            Ok(host) => session(&mut stream, &connection, host, (&shared, &stop)).await,
            Err(end) => Err(end),
        }
    };
    if let Err(end) = end {
        shared.counters.count_end(end.reason);
        if end.reason == Reason::Restart {
            tracing::debug!(%from, "session ended: the aggregator stops");
        } else {
            tracing::warn!(%from, reason = ?end.reason, text = %end.text, "session ended by the aggregator");
        }
        stream.say(&end.message()).await;
    }
    // Nothing is left to do for a peer that does not take its last words.
    drop(stream.send.finish());
    drop(timeout(GOODBYE_TIMEOUT, stream.send.stopped()).await);
    connection.close(VarInt::from_u32(0), b"");
}

fn protocol(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).unwrap_or_default()
}

/// SHA-256 of the key of the certificate that the connection shows.
fn shown(connection: &Connection) -> Option<[u8; 32]> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    trust::key_hash(chain.first()?)
}

/// The host whose certificate the connection shows.
fn judge(connection: &Connection, shared: &Shared) -> Result<Host, End> {
    let none = || End::new(Reason::Unknown, "no certificate: join with a token first".to_owned());
    let host = enroll::known(&shared.presence, shown(connection).ok_or_else(none)?)?;
    if host.certificate_expires < shared.clock.wall() {
        return Err(End::new(Reason::Expired, "the certificate has expired: renew it".to_owned()));
    }
    Ok(host)
}

/// Gives a certificate: to a host with a token its first, to one that shows a certificate its next.
async fn certify(stream: &mut Stream, connection: &Connection, shared: &Shared) -> Result<(), End> {
    let message = timeout(HANDSHAKE_TIMEOUT, stream.hear()).await;
    let Ok(Ok(Some(Message::Enroll(enroll)))) = message else {
        return Err(End::new(Reason::Malformed, "enrolment is all that is spoken here".to_owned()));
    };
    let from = connection.remote_address();
    let enrolled = if let Some(key) = shown(connection) {
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
    stream.say(&Message::Enrolled(enrolled)).await;
    Ok(())
}

async fn session(
    stream: &mut Stream,
    connection: &Connection,
    host: Host,
    (shared, stop): (&Shared, &CancellationToken),
) -> Result<(), End> {
    let (host, expires) = (host.id, host.certificate_expires);
    let mut session = Session::new(host);
    let first = timeout(HANDSHAKE_TIMEOUT, stream.hear()).await;
    let Ok(Some(first)) = first.map_err(|_| End::new(Reason::Error, "no hello in time".to_owned()))? else {
        return Ok(());
    };
    let hello = match session.hear(first)? {
        Heard::Hello(hello) => hello,
        Heard::Nothing | Heard::Goodbye(..) => return Ok(()),
    };
    let (from, now) = (connection.remote_address(), shared.clock.wall());
    let unknown = || End::new(Reason::Unknown, "this host is not known here".to_owned());
    let opened = shared.presence.open(host, &hello, from, now).ok_or_else(unknown)?;
    shared.counters.sessions_total.count(1);
    let working = opened.ended.clone().drop_guard();
    let ends = Ends { connection, dismissal: &opened.dismissal, stop };
    let Err(over) = talk(stream, (&mut session, &opened), (hello, expires), (shared, &ends)).await;
    drop(working);
    let (goodbye, result) = match over {
        Over::Left(Some(goodbye)) => (Some(goodbye), Ok(())),
        Over::Left(None) => (last_words(stream).await, Ok(())),
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
    stream: &mut Stream,
    (session, opened): (&mut Session, &Opened),
    (hello, expires): (Hello, Timestamp),
    (shared, ends): (&Shared, &Ends<'_>),
) -> Result<Infallible, Over> {
    if let Some(older) = &opened.older {
        tracing::warn!(instance = %opened.instance, "a newer session of the same host takes over");
        // What the older session still commits must be known before the answer says what is held.
        ends.or(older.cancelled()).await?;
    }
    store(stream, &opened.commit, (shared, ends)).await.map_err(|cut| cut.over)?;
    let host = session.host();
    let held = shared.store.held(host, hello.run, &hello.spools).await.map_err(End::from)?;
    stream.say(&Session::welcome(held, &opened.instance, shared.clock.wall(), expires)).await;
    tracing::info!(instance = %opened.instance, version = %hello.agent_version, "session opened");
    loop {
        if !ends.or(stream.fill()).await? {
            return Err(Over::Left(None));
        }
        while let Some(message) = stream.next()? {
            if let Heard::Goodbye(reason, _text) = session.hear(message)? {
                return Err(match append(stream, session.take(), (shared, ends)).await {
                    Err(Over::Ended(end)) => Over::Ended(end),
                    Ok(()) | Err(Over::Left(_)) => Over::Left(Some(reason)),
                });
            }
        }
        append(stream, session.take(), (shared, ends)).await?;
    }
}

/// Commits and acknowledges. What stands behind a batch that means nothing is not committed.
async fn append(stream: &mut Stream, appends: Vec<Append>, (shared, ends): (&Shared, &Ends<'_>)) -> Result<(), Over> {
    let mut commit = Commit { appends, records: Vec::new() };
    let mut result = Ok(());
    while !commit.appends.is_empty() {
        match store(stream, &commit, (shared, ends)).await {
            Ok(committed) => {
                shared.presence.committed(&committed, shared.clock.wall());
                shared.counters.count_batches(&committed);
                for ack in Session::acknowledge(&committed) {
                    stream.say(&ack).await;
                }
                break;
            }
            Err(Cut { at, over }) => {
                commit.appends.truncate(at);
                result = Err(over);
            }
        }
    }
    result
}

/// Commits; waits as long as the store cannot store, which holds the agent up by flow control.
async fn store(stream: &mut Stream, commit: &Commit, (shared, ends): (&Shared, &Ends<'_>)) -> Result<Committed, Cut> {
    loop {
        let error = match shared.store.commit(commit.clone()).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        match Session::fail(&error) {
            Failed::Retry(busy, pause) => {
                shared.counters.busy_total.count(1);
                stream.say(&busy).await;
                ends.or(shared.clock.sleep(pause)).await.map_err(|over| Cut { at: 0, over })?;
            }
            Failed::End(at, end) => return Err(Cut { at, over: Over::Ended(end) }),
        }
    }
}

/// The agent's goodbye, if it stands among what was not taken any more when it left.
async fn last_words(stream: &mut Stream) -> Option<Reason> {
    while let Ok(Some(message)) = stream.hear().await {
        if let Message::Goodbye(goodbye) = message {
            return Some(Reason::from(goodbye.reason));
        }
    }
    None
}

impl Stream {
    /// Writes a message. A peer that is gone shows when reading.
    async fn say(&mut self, message: &Message) {
        drop(self.send.write_all(&frame::encode(message)).await);
    }

    /// Waits for the next message; none when the stream ends.
    async fn hear(&mut self) -> Result<Option<Message>, End> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            if !self.fill().await {
                return Ok(None);
            }
        }
    }

    /// The next message that is there already.
    fn next(&mut self) -> Result<Option<Message>, End> {
        Ok(self.reader.next()?)
    }

    /// Waits for bytes. False when the stream has ended, in order or not.
    async fn fill(&mut self) -> bool {
        match self.receive.read_chunk(CHUNK_BYTES, true).await {
            Ok(Some(chunk)) => {
                self.reader.push(&chunk.bytes);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }
}
