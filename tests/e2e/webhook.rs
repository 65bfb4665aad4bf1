//! A receiver of webhooks.

use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::Router;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const MESSAGES_MAX: usize = 16;

/// Listens on a port of its own until it is dropped.
pub(crate) struct Listener {
    address: SocketAddr,
    messages: mpsc::Receiver<Value>,
    _serving: JoinSet<()>,
}

impl Listener {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (received, messages) = mpsc::channel(MESSAGES_MAX);
        let take = |Json(message): Json<Value>| async move {
            // The test may have ended.
            drop(received.send(message).await);
        };
        let mut serving = JoinSet::new();
        serving.spawn(async { drop(axum::serve(listener, Router::new().route("/", post(take))).await) });
        Ok(Self { address, messages, _serving: serving })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The next message; waits for it.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Value> {
        let message = tokio::time::timeout(Duration::from_secs(30), self.messages.recv()).await;
        message.context("no webhook arrived")?.context("the listener ended")
    }

    /// What has arrived and was not taken yet.
    pub(crate) fn waiting(&mut self) -> Vec<Value> {
        iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }
}
