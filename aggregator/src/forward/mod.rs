//! Writes what is stored to others, by Prometheus' remote write.
//!
//! What is sent is read from the store, in closed stretches of time behind a cursor that is kept there. What comes later of
//! the time before the cursor is noted by the commit that brings it, and sent on its own.

mod reading;
mod relabel;
mod sender;

pub use crate::forward::sender::Counted;

use std::sync::Arc;

use anyhow::Context as _;
use common::time::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::config::Credential;
use crate::config::Relabel;
use crate::forward::sender::Sender;
use crate::notify::receiver::client::Authorization;
use crate::notify::receiver::client::Client;
use crate::notify::receiver::client::Secret;
use crate::store::Store;
use crate::store::commit::Commit;
use crate::store::record::Record;
use crate::store::record::forwards::Targets;

/// Those who are written to, as others see them.
pub type Forwards = Arc<Vec<Arc<Counted>>>;

/// Whom to write to.
#[derive(Clone, Debug)]
pub struct Target {
    /// What people call it, and its cursor.
    name: String,
    url: String,
    headers: Vec<(String, String)>,
    authorization: Option<Authorization>,
    relabel: Vec<Relabel>,
}

impl Target {
    /// As the configuration has it.
    #[must_use]
    pub fn of(written: &config::Forward) -> Self {
        let authorization = written.credential.clone().map(|credential| match credential {
            Credential::Bearer(file) => Authorization::Scheme("Bearer".to_owned(), Secret::File(file)),
            Credential::Basic(user, file) => Authorization::Basic(user, Secret::File(file)),
        });
        Self {
            name: written.name.clone(),
            url: written.url.clone(),
            headers: written.headers.clone().into_iter().collect(),
            authorization,
            relabel: written.relabel.clone(),
        }
    }
}

/// What is counted of each.
#[must_use]
pub fn counted(targets: &[Target]) -> Forwards {
    Arc::new(targets.iter().map(|target| Arc::new(Counted::new(&target.name))).collect())
}

/// Writes to all targets until told to stop.
///
/// # Errors
/// When the store or TLS cannot be used.
pub async fn run(
    targets: Vec<Target>,
    (store, clock): (Store, Clock),
    forwards: Forwards,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    let records = vec![Record::ForwardTargets(Targets { names: names.clone(), from: clock.wall() })];
    store.commit(Commit { appends: Vec::new(), records }).await.context("note who is written to")?;
    store.forward_to(names).await.context("read who is written to")?;
    let mut running = JoinSet::new();
    if !targets.is_empty() {
        let client = Client::new().context("make a client for those who are written to")?;
        for (target, counted) in targets.into_iter().zip(forwards.iter()) {
            let sender = Sender {
                target,
                client: client.clone(),
                store: store.clone(),
                clock: clock.clone(),
                counted: Arc::clone(counted),
                stop: stop.clone(),
            };
            running.spawn(sender.run());
        }
    }
    stop.cancelled().await;
    while running.join_next().await.is_some() {}
    Ok(())
}
