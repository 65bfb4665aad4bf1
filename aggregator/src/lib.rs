//! The aggregator: takes batches in, keeps them, answers questions, raises alerts, tells people.

pub mod alert;
pub mod check;
pub mod command;
pub mod config;
pub mod forward;
pub mod http;
pub mod ingest;
pub mod notify;
pub mod query;
pub mod receive;
pub mod store;
pub mod telemetry;

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::anyhow;
use anyhow::ensure;
use common::time::Clock;
use common::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alert::evaluator::EvaluatorConfig;
use crate::config::Config;
use crate::config::ReadError;
use crate::http::Access;
use crate::http::App;
use crate::http::Rooms;
use crate::http::control;
use crate::http::control::Answer;
use crate::http::control::Question;
use crate::http::secret;
use crate::http::secret::Hash;
use crate::http::snapshots;
use crate::http::tls::Tls;
use crate::http::tls::TlsError;
use crate::ingest::BindError;
use crate::ingest::Ingest;
use crate::ingest::presence::Presence;
use crate::ingest::trust::Authority;
use crate::notify::stage;
use crate::notify::stage::Outlets;
use crate::notify::stage::StageConfig;
use crate::notify::stage::Surroundings;
use crate::query::Engine;
use crate::query::EngineConfig;
use crate::store::Store;
use crate::store::StoreConfig;
use crate::store::Writer;
use crate::store::lock::Lock;
use crate::store::lock::LockError;
use crate::store::record::hosts;
use crate::store::record::windows;
use crate::store::room::Limits;
use crate::store::snapshot::Snapshot;

/// How long stages may take to finish what they have, once told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long `run` waits for a command that holds the data directory: commands are done in a moment.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Between two attempts to take it.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// How the outside speaks to a running aggregator.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Ends it in good order.
    pub stop: CancellationToken,
    /// Reads rules and routing again.
    pub reload: Arc<Notify>,
}

/// Where a running aggregator listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The API and the page.
    pub http: SocketAddr,
    /// What agents connect to.
    pub ingest: SocketAddr,
}

/// Runs until told to stop. `started` hears the addresses when all is up.
///
/// # Errors
/// When something cannot be opened, or a stage ends that should not.
pub async fn run(
    config: Config,
    clock: Clock,
    signals: Signals,
    started: Option<oneshot::Sender<Addresses>>,
) -> anyhow::Result<()> {
    let Some(lock) = signals.stop.run_until_cancelled(own(&config.data_dir, &clock)).await.transpose()? else {
        return Ok(());
    };
    let (store, writer) = Store::begin(lock, keeping(&config), clock.clone()).context("open the store")?;
    let (mut rooms, outlets) = rooms(&config, &clock, &store).await?;
    let targets: Vec<_> = config.forward.iter().map(forward::Target::of).collect();
    rooms.forwards = forward::counted(&targets);
    let tls = tls(&config, clock.wall())?;
    let listener = listen(config.http.listen).await?;
    let http = listener.local_addr().context("look up the address of http.listen")?;
    let socket = control::listen(&config.control_socket()).context("open control.sock")?;
    let app = Arc::new(App::new(rooms.clone(), access(&config, http)?, signals.stop.clone()));
    let router = http::router(Arc::clone(&app));

    let stop = || signals.stop.clone();
    let mut stages = Stages::new(stop());
    stages.writer.spawn_blocking(move || writer.run());
    stages.start("live events", ended(app.live.clone().run(rooms.clone(), stop())));
    let acceptor = tls.as_ref().map(|tls| tls.acceptor().clone());
    stages.start("http", ended(http::serve(listener, acceptor, router.clone(), (clock.clone(), stop()))));
    if let Some(tls) = tls {
        stages.start("certificate", ended(tls.watch(clock.clone(), stop())));
    }
    stages.start(
        "control socket",
        ended(http::serve(
            socket,
            None,
            control::trusted(router.merge(snapshots::router(store.clone()))),
            (clock, stop()),
        )),
    );
    let opened = if stages.before_stop(store.has_read()).await {
        let evaluation = evaluation(&config, &app.access.address());
        take_in(&mut stages, &config, &rooms, (&signals, evaluation, outlets, targets)).map(Some)
    } else {
        Ok(None)
    };
    let ended = match opened {
        Ok(ingest) => {
            if let Some(ingest) = ingest {
                let (data_dir, rules) = (config.data_dir.display(), config.rules_dir.join("rules"));
                tracing::info!(%http, %ingest, %data_dir, rules = %rules.display(), "aggregator started");
                warn_of_unread(&config);
                // A caller that does not wait has dropped its end, or gave none.
                started.map(|started| started.send(Addresses { http, ingest })).unwrap_or(Ok(())).unwrap_or_default();
            }
            stages.drain(|| store.close()).await
        }
        Err(error) => {
            signals.stop.cancel();
            stages.drain(|| store.close()).await.and(Err(error))
        }
    };
    drop(std::fs::remove_file(config.control_socket()));
    tracing::info!("aggregator stopped");
    ended
}

