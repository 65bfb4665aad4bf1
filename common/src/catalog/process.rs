//! Groups of processes, as process-exporter names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    counter("namedprocess_namegroup_context_switches_total", Unit::None, "Times that first threads gave way.")
        .tier(Tier::Window)
        .group()
        .labels(SWITCHES),
    counter("namedprocess_namegroup_cpu_seconds_total", Unit::Seconds, "CPU time of the processes of a group.")
        .decimals(2)
        .peak()
        .group()
        .labels(MODE),
    counter("namedprocess_namegroup_major_page_faults_total", Unit::None, "Page faults that needed storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_memory_bytes", Unit::Bytes, "Memory of the processes of a group.")
        .tier(Tier::Window)
        .group()
        .labels(MEMORY),
    counter("namedprocess_namegroup_minor_page_faults_total", Unit::None, "Page faults that needed no storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_num_procs", Unit::None, "Processes of a group.").group(),
    gauge("namedprocess_namegroup_num_threads", Unit::None, "Threads of a group.").tier(Tier::Window).group(),
    gauge("namedprocess_namegroup_oldest_start_time_seconds", Unit::Seconds, "When the oldest process began.")
        .decimals(2)
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_open_filedesc", Unit::None, "Open files of a group.").tier(Tier::Window).group(),
    counter("namedprocess_namegroup_read_bytes_total", Unit::Bytes, "Bytes that a group read from storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_states", Unit::None, "Processes of a group by state.")
        .tier(Tier::Window)
        .group()
        .labels(STATE),
    gauge("namedprocess_namegroup_worst_fd_ratio", Unit::Ratio, "Open files of the process closest to its limit.")
        .decimals(4)
        .tier(Tier::Window)
        .group(),
    counter("namedprocess_namegroup_write_bytes_total", Unit::Bytes, "Bytes that a group wrote to storage.")
        .tier(Tier::Window)
        .group(),
];

/// Labels of a group of processes; the last two where it runs in a container.
pub(super) const LABELS: &[&str] = &["groupname", "container", "name"];
const MODE: &[&str] = &["groupname", "mode", "container", "name"];
const SWITCHES: &[&str] = &["groupname", "ctxswitchtype", "container", "name"];
const MEMORY: &[&str] = &["groupname", "memtype", "container", "name"];
const STATE: &[&str] = &["groupname", "state", "container", "name"];
