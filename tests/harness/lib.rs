//! A cluster in one process: the real aggregator and a real agent, on port 0, with a clock that the test moves.
//!
//! One cluster runs at a time, and at its end nothing may have been logged at WARN or above that the test did not
//! announce.

mod log;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use aggregator::Addresses;
use aggregator::Signals;
use aggregator::config::CommandLine;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use common::batch::WINDOW;
use common::config::Layers;
use common::time::Clock;
use common::time::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::MutexGuard;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Real time that anything may take before the test fails: a machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Real time between two looks at something that takes real time, such as a handshake.
const GLANCE: Duration = Duration::from_millis(20);

/// Seconds that may pass without a tick.
const TICKS_MISSED_MAX: u32 = 6;

const MINUTE: Duration = Duration::from_secs(60);

/// An aggregator and its agents.
pub struct Cluster {
    /// The clock that all of them run on.
    pub clock: Clock,
    dir: TempDir,
    http: reqwest::Client,
    aggregator: Option<Aggregator>,
    agents: Vec<Agent>,
    announced: Vec<&'static str>,
    _alone: MutexGuard<'static, ()>,
}

struct Aggregator {
    addresses: Addresses,
    signals: Signals,
    task: JoinSet<anyhow::Result<()>>,
}

struct Agent {
    ticked: watch::Receiver<Timestamp>,
    stop: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

impl Agent {
    /// Waits for a tick. An agent that began only now, or has just set its stamps back, has none in this second: more
    /// seconds pass for it.
    async fn tick_after(&mut self, before: Timestamp, clock: &Clock) -> anyhow::Result<()> {
        for _ in 0..TICKS_MISSED_MAX {
            let ticked = self.ticked.wait_for(|now| *now != before);
            match tokio::time::timeout(PATIENCE / TICKS_MISSED_MAX, ticked).await {
                Ok(ticked) => return ticked.map(drop).context("an agent has ended"),
                Err(_) => clock.advance(Duration::from_secs(1)),
            }
        }
        bail!("an agent does not tick")
    }
}

impl Cluster {
    /// An aggregator without agents, its clock on a whole minute.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let alone = log::alone().await;
        let mut cluster = Self {
            // TLS keeps real time, and certificates must be valid in it.
            clock: Clock::moved(Clock::real().wall().align_down(MINUTE)),
            dir: tempfile::tempdir()?,
            http: client()?,
            aggregator: None,
            agents: Vec::new(),
            announced: Vec::new(),
            _alone: alone,
        };
        cluster.start_aggregator().await?;
        Ok(cluster)
    }

