//! The store against an oracle in memory, and against what disks and peers do to it.

mod backup;
mod beside;
mod coarse;
mod ends;
mod former;
mod found;
mod full;
mod groups;
mod labels;
mod oracle;
mod quarters;
mod reading;
mod recent;
mod room;
mod space;
mod spools;
mod tail;
mod written;

use std::path::Path;
use std::thread::JoinHandle;

use common::batch::{Batch, EncodedBatch, Process, Seq};
use common::metric::{Decimals, Kind, NAME, Tier};
use common::schema::{Column, Entity, Schema, SchemaChange, SeriesIndex};
use common::window::{Counter, Gauge, Window};
use common::wire::codec::{self, State};

use super::*;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Is;
use crate::store::select::Question;
use crate::store::select::STALE;
use crate::store::select::Samples;
use crate::store::select::Selected;

const HOST: HostId = HostId(1);
const SPOOL: SpoolId = SpoolId([1; 16]);
const FIELDS: [Field; 2] = [Field::Last, Field::Count];
const ALL: TimeRange = TimeRange { after: Timestamp::from_millis(0), through: Timestamp::from_millis(i64::MAX) };

/// A store and its thread, in a directory of its own or of somebody else.
struct Running {
    store: Store,
    writer: JoinHandle<()>,
}

impl Running {
    fn start(data_dir: &Path, clock: &Clock) -> Self {
        Self::start_with(data_dir, config(), clock)
    }

    fn start_with(data_dir: &Path, config: StoreConfig, clock: &Clock) -> Self {
        let (store, writer) = Store::open(Lock::take(data_dir).unwrap(), config, clock.clone()).unwrap();
        Self { store, writer: std::thread::spawn(move || writer.run()) }
    }

    /// Who seals and merges, as the test says.
    fn settler(&self) -> Settler {
        Settler::new(&self.store.shared, self.store.queue.changes()).unwrap()
    }

    /// Ends it and waits: the lock is free afterwards.
    fn stop(self) {
        self.store.close();
        self.writer.join().unwrap();
    }
}

/// Nothing is sealed but when a test says so, and everything is kept for a day.
fn config() -> StoreConfig {
    let day = Duration::from_secs(24 * 3_600);
    let retention = Retention { raw: day, five_minutes: day, one_hour: day, bytes: None };
    StoreConfig { commit_interval: Duration::ZERO, retention, settle_every: None, ..StoreConfig::default() }
}

fn clock() -> Clock {
    Clock::moved(Timestamp::from_seconds(1_000_000))
}

/// The window `window` windows after the clock's start.
fn stamp(window: u64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + 10 * i64::try_from(window).unwrap())
}

/// An agent that makes up its samples.
struct Agent {
    run: RunId,
    spool: SpoolId,
    seq: Seq,
    schema: Schema,
    state: State,
    pending: Vec<SchemaChange>,
}

impl Agent {
    fn start(number: u8) -> Self {
        let column = |metric: &str, kind| Column {
            metric: metric.to_owned(),
            labels: Labels::new().with("job", "node"),
            kind,
            decimals: Decimals::new(2),
            peak: false,
            tier: Tier::Window,
        };
        let change = SchemaChange {
            version: 1,
            entities: vec![Entity::default(), Entity { labels: Labels::new().with("device", "sda") }],
            columns: vec![column("node_load1", Kind::Gauge), column("node_disk_reads_completed_total", Kind::Counter)],
            series: vec![(0, 0), (1, 1)],
            ended: vec![],
        };
        let mut agent = Self {
            run: RunId([number; 16]),
            spool: SpoolId([number; 16]),
            seq: Seq(0),
            schema: Schema::default(),
            state: State::default(),
            pending: Vec::new(),
        };
        agent.change(change);
        agent
    }

    fn change(&mut self, change: SchemaChange) {
        self.schema.apply(&change).unwrap();
        self.pending.push(change);
    }

    fn end(&mut self, series: u32) {
        let version = self.schema.version() + 1;
        self.change(SchemaChange { version, ended: vec![SeriesIndex(series)], ..SchemaChange::default() });
    }

    /// The next batch, with as much of these values as live.
    fn batch(&mut self, stamp: Timestamp, values: [f64; 2]) -> Commit {
        let version = self.schema.version();
        let window = |(index, column): (SeriesIndex, &Column)| {
            let value = values[index.0 as usize];
            let window = match column.kind {
                Kind::Gauge => {
                    Window::Gauge(Gauge { count: 3, min: value - 1.0, max: value + 2.0, sum: 3.0 * value, last: value })
                }
                Kind::Counter => Window::Counter(Counter { count: 3, increase: value + 1.0, ..Counter::first(value) }),
            };
            (index, window)
        };
        let samples = self.schema.living(version).map(window).collect();
        self.encode(&Batch { stamp, samples, ..Batch::default() })
    }

