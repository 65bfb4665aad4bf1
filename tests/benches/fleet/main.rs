//! What a fleet costs the aggregator: real agents' uplinks and spools, each with its own key, in this one process, against
//! the aggregator that cargo has built. Arguments: hosts (500), series of each (2,240), seconds (120), and a network.
//!
//! Prints; asserts only that nothing is lost: machines are shared. Each agent comes from an address of its own in
//! the network that `run` has made for that; without one, all come from one address.

mod aggregator;

use std::env;
use std::io;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use agent::config;
use agent::recorder::Recorder;
use agent::spool::Spool;
use agent::uplink::Uplink;
use agent::uplink::dialogue::Introduction;
use agent::uplink::settings::Settings;
use agent::window::Stamps;
use anyhow::ensure;
use benches::made::Made;
use benches::made::closes_in;
use benches::number;
use benches::percentiles;
use benches::process;
use benches::program;
use common::batch::RunId;
use common::batch::SpoolId;
use common::batch::WINDOW;
use common::metric::Labels;
use common::time::Clock;
use common::wire::message::Lineage;
use common::wire::message::Reason;
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::aggregator::Aggregator;
use crate::aggregator::PORT;

/// Agents that join at once: each waits for two commits, and the aggregator lets 32 in at a time.
const JOINING: usize = 24;

/// Windows before anything is measured: the first brings the schema.
const WINDOWS_BEFORE: u32 = 2;

/// How long all may take to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Real time between two looks.
const GLANCE: Duration = Duration::from_millis(50);

fn main() -> anyhow::Result<()> {
    // Agents that are busy must not make those late who look at them and at the aggregator.
    let agents = runtime::Builder::new_multi_thread().enable_all().build()?;
    let watch = runtime::Builder::new_current_thread().enable_all().build()?;
    watch.block_on(measure(agents.handle().clone()))
}

async fn measure(agents: runtime::Handle) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    let mut arguments = env::args().skip(1);
    let hosts = usize::try_from(number(arguments.next(), 500)?)?;
    let series = usize::try_from(number(arguments.next(), 2_240)?)?;
    let windows = u32::try_from(number(arguments.next(), 120)?)? / 10;
    let network = arguments.next().map(|network| network.parse::<Ipv4Addr>()).transpose()?;
    let mut out = io::stdout().lock();
    let mut aggregator = Aggregator::start(program()?).await?;
    let states = tempfile::tempdir()?;
    let before = aggregator.process.resident()?;

    let began = Instant::now();
    let mut fleet = Fleet::start((hosts, agents), (&aggregator.token(hosts)?, network), states.path()).await?;
    let joined = began.elapsed();
    let connected = aggregator.process.resident()?;
    let each = (connected.saturating_sub(before)) as f64 / hosts as f64 / 1e3;
    writeln!(out, "{hosts} hosts of {series} series: joined in {:.1} s, {each:.1} kB each", joined.as_secs_f64())?;

    fleet.push(Made::new(series)?);
    fleet.windows(WINDOWS_BEFORE).await?;
    fleet.acknowledged();
    let (used, written, from) = (aggregator.used()?, aggregator.process.written()?, Instant::now());
    fleet.windows(windows).await?;
    let (used_then, took) = (aggregator.used()?, from.elapsed());
    let acknowledged = fleet.acknowledged();
    let share = |then: Duration, before: Duration| 100.0 * (then - before).as_secs_f64() / took.as_secs_f64();
    let batches = acknowledged.len();
    let [p50, p99] = percentiles(acknowledged).map(|took| took.as_secs_f64());
    writeln!(
        out,
        "{:.0} batches a second acknowledged, within {p50:.2} s (p50), {p99:.2} s (p99); {:.2} bytes written a sample\n\
         {:.1} % of a core for sessions, {:.1} % for the store; {:.0} MB resident, {:.1} kB a host beside its start",
        batches as f64 / took.as_secs_f64(),
        (aggregator.process.written()? - written) as f64 / (batches * series) as f64,
        share(used_then.sessions, used.sessions),
        share(used_then.store, used.store),
        aggregator.process.resident()? as f64 / 1e6,
        (aggregator.process.resident()?.saturating_sub(before)) as f64 / hosts as f64 / 1e3,
    )?;
    for signal in ["-TERM", "-KILL"] {
        let sessions = fleet.sessions();
        let before = Instant::now();
        let away = aggregator.restart(signal).await?;
        let (ready, player) = (Instant::now(), process::cpu(std::process::id())?);
        fleet.returned(&sessions).await?;
        let turned_away = aggregator.counter("lapwing_aggregator_ingest_turned_away_total").await?;
        let opened = aggregator.counter("lapwing_aggregator_ingest_sessions_total").await?;
        let tcp = aggregator.counter("lapwing_aggregator_ingest_tcp_sessions_total").await?;
        writeln!(
            out,
            "kill {signal}: away for {:.1} s; all back {:.1} s after that, {:.1} s after it was told to end; {opened} \
             sessions, {tcp} of them on TCP, {turned_away} turned away; {:.1} s of a core for sessions, and {:.1} s for the \
             agents from when it was ready",
            away.as_secs_f64(),
            ready.elapsed().as_secs_f64(),
            before.elapsed().as_secs_f64(),
            aggregator.used()?.sessions.as_secs_f64(),
            (process::cpu(std::process::id())? - player).as_secs_f64(),
        )?;
        fleet.windows(2).await?;
    }
    fleet.end().await
}

