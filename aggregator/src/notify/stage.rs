//! The stage `alert → notify`: waits for each evaluation, commits what it caused, and delivers what is in the outbox.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::time::Clock;
use common::time::Timestamp;
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alert::evaluator::Evaluator;
use crate::alert::evaluator::EvaluatorConfig;
use crate::alert::snapshot::Alerts;
use crate::alert::snapshot::Snapshot;
use crate::ingest::presence::Presence;
use crate::notify::core::Core;
use crate::notify::group::Groups;
use crate::notify::notifier::Attempt;
use crate::notify::notifier::Notifier;
use crate::notify::outbox::Address;
use crate::notify::outbox::Outbox;
use crate::notify::outbox::Pending;
use crate::notify::receiver::Failure;
use crate::notify::receiver::client::Client;
use crate::notify::receiver::webhook;
use crate::query::Engine;
use crate::store::Store;
use crate::store::commit::Commit;
use crate::store::commit::CommitError;
use crate::store::record::alerts;
use crate::store::record::groups;
use crate::store::record::notifications::Notification;
use crate::store::record::outbox;

/// How long an evaluation waits for hosts that lag.
const LAG_MAX: Duration = Duration::from_secs(1);

/// How often the files that people write are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long deliveries under way may take at a stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Deliveries at once: receivers are few, and each is slow at most for its timeout.
const DELIVERIES_MAX: usize = 64;

/// Decisions that a slow listener may lag behind before it misses some.
const DECISIONS_WAITING_MAX: usize = 256;

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Where `rules/` and `alertmanager.yml` lie.
    pub directory: PathBuf,
    /// When and how rules are evaluated.
    pub evaluator: EvaluatorConfig,
}

/// What the stage works with.
pub struct Surroundings {
    /// Keeps everything.
    pub store: Store,
    /// Answers what rules ask.
    pub engine: Engine,
    /// Knows who is connected.
    pub presence: Presence,
    /// Tells the time.
    pub clock: Clock,
    /// Reads rules and routes again when notified.
    pub reload: Arc<Notify>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Where the stage shows what it did.
pub struct Outlets {
    pictures: watch::Sender<Arc<Snapshot>>,
    decisions: broadcast::Sender<Notification>,
}

/// The decisions as they are committed. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Decisions(broadcast::Sender<Notification>);

impl Decisions {
    /// Follows the decisions.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.0.subscribe()
    }
}

/// What others hold of the stage, and what [`run`] wants.
#[must_use]
pub fn handles() -> (Alerts, Decisions, Outlets) {
    let (alerts, pictures) = Alerts::new();
    let decisions = broadcast::Sender::new(DECISIONS_WAITING_MAX);
    (alerts, Decisions(decisions.clone()), Outlets { pictures, decisions })
}

/// Evaluates and notifies until the stop.
///
/// # Errors
/// When the store cannot be read or has ended, or the system has no certificates.
pub async fn run(config: StageConfig, around: Surroundings, outlets: Outlets) -> anyhow::Result<()> {
    let client = Client::new().context("make a client for webhooks")?;
    let core = restore(config, &around).await.context("read the state of alerts")?;
    let mut stage = Stage { core: Some(Box::new(core)), around, outlets, client, deliveries: JoinSet::new() };
    stage.look(false).await?;
    stage.run().await
}

struct Stage {
    /// Away only while a thread works on it.
    core: Option<Box<Core>>,
    around: Surroundings,
    outlets: Outlets,
    client: Client,
    deliveries: JoinSet<Attempt>,
}

async fn restore(config: StageConfig, around: &Surroundings) -> anyhow::Result<Core> {
    let read = around.store.read(|connection| {
        let recorded = (alerts::all(connection)?, groups::all(connection)?, outbox::all(connection)?);
        Ok((recorded, alerts::evaluated_through(connection)?))
    });
    let ((alerts, groups, outbox), through) = read.await?;
    let now = around.clock.wall();
    let external_url = Arc::clone(&config.evaluator.external_url);
    let evaluator = Evaluator::new(config.evaluator, around.engine.clone(), alerts);
    let notifier = Notifier::new(Groups::restored(groups), Outbox::restored(outbox));
    Ok(Core::new(evaluator, notifier, &config.directory, external_url, through.unwrap_or(now)))
}

