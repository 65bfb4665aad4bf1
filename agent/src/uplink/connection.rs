//! One QUIC connection to the aggregator, and the one stream on it.

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
use quinn::ClientConfig;
use quinn::Connection;
use quinn::Endpoint;
use quinn::IdleTimeout;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::TransportConfig;
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use tokio::time::timeout;

use crate::uplink::identity::Identity;
use crate::uplink::verify::Believe;
use crate::uplink::verify::Verifier;

/// How long one address may take to answer before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A link that is silent for so long is taken for lost, and another is tried.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Windows leave every ten seconds; this keeps address translation alive while the aggregator asks for a pause.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// How long last words may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes taken from the stream at once: acknowledgements are small.
const CHUNK_BYTES: usize = 16 << 10;

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The name does not resolve.
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, #[source] io::Error),
    /// No address answers; this is what the last one did.
    #[error("cannot reach {0} at {1}: {2}")]
    Reach(String, SocketAddr, String),
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
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
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    reader: Reader,
    /// A frame was begun and not finished: nothing can follow it.
    torn: bool,
}

impl Link {
    /// Dials all addresses of a name in turn.
    pub(super) async fn dial(aggregator: &str, credentials: &Credentials<'_>) -> Result<Self, LinkError> {
        let config = client_config(credentials)?;
        let addresses = tokio::net::lookup_host(aggregator).await;
        let addresses = addresses.map_err(|error| LinkError::Resolve(aggregator.to_owned(), error))?;
        let mut failure = LinkError::NoAddress(aggregator.to_owned());
        for address in addresses {
            let failed = |why: String| LinkError::Reach(aggregator.to_owned(), address, why);
            match timeout(CONNECT_TIMEOUT, Self::connect(address, config.clone())).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(why)) => failure = failed(why),
                Err(_) => failure = failed(format!("no answer within {CONNECT_TIMEOUT:?}")),
            }
        }
        Err(failure)
    }

    async fn connect(address: SocketAddr, config: ClientConfig) -> Result<Self, String> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(any).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(config, address, SERVER_NAME).map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (send, receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
        Ok(Self { endpoint, connection, send, receive, reader: Reader::new(FRAME_BYTES_MAX), torn: false })
    }

    /// Sends a message.
    pub(super) async fn say(&mut self, message: &Message) -> Result<(), LinkError> {
        if std::mem::replace(&mut self.torn, true) {
            return Err(LinkError::Broken("a message was cut off".to_owned()));
        }
        let written = self.send.write_all(&frame::encode(message)).await;
        self.torn = false;
        written.map_err(|error| LinkError::Broken(error.to_string()))
    }

    /// The next message that is there already.
    pub(super) fn next(&mut self) -> Result<Option<Message>, LinkError> {
        self.reader.next().map_err(|error| LinkError::Broken(error.to_string()))
    }

    /// Waits for bytes.
    pub(super) async fn fill(&mut self) -> Result<(), LinkError> {
        match self.receive.read_chunk(CHUNK_BYTES, true).await {
            Ok(Some(chunk)) => {
                self.reader.push(&chunk.bytes);
                Ok(())
            }
            Ok(None) => Err(LinkError::Broken("the aggregator closed the stream".to_owned())),
            Err(error) => Err(LinkError::Broken(error.to_string())),
        }
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
    pub(super) async fn close(mut self) {
        drop(self.send.finish());
        drop(timeout(GOODBYE_TIMEOUT, self.send.stopped()).await);
        self.connection.close(VarInt::from_u32(0), b"");
        drop(timeout(GOODBYE_TIMEOUT, self.endpoint.wait_idle()).await);
    }
}

fn client_config(credentials: &Credentials<'_>) -> Result<ClientConfig, LinkError> {
    let error = |error: &dyn ToString| LinkError::Tls(error.to_string());
    let provider = Arc::new(default_provider());
    let (believe, protocol) = match credentials {
        Credentials::Identity(identity) => (Believe::Ca(identity.ca.clone()), ALPN),
        Credentials::Renew(identity) => (Believe::Ca(identity.ca.clone()), ALPN_ENROLL),
        Credentials::Join(hash) => (Believe::KeyHash(*hash), ALPN_ENROLL),
    };
    let verifier = Arc::new(Verifier::new(believe, Arc::clone(&provider)));
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| error(&why))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match credentials {
        Credentials::Identity(identity) | Credentials::Renew(identity) => tls
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .map_err(|why| error(&why))?,
        Credentials::Join(_) => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(|why| error(&why))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // Some network drivers fail on segmentation offload, and a batch is two packets.
        .enable_segmentation_offload(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport
}
