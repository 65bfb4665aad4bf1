//! The largest hosts: ten thousand processes, a thousand containers, 128 cores, 200 disks and interfaces, generated in a
//! temporary directory in the form that Linux 6.1 gives its files. All of it is shown, within the limits.
#![expect(clippy::unwrap_used, reason = "a test that cannot write its tree should fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent::config::Config;
use agent::config::Roots;
use agent::once;
use common::config::Layers;
use common::metric::Labels;
use common::metric::NAME;
use common::schema::SERIES_PER_HOST_MAX;
use common::time::Clock;
use common::time::Timestamp;

const CORES: usize = 128;
const DEVICES: usize = 200;
const CONTAINERS: usize = 1_000;
const PROCESSES: usize = 10_000;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

fn container(number: usize) -> String {
    format!("system.slice/docker-{number:064x}.scope")
}

fn make_host(root: &Path) {
    let procfs = root.join("proc");
    let cores = lines(CORES, |core| format!("cpu{core} 1 2 3 4 5 6 7 8 0 0\n"));
    write(&procfs.join("stat"), &format!("cpu  128 256 384 512 640 768 896 1024 0 0\n{cores}btime 1600000000\n"));
    let softnet = |core| format!("00000001 00000002 00000003 0 0 0 0 0 0 0 0 0 {core:08x}\n");
    write(&procfs.join("net/softnet_stat"), &lines(CORES, softnet));
    let schedstat = lines(CORES, |core| format!("cpu{core} 0 0 0 0 0 0 1 2 3\n"));
    write(&procfs.join("schedstat"), &format!("version 15\n{schedstat}"));
    let disk = |disk| format!(" 259 {disk} nvme{disk}n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n");
    write(&procfs.join("diskstats"), &lines(DEVICES, disk));
    let head = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n";
    let interface = |number| format!("  eth{number}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    write(&procfs.join("net/dev"), &format!("{head}{}", lines(DEVICES, interface)));
    for number in 0..DEVICES {
        write(&root.join(format!("sys/class/net/eth{number}/operstate")), "up\n");
    }
    for number in 0..CONTAINERS {
        let cgroup = root.join("cgroup").join(container(number));
        write(&cgroup.join("cpu.stat"), "usage_usec 1000000\nuser_usec 600000\nsystem_usec 400000\n");
        write(&cgroup.join("memory.current"), "4096\n");
        write(&cgroup.join("pids.current"), "10\n");
    }
    write(&root.join("cgroup/cgroup.controllers"), "cpu memory pids\n");
    for pid in 1..=PROCESSES {
        let process = procfs.join(pid.to_string());
        // Each has a name of its own, so that there are more groups than are kept.
        let stat = format!("{pid} (p{pid}) S 1 1 1 0 -1 4194560 1 0 0 0 5 5 0 0 20 0 1 0 100 1000000 200 0");
        write(&process.join("stat"), &format!("{stat}{}\n", " 0".repeat(27)));
        write(&process.join("statm"), "250 200 100 1 0 50 0\n");
        write(&process.join("cgroup"), &format!("0::/{}\n", container(pid % CONTAINERS)));
    }
}

#[test]
fn the_largest_hosts_are_shown_within_the_limits() {
    let root = tempfile::tempdir().unwrap();
    make_host(root.path());
    let [procfs, sysfs, rootfs, cgroupfs] = ["proc", "sys", "root", "cgroup"].map(|tree| root.path().join(tree));
    let roots = Roots { procfs, sysfs, rootfs, cgroupfs };
    let config = Config { roots, ..Config::read(&Layers::default()).unwrap() };
    let collected = once::collect(&config, &Clock::moved(Timestamp::from_seconds(1_700_000_000)));
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for labels in collected.keys().map(|labels: &Labels| labels.get(NAME)) {
        *found.entry(labels).or_default() += 1;
    }
    let check = |family: &str, expect: usize| assert_eq!(found.get(family), Some(&expect), "{family}");
    check("node_cpu_guest_seconds_total", 2 * CORES);
    check("node_softnet_processed_total", CORES);
    check("node_schedstat_running_seconds_total", CORES);
    check("node_disk_reads_completed_total", DEVICES);
    check("node_network_receive_bytes_total", DEVICES);
    check("node_network_up", DEVICES);
    check("container_memory_usage_bytes", CONTAINERS);
    check("container_cpu_usage_seconds_total", CONTAINERS);
    // A thousand groups, and those that found no place: by container.
    let groups = found["namedprocess_namegroup_num_procs"];
    assert!((1_000..=2_000).contains(&groups), "{groups} groups");
    let processes: f64 = collected
        .iter()
        .filter(|(labels, _)| labels.get(NAME) == "namedprocess_namegroup_num_procs")
        .map(|(_, value)| value)
        .sum();
    assert_eq!(processes, 10_000.0);
    assert!(collected.len() < SERIES_PER_HOST_MAX, "{} series", collected.len());
    let refused = collected.iter().find(|(labels, _)| labels.get(NAME) == "lapwing_agent_refused_series_total");
    assert_eq!(refused.map(|(_, value)| *value), Some(0.0));
}