impl Stage {
    async fn run(mut self) -> anyhow::Result<()> {
        let clock = self.around.clock.clone();
        let stop = self.around.stop.clone();
        let reload = Arc::clone(&self.around.reload);
        let mut through = self.around.presence.committed_through();
        let mut look_at = clock.monotonic().saturating_add(LOOK_INTERVAL);
        loop {
            self.depart();
            let next = self.core()?.next(clock.wall());
            let departure = self.core()?.notifier.next_departure().filter(|_| self.deliveries.len() < DELIVERIES_MAX);
            tokio::select! {
                () = stop.cancelled() => break,
                () = due(&clock, &mut through, next) => self.evaluate(next).await?,
                Some(attempt) = self.deliveries.join_next() => self.arrived(attempt.context("deliver")?).await?,
                () = until(&clock, departure) => {}
                () = until(&clock, Some(look_at)) => {
                    look_at = clock.monotonic().saturating_add(LOOK_INTERVAL);
                    self.look(false).await?;
                }
                () = reload.notified() => self.look(true).await?,
            }
        }
        self.drain(&clock).await
    }

    /// Lets deliveries under way end: each that does need not be repeated after the next start.
    async fn drain(mut self, clock: &Clock) -> anyhow::Result<()> {
        let deadline = clock.monotonic().saturating_add(DRAIN_MAX);
        loop {
            tokio::select! {
                attempt = self.deliveries.join_next() => match attempt {
                    Some(attempt) => self.arrived(attempt.context("deliver")?).await?,
                    None => return Ok(()),
                },
                () = until(clock, Some(deadline)) => return Ok(()),
            }
        }
    }

    async fn evaluate(&mut self, at: Timestamp) -> anyhow::Result<()> {
        let Surroundings { presence, clock, store, .. } = &self.around;
        let unheard = presence.unheard(at, clock.wall(), store);
        let commit = self.on_thread(move |core| core.evaluate(&unheard, at)).await?;
        self.commit(commit).await?;
        self.show()
    }

    async fn arrived(&mut self, attempt: Attempt) -> anyhow::Result<()> {
        let now = self.around.clock.monotonic();
        self.core()?.notifier.arrived(attempt, now, random());
        let commit = self.core()?.changes();
        self.commit(commit).await
    }

    async fn look(&mut self, again: bool) -> anyhow::Result<()> {
        if self.on_thread(move |core| core.look(again)).await? { self.show() } else { Ok(()) }
    }

    /// What cannot be committed stays to be committed: evaluation and delivery go on from memory. Where samples have no room,
    /// what was decided may have some.
    async fn commit(&mut self, commit: Commit) -> anyhow::Result<()> {
        let has_samples = !commit.appends.is_empty();
        let mut outcome = self.around.store.commit(commit).await;
        if has_samples && matches!(outcome, Err(CommitError::Full)) {
            let decided = self.core()?.changes();
            outcome = self.around.store.commit(decided).await;
        }
        match outcome {
            Ok(_) => {
                for decision in self.core()?.committed() {
                    // Without listeners nobody needs to hear.
                    drop(self.outlets.decisions.send(decision));
                }
                Ok(())
            }
            Err(CommitError::Closed) if self.around.stop.is_cancelled() => Ok(()),
            Err(CommitError::Closed) => Err(anyhow::anyhow!("the store has ended")),
            // The store says itself when that begins and ends.
            Err(CommitError::Full) => Ok(()),
            Err(error @ (CommitError::Io(_) | CommitError::Malformed { .. } | CommitError::Unfounded { .. })) => {
                tracing::warn!(%error, "state of alerts is not stored");
                Ok(())
            }
        }
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let picture = Arc::new(self.core()?.snapshot());
        self.outlets.pictures.send_replace(picture);
        Ok(())
    }

