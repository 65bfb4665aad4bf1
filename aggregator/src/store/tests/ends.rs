//! Series that end and come back: a mark is of what is gone, and takes nobody's place.

use super::*;

const SERIES: &str = r#"node_disk_reads_completed_total{device="sda", job="node"}"#;

/// Commits batches in the order of `order`, made one after another with what happens to the series before each: `-` it
/// ends, `+` a new one has its labels, `.` nothing.
async fn check(happens: &str, order: &[usize], expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let (mut agent, mut living, mut batches) = (Agent::start(1), Some(1), Vec::new());
    for (window, what) in (1..).zip(happens.chars()) {
        let version = agent.schema.version() + 1;
        let ended = living.take_if(|_| what != '.').map(SeriesIndex).into_iter().collect();
        let series = Vec::from_iter((what == '+').then_some((1, 1)));
        if what != '.' {
            agent.change(SchemaChange { version, series, ended, ..SchemaChange::default() });
        }
        if what == '+' {
            living = u32::try_from(agent.schema.series().len() - 1).ok();
        }
        let counter = |value| Window::Counter(Counter::first(value));
        let samples = living.map(|index| (SeriesIndex(index), counter(f64::from(window)))).into_iter().collect();
        // Each in a spool of its own: what a spool holds comes in order.
        (agent.spool, agent.seq) = (SpoolId([u8::try_from(window).unwrap(); 16]), Seq(0));
        let stamp = stamp(u64::try_from(window).unwrap());
        let batch = agent.encode(&Batch { stamp, samples, ..Batch::default() });
        batches.push(batch.appends);
    }
    // The schema goes ahead of what is sent.
    for batch in &mut batches {
        let schema: Vec<_> = batch.extract_if(.., |append| matches!(append, Append::Schema { .. })).collect();
        running.store.commit(Commit { appends: schema, records: Vec::new() }).await.unwrap();
    }
    for batch in order {
        let appends = std::mem::take(&mut batches[*batch]);
        running.store.commit(Commit { appends, records: Vec::new() }).await.unwrap();
    }
    assert_eq!(dump(&running.store, &[equal("device", "sda")]), [format!("{SERIES}{expect}")], "{happens} {order:?}");
    assert_eq!(running.store.stats().replaced_total, 0, "{happens} {order:?}");
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(again.store.stats().replaced_total, 0, "{happens} {order:?}, read again");
    again.stop();
}

// The first batch comes last: what came for a stamp that was there already is counted then.

#[tokio::test]
async fn a_series_that_ended_has_its_mark() {
    check("..-", &[1, 2, 0], " 1@10 2@20 !@30").await;
    check("..-.+", &[1, 2, 3, 4, 0], " 1@10 2@20 !@30 5@50").await;
}

#[tokio::test]
async fn a_series_that_is_there_again_at_once_has_none() {
    check("..+.", &[1, 2, 3, 0], " 1@10 2@20 3@30 4@40").await;
}

#[tokio::test]
async fn what_overtakes_marks_nothing_that_is_there_again() {
    check("..-+.", &[1, 4, 2, 3, 0], " 1@10 2@20 4@40 5@50").await;
}