    fn encode(&mut self, batch: &Batch) -> Commit {
        let keyframe = self.seq == Seq(0) || EncodedBatch::quarter_begins(batch.stamp);
        if keyframe {
            self.state = State::default();
        }
        let version = self.schema.version();
        let batch = EncodedBatch {
            run: self.run,
            spool: self.spool,
            seq: self.seq,
            schema_version: version,
            stamp: batch.stamp,
            codec: codec::CODEC,
            keyframe,
            payload: codec::encode(codec::CODEC, batch, (&self.schema, version), &mut self.state),
        };
        self.seq = self.seq.next();
        let schema = self.pending.drain(..).map(|change| Append::Schema { host: HOST, run: self.run, change });
        let appends = schema.chain([Append::Batch { host: HOST, batch }]).collect();
        Commit { appends, records: Vec::new() }
    }
}

fn equal(name: &str, value: &str) -> Matcher {
    Matcher { name: name.to_owned(), is: Is::Equal(value.to_owned()) }
}

/// Everything that matches.
fn select(store: &Store, matchers: &[Matcher], fields: &[Field]) -> Result<Vec<(Labels, Samples)>, SelectError> {
    answer(store, Question { matchers, range: ALL, fields, latest: false, grains: Grains::default() })
}

fn answer(store: &Store, question: Question<'_>) -> Result<Vec<(Labels, Samples)>, SelectError> {
    let mut held = Vec::new();
    store.select::<SelectError>(question, &mut |selected| {
        held.push((selected.labels.whole(), selected.samples.clone()));
        Ok(())
    })?;
    Ok(held)
}

/// Everything stored, as `labels value@second`, a mark as `!`.
fn dump(store: &Store, matchers: &[Matcher]) -> Vec<String> {
    let line = |(labels, samples): (Labels, Samples)| {
        let samples = samples.stamps.iter().zip(&samples.columns[0]).map(|(stamp, value)| {
            let second = stamp.as_millis() / 1_000 - 1_000_000;
            if value.to_bits() == STALE { format!(" !@{second}") } else { format!(" {value}@{second}") }
        });
        format!("{labels}{}", samples.collect::<String>())
    };
    let mut lines: Vec<String> = select(store, matchers, &FIELDS).unwrap().into_iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn what_is_committed_is_selected_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.set_host_labels(HOST, Labels::new().with("instance", "web-1")).await.unwrap();
    let committed = running.store.commit(agent.batch(stamp(1), [0.29, 5.0])).await.unwrap();
    assert_eq!((committed.batches[0].next, committed.batches[0].samples), (Seq(1), Some(2)));
    running.store.commit(agent.batch(stamp(2), [0.29, 7.0])).await.unwrap();
    let own =
        Append::Own { stamp: stamp(2), samples: vec![(Labels::new().with(NAME, "up").with("instance", "web-1"), 1.0)] };
    running.store.commit(Commit { appends: vec![own], records: vec![] }).await.unwrap();
    let expect = [
        r#"node_disk_reads_completed_total{device="sda", instance="web-1", job="node"} 5@10 7@20"#,
        r#"node_load1{instance="web-1", job="node"} 0.29@10 0.29@20"#,
        r#"up{instance="web-1"} 1@20"#,
    ];
    assert_eq!(dump(&running.store, &[equal("instance", "web-1")]), expect);
    assert_eq!(dump(&running.store, &[equal("device", "sda")]), expect[..1]);
    assert_eq!(dump(&running.store, &[equal(NAME, "node_load1"), equal("device", "")]), expect[1..2]);
    running.stop();

    let again = Running::start(dir.path(), &clock());
    assert_eq!(dump(&again.store, &[]), expect);
    let held = again.store.held(HOST, agent.run, &[SPOOL]).await.unwrap();
    assert_eq!((held.schema_version, held.spools[0].next, held.spools[0].predecessor_held), (1, Seq(2), true));
    again.store.commit(agent.batch(stamp(3), [0.3, 8.0])).await.unwrap();
    assert_eq!(dump(&again.store, &[equal("device", "sda")])[0], format!("{} 8@30", expect[0]));
    again.stop();
}