/// Agents without hosts.
struct Fleet {
    /// Where they run.
    runtime: runtime::Handle,
    spools: Arc<Vec<Spool>>,
    stop: CancellationToken,
    uplinks: JoinSet<anyhow::Result<()>>,
    pushing: JoinSet<()>,
    /// How long each batch took to be acknowledged.
    took: Arc<Mutex<Vec<Duration>>>,
    /// When the latest windows closed, and how many did.
    closed: Arc<watch::Sender<(u32, Instant)>>,
}

impl Fleet {
    async fn start(
        (hosts, runtime): (usize, runtime::Handle),
        (token, network): (&str, Option<Ipv4Addr>),
        states: &Path,
    ) -> anyhow::Result<Self> {
        let doors = Arc::new(Semaphore::new(JOINING));
        let (stop, mut uplinks, mut spools) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        let mut joining = JoinSet::new();
        for host in 0..u32::try_from(hosts)? {
            let place = Arc::clone(&doors).acquire_owned().await?;
            let address =
                network.map_or(Ipv4Addr::LOCALHOST, |network| Ipv4Addr::from_bits(network.to_bits() + 1 + host));
            let uplink = uplink(host, format!("{address}:{PORT}"), token, &states.join(host.to_string()));
            let spool = uplink.spool.clone();
            spools.push(spool.clone());
            let stop = stop.clone();
            uplinks.spawn_on(async move { Ok(uplink.run(stop).await?) }, &runtime);
            joining.spawn(async move {
                while spool.figures().sessions_total == 0 {
                    tokio::time::sleep(GLANCE).await;
                }
                drop(place);
            });
        }
        while joining.join_next().await.is_some() {}
        let closed = Arc::new(watch::Sender::new((0, Instant::now())));
        let pushing = JoinSet::new();
        Ok(Self { runtime, spools: Arc::new(spools), stop, uplinks, pushing, took: Arc::default(), closed })
    }

    /// Closes windows as they end, and notes how long their batches take.
    fn push(&mut self, mut made: Made) {
        for spool in &*self.spools {
            let spool = spool.clone();
            let (mut closed, took) = (self.closed.subscribe(), Arc::clone(&self.took));
            let each = async move {
                while closed.changed().await.is_ok() {
                    let (_, at) = *closed.borrow_and_update();
                    spool.emptied().await;
                    took.lock().unwrap_or_else(PoisonError::into_inner).push(at.elapsed());
                }
            };
            self.pushing.spawn_on(each, &self.runtime);
        }
        let (spools, closed) = (Arc::clone(&self.spools), Arc::clone(&self.closed));
        let all = async move {
            let clock = Clock::real();
            loop {
                tokio::time::sleep(closes_in(clock.wall())).await;
                let batch = made.window(clock.wall().align_down(WINDOW));
                let at = Instant::now();
                spools.iter().for_each(|spool| spool.push(&batch, &made.schema, clock.boot()));
                closed.send_modify(|closed| *closed = (closed.0 + 1, at));
            }
        };
        self.pushing.spawn_on(all, &self.runtime);
    }

    /// Waits for so many windows, and for what they take to be acknowledged.
    async fn windows(&self, count: u32) -> anyhow::Result<()> {
        let mut closed = self.closed.subscribe();
        let until = closed.borrow().0 + count;
        closed.wait_for(|(number, _)| until <= *number).await?;
        tokio::time::sleep(WINDOW - Duration::from_secs(1)).await;
        Ok(())
    }

    /// How long batches took since the last call.
    fn acknowledged(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sessions(&self) -> Vec<u64> {
        self.spools.iter().map(|spool| spool.figures().sessions_total).collect()
    }

    /// Waits until each agent has another session.
    async fn returned(&self, before: &[u64]) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.sessions().iter().zip(before).any(|(sessions, before)| sessions <= before) {
            ensure!(began.elapsed() < PATIENCE, "not all are back");
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.pushing.shutdown().await;
        self.stop.cancel();
        while let Some(ended) = self.uplinks.join_next().await {
            ended??;
        }
        let figures: Vec<_> = self.spools.iter().map(Spool::figures).collect();
        let left: u64 = figures.iter().map(|figures| figures.depth + figures.dropped_total).sum();
        ensure!(left == 0, "{left} batches were lost or are left");
        Ok(())
    }
}

fn uplink(host: u32, aggregator: String, token: &str, state_dir: &Path) -> Uplink {
    let clock = Clock::real();
    let (run, spool) = (RunId(u128::from(host).to_le_bytes()), SpoolId(u128::from(host).to_le_bytes()));
    Uplink {
        config: config::Uplink {
            aggregators: vec![aggregator],
            proxy: None,
            join: Some(token.to_owned()),
            state_dir: state_dir.to_owned(),
        },
        introduction: Introduction {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: [1; 16],
            hostname: format!("bench-{host}"),
            labels: Labels::new(),
            lineage: Lineage::default(),
        },
        spool: Spool::new(run, spool),
        recorder: Recorder::default(),
        settings: Settings::default(),
        counts: Arc::default(),
        first_run: run,
        stamps: Stamps::new(clock.wall(), clock.boot()),
        clock,
        farewell: || Reason::Shutdown,
    }
}
