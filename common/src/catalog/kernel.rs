//! CPU, memory and the kernel at large, as node_exporter names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    gauge("node_boot_time_seconds", Unit::Seconds, "When the host started, in seconds since the epoch."),
    counter("node_context_switches_total", Unit::None, "Context switches."),
    counter("node_cpu_core_throttles_total", Unit::None, "Times at which the core was too hot.")
        .labels(&["core", "package"])
        .tier(Tier::Minute),
    gauge("node_cpu_frequency_hertz", Unit::None, "How fast the core runs.")
        .labels(&["core", "cpu", "package"])
        .tier(Tier::Minute),
    gauge("node_cpu_frequency_max_hertz", Unit::None, "How fast the core can run.").labels(CPU).tier(Tier::Minute),
    gauge("node_cpu_frequency_min_hertz", Unit::None, "How slowly the core can run.").labels(CPU).tier(Tier::Minute),
    counter("node_cpu_guest_seconds_total", Unit::Seconds, "CPU time of guests, which user and nice hold already.")
        .labels(&["cpu", "mode"])
        .decimals(2)
        .peak(),
    gauge("node_cpu_info", Unit::None, "What the core is; always 1.").labels(CPU_INFO).tier(Tier::Minute),
    gauge("node_cpu_isolated", Unit::None, "Cores that the scheduler leaves alone; always 1.")
        .labels(CPU)
        .tier(Tier::Minute),
    gauge("node_cpu_online", Unit::None, "Whether the core is in use.").labels(CPU).tier(Tier::Minute),
    counter("node_cpu_package_throttles_total", Unit::None, "Times at which the package was too hot.")
        .labels(&["package"])
        .tier(Tier::Minute),
    gauge("node_cpu_scaling_frequency_hertz", Unit::None, "How fast the core runs, as the driver believes.")
        .labels(CPU)
        .tier(Tier::Minute),
    gauge("node_cpu_scaling_frequency_max_hertz", Unit::None, "How fast the core may run.")
        .labels(CPU)
        .tier(Tier::Minute),
    gauge("node_cpu_scaling_frequency_min_hertz", Unit::None, "How slowly the core may run.")
        .labels(CPU)
        .tier(Tier::Minute),
    gauge("node_cpu_scaling_governor", Unit::None, "Which governor is in force, of those there are.")
        .labels(&["cpu", "governor"])
        .tier(Tier::Minute),
    counter("node_cpu_seconds_total", Unit::Seconds, "CPU time by core and mode.")
        .labels(&["cpu", "mode"])
        .decimals(2)
        .peak(),
    gauge("node_entropy_available_bits", Unit::None, "Entropy in the pool.").tier(Tier::Window),
    gauge("node_entropy_pool_size_bits", Unit::None, "Size of the entropy pool.").tier(Tier::Window),
    gauge("node_filefd_allocated", Unit::None, "Files that are open.").tier(Tier::Window),
    gauge("node_filefd_maximum", Unit::None, "Files that may be open.").tier(Tier::Window),
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
    gauge("node_processes_max_processes", Unit::None, "Numbers that processes and threads may have.")
        .tier(Tier::Minute),
    gauge("node_processes_max_threads", Unit::None, "Threads that the host may have.").tier(Tier::Minute),
    gauge("node_processes_pids", Unit::None, "Processes.").tier(Tier::Window),
    gauge("node_processes_state", Unit::None, "Processes by the letter of their state.")
        .labels(&["state"])
        .tier(Tier::Window),
    gauge("node_processes_threads", Unit::None, "Threads.").tier(Tier::Window),
    gauge("node_procs_blocked", Unit::None, "Tasks that wait for IO."),
    gauge("node_procs_running", Unit::None, "Tasks that run or want to."),
    counter("node_schedstat_running_seconds_total", Unit::Seconds, "Time in which tasks ran on the core.")
        .labels(CPU)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_schedstat_timeslices_total", Unit::None, "Turns that tasks had on the core.")
        .labels(CPU)
        .tier(Tier::Window),
    counter("node_schedstat_waiting_seconds_total", Unit::Seconds, "Time in which tasks waited for the core.")
        .labels(CPU)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_softirqs_total", Unit::None, "Softirqs served by kind.").labels(&["vector"]),
    counter("node_systemd_service_restart_total", Unit::None, "Times that systemd restarted a service.")
        .labels(&["name"])
        .tier(Tier::Minute),
    gauge("node_systemd_system_running", Unit::None, "Whether all units are as they should be.").tier(Tier::Minute),
    gauge(
        "node_systemd_timer_last_trigger_seconds",
        Unit::Seconds,
        "When a timer ran last, in seconds since the epoch.",
    )
    .labels(&["name"])
    .decimals(6)
    .tier(Tier::Minute),
    gauge(
        "node_systemd_unit_state",
        Unit::None,
        "Whether a unit is in that state. Without systemd's bus: services that run, `active`, alone.",
    )
    .labels(&["name", "state", "type"])
    .tier(Tier::Minute),
    gauge("node_systemd_units", Unit::None, "Units by state.").labels(&["state"]).tier(Tier::Minute),
    gauge("node_systemd_version", Unit::None, "systemd's version.").labels(&["version"]).decimals(3).tier(Tier::Minute),
    gauge("node_textfile_mtime_seconds", Unit::Seconds, "When a textfile was written, in seconds since the epoch.")
        .labels(&["file"])
        .tier(Tier::Window),
    gauge("node_textfile_scrape_error", Unit::None, "Whether a textfile could not be read.").tier(Tier::Window),
    gauge(
        "node_time_clocksource_available_info",
        Unit::None,
        "Clocks that the kernel could take the time from; always 1.",
    )
    .labels(CLOCK)
    .tier(Tier::Minute),
    gauge("node_time_clocksource_current_info", Unit::None, "The clock that the kernel takes the time from; always 1.")
        .labels(CLOCK)
        .tier(Tier::Minute),
    gauge("node_time_seconds", Unit::Seconds, "The host's wall clock, in seconds since the epoch.")
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_timex_estimated_error_seconds", Unit::Seconds, "Error of the clock that is likely.")
        .decimals(6)
        .tier(Tier::Window),
    gauge(
        "node_timex_frequency_adjustment_ratio",
        Unit::Ratio,
        "How fast the clock is made to run; 1 is its own pace.",
    )
    .decimals(9)
    .tier(Tier::Window),
    gauge("node_timex_loop_time_constant", Unit::None, "Time constant of the loop that steers the clock.")
        .tier(Tier::Window),
    gauge("node_timex_maxerror_seconds", Unit::Seconds, "Largest error of the clock that may be.")
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_timex_offset_seconds", Unit::Seconds, "How far the clock is from its reference.")
        .decimals(9)
        .tier(Tier::Window),
    counter("node_timex_pps_calibration_total", Unit::None, "Intervals in which the pulse per second was calibrated.")
        .tier(Tier::Window),
    counter("node_timex_pps_error_total", Unit::None, "Calibrations of the pulse per second that failed.")
        .tier(Tier::Window),
    gauge("node_timex_pps_frequency_hertz", Unit::None, "Frequency of the pulse per second.")
        .decimals(9)
        .tier(Tier::Window),
    gauge("node_timex_pps_jitter_seconds", Unit::Seconds, "Jitter of the pulse per second.")
        .decimals(9)
        .tier(Tier::Window),
    counter(
        "node_timex_pps_jitter_total",
        Unit::None,
        "Times at which the jitter of the pulse per second was too large.",
    )
    .tier(Tier::Window),
    gauge("node_timex_pps_shift_seconds", Unit::Seconds, "Length of the interval of the pulse per second.")
        .tier(Tier::Window),
    counter(
        "node_timex_pps_stability_exceeded_total",
        Unit::None,
        "Times at which the pulse per second was not stable enough.",
    )
    .tier(Tier::Window),
    gauge("node_timex_pps_stability_hertz", Unit::None, "How stable the pulse per second is.")
        .decimals(9)
        .tier(Tier::Window),
    gauge("node_timex_status", Unit::None, "Status bits of the clock.").tier(Tier::Window),
    gauge("node_timex_sync_status", Unit::None, "Whether something keeps the clock right.").tier(Tier::Window),
    gauge("node_timex_tai_offset_seconds", Unit::Seconds, "How far atomic time is ahead.").tier(Tier::Window),
    gauge("node_timex_tick_seconds", Unit::Seconds, "Length of a tick of the clock.").decimals(6).tier(Tier::Window),
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

const CLOCK: &[&str] = &["clocksource", "device"];
const CPU: &[&str] = &["cpu"];
const CPU_INFO: &[&str] =
    &["cachesize", "core", "cpu", "family", "microcode", "model", "model_name", "package", "stepping", "vendor"];
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
