//! What `lapwing-agent once` makes of captured hosts, held against what others make of the same bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail")]

mod exposition;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
use exposition::documented;
use exposition::exposition;
use exposition::family;

/// Collects below `host`'s `proc`, `sys` and `cgroup`; no mount point answers, so that the machine the test runs on does
/// not show.
fn collect(host: &Path) -> BTreeMap<Labels, f64> {
    let [procfs, sysfs, cgroupfs] = ["proc", "sys", "cgroup"].map(|tree| host.join(tree));
    let roots = Roots { procfs, sysfs, rootfs: "/nowhere".into(), cgroupfs };
    let config = Config { roots, ..Config::read(&Layers::default()).unwrap() };
    let collected = once::collect(&config, &Clock::moved(Timestamp::from_seconds(1_700_000_000)));
    collected.into_iter().map(|(labels, value)| (labels.with("job", ""), value)).collect()
}

/// Metrics that tell of the machine the test runs on instead of the captured one.
fn is_of_this_machine(name: &str) -> bool {
    ["lapwing_agent_", "node_timex_", "node_uname_info"].iter().any(|prefix| name.starts_with(prefix))
}

#[test]
fn a_captured_host_is_printed_as_recorded() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts");
    let found = fs::read_dir(hosts).unwrap().map(|host| host.unwrap().path());
    for host in found.filter(|host| host.is_dir()) {
        let mut collected = collect(&host);
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

/// What kernels of a version have and others do not.
struct Kernel {
    version: &'static str,
    there: &'static [(&'static str, f64)],
    absent: &'static [&'static str],
}

/// Each number of the generated trees stands once, so that the wrong column has another.
const KERNELS: &[Kernel] = &[
    Kernel {
        version: "3.10",
        there: &[
            ("node_cpu_seconds_total{cpu=\"1\",mode=\"steal\"}", 1.16),
            ("node_softirqs_total{vector=\"rcu\"}", 138.0),
            ("node_memory_Slab_bytes", 159.0 * 1024.0),
            ("node_disk_io_now{device=\"sda\"}", 201.0),
            ("node_disk_io_time_weighted_seconds_total{device=\"dm-0\"}", 0.225),
            ("node_schedstat_waiting_seconds_total{cpu=\"1\"}", 279.0),
            ("node_schedstat_timeslices_total{cpu=\"1\"}", 280.0),
            ("node_softnet_times_squeezed_total{cpu=\"1\"}", 465.0),
            ("node_softnet_received_rps_total{cpu=\"1\"}", 467.0),
            ("node_netstat_TcpExt_TCPTimeouts", 356.0),
            ("node_netstat_Udp_SndbufErrors", 418.0),
        ],
        absent: &[
            "node_memory_MemAvailable_bytes",
            "node_vmstat_oom_kill",
            "node_disk_discards_completed_total",
            "node_disk_flush_requests_total",
            "node_pressure_",
            "node_netstat_TcpExt_TCPSynRetrans",
            "node_disk_io_now{device=\"sda1\"",
        ],
    },
    Kernel {
        version: "4.18",
        there: &[
            ("node_memory_MemAvailable_bytes", 141.0 * 1024.0),
            ("node_vmstat_oom_kill", 198.0),
            ("node_memory_Slab_bytes", 160.0 * 1024.0),
            ("node_disk_discards_completed_total{device=\"sda\"}", 211.0),
            ("node_disk_discard_time_seconds_total{device=\"sda\"}", 0.214),
            ("node_softnet_flow_limit_count_total{cpu=\"1\"}", 491.0),
            ("node_netstat_TcpExt_TCPSynRetrans", 377.0),
        ],
        absent: &[
            "node_disk_flush_requests_total",
            "node_pressure_",
            "node_memory_KReclaimable_bytes",
            "node_netstat_TcpExt_TCPRcvQDrop",
        ],
    },
    Kernel {
        version: "5.4",
        there: &[
            ("node_memory_KReclaimable_bytes", 160.0 * 1024.0),
            ("node_disk_discard_time_seconds_total{device=\"sda\"}", 0.218),
            ("node_pressure_cpu_waiting_seconds_total", 0.497),
            ("node_softnet_flow_limit_count_total{cpu=\"1\"}", 496.0),
            ("node_netstat_TcpExt_TCPRcvQDrop", 382.0),
        ],
        absent: &["node_disk_flush_requests_total", "node_pressure_irq_", "node_softnet_processed_total{cpu=\"3\""],
    },
    Kernel {
        version: "5.15",
        there: &[
            ("node_disk_flush_requests_total{device=\"sda\"}", 219.0),
            ("node_disk_flush_requests_time_seconds_total{device=\"sda\"}", 0.22),
            ("node_pressure_cpu_waiting_seconds_total", 0.507),
            // The core's number stands in the line: a core between them is offline.
            ("node_softnet_backlog_len{cpu=\"3\"}", 506.0),
            ("node_netstat_Udp_InDatagrams", 444.0),
        ],
        absent: &["node_pressure_irq_", "node_softnet_processed_total{cpu=\"1\"", "node_memory_Zswap_bytes"],
    },
    Kernel {
        version: "6.1",
        there: &[
            ("node_disk_flush_requests_total{device=\"sda\"}", 222.0),
            ("node_pressure_irq_stalled_seconds_total", 0.516),
            ("node_softnet_backlog_len{cpu=\"3\"}", 509.0),
            ("node_schedstat_running_seconds_total{cpu=\"1\"}", 310.0),
        ],
        absent: &[],
    },
];

