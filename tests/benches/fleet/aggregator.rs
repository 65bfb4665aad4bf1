//! The aggregator that cargo has built, as a process of its own, that can be stopped and started again.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::ensure;
use benches::process::Process;
use reqwest::Client;
use tempfile::TempDir;

/// Longest that it may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 46_600);

/// Where agents come to.
pub(crate) const PORT: u16 = 46_601;

/// One running aggregator.
pub(crate) struct Aggregator {
    program: PathBuf,
    dir: TempDir,
    pub(crate) process: Process,
    client: Client,
}

/// Processor time that it has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Of all threads but one: packets, TLS, frames, who is there, and rules.
    pub(crate) sessions: Duration,
    /// Of the writer of the store, which also decodes.
    pub(crate) store: Duration,
}

impl Aggregator {
    pub(crate) async fn start(program: PathBuf) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let process = run(&program, dir.path())?;
        let mut aggregator = Self { program, dir, process, client: Client::new() };
        aggregator.ready().await?;
        Ok(aggregator)
    }

    /// Ends it, by SIGTERM or SIGKILL, and starts it again. Answers how long it took to be back.
    pub(crate) async fn restart(&mut self, signal: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status()?;
        ensure!(sent.success(), "kill {signal} failed");
        while !self.process.has_ended()? {
            ensure!(began.elapsed() < PATIENCE, "it does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process = run(&self.program, self.dir.path())?;
        self.ready().await?;
        Ok(began.elapsed())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.is_ready().await {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            ensure!(began.elapsed() < PATIENCE && !self.process.has_ended()?, "it does not start: {}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Whether it has read its log.
    async fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("http://{HTTP}/readyz")).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// A token for so many hosts.
    pub(crate) fn token(&self, uses: usize) -> anyhow::Result<String> {
        let made = Command::new(&self.program)
            .args(["token", "create", "--uses", &uses.to_string(), "--data-dir"])
            .arg(self.dir.path())
            .output()?;
        ensure!(made.status.success(), "no token: {}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout)?;
        text.lines().last().map(ToOwned::to_owned).context("no token")
    }

    /// One of its own counters.
    pub(crate) async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let token = fs::read_to_string(self.dir.path().join("admin.token"))?;
        let asked = self.client.get(format!("http://{HTTP}/metrics")).bearer_auth(token.trim()).send().await?;
        let text = asked.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("no {name}"))
    }

    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        let process = format!("/proc/{}", self.process.id());
        let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
        // The writer of the store is the thread that writes.
        let mut writer = (0, Duration::ZERO);
        for task in fs::read_dir(format!("{process}/task"))? {
            let task = task?.path();
            let io = fs::read_to_string(task.join("io")).unwrap_or_default();
            let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok()).unwrap_or(0);
            let ran = numbers(&fs::read_to_string(task.join("schedstat")).unwrap_or_default());
            writer = writer.max((written, Duration::from_nanos(ran.first().copied().unwrap_or(0))));
        }
        Ok(Used { sessions: self.process.cpu()?.saturating_sub(writer.1), store: writer.1 })
    }
}

fn run(program: &Path, dir: &Path) -> anyhow::Result<Process> {
    let log = fs::File::options().create(true).append(true).open(dir.join("log"))?;
    let http = HTTP.to_string();
    let quic = format!("0.0.0.0:{PORT}");
    let arguments = ["run", "--listen-http", &http, "--listen-quic", &quic, "--data-dir"];
    let mut command = Command::new(program);
    // What `run` says to the allocator is for the player.
    command.env_remove("MALLOC_MMAP_THRESHOLD_").args(arguments).arg(dir).stdout(Stdio::null()).stderr(log);
    Ok(Process::spawn(&mut command)?)
}
