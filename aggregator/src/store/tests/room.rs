//! No more series than there is room for.

use super::*;
use crate::store::commit::Written;
use crate::store::room::Limit;
use crate::store::room::Limits;

const ORIGIN: HostId = HostId(1 << 31);

fn start(data_dir: &Path, limits: Limits) -> Running {
    Running::start_with(data_dir, StoreConfig { limits, ..config() }, &clock())
}

/// What is refused of a window of these series, `metric{device}`.
async fn write(running: &Running, window: u64, series: &[&str]) -> Vec<(Limit, u64, String)> {
    let written = |text: &&str| {
        let (metric, device) = text.split_once('-').unwrap();
        let labels = Labels::new().with(NAME, metric).with("device", device);
        Written { labels, samples: vec![(stamp(window), Some(1.0)), (stamp(window + 1), Some(2.0))] }
    };
    let append = Append::Written { origin: ORIGIN, series: series.iter().map(written).collect() };
    let committed = running.store.commit(Commit { appends: vec![append], records: Vec::new() }).await.unwrap();
    committed.refused.into_iter().map(|(limit, over)| (limit, over.samples, over.example)).collect()
}

#[tokio::test]
async fn what_is_over_is_refused_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { series_max: 5, series_per_host_max: 4, series_per_metric_max: 2 };
    let running = start(dir.path(), limits);
    assert_eq!(write(&running, 1, &["a-1", "a-2", "a-5", "b-1"]).await[0].1, 2, "the first message too");
    let refused = (Limit::PerMetric, 4, r#"a{device="3"}"#.to_owned());
    assert_eq!(write(&running, 3, &["a-1", "a-3", "a-4", "b-1"]).await, [refused]);
    let refused = (Limit::PerHost, 2, r#"d{device="1"}"#.to_owned());
    assert_eq!(write(&running, 5, &["a-1", "c-1", "d-1", "a-2"]).await, [refused]);
    // Of an agent's two series one has room.
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    let expect = [
        r#"a{device="1"} 1@10 2@20 1@30 2@40 1@50 2@60"#,
        r#"a{device="2"} 1@10 2@20 1@50 2@60"#,
        r#"b{device="1"} 1@10 2@20 1@30 2@40"#,
        r#"c{device="1"} 1@50 2@60"#,
    ];
    let written = |running: &Running| dump(&running.store, &[equal("job", "")]);
    assert_eq!(written(&running), expect);
    assert_eq!(dump(&running.store, &[equal("job", "node")]).len(), 1);
    let refused = running.store.refused();
    assert_eq!(refused.iter().map(|(host, _)| *host).collect::<Vec<_>>(), [HOST, ORIGIN]);
    assert_eq!(refused[0].1[&Limit::Series].samples, 1);
    assert_eq!(refused[1].1[&Limit::PerMetric].samples, 6);
    running.stop();
    let again = start(dir.path(), limits);
    assert_eq!(written(&again), expect);

    // Those that ended make room; one of them that comes back takes it as a new one would.
    let mut settler = again.settler();
    [1_000, 2_000].into_iter().for_each(|window| while settler.step(stamp(window)) {});
    assert_eq!(again.store.stats().series, 0);
    assert_eq!(write(&again, 2_000, &["a-3", "a-1", "b-1"]).await, []);
    assert_eq!(again.store.stats().series, 3);
    assert_eq!(dump(&again.store, &[equal("device", "1"), equal(NAME, "a")]).len(), 1);
    drop(settler);
    again.stop();
}
