//! What is remembered of spools: written together, and no shorter than their batches.

use super::*;

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
    let pages = (log_bytes() - before) / 4_096;
    assert!(pages < u64::from(SPOOLS) / 4, "{pages} pages");
    running.stop();
}