    /// Sends the notifications whose turn it is on their way.
    fn depart(&mut self) {
        let room = DELIVERIES_MAX.saturating_sub(self.deliveries.len());
        let now = self.around.clock.monotonic();
        let Some(core) = &mut self.core else { return };
        for (address, pending) in core.notifier.depart(now, room) {
            let target = core.notifier.config().and_then(|config| config.webhook(&address.1));
            let target = target.map(|(receiver, webhook)| {
                let url = core.external_url();
                let body = webhook::payload(&pending.message, receiver, webhook.max_alerts, url);
                (webhook.clone(), body)
            });
            self.deliveries.spawn(deliver(self.client.clone(), target, address, pending));
        }
    }

    fn core(&mut self) -> anyhow::Result<&mut Core> {
        self.core.as_deref_mut().context("the state of alerts is lost")
    }

    /// Queries and files take the thread they run on.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut core = self.core.take().context("the state of alerts is lost")?;
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut core);
            (core, result)
        });
        let (core, result) = worked.await.context("evaluate rules")?;
        self.core = Some(core);
        Ok(result)
    }
}

async fn deliver(
    client: Client,
    target: Option<(webhook::Webhook, String)>,
    address: Address,
    pending: Pending,
) -> Attempt {
    let result = match target {
        Some((webhook, body)) => webhook::send(&client, &webhook, &pending.id, body).await,
        None => Err(Failure::Lasting("the receiver is gone".to_owned())),
    };
    Attempt { address, pending, result }
}

/// Waits for the time of an evaluation, and then for the hosts that are connected, but not for those that lag.
async fn due(clock: &Clock, through: &mut watch::Receiver<Timestamp>, at: Timestamp) {
    clock.sleep_until(at).await;
    tokio::select! {
        reached = through.wait_for(|through| at <= *through) => drop(reached),
        () = clock.sleep_until(at.after(LAG_MAX)) => {}
    }
}

/// Waits until a moment of running time; `None` waits for ever.
async fn until(clock: &Clock, moment: Option<Duration>) {
    match moment {
        Some(moment) => clock.sleep(moment.saturating_sub(clock.monotonic())).await,
        None => std::future::pending().await,
    }
}

/// From 0 to 1. Without the system's randomness pauses are merely not spread.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::query::EngineConfig;
    use crate::store::Health;
    use crate::store::StoreConfig;
    use crate::store::full::crowd;
    use crate::store::lock::Lock;

    #[tokio::test]
    async fn what_was_decided_is_recorded_where_samples_have_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let clock = Clock::moved(now);
        let lock = Lock::take(dir.path()).unwrap();
        let (store, mut writer) = Store::open(lock, StoreConfig::default(), clock.clone()).unwrap();
        crowd(&mut writer, dir.path());
        let writer = std::thread::spawn(move || writer.run());
        fs::create_dir(dir.path().join("rules")).unwrap();
        let rules = "groups: [{name: a, rules: [{record: a, expr: vector(1)}]}]";
        fs::write(dir.path().join("rules/a.yml"), rules).unwrap();

        let evaluator = EvaluatorConfig {
            interval: Duration::from_secs(10),
            hold_silent: Duration::from_secs(30),
            external_url: "".into(),
        };
        let config = StageConfig { directory: dir.path().to_owned(), evaluator };
        let around = Surroundings {
            engine: Engine::new(Arc::new(store.clone()), clock.clone(), EngineConfig::default()),
            presence: Presence::new(Vec::new(), Vec::new(), now),
            store: store.clone(),
            clock,
            reload: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (_alerts, _decisions, outlets) = handles();
        let core = Some(Box::new(restore(config, &around).await.unwrap()));
        let client = Client::new().unwrap();
        let mut stage = Stage { core, around, outlets, client, deliveries: JoinSet::new() };
        stage.look(false).await.unwrap();
        stage.evaluate(now).await.unwrap();
        assert_eq!(store.health(), Health::Full);
        store.close();
        writer.join().unwrap();
        drop((stage, store));
        let lock = Lock::take(dir.path()).unwrap();
        let (store, _writer) = Store::open(lock, StoreConfig::default(), Clock::moved(now)).unwrap();
        assert_eq!(store.read(alerts::evaluated_through).await.unwrap(), Some(now));
    }
}
