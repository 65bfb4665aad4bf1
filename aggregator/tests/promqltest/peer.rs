//! Debian's Prometheus with the same samples, where it is installed.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use aggregator::query::Moments;
use tempfile::TempDir;

use crate::api::Api;
use crate::door::Door;
use crate::door::Reply;
use crate::questions::Samples;

/// A Prometheus that runs until it is dropped.
pub(crate) struct Prometheus {
    api: Api,
    process: Child,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one over samples; `None` where it is not installed.
    pub(crate) fn start(samples: &Samples) -> Option<Self> {
        Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("samples.txt"), exposition(samples)).unwrap();
        fs::write(path("prometheus.yml"), "global: {evaluation_interval: 1m}\n").unwrap();
        make_blocks(&path("samples.txt"), &path("data"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let api = Api::new(runtime, format!("http://127.0.0.1:{port}"), String::new());
        let began = Instant::now();
        let peer = Self { api, process, _dir: dir };
        while !peer.api.is_ready() {
            assert!(began.elapsed() < Duration::from_secs(60), "Prometheus does not get ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(peer)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Door for Prometheus {
    fn ask(&self, query: &str, moments: Moments) -> Result<Reply, String> {
        self.api.ask(query, moments)
    }
}

fn make_blocks(samples: &Path, data: &Path) {
    let mut promtool = Command::new("promtool");
    promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).args([samples, data]).stdout(Stdio::null());
    assert!(promtool.status().unwrap().success(), "promtool makes no blocks");
}

fn exposition(samples: &Samples) -> String {
    let mut text = String::new();
    for (labels, samples) in samples {
        for (stamp, value) in samples {
            let series = labels.to_string().replace(", ", ",");
            writeln!(text, "{series} {value} {}", stamp.as_seconds()).unwrap();
        }
    }
    text + "# EOF\n"
}
