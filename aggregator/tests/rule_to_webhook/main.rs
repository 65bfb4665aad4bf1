//! From a rule to a message: the stage with a real store, a moved clock and a listener that can be out of order.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aggregator::alert::evaluator::EvaluatorConfig;
use aggregator::alert::snapshot::Alerts;
use aggregator::ingest::presence::Presence;
use aggregator::notify::history;
use aggregator::notify::stage::{self, StageConfig, Surroundings};
use aggregator::query::{Engine, EngineConfig};
use aggregator::store::commit::{Append, Commit};
use aggregator::store::lock::Lock;
use aggregator::store::record::notifications::Status;
use aggregator::store::{Health, Store, StoreConfig};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use common::metric::Labels;
use common::time::{Clock, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(10);

/// Nothing here takes longer in real time; what does is broken.
const PATIENCE: Duration = Duration::from_secs(20);

const RULES: &str = "groups:
- name: g
  rules:
  - alert: HighLoad
    expr: load > 5
    annotations: {summary: 'load is {{ $value }}'}
";

/// A webhook that answers as told, and tells what it took: status, alert status, `Idempotency-Key`.
struct Listener {
    answer: Arc<AtomicU16>,
    taken: mpsc::Receiver<(u16, String, String)>,
    port: u16,
    _server: JoinSet<()>,
}

type Taken = (Arc<AtomicU16>, mpsc::Sender<(u16, String, String)>);

async fn take((State((answer, taken)), headers, body): (State<Taken>, HeaderMap, String)) -> StatusCode {
    let status = answer.load(Ordering::SeqCst);
    let payload: serde_json::Value = serde_json::from_str(&body).unwrap();
    let said = format!("{} {}", payload["alerts"][0]["labels"]["alertname"], payload["status"]).replace('"', "");
    // Where the page shows the alert with the chart of its expression.
    let alert = &payload["alerts"][0];
    let link = format!("http://lapwing.example/alerts?alert={}", alert["fingerprint"].as_str().unwrap());
    assert_eq!(alert["generatorURL"], link);
    let id = headers["idempotency-key"].to_str().unwrap().to_owned();
    taken.send((status, said, id)).await.unwrap();
    StatusCode::from_u16(status).unwrap()
}

impl Listener {
    async fn start() -> Self {
        let answer = Arc::new(AtomicU16::new(200));
        let (sender, taken) = mpsc::channel(1_000);
        let state: Taken = (Arc::clone(&answer), sender);
        let router = Router::new()
            .route("/hook", post(|state: State<Taken>, headers: HeaderMap, body: String| take((state, headers, body))))
            .with_state(state);
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { answer, taken, port, _server: server }
    }

    async fn next(&mut self) -> (u16, String, String) {
        tokio::time::timeout(PATIENCE, self.taken.recv()).await.expect("the listener is told").unwrap()
    }
}

/// The aggregator from the store to the webhook.
struct Running {
    store: Store,
    writer: JoinHandle<()>,
    alerts: Alerts,
    stop: CancellationToken,
    stage: JoinSet<anyhow::Result<()>>,
    clock: Clock,
}

impl Running {
    /// Returns when the rules are read: the next window is then the first one evaluated.
    async fn start(directory: &Path, clock: &Clock) -> Self {
        let config = StoreConfig { commit_interval: Duration::ZERO, ..StoreConfig::default() };
        let (store, writer) = Store::open(Lock::take(directory).unwrap(), config, clock.clone()).unwrap();
        let writer = std::thread::spawn(move || writer.run());
        let (mut alerts, _decisions, outlets) = stage::handles();
        let stop = CancellationToken::new();
        let evaluator = EvaluatorConfig {
            interval: INTERVAL,
            hold_silent: Duration::from_secs(86_400),
            external_url: "http://lapwing.example".into(),
        };
        let around = Surroundings {
            store: store.clone(),
            engine: Engine::new(Arc::new(store.clone()), clock.clone(), EngineConfig::default()),
            presence: Presence::new(Vec::new(), Vec::new(), clock.wall()),
            clock: clock.clone(),
            reload: Arc::new(Notify::new()),
            stop: stop.clone(),
        };
        let mut stage = JoinSet::new();
        stage.spawn(stage::run(StageConfig { directory: directory.to_owned(), evaluator }, around, outlets));
        tokio::time::timeout(PATIENCE, alerts.changed()).await.expect("the stage starts").unwrap();
        Self { store, writer, alerts, stop, stage, clock: clock.clone() }
    }

    /// A window passes in which the load was this much; returns when it was evaluated.
    async fn pass(&mut self, load: f64) {
        let stamp = self.clock.wall().after(INTERVAL);
        let labels: Labels = [("__name__", "load"), ("instance", "web-1")].into_iter().collect();
        let appends = vec![Append::Own { stamp, samples: vec![(labels, load)] }];
        self.store.commit(Commit { appends, records: Vec::new() }).await.unwrap();
        self.pass_unheard().await;
    }

    /// A window passes of which nothing is stored; returns when it was evaluated.
    async fn pass_unheard(&mut self) {
        let stamp = self.clock.wall().after(INTERVAL);
        self.clock.advance(INTERVAL);
        let evaluated = async {
            while self.alerts.snapshot().at != Some(stamp) {
                self.alerts.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, evaluated).await.expect("the window is evaluated");
    }

    async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.stage.join_next()).await.expect("the stage ends");
        ended.unwrap().unwrap().unwrap();
        self.store.close();
        self.writer.join().unwrap();
    }
}

