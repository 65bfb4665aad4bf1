//! What the agent says of this host, between two scrapes of node_exporter that says it, too.
#![expect(clippy::unwrap_used, reason = "a test that cannot reach its exporter should fail")]
#![expect(clippy::print_stderr, reason = "says what was compared, or why nothing was")]

mod exposition;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use agent::config::Config;
use agent::once;
use common::catalog;
use common::config::Layers;
use common::metric::Kind;
use common::time::Clock;
use exposition::documented;
use exposition::exposition;
use exposition::family;

/// node_exporter on a port of its own. Debian leaves more out than its makers; so do older versions less.
struct Exporter {
    process: Child,
    port: u16,
}

const OPTIONS: [&str; 3] = [
    "--collector.netdev.device-exclude=^$",
    r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
];

impl Exporter {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(OPTIONS)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let exporter = Self { process, port };
        let answers = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(answers, "node_exporter does not answer");
        Some(exporter)
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Gauges that move while they are read.
const MOVING: &[&str] = &[
    "node_arp_entries",
    "node_cpu_scaling_frequency_",
    "node_disk_io_now",
    "node_entropy_available_bits",
    "node_filefd_allocated",
    "node_filesystem_",
    "node_hwmon_",
    "node_load",
    "node_memory_",
    "node_netstat_Tcp_CurrEstab",
    "node_nf_conntrack_entries",
    "node_procs_",
    "node_sockstat_",
    "node_thermal_zone_temp",
    "node_time_seconds",
    "node_timex_",
];

/// How far a moving gauge may be from what it was before and after: a part of it, and what a test that runs beside takes.
fn may_move(family: &str, value: f64) -> f64 {
    let beside = if family.ends_with("_bytes") { 512.0 * 1024.0 * 1024.0 } else { 64.0 };
    value.abs() / 4.0 + beside
}

fn is_between(series: &str, ours: f64, before: f64, after: f64) -> bool {
    let family = family(series);
    let (low, high) = (before.min(after), before.max(after));
    let (low, high) = match catalog::find(family) {
        Some(metric) if metric.kind == Kind::Counter => (metric.decimals.round(low), metric.decimals.round(high)),
        _ if MOVING.iter().any(|prefix| family.starts_with(prefix)) => {
            (low - may_move(family, high), high + may_move(family, high))
        }
        _ => (low, high),
    };
    let rounding = high.abs() * 1e-9;
    low - rounding <= ours && ours <= high + rounding
}

#[test]
fn a_living_host_is_told_as_node_exporter_tells_it() {
    let Some(exporter) = Exporter::start() else {
        eprintln!("SKIPPED: node_exporter is missing (Debian: apt install prometheus-node-exporter)");
        return;
    };
    let config = Config::read(&Layers::default()).unwrap();
    let before = exporter.scrape();
    let collected = once::collect(&config, &Clock::real());
    let after = exporter.scrape();
    let unlabelled: BTreeMap<_, _> =
        collected.into_iter().map(|(labels, value)| (labels.with("job", ""), value)).collect();
    let ours = exposition(&once::prometheus(&unlabelled));
    let types = types(&before);
    let [before, after] = [before, after].map(|text| exposition(&text));

    let differs = documented("What node_exporter emits, too, and is not the same");
    let theirs: BTreeSet<&str> = before.keys().map(|series| family(series)).collect();
    let is_compared = |series: &&String| {
        let family = family(series);
        theirs.contains(family) && family.starts_with("node_") && !differs.iter().any(|it| it.is_of(family))
    };
    let found: BTreeSet<&String> = ours.keys().filter(is_compared).collect();
    let families: BTreeSet<&str> = found.iter().map(|series| family(series)).collect();
    let missing: Vec<_> = before
        .keys()
        .filter(|series| families.contains(family(series)) && after.contains_key(*series) && !found.contains(series))
        .collect();
    let surplus: Vec<_> =
        found.iter().filter(|series| !before.contains_key(**series) && !after.contains_key(**series)).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:#?}, surplus {surplus:#?}");

    let absent = documented("What node_exporter emits and the agent does not");
    let is_explained = |family: &&&str| absent.iter().chain(&differs).any(|it| it.is_of(family));
    let unexplained: Vec<_> =
        theirs.iter().filter(|family| !families.contains(*family)).filter(|it| !is_explained(it)).collect();
    assert!(unexplained.is_empty(), "neither emitted nor explained: {unexplained:?}");
    for family in families {
        let kind = catalog::find(family).map(|metric| if metric.kind == Kind::Counter { "counter" } else { "gauge" });
        let said = types.get(family).map_or("untyped", String::as_str);
        assert!(said == "untyped" || kind.is_none_or(|kind| kind == said), "{family} is a {said}");
    }
    let mut compared = 0;
    for series in found {
        let (Some(before), Some(after)) = (before.get(series), after.get(series)) else { continue };
        assert!(is_between(series, ours[series], *before, *after), "{series}: {} of {before} to {after}", ours[series]);
        compared += 1;
    }
    eprintln!("compared {compared} of {} series beside node_exporter", before.len());
    assert!(200 < compared, "only {compared} series compared");
}

/// What an exposition says of what its metrics are.
fn types(text: &str) -> BTreeMap<String, String> {
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    typed.map(|(family, kind)| (family.to_owned(), kind.to_owned())).collect()
}
