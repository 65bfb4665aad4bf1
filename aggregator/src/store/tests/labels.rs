//! A host with other labels than before.

use std::cell::Cell;

use super::*;

#[tokio::test]
async fn the_series_of_a_relabelled_host_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    let mut window = 0;
    for env in ["test", "live", "live"] {
        running.store.set_host_labels(HOST, Labels::new().with("env", env)).await.unwrap();
        window += 1;
        running.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    let expect = [r#"node_load1{env="live", job="node"} 1@20 1@30"#, r#"node_load1{env="test", job="node"} 1@10 !@20"#];
    assert_eq!(dump(&running.store, &[equal(NAME, "node_load1")]), expect);
    let unbounded: Spend<'_, SelectError> = &|_| Ok(());
    let values = |limit| running.store.label_values("env", &[], ALL, (limit, unbounded)).unwrap();
    assert_eq!(values(9), ["live".into(), "test".into()]);
    assert_eq!(values(1), ["live".into()], "the first, sorted, however they are found");
    assert_eq!(running.store.label_names(&[equal("device", "sda")], ALL, (9, unbounded)).unwrap().len(), 4);
    assert_eq!(running.store.series(&[], ALL, (9, unbounded)).unwrap().len(), 4);
    let (looked_at, held) = (Cell::new(0), Cell::new(0));
    let stop_at_third: Spend<'_, SelectError> = &|more| {
        looked_at.set(looked_at.get() + 1);
        held.set(held.get() + more);
        if looked_at.get() < 3 { Ok(()) } else { Err(SelectError::TooManySamples { limit: held.get() }) }
    };
    let stopped = running.store.series(&[], ALL, (9, stop_at_third));
    assert!(
        matches!(stopped, Err(SelectError::TooManySamples { limit: 3 })),
        "as soon as it may not go on: {stopped:?}"
    );
    assert_eq!(looked_at.get(), 3);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), expect);
    again.stop();
}

#[tokio::test]
async fn what_comes_late_behind_new_labels_ends_nothing() {
    // Of another run, or of the same, whose rows a start appends together.
    for late in [1, 0] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(dir.path(), &clock());
        let mut agents = [Agent::start(1), Agent::start(101)];
        for (env, agent, window) in [("test", 0, 5), ("live", late, 3), ("live", 0, 6)] {
            running.store.set_host_labels(HOST, Labels::new().with("env", env)).await.unwrap();
            running.store.commit(agents[agent].batch(stamp(window), [1.0, 5.0])).await.unwrap();
        }
        let expect =
            [r#"node_load1{env="live", job="node"} 1@30 1@60"#, r#"node_load1{env="test", job="node"} 1@50 !@60"#];
        assert_eq!(dump(&running.store, &[equal(NAME, "node_load1")]), expect);
        running.stop();
        let again = Running::start(dir.path(), &clock());
        assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), expect);
        again.stop();
    }
}
