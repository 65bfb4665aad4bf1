//! Disks and file systems, as node_exporter names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
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
];

const DEVICE: &[&str] = &["device"];
const FILESYSTEM: &[&str] = &["device", "fstype", "mountpoint"];
