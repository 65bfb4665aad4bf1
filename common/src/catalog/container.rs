//! Containers and services, as cAdvisor names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    counter("container_cpu_cfs_periods_total", Unit::None, "Periods in which a container wanted to run.").container(),
    counter("container_cpu_cfs_throttled_periods_total", Unit::None, "Periods in which the quota ran out.").container(),
    counter("container_cpu_cfs_throttled_seconds_total", Unit::Seconds, "Time waited for CPU quota.")
        .decimals(3)
        .peak()
        .container(),
    counter("container_cpu_system_seconds_total", Unit::Seconds, "CPU time of a container in the kernel.")
        .decimals(2)
        .tier(Tier::Window)
        .container(),
    counter("container_cpu_usage_seconds_total", Unit::Seconds, "CPU time of a container.")
        .decimals(3)
        .peak()
        .container()
        .labels(CPU),
    counter("container_cpu_user_seconds_total", Unit::Seconds, "CPU time of a container in programs.")
        .decimals(2)
        .tier(Tier::Window)
        .container(),
    counter("container_fs_reads_bytes_total", Unit::Bytes, "Bytes that a container read from a device.")
        .peak()
        .container()
        .labels(DEVICE),
    counter("container_fs_reads_total", Unit::None, "Reads of a container from a device.").container().labels(DEVICE),
    counter("container_fs_writes_bytes_total", Unit::Bytes, "Bytes that a container wrote to a device.")
        .peak()
        .container()
        .labels(DEVICE),
    counter("container_fs_writes_total", Unit::None, "Writes of a container to a device.").container().labels(DEVICE),
    gauge("container_health_state", Unit::None, "1 where a container's health check holds, 0 where it does not (yet).")
        .tier(Tier::Window)
        .container(),
    gauge("container_last_seen", Unit::Seconds, "When it was last there, five minutes beyond its end.")
        .tier(Tier::Window)
        .container(),
    gauge("container_memory_cache", Unit::Bytes, "Page cache of a container.").tier(Tier::Window).container(),
    counter("container_memory_failcnt", Unit::None, "Times that a memory limit was met.")
        .tier(Tier::Window)
        .container(),
    counter(
        "container_memory_failures_total",
        Unit::None,
        "Page faults of a container: all, or those that needed storage.",
    )
    .tier(Tier::Window)
    .container()
    .labels(FAILURE),
    gauge("container_memory_kernel_usage", Unit::Bytes, "Memory that the kernel uses for a container.")
        .tier(Tier::Window)
        .container(),
    gauge("container_memory_mapped_file", Unit::Bytes, "Page cache of a container that is mapped.")
        .tier(Tier::Window)
        .container(),
    gauge("container_memory_max_usage_bytes", Unit::Bytes, "Most memory that a container used at once.")
        .tier(Tier::Window)
        .container(),
    gauge("container_memory_rss", Unit::Bytes, "Anonymous memory of a container.").tier(Tier::Window).container(),
    gauge("container_memory_swap", Unit::Bytes, "Swapped-out memory of a container.").tier(Tier::Window).container(),
    gauge("container_memory_usage_bytes", Unit::Bytes, "Memory of a container, page cache included.").container(),
    gauge("container_memory_working_set_bytes", Unit::Bytes, "Memory without page cache not used lately.").container(),
    counter(
        "container_memory_workingset_refault_anon_total",
        Unit::None,
        "Anonymous pages fetched again soon after they were swapped out.",
    )
    .tier(Tier::Window)
    .container(),
    counter(
        "container_memory_workingset_refault_file_total",
        Unit::None,
        "Pages of files fetched again soon after they were dropped.",
    )
    .tier(Tier::Window)
    .container(),
    counter("container_network_receive_bytes_total", Unit::Bytes, "Bytes received.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_network_receive_errors_total", Unit::None, "Errors while packets were received.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter(
        "container_network_receive_packets_dropped_total",
        Unit::None,
        "Packets dropped before they were received.",
    )
    .tier(Tier::Window)
    .container()
    .labels(INTERFACE),
    counter("container_network_receive_packets_total", Unit::None, "Packets received.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_network_transmit_bytes_total", Unit::Bytes, "Bytes sent.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_network_transmit_errors_total", Unit::None, "Errors while packets were sent.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_network_transmit_packets_dropped_total", Unit::None, "Packets dropped before they were sent.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_network_transmit_packets_total", Unit::None, "Packets sent.")
        .tier(Tier::Window)
        .container()
        .labels(INTERFACE),
    counter("container_oom_events_total", Unit::None, "Tasks killed for want of memory.").container(),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        Unit::Seconds,
        "Time in which all tasks of a container waited for CPU.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        Unit::Seconds,
        "Time in which a task of a container waited for CPU.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    counter(
        "container_pressure_io_stalled_seconds_total",
        Unit::Seconds,
        "Time in which all tasks of a container waited for block IO.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    counter(
        "container_pressure_io_waiting_seconds_total",
        Unit::Seconds,
        "Time in which a task of a container waited for block IO.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        Unit::Seconds,
        "Time in which all tasks of a container waited for memory.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        Unit::Seconds,
        "Time in which a task of a container waited for memory.",
    )
    .decimals(3)
    .tier(Tier::Window)
    .container(),
    gauge("container_processes", Unit::None, "Processes of a container, without those in cgroups inside.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_cpu_period", Unit::None, "Period of the CPU quota in microseconds.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_cpu_quota", Unit::None, "CPU microseconds allowed in a period, here or around.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_cpu_shares", Unit::None, "Weight of a container where CPU time is short.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_memory_limit_bytes", Unit::Bytes, "Most memory allowed, here or around; 0 without a limit.")
        .tier(Tier::Window)
        .container(),
    gauge("container_start_time_seconds", Unit::Seconds, "When a container began.")
        .decimals(2)
        .tier(Tier::Window)
        .container(),
    gauge("container_threads", Unit::None, "Threads of a container.").container(),
    gauge("container_threads_max", Unit::None, "Most threads allowed; 0 without a limit.")
        .tier(Tier::Window)
        .container(),
    gauge("lapwing_container_exit_code", Unit::None, "What its first process returned when it ended last, where seen.")
        .tier(Tier::Window)
        .job("lapwing")
        .labels(LABELS),
    gauge("lapwing_container_port_info", Unit::None, "1 for each port that a container listens on.")
        .tier(Tier::Window)
        .job("lapwing")
        .labels(PORT),
    counter("lapwing_container_restarts_total", Unit::None, "Restarts by the runtime.")
        .tier(Tier::Window)
        .job("lapwing")
        .labels(LABELS),
    gauge("machine_cpu_cores", Unit::None, "CPUs that are online.").tier(Tier::Minute).job("cadvisor"),
    gauge("machine_memory_bytes", Unit::Bytes, "Memory of the host.").tier(Tier::Minute).job("cadvisor"),
];

/// Labels of a container or service; a container has its own as `container_label_…` besides.
pub(super) const LABELS: &[&str] = &["container", "id", "image", "name", "namespace", "parent", "pod", "service"];
const CPU: &[&str] = &["container", "cpu", "id", "image", "name", "namespace", "parent", "pod", "service"];
const DEVICE: &[&str] = &["container", "device", "id", "image", "name", "namespace", "parent", "pod", "service"];
const FAILURE: &[&str] =
    &["container", "failure_type", "id", "image", "name", "namespace", "parent", "pod", "scope", "service"];
const INTERFACE: &[&str] = &["container", "id", "image", "interface", "name", "namespace", "parent", "pod"];
const PORT: &[&str] =
    &["container", "id", "image", "name", "namespace", "parent", "pod", "port", "published", "service"];
