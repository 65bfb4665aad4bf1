//! One connection to the aggregator: frames in order, over QUIC or, where UDP does not pass, over TLS on TCP.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::trust::ALPN;
use common::trust::ALPN_ENROLL;
use common::trust::SERVER_NAME;
use common::wire::frame;
use common::wire::frame::FRAME_BYTES_MAX;
use common::wire::frame::Reader;
use common::wire::message::Message;
use quinn::Connection;
use quinn::ConnectionError;
use quinn::Endpoint;
use quinn::IdleTimeout;
use quinn::PathStats;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::TransportConfig;
use quinn::TransportErrorCode;
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::AlertDescription;
use rustls::CipherSuite;
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config;
use crate::config::Proxy;
use crate::uplink::identity::Identity;
use crate::uplink::proxy;
use crate::uplink::verify::Believe;
use crate::uplink::verify::Verifier;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// UDP.
    Quic,
    /// The same frames, on the same port of TCP.
    Tcp,
}

/// How long one address may take to answer before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same of QUIC, where TCP has just answered.
const QUIC_AFTER_ALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A link that is silent for so long is taken for lost, and another is tried.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Windows leave every ten seconds; this keeps address translation alive while the aggregator asks for a pause.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// How long last words may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// The aggregator acknowledges each window; one that says nothing for so long over TCP is gone. QUIC notices by itself.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The same of TCP, on the stack.
const TCP_CHUNK_BYTES: usize = 1 << 10;

/// Bytes taken from the stream at once: acknowledgements are small.
const CHUNK_BYTES: usize = 16 << 10;

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Nothing that was tried answers; this is what each did, and what is likely wrong.
    #[error("cannot reach the aggregator: {}", .0.join("; "))]
    Reach(Vec<String>),
    /// The aggregator is there, and has no room at present.
    #[error("the aggregator turned this agent away: too many come at once")]
    TurnedAway,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The link broke.
    #[error("the link broke: {0}")]
    Broken(String),
}

/// What to show and whom to believe.
pub(super) enum Credentials<'a> {
    /// A host with a certificate.
    Identity(&'a Identity),
    /// A host that asks for its next certificate.
    Renew(&'a Identity),
    /// A host that joins: the hash of the CA's key.
    Join([u8; 32]),
}

/// A link to the aggregator.
pub(super) struct Link {
    wire: Wire,
    /// Which of the aggregators.
    aggregator: String,
    reader: Reader,
    /// A frame was begun and not finished: nothing can follow it.
    torn: bool,
}

enum Wire {
    Quic { endpoint: Endpoint, connection: Connection, send: SendStream, receive: RecvStream },
    Tcp(Box<TlsStream<TcpStream>>),
}

/// Why one way does not lead there.
enum Failure {
    /// The aggregator is there: no other way leads to more room.
    TurnedAway,
    /// What was met there.
    Met(Met, String),
}

/// What is at an address that is not the aggregator, the likeliest slip last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    /// Nobody who says anything, or what it says does not tell.
    Nobody,
    /// Nobody who listens.
    Closed,
    /// Somebody who speaks something else, as a page does.
    OtherProtocol,
    /// An aggregator, and not the one.
    Stranger,
}

impl Met {
    /// What to do about it.
    const fn advice(self, credentials: &Credentials<'_>) -> Option<&'static str> {
        match (self, credentials) {
            (Self::Nobody, _) => None,
            (Self::Closed, _) => Some(
                "see whether the aggregator runs, and whether this is the port of its `ingest.listen`, 4641 if it says none",
            ),
            (Self::OtherProtocol, _) => Some(
                "give the port of the aggregator's `ingest.listen`, 4641 if it says none: this one is likely its page's",
            ),
            (Self::Stranger, Credentials::Join(_)) => Some(
                "it is not the one that made the join token: correct the address, or take a token that was made there",
            ),
            (Self::Stranger, Credentials::Identity(_) | Credentials::Renew(_)) => Some(
                "it is not the one that this host has joined: correct the address, or run the line that \
                 `lapwing-aggregator token create` prints there, if this host is to join this one",
            ),
        }
    }

    fn by_tcp(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (error.kind(), inner) {
            (io::ErrorKind::ConnectionRefused, _) => Self::Closed,
            (_, Some(rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_)))
            | (_, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))) => Self::OtherProtocol,
            (_, _) => Self::Nobody,
        }
    }

    fn by_quic(error: &ConnectionError) -> Self {
        let no_protocol = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
        let is_other = matches!(error, ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol);
        if is_other { Self::OtherProtocol } else { Self::Nobody }
    }
}

