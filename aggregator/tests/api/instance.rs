//! An aggregator in this process, and a client that says as little as HTTP allows.

use std::fs;

use aggregator::Addresses;
use aggregator::Signals;
use aggregator::config::CommandLine;
use aggregator::config::Config;
use common::time::Clock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub(crate) struct Instance {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    pub(crate) clock: Clock,
    /// The admin's.
    pub(crate) token: String,
    dir: TempDir,
    signals: Signals,
    running: JoinSet<anyhow::Result<()>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
    headers: reqwest::header::HeaderMap,
}

impl Instance {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: TempDir) -> Self {
        Self::start_with(dir, Vec::new()).await
    }

    /// Over a data directory, with more of a configuration.
    pub(crate) async fn start_with(dir: TempDir, more: Vec<(&'static str, toml::Value)>) -> Self {
        let text = |value: &str| toml::Value::from(value);
        let mut values = vec![
            ("data_dir", text(dir.path().to_str().unwrap())),
            ("http.listen", text("127.0.0.1:0")),
            ("ingest.listen", text("127.0.0.1:0")),
            ("store.series_per_host_max", toml::Value::from(3)),
        ];
        values.extend(more);
        let config = Config::read(CommandLine { config: None, values }).unwrap();
        let (clock, signals) = (Clock::real(), Signals::default());
        let (started, addresses) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(aggregator::run(config.clone(), clock.clone(), signals.clone(), Some(started)));
        let addresses = tokio::select! {
            addresses = addresses => addresses.unwrap(),
            ended = running.join_next() => panic!("it did not start: {ended:?}"),
        };
        let token = fs::read_to_string(dir.path().join("admin.token")).unwrap().trim().to_owned();
        Self { config, addresses, clock, token, dir, signals, running }
    }

    /// Stops it in good order.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.signals.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
        self.dir
    }

    pub(crate) async fn restart(self) -> Self {
        Self::start_in(self.stop().await).await
    }

    pub(crate) async fn ask(&self, (method, path): (&str, &str), token: Option<&str>, body: Option<&str>) -> Answer {
        let request = self.request(method, path);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
            None => request,
        };
        Answer::of(request).await
    }

    pub(crate) async fn with_cookie(&self, path: &str, cookie: &str) -> Answer {
        Answer::of(self.request("GET", path).header("cookie", cookie)).await
    }

    /// Posts a form, as Grafana asks.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let pairs: Vec<_> = form.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(path, &self.token, &headers, pairs.join("&").into_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(("GET", path), Some(&self.token), None).await
    }

    /// Posts bytes.
    pub(crate) async fn send(&self, path: &str, token: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let request = self.request("POST", path).bearer_auth(token).body(body);
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        client.request(method.parse().unwrap(), format!("http://{}{path}", self.addresses.http))
    }
}

/// Why an aggregator with this configuration does not start.
pub(crate) async fn failure(config: Config) -> String {
    let error = aggregator::run(config, Clock::real(), Signals::default(), None).await.unwrap_err();
    format!("{error:#}")
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        Self { status, headers, text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