    /// Where rules, `alertmanager.yml` and everything that is kept lie.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("aggregator")
    }

    /// Says that warnings with these words are expected.
    pub fn announce(&mut self, words: &'static str) {
        self.announced.push(words);
    }

    /// Starts the aggregator, on the ports it had before if it ran before.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_aggregator(&mut self) -> anyhow::Result<()> {
        let text = |value: &str| toml::Value::String(value.to_owned());
        let before = self.aggregator.take().map(|aggregator| aggregator.addresses);
        let address = |address: Option<std::net::SocketAddr>| match address {
            Some(address) => text(&address.to_string()),
            None => text("127.0.0.1:0"),
        };
        let values = vec![
            ("data_dir", text(&self.data_dir().to_string_lossy())),
            ("http.listen", address(before.map(|before| before.http))),
            ("ingest.listen", address(before.map(|before| before.ingest))),
            ("store.commit_interval", text("0")),
        ];
        let empty = self.dir.path().join("aggregator.toml");
        std::fs::write(&empty, "")?;
        let mut config = aggregator::config::Config::read(CommandLine { config: Some(empty), values })?;
        config.rules_dir = self.data_dir();
        let signals = Signals::default();
        let (started, addresses) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(aggregator::run(config, self.clock.clone(), signals.clone(), Some(started)));
        let addresses = tokio::select! {
            addresses = addresses => addresses.context("the aggregator went away"),
            Some(ended) = task.join_next() => ended?.and_then(|()| bail!("the aggregator ended")),
        }?;
        self.aggregator = Some(Aggregator { addresses, signals, task });
        Ok(())
    }

    /// Stops the aggregator in good order; its addresses stay for the next start.
    ///
    /// # Errors
    /// When it ends with an error.
    pub async fn stop_aggregator(&mut self) -> anyhow::Result<()> {
        let aggregator = self.aggregator.as_mut().context("no aggregator runs")?;
        aggregator.signals.stop.cancel();
        while let Some(ended) = aggregator.task.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// A join token, made as an operator makes it.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn token(&self) -> anyhow::Result<String> {
        let answer = self.post("/api/v1/tokens", &serde_json::json!({})).await?;
        Ok(answer["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// Where the agents of this name keep their state.
    #[must_use]
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts an agent that calls itself `name` and watches this machine. The same name has the same state directory.
    ///
    /// # Errors
    /// When its configuration is wrong.
    pub fn start_agent(&mut self, name: &str, token: Option<&str>) -> anyhow::Result<()> {
        self.start_agent_at(name, token, &agent::config::Roots::default())
    }

    /// Starts an agent that watches the host whose trees lie at `roots`.
    ///
    /// # Errors
    /// When its configuration is wrong.
    pub fn start_agent_at(
        &mut self,
        name: &str,
        token: Option<&str>,
        roots: &agent::config::Roots,
    ) -> anyhow::Result<()> {
        let aggregator = self.aggregator.as_ref().context("no aggregator runs")?.addresses.ingest;
        let mut config = agent::config::Config::read(&Layers::default())?;
        config.instance = Some(name.to_owned());
        config.roots = roots.clone();
        // A minute of the moved clock is seconds of a processor's that the agent shares with the whole cluster.
        config.cpu_limit = None;
        config.uplink.aggregators = vec![aggregator.to_string()];
        config.uplink.join = token.map(ToOwned::to_owned);
        config.uplink.state_dir = self.state_dir(name);
        std::fs::create_dir_all(&config.uplink.state_dir)?;
        let stop = CancellationToken::new();
        let (ticked, latest) = watch::channel(Timestamp::default());
        let mut task = JoinSet::new();
        task.spawn(agent::run(config, self.clock.clone(), stop.clone(), ticked));
        self.agents.push(Agent { ticked: latest, stop, task });
        Ok(())
    }

    /// Starts an agent as [`Self::start_agent`] does, and waits until its session stands.
    ///
    /// # Errors
    /// When it never does.
    pub async fn join(&mut self, name: &str, token: Option<&str>) -> anyhow::Result<()> {
        self.start_agent(name, token)?;
        self.until_up(name).await
    }

    /// Waits for the latest agent's end, and says how it ended.
    ///
    /// # Errors
    /// As the agent does.
    pub async fn agent_ends(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agents.pop().context("no agent runs")?;
        let ended = tokio::time::timeout(PATIENCE, agent.task.join_next()).await.context("the agent goes on")?;
        ended.context("the agent had ended")??
    }

    /// Stops the latest agent in good order.
    ///
    /// # Errors
    /// When it ends with an error.
    pub async fn stop_agent(&mut self) -> anyhow::Result<()> {
        self.agents.last().context("no agent runs")?.stop.cancel();
        self.agent_ends().await
    }

    /// Lets seconds pass, each of them noticed by every agent that runs, and what they ship heard by the aggregator.
    ///
    /// # Errors
    /// When an agent does not tick, or is not heard.
    pub async fn pass(&mut self, seconds: u32) -> anyhow::Result<()> {
        for _ in 0..seconds {
            let before: Vec<Timestamp> = self.agents.iter().map(|agent| *agent.ticked.borrow()).collect();
            self.clock.advance(Duration::from_secs(1));
            for (agent, before) in self.agents.iter_mut().zip(before) {
                agent.tick_after(before, &self.clock).await?;
            }
            self.until_heard().await?;
        }
        Ok(())
    }

    /// Waits until the aggregator has heard of late from every host that has a session: what is sent takes real time to
    /// arrive, and a clock that runs ahead of it makes hosts silent. Where there is no aggregator, what an agent asks
    /// aside has time to be answered: seconds of a moved clock are given up on as real ones are.
    async fn until_heard(&self) -> anyhow::Result<()> {
        if self.aggregator.as_ref().is_none_or(|aggregator| aggregator.task.is_empty()) {
            tokio::time::sleep(GLANCE).await;
            return Ok(());
        }
        let silent_before = self.clock.wall().before(WINDOW + Duration::from_secs(2)).as_millis();
        let heard = |answer: &Value| {
            let hosts = answer["hosts"].as_array().into_iter().flatten();
            let mut in_session = hosts.filter(|host| host["address"].is_string() && host["state"] != "stopped");
            in_session.all(|host| host["last_seen_ms"].as_i64().is_some_and(|seen| silent_before <= seen))
        };
        eventually("an agent", async || self.get("/api/v1/hosts").await, heard).await
    }

    /// Lets time pass to the end of the window after the next, so that at least one whole window has been shipped.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub async fn pass_a_window(&mut self) -> anyhow::Result<()> {
        let window = u32::try_from(WINDOW.as_secs())?;
        self.pass(window).await
    }

    /// What an instant query answers at the cluster's time: labels and values.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn query(&self, expr: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let at = self.clock.wall().as_seconds().to_string();
        let url = self.url("/prometheus/api/v1/query")?;
        let request = self.http.get(url).query(&[("query", expr), ("time", &at)]);
        let answer = self.send(request).await?;
        let result = answer["data"]["result"].as_array().with_context(|| format!("no vector in {answer}"))?;
        let sample = |sample: &Value| Some((sample["metric"].clone(), sample["value"][1].as_str()?.parse().ok()?));
        Ok(result.iter().filter_map(sample).collect())
    }

    /// The stamps and values of a range selector, in seconds.
    ///
    /// # Errors
    /// When it is refused, or does not select one series.
    pub async fn samples(&self, selector: &str) -> anyhow::Result<Vec<(f64, f64)>> {
        let at = self.clock.wall().as_seconds().to_string();
        let url = self.url("/prometheus/api/v1/query")?;
        let answer = self.send(self.http.get(url).query(&[("query", selector), ("time", &at)])).await?;
        let series = answer["data"]["result"].as_array().with_context(|| format!("no matrix in {answer}"))?;
        ensure!(series.len() == 1, "{} series for {selector}", series.len());
        let values = series[0]["values"].as_array().context("no values")?;
        let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
        Ok(values.iter().filter_map(sample).collect())
    }

    /// Waits until a query answers what is wanted: what was sent takes real time to arrive.
    ///
    /// # Errors
    /// When it never does.
    pub async fn until(&self, expr: &str, wanted: impl Fn(&[(Value, f64)]) -> bool) -> anyhow::Result<()> {
        eventually(expr, async || self.query(expr).await, |answer| wanted(answer)).await
    }

    /// Waits until an agent's session with the aggregator stands.
    async fn until_up(&self, name: &str) -> anyhow::Result<()> {
        let up = |answer: &Value| {
            let mut hosts = answer["hosts"].as_array().into_iter().flatten();
            hosts.any(|host| host["instance"] == name && host["address"].is_string())
        };
        eventually(name, async || self.get("/api/v1/hosts").await, up).await
    }

    /// Lets time pass second by second, each noticed by every agent, until a query answers what is wanted: for what needs
    /// both.
    ///
    /// # Errors
    /// When it does not within `seconds`.
    pub async fn pass_until(
        &mut self,
        seconds: u32,
        expr: &str,
        wanted: impl Fn(&[(Value, f64)]) -> bool,
    ) -> anyhow::Result<()> {
        self.second_by_second(true, seconds, expr, wanted).await
    }

    /// As [`Self::pass_until`], but nobody has to notice a second: an agent between two runs does not.
    ///
    /// # Errors
    /// As there.
    pub async fn drift_until(
        &mut self,
        seconds: u32,
        expr: &str,
        wanted: impl Fn(&[(Value, f64)]) -> bool,
    ) -> anyhow::Result<()> {
        self.second_by_second(false, seconds, expr, wanted).await
    }

    async fn second_by_second(
        &mut self,
        noticed: bool,
        seconds: u32,
        expr: &str,
        wanted: impl Fn(&[(Value, f64)]) -> bool,
    ) -> anyhow::Result<()> {
        for _ in 0..seconds {
            if wanted(&self.query(expr).await?) {
                return Ok(());
            }
            if noticed {
                self.pass(1).await?;
            } else {
                self.clock.advance(Duration::from_secs(1));
            }
            tokio::time::sleep(GLANCE).await;
        }
        bail!("after {seconds} s {expr} is {:?}; logged: {:#?}", self.query(expr).await?, log::taken())
    }

    /// Asks the API as the admin.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.http.get(self.url(path)?)).await
    }

    /// Opens a stream of the API as the admin.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let token = read_trimmed(&self.data_dir().join("admin.token"))?;
        Ok(self.http.get(self.url(path)?).bearer_auth(token).send().await?.error_for_status()?)
    }

    /// Tells the API something as the admin.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(self.http.post(self.url(path)?).json(body)).await
    }

    /// Ends everything, and fails on a warning that was not announced.
    ///
    /// # Errors
    /// When a part ends with an error, or something was logged.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        while !self.agents.is_empty() {
            self.stop_agent().await?;
        }
        self.stop_aggregator().await?;
        let unannounced: Vec<String> =
            log::taken().into_iter().filter(|line| !self.announced.iter().any(|words| line.contains(words))).collect();
        ensure!(unannounced.is_empty(), "logged without announcement:\n{}", unannounced.join("\n"));
        Ok(())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let token = read_trimmed(&self.data_dir().join("admin.token"))?;
        let answer = request.bearer_auth(token).timeout(PATIENCE).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.is_success(), "{status}: {body}");
        serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))
    }

    fn url(&self, path: &str) -> anyhow::Result<String> {
        let http = self.aggregator.as_ref().context("no aggregator runs")?.addresses.http;
        Ok(format!("http://{http}{path}"))
    }
}

/// Looks until what is wanted is there.
async fn eventually<T: std::fmt::Debug>(
    what: &str,
    look: impl AsyncFn() -> anyhow::Result<T>,
    wanted: impl Fn(&T) -> bool,
) -> anyhow::Result<()> {
    let mut latest = look().await?;
    let again = async {
        while !wanted(&latest) {
            tokio::time::sleep(GLANCE).await;
            latest = look().await?;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(PATIENCE, again).await {
        Ok(seen) => seen,
        Err(_) => bail!("{what} stays {latest:?}; logged: {:#?}", log::taken()),
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    // Fails when a cluster before this one has installed it: then it is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

fn read_trimmed(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}
