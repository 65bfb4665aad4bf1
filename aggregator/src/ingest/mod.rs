//! Takes in what agents send: accept, authenticate, limit, commit, acknowledge.

mod allowance;
mod blind;
mod book;
mod connection;
pub mod counters;
mod dismissal;
pub mod door;
mod endpoint;
pub mod enroll;
mod entry;
pub mod hearing;
mod holes;
pub mod lineage;
mod link;
mod obituary;
pub mod policy;
pub mod presence;
pub mod recall;
pub mod session;
mod through;
pub mod trust;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::time::Clock;
use quinn::Incoming;
use quinn::VarInt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::ingest::counters::Counters;
use crate::ingest::door::Answer;
use crate::ingest::door::Door;
pub use crate::ingest::endpoint::BindError;
use crate::ingest::endpoint::Endpoints;
use crate::ingest::enroll::Registrar;
use crate::ingest::link::HANDSHAKE_TIMEOUT;
use crate::ingest::link::Link;
use crate::ingest::presence::Presence;
use crate::ingest::trust::Authority;
use crate::store::Store;

/// Connections at once: twice the agents that one aggregator is meant for, at 45 kB each.
pub const SESSIONS_MAX: usize = 20_000;

/// How long sessions may take to say goodbye when the aggregator stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last packets of sessions that are over may take to leave. A connection lingers for a few round trips behind
/// its end, seconds of a busy machine; who did not hear of it is told by the next process as soon as it sends.
const LINGER_TIMEOUT: Duration = Duration::from_millis(250);

/// What all connections share.
struct Shared {
    store: Store,
    presence: Presence,
    authority: Arc<Authority>,
    registrar: Registrar,
    counters: Arc<Counters>,
    clock: Clock,
    door: Door,
}

/// The endpoint, bound and not yet accepting.
pub struct Ingest {
    endpoints: Endpoints,
    shared: Arc<Shared>,
}

impl Ingest {
    /// Listens. Call inside the runtime that will run it.
    ///
    /// # Errors
    /// When the address cannot be listened on or TLS cannot be set up.
    pub fn bind(
        listen: SocketAddr,
        authority: Arc<Authority>,
        store: Store,
        presence: Presence,
        clock: Clock,
    ) -> Result<Self, BindError> {
        let endpoints = endpoint::bind(listen, &authority, clock.wall())?;
        let shared = Shared {
            registrar: Registrar::new(store.clone(), presence.clone(), clock.clone()),
            store,
            presence,
            authority,
            counters: Arc::new(Counters::default()),
            clock,
            door: Door::default(),
        };
        Ok(Self { endpoints, shared: Arc::new(shared) })
    }

    /// Counts in these. Before it runs.
    #[must_use]
    pub fn counting(mut self, counters: Arc<Counters>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.counters = counters;
        }
        self
    }

    /// Where it listens: the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// When the socket does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoints.quic.local_addr()
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Accepts until the stop, then lets sessions commit what they have and say goodbye.
    pub async fn run(self, stop: CancellationToken) {
        let Endpoints { quic, tcp, tls } = self.endpoints;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                incoming = quic.accept() => match incoming {
                    Some(incoming) if connections.len() < SESSIONS_MAX => {
                        connections.spawn(connect(incoming, Arc::clone(&self.shared), stop.clone()));
                    }
                    Some(incoming) => {
                        self.shared.counters.turned_away_total.count(1);
                        incoming.refuse();
                    }
                    None => break,
                },
                Ok((stream, from)) = tcp.accept(), if connections.len() < SESSIONS_MAX => {
                    connections.spawn(connect_tcp((stream, from), tls.clone(), Arc::clone(&self.shared), stop.clone()));
                }
            }
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::info!(sessions = connections.len(), "sessions cut off");
        }
        quic.close(VarInt::from_u32(0), b"");
        drop(timeout(LINGER_TIMEOUT, quic.wait_idle()).await);
    }
}

async fn connect(incoming: Incoming, shared: Arc<Shared>, stop: CancellationToken) {
    let shown = incoming.remote_address_validated();
    let connection = match shared.door.knock(incoming.remote_address().ip(), shown) {
        Answer::Enter(_place) => connection::accept(incoming).await,
        Answer::Show => {
            // Who was asked to show its address before has shown it.
            drop(incoming.retry());
            return;
        }
        Answer::Leave => {
            // Agents come back after a while, each at a different time.
            shared.counters.turned_away_total.count(1);
            incoming.refuse();
            return;
        }
    };
    let Some(connection) = connection else {
        shared.counters.handshakes_failed_total.count(1);
        return;
    };
    match timeout(HANDSHAKE_TIMEOUT, Link::quic(connection)).await {
        Ok(Some(link)) => connection::serve(link, shared, stop).await,
        // It left: an agent that only looked whether it is answered does.
        Ok(None) => {}
        Err(_) => shared.counters.wordless_total.count(1),
    }
}

/// The same for whoever came by TCP, whose address has been shown.
async fn connect_tcp(
    (stream, from): (TcpStream, SocketAddr),
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let link = match shared.door.knock(from.ip(), true) {
        Answer::Enter(_place) => Link::tcp(stream, from, &tls).await,
        Answer::Show | Answer::Leave => {
            shared.counters.turned_away_total.count(1);
            return;
        }
    };
    match link {
        Some(link) => connection::serve(link, shared, stop).await,
        None => shared.counters.handshakes_failed_total.count(1),
    }
}

#[cfg(test)]
mod tests;
