//! `/sys/fs/btrfs`: how space is allotted, and how long commits take.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::collect::text;
use crate::host;
use crate::host::ATTRIBUTE_BYTES_MAX;
use crate::host::Roots;

const INFO: &Metric = metric("node_btrfs_info");
const RESERVE: &Metric = metric("node_btrfs_global_rsv_size_bytes");
const DEVICE_SIZE: &Metric = metric("node_btrfs_device_size_bytes");
const RESERVED: &Metric = metric("node_btrfs_reserved_bytes");
const USED: &Metric = metric("node_btrfs_used_bytes");
const SIZE: &Metric = metric("node_btrfs_size_bytes");
const RATIO: &Metric = metric("node_btrfs_allocation_ratio");

/// Lines of `commit_stats`, which kernels before 6.0 do not have: zero there, as node_exporter has it.
const COMMITS: [(&str, &Metric, f64); 4] = [
    ("commits", metric("node_btrfs_commits_total"), 1.0),
    ("last_commit_ms", metric("node_btrfs_last_commit_seconds"), 1e-3),
    ("max_commit_ms", metric("node_btrfs_max_commit_seconds"), 1e-3),
    ("total_commit_ms", metric("node_btrfs_commit_seconds_total"), 1e-3),
];

const SECTOR_BYTES: f64 = 512.0;

/// Btrfs file systems.
pub(in crate::collect) fn btrfs(roots: &Roots) -> impl Collector + use<> {
    let mounted = roots.sysfs.join("fs/btrfs");
    // Beside the file systems stands `features`.
    let is_shown = |place: &std::path::PathBuf| place.join("allocation").exists();
    devices("btrfs", move || host::entries(&mounted, "").into_iter().filter(is_shown).collect(), visit)
}

fn visit(filesystem: &Path, visit: &mut Visit) {
    let uuid = visit.text(&filesystem.join("metadata_uuid")).or_else(|| name_behind(filesystem, ""));
    let labels = Labels::new().with("uuid", uuid.unwrap_or_default());
    let label = visit.text(&filesystem.join("label")).unwrap_or_default();
    visit.put(INFO, &labels.clone().with("label", label), 1.0);
    visit.put_number(RESERVE, &labels, &filesystem.join("allocation/global_rsv_size"), 1.0);

    let commits = visit.lines(&filesystem.join("commit_stats"), ATTRIBUTE_BYTES_MAX);
    for (name, metric, factor) in COMMITS {
        let value = commits.split(|byte| *byte == b'\n').find_map(|line| {
            let mut words = text::words(line);
            (words.next()? == name.as_bytes()).then(|| text::float(words.next()?))
        });
        match value.unwrap_or(Some(0.0)) {
            Some(value) => visit.put(metric, &labels, value * factor),
            None => visit.malformed("commit_stats"),
        }
    }

    let devices = host::entries(&filesystem.join("devices"), "");
    for device in &devices {
        let labels = labels.clone().with("device", name_behind(device, "").unwrap_or_default());
        visit.put_number(DEVICE_SIZE, &labels, &device.join("size"), SECTOR_BYTES);
    }
    for kind in ["data", "metadata", "system"] {
        let labels = labels.clone().with("block_group_type", kind);
        let place = filesystem.join("allocation").join(kind);
        visit.put_number(RESERVED, &labels, &place.join("bytes_reserved"), 1.0);
        for layout in host::entries(&place, "") {
            let mode = name_behind(&layout, "").unwrap_or_default();
            let Some(ratio) = allocation_ratio(&mode, devices.len()) else { continue };
            let labels = labels.clone().with("mode", mode);
            visit.put_number(USED, &labels, &layout.join("used_bytes"), 1.0);
            visit.put_number(SIZE, &labels, &layout.join("total_bytes"), 1.0);
            visit.put(RATIO, &labels, ratio);
        }
    }
}

/// Bytes on disk for each byte kept. What is no layout is one of the files beside them.
fn allocation_ratio(mode: &str, devices: usize) -> Option<f64> {
    let devices = f64::from(u32::try_from(devices).ok()?);
    match mode {
        "single" | "raid0" => Some(1.0),
        "dup" | "raid1" | "raid10" => Some(2.0),
        "raid1c3" => Some(3.0),
        "raid1c4" => Some(4.0),
        "raid5" => Some(devices / (devices - 1.0)),
        "raid6" => Some(devices / (devices - 2.0)),
        _ => None,
    }
}
