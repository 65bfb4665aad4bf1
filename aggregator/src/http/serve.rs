//! Connections: how many, how long each may take to ask, and how they end.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use common::time::Clock;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::http::pace::Paced;

/// Connections at once: a hundred people with a page open each, ten times over, and far from the usual limit of open files.
const CONNECTIONS_MAX: usize = 512;

/// How long a connection may stand without a whole request head: browsers and scrapers open another at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long answers under way may take at a stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers until `stop`, then finishes the answers that are under way, and cuts off those that take too long.
pub async fn serve(
    mut listener: impl Listener,
    tls: Option<TlsAcceptor>,
    router: Router,
    (clock, stop): (Clock, CancellationToken),
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (io, _) = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connect(Paced::new(io, &clock), tls.clone(), router.clone(), stop.clone()));
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::info!(connections = connections.len(), "connections cut off");
    }
}

async fn connect(
    io: impl AsyncRead + AsyncWrite + Unpin,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let Some(tls) = tls else { return answer(io, router, stop).await };
    match timeout(HEAD_TIMEOUT, tls.accept(io)).await {
        Ok(Ok(io)) => answer(io, router, stop).await,
        // Also whoever speaks plain HTTP here.
        Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
        Err(_) => tracing::debug!("no TLS in time"),
    }
}

async fn answer(io: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::routing::get;
    use common::time::Timestamp;
    use futures::stream;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::io::DuplexStream;

    use super::*;

    /// Whether an answer without an end still goes on after ten minutes in which its reader takes so many bytes in each ten
    /// seconds.
    async fn goes_on(bytes: usize) -> bool {
        let clock = Clock::moved(Timestamp::from_millis(0));
        let (mut reader, io) = tokio::io::duplex(1 << 10);
        // What is held for the answer.
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let endless = || async move {
            let pieces = stream::unfold(holds, async |holds| Some((Ok::<_, io::Error>(vec![b'x'; 1 << 12]), holds)));
            Body::from_stream(pieces)
        };
        let router = Router::new().route("/", get(endless));
        reader.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let read = async |reader: &mut DuplexStream| {
            for _ in 0..60 {
                reader.read_exact(&mut vec![0; bytes]).await.unwrap_or_default();
                // What waits for room has begun to wait.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                clock.advance(Duration::from_secs(10));
            }
        };
        let serving = connect(Paced::new(io, &clock), None, router, CancellationToken::new());
        let goes_on = tokio::select! {
            biased;
            () = serving => false,
            () = read(&mut reader) => true,
        };
        assert_eq!(Arc::strong_count(&held), 1, "nothing is held behind it");
        goes_on
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_answered_for_ever() {
        assert!(!goes_on(0).await);
        assert!(!goes_on(1 << 10).await, "a drip is not a pace");
        assert!(goes_on(16 << 10).await);
    }
}
