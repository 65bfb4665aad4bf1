//! `docs/METRICS.md` says what the catalog says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::catalog;
use common::catalog::Metric;
use common::metric::Kind;
use common::metric::Tier;
use common::metric::Unit;

const HEAD: &str = "\
# Metrics

What the agent emits. Generated from `common/src/catalog/`; `UPDATE=1 cargo test -p common` writes it anew.

Every series also has `instance`, `job` and the labels that the operator put on the host. A *second* metric is sampled
each second and shipped as windows of ten; a *window* metric once in ten seconds, a *minute* metric once a minute. A
counter marked *peak* keeps its fastest second: `peak_rate(metric[1m])` finds it. Seconds are counted from shortly after
each full one of the clock: a one-second burst that starts with a second is seen whole, one that starts in the middle
falls into two of them and shows half of its height.
";

/// How often the agent reads: what its cost is made of.
const READ: &[(&str, &str, &str, &str)] = &[
    (
        "a container or service that used CPU",
        "CPU time, memory, tasks, IO, OOM kills; throttling where it has a quota; kinds of memory when that moved by 1 MiB",
        "pressure, kinds of memory, processes, network",
        "limits; each window while it is young or changes",
    ),
    ("one that used none", "CPU time", "memory, IO, its pressure, network", "the same as of the others but limits"),
    (
        "directories of cgroups",
        "those in which the kernel says that something came or went",
        "–",
        "all that lie in no container or service",
    ),
    (
        "a process in a container or service",
        "`stat`, when that has used a clock tick since its processes were read last",
        "memory, IO, open files, if it may have run",
        "`stat` and memory of the idle",
    ),
    ("a process in none", "`stat`", "the same", "the same"),
    ("a kernel thread", "–", "`stat`", "–"),
    (
        "a command line",
        "of processes that are new, where rules name groups, and of those that used 0.1 s of CPU",
        "of those that are in the table",
        "–",
    ),
    ("memory shared with other processes", "–", "–", "of 64 processes, or of 128 MiB"),
];

/// What a job is.
const JOBS: &[(&str, &str)] = &[
    ("node", "The host, as node_exporter names it"),
    ("cadvisor", "Containers and services, as cAdvisor names them"),
    ("process", "Groups of processes, as process-exporter names them"),
    ("lapwing", "Ours"),
];

const OFF: &str = "Off in node_exporter unless asked for.";
const FEW: &str = "Hardware or a service that few hosts have; a textfile can bring it.";

/// Collectors of node_exporter, or parts of them, whose metrics the agent does not emit, and why.
const NOT_EMITTED: &[(&str, &str, &str)] = &[
    ("bcache", "node_bcache_*", FEW),
    ("bcachefs", "node_bcachefs_*", FEW),
    ("buddyinfo", "node_buddyinfo_*", OFF),
    ("cgroups", "node_cgroups_*", "Off in node_exporter unless asked for; `container_*` tell of each."),
    ("cpu", "node_cpu_bug_info", OFF),
    ("cpu", "node_cpu_flag_info", OFF),
    ("cpu_vulnerabilities", "node_cpu_vulnerabilities_info", OFF),
    ("diskstats", "node_disk_ata_*", "From udev's database, not from the kernel."),
    ("diskstats", "node_disk_*info", "The same."),
    ("dmmultipath", "node_dmmultipath_*", FEW),
    ("drbd", "node_drbd_*", OFF),
    ("fibrechannel", "node_fibrechannel_*", FEW),
    ("infiniband", "node_infiniband_*", FEW),
    (
        "interrupts",
        "node_interrupts_total",
        "Off in node_exporter; `node_intr_total` has the sum, `node_softirqs_total` the kinds.",
    ),
    ("ipvs", "node_ipvs_*", FEW),
    ("kernel_hung", "node_kernel_hung_*", "Counted by the newest kernels alone."),
    ("ksmd", "node_ksmd_*", OFF),
    ("lnstat", "node_lnstat_*", OFF),
    ("meminfo_numa", "node_memory_numa_*", OFF),
    ("mountstats", "node_mountstats_*", "Off in node_exporter; `node_nfs_*` have the sums of all mounts."),
    ("nfsd", "node_nfsd_*", FEW),
    ("os", "node_os_version", "`node_os_info` has it as a label."),
    ("pcidevice", "node_pcidevice_*", OFF),
    ("qdisc", "node_qdisc_*", OFF),
    ("selinux", "node_selinux_*", "Changes only when an operator changes it; a textfile can bring it."),
    ("slabinfo", "node_slabinfo_*", OFF),
    (
        "softirqs",
        "node_softirqs_functions_total",
        "Off in node_exporter; `node_softirqs_total` has the sums of all cores.",
    ),
    ("sysctl", "node_sysctl_*", OFF),
    ("tapestats", "node_tape_*", FEW),
    (
        "textfile",
        "testmetric*",
        "An operator's own, of a directory that is not the kernel's; such are emitted as they are written.",
    ),
    ("time", "node_time_zone_offset_seconds", "The agent may run in another time zone than its host."),
    ("udp_queues", "node_udp_queues", "Reads every UDP socket; `node_sockstat_UDP_mem_bytes` has their memory."),
    ("watchdog", "node_watchdog_*", FEW),
    ("wifi", "node_wifi_*", OFF),
    ("xfrm", "node_xfrm_*", OFF),
    ("zfs", "node_zfs_*", "Beyond the cache (ARC), the pools and their state: figures for those who work on ZFS."),
    ("zoneinfo", "node_zoneinfo_*", OFF),
    ("", "go_*", "Of node_exporter itself; ours are `lapwing_agent_*`."),
    ("", "process_*", "The same."),
    ("", "promhttp_*", "The same."),
    ("", "node_exporter_build_info", "The same."),
];

