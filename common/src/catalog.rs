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
        .labels(CONTAINER_CPU),
    counter("container_cpu_user_seconds_total", Unit::Seconds, "CPU time of a container in programs.")
        .decimals(2)
        .tier(Tier::Window)
        .container(),
    counter("container_fs_reads_bytes_total", Unit::Bytes, "Bytes that a container read from a device.")
        .peak()
        .container()
        .labels(CONTAINER_DEVICE),
    counter("container_fs_reads_total", Unit::None, "Reads of a container from a device.")
        .container()
        .labels(CONTAINER_DEVICE),
    counter("container_fs_writes_bytes_total", Unit::Bytes, "Bytes that a container wrote to a device.")
        .peak()
        .container()
        .labels(CONTAINER_DEVICE),
    counter("container_fs_writes_total", Unit::None, "Writes of a container to a device.")
        .container()
        .labels(CONTAINER_DEVICE),
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
    gauge("lapwing_agent_clock_offset_seconds", Unit::Seconds, "How far stamps are ahead of the host's wall clock.")
        .own()
        .decimals(3),
    counter(
        "lapwing_agent_collector_errors_total",
        Unit::None,
        "Ticks at which a collector could not read all it should.",
    )
    .own()
    .labels(&["collector"]),
    counter("lapwing_agent_cpu_seconds_total", Unit::Seconds, "CPU time that the agent used.").own().decimals(3),
    counter("lapwing_agent_dropped_batches_total", Unit::None, "Batches dropped because the spool was full.").own(),
    counter("lapwing_agent_late_ticks_total", Unit::None, "Ticks that came so late that another was due already.")
        .own(),
    counter("lapwing_agent_reconnects_total", Unit::None, "Sessions with the aggregator after the first.").own(),
    gauge("lapwing_agent_resident_memory_bytes", Unit::Bytes, "Memory that the agent holds.").own(),
    counter("lapwing_agent_samples_total", Unit::None, "Values folded into windows.").own(),
    counter("lapwing_agent_skipped_windows_total", Unit::None, "Windows not written because the clock was set back.")
        .own(),
    gauge("lapwing_agent_spool_batches", Unit::None, "Batches that wait for their acknowledgement.").own(),
    counter("lapwing_container_restarts_total", Unit::None, "Restarts by the runtime.")
        .tier(Tier::Window)
        .job("lapwing")
        .labels(CONTAINER),
    counter("namedprocess_namegroup_cpu_seconds_total", Unit::Seconds, "CPU time of the processes of a group.")
        .decimals(2)
        .peak()
        .group()
        .labels(GROUP_MODE),
    counter("namedprocess_namegroup_major_page_faults_total", Unit::None, "Page faults that needed storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_memory_bytes", Unit::Bytes, "Memory of the processes of a group.")
        .tier(Tier::Window)
        .group()
        .labels(GROUP_MEMORY),
    counter("namedprocess_namegroup_minor_page_faults_total", Unit::None, "Page faults that needed no storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_num_procs", Unit::None, "Processes of a group.").group(),
    gauge("namedprocess_namegroup_num_threads", Unit::None, "Threads of a group.").tier(Tier::Window).group(),
    gauge("namedprocess_namegroup_oldest_start_time_seconds", Unit::Seconds, "When the oldest process began.")
        .decimals(2)
        .tier(Tier::Window)
        .group(),
    counter("namedprocess_namegroup_read_bytes_total", Unit::Bytes, "Bytes that a group read from storage.")
        .tier(Tier::Window)
        .group(),
    gauge("namedprocess_namegroup_states", Unit::None, "Processes of a group by state.")
        .tier(Tier::Window)
        .group()
        .labels(GROUP_STATE),
    counter("namedprocess_namegroup_write_bytes_total", Unit::Bytes, "Bytes that a group wrote to storage.")
        .tier(Tier::Window)
        .group(),
    gauge("node_boot_time_seconds", Unit::Seconds, "When the host started, in seconds since the epoch."),
    counter("node_context_switches_total", Unit::None, "Context switches."),
    counter("node_cpu_guest_seconds_total", Unit::Seconds, "CPU time of guests, which user and nice hold already.")
        .labels(&["cpu", "mode"])
        .decimals(2)
        .peak(),
    counter("node_cpu_seconds_total", Unit::Seconds, "CPU time by core and mode.")
        .labels(&["cpu", "mode"])
        .decimals(2)
        .peak(),
    counter("node_disk_discard_time_seconds_total", Unit::Seconds, "Time spent on all discards.")
        .labels(DEVICE)
        .decimals(3),
    counter("node_disk_discarded_sectors_total", Unit::None, "Sectors of 512 bytes discarded.").labels(DEVICE),
    counter("node_disk_discards_completed_total", Unit::None, "Discards completed.").labels(DEVICE),
    counter("node_disk_discards_merged_total", Unit::None, "Discards merged with others.").labels(DEVICE),
    counter("node_disk_flush_requests_time_seconds_total", Unit::Seconds, "Time spent on all flushes.")
        .labels(DEVICE)
        .decimals(3),
    counter("node_disk_flush_requests_total", Unit::None, "Flushes completed.").labels(DEVICE),
    gauge("node_disk_io_now", Unit::None, "Requests in flight.").labels(DEVICE),
    counter("node_disk_io_time_seconds_total", Unit::Seconds, "Time in which the device was busy.")
        .labels(DEVICE)
        .decimals(3)
        .peak(),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        Unit::Seconds,
        "Time spent on IO times the number of requests in flight.",
    )
    .labels(DEVICE)
    .decimals(3)
    .peak(),
    counter("node_disk_read_bytes_total", Unit::Bytes, "Bytes read.").labels(DEVICE).peak(),
    counter("node_disk_read_time_seconds_total", Unit::Seconds, "Time spent on all reads.")
        .labels(DEVICE)
        .decimals(3)
        .peak(),
    counter("node_disk_reads_completed_total", Unit::None, "Reads completed.").labels(DEVICE).peak(),
    counter("node_disk_reads_merged_total", Unit::None, "Reads merged with others.").labels(DEVICE),
    counter("node_disk_write_time_seconds_total", Unit::Seconds, "Time spent on all writes.")
        .labels(DEVICE)
        .decimals(3)
        .peak(),
    counter("node_disk_writes_completed_total", Unit::None, "Writes completed.").labels(DEVICE).peak(),
    counter("node_disk_writes_merged_total", Unit::None, "Writes merged with others.").labels(DEVICE),
    counter("node_disk_written_bytes_total", Unit::Bytes, "Bytes written.").labels(DEVICE).peak(),
    gauge("node_filesystem_avail_bytes", Unit::Bytes, "Space free for ordinary users.")
        .labels(FILESYSTEM)
        .tier(Tier::Window),
    gauge(
        "node_filesystem_device_error",
        Unit::None,
        "Whether the file system did not answer or answered with an error.",
    )
    .labels(FILESYSTEM)
    .tier(Tier::Window),
    gauge("node_filesystem_files", Unit::None, "Inodes.").labels(FILESYSTEM).tier(Tier::Window),
    gauge("node_filesystem_files_free", Unit::None, "Free inodes.").labels(FILESYSTEM).tier(Tier::Window),
    gauge("node_filesystem_free_bytes", Unit::Bytes, "Free space.").labels(FILESYSTEM).tier(Tier::Window),
    gauge("node_filesystem_readonly", Unit::None, "Whether the file system is read-only.")
        .labels(FILESYSTEM)
        .tier(Tier::Window),
    gauge("node_filesystem_size_bytes", Unit::Bytes, "Size.").labels(FILESYSTEM).tier(Tier::Window),
    counter("node_forks_total", Unit::None, "Processes and threads started."),
    counter("node_intr_total", Unit::None, "Interrupts served."),
    gauge("node_load1", Unit::None, "1 minute load average.").decimals(2),
    gauge("node_load15", Unit::None, "15 minute load average.").decimals(2),
    gauge("node_load5", Unit::None, "5 minute load average.").decimals(2),
    gauge("node_memory_Active_anon_bytes", Unit::Bytes, "Anonymous memory used recently."),
    gauge("node_memory_Active_bytes", Unit::Bytes, "Memory used recently."),
    gauge("node_memory_Active_file_bytes", Unit::Bytes, "Page cache used recently."),
    gauge("node_memory_AnonHugePages_bytes", Unit::Bytes, "Anonymous memory in transparent huge pages."),
    gauge("node_memory_AnonPages_bytes", Unit::Bytes, "Anonymous memory mapped by processes."),
    gauge("node_memory_Balloon_bytes", Unit::Bytes, "Memory given back to the hypervisor."),
    gauge("node_memory_Bounce_bytes", Unit::Bytes, "Bounce buffers of block devices."),
    gauge("node_memory_Buffers_bytes", Unit::Bytes, "Page cache of block devices."),
    gauge("node_memory_Cached_bytes", Unit::Bytes, "Page cache of files, shared memory included."),
    gauge("node_memory_CmaFree_bytes", Unit::Bytes, "Free memory reserved for contiguous allocation."),
    gauge("node_memory_CmaTotal_bytes", Unit::Bytes, "Memory reserved for contiguous allocation."),
    gauge("node_memory_CommitLimit_bytes", Unit::Bytes, "Memory that may be promised to processes."),
    gauge("node_memory_Committed_AS_bytes", Unit::Bytes, "Memory promised to processes."),
    gauge("node_memory_DirectMap1G_bytes", Unit::Bytes, "Kernel mapping in pages of 1 GiB."),
    gauge("node_memory_DirectMap2M_bytes", Unit::Bytes, "Kernel mapping in pages of 2 MiB."),
    gauge("node_memory_DirectMap4M_bytes", Unit::Bytes, "Kernel mapping in pages of 4 MiB."),
    gauge("node_memory_DirectMap4k_bytes", Unit::Bytes, "Kernel mapping in pages of 4 KiB."),
    gauge("node_memory_Dirty_bytes", Unit::Bytes, "Page cache waiting to be written."),
    gauge("node_memory_FileHugePages_bytes", Unit::Bytes, "Page cache in huge pages."),
    gauge("node_memory_FilePmdMapped_bytes", Unit::Bytes, "Page cache mapped in huge pages."),
    gauge("node_memory_HardwareCorrupted_bytes", Unit::Bytes, "Memory taken out of use because of errors."),
    gauge("node_memory_HighFree_bytes", Unit::Bytes, "Free high memory."),
    gauge("node_memory_HighTotal_bytes", Unit::Bytes, "High memory."),
    gauge("node_memory_HugePages_Free", Unit::None, "Free huge pages."),
    gauge("node_memory_HugePages_Rsvd", Unit::None, "Huge pages promised but not yet taken."),
    gauge("node_memory_HugePages_Surp", Unit::None, "Huge pages above the configured number."),
    gauge("node_memory_HugePages_Total", Unit::None, "Huge pages."),
    gauge("node_memory_Hugepagesize_bytes", Unit::Bytes, "Size of a huge page."),
    gauge("node_memory_Hugetlb_bytes", Unit::Bytes, "Memory in huge pages of all sizes."),
    gauge("node_memory_Inactive_anon_bytes", Unit::Bytes, "Anonymous memory not used recently."),
    gauge("node_memory_Inactive_bytes", Unit::Bytes, "Memory not used recently."),
    gauge("node_memory_Inactive_file_bytes", Unit::Bytes, "Page cache not used recently."),
    gauge("node_memory_KReclaimable_bytes", Unit::Bytes, "Kernel memory that can be reclaimed."),
    gauge("node_memory_KernelStack_bytes", Unit::Bytes, "Kernel stacks."),
    gauge("node_memory_LowFree_bytes", Unit::Bytes, "Free low memory."),
    gauge("node_memory_LowTotal_bytes", Unit::Bytes, "Low memory."),
    gauge("node_memory_Mapped_bytes", Unit::Bytes, "Files mapped by processes."),
    gauge("node_memory_MemAvailable_bytes", Unit::Bytes, "Memory that programs can get without swapping."),
    gauge("node_memory_MemFree_bytes", Unit::Bytes, "Memory used for nothing."),
    gauge("node_memory_MemTotal_bytes", Unit::Bytes, "Memory that the kernel manages."),
    gauge("node_memory_Mlocked_bytes", Unit::Bytes, "Memory locked by processes."),
    gauge("node_memory_NFS_Unstable_bytes", Unit::Bytes, "NFS pages sent but not yet stored."),
    gauge("node_memory_PageTables_bytes", Unit::Bytes, "Page tables."),
    gauge("node_memory_Percpu_bytes", Unit::Bytes, "Per-CPU allocations."),
    gauge("node_memory_Quicklists_bytes", Unit::Bytes, "Quicklists of page tables."),
    gauge("node_memory_SReclaimable_bytes", Unit::Bytes, "Slab that can be reclaimed."),
    gauge("node_memory_SUnreclaim_bytes", Unit::Bytes, "Slab that cannot be reclaimed."),
    gauge("node_memory_SecPageTables_bytes", Unit::Bytes, "Page tables of virtual machines."),
    gauge("node_memory_ShadowCallStack_bytes", Unit::Bytes, "Shadow call stacks."),
    gauge("node_memory_ShmemHugePages_bytes", Unit::Bytes, "Shared memory in huge pages."),
    gauge("node_memory_ShmemPmdMapped_bytes", Unit::Bytes, "Shared memory mapped in huge pages."),
    gauge("node_memory_Shmem_bytes", Unit::Bytes, "Shared memory and tmpfs."),
    gauge("node_memory_Slab_bytes", Unit::Bytes, "Kernel data structures."),
    gauge("node_memory_SwapCached_bytes", Unit::Bytes, "Memory that is in swap as well."),
    gauge("node_memory_SwapFree_bytes", Unit::Bytes, "Free swap."),
    gauge("node_memory_SwapTotal_bytes", Unit::Bytes, "Swap."),
    gauge("node_memory_Unaccepted_bytes", Unit::Bytes, "Memory not yet accepted from the hypervisor."),
    gauge("node_memory_Unevictable_bytes", Unit::Bytes, "Memory that cannot be evicted."),
    gauge("node_memory_VmallocChunk_bytes", Unit::Bytes, "Largest free block of the vmalloc area."),
    gauge("node_memory_VmallocTotal_bytes", Unit::Bytes, "Size of the vmalloc area."),
    gauge("node_memory_VmallocUsed_bytes", Unit::Bytes, "Used part of the vmalloc area."),
    gauge("node_memory_WritebackTmp_bytes", Unit::Bytes, "FUSE buffers being written."),
    gauge("node_memory_Writeback_bytes", Unit::Bytes, "Page cache being written."),
    gauge("node_memory_Zswap_bytes", Unit::Bytes, "Memory taken by compressed swap."),
    gauge("node_memory_Zswapped_bytes", Unit::Bytes, "Memory held in compressed swap before compression."),
    counter("node_network_receive_bytes_total", Unit::Bytes, "Bytes received.").labels(DEVICE).peak(),
    counter("node_network_receive_compressed_total", Unit::None, "Compressed packets received.").labels(DEVICE),
    counter("node_network_receive_drop_total", Unit::None, "Packets dropped while receiving.").labels(DEVICE),
    counter("node_network_receive_errs_total", Unit::None, "Packets with errors while receiving.").labels(DEVICE),
    counter("node_network_receive_fifo_total", Unit::None, "Overruns of the queue while receiving.").labels(DEVICE),
    counter("node_network_receive_frame_total", Unit::None, "Packets with framing errors while receiving.")
        .labels(DEVICE),
    counter("node_network_receive_multicast_total", Unit::None, "Multicast packets received.").labels(DEVICE),
    counter("node_network_receive_packets_total", Unit::None, "Packets received.").labels(DEVICE).peak(),
    counter("node_network_transmit_bytes_total", Unit::Bytes, "Bytes sent.").labels(DEVICE).peak(),
    counter("node_network_transmit_carrier_total", Unit::None, "Losses of the carrier while sending.").labels(DEVICE),
    counter("node_network_transmit_colls_total", Unit::None, "Collisions while sending.").labels(DEVICE),
    counter("node_network_transmit_compressed_total", Unit::None, "Compressed packets sent.").labels(DEVICE),
    counter("node_network_transmit_drop_total", Unit::None, "Packets dropped while sending.").labels(DEVICE),
    counter("node_network_transmit_errs_total", Unit::None, "Packets with errors while sending.").labels(DEVICE),
    counter("node_network_transmit_fifo_total", Unit::None, "Overruns of the queue while sending.").labels(DEVICE),
    counter("node_network_transmit_packets_total", Unit::None, "Packets sent.").labels(DEVICE).peak(),
    gauge("node_os_info", Unit::None, "Which distribution the host runs; always 1.").labels(OS).tier(Tier::Window),
    counter("node_pressure_cpu_waiting_seconds_total", Unit::Seconds, "Time in which some task waited for a CPU.")
        .decimals(6)
        .peak(),
    counter("node_pressure_io_stalled_seconds_total", Unit::Seconds, "Time in which no task got on for want of IO.")
        .decimals(6)
        .peak(),
    counter("node_pressure_io_waiting_seconds_total", Unit::Seconds, "Time in which some task waited for IO.")
        .decimals(6)
        .peak(),
    counter(
        "node_pressure_irq_stalled_seconds_total",
        Unit::Seconds,
        "Time in which no task got on because of interrupts.",
    )
    .decimals(6)
    .peak(),
    counter(
        "node_pressure_memory_stalled_seconds_total",
        Unit::Seconds,
        "Time in which no task got on for want of memory.",
    )
    .decimals(6)
    .peak(),
    counter("node_pressure_memory_waiting_seconds_total", Unit::Seconds, "Time in which some task waited for memory.")
        .decimals(6)
        .peak(),
    gauge("node_procs_blocked", Unit::None, "Tasks that wait for IO."),
    gauge("node_procs_running", Unit::None, "Tasks that run or want to."),
    gauge("node_scrape_collector_success", Unit::None, "Whether a collector read all it should.")
        .labels(&["collector"])
        .tier(Tier::Window),
    gauge("node_time_seconds", Unit::Seconds, "The host's wall clock, in seconds since the epoch.")
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_uname_info", Unit::None, "What the kernel calls itself and the host; always 1.")
        .labels(UNAME)
        .tier(Tier::Window),
    counter("node_vmstat_oom_kill", Unit::None, "Processes killed for want of memory."),
    counter("node_vmstat_pgfault", Unit::None, "Page faults."),
    counter("node_vmstat_pgmajfault", Unit::None, "Page faults that needed storage."),
    counter("node_vmstat_pgpgin", Unit::None, "KiB paged in from storage."),
    counter("node_vmstat_pgpgout", Unit::None, "KiB paged out to storage."),
    counter("node_vmstat_pswpin", Unit::None, "Pages swapped in."),
    counter("node_vmstat_pswpout", Unit::None, "Pages swapped out."),
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
const DEVICE: &[&str] = &["device"];
const FILESYSTEM: &[&str] = &["device", "fstype", "mountpoint"];
const OS: &[&str] = &[
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];
const UNAME: &[&str] = &["domainname", "machine", "nodename", "release", "sysname", "version"];

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

    /// What we say about ourselves: once a window is enough.
    const fn own(self) -> Self {
        Self { job: "lapwing", tier: Tier::Window, ..self }
    }

    /// Of a container or service, as cAdvisor emits it.
    const fn container(self) -> Self {
        Self { job: "cadvisor", labels: CONTAINER, ..self }
    }

    /// Of a group of processes, as process-exporter emits it.
    const fn group(self) -> Self {
        Self { job: "process", labels: GROUP, ..self }
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