fn write(directory: &Path, port: u16) {
    fs::create_dir_all(directory.join("rules")).unwrap();
    fs::write(directory.join("rules/load.yml"), RULES).unwrap();
    let routes = format!(
        "route: {{receiver: team, group_wait: 0s, group_interval: 10s}}\nreceivers:\n- name: team\n  webhook_configs:\n  \
         - url: http://127.0.0.1:{port}/hook\n"
    );
    fs::write(directory.join("alertmanager.yml"), routes).unwrap();
}

/// Makes every write fail, or possible again, as a damaged disk does: the table of samples is on no page of the file.
fn damage(directory: &Path, damaged: bool) {
    let database = rusqlite::Connection::open(directory.join("lapwing.db")).unwrap();
    let sign = if damaged { "+" } else { "-" };
    let version: i64 = database.pragma_query_value(None, "schema_version", |row| row.get(0)).unwrap();
    let sql = format!(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET rootpage = rootpage {sign} 1000000 WHERE name = 'origin_log'; \
         PRAGMA schema_version = {};",
        version + 1
    );
    database.execute_batch(&sql).unwrap();
}

fn clock() -> Clock {
    Clock::moved(Timestamp::from_seconds(1_000_000))
}

#[tokio::test]
async fn what_holds_is_told_and_so_is_its_end_through_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    let clock = clock();
    let mut running = Running::start(directory.path(), &clock).await;
    running.pass(1.0).await;
    running.pass(9.0).await;
    let (_, said, first) = listener.next().await;
    assert_eq!(said, "HighLoad firing");
    running.pass(9.0).await;
    running.stop().await;

    let mut running = Running::start(directory.path(), &clock).await;
    running.pass(9.0).await;
    running.pass(9.0).await;
    running.pass(1.0).await;
    let (_, said, second) = listener.next().await;
    assert_eq!(said, "HighLoad resolved", "and nothing fired again in between");
    assert_ne!(first, second);
    running.stop().await;
    assert!(listener.taken.try_recv().is_err(), "nothing else was told");
}

#[tokio::test]
async fn a_listener_that_was_out_of_order_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    let mut running = Running::start(directory.path(), &clock()).await;
    listener.answer.store(503, Ordering::SeqCst);
    running.pass(9.0).await;
    let (status, _, id) = listener.next().await;
    assert_eq!(status, 503);
    for _ in 0..6 {
        running.pass(9.0).await;
    }
    listener.answer.store(200, Ordering::SeqCst);
    let mut delivered = Vec::new();
    while delivered.is_empty() {
        running.pass(9.0).await;
        while let Ok(Some((status, _, id))) =
            tokio::time::timeout(Duration::from_millis(200), listener.taken.recv()).await
        {
            if status == 200 {
                delivered.push(id);
            }
        }
    }
    assert_eq!(delivered, [id], "once, under the name of the first attempt");
    for _ in 0..3 {
        running.pass(9.0).await;
    }
    assert!(listener.taken.try_recv().is_err(), "and not again");
    let told = history::recent(&running.store, 100).await.unwrap();
    let sent: Vec<_> = told.iter().filter(|decision| decision.status == Status::Sent).collect();
    assert_eq!(sent.len(), 1);
    assert!(1 < sent[0].attempts, "{told:?}");
    running.stop().await;
}

