//! The real agent's uplink and the aggregator's real endpoint, store and authority, on port 0.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod copied;
mod golden;
mod missing;
mod settings;
mod transport;
mod trust;

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use agent::config;
use agent::recorder::Recorder;
use agent::spool::Spool;
use agent::uplink::Uplink;
use agent::uplink::UplinkError;
use agent::uplink::dialogue::Introduction;
use agent::uplink::settings::Settings;
use agent::window::Stamps;
use aggregator::ingest::Ingest;
use aggregator::ingest::counters::Counters;
use aggregator::ingest::enroll::Wanted;
use aggregator::ingest::enroll::mint;
use aggregator::ingest::presence::Presence;
use aggregator::ingest::presence::State;
use aggregator::ingest::trust::Authority;
use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::lock::Lock;
use aggregator::store::record;
use common::batch::Batch;
use common::batch::RunId;
use common::batch::SpoolId;
use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::Schema;
use common::schema::SchemaChange;
use common::schema::SeriesIndex;
use common::time::Clock;
use common::time::Timestamp;
use common::window::Gauge;
use common::window::Window;
use common::wire::message::Lineage;
use common::wire::message::Reason;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Almost everything here takes milliseconds, and a way that does not answer five seconds; a hung test must not cost more
/// than this.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    data: TempDir,
    clock: Clock,
    store: Store,
    writing: JoinHandle<()>,
    authority: Arc<Authority>,
    presence: Presence,
    counters: Arc<Counters>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Bench {
    async fn start() -> Self {
        Self::with(Clock::real()).await
    }

    async fn with(clock: Clock) -> Self {
        Self::over(tempfile::tempdir().unwrap(), clock).await
    }

    async fn over(data: TempDir, clock: Clock) -> Self {
        Self::committing(data, clock, Duration::from_millis(1)).await
    }

    async fn committing(data: TempDir, clock: Clock, commit_interval: Duration) -> Self {
        let config = StoreConfig { commit_interval, ..StoreConfig::default() };
        let (store, writer) = Store::open(Lock::take(data.path()).unwrap(), config, clock.clone()).unwrap();
        let writing = std::thread::spawn(|| writer.run());
        let authority = Arc::new(Authority::open(data.path(), clock.wall()).unwrap());
        let hosts = store.read(record::hosts::all).await.unwrap();
        let windows = store.read(record::windows::all).await.unwrap();
        let presence = Presence::new(hosts, windows, clock.wall());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ingest = Ingest::bind(any, Arc::clone(&authority), store.clone(), presence.clone(), clock.clone()).unwrap();
        let (address, counters, stop) = (ingest.local_addr().unwrap(), ingest.counters(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(ingest.run(stop.clone()));
        Self { data, clock, store, writing, authority, presence, counters, address, stop, tasks }
    }

    async fn token(&self, secret: u8, wanted: Wanted) -> String {
        mint(&self.store, &self.authority, wanted, [secret; 16], self.clock.wall()).await.unwrap().to_string()
    }

    fn uplink(&self, state_dir: &Path, join: Option<String>) -> Uplink {
        Uplink {
            config: config::Uplink {
                aggregators: vec![self.address.to_string()],
                proxy: None,
                join,
                state_dir: state_dir.to_owned(),
            },
            introduction: Introduction {
                agent_version: "0.1.0".to_owned(),
                boot_id: [1; 16],
                hostname: "web".to_owned(),
                labels: Labels::new().with("env", "test"),
                lineage: Lineage::default(),
            },
            spool: Spool::new(RunId([2; 16]), SpoolId([3; 16])),
            recorder: Recorder::default(),
            settings: Settings::default(),
            counts: Arc::default(),
            first_run: RunId([2; 16]),
            stamps: Stamps::new(self.clock.wall(), self.clock.boot()),
            clock: self.clock.clone(),
            farewell: || Reason::Shutdown,
        }
    }

    /// The refusal that an agent ends with.
    async fn refused(&self, uplink: Uplink) -> String {
        let ended = timeout(PATIENCE, uplink.run(CancellationToken::new())).await.unwrap();
        ended.unwrap_err().to_string()
    }

    /// Lets an agent ship one window, and then stop.
    async fn ship_one(&self, uplink: Uplink) {
        let (spool, stop) = (uplink.spool.clone(), CancellationToken::new());
        spool.push(&batch(self.clock.wall()), &schema(), self.clock.boot());
        let shipped = async {
            spool.emptied().await;
            stop.cancel();
        };
        timeout(PATIENCE, async { tokio::join!(uplink.run(stop.clone()), shipped) }).await.unwrap().0.unwrap();
    }

    /// Answers its data directory.
    async fn end(mut self) -> TempDir {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.store.close();
        drop(self.store);
        tokio::task::spawn_blocking(|| self.writing.join()).await.unwrap().unwrap();
        self.data
    }
}

fn schema() -> Schema {
    let column = Column {
        metric: "node_load1".to_owned(),
        labels: Labels::new().with("job", "node"),
        kind: Kind::Gauge,
        decimals: Decimals::new(2),
        peak: false,
        tier: Tier::Second,
    };
    let change = SchemaChange {
        version: 1,
        entities: vec![Entity::default()],
        columns: vec![column],
        series: vec![(0, 0)],
        ended: vec![],
    };
    let mut schema = Schema::default();
    schema.apply(&change).unwrap();
    schema
}

fn batch(stamp: Timestamp) -> Batch {
    Batch { stamp, samples: vec![(SeriesIndex(0), Window::Gauge(Gauge::of(1.5)))], ..Batch::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_joins_ships_and_says_goodbye() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let wanted = Wanted { labels: Labels::new().with("dc", "one"), ..Wanted::default() };
    let token = bench.token(1, wanted).await;

    // Twice: the second time the token is not needed, and ignored.
    for run in 0..2 {
        let (first_run, spool) = (RunId([run; 16]), Spool::new(RunId([run; 16]), SpoolId([run; 16])));
        let uplink = Uplink { spool: spool.clone(), first_run, ..bench.uplink(state.path(), Some(token.clone())) };
        let stop = CancellationToken::new();
        let now = bench.clock.wall().align_down(Duration::from_secs(10));
        let shipped = async {
            for at in 0..40 {
                spool.push(&batch(now.before(Duration::from_secs(10 * (40 - at)))), &schema(), bench.clock.boot());
            }
            spool.emptied().await;
            stop.cancel();
        };
        let (ended, ()) = timeout(PATIENCE, async { tokio::join!(uplink.run(stop.clone()), shipped) }).await.unwrap();
        ended.unwrap();
        assert_eq!(spool.figures().depth, 0, "run {run}");
        assert_eq!(spool.figures().dropped_total, 0);
    }
    let hosts = bench.presence.snapshot();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].labels.to_string(), r#"{dc="one", env="test", instance="web"}"#);
    assert_eq!(hosts[0].state, State::Shutdown);
    assert_eq!(bench.counters.batches_total.get(), 80);
    assert!(bench.data.path().join("ca.key").exists());
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_right_is_told_why() {
    let bench = Bench::start().await;
    let state = || tempfile::tempdir().unwrap();
    let check = async |join: String, expect: &str| {
        let state = state();
        let refused = bench.refused(bench.uplink(state.path(), Some(join))).await;
        assert!(refused.contains(expect), "{refused}");
    };
    check(bench.authority.token([9; 16]).to_string(), "is not known here").await;
    check("sesame".to_owned(), "not a join token").await;
    let expired = Wanted { expires: Duration::ZERO, ..Wanted::default() };
    check(bench.token(2, expired).await, "has expired").await;
    let none = Wanted { uses: 0, ..Wanted::default() };
    check(bench.token(3, none).await, "was used up").await;
    assert_eq!(bench.counters.refused_total.get(), 3);
    assert_eq!(bench.refused(bench.uplink(state().path(), None)).await, UplinkError::NotJoined.to_string());
    drop(bench.end().await);
}

// On one thread, which all is logged on.
#[tokio::test]
async fn why_a_host_cannot_join_at_present_is_told_once() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer: Arc<File> = Arc::new(log.reopen().unwrap());
    let listener = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).with_writer(writer);
    let listening = tracing::subscriber::set_default(listener.finish());
    let said = |words: &str| {
        let lines = std::fs::read_to_string(log.path()).unwrap();
        lines.lines().filter(|line| line.contains(words)).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let bench = Bench::with(Clock::moved(Clock::real().wall())).await;
    let state = tempfile::tempdir().unwrap();
    let uplink = bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await));
    bench.store.close();
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(uplink.run(stop.clone()));
    trust::until(&bench, Duration::from_secs(1), || 4 <= said("session ended by the aggregator").len()).await;
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);
    drop(bench.end().await);
    drop(listening);
    let told = said("agent::");
    assert!(told.len() == 1 && told[0].contains("the aggregator ended the session"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_join_at_once_get_names_of_their_own_and_no_use_too_many() {
    let bench = Bench::start().await;
    let token = bench.token(1, Wanted { uses: 5, ..Wanted::default() }).await;
    let mut joining = JoinSet::new();
    for _ in 0..6 {
        let state = tempfile::tempdir().unwrap();
        let uplink = bench.uplink(state.path(), Some(token.clone()));
        uplink.spool.push(&batch(bench.clock.wall()), &schema(), bench.clock.boot());
        joining.spawn(async move {
            let (spool, stop) = (uplink.spool.clone(), CancellationToken::new());
            let shipped = async {
                spool.emptied().await;
                stop.cancel();
            };
            let ended = tokio::select! {
                ended = uplink.run(stop.clone()) => ended,
                () = shipped => Ok(()),
            };
            drop(state);
            ended.map_err(|error| error.to_string())
        });
    }
    let ended = timeout(PATIENCE, joining.join_all()).await.unwrap();
    let refused: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    assert!(refused.len() == 1 && refused[0].contains("was used up"), "{refused:?}");
    let mut names: Vec<_> = bench.presence.snapshot().into_iter().map(|host| host.instance).collect();
    names.sort();
    assert_eq!(names, ["web", "web-2", "web-3", "web-4", "web-5"]);
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_known_is_refused() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let token = bench.token(1, Wanted::default()).await;
    let uplink = bench.uplink(state.path(), Some(token));
    bench.ship_one(uplink).await;

    // The same authority, but an aggregator that has forgotten its hosts.
    let forgetful = Presence::new(Vec::new(), Vec::new(), bench.clock.wall());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let authority = Arc::clone(&bench.authority);
    let ingest = Ingest::bind(any, authority, bench.store.clone(), forgetful, bench.clock.clone()).unwrap();
    let (address, stop) = (ingest.local_addr().unwrap(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(ingest.run(stop.clone()));
    let mut uplink = bench.uplink(state.path(), None);
    uplink.config.aggregators = vec![address.to_string()];
    let refused = bench.refused(uplink).await;
    assert!(refused.contains("not known here"), "{refused}");
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    drop(bench.end().await);
}