/// One way to an aggregator.
enum Way<'a> {
    Direct(Transport, SocketAddr),
    /// TCP, to a name that the proxy resolves.
    Proxy(&'a Proxy, &'a str),
}

impl Way<'_> {
    async fn take(&self, tls: Arc<ClientConfig>) -> Result<Wire, Failure> {
        let stream = match self {
            Self::Direct(Transport::Quic, address) => return Link::connect_quic(*address, tls).await,
            Self::Direct(Transport::Tcp, address) => TcpStream::connect(address).await,
            Self::Proxy(proxy, aggregator) => proxy::tunnel(proxy, aggregator).await,
        };
        let wire = async { Link::connect_tcp(stream?, tls).await };
        wire.await.map_err(|error| Failure::Met(Met::by_tcp(&error), error.to_string()))
    }
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(Transport::Quic, address) => write!(f, "{address} by QUIC"),
            Self::Direct(Transport::Tcp, address) => write!(f, "{address} by TCP"),
            Self::Proxy(proxy, aggregator) => write!(f, "{aggregator} by TCP through the proxy {proxy}"),
        }
    }
}

impl Link {
    /// Dials the aggregators in turn, each by each transport, all its addresses.
    pub(super) async fn dial(
        uplink: &config::Uplink,
        credentials: &Credentials<'_>,
        transports: &[Transport],
    ) -> Result<Self, LinkError> {
        let (tls, verifier) = client_config(credentials)?;
        let tls = Arc::new(tls);
        let mut failures = Vec::new();
        let mut met = Met::Nobody;
        for aggregator in &uplink.aggregators {
            for transport in transports {
                let ways = match (transport, &uplink.proxy) {
                    (Transport::Tcp, Some(proxy)) => vec![Way::Proxy(proxy, aggregator)],
                    (Transport::Quic | Transport::Tcp, _) => match tokio::net::lookup_host(aggregator).await {
                        Ok(addresses) => addresses.map(|address| Way::Direct(*transport, address)).collect(),
                        Err(error) => {
                            failures.push(format!("{aggregator} does not resolve: {error}"));
                            continue;
                        }
                    },
                };
                for way in ways {
                    match timeout(CONNECT_TIMEOUT, way.take(Arc::clone(&tls))).await {
                        Ok(Ok(wire)) => {
                            let preferred = transports.first() == Some(&Transport::Quic);
                            let wire = match way {
                                Way::Direct(Transport::Tcp, address) if preferred => {
                                    Self::quic_after_all(address, Arc::clone(&tls)).await?.unwrap_or(wire)
                                }
                                Way::Direct(..) | Way::Proxy(..) => wire,
                            };
                            let (aggregator, reader) = (aggregator.clone(), Reader::new(FRAME_BYTES_MAX));
                            return Ok(Self { wire, aggregator, reader, torn: false });
                        }
                        Ok(Err(Failure::TurnedAway)) => return Err(LinkError::TurnedAway),
                        Ok(Err(Failure::Met(here, why))) => {
                            let is_stranger = verifier.met_stranger();
                            met = met.max(if is_stranger { Met::Stranger } else { here });
                            let why = if is_stranger { "another aggregator answers" } else { &why };
                            failures.push(format!("{way}: {why}"));
                        }
                        Err(_) => failures.push(format!("{way}: no answer within {CONNECT_TIMEOUT:?}")),
                    }
                }
            }
        }
        failures.extend(met.advice(credentials).map(str::to_owned));
        Err(LinkError::Reach(failures))
    }

    /// Tries QUIC once more at an address that answers by TCP: an aggregator that comes back just then was not there when
    /// QUIC was tried.
    async fn quic_after_all(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Option<Wire>, LinkError> {
        match timeout(QUIC_AFTER_ALL_TIMEOUT, Self::connect_quic(address, tls)).await {
            Ok(Ok(wire)) => Ok(Some(wire)),
            Ok(Err(Failure::TurnedAway)) => Err(LinkError::TurnedAway),
            Ok(Err(Failure::Met(..))) | Err(_) => Ok(None),
        }
    }

    async fn connect_tcp(stream: TcpStream, tls: Arc<ClientConfig>) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        Ok(Wire::Tcp(Box::new(TlsConnector::from(tls).connect(name, stream).await?)))
    }

