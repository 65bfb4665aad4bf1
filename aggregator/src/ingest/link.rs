//! One connection of an agent: frames in order, over QUIC or, where UDP does not pass, over TLS on TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use common::trust::ALPN_ENROLL;
use common::wire::frame;
use common::wire::frame::ENROLL_FRAME_BYTES_MAX;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Message;
use quinn::Connection;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ingest::session::End;
use crate::ingest::trust;

/// A handshake, and then the first frame, take a few round trips; whoever needs longer is not an agent.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long last words may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// An agent that says nothing for so long over TCP is gone; QUIC notices that by itself.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Bytes taken from a QUIC stream at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes taken from a TCP stream at once: they stand in every connection on TCP.
const TCP_CHUNK_BYTES: usize = 4 << 10;

/// A connection whose handshake is done.
pub(super) struct Link {
    wire: Wire,
    reader: Reader,
    /// Bytes that arrived and were not asked for by [`Self::arrived`].
    arrived: usize,
    /// Where it comes from.
    pub(super) from: SocketAddr,
    /// SHA-256 of the key of the certificate that it shows.
    pub(super) shown: Option<[u8; 32]>,
    /// Whether certificates are all that it may ask for.
    pub(super) enrolling: bool,
}

enum Wire {
    Quic { connection: Connection, send: SendStream, receive: RecvStream },
    Tcp(Box<Tcp>),
}

struct Tcp {
    stream: TlsStream<TcpStream>,
    chunk: [u8; TCP_CHUNK_BYTES],
}

/// Tells when the other side is gone, if that can be told without reading.
pub(super) struct Gone(Option<Connection>);

impl Gone {
    /// Waits for it.
    pub(super) async fn wait(&self) {
        match &self.0 {
            Some(connection) => drop(connection.closed().await),
            None => std::future::pending().await,
        }
    }
}

impl Link {
    /// Waits for the one stream of a QUIC connection.
    pub(super) async fn quic(connection: Connection) -> Option<Self> {
        let (send, receive) = connection.accept_bi().await.ok()?;
        let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
        let (from, shown) = (connection.remote_address(), chain.and_then(|chain| trust::key_hash(chain.first()?)));
        Some(Self::new(Wire::Quic { connection, send, receive }, from, shown, &protocol))
    }

    /// Completes the handshake of a TCP connection within its time.
    pub(super) async fn tcp(stream: TcpStream, from: SocketAddr, tls: &TlsAcceptor) -> Option<Self> {
        let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await.ok()?.ok()?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| trust::key_hash(chain.first()?));
        let protocol = session.alpn_protocol().unwrap_or_default().to_vec();
        let tcp = Tcp { stream, chunk: [0; TCP_CHUNK_BYTES] };
        Some(Self::new(Wire::Tcp(Box::new(tcp)), from, shown, &protocol))
    }

    fn new(wire: Wire, from: SocketAddr, shown: Option<[u8; 32]>, protocol: &[u8]) -> Self {
        let enrolling = protocol == ALPN_ENROLL;
        let limit = if enrolling { ENROLL_FRAME_BYTES_MAX } else { FRAME_BYTES_MAX };
        Self { wire, reader: Reader::new(limit), arrived: 0, from, shown, enrolling }
    }

    /// Whether it is on TCP.
    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.wire, Wire::Tcp(_))
    }

    /// What tells that the other side is gone.
    pub(super) fn gone(&self) -> Gone {
        match &self.wire {
            Wire::Quic { connection, .. } => Gone(Some(connection.clone())),
            Wire::Tcp(_) => Gone(None),
        }
    }

    /// Writes a message. A peer that is gone shows when reading.
    pub(super) async fn say(&mut self, message: &Message) {
        let frame = frame::encode(message);
        match &mut self.wire {
            Wire::Quic { send, .. } => drop(send.write_all(&frame).await),
            // A peer that takes nothing must not hold this up for ever.
            Wire::Tcp(tcp) => drop(timeout(TCP_IDLE_TIMEOUT, write(&mut tcp.stream, &frame)).await),
        }
    }

    /// Waits for the next message; none when the stream ends.
    pub(super) async fn hear(&mut self) -> Result<Option<Message>, End> {
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
    pub(super) fn next(&mut self) -> Result<Option<Message>, End> {
        Ok(self.reader.next()?)
    }

    /// Waits for bytes. False when the stream has ended, in order or not.
    pub(super) async fn fill(&mut self) -> bool {
        match &mut self.wire {
            Wire::Quic { receive, .. } => {
                let chunk = receive.read_chunk(CHUNK_BYTES, true).await.ok().flatten();
                self.arrived += chunk.as_ref().map_or(0, |chunk| chunk.bytes.len());
                chunk.inspect(|chunk| self.reader.push(&chunk.bytes)).is_some()
            }
            Wire::Tcp(tcp) => {
                let Tcp { stream, chunk } = &mut **tcp;
                let read = timeout(TCP_IDLE_TIMEOUT, stream.read(chunk)).await;
                let bytes = read.ok().and_then(Result::ok).and_then(|length| chunk.get(..length)).unwrap_or_default();
                self.arrived += bytes.len();
                self.reader.push(bytes);
                !bytes.is_empty()
            }
        }
    }

    /// How many bytes arrived since the last call.
    pub(super) const fn arrived(&mut self) -> usize {
        std::mem::replace(&mut self.arrived, 0)
    }

    /// Ends it once what was said has arrived, or could not within a while. Nothing is left to do for a peer that does not
    /// take its last words.
    pub(super) async fn close(self) {
        match self.wire {
            Wire::Quic { connection, mut send, .. } => {
                drop(send.finish());
                drop(timeout(GOODBYE_TIMEOUT, send.stopped()).await);
                connection.close(VarInt::from_u32(0), b"");
            }
            Wire::Tcp(mut tcp) => {
                let over = async {
                    tcp.stream.shutdown().await?;
                    // Bytes that nobody read would take what was said with them.
                    tokio::io::copy(&mut tcp.stream, &mut tokio::io::sink()).await
                };
                drop(timeout(GOODBYE_TIMEOUT, over).await);
            }
        }
    }
}

async fn write(stream: &mut TlsStream<TcpStream>, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}