/// Says what is not read of what seems to be meant to be.
fn warn_of_unread(config: &Config) {
    for (unread, read) in config.unread() {
        let (unread, read) = (unread.display(), read.display());
        tracing::warn!(%unread, %read, "rules and routes are read beside the configuration file, not in the data directory");
    }
}

/// Asks one question: a running aggregator through its control socket, or the same handlers in this process.
///
/// # Errors
/// When nobody answers, or the answer is a refusal.
pub async fn ask(config: &Config, clock: &Clock, question: Question) -> anyhow::Result<serde_json::Value> {
    exchange(config, clock, question, control::read).await
}

/// The same, of what is answered at length: it is written as it comes.
///
/// # Errors
/// As [`ask`], and when it breaks off or cannot be written.
pub async fn copy(config: &Config, clock: &Clock, question: Question, out: &mut impl Write) -> anyhow::Result<()> {
    exchange(config, clock, question, async |response| control::copy(response, out).await).await
}

/// Has the aggregator that runs there copy its database.
///
/// # Errors
/// When it does not answer, or has no room for a copy.
pub async fn snapshot(config: &Config) -> anyhow::Result<Snapshot> {
    let answer = control::ask(&config.control_socket(), snapshots::question(), control::read).await?;
    snapshots::answered(&config.data_dir, &answer)
}

async fn exchange<T>(
    config: &Config,
    clock: &Clock,
    question: Question,
    take: impl AsyncFnOnce(Answer) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let directory = config.data_dir.display();
    ensure!(
        Store::is_in(&config.data_dir),
        "no aggregator has run with the data directory {directory}: name the one of yours by --data-dir or --config"
    );
    match Lock::take(&config.data_dir) {
        Ok(lock) => {
            let (store, writer) = open(config, clock, lock)?;
            let mut writing = JoinSet::new();
            writing.spawn_blocking(move || writer.run());
            let answer = answer(config, clock, &store, (question, take)).await;
            store.close();
            writing.join_all().await;
            answer
        }
        Err(LockError::Held(..)) => control::ask(&config.control_socket(), question, take).await,
        Err(error) => Err(explain(&error)),
    }
}

async fn answer<T>(
    config: &Config,
    clock: &Clock,
    store: &Store,
    (question, take): (Question, impl AsyncFnOnce(Answer) -> anyhow::Result<T>),
) -> anyhow::Result<T> {
    let (rooms, _nobody_evaluates) = rooms(config, clock, store).await?;
    let app = App::new(rooms, access(config, config.http.listen)?, CancellationToken::new());
    control::ask_here(http::router(Arc::new(app)), question, take).await
}

