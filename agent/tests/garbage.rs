//! What becomes of a collection when a kernel file is missing, cut off or garbled: that file's metrics suffer, the rest
//! goes on.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use agent::config::Config;
use agent::config::Roots;
use agent::once;
use common::config::Layers;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;
use proptest::prelude::*;

/// Files of a host, and the collector that reads each.
const FILES: &[(&str, &str)] = &[
    ("stat", "stat"),
    ("loadavg", "loadavg"),
    ("meminfo", "meminfo"),
    ("vmstat", "vmstat"),
    ("diskstats", "diskstats"),
    ("net/dev", "netdev"),
    ("pressure/cpu", "pressure"),
    ("pressure/io", "pressure"),
    ("pressure/memory", "pressure"),
    ("1/mountinfo", "filesystem"),
    ("net/netstat", "netstat"),
    ("net/snmp", "netstat"),
    ("net/snmp6", "netstat"),
    ("net/sockstat", "sockstat"),
    ("net/softnet_stat", "softnet"),
    ("net/arp", "arp"),
    ("net/stat/nf_conntrack", "conntrack"),
    ("sys/net/netfilter/nf_conntrack_count", "conntrack"),
    ("sys/fs/file-nr", "filefd"),
    ("sys/kernel/random/entropy_avail", "entropy"),
    ("sys/kernel/random/poolsize", "entropy"),
];

/// A copy of the captured host that a test may spoil.
struct Host(tempfile::TempDir);

impl Host {
    fn copy() -> Self {
        let captured = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts/debian-6.18/proc");
        let directory = tempfile::tempdir().unwrap();
        for (name, _) in FILES {
            let copy = directory.path().join(name);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(captured.join(name), copy).unwrap();
        }
        Self(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn collect(&self) -> BTreeMap<Labels, f64> {
        let nowhere = PathBuf::from("/nowhere");
        let procfs = self.0.path().to_owned();
        let roots = Roots { procfs, sysfs: nowhere.clone(), rootfs: nowhere.clone(), cgroupfs: nowhere };
        let config = Config { roots, ..Config::read(&Layers::default()).unwrap() };
        let mut collected = once::collect(&config, &Clock::moved(Timestamp::from_seconds(60)));
        collected.retain(|labels, _| labels.get("job") != "lapwing" || !labels.get("collector").is_empty());
        collected
    }
}

fn failed(collected: &BTreeMap<Labels, f64>) -> BTreeSet<String> {
    let failed = collected
        .iter()
        .filter(|(labels, value)| labels.get(NAME) == "lapwing_agent_collector_errors_total" && 0.0 < **value);
    failed.map(|(labels, _)| labels.get("collector").to_owned()).collect()
}

#[test]
fn a_file_that_cannot_be_read_takes_its_metrics_along_and_is_counted() {
    let whole = Host::copy().collect();
    for (name, collector) in FILES {
        let host = Host::copy();
        fs::remove_file(host.file(name)).unwrap();
        // A directory in its place can be opened and not be read, as a file that root alone may read.
        fs::create_dir(host.file(name)).unwrap();
        let collected = host.collect();
        let newly: Vec<_> = failed(&collected).difference(&failed(&whole)).cloned().collect();
        assert_eq!(newly, [*collector], "without {name}");
        let is_of_collector = |labels: &Labels| labels.get("collector") == *collector;
        for (labels, value) in collected.iter().filter(|(labels, _)| !is_of_collector(labels)) {
            assert_eq!(whole.get(labels), Some(value), "{labels} without {name}");
        }
        assert!(collected.len() < whole.len(), "without {name}");
    }
}

#[test]
fn a_file_that_was_cut_off_gives_no_wrong_value() {
    let whole = Host::copy().collect();
    // Of a line less, a sum over lines cannot know.
    let sums = ["loadavg", "pressure/cpu", "pressure/io", "pressure/memory", "net/arp", "net/stat/nf_conntrack"];
    for (name, _) in FILES.iter().filter(|(name, _)| !sums.contains(name)) {
        let text = fs::read(Host::copy().file(name)).unwrap();
        for part in 0..24 {
            let host = Host::copy();
            fs::write(host.file(name), &text[..text.len() * part / 24]).unwrap();
            for (labels, value) in host.collect().iter().filter(|(labels, _)| labels.get("collector").is_empty()) {
                assert_eq!(whole.get(labels), Some(value), "{labels} with {part}/24 of {name}");
            }
        }
    }
}

#[test]
fn columns_to_come_change_nothing() {
    let whole = Host::copy().collect();
    for (name, _) in FILES {
        let host = Host::copy();
        let text = fs::read_to_string(host.file(name)).unwrap();
        fs::write(host.file(name), text.replace('\n', " 18446744073709551616\n")).unwrap();
        let collected = host.collect();
        assert_eq!(collected, whole, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_bring_a_collector_down(
        file in 0..FILES.len(),
        at in 0..4_000_usize,
        garbage in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b" \n:0-9\\".to_vec())], 0..60),
    ) {
        let host = Host::copy();
        let path = host.file(FILES[file].0);
        let mut text = fs::read(&path).unwrap();
        let at = at % (text.len() + 1);
        let end = (at + garbage.len() / 2).min(text.len());
        text.splice(at..end, garbage);
        fs::write(&path, text).unwrap();
        let collected = host.collect();
        let others: BTreeSet<_> = FILES.iter().map(|(_, collector)| *collector).filter(|it| *it != FILES[file].1).collect();
        prop_assert!(failed(&collected).iter().all(|failed| !others.contains(failed.as_str())));
    }
}
