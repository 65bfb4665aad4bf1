//! Every metric that we emit: name, kind, unit, decimals, tier, labels and help. One line a metric.
//!
//! What stands here is sampled, shipped, stored, rolled up, queryable, documented (`docs/METRICS.md`) and selectable on
//! the page without another line.

use crate::metric::{Decimals, Kind, Tier, Unit};

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, as the field's standard programs emit it; ours begin with `lapwing_`.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Digits its values mean.
    pub decimals: Decimals,
    /// Whether its windows keep the fastest growth between two ticks.
    pub peak: bool,
    /// How often it is sampled.
    pub tier: Tier,
    /// The label `job`: which standard program emits it.
    pub job: &'static str,
    /// Labels besides `job` and those of the host.
    pub labels: &'static [&'static str],
    /// One sentence for a person.
    pub help: &'static str,
}

/// All metrics, by name.
pub const METRICS: &[Metric] = &[
    counter(
        "container_cpu_cfs_periods_total",
        Unit::None,
        "Periods in which a container with a CPU quota wanted to run.",
    )
    .job("cadvisor")
    .labels(CONTAINER),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        Unit::None,
        "Periods in which a container used up its CPU quota.",
    )
    .job("cadvisor")
    .labels(CONTAINER),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        Unit::Seconds,
        "Time that tasks of a container waited for CPU quota.",
    )
    .decimals(3)
    .peak()
    .job("cadvisor")
    .labels(CONTAINER),
    counter("container_cpu_system_seconds_total", Unit::Seconds, "CPU time of a container in the kernel.")
        .decimals(2)
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    counter("container_cpu_usage_seconds_total", Unit::Seconds, "CPU time of a container.")
        .decimals(3)
        .peak()
        .job("cadvisor")
        .labels(CONTAINER_CPU),
    counter("container_cpu_user_seconds_total", Unit::Seconds, "CPU time of a container in programs.")
        .decimals(2)
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    counter("container_fs_reads_bytes_total", Unit::Bytes, "Bytes that a container read from a device.")
        .peak()
        .job("cadvisor")
        .labels(CONTAINER_DEVICE),
    counter("container_fs_reads_total", Unit::None, "Reads of a container from a device.")
        .job("cadvisor")
        .labels(CONTAINER_DEVICE),
    counter("container_fs_writes_bytes_total", Unit::Bytes, "Bytes that a container wrote to a device.")
        .peak()
        .job("cadvisor")
        .labels(CONTAINER_DEVICE),
    counter("container_fs_writes_total", Unit::None, "Writes of a container to a device.")
        .job("cadvisor")
        .labels(CONTAINER_DEVICE),
    gauge("container_last_seen", Unit::Seconds, "When a container was last there, five minutes beyond its end.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_memory_cache", Unit::Bytes, "Page cache of a container.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_memory_rss", Unit::Bytes, "Anonymous memory of a container.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_memory_swap", Unit::Bytes, "Swapped-out memory of a container.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_memory_usage_bytes", Unit::Bytes, "Memory of a container, page cache included.")
        .job("cadvisor")
        .labels(CONTAINER),
    gauge(
        "container_memory_working_set_bytes",
        Unit::Bytes,
        "Memory of a container without page cache that was not used lately.",
    )
    .job("cadvisor")
    .labels(CONTAINER),
    counter(
        "container_oom_events_total",
        Unit::None,
        "Tasks of a container that the kernel killed for want of memory.",
    )
    .job("cadvisor")
    .labels(CONTAINER),
    gauge("container_spec_cpu_period", Unit::None, "Length of the period of a CPU quota, in microseconds.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge(
        "container_spec_cpu_quota",
        Unit::None,
        "CPU time allowed in a period, in microseconds; absent without a limit.",
    )
    .tier(Tier::Window)
    .job("cadvisor")
    .labels(CONTAINER),
    gauge("container_spec_cpu_shares", Unit::None, "Weight of a container where CPU time is short.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_spec_memory_limit_bytes", Unit::Bytes, "The most memory a container may use; 0 without a limit.")
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_start_time_seconds", Unit::Seconds, "When a container began.")
        .decimals(2)
        .tier(Tier::Window)
        .job("cadvisor")
        .labels(CONTAINER),
    gauge("container_threads", Unit::None, "Threads of a container.").job("cadvisor").labels(CONTAINER),
    counter(
        "lapwing_agent_collector_errors_total",
        Unit::None,
        "Ticks at which a collector could not read all it should.",
    )
    .job("lapwing")
    .tier(Tier::Window)
    .labels(&["collector"]),
    counter(
        "lapwing_container_restarts_total",
        Unit::None,
        "How often a runtime started a container again after it ended.",
    )
    .tier(Tier::Window)
    .job("lapwing")
    .labels(CONTAINER),
    counter("namedprocess_namegroup_cpu_seconds_total", Unit::Seconds, "CPU time of the processes of a group.")
        .decimals(2)
        .peak()
        .job("process")
        .labels(GROUP_MODE),
    counter(
        "namedprocess_namegroup_major_page_faults_total",
        Unit::None,
        "Page faults of a group that needed storage.",
    )
    .tier(Tier::Window)
    .job("process")
    .labels(GROUP),
    gauge("namedprocess_namegroup_memory_bytes", Unit::Bytes, "Memory of the processes of a group.")
        .tier(Tier::Window)
        .job("process")
        .labels(GROUP_MEMORY),
    counter(
        "namedprocess_namegroup_minor_page_faults_total",
        Unit::None,
        "Page faults of a group that needed no storage.",
    )
    .tier(Tier::Window)
    .job("process")
    .labels(GROUP),
    gauge("namedprocess_namegroup_num_procs", Unit::None, "Processes of a group.").job("process").labels(GROUP),
    gauge("namedprocess_namegroup_num_threads", Unit::None, "Threads of a group.")
        .tier(Tier::Window)
        .job("process")
        .labels(GROUP),
    gauge(
        "namedprocess_namegroup_oldest_start_time_seconds",
        Unit::Seconds,
        "When the oldest process of a group began.",
    )
    .decimals(2)
    .tier(Tier::Window)
    .job("process")
    .labels(GROUP),
    counter("namedprocess_namegroup_read_bytes_total", Unit::Bytes, "Bytes that a group read from storage.")
        .tier(Tier::Window)
        .job("process")
        .labels(GROUP),
    gauge("namedprocess_namegroup_states", Unit::None, "Processes of a group by state.")
        .tier(Tier::Window)
        .job("process")
        .labels(GROUP_STATE),
    counter("namedprocess_namegroup_write_bytes_total", Unit::Bytes, "Bytes that a group wrote to storage.")
        .tier(Tier::Window)
        .job("process")
        .labels(GROUP),
    counter("node_cpu_guest_seconds_total", Unit::Seconds, "CPU time of guests, which user and nice hold already.")
        .decimals(2)
        .peak()
        .labels(&["cpu", "mode"]),
    counter("node_cpu_seconds_total", Unit::Seconds, "CPU time by core and mode.")
        .decimals(2)
        .peak()
        .labels(&["cpu", "mode"]),
    gauge("node_load1", Unit::None, "1 minute load average.").decimals(2),
    gauge("node_load15", Unit::None, "15 minute load average.").decimals(2),
    gauge("node_load5", Unit::None, "5 minute load average.").decimals(2),
    gauge("node_scrape_collector_success", Unit::None, "Whether a collector succeeded.")
        .tier(Tier::Window)
        .labels(&["collector"]),
];

