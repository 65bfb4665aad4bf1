//! The QUIC endpoint: sockets, TLS, and who gets as far as a session.

use std::io;
use std::net;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use common::time::Timestamp;
use common::trust::ALPN;
use common::trust::ALPN_ENROLL;
use quinn::ConnectionId;
use quinn::ConnectionIdGenerator;
use quinn::EndpointConfig;
use quinn::IdleTimeout;
use quinn::ServerConfig;
use quinn::TokioRuntime;
use quinn::TransportConfig;
use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring;
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::ingest::trust::Authority;
use crate::ingest::trust::TrustError;

/// A storm of 64 handshakes at once overflowed the kernel's default of 208 KiB; 4 MiB lost nothing.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// An agent that is gone is noticed by its missing windows long before; this frees its memory.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Between two packets that tell agents of an earlier process that their sessions are gone: none. Agents send at the same
/// moment, as their windows end; one that is not told then sends again only after a while, each time after twice as long,
/// and quinn takes all packets that it reads at once for simultaneous. Each answer is shorter than what it answers.
const RESET_INTERVAL: Duration = Duration::ZERO;

/// Connections on TCP that wait to be accepted.
const TCP_WAITING_MAX: i32 = 1_024;

/// A backlog in flight: 32 batches of a few kilobytes.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// There is no certificate.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Where agents connect to: QUIC and, on the same port, TCP where UDP does not pass.
pub(super) struct Endpoints {
    pub(super) quic: quinn::Endpoint,
    pub(super) tcp: TcpListener,
    pub(super) tls: TlsAcceptor,
}

/// A port that the kernel chose for UDP may be taken on TCP: another is asked for.
const PORT_ATTEMPTS: usize = 16;

/// Opens both. Call inside the runtime that will drive them.
pub(super) fn bind(listen: SocketAddr, authority: &Authority, now: Timestamp) -> Result<Endpoints, BindError> {
    let tls = Arc::new(tls(authority, now)?);
    let crypto = QuicServerConfig::try_from(Arc::clone(&tls)).map_err(|error| BindError::Tls(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let opened = (1..attempts).find_map(|_| sockets(listen).ok()).map_or_else(|| sockets(listen), Ok);
    let failed = |error| BindError::Listen(listen, error);
    let (udp, tcp) = opened.map_err(failed)?;
    let quic = quinn::Endpoint::new(resetting(authority), Some(config), udp, Arc::new(TokioRuntime));
    let (quic, tcp) = (quic.map_err(failed)?, TcpListener::from_std(tcp).map_err(failed)?);
    Ok(Endpoints { quic, tcp, tls: TlsAcceptor::from(tls) })
}

/// An aggregator that was killed tells its agents so as soon as they send: they need not wait until nothing has come for
/// long. They believe it because it knows what the one before knew.
fn resetting(authority: &Authority) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(authority.secret("stateless reset")));
    config.min_reset_interval(RESET_INTERVAL).cid_generator(|| Box::new(AnyIds));
    config
}

/// Names of connections, among which are those that an earlier process gave.
struct AnyIds;

impl ConnectionIdGenerator for AnyIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // Without randomness all are the same, and the second connection finds no name: no TLS would work either.
        ConnectionId::new(&getrandom::u64().unwrap_or_default().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn sockets(listen: SocketAddr) -> io::Result<(UdpSocket, net::TcpListener)> {
    let udp = socket(listen)?;
    let port = udp.local_addr()?.port();
    let tcp = any_family(SocketAddr::new(listen.ip(), port), Type::STREAM)?;
    tcp.listen(TCP_WAITING_MAX)?;
    Ok((udp, tcp.into()))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // Answers are small, and each connection would keep a buffer for ten packets.
        .enable_segmentation_offload(false)
        // Nor is it worth looking for larger packets, which is a tenth of what a return of all agents takes.
        .mtu_discovery_config(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport
}

/// A dual-stack socket for `[::]`; IPv4 alone where the kernel has no IPv6.
fn any_family(listen: SocketAddr, kind: Type) -> io::Result<Socket> {
    let opened = open(listen, kind);
    let any = listen.is_ipv6() && listen.ip().is_unspecified();
    match opened {
        Err(_) if any => open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port())), kind),
        opened => opened,
    }
}

fn socket(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = any_family(listen, Type::DGRAM)?;
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        set(&socket, SOCKET_BUFFER_BYTES)?;
    }
    // The kernel clamps without an error; Linux reports twice what it granted.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < SOCKET_BUFFER_BYTES {
        tracing::info!(granted, wanted = SOCKET_BUFFER_BYTES, "small UDP receive buffer: raise net.core.rmem_max");
    }
    Ok(socket.into())
}

fn open(listen: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), kind, None)?;
    if kind == Type::STREAM {
        // Sessions of the run before that linger do not keep the port.
        socket.set_reuse_address(true)?;
    }
    if listen.is_ipv6() && listen.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&listen.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tls(authority: &Authority, now: Timestamp) -> Result<rustls::ServerConfig, BindError> {
    let provider = Arc::new(ring::default_provider());
    let any_key = Arc::new(AnyKey { algorithms: provider.signature_verification_algorithms });
    let identity = authority.server(now)?;
    let tls_error = |error: rustls::Error| BindError::Tls(error.to_string());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(tls_error)?
        .with_client_cert_verifier(any_key)
        .with_single_cert(identity.chain, identity.key)
        .map_err(tls_error)?;
    tls.alpn_protocols = vec![ALPN.to_vec(), ALPN_ENROLL.to_vec()];
    // A full handshake takes half a millisecond and an agent makes one a day: not worth remembering.
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

/// Takes any client that holds the key of the certificate that it shows, or shows none: the session judges, because it
/// can say why.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC is TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
