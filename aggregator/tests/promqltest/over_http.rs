//! The API of an aggregator that runs: what is loaded is committed to its store before it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aggregator::Signals;
use aggregator::config::CommandLine;
use aggregator::config::Config;
use aggregator::query::Moments;
use aggregator::query::Value;
use aggregator::store::Store;
use aggregator::store::StoreConfig;
use aggregator::store::commit::Append;
use aggregator::store::commit::Commit;
use aggregator::store::lock::Lock;
use common::metric::Labels;
use common::time::Clock;
use common::time::Timestamp;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::door::Door;
use crate::door::Reply;
use crate::series::Item;

/// An aggregator over a data directory.
pub(crate) struct Aggregator {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
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
        ];
        let config = Config::read(CommandLine { config: None, values }).unwrap();
        let signals = Signals::default();
        let (started, addresses) = oneshot::channel();
        let running = runtime.spawn(aggregator::run(config, Clock::real(), signals.clone(), Some(started)));
        let address = runtime.block_on(addresses).unwrap().http;
        let token = fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { runtime, client, url: format!("http://{address}/prometheus/api/v1"), token, signals, running, dir }
    }

    /// Stops in good order, and leaves its data.
    pub(crate) fn stop(self) -> TempDir {
        self.signals.stop.cancel();
        self.runtime.block_on(self.running).unwrap().unwrap();
        self.dir
    }
}

impl Door for Aggregator {
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String> {
        let seconds = |at: Timestamp| at.as_seconds().to_string();
        let (path, mut form) = match moments {
            Moments::At(at) => ("query", vec![("time", seconds(at))]),
            Moments::Range { start, end, step } => (
                "query_range",
                vec![("start", seconds(start)), ("end", seconds(end)), ("step", step.as_secs_f64().to_string())],
            ),
        };
        form.push(("query", query.to_owned()));
        let encoded = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>();
        let request = self.client.post(format!("{}/{path}", self.url)).bearer_auth(&self.token);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encoded.join("&"));
        let body = self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
        let body: Json = serde_json::from_str(&body).unwrap();
        if let Some(error) = body["error"].as_str() {
            return Err(error.strip_prefix("invalid parameter \"query\": ").unwrap_or(error).to_owned());
        }
        let said = |key: &str| {
            let said = body[key].as_array().into_iter().flatten();
            said.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        Ok(Reply { value: value(&body["data"]), warnings: said("warnings"), infos: said("infos") })
    }
}

async fn commit(dir: &Path, samples: Vec<(Labels, Timestamp, Item)>) {
    let century = std::time::Duration::from_secs(100 * 365 * 24 * 3_600);
    let config = StoreConfig { retention: century, ..StoreConfig::default() };
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

fn value(data: &Json) -> Value {
    let result = &data["result"];
    let number = |point: &Json| crate::series::number(point[1].as_str().unwrap());
    let at = |point: &Json| {
        let seconds = point[0].as_f64().unwrap();
        let since = std::time::Duration::from_secs_f64(seconds.abs());
        let zero = Timestamp::default();
        if seconds < 0.0 { zero.before(since) } else { zero.after(since) }
    };
    let labels = |series: &Json| {
        let pairs = series["metric"].as_object().unwrap().iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect::<Labels>()
    };
    match data["resultType"].as_str().unwrap() {
        "scalar" => Value::Scalar(number(result)),
        "string" => Value::String(result[1].as_str().unwrap().to_owned()),
        "vector" => {
            let samples = result.as_array().unwrap().iter();
            Value::Vector(samples.map(|of| (labels(of), at(&of["value"]), number(&of["value"]))).collect())
        }
        _ => {
            let points = |of: &Json| of["values"].as_array().unwrap().iter().map(|of| (at(of), number(of))).collect();
            Value::Matrix(result.as_array().unwrap().iter().map(|of| (labels(of), points(of))).collect())
        }
    }
}

/// For a form.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escape).collect()
}
