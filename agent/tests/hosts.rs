//! What `lapwing-agent once` makes of captured hosts, held against what others make of the same bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use agent::config::Config;
use agent::config::Roots;
use agent::once;
use common::catalog;
use common::config::Layers;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;

/// Collects below `proc`; no mount point answers, so that the machine the test runs on does not show.
fn collect(procfs: &Path) -> BTreeMap<Labels, f64> {
    let nowhere = PathBuf::from("/nowhere");
    let roots = Roots { procfs: procfs.to_owned(), sysfs: nowhere.clone(), rootfs: nowhere.clone(), cgroupfs: nowhere };
    let config = Config { roots, ..Config::read(&Layers::default()).unwrap() };
    let collected = once::collect(&config, &Clock::moved(Timestamp::from_seconds(1_700_000_000)));
    collected.into_iter().map(|(labels, value)| (labels.with("job", ""), value)).collect()
}

/// Metrics that tell of the machine the test runs on instead of the captured one.
fn is_of_this_machine(name: &str) -> bool {
    name.starts_with("lapwing_agent_") || name == "node_uname_info"
}

#[test]
fn a_captured_host_is_printed_as_recorded() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts");
    for host in fs::read_dir(hosts).unwrap() {
        let host = host.unwrap().path();
        let mut collected = collect(&host.join("proc"));
        collected.retain(|labels, _| !is_of_this_machine(labels.get(NAME)));
        let text = once::prometheus(&collected);
        let golden = host.join("once.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let recorded = fs::read_to_string(&golden).unwrap_or_default();
        let differs = text.lines().zip(recorded.lines()).find(|(now, then)| now != then);
        assert!(text == recorded, "{}: {differs:?}; accept with `UPDATE=1 cargo test -p agent`", golden.display());
    }
}

/// Families that node_exporter takes from elsewhere than the captured files.
const ELSEWHERE: &[&str] = &["node_network_", "node_os_info", "node_scrape_", "node_time_seconds", "node_uname_info"];

#[test]
#[expect(clippy::print_stderr, reason = "says which cases were left out")]
fn node_exporters_own_capture_gives_its_own_series() {
    let data = std::env::var_os("LAPWING_TEST_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    let Ok(golden) = fs::read_to_string(data.join("node_exporter/golden.txt")) else {
        eprintln!("LEFT OUT: 1 captured host of node_exporter, not found below {}", data.display());
        return;
    };
    let unpacked = tempfile::tempdir().unwrap();
    let archive = data.join("node_exporter/proc.tar.gz");
    let tar = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(unpacked.path()).status().unwrap();
    assert!(tar.success());

    let ours: BTreeMap<String, f64> = exposition(&once::prometheus(&collect(&unpacked.path().join("proc"))));
    let theirs = exposition(&golden);
    let compared = |series: &&String| {
        let name = series.split('{').next().unwrap_or_default();
        let known = catalog::find(name).is_some() && theirs.keys().any(|theirs| theirs.split('{').next() == Some(name));
        known && !ELSEWHERE.iter().any(|prefix| name.starts_with(prefix))
    };
    let expect: Vec<&String> = theirs.keys().filter(compared).collect();
    assert_eq!(ours.keys().filter(compared).collect::<Vec<_>>(), expect);
    for series in &expect {
        let (ours, theirs) = (ours[*series], theirs[*series]);
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-9, "{series}: {ours}, node_exporter {theirs}");
    }
    let left_out = theirs.len() - expect.len();
    eprintln!(
        "compared {} series; LEFT OUT: {left_out} of metrics that we do not have or that need more",
        expect.len()
    );
    assert!(300 < expect.len(), "only {} series compared", expect.len());
}

fn exposition(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(parse).collect()
}