    async fn connect_quic(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Wire, Failure> {
        let other = |error: &dyn ToString| Failure::Met(Met::Nobody, error.to_string());
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| other(&error))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(any).map_err(|error| other(&error))?;
        let connecting = endpoint.connect_with(config, address, SERVER_NAME).map_err(|error| other(&error))?;
        let connection = connecting.await.map_err(|error| {
            let refused = TransportErrorCode::CONNECTION_REFUSED;
            let no_room = matches!(&error, ConnectionError::ConnectionClosed(close) if close.error_code == refused);
            if no_room { Failure::TurnedAway } else { Failure::Met(Met::by_quic(&error), error.to_string()) }
        })?;
        let (send, receive) = connection.open_bi().await.map_err(|error| other(&error))?;
        Ok(Wire::Quic { endpoint, connection, send, receive })
    }

    /// The aggregator at its other end, as it was named.
    pub(super) fn aggregator(&self) -> &str {
        &self.aggregator
    }

    /// How its way is, as far as the transport knows.
    pub(super) fn path(&self) -> Option<PathStats> {
        match &self.wire {
            Wire::Quic { connection, .. } => Some(connection.stats().path),
            Wire::Tcp(_) => None,
        }
    }

    /// What carries it.
    pub(super) const fn transport(&self) -> Transport {
        match self.wire {
            Wire::Quic { .. } => Transport::Quic,
            Wire::Tcp(_) => Transport::Tcp,
        }
    }

    /// Sends a message.
    pub(super) async fn say(&mut self, message: &Message) -> Result<(), LinkError> {
        if std::mem::replace(&mut self.torn, true) {
            return Err(LinkError::Broken("a message was cut off".to_owned()));
        }
        let frame = frame::encode(message);
        let broken = |error: &dyn ToString| LinkError::Broken(error.to_string());
        let written = match &mut self.wire {
            Wire::Quic { send, .. } => send.write_all(&frame).await.map_err(|error| broken(&error)),
            Wire::Tcp(stream) => write(stream, &frame).await.map_err(|error| broken(&error)),
        };
        self.torn = false;
        written
    }

    /// The next message that is there already.
    pub(super) fn next(&mut self) -> Result<Option<Message>, LinkError> {
        self.reader.next().map_err(|error| LinkError::Broken(error.to_string()))
    }

    /// Waits for bytes.
    pub(super) async fn fill(&mut self) -> Result<(), LinkError> {
        let broken = |error: &dyn ToString| LinkError::Broken(error.to_string());
        let closed = || LinkError::Broken("the aggregator closed the stream".to_owned());
        match &mut self.wire {
            Wire::Quic { receive, .. } => {
                let chunk = receive.read_chunk(CHUNK_BYTES, true).await.map_err(|error| broken(&error))?;
                self.reader.push(&chunk.ok_or_else(closed)?.bytes);
            }
            Wire::Tcp(stream) => {
                let mut chunk = [0; TCP_CHUNK_BYTES];
                let read = timeout(TCP_IDLE_TIMEOUT, stream.read(&mut chunk)).await;
                let length = read.map_err(|_| broken(&"nothing came for too long"))?.map_err(|error| broken(&error))?;
                self.reader.push(chunk.get(..length).filter(|bytes| !bytes.is_empty()).ok_or_else(closed)?);
            }
        }
        Ok(())
    }

