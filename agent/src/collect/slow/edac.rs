//! `/sys/devices/system/edac/mc`: memory errors, corrected and not, by controller, row and channel.

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

/// Corrected errors (`ce`) and others (`ue`), each: of a controller, of a row, of a channel.
const KINDS: [(&str, [&Metric; 3]); 2] = [
    (
        "ce",
        [
            metric("node_edac_correctable_errors_total"),
            metric("node_edac_csrow_correctable_errors_total"),
            metric("node_edac_channel_correctable_errors_total"),
        ],
    ),
    (
        "ue",
        [
            metric("node_edac_uncorrectable_errors_total"),
            metric("node_edac_csrow_uncorrectable_errors_total"),
            metric("node_edac_channel_uncorrectable_errors_total"),
        ],
    ),
];

/// Memory controllers.
pub(in crate::collect) fn edac(roots: &Roots) -> impl Collector + use<> {
    let controllers = roots.sysfs.join("devices/system/edac/mc");
    devices("edac", move || host::entries(&controllers, "mc"), visit)
}

fn visit(controller: &Path, visit: &mut Visit) {
    let Some(number) = name_behind(controller, "mc") else { return };
    let labels = Labels::new().with("controller", number);
    for (kind, [of_controller, of_row, _]) in KINDS {
        visit.put_number(of_controller, &labels, &controller.join(format!("{kind}_count")), 1.0);
        let unknown = labels.clone().with("csrow", "unknown");
        visit.put_number(of_row, &unknown, &controller.join(format!("{kind}_noinfo_count")), 1.0);
    }
    for row in host::entries(controller, "csrow") {
        let labels = labels.clone().with("csrow", name_behind(&row, "csrow").unwrap_or_default());
        for (kind, [_, of_row, _]) in KINDS {
            visit.put_number(of_row, &labels, &row.join(format!("{kind}_count")), 1.0);
        }
        for counts in host::entries(&row, "ch") {
            let channel = name_behind(&counts, "ch").and_then(|rest| rest.strip_suffix("_ce_count").map(str::to_owned));
            let Some(channel) = channel else { continue };
            let label =
                visit.text(&row.join(format!("ch{channel}_dimm_label"))).unwrap_or_else(|| "unknown".to_owned());
            let labels = labels.clone().with("channel", channel.as_str()).with("dimm_label", dimm_label(&label));
            for (kind, [_, _, of_channel]) in KINDS {
                visit.put_number(of_channel, &labels, &row.join(format!("ch{channel}_{kind}_count")), 1.0);
            }
        }
    }
}

/// `mc#0csrow#1channel#0` becomes `mc0_csrow1_channel0`.
fn dimm_label(label: &str) -> String {
    label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel")
}
