//! `/sys/fs/xfs/DEVICE/stats`: what an XFS file system did.

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

/// Lines of the file, and what their columns mean.
const LINES: &[(&str, &[&Metric])] = &[
    (
        "extent_alloc",
        &[
            metric("node_xfs_extent_allocation_extents_allocated_total"),
            metric("node_xfs_extent_allocation_blocks_allocated_total"),
            metric("node_xfs_extent_allocation_extents_freed_total"),
            metric("node_xfs_extent_allocation_blocks_freed_total"),
        ],
    ),
    (
        "abt",
        &[
            metric("node_xfs_allocation_btree_lookups_total"),
            metric("node_xfs_allocation_btree_compares_total"),
            metric("node_xfs_allocation_btree_records_inserted_total"),
            metric("node_xfs_allocation_btree_records_deleted_total"),
        ],
    ),
    (
        "blk_map",
        &[
            metric("node_xfs_block_mapping_reads_total"),
            metric("node_xfs_block_mapping_writes_total"),
            metric("node_xfs_block_mapping_unmaps_total"),
            metric("node_xfs_block_mapping_extent_list_insertions_total"),
            metric("node_xfs_block_mapping_extent_list_deletions_total"),
            metric("node_xfs_block_mapping_extent_list_lookups_total"),
            metric("node_xfs_block_mapping_extent_list_compares_total"),
        ],
    ),
    (
        "bmbt",
        &[
            metric("node_xfs_block_map_btree_lookups_total"),
            metric("node_xfs_block_map_btree_compares_total"),
            metric("node_xfs_block_map_btree_records_inserted_total"),
            metric("node_xfs_block_map_btree_records_deleted_total"),
        ],
    ),
    (
        "dir",
        &[
            metric("node_xfs_directory_operation_lookup_total"),
            metric("node_xfs_directory_operation_create_total"),
            metric("node_xfs_directory_operation_remove_total"),
            metric("node_xfs_directory_operation_getdents_total"),
        ],
    ),
    (
        "ig",
        &[
            metric("node_xfs_inode_operation_attempts_total"),
            metric("node_xfs_inode_operation_found_total"),
            metric("node_xfs_inode_operation_recycled_total"),
            metric("node_xfs_inode_operation_missed_total"),
            metric("node_xfs_inode_operation_duplicates_total"),
            metric("node_xfs_inode_operation_reclaims_total"),
            metric("node_xfs_inode_operation_attribute_changes_total"),
        ],
    ),
    ("rw", &[metric("node_xfs_write_calls_total"), metric("node_xfs_read_calls_total")]),
    (
        "vnodes",
        &[
            metric("node_xfs_vnode_active_total"),
            metric("node_xfs_vnode_allocate_total"),
            metric("node_xfs_vnode_get_total"),
            metric("node_xfs_vnode_hold_total"),
            metric("node_xfs_vnode_release_total"),
            metric("node_xfs_vnode_reclaim_total"),
            metric("node_xfs_vnode_remove_total"),
        ],
    ),
];

/// XFS file systems.
pub(in crate::collect) fn xfs(roots: &Roots) -> impl Collector + use<> {
    let mounted = roots.sysfs.join("fs/xfs");
    // Beside the file systems stand `debug`, and `stats` of all together.
    let of_all = ["debug", "stats"].map(|name| mounted.join(name));
    devices("xfs", move || host::entries(&mounted, "").into_iter().filter(|it| !of_all.contains(it)).collect(), visit)
}

fn visit(filesystem: &Path, visit: &mut Visit) {
    let labels = Labels::new().with("device", name_behind(filesystem, "").unwrap_or_default());
    let stats = visit.lines(&filesystem.join("stats/stats"), ATTRIBUTE_BYTES_MAX);
    for line in text::lines(&stats) {
        let mut words = text::words(line);
        let name = words.next().unwrap_or_default();
        let Some((_, metrics)) = LINES.iter().find(|(known, _)| known.as_bytes() == name) else { continue };
        for (metric, number) in metrics.iter().zip(words) {
            visit.put_word(metric, &labels, number, "xfs/stats");
        }
    }
}
