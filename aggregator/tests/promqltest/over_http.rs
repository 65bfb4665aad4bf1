//! The API of an aggregator that runs: what is loaded is committed to its store before it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aggregator::Signals;
use aggregator::config::CommandLine;
use aggregator::config::Config;
use aggregator::query::Moments;
use aggregator::store::Retention;
use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use common::metric::Labels;
use common::time::Clock;
use common::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::door::Door;
use crate::door::Reply;
use crate::series::Item;

/// An aggregator over a data directory.
pub(crate) struct Aggregator {
    api: Api,
    signals: Signals,
    running: JoinHandle<anyhow::Result<()>>,
    dir: TempDir,
}

impl Aggregator {
    /// Commits samples, then starts.
    pub(crate) fn start(dir: TempDir, samples: Vec<(Labels, Timestamp, Item)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(commit(dir.path(), samples));
        let text = |value: &str| toml::Value::from(value);
        let values = vec![
            ("data_dir", text(dir.path().to_str().unwrap())),
            ("http.listen", text("127.0.0.1:0")),
            ("ingest.listen", text("127.0.0.1:0")),
            ("retention.raw", text("100y")),
            ("retention.five_minutes", text("100y")),
            ("retention.one_hour", text("100y")),
        ];
        let config = Config::read(CommandLine { config: None, values }).unwrap();
        let signals = Signals::default();
        let (started, addresses) = oneshot::channel();
        let running = runtime.spawn(aggregator::run(config, Clock::real(), signals.clone(), Some(started)));
        let address = runtime.block_on(addresses).unwrap().http;
        let token = fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
        let api = Api::new(runtime, format!("http://{address}/prometheus"), token);
        Self { api, signals, running, dir }
    }

    /// Stops in good order, and leaves its data.
    pub(crate) fn stop(self) -> TempDir {
        self.signals.stop.cancel();
        self.api.runtime.block_on(self.running).unwrap().unwrap();
        self.dir
    }
}

impl Door for Aggregator {
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String> {
        self.api.ask(query, moments)
    }
}

async fn commit(dir: &Path, samples: Vec<(Labels, Timestamp, Item)>) {
    let century = std::time::Duration::from_secs(100 * 365 * 24 * 3_600);
    let retention = Retention { raw: century, ..Retention::default() };
    let config = StoreConfig { retention, ..StoreConfig::default() };
    let (store, writer) = Store::open(Lock::take(dir).unwrap(), config, Clock::real()).unwrap();
    let writing = tokio::task::spawn_blocking(move || writer.run());
    let mut stamps: BTreeMap<Timestamp, Vec<(Labels, Item)>> = BTreeMap::new();
    for (labels, stamp, item) in samples {
        stamps.entry(stamp).or_default().push((labels, item));
    }
    let appends = stamps.into_iter().flat_map(|(stamp, items)| {
        let value = |(labels, item): &(Labels, Item)| match item {
            Item::Value(value) => Some((labels.clone(), *value)),
            Item::Stale | Item::None | Item::Histogram => None,
        };
        let samples = items.iter().filter_map(value).collect();
        let ended = items.iter().filter(|(_, item)| *item == Item::Stale);
        [
            Append::Own { stamp, samples },
            Append::Stale { stamp, series: ended.map(|(labels, _)| labels.clone()).collect() },
        ]
    });
    store.commit(Commit { appends: appends.collect(), records: Vec::new() }).await.unwrap();
    store.close();
    writing.await.unwrap();
}
