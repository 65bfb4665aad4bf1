//! `/sys/class/dmi/id`: what machine this is.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::host;
use crate::host::Roots;

const INFO: &Metric = metric("node_dmi_info");

/// Files that are labels of the same name, and one that is not. Serial numbers and the machine's id only root may read.
const SAID: &[&str] = &[
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

/// The machine.
pub(in crate::collect) fn dmi(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/dmi");
    devices("dmi", move || host::entries(&class, "id"), visit)
}

fn visit(machine: &Path, visit: &mut Visit) {
    let mut labels = Labels::new();
    for file in SAID {
        let label = if *file == "sys_vendor" { "system_vendor" } else { file };
        labels.set(label, visit.text_if_allowed(&machine.join(file)).unwrap_or_default());
    }
    if !labels.is_empty() {
        visit.put(INFO, &labels, 1.0);
    }
}