#[tokio::test]
async fn what_resolved_before_it_was_delivered_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    let mut running = Running::start(directory.path(), &clock()).await;
    listener.answer.store(404, Ordering::SeqCst);
    running.pass(9.0).await;
    assert_eq!(listener.next().await.0, 404);
    // The refusal must be known before the next flush, or the notification is still under way.
    let refused = async {
        while !history::recent(&running.store, 9).await.unwrap().iter().any(|told| told.status == Status::Failed) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the refusal is recorded");
    running.pass(1.0).await;
    running.pass(1.0).await;
    assert!(listener.taken.try_recv().is_err());
    let told = history::recent(&running.store, 100).await.unwrap();
    assert!(
        told.iter().any(|decision| decision.status == Status::Skipped && decision.reason == "never_told"),
        "{told:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_broken_rule_file_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    fs::write(directory.path().join("rules/broken.yml"), "groups:\n- name: g\n  rules: [{alert: A, expr: '('}]\n")
        .unwrap();
    let mut running = Running::start(directory.path(), &clock()).await;
    running.pass(9.0).await;
    assert_eq!(listener.next().await.1, "HighLoad firing");
    let picture = running.alerts.snapshot();
    let broken = picture.files.iter().find(|file| &*file.path == "rules/broken.yml").unwrap();
    assert!(broken.error.as_ref().unwrap().starts_with("line 3: "), "{broken:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_store_resolves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    let rules = RULES.replace("HighLoad", "TotalLoad").replace("expr: load", "expr: sum(load)");
    fs::write(directory.path().join("rules/total.yml"), rules).unwrap();
    let mut running = Running::start(directory.path(), &clock()).await;
    running.pass(9.0).await;
    assert_eq!(listener.next().await.1, "TotalLoad firing", "of both: they are one group");
    damage(directory.path(), true);
    for _ in 0..40 {
        running.pass_unheard().await;
    }
    assert_ne!(running.store.health(), Health::Writable);
    let states = |alerts: &Alerts| alerts.snapshot().alerts.iter().map(|alert| alert.state).collect::<Vec<_>>();
    for state in states(&running.alerts) {
        assert!(state.name() == "firing" && state.held().is_some(), "{state:?}");
    }
    damage(directory.path(), false);
    running.pass_unheard().await;
    running.pass(9.0).await;
    for state in states(&running.alerts) {
        assert!(state.name() == "firing" && state.held().is_none(), "{state:?}");
    }
    running.stop().await;
    assert!(listener.taken.try_recv().is_err(), "nothing else was told");
}

#[tokio::test]
async fn a_time_in_which_nothing_was_heard_ripens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::start().await;
    write(directory.path(), listener.port);
    let absent = "groups:\n- name: g\n  rules:\n  - alert: Absent\n    expr: absent(load)\n    for: 1m\n";
    fs::write(directory.path().join("rules/load.yml"), absent).unwrap();
    let clock = clock();
    let mut running = Running::start(directory.path(), &clock).await;
    running.pass(1.0).await;
    // It stands still for longer than the lookback and the rule's patience.
    clock.advance(Duration::from_secs(9 * 60));
    running.pass_unheard().await;
    running.pass_unheard().await;
    let states = |alerts: &Alerts| alerts.snapshot().alerts.iter().map(|alert| alert.state.name()).collect::<Vec<_>>();
    assert_eq!(states(&running.alerts), ["pending"]);
    running.pass(1.0).await;
    running.stop().await;

    clock.advance(Duration::from_secs(1_800));
    let mut running = Running::start(directory.path(), &clock).await;
    running.pass_unheard().await;
    running.pass_unheard().await;
    assert_eq!(states(&running.alerts), ["pending"]);
    for _ in 0..6 {
        running.pass_unheard().await;
    }
    assert_eq!(states(&running.alerts), ["firing"]);
    running.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_stops_nothing() {
    const AHEAD: Duration = Duration::from_secs(7_200);
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::start().await;
    write(directory.path(), listener.port);
    let clock = clock();
    let mut running = Running::start(directory.path(), &clock).await;
    clock.step_wall(clock.wall().after(AHEAD));
    running.pass(9.0).await;
    running.pass(9.0).await;
    assert_eq!(listener.next().await.1, "HighLoad firing");
    clock.step_wall(clock.wall().before(AHEAD));
    // The stage looks at its clock again when it looks at its files.
    fs::write(directory.path().join("rules/load.yml"), format!("{RULES}\n")).unwrap();
    clock.advance(INTERVAL);
    tokio::time::timeout(PATIENCE, running.alerts.changed()).await.expect("the stage looks").unwrap();
    running.pass(1.0).await;
    running.pass(1.0).await;
    assert_eq!(listener.next().await.1, "HighLoad resolved");
    running.stop().await;
}
