//! The shell around a session: reads and writes one connection's stream, asks the store, and lets the core decide.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use crate::ingest::presence::Opened;
use crate::ingest::session::End;
use crate::ingest::session::Failed;
use crate::ingest::session::Heard;
use crate::ingest::session::Session;
use crate::ingest::trust;
use crate::store::commit::Append;
use crate::store::commit::Commit;
use crate::store::record::hosts::Host;

/// A handshake, and then the first frame, take a few round trips; whoever needs longer is not an agent.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long last words may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes taken from a stream at once.
const CHUNK_BYTES: usize = 64 << 10;

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
        enroll(&mut stream, from, &shared).await
    } else {
        match judge(&connection, &shared) {
            Ok(host) => session(&mut stream, from, host, (&shared, &stop)).await,
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

/// The host whose certificate the connection shows.
fn judge(connection: &Connection, shared: &Shared) -> Result<Host, End> {
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first());
    let none = || End::new(Reason::Unknown, "no certificate: join with a token first".to_owned());
    let key = certificate.and_then(trust::key_hash).ok_or_else(none)?;
    let unknown = || End::new(Reason::Unknown, "this certificate is not known here: join with a new token".to_owned());
    let host = shared.presence.by_key(key).ok_or_else(unknown)?;
    if host.revoked {
        return Err(End::new(Reason::Revoked, "this host was revoked".to_owned()));
    }
    if host.certificate_expires < shared.clock.wall() {
        return Err(End::new(Reason::Expired, "the certificate has expired: join with a new token".to_owned()));
    }
    Ok(host)
}

async fn enroll(stream: &mut Stream, from: SocketAddr, shared: &Shared) -> Result<(), End> {
    let message = timeout(HANDSHAKE_TIMEOUT, stream.hear()).await;
    let Ok(Ok(Some(Message::Enroll(enroll)))) = message else {
        return Err(End::new(Reason::Malformed, "enrolment is all that is spoken here".to_owned()));
    };
    let wanted = enroll.hostname.clone();
    let (enrolled, host) = shared.registrar.enroll(enroll, &shared.authority).await?;
    if host.instance != wanted {
        tracing::warn!(%from, %wanted, instance = %host.instance, "name was taken: host is called otherwise");
    }
    tracing::info!(%from, host = host.id.0, instance = %host.instance, "host enrolled");
    stream.say(&Message::Enrolled(enrolled)).await;
    Ok(())
}

async fn session(
    stream: &mut Stream,
    from: SocketAddr,
    host: Host,
    (shared, stop): (&Shared, &CancellationToken),
) -> Result<(), End> {
    let mut session = Session::new(host.id);
    let first = timeout(HANDSHAKE_TIMEOUT, stream.hear()).await;
    let Ok(Some(first)) = first.map_err(|_| End::new(Reason::Error, "no hello in time".to_owned()))? else {
        return Ok(());
    };
    let hello = match session.hear(first)? {
        Heard::Hello(hello) => hello,
        Heard::Nothing | Heard::Goodbye(..) => return Ok(()),
    };
    let now = shared.clock.wall();
    let unknown = || End::new(Reason::Unknown, "this host is not known here".to_owned());
    let mut opened = shared.presence.open(host.id, &hello, from, now).ok_or_else(unknown)?;
    shared.counters.sessions_total.count(1);
    let working = opened.ended.clone().drop_guard();
    let result = talk(stream, (&mut session, &mut opened), hello, (shared, stop)).await;
    drop(working);
    let (goodbye, result) = match result {
        Ok(goodbye) => (goodbye, Ok(())),
        Err(end) => (None, Err(end)),
    };
    tracing::info!(%from, instance = %opened.instance, ?goodbye, "session closed");
    let close = shared.presence.close(host.id, opened.number, goodbye, shared.clock.wall());
    if !close.records.is_empty()
        && let Err(error) = shared.store.commit(close).await
    {
        tracing::debug!(%error, "cannot record the end of a session");
    }
    result
}

/// The session from `Welcome` on. Returns the agent's reason if it said goodbye.
async fn talk(
    stream: &mut Stream,
    (session, opened): (&mut Session, &mut Opened),
    hello: Hello,
    (shared, stop): (&Shared, &CancellationToken),
) -> Result<Option<Reason>, End> {
    if let Some(older) = opened.older.take() {
        tracing::warn!(instance = %opened.instance, "a newer session of the same host takes over");
        // What the older session still commits must be known before the answer says what is held.
        older.cancelled().await;
    }
    shared.store.commit(std::mem::take(&mut opened.commit)).await?;
    let host = session.host();
    let held = shared.store.held(host, hello.run, &hello.spools).await?;
    stream.say(&Session::welcome(held, &opened.instance, shared.clock.wall())).await;
    tracing::info!(instance = %opened.instance, version = %hello.agent_version, "session opened");
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::stopping()),
            () = opened.replaced.cancelled() => return Err(End::replaced()),
            more = stream.fill() => if !more { return Ok(None) },
        }
        while let Some(message) = stream.next()? {
            if let Heard::Goodbye(reason, _text) = session.hear(message)? {
                commit(stream, session.take(), (shared, stop)).await?;
                return Ok(Some(reason));
            }
        }
        commit(stream, session.take(), (shared, stop)).await?;
    }
}

/// Commits and acknowledges; waits as long as the store cannot store, which holds the agent up by flow control.
async fn commit(
    stream: &mut Stream,
    mut appends: Vec<Append>,
    (shared, stop): (&Shared, &CancellationToken),
) -> Result<(), End> {
    let mut cut = None;
    while !appends.is_empty() {
        match shared.store.commit(Commit { appends: appends.clone(), records: Vec::new() }).await {
            Ok(committed) => {
                shared.presence.committed(&committed, shared.clock.wall());
                shared.counters.count_batches(&committed);
                for ack in Session::acknowledge(&committed) {
                    stream.say(&ack).await;
                }
                break;
            }
            Err(error) => match Session::fail(&error) {
                Failed::Retry(busy, pause) => {
                    shared.counters.busy_total.count(1);
                    stream.say(&busy).await;
                    tokio::select! {
                        () = stop.cancelled() => return Err(End::stopping()),
                        () = shared.clock.sleep(pause) => {}
                    }
                }
                Failed::Cut(at, end) => {
                    appends.truncate(at);
                    cut = Some(end);
                }
                Failed::End(end) => return Err(end),
            },
        }
    }
    cut.map_or(Ok(()), Err)
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