/// Takes the data directory, which a command may hold for a moment, and read for as long as a copy takes.
async fn own(data_dir: &Path, clock: &Clock) -> anyhow::Result<Lock> {
    let began = clock.monotonic();
    let mut waits = false;
    loop {
        match Lock::take(data_dir) {
            Err(LockError::Held(..)) if clock.monotonic().saturating_sub(began) < LOCK_WAIT => {}
            Err(error @ LockError::Read(..)) => {
                if !std::mem::replace(&mut waits, true) {
                    tracing::warn!("{error}: the aggregator starts when that is done");
                }
            }
            taken => return taken.map_err(|error| explain(&error)),
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

fn explain(error: &LockError) -> anyhow::Error {
    let advice = match error {
        LockError::Held(..) => "stop the aggregator that runs there, or name another one with --data-dir",
        LockError::Read(..) => "try again when it is done",
        LockError::NotWritable(..) => "give this user the right to write there, or name another one with --data-dir",
    };
    anyhow!("{error}: {advice}")
}

fn open(config: &Config, clock: &Clock, lock: Lock) -> anyhow::Result<(Store, Writer)> {
    Store::open(lock, keeping(config), clock.clone()).context("open the store")
}

/// How the store is to keep.
fn keeping(config: &Config) -> StoreConfig {
    let config::Retention { raw, five_minutes, one_hour, bytes } = config.retention;
    let config::Store { commit_interval, series_max, series_per_host_max, series_per_metric_max } = config.store;
    StoreConfig {
        commit_interval,
        limits: Limits { series_max, series_per_host_max, series_per_metric_max },
        retention: store::Retention { raw, five_minutes, one_hour, bytes },
        samples_max: config.query.samples_max,
        ..StoreConfig::default()
    }
}

async fn rooms(config: &Config, clock: &Clock, store: &Store) -> anyhow::Result<(Rooms, Outlets)> {
    let budget = EngineConfig {
        samples_max: config.query.samples_max,
        memory_max: config.query.memory_max,
        cache_max: config.query.cache_max,
        deadline: config.query.deadline,
        slow: config.query.slow,
        ..EngineConfig::default()
    };
    let hosts = store.read(hosts::all).await.context("read the hosts")?;
    let came = store.read(windows::all).await.context("read which windows of hosts came")?;
    let (alerts, decisions, outlets) = stage::handles();
    let rooms = Rooms {
        store: store.clone(),
        engine: Engine::new(Arc::new(store.clone()), clock.clone(), budget),
        authority: Arc::new(Authority::open(&config.data_dir, clock.wall()).context("open the certificate authority")?),
        presence: Presence::new(hosts, came, clock.wall()),
        ingested: Arc::default(),
        alerts,
        decisions,
        clock: clock.clone(),
        forwards: Arc::default(),
    };
    rooms.presence.set(config.agents.clone());
    Ok((rooms, outlets))
}

fn evaluation(config: &Config, address: &str) -> StageConfig {
    let evaluator = EvaluatorConfig {
        interval: config.alert.interval,
        hold_silent: config.alert.hold_silent,
        external_url: Arc::from(address),
    };
    StageConfig { directory: config.rules_dir.clone(), evaluator }
}

fn around(rooms: &Rooms, signals: &Signals) -> Surroundings {
    Surroundings {
        store: rooms.store.clone(),
        engine: rooms.engine.clone(),
        presence: rooms.presence.clone(),
        clock: rooms.clock.clone(),
        reload: Arc::clone(&signals.reload),
        stop: signals.stop.clone(),
    }
}

fn access(config: &Config, listen: SocketAddr) -> anyhow::Result<Access> {
    let token = secret::kept(&config.data_dir.join("admin.token")).context("read or write admin.token")?;
    Ok(Access {
        admin: Hash::of(&token),
        listen,
        external_url: config.http.external_url.clone(),
        advertise: config.ingest.advertise.clone(),
        metrics_open: config.http.metrics_open,
        secure: config.http.tls.is_some(),
    })
}

/// The certificate of the page, for the names by which it is known.
fn tls(config: &Config, now: Timestamp) -> anyhow::Result<Option<Tls>> {
    let Some(wanted) = &config.http.tls else { return Ok(None) };
    let mut names = vec!["localhost".to_owned(), config.http.listen.ip().to_string(), "127.0.0.1".to_owned()];
    let hosts = [config.ingest.advertise.as_str(), config.http.external_url.trim_start_matches("https://")];
    names.extend(hosts.iter().filter_map(|host| Some(host.split([':', '/']).next()?.to_owned())));
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    let opened = Tls::open(wanted, &config.data_dir, &names, now);
    let refuse = |error: TlsError| match wanted {
        config::Tls::Files { .. } => anyhow!(ReadError::Named { key: "http.tls", why: error.to_string() }),
        config::Tls::SelfMade => anyhow!(error).context("http.tls"),
    };
    opened.map(Some).map_err(refuse)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| in_use("http.listen", address, error))
}

fn bind(config: &Config, rooms: &Rooms) -> anyhow::Result<Ingest> {
    let (authority, store) = (Arc::clone(&rooms.authority), rooms.store.clone());
    let bound = Ingest::bind(config.ingest.listen, authority, store, rooms.presence.clone(), rooms.clock.clone());
    bound.map_err(|error| match error {
        BindError::Listen(address, error) => in_use("ingest.listen", address, error),
        BindError::Tls(_) | BindError::Trust(_) => anyhow!(error),
    })
}

fn in_use(key: &str, address: SocketAddr, error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        anyhow!("{key}: {address} is in use by another program: stop it, or choose another address")
    } else {
        anyhow::Error::new(error).context(format!("{key}: listen on {address}"))
    }
}

/// Takes in what agents send, now that all is known that they sent before. Answers where.
fn take_in(
    stages: &mut Stages,
    config: &Config,
    rooms: &Rooms,
    (signals, evaluation, outlets, targets): (&Signals, StageConfig, Outlets, Vec<forward::Target>),
) -> anyhow::Result<SocketAddr> {
    let ingest = bind(config, rooms)?.counting(Arc::clone(&rooms.ingested));
    let address = ingest.local_addr().context("look up the address of ingest.listen")?;
    let stop = || signals.stop.clone();
    rooms.presence.hear_from(rooms.clock.wall());
    stages.start("presence", ended(rooms.presence.clone().run(rooms.store.clone(), rooms.clock.clone(), stop())));
    stages.start("ingest", ended(ingest.run(stop())));
    stages.start("alert", stage::run(evaluation, around(rooms, signals), outlets));
    let (read_from, forwards) = ((rooms.store.clone(), rooms.clock.clone()), Arc::clone(&rooms.forwards));
    stages.start("forward", forward::run(targets, read_from, forwards, stop()));
    Ok(address)
}

/// A stage that has no error to end with.
async fn ended(stage: impl Future<Output = ()>) -> anyhow::Result<()> {
    stage.await;
    Ok(())
}

/// All that runs. Sources end when they see the stop token, the others when what feeds them ends, the writer last.
struct Stages {
    stop: CancellationToken,
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    writer: JoinSet<()>,
}

impl Stages {
    fn new(stop: CancellationToken) -> Self {
        Self { stop, running: JoinSet::new(), writer: JoinSet::new() }
    }

    fn start<E: Into<anyhow::Error>>(
        &mut self,
        name: &'static str,
        stage: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, stage.await.map_err(Into::into)) });
    }

    /// Waits for something that comes before the rest; not beyond the stop. Whether it came.
    async fn before_stop<E>(&self, ready: impl Future<Output = Result<(), E>>) -> bool {
        tokio::select! {
            ready = ready => ready.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }

    /// Waits for the end of all of them: the first that ends unasked or in error takes the others with it.
    async fn drain(mut self, close: impl FnOnce()) -> anyhow::Result<()> {
        let failure = tokio::select! {
            ended = self.running.join_next() => self.judge(ended),
            _ = self.writer.join_next() => Some(anyhow!("the store's writer ended unasked")),
            () = self.stop.cancelled() => None,
        };
        self.stop.cancel();
        let late = |what| anyhow!("{what} did not end within {} s of being told to", DRAIN_DEADLINE.as_secs());
        let rest = tokio::time::timeout(DRAIN_DEADLINE, self.finish()).await;
        // Also when a stage is late: what the others handed in is kept.
        close();
        let written = async { while self.writer.join_next().await.is_some() {} };
        let written = tokio::time::timeout(DRAIN_DEADLINE, written).await;
        let written = written.map_err(|_| late("the store's writer"));
        failure.map_or(rest.unwrap_or_else(|_| Err(late("stages"))).and(written), Err)
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let mut first = Ok(());
        while let Some(ended) = self.running.join_next().await {
            if let (Some(error), true) = (self.judge(Some(ended)), first.is_ok()) {
                first = Err(error);
            }
        }
        first
    }

    /// What is wrong with the end of a stage, if anything.
    fn judge(&self, ended: Option<Result<(&'static str, anyhow::Result<()>), JoinError>>) -> Option<anyhow::Error> {
        match ended {
            None | Some(Ok((_, Ok(())))) if self.stop.is_cancelled() => None,
            None => Some(anyhow!("nothing runs")),
            Some(Ok((name, Ok(())))) => Some(anyhow!("{name} ended unasked")),
            Some(Ok((name, Err(error)))) => Some(error.context(name)),
            Some(Err(panicked)) => Some(anyhow!(panicked)),
        }
    }
}
