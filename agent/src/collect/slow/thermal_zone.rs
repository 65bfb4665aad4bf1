//! `/sys/class/thermal`: zones with their temperature, and how far devices are throttled.

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

const TEMPERATURE: &Metric = metric("node_thermal_zone_temp");
const STATE: &Metric = metric("node_cooling_device_cur_state");
const LARGEST_STATE: &Metric = metric("node_cooling_device_max_state");

const ZONE: &str = "thermal_zone";
const COOLING: &str = "cooling_device";

/// Thermal zones and cooling devices.
pub(in crate::collect) fn thermal_zone(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/thermal");
    devices("thermal_zone", move || [ZONE, COOLING].iter().flat_map(|it| host::entries(&class, it)).collect(), visit)
}

fn visit(device: &Path, visit: &mut Visit) {
    let kind = visit.text(&device.join("type")).unwrap_or_default();
    let labels = Labels::new().with("type", kind);
    if let Some(zone) = name_behind(device, ZONE) {
        visit.put_number(TEMPERATURE, &labels.with("zone", zone), &device.join("temp"), 1e-3);
    } else if let Some(name) = name_behind(device, COOLING) {
        let labels = labels.with("name", name);
        visit.put_number(STATE, &labels, &device.join("cur_state"), 1.0);
        visit.put_number(LARGEST_STATE, &labels, &device.join("max_state"), 1.0);
    }
}