#[test]
fn each_kernel_is_read_by_its_own_columns() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts");
    for Kernel { version, there, absent } in KERNELS {
        let told = exposition(&once::prometheus(&collect(&hosts.join(format!("generated-{version}")))));
        for (series, value) in *there {
            assert_eq!(told.get(*series), Some(value), "{series} of {version}");
        }
        for family in *absent {
            assert!(!told.keys().any(|series| series.starts_with(family)), "{family} of {version}");
        }
        let is_failed = |(series, value): &(&String, &f64)| {
            series.starts_with("node_scrape_collector_success") && **value == 0.0 && !series.contains(r#""os""#)
        };
        let failed: Vec<_> = told.iter().filter(is_failed).collect();
        assert!(failed.is_empty(), "of {version}: {failed:?}");
    }
}

/// What kernels of a version tell of a container, by the end of the metric's name.
struct Cgroup {
    host: &'static str,
    there: &'static [(&'static str, f64)],
    absent: &'static [&'static str],
}

const CGROUPS: &[Cgroup] = &[
    Cgroup {
        host: "generated-3.10",
        there: &[
            ("cpu_usage_seconds_total", 2.001),
            ("cpu_system_seconds_total", 20.03),
            ("cpu_cfs_throttled_seconds_total", 2.006),
            ("spec_memory_limit_bytes", 0.0),
            ("memory_working_set_bytes", 2007.0 * 4096.0 - 2036.0),
            ("memory_cache", 2025.0),
            ("memory_mapped_file", 2028.0),
            ("memory_swap", 2029.0),
            ("memory_failures_total/pgmajfault/container", 2019.0),
            ("memory_failures_total/pgmajfault/hierarchy", 2033.0),
            ("fs_writes_bytes_total", 2040.0),
            ("fs_reads_total", 2045.0),
        ],
        absent: &["oom_events_total", "threads", "pressure_", "memory_workingset_"],
    },
    Cgroup {
        host: "generated-4.18",
        there: &[
            ("cpu_usage_seconds_total", 2.001),
            ("cpu_user_seconds_total", 20.02),
            ("cpu_cfs_periods_total", 2005.0),
            ("memory_kernel_usage", 2011.0 * 4096.0),
            ("memory_rss", 2030.0),
            ("memory_mapped_file", 2033.0),
            ("memory_swap", 2036.0),
            ("memory_working_set_bytes", 2008.0 * 4096.0 - 2043.0),
            ("oom_events_total", 2046.0),
            // What lies inside is told with it.
            ("fs_writes_bytes_total", 2054.0),
            ("fs_reads_total", 2065.0),
            ("threads", 2071.0),
        ],
        absent: &["pressure_"],
    },
    Cgroup {
        host: "generated-5.4",
        there: &[
            ("cpu_usage_seconds_total", 20.01),
            ("cpu_cfs_throttled_seconds_total", 20.06),
            // Without a sum of its own: stacks and slab.
            ("memory_kernel_usage", 2011.0 + 2012.0),
            ("memory_mapped_file", 2015.0),
            ("memory_failures_total/pgmajfault/hierarchy", 2027.0),
            ("memory_workingset_refault_file_total", 2028.0),
            ("memory_failcnt", 2042.0),
            ("oom_events_total", 2044.0),
            ("fs_reads_total", 2052.0),
            ("pressure_cpu_waiting_seconds_total", 2.06),
        ],
        absent: &["memory_max_usage_bytes", "memory_workingset_refault_anon_total", "pressure_cpu_stalled_"],
    },
    Cgroup {
        host: "generated-5.15",
        there: &[
            ("cpu_cfs_periods_total", 2004.0),
            // Stacks, page tables, per CPU, slab.
            ("memory_kernel_usage", 2013.0 + 2014.0 + 2015.0 + 2032.0),
            ("memory_workingset_refault_anon_total", 2033.0),
            ("memory_workingset_refault_file_total", 2034.0),
            ("pressure_cpu_stalled_seconds_total", 2.075),
        ],
        absent: &["memory_max_usage_bytes"],
    },
    Cgroup {
        host: "generated-6.1",
        there: &[
            ("memory_max_usage_bytes", 2010.0 * 4096.0),
            ("memory_kernel_usage", 2014.0),
            ("memory_swap", 2011.0 * 4096.0),
            ("oom_events_total", 2067.0),
        ],
        absent: &[],
    },
    Cgroup {
        host: "debian-6.18",
        there: &[
            ("cpu_system_seconds_total", 20.03),
            ("cpu_cfs_periods_total", 2006.0),
            ("cpu_cfs_throttled_seconds_total", 20.08),
            ("memory_kernel_usage", 2016.0),
            ("memory_failures_total/pgfault/container", 2059.0),
            ("oom_events_total", 2079.0),
            ("fs_writes_bytes_total", 2092.0),
            ("pressure_io_stalled_seconds_total", 2.121),
        ],
        absent: &[],
    },
];