/// Labels of a container or service; a container has its own as `container_label_…` besides.
const CONTAINER: &[&str] = &["container", "id", "image", "name", "service"];
const CONTAINER_CPU: &[&str] = &["container", "cpu", "id", "image", "name", "service"];
const CONTAINER_DEVICE: &[&str] = &["container", "device", "id", "image", "name", "service"];

/// Labels of a group of processes; the last two where it runs in a container.
const GROUP: &[&str] = &["groupname", "container", "name"];
const GROUP_MODE: &[&str] = &["groupname", "mode", "container", "name"];
const GROUP_MEMORY: &[&str] = &["groupname", "memtype", "container", "name"];
const GROUP_STATE: &[&str] = &["groupname", "state", "container", "name"];

/// Finds a metric while compiling: a name that is not in the catalog does not build.
///
/// # Panics
/// At compile time, when `name` is unknown.
#[must_use]
#[expect(clippy::panic, reason = "evaluated by the compiler")]
pub const fn metric(name: &str) -> &'static Metric {
    let mut at = 0;
    while at < METRICS.len() {
        if equal(METRICS[at].name.as_bytes(), name.as_bytes()) {
            return &METRICS[at];
        }
        at += 1;
    }
    panic!("no such metric in common::catalog")
}

/// Finds a metric by a name that the kernel made: a line of `/proc/meminfo`, say.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.binary_search_by(|metric| metric.name.cmp(name)).ok().map(|at| &METRICS[at])
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        decimals: Decimals::new(0),
        peak: false,
        tier: Tier::Second,
        job: "node",
        labels: &[],
        help,
    }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { kind: Kind::Counter, ..gauge(name, unit, help) }
}

impl Metric {
    const fn decimals(self, digits: u8) -> Self {
        Self { decimals: Decimals::new(digits), ..self }
    }

    const fn peak(self) -> Self {
        Self { peak: true, ..self }
    }

    const fn tier(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }

    const fn job(self, job: &'static str) -> Self {
        Self { job, ..self }
    }

    const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let unsorted: Vec<_> = METRICS.windows(2).filter(|pair| pair[1].name <= pair[0].name).collect();
        assert_eq!(unsorted, Vec::<&[Metric]>::new());
    }
}
