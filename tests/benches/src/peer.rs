//! A server that takes remote write and answers PromQL: Lapwing, or a neighbour that Debian has.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use aggregator::receive::message::Message;
use anyhow::ensure;
use common::metric::Labels;
use common::time::Timestamp;
use reqwest::Client;
use tempfile::TempDir;

use crate::process::Process;

/// Longest that a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest that a server may take until it has read again what it had not put in order.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks at a server that starts.
const GLANCE: Duration = Duration::from_millis(20);

/// One running server.
pub struct Peer {
    /// What it is called.
    pub name: &'static str,
    command: Command,
    /// What it is as a process.
    pub process: Process,
    dir: TempDir,
    client: Client,
    write: String,
    api: String,
    tokens: Option<(String, String)>,
    written_before: u64,
}

/// What a call cost.
pub struct Cost {
    /// By the clock.
    pub took: Duration,
    /// Of the reply.
    pub bytes: usize,
}

impl Peer {
    /// Starts the aggregator that cargo has built.
    pub async fn lapwing(program: &Path) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let data = dir.path().join("data");
        let mut command = Command::new(program);
        command
            .args(["run", "--listen-http", "127.0.0.1:26500", "--listen-quic", "127.0.0.1:26503", "--data-dir"])
            .arg(&data);
        // A month is written, and looked back at.
        command.env("LAPWING__RETENTION__RAW", "40d");
        // What is asked again is to be calculated again, here and there.
        command.env("LAPWING__QUERY__CACHE_MAX", "0");
        let prefix = "http://127.0.0.1:26500/prometheus";
        let mut peer = Self::start("lapwing", command, dir, prefix, "/api/v1/write").await?;
        let made =
            Command::new(program).args(["token", "create", "--write", "bench", "--data-dir"]).arg(&data).output()?;
        ensure!(made.status.success(), "no token: {}", String::from_utf8_lossy(&made.stderr));
        let write = String::from_utf8(made.stdout)?.lines().last().unwrap_or_default().trim().to_owned();
        let read = fs::read_to_string(data.join("admin.token"))?.trim().to_owned();
        peer.tokens = Some((write, read));
        Ok(peer)
    }

    /// Starts a neighbour, if it is installed.
    pub async fn neighbour(name: &'static str) -> anyhow::Result<Option<Self>> {
        let dir = TempDir::new()?;
        let data = dir.path().join("data");
        let mut command = Command::new(name);
        let (prefix, write) = match name {
            "prometheus" => {
                let config = dir.path().join("prometheus.yml");
                fs::write(&config, "global: {}\n")?;
                command.arg("--config.file").arg(config).arg("--storage.tsdb.path").arg(&data);
                command.args(["--web.listen-address=127.0.0.1:26501", "--web.enable-remote-write-receiver"]);
                command.arg("--storage.tsdb.retention.time=40d");
                ("http://127.0.0.1:26501", "/api/v1/write")
            }
            _ => {
                command.arg("-storageDataPath").arg(&data);
                command.args(["-httpListenAddr=127.0.0.1:26502", "-retentionPeriod=2", "-search.disableCache"]);
                command.arg("-search.latencyOffset=0s");
                ("http://127.0.0.1:26502", "/api/v1/write")
            }
        };
        match Self::start(name, command, dir, prefix, write).await {
            Err(error)
                if error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::NotFound) =>
            {
                writeln!(io::stderr(), "{name} is not installed: nothing to compare with")?;
                Ok(None)
            }
            peer => peer.map(Some),
        }
    }

    async fn start(
        name: &'static str,
        mut command: Command,
        dir: TempDir,
        prefix: &str,
        write: &str,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(dir.path().join("log"))?;
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(log))?;
        let peer = Self {
            name,
            command,
            process,
            dir,
            client: Client::new(),
            write: format!("{prefix}{write}"),
            api: format!("{prefix}/api/v1"),
            tokens: None,
            written_before: 0,
        };
        let began = Instant::now();
        while peer.client.get(format!("{}/labels", peer.api)).send().await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "{name} does not start: {}", peer.log());
            tokio::time::sleep(GLANCE).await;
        }
        Ok(peer)
    }

    /// Kills it where it stands and starts it anew. How long it takes until an instant query is answered with `value`;
    /// nothing where it never is, because what was in memory alone is lost.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn kill_and_start(
        &mut self,
        parameters: &[(&str, String)],
        value: &str,
    ) -> anyhow::Result<Option<Duration>> {
        self.written_before += self.process.written()?;
        self.process.kill()?;
        let began = Instant::now();
        self.process = Process::spawn(&mut self.command)?;
        let wanted = format!(r#","{value}"]"#);
        loop {
            let answer = self.ask("query", parameters).await.map_or_else(|error| error.to_string(), |(text, _)| text);
            if answer.contains(&wanted) {
                return Ok(Some(began.elapsed()));
            }
            if BACK_WITHIN < began.elapsed() {
                return Ok(None);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Writes a message of remote write, compressed.
    pub async fn write(&self, message: &[u8]) -> anyhow::Result<()> {
        let mut request = self.client.post(&self.write).header("content-type", "application/x-protobuf");
        request = request.header("content-encoding", "snappy").header("x-prometheus-remote-write-version", "0.1.0");
        if let Some((write, _)) = &self.tokens {
            request = request.bearer_auth(write);
        }
        let reply = request.body(message.to_vec()).send().await?;
        let status = reply.status();
        ensure!(status.is_success(), "{} answers {status}: {}", self.name, reply.text().await?);
        Ok(())
    }

    /// Asks the API, and answers the text of its reply.
    pub async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<(String, Cost)> {
        let mut request = self.client.get(format!("{}/{path}", self.api)).query(parameters);
        if let Some((_, read)) = &self.tokens {
            request = request.bearer_auth(read);
        }
        let began = Instant::now();
        let reply = request.send().await?;
        let status = reply.status();
        let text = reply.text().await?;
        ensure!(status.is_success(), "{} answers {status}: {text}", self.name);
        let cost = Cost { took: began.elapsed(), bytes: text.len() };
        Ok((text, cost))
    }

    /// Bytes that it gave to the disk since the first start.
    ///
    /// # Errors
    /// When it has ended.
    pub fn written(&self) -> anyhow::Result<u64> {
        Ok(self.written_before + self.process.written()?)
    }

    /// Bytes that its data take on the disk.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn on_disk(&self) -> anyhow::Result<u64> {
        let (mut directories, mut bytes) = (vec![self.dir.path().join("data")], 0);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                // What was merged may have gone meanwhile.
                let Ok(metadata) = entry.metadata() else { continue };
                bytes += 512 * metadata.blocks();
                if metadata.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        Ok(bytes)
    }
}

/// A message of some series, each with its samples, as it is written to others.
pub fn message<'a>(series: impl Iterator<Item = (Labels, &'a [(i64, f64)])>) -> Vec<u8> {
    let mut message = Message::default();
    for (labels, samples) in series {
        message.push(&labels, samples.iter().map(|(stamp, value)| (Timestamp::from_millis(*stamp), *value)));
    }
    message.take()
}