#[tokio::test]
async fn nothing_is_left_of_a_host_that_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let up = |instance: &str| Labels::new().with(NAME, "up").with("instance", instance);
    let own = |window: u64| Append::Own { stamp: stamp(window), samples: vec![(up("web-1"), 1.0), (up("web-2"), 1.0)] };
    let happened = Event { at: stamp(1), kind: "oom_kill".to_owned(), entity: Labels::new(), text: String::new() };
    let mut agent = Agent::start(1);
    running.store.set_host_labels(HOST, Labels::new().with("instance", "web-1")).await.unwrap();
    running.store.commit(agent.batch(stamp(1), [0.29, 5.0])).await.unwrap();
    let appends = vec![own(1), Append::Event { host: HOST, event: happened }];
    running.store.commit(Commit { appends, records: vec![] }).await.unwrap();
    let forget = vec![Append::Forget { host: HOST, instance: "web-1".to_owned() }];
    running.store.commit(Commit { appends: forget, records: vec![] }).await.unwrap();

    let check = async |running: &Running, expect: &[&str]| {
        assert_eq!(dump(&running.store, &[]), expect);
        assert_eq!(running.store.events(None, ALL), []);
        let held = running.store.held(HOST, agent.run, &[SPOOL]).await.unwrap();
        assert_eq!((held.schema_version, held.spools[0].next), (0, Seq(0)));
        assert_eq!(
            running.store.read(record::hosts::last_number).await.unwrap(),
            HOST.0,
            "its number is not given again"
        );
    };
    check(&running, &[r#"up{instance="web-2"} 1@10"#]).await;
    // The number of the series that went is not given to the next one: rows of before still have it.
    let samples = vec![(up("web-3"), 1.0), (up("web-2"), 1.0)];
    running
        .store
        .commit(Commit { appends: vec![Append::Own { stamp: stamp(2), samples }], records: vec![] })
        .await
        .unwrap();
    running.stop();
    let again = Running::start(dir.path(), &clock());
    check(&again, &[r#"up{instance="web-2"} 1@10 1@20"#, r#"up{instance="web-3"} 1@20"#]).await;
    again.stop();
}

#[tokio::test]
async fn a_series_that_ends_is_marked_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    agent.end(1);
    for window in 2..4 {
        running.store.commit(agent.batch(stamp(window), [1.0, 0.0])).await.unwrap();
    }
    let expect = [
        r#"node_disk_reads_completed_total{device="sda", job="node"} 5@10 !@20"#,
        r#"node_load1{job="node"} 1@10 1@20 1@30"#,
    ];
    assert_eq!(dump(&running.store, &[]), expect);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(dump(&again.store, &[]), expect);
    again.stop();
}

#[tokio::test]
async fn a_batch_that_comes_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    let commits = [agent.batch(stamp(1), [1.0, 5.0]), agent.batch(stamp(2), [2.0, 6.0])];
    for commit in &commits {
        running.store.commit(commit.clone()).await.unwrap();
    }
    let before = dump(&running.store, &[]);
    for commit in commits {
        let again = running.store.commit(commit).await.unwrap().batches[0];
        assert_eq!((again.next, again.samples), (Seq(2), None));
    }
    assert_eq!(dump(&running.store, &[]), before);
    assert_eq!(running.store.stats().repeated_total, 2);
    running.stop();
}

#[tokio::test]
async fn a_malformed_batch_fails_its_own_commit_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config(), clock()).unwrap();
    let (mut good, mut bad) = (Agent::start(1), Agent::start(2));
    let first = good.batch(stamp(1), [1.0, 5.0]);
    let second = good.batch(stamp(2), [2.0, 6.0]);
    let mut malformed = bad.batch(stamp(3), [9.0, 9.0]);
    if let Some(Append::Batch { batch, .. }) = malformed.appends.last_mut() {
        batch.payload.truncate(3);
    }
    // All three are queued before the writer begins: one group.
    let start = async { std::thread::spawn(move || writer.run()) };
    let (first, malformed, second, writer) =
        tokio::join!(store.commit(first), store.commit(malformed), store.commit(second), start);
    assert_eq!((first.unwrap().batches[0].next, second.unwrap().batches[0].next), (Seq(1), Seq(2)));
    assert!(matches!(malformed, Err(CommitError::Malformed { append: 1, .. })), "{malformed:?}");
    assert_eq!(store.stats().commits_total, 1);
    let held = store.held(HOST, bad.run, &[bad.spool]).await.unwrap();
    assert_eq!((held.schema_version, held.spools[0].next, held.spools[0].predecessor_held), (0, Seq(0), false));
    Running { store, writer }.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), [r#"node_load1{job="node"} 1@10 2@20"#]);
    again.stop();
}