#[test]
fn each_kernels_cgroups_are_read_by_their_own_columns() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hosts");
    for Cgroup { host, there, absent } in CGROUPS {
        let told = collect(&hosts.join(host)).into_iter().filter_map(|(labels, value)| {
            let [name, kind, scope] = [NAME, "failure_type", "scope"].map(|label| labels.get(label));
            Some(([name.strip_prefix("container_")?, kind, scope].join("/").trim_end_matches('/').to_owned(), value))
        });
        let told: BTreeMap<_, _> = told.collect();
        for (metric, value) in *there {
            assert_eq!(told.get(*metric), Some(value), "{metric} of {host}");
        }
        for metric in *absent {
            assert!(!told.keys().any(|name| name.starts_with(metric)), "{metric} of {host}");
        }
    }
}

/// Collectors that node_exporter fed from elsewhere than the captured trees: from the machine it ran on by netlink, and
/// from a root file system that was not captured.
const ELSEWHERE: &[&str] = &[r#"{collector="netdev"}"#, r#"{collector="os"}"#];

/// Whether a family is theirs, or node_exporter's word about itself.
fn is_from_elsewhere(family: &str) -> bool {
    let of_machine = ["node_network_receive_", "node_network_transmit_"];
    let is_netdev = family.ends_with("_total") && of_machine.iter().any(|prefix| family.starts_with(prefix));
    is_netdev || ["node_os_info", "node_scrape_collector_success", "node_textfile_mtime_seconds"].contains(&family)
}

/// Families of which that run was told to leave out series, and what stands in those.
const TOLD_TO_LEAVE_OUT: &[(&str, &[&str])] = &[
    ("node_arp_", &[r#"device="nope""#]),
    ("node_hwmon_", &[r#"chip="bogus""#]),
    ("node_network_", &[r#"device="dmz""#, r#"device="int""#]),
];

/// What their captured host does not have and a living one has.
const LIVING_ALONE: &[&str] = &["node_selinux_enabled"];

/// Files whose last line an editor left without the end that the kernel gives it.
const LAST_LINE_OPEN: &[&str] = &["proc/net/softnet_stat", "proc/sys/kernel/threads-max"];

/// Where node_exporter had the captured tree: a path is a label of `node_rapl_*`.
const THEIR_SYSFS: &str = "collector/fixtures/sys";

fn was_left_out(series: &str) -> bool {
    TOLD_TO_LEAVE_OUT
        .iter()
        .any(|(prefix, parts)| series.starts_with(prefix) && parts.iter().any(|part| series.contains(part)))
}

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
    for tree in ["proc", "sys"] {
        let archive = data.join(format!("node_exporter/{tree}.tar.gz"));
        let tar = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(unpacked.path()).status().unwrap();
        assert!(tar.success());
    }
    for file in LAST_LINE_OPEN {
        let path = unpacked.path().join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "\n").unwrap();
    }

    let sysfs = unpacked.path().join("sys").to_string_lossy().into_owned();
    let mut ours = exposition(&once::prometheus(&collect(unpacked.path())).replace(&sysfs, THEIR_SYSFS));
    let theirs = exposition(&golden);
    let is_success = |series: &str| family(series) == "node_scrape_collector_success";
    let fed = |series: &str| is_success(series) && !ELSEWHERE.iter().any(|elsewhere| series.ends_with(elsewhere));
    for (series, success) in theirs.iter().filter(|(series, _)| fed(series) && ours.contains_key(*series)) {
        assert_eq!(ours[series], *success, "{series}");
    }
    ours.retain(|series, _| !was_left_out(series));
    let emitted: BTreeSet<&str> = ours.keys().map(|series| family(series)).collect();
    let families: BTreeSet<&str> = theirs.keys().map(|series| family(series)).collect();
    let compared = |series: &&String| {
        let family = family(series);
        let is_ours = catalog::find(family).is_some() || emitted.contains(family);
        is_ours && families.contains(family) && !is_from_elsewhere(family)
    };
    let expect: BTreeSet<&String> = theirs.keys().filter(compared).collect();
    let found: BTreeSet<&String> = ours.keys().filter(compared).collect();
    let (missing, surplus): (Vec<_>, Vec<_>) =
        (expect.difference(&found).collect(), found.difference(&expect).collect());
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:#?}, surplus {surplus:#?}");
    for series in &expect {
        let (ours, theirs) = (ours[*series], theirs[*series]);
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-9, "{series}: {ours}, node_exporter {theirs}");
    }
    let of_golden = golden.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let not_ours = of_golden.filter(|family| catalog::find(family).is_none() && !emitted.contains(family));
    each_stands_in_the_table(&not_ours.collect::<Vec<_>>());
    eprintln!("compared {} of {} series; the others: docs/METRICS.md", expect.len(), theirs.len());
    assert!(300 < expect.len(), "only {} series compared", expect.len());
}

/// What node_exporter emits and we do not stands in `docs/METRICS.md` with its reason, and nothing else does.
fn each_stands_in_the_table(families: &[&str]) {
    let patterns = documented("What node_exporter emits and the agent does not");
    let unexplained: Vec<_> = families.iter().filter(|family| !patterns.iter().any(|it| it.is_of(family))).collect();
    let families = [families, LIVING_ALONE].concat();
    let idle: Vec<_> = patterns.iter().filter(|it| !families.iter().any(|family| it.is_of(family))).collect();
    assert!(unexplained.is_empty() && idle.is_empty(), "without a row: {unexplained:?}; rows of nothing: {idle:?}");
}
