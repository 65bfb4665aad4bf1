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
    gauge("container_last_seen", Unit::Seconds, "When it was last there, five minutes beyond its end.")
        .tier(Tier::Window)
        .container(),
    gauge("container_memory_cache", Unit::Bytes, "Page cache of a container.").tier(Tier::Window).container(),
    gauge("container_memory_rss", Unit::Bytes, "Anonymous memory of a container.").tier(Tier::Window).container(),
    gauge("container_memory_swap", Unit::Bytes, "Swapped-out memory of a container.").tier(Tier::Window).container(),
    gauge("container_memory_usage_bytes", Unit::Bytes, "Memory of a container, page cache included.").container(),
    gauge("container_memory_working_set_bytes", Unit::Bytes, "Memory without page cache not used lately.").container(),
    counter("container_oom_events_total", Unit::None, "Tasks killed for want of memory.").container(),
    gauge("container_spec_cpu_period", Unit::None, "Period of the CPU quota in microseconds.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_cpu_quota", Unit::None, "CPU microseconds allowed in a period.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_cpu_shares", Unit::None, "Weight of a container where CPU time is short.")
        .tier(Tier::Window)
        .container(),
    gauge("container_spec_memory_limit_bytes", Unit::Bytes, "Most memory allowed; 0 without a limit.")
        .tier(Tier::Window)
        .container(),
    gauge("container_start_time_seconds", Unit::Seconds, "When a container began.")
        .decimals(2)
        .tier(Tier::Window)
        .container(),
    gauge("container_threads", Unit::None, "Threads of a container.").container(),
    counter("lapwing_container_restarts_total", Unit::None, "Restarts by the runtime.")
        .tier(Tier::Window)
        .job("lapwing")
        .labels(LABELS),
];

/// Labels of a container or service; a container has its own as `container_label_…` besides.
pub(super) const LABELS: &[&str] = &["container", "id", "image", "name", "service"];
const CPU: &[&str] = &["container", "cpu", "id", "image", "name", "service"];
const DEVICE: &[&str] = &["container", "device", "id", "image", "name", "service"];