/// Metrics that both emit and that differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("node_network_info", "The label `adminstate`, which node_exporter has since 1.6."),
    ("node_nf_conntrack_stat_*", "Counters, which node_exporter calls gauges."),
    ("node_network_speed_bytes", "Left out where the link tells none; node_exporter says -125000 bytes a second."),
    ("node_scrape_collector_duration_seconds", "The mean of the ticks of a window; of node_exporter, its last scrape."),
    ("node_scrape_collector_success", "A subject that is not on the host is no failure; node_exporter says 0."),
];

const OFF_IN_CADVISOR: &str = "Off in cAdvisor, or not built into it, unless asked for.";

/// Metrics of cAdvisor that the agent does not emit, and why.
const NOT_OF_CONTAINERS: &[(&str, &str)] = &[
    ("container_accelerator_*", "Graphics cards have programs of their own that a textfile can bring."),
    ("container_cpu_kernel_seconds", "`container_cpu_system_seconds_total` has the sum of all CPUs."),
    ("container_cpu_load_average_10s", "Off in cAdvisor unless asked for; `container_pressure_cpu_*` tell more."),
    ("container_cpu_schedstat_*", OFF_IN_CADVISOR),
    ("container_cpu_user_seconds", "`container_cpu_user_seconds_total` has the sum of all CPUs."),
    ("container_file_descriptors", "`namedprocess_namegroup_open_filedesc` has it by group."),
    ("container_fs_inodes_*", "Of the file system that all containers share: `node_filesystem_files*` has them once."),
    ("container_fs_io_*", "Of the whole device, not of the container: `node_disk_io_*` has it once."),
    (
        "container_fs_limit_bytes",
        "The size of the file system that all containers share: `node_filesystem_size_bytes` has it once.",
    ),
    ("container_fs_read_seconds_total", "The kernel counts no times by control group."),
    ("container_fs_reads_merged_total", "The kernel counts no merges by control group since version 2."),
    ("container_fs_sector_*", "`container_fs_*_bytes_total` say the same."),
    (
        "container_fs_usage_bytes",
        "No counter has it: cAdvisor walks all files that a container wrote, as root, once a minute or more seldom.",
    ),
    ("container_fs_write_seconds_total", "The kernel counts no times by control group."),
    ("container_fs_writes_merged_total", "The kernel counts no merges by control group since version 2."),
    ("container_hugetlb_*", OFF_IN_CADVISOR),
    ("container_llc_occupancy_bytes", OFF_IN_CADVISOR),
    ("container_memory_bandwidth_*", OFF_IN_CADVISOR),
    ("container_memory_numa_pages", OFF_IN_CADVISOR),
    ("container_network_*_usage_total", "Off in cAdvisor unless asked for: reads every socket."),
    ("container_perf_*", OFF_IN_CADVISOR),
    ("container_referenced_bytes", "Off in cAdvisor unless asked for: disturbs what the kernel would reclaim."),
    ("container_spec_memory_reservation_limit_bytes", "Limits nothing: what is taken first when memory is short."),
    ("container_spec_memory_swap_limit_bytes", "Version 2 limits swap apart from memory, and the sum is no limit."),
    ("container_tasks_state", "`namedprocess_namegroup_states` has it by group."),
    ("machine_cpu_cache_capacity_bytes", OFF_IN_CADVISOR),
    ("machine_cpu_physical_cores", "`node_cpu_info` has a line for each."),
    ("machine_cpu_sockets", "`node_cpu_info` has a line for each."),
    ("machine_dimm_*", "Sizes of memory modules, whose errors `node_edac_*` counts."),
    ("machine_node_*", OFF_IN_CADVISOR),
    ("machine_nvm_*", OFF_IN_CADVISOR),
    ("machine_thread_siblings_count", OFF_IN_CADVISOR),
];