#[tokio::test]
async fn a_batch_whose_predecessor_is_missing_wants_a_keyframe() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    drop(agent.batch(stamp(2), [2.0, 6.0]));
    let gap = running.store.commit(agent.batch(stamp(3), [3.0, 7.0])).await.unwrap_err();
    assert!(matches!(gap, CommitError::Unfounded { append: 0 }), "{gap}");
    agent.state = State::default();
    let mut keyframe = agent.batch(stamp(4), [4.0, 8.0]);
    if let Some(Append::Batch { batch, .. }) = keyframe.appends.last_mut() {
        batch.keyframe = true;
    }
    assert_eq!(running.store.commit(keyframe).await.unwrap().batches[0].next, Seq(4));
    assert_eq!(running.store.stats().missing_total, 2);
    assert_eq!(dump(&running.store, &[equal(NAME, "node_load1")]), [r#"node_load1{job="node"} 1@10 4@40"#]);
    running.stop();
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_mends_itself() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config(), clock.clone()).unwrap();
    let pages: i64 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    writer.connection.pragma_update(None, "max_page_count", pages + 8).unwrap();
    let running = Running { store, writer: std::thread::spawn(move || writer.run()) };
    let mut agent = Agent::start(1);
    let mut stored = 0;
    let error = loop {
        match running.store.commit(agent.batch(stamp(stored + 1), [1.0, 5.0])).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error, running.store.health()), (CommitError::Full, Health::Full));
    let held = running.store.held(HOST, agent.run, &[agent.spool]).await.unwrap();
    assert_eq!((held.spools[0].next, held.spools[0].predecessor_held), (Seq(stored), true));
    assert_eq!(running.store.last_stamp(HOST), Some(stamp(stored)));

    // What has expired makes room: the next attempt fails and removes it, the one after that is stored.
    clock.advance(Duration::from_secs(60 * 3_600));
    let mut restarted = Agent::start(2);
    drop(running.store.commit(agent.batch(stamp(stored + 2), [1.0, 5.0])).await);
    running.store.commit(restarted.batch(stamp(21_600), [2.0, 6.0])).await.unwrap();
    assert_eq!(running.store.health(), Health::Writable);
    running.stop();
}

#[tokio::test]
async fn files_copied_at_any_moment_hold_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    for window in 1..30 {
        running
            .store
            .commit(agent.batch(stamp(window), [1.0, f64::from(u32::try_from(window).unwrap())]))
            .await
            .unwrap();
        if window % 7 == 0 {
            // As after a crash: nobody closed the database, its WAL is beside it.
            let copy = tempfile::tempdir().unwrap();
            for file in ["lapwing.db", "lapwing.db-wal"] {
                std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
            }
            let crashed = Running::start(copy.path(), &clock());
            assert_eq!(dump(&crashed.store, &[]), dump(&running.store, &[]));
            crashed.stop();
        }
    }
    running.stop();
}

#[tokio::test]
async fn what_expires_leaves_what_later_rows_need() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    // A window each 400 s for 30 hours: nine in an hour, one of them a keyframe if the hour begins with it.
    for step in 0..270_u32 {
        clock.advance(Duration::from_secs(400));
        let value = f64::from(step);
        let window = u64::from(step) * 40 + 1;
        running.store.commit(agent.batch(stamp(window), [value, value])).await.unwrap();
    }
    // The head lets go of a block when its last window has expired: here that is 32 windows.
    let kept = dump(&running.store, &[equal(NAME, "node_load1")])[0].matches('@').count();
    assert!((216..216 + 32).contains(&kept), "{kept} windows");
    running.stop();
    let database = Connection::open(dir.path().join(FILE)).unwrap();
    let rows: u32 = database.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).unwrap();
    assert!((216..240).contains(&rows), "{rows} rows");
    let again = Running::start(dir.path(), &clock);
    assert_eq!(again.store.stats().unreadable_total, 0);
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")])[0].matches('@').count(), 216);
    again.stop();
}

#[test]
fn a_newer_or_foreign_database_is_refused() {
    let check = |prepare: fn(&Path), expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        prepare(&dir.path().join("lapwing.db"));
        let opened = Store::open(Lock::take(dir.path()).unwrap(), config(), clock());
        let error = opened.map(drop).unwrap_err().to_string();
        assert!(error.contains("lapwing.db") && error.contains(expect), "{error}");
    };
    let newer = |file: &Path| Connection::open(file).unwrap().pragma_update(None, "user_version", 900).unwrap();
    check(newer, "install the newer program");
    check(|file| std::fs::write(file, "not a database at all, but long enough to be asked").unwrap(), "not a database");
}
