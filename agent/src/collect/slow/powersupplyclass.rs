//! `/sys/class/power_supply`: mains and batteries.

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

const INFO: &Metric = metric("node_power_supply_info");

/// Files that are labels of the same name.
const SAID: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

/// What the kernel counts in whole units, millionths and tenths: file and metric.
const PLAIN: [(&str, &Metric); 10] = [
    ("authentic", metric("node_power_supply_authentic")),
    ("calibrate", metric("node_power_supply_calibrate")),
    ("capacity", metric("node_power_supply_capacity")),
    ("capacity_alert_max", metric("node_power_supply_capacity_alert_max")),
    ("capacity_alert_min", metric("node_power_supply_capacity_alert_min")),
    ("cycle_count", metric("node_power_supply_cyclecount")),
    ("online", metric("node_power_supply_online")),
    ("present", metric("node_power_supply_present")),
    ("time_to_empty_now", metric("node_power_supply_time_to_empty_seconds")),
    ("time_to_full_now", metric("node_power_supply_time_to_full_seconds")),
];
const MILLIONTHS: [(&str, &Metric); 31] = [
    ("charge_control_limit", metric("node_power_supply_charge_control_limit")),
    ("charge_control_limit_max", metric("node_power_supply_charge_control_limit_max")),
    ("charge_counter", metric("node_power_supply_charge_counter")),
    ("charge_empty", metric("node_power_supply_charge_empty")),
    ("charge_empty_design", metric("node_power_supply_charge_empty_design")),
    ("charge_full", metric("node_power_supply_charge_full")),
    ("charge_full_design", metric("node_power_supply_charge_full_design")),
    ("charge_now", metric("node_power_supply_charge_ampere")),
    ("charge_term_current", metric("node_power_supply_charge_term_current")),
    ("constant_charge_current", metric("node_power_supply_constant_charge_current")),
    ("constant_charge_current_max", metric("node_power_supply_constant_charge_current_max")),
    ("constant_charge_voltage", metric("node_power_supply_constant_charge_voltage")),
    ("constant_charge_voltage_max", metric("node_power_supply_constant_charge_voltage_max")),
    ("current_boot", metric("node_power_supply_current_boot")),
    ("current_max", metric("node_power_supply_current_max")),
    ("current_now", metric("node_power_supply_current_ampere")),
    ("energy_empty", metric("node_power_supply_energy_empty")),
    ("energy_empty_design", metric("node_power_supply_energy_empty_design")),
    ("energy_full", metric("node_power_supply_energy_full")),
    ("energy_full_design", metric("node_power_supply_energy_full_design")),
    ("energy_now", metric("node_power_supply_energy_watthour")),
    ("input_current_limit", metric("node_power_supply_input_current_limit")),
    ("power_now", metric("node_power_supply_power_watt")),
    ("precharge_current", metric("node_power_supply_precharge_current")),
    ("voltage_boot", metric("node_power_supply_voltage_boot")),
    ("voltage_max", metric("node_power_supply_voltage_max")),
    ("voltage_max_design", metric("node_power_supply_voltage_max_design")),
    ("voltage_min", metric("node_power_supply_voltage_min")),
    ("voltage_min_design", metric("node_power_supply_voltage_min_design")),
    ("voltage_now", metric("node_power_supply_voltage_volt")),
    ("voltage_ocv", metric("node_power_supply_voltage_ocv")),
];
const TENTHS: [(&str, &Metric); 8] = [
    ("temp", metric("node_power_supply_temp_celsius")),
    ("temp_alert_max", metric("node_power_supply_temp_alert_max_celsius")),
    ("temp_alert_min", metric("node_power_supply_temp_alert_min_celsius")),
    ("temp_ambient", metric("node_power_supply_temp_ambient_celsius")),
    ("temp_ambient_max", metric("node_power_supply_temp_ambient_max_celsius")),
    ("temp_ambient_min", metric("node_power_supply_temp_ambient_min_celsius")),
    ("temp_max", metric("node_power_supply_temp_max_celsius")),
    ("temp_min", metric("node_power_supply_temp_min_celsius")),
];

/// Mains and batteries.
pub(in crate::collect) fn powersupplyclass(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/power_supply");
    devices("powersupplyclass", move || host::entries(&class, ""), visit)
}

fn visit(supply: &Path, visit: &mut Visit) {
    let labels = Labels::new().with("power_supply", name_behind(supply, "").unwrap_or_default());
    let said = SAID.map(|file| (file, visit.text(&supply.join(file)).unwrap_or_default()));
    visit.put(INFO, &said.into_iter().fold(labels.clone(), |labels, (file, text)| labels.with(file, text)), 1.0);
    let groups: [(&[(&str, &'static Metric)], f64); 3] = [(&PLAIN, 1.0), (&MILLIONTHS, 1e-6), (&TENTHS, 0.1)];
    for (files, factor) in groups {
        for (file, metric) in files {
            visit.put_number(metric, &labels, &supply.join(file), factor);
        }
    }
}