    /// Waits for the next message.
    pub(super) async fn hear(&mut self) -> Result<Message, LinkError> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Ends the link once what was said has arrived, or could not within a while.
    pub(super) async fn close(self) {
        match self.wire {
            Wire::Quic { endpoint, connection, mut send, .. } => {
                drop(send.finish());
                drop(timeout(GOODBYE_TIMEOUT, send.stopped()).await);
                connection.close(VarInt::from_u32(0), b"");
                drop(timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await);
            }
            Wire::Tcp(mut stream) => {
                let over = async {
                    stream.shutdown().await?;
                    // Acknowledgements that nobody read would take what was said with them.
                    while 0 < stream.read(&mut [0; TCP_CHUNK_BYTES]).await? {}
                    Ok::<_, io::Error>(())
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

fn client_config(credentials: &Credentials<'_>) -> Result<(ClientConfig, Arc<Verifier>), LinkError> {
    let error = |error: &dyn ToString| LinkError::Tls(error.to_string());
    let mut provider = default_provider();
    // SHA-384 takes seven times what SHA-256 does where the processor knows the latter, and a handshake hashes much.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let (believe, protocol) = match credentials {
        Credentials::Identity(identity) => (Believe::Ca(identity.ca.clone()), ALPN),
        Credentials::Renew(identity) => (Believe::Ca(identity.ca.clone()), ALPN_ENROLL),
        Credentials::Join(hash) => (Believe::KeyHash(*hash), ALPN_ENROLL),
    };
    let verifier = Arc::new(Verifier::new(believe, Arc::clone(&provider)));
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| error(&why))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
    let mut tls = match credentials {
        Credentials::Identity(identity) | Credentials::Renew(identity) => tls
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .map_err(|why| error(&why))?,
        Credentials::Join(_) => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    Ok((tls, verifier))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // Some network drivers fail on segmentation offload, and a batch is two packets.
        .enable_segmentation_offload(false)
        // It is two of 1,200 bytes too, which pass where larger ones get lost on their way.
        .mtu_discovery_config(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport
}

#[cfg(test)]
mod tests {
    use quinn::ServerConfig;
    use quinn::crypto::rustls::QuicServerConfig;
    use rcgen::generate_simple_self_signed;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// An aggregator of its own, with these protocols.
    fn tls(protocols: &[&[u8]]) -> rustls::ServerConfig {
        let made = generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let tls = tls.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth();
        let mut tls = tls.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        tls
    }

    fn at(address: SocketAddr) -> config::Uplink {
        let state_dir = std::path::PathBuf::new();
        config::Uplink { aggregators: vec![address.to_string()], proxy: None, join: None, state_dir }
    }

    /// What a host that joins is told of what listens on a port of TCP.
    async fn told(listens: impl AsyncFnOnce(TcpListener)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        tokio::join!(refusal(there, Transport::Tcp), listens(listener)).0
    }

    async fn refusal(there: SocketAddr, transport: Transport) -> String {
        let dialled = Link::dial(&at(there), &Credentials::Join([0; 32]), &[transport]).await;
        dialled.map(drop).unwrap_err().to_string()
    }

    async fn accept(listener: TcpListener, tls: rustls::ServerConfig) {
        let (stream, _) = listener.accept().await.unwrap();
        drop(TlsAcceptor::from(Arc::new(tls)).accept(stream).await);
    }

    #[tokio::test]
    async fn what_is_likely_wrong_is_told() {
        let page =
            "give the port of the aggregator's `ingest.listen`, 4641 if it says none: this one is likely its page's";
        let plain = async |listener: TcpListener| {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        let told_of = told(plain).await;
        assert!(told_of.ends_with(page), "{told_of}");
        let told_of = told(async |listener| accept(listener, tls(&[b"http/1.1"])).await).await;
        assert!(told_of.ends_with(page), "{told_of}");
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let told_of = refusal(closed, Transport::Tcp).await;
        assert!(told_of.contains("; see whether the aggregator runs"), "{told_of}");
        let told_of = told(async |listener| accept(listener, tls(&[ALPN_ENROLL])).await).await;
        assert!(
            told_of.contains(": another aggregator answers; it is not the one that made the join token: correct"),
            "{told_of}"
        );
    }

    #[tokio::test]
    async fn another_aggregator_is_known_by_quic_too() {
        let tls = QuicServerConfig::try_from(tls(&[ALPN_ENROLL])).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(tls));
        let other = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let there = other.local_addr().unwrap();
        let accept = async { drop(other.accept().await.unwrap().await) };
        let (told, ()) = tokio::join!(refusal(there, Transport::Quic), accept);
        assert!(
            told.contains(": another aggregator answers; it is not the one that made the join token: correct"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn an_aggregator_without_room_is_not_tried_by_tcp() {
        let made = generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let full = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = full.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let there = at(address);
        let refuse = async { full.accept().await.unwrap().refuse() };
        let credentials = Credentials::Join([0; 32]);
        let dial = Link::dial(&there, &credentials, &[Transport::Quic, Transport::Tcp]);
        let (dialled, ()) = tokio::join!(dial, refuse);
        assert!(matches!(dialled.map(drop), Err(LinkError::TurnedAway)));
        assert!(timeout(Duration::ZERO, tcp.accept()).await.is_err());
    }
}
