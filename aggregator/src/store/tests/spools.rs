//! What is remembered of spools: written together, and no shorter than their batches.

use super::*;
use crate::store::ledger::STATE_KEPT;

#[tokio::test]
async fn spools_that_are_named_together_are_written_together() {
    const SPOOLS: u8 = 200;
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agents: Vec<Agent> = (0..SPOOLS).map(Agent::start).collect();
    let mut all = Commit::default();
    for agent in &mut agents {
        all.appends.append(&mut agent.batch(stamp(1), [1.0, 5.0]).appends);
    }
    running.store.commit(all).await.unwrap();
    let log_bytes = || std::fs::metadata(dir.path().join("lapwing.db-wal")).unwrap().len();
    let before = log_bytes();
    clock.advance(Duration::from_secs(1));
    let named: Vec<SpoolId> = agents.iter().map(|agent| agent.spool).collect();
    let held = running.store.held(HOST, agents[0].run, &named).await.unwrap();
    assert!(held.spools.iter().all(|spool| spool.next == Seq(1)));
    // A commit of its own writes a page at least.
    let pages = (log_bytes() - before) / 1_024;
    assert!(pages < u64::from(SPOOLS) / 4, "{pages} pages");
    running.stop();
}

#[tokio::test]
async fn a_spool_is_remembered_as_long_as_its_batches() {
    let day = Duration::from_secs(24 * 3_600);
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let retention = Retention { raw: 90 * day, ..config().retention };
    let config = StoreConfig { retention, ..config() };
    let (store, writer) = Store::open(Lock::take(dir.path()).unwrap(), config, clock.clone()).unwrap();
    let running = Running { store, writer: std::thread::spawn(move || writer.run()) };
    let mut agent = Agent::start(1);
    let first = agent.batch(stamp(1), [1.0, 5.0]);
    running.store.commit(first.clone()).await.unwrap();
    let kept = async || running.store.held(HOST, agent.run, &[agent.spool]).await.unwrap().spools[0].next;
    for (days, expect) in [(40, Seq(1)), (60, Seq(0))] {
        clock.advance(u32::from(days) * day);
        // What another host commits lets the writer look for what has expired.
        let mut other = Agent::start(days);
        for _ in 0..2 {
            running.store.commit(other.batch(clock.wall(), [2.0, 6.0])).await.unwrap();
        }
        assert_eq!(kept().await, expect, "{days} days later");
        if expect == Seq(1) {
            let again = running.store.commit(first.clone()).await.unwrap();
            assert_eq!((again.batches[0].next, again.batches[0].samples), (Seq(1), None));
        }
    }
    running.stop();
}

#[tokio::test]
async fn what_is_older_than_what_is_kept_is_taken_counted_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    clock.advance(config().retention.raw + Duration::from_secs(20));
    // The third is coded against the second, which is not removed before it comes.
    for (window, expect) in [(1, Some(0)), (2, Some(0)), (3, Some(2)), (4, Some(2))] {
        let batch = running.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap().batches[0];
        assert_eq!((batch.next, batch.samples), (Seq(window), expect));
    }
    let expect = r#"node_load1{job="node"} 1@30 1@40"#;
    assert_eq!(dump(&running.store, &[equal(NAME, "node_load1")]), [expect]);
    assert_eq!((running.store.stats().too_old_total, running.store.stats().batches_total), (2, 4));
    running.stop();
    let again = Running::start(dir.path(), &clock);
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), [expect]);
    again.stop();
}

#[tokio::test]
async fn what_is_older_than_what_is_kept_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    // The disk goes, the host has other labels, and what comes next is of the time before its clock was set.
    agent.end(1);
    running.store.set_host_labels(HOST, Labels::new().with("env", "test")).await.unwrap();
    let old = stamp(0).before(config().retention.raw + Duration::from_secs(20));
    running.store.commit(agent.batch(old, [9.0, 9.0])).await.unwrap();
    assert_eq!(running.store.stats().too_old_total, 1);
    running.store.commit(agent.batch(stamp(2), [2.0, 6.0])).await.unwrap();
    let expect = [
        r#"node_disk_reads_completed_total{device="sda", job="node"} 5@10 !@20"#,
        r#"node_load1{env="test", job="node"} 2@20"#,
        r#"node_load1{job="node"} 1@10 !@20"#,
    ];
    assert_eq!(dump(&running.store, &[]), expect);
    running.stop();
    let again = Running::start(dir.path(), &clock);
    assert_eq!(dump(&again.store, &[]), expect);
    again.stop();
}

#[tokio::test]
async fn a_place_in_the_log_is_not_given_again_when_all_rows_have_gone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(2), [1.0, 5.0])).await.unwrap();
    // Nothing continues what stood for so long, so that nothing of it is needed once it is in a file.
    clock.advance(2 * STATE_KEPT);
    for env in ["test", "live"] {
        running.store.set_host_labels(HostId(2), Labels::new().with("env", env)).await.unwrap();
    }
    running.settler().step(stamp(1_000));
    let rows =
        |connection: &Connection| connection.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, u32>(0));
    assert_eq!(running.store.read(rows).await.unwrap(), 0);
    running.stop();
    // What comes late then is not taken for what the file has.
    let again = Running::start(dir.path(), &clock);
    let mut late = Agent::start(3);
    again.store.commit(late.batch(stamp(1), [2.0, 6.0])).await.unwrap();
    again.stop();
    let again = Running::start(dir.path(), &clock);
    let expect = [r#"node_load1{job="node"} 2@10 1@20"#];
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), expect);
    // The spool is where it was, though nothing of it is in the log.
    let held = again.store.held(HOST, agent.run, &[agent.spool]).await.unwrap();
    assert_eq!(held.spools[0].next, Seq(1));
    again.stop();
}
