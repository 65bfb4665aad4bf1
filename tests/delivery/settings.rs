//! What an aggregator sets of its agents' configuration.

use std::collections::BTreeMap;

use agent::config::Config;
use agent::config::Given;
use agent::uplink::settings::Settings;
use aggregator::config::Policy;
use aggregator::ingest::policy::Settlement;
use aggregator::ingest::presence::HostChange;
use common::batch::HostId;
use common::config::Layers;
use tokio::sync::watch;

use super::trust::until;
use super::*;

const SLOWLY: &str = "[processes]\ninterval_seconds = 5\n[containers]\nlabels = ['team']";
const WRONG: &str = "[processes]\ncommand_line = 'full'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_what_its_labels_say_and_tells_what_became_of_it() {
    let bench = Bench::start().await;
    let of = |name: &str, value: &str, text: &str| Policy {
        hosts: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        text: Arc::from(text),
    };
    bench.presence.set(vec![of("tier", "new", WRONG), of("env", "test", SLOWLY)]);
    let state = tempfile::tempdir().unwrap();
    let file = "[containers]\nlabels = []";
    let own = Config::read(&Layers { file: Some(("agent.toml", file)), ..Layers::default() }).unwrap();
    let given = watch::Sender::new(Given::default());
    let settings = Settings { given: given.clone(), pinned: own.pinned };
    let uplink = Uplink { settings, ..bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await)) };
    let (counts, stop, mut running) = (uplink.counts.clone(), CancellationToken::new(), JoinSet::new());
    running.spawn(uplink.run(stop.clone()));
    let settled = || bench.presence.snapshot().into_iter().next().map(|host| host.settled).unwrap_or_default();
    until(&bench, Duration::ZERO, || settled() != Settlement::Unknown).await;
    assert_eq!(settled(), Settlement::Applied(vec!["containers.labels".to_owned()]));
    let both = own.and(&given.borrow());
    assert_eq!((both.process_interval_seconds, both.container_labels), (5, Some(Vec::new())));
    assert_eq!(Settings::kept(state.path()), *given.borrow(), "a restart begins with it");

    // A label is changed, and with it what is set: that is told in the session. What is refused changes nothing.
    let label = |value: &str| {
        let labels = BTreeMap::from([("tier".to_owned(), value.to_owned())]);
        let change = HostChange { labels, ..HostChange::default() };
        drop(bench.presence.change(HostId(1), &change, bench.clock.wall()).unwrap());
    };
    label("new");
    until(&bench, Duration::ZERO, || matches!(settled(), Settlement::Refused(_))).await;
    let Settlement::Refused(why) = settled() else { panic!("taken") };
    assert!(why.contains("command_line"), "{why}");
    assert_eq!(own.and(&given.borrow()).process_interval_seconds, 5);
    assert_eq!(counts.settings_refused.load(std::sync::atomic::Ordering::Relaxed), 1);

    // And then nothing is set any more.
    bench.presence.set(Vec::new());
    until(&bench, Duration::ZERO, || settled() == Settlement::Applied(Vec::new())).await;
    assert!(given.borrow().is_empty());
    assert_eq!(bench.counters.sessions_total.get(), 1, "all in one session");
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);
    drop(bench.end().await);
}
