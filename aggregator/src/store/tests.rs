//! The store against an oracle in memory, and against what disks and peers do to it.

use std::path::Path;
use std::thread::JoinHandle;

use common::batch::{Batch, EncodedBatch, Seq};
use common::metric::{Decimals, Kind, NAME, Tier};
use common::schema::{Column, Entity, Schema, SchemaChange, SeriesIndex};
use common::window::{Counter, Gauge, Window};
use common::wire::codec::{self, State};

use super::*;
use crate::store::select::Is;

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
        let config = StoreConfig { commit_interval: Duration::ZERO, ..StoreConfig::default() };
        let (store, writer) = Store::open(Lock::take(data_dir).unwrap(), config, clock.clone()).unwrap();
        Self { store, writer: std::thread::spawn(move || writer.run()) }
    }

    /// Ends it and waits: the lock is free afterwards.
    fn stop(self) {
        self.store.close();
        self.writer.join().unwrap();
    }
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
                Kind::Gauge => Window::Gauge(Gauge::of(value)),
                Kind::Counter => Window::Counter(Counter::first(value)),
            };
            (index, window)
        };
        let samples = self.schema.living(version).map(window).collect();
        self.encode(&Batch { stamp, samples, ..Batch::default() })
    }

    fn encode(&mut self, batch: &Batch) -> Commit {
        let keyframe = self.seq == Seq(0) || EncodedBatch::hour_begins(batch.stamp);
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
            payload: codec::encode(batch, &self.schema, version, &mut self.state),
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

/// Everything stored, as `labels value@second`, a mark as `!`.
fn dump(store: &Store, matchers: &[Matcher]) -> Vec<String> {
    let line = |selected: Selected| {
        let samples = selected.stamps.iter().zip(&selected.columns[0]).map(|(stamp, value)| {
            let second = stamp.as_millis() / 1_000 - 1_000_000;
            if value.to_bits() == select::STALE { format!(" !@{second}") } else { format!(" {value}@{second}") }
        });
        format!("{}{}", selected.labels, samples.collect::<String>())
    };
    let mut lines: Vec<String> = store.select(matchers, ALL, &FIELDS).unwrap().into_iter().map(line).collect();
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
