//! `/sys/class/nvme`: what drives there are, and how full their namespaces are.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::host;
use crate::host::Roots;

const INFO: &Metric = metric("node_nvme_info");
const NAMESPACE: &Metric = metric("node_nvme_namespace_info");
const BLOCK_BYTES: &Metric = metric("node_nvme_namespace_logical_block_size_bytes");
const CAPACITY: &Metric = metric("node_nvme_namespace_capacity_bytes");
const SIZE: &Metric = metric("node_nvme_namespace_size_bytes");
const USED: &Metric = metric("node_nvme_namespace_used_bytes");

/// Label and file of what a drive says about itself.
const SAID: [(&str, &str); 5] = [
    ("cntlid", "cntlid"),
    ("firmware_revision", "firmware_rev"),
    ("model", "model"),
    ("serial", "serial"),
    ("state", "state"),
];

/// NVMe drives.
pub(in crate::collect) fn nvme(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/nvme");
    devices("nvme", move || host::entries(&class, "nvme"), visit)
}

fn visit(drive: &Path, visit: &mut Visit) {
    let Some(name) = name_behind(drive, "") else { return };
    let labels = Labels::new().with("device", name.as_str());
    let said = SAID.map(|(label, file)| (label, visit.text(&drive.join(file)).unwrap_or_default()));
    visit.put(INFO, &said.into_iter().fold(labels.clone(), |labels, (label, text)| labels.with(label, text)), 1.0);
    for place in host::entries(drive, &name) {
        // `nvme0n1`, and `nvme0c0n1` where a namespace is reached by several paths.
        let id = place.file_name().and_then(|name| name.to_str()?.rsplit_once('n').map(|(_, id)| id.to_owned()));
        let Some(id) = id.filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let labels = labels.clone().with("nsid", id);
        let state = visit.text(&place.join("ana_state")).unwrap_or_else(|| "unknown".to_owned());
        visit.put(NAMESPACE, &labels.clone().with("ana_state", state), 1.0);
        let Some(block) = visit.number(&place.join("queue/logical_block_size")) else { continue };
        visit.put(BLOCK_BYTES, &labels, block);
        visit.put_number(CAPACITY, &labels, &place.join("size"), block);
        visit.put_number(SIZE, &labels, &place.join("size"), block);
        visit.put_number(USED, &labels, &place.join("nuse"), block);
    }
}