#[test]
fn what_is_emitted_is_not_said_to_be_missing() {
    for (metrics, _) in NOT_OF_CONTAINERS {
        let (before, behind) = metrics.split_once('*').unwrap_or((metrics, ""));
        let is_one = |name: &str| {
            name == *metrics || (metrics.contains('*') && name.starts_with(before) && name.ends_with(behind))
        };
        let found = catalog::all().find(|metric| is_one(metric.name));
        assert_eq!(found.map(|metric| metric.name), None, "{metrics}");
    }
}

#[test]
fn the_document_is_the_catalog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let text = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/METRICS.md is out of step: run `UPDATE=1 cargo test -p common`");
}

fn document() -> String {
    let mut jobs: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    let mut metrics: Vec<&Metric> = catalog::all().collect();
    metrics.sort_by_key(|metric| metric.name);
    for metric in metrics {
        jobs.entry(metric.job).or_default().push(metric);
    }
    let mut text = HEAD.to_owned();
    text.push_str("\n## What is read, and how often\n\n");
    text.push_str("What does nothing is read seldom: what the agent costs grows with what happens on the host.\n\n");
    text.push_str("| of | each second | each window | each minute |\n|---|---|---|---|\n");
    text.extend(READ.iter().map(|(of, second, window, minute)| format!("| {of} | {second} | {window} | {minute} |\n")));
    for (job, title) in JOBS {
        text.push_str(&format!("\n## {title}\n\n`job=\"{job}\"`\n\n| metric | | unit | sampled each | labels | |\n"));
        text.push_str("|---|---|---|---|---|---|\n");
        text.extend(jobs.remove(job).into_iter().flatten().map(row));
    }
    text.push_str(
        "\n## What node_exporter emits and the agent does not\n\nHeld against node_exporter's own captured host.\n\n",
    );
    text.push_str("| collector | metrics | why |\n|---|---|---|\n");
    text.extend(NOT_EMITTED.iter().map(|(collector, metrics, why)| format!("| {collector} | `{metrics}` | {why} |\n")));
    text.push_str("\n## What cAdvisor emits and the agent does not\n\nHeld against cAdvisor's own list.\n\n");
    text.push_str("| metrics | why |\n|---|---|\n");
    text.extend(NOT_OF_CONTAINERS.iter().map(|(metrics, why)| format!("| `{metrics}` | {why} |\n")));
    text.push_str("\n## What node_exporter emits, too, and is not the same\n\n");
    text.push_str("Held against Debian's node_exporter on a living host, which is scraped before and after.\n\n");
    text.push_str("| metrics | what differs |\n|---|---|\n");
    text.extend(DIFFERENT.iter().map(|(metrics, what)| format!("| `{metrics}` | {what} |\n")));
    assert!(jobs.is_empty(), "jobs without a title: {:?}", jobs.keys());
    text
}

fn row(metric: &Metric) -> String {
    let kind = match (metric.kind, metric.peak) {
        (Kind::Gauge, _) => "gauge",
        (Kind::Counter, false) => "counter",
        (Kind::Counter, true) => "counter, peak",
    };
    let unit = match metric.unit {
        Unit::None => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Ratio => "ratio",
        Unit::Celsius => "°C",
    };
    let tier = match metric.tier {
        Tier::Second => "second",
        Tier::Window => "window",
        Tier::Minute => "minute",
    };
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {kind} | {unit} | {tier} | {} | {} |\n", metric.name, labels.join(" "), metric.help)
}
