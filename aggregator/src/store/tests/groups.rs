//! What waits for others to be written with it, and what does not.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future;

use super::*;

#[tokio::test]
async fn only_what_keeps_coming_waits_for_a_long_interval() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { commit_interval: Duration::from_secs(3_600), ..config() };
    let running = Running::start_with(dir.path(), config, &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    let store = running.store.clone();
    let mut waiting = pin!(store.commit(agent.batch(stamp(2), [2.0, 6.0])));
    assert!((&mut waiting).now_or_never().is_none());
    // An agent that greets waits for this, and what waits is durable with it.
    let spools = [agent.spool];
    let both = future::join(waiting, store.held(HOST, agent.run, &spools));
    let (stored, held) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("both wait");
    assert_eq!(stored.unwrap().batches[0].next, held.unwrap().spools[0].next);
    running.stop();
}
