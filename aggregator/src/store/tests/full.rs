//! A full disk stores nothing and forgets nothing: what it refused is stored as it is once there is room.

use super::*;
use crate::store::full::Disk;
use crate::store::full::TOO_MANY_BYTES;
use crate::store::full::crowd;
use crate::store::record::Record;
use crate::store::record::alerts;
use crate::store::record::alerts::Evaluated;

/// The next batch of an agent, of more bytes than a full disk has left.
fn large(agent: &mut Agent, window: u64) -> Commit {
    let text = "x".repeat(TOO_MANY_BYTES);
    let event = Event { at: stamp(window), kind: "oom_kill".to_owned(), entity: Labels::new(), text };
    let gauge = |value: f64| Window::Gauge(Gauge::of(value));
    let samples = vec![(SeriesIndex(0), gauge(0.5 + window as f64))];
    agent.encode(&Batch { stamp: stamp(window), samples, events: vec![event], ..Batch::default() })
}

fn seconds(store: &Store) -> Vec<String> {
    dump(store, &[equal(NAME, "node_load1")])
}

#[tokio::test]
async fn what_continues_a_batch_continues_it_however_long_the_disk_was_full() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config(), clock.clone()).unwrap();
    let disk = Disk::under(&writer, dir.path());
    let running = Running { store, writer: std::thread::spawn(move || writer.run()) };
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.5, 5.0])).await.unwrap();
    disk.fill();
    agent.end(1);
    let mut waiting = large(&mut agent, 2);
    for window in 3..5 {
        waiting.appends.append(&mut large(&mut agent, window).appends);
    }
    for _ in 0..6 {
        assert_eq!(running.store.commit(waiting.clone()).await, Err(CommitError::Full));
        clock.advance(Duration::from_secs(1_800));
    }
    let held = running.store.held(HOST, agent.run, &[agent.spool]).await.unwrap();
    assert_eq!((held.schema_version, held.spools[0].next, held.spools[0].predecessor_held), (1, Seq(1), true));
    disk.free();
    let committed = running.store.commit(waiting).await.unwrap();
    assert_eq!(committed.batches.last().unwrap().next, Seq(4));
    assert_eq!(seconds(&running.store), [r#"node_load1{job="node"} 1.5@10 2.5@20 3.5@30 4.5@40"#]);
    running.stop();
}

#[tokio::test]
async fn commits_of_one_spool_that_failed_together_succeed_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(1);
    let before = Running::start(dir.path(), &clock());
    before.store.commit(agent.batch(stamp(1), [1.5, 5.0])).await.unwrap();
    before.stop();
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config(), clock()).unwrap();
    let disk = Disk::under(&writer, dir.path());
    disk.fill();
    let (small, large) = (agent.batch(stamp(2), [2.5, 6.0]), large(&mut agent, 3));
    // Both are queued before the writer begins: one group, of which the first alone would fit.
    let start = async { std::thread::spawn(move || writer.run()) };
    let (first, second, writer) = tokio::join!(store.commit(small.clone()), store.commit(large.clone()), start);
    assert_eq!((first, second), (Err(CommitError::Full), Err(CommitError::Full)));
    let running = Running { store, writer };
    disk.free();
    assert_eq!(running.store.commit(small).await.unwrap().batches[0].next, Seq(2));
    assert_eq!(running.store.commit(large).await.unwrap().batches[0].next, Seq(3));
    assert_eq!(seconds(&running.store), [r#"node_load1{job="node"} 1.5@10 2.5@20 3.5@30"#]);
    running.stop();
}

#[tokio::test]
async fn what_is_little_is_recorded_where_samples_have_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut writer) = Store::open(Lock::take(dir.path()).unwrap(), config(), clock()).unwrap();
    crowd(&mut writer, dir.path());
    let record = Record::Evaluated(Evaluated { through: stamp(7) });
    let recorded = Commit { appends: Vec::new(), records: vec![record] };
    // Both are queued before the writer begins: one group.
    let start = async { std::thread::spawn(move || writer.run()) };
    let batch = Agent::start(1).batch(stamp(1), [1.5, 5.0]);
    let (samples, records, writer) = tokio::join!(store.commit(batch.clone()), store.commit(recorded), start);
    assert_eq!(samples, Err(CommitError::Full));
    records.unwrap();
    assert_eq!(store.health(), Health::Full);
    Running { store, writer }.stop();
    let running = Running::start(dir.path(), &clock());
    assert_eq!(running.store.read(alerts::evaluated_through).await.unwrap(), Some(stamp(7)));
    running.store.commit(batch).await.unwrap();
    assert_eq!(running.store.health(), Health::Writable);
    assert_eq!(seconds(&running.store), [r#"node_load1{job="node"} 1.5@10"#]);
    running.stop();
}
