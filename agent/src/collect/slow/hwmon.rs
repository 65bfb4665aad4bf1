//! `/sys/class/hwmon`: temperatures, fans, voltages and what else sensor chips say, as node_exporter names it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::host;
use crate::host::Roots;

const CHIP: &Metric = metric("node_hwmon_chip_names");
const LABEL: &Metric = metric("node_hwmon_sensor_label");

/// What a chip may have; node_exporter's list.
const KINDS: &[&str] = &[
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// Sensor chips.
pub(in crate::collect) fn hwmon(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/hwmon");
    devices("hwmon", move || host::entries(&class, ""), visit)
}

fn visit(chip: &Path, visit: &mut Visit) {
    let Some(name) = chip_label(chip) else { return };
    let labels = Labels::new().with("chip", name);
    if let Some(name) = visit.text(&chip.join("name")).map(|name| clean(&name)).filter(|name| !name.is_empty()) {
        visit.put(CHIP, &labels.clone().with("chip_name", name), 1.0);
    }
    let files = [chip.to_owned(), chip.join("device")].into_iter().flat_map(|place| host::entries(&place, ""));
    let mut sensors: BTreeMap<String, Sensor> = BTreeMap::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((kind, number, element)) = parse_name(&name) else { continue };
        let sensor = sensors.entry(format!("{kind}{number}")).or_insert_with(|| Sensor::of(kind));
        sensor.elements.entry(element.to_owned()).or_insert(path);
    }
    for (name, sensor) in &sensors {
        sensor.visit(name, &labels, visit);
    }
}

struct Sensor {
    kind: &'static str,
    /// The files of each: `input`, `max`, `crit_alarm`, …
    elements: BTreeMap<String, PathBuf>,
}

impl Sensor {
    const fn of(kind: &'static str) -> Self {
        Self { kind, elements: BTreeMap::new() }
    }

    fn visit(&self, name: &str, chip: &Labels, visit: &mut Visit) {
        let labels = chip.clone().with("sensor", name);
        let label = self.elements.get("label").and_then(|path| visit.text(path));
        if let Some(label) = &label {
            visit.put(LABEL, &labels.clone().with("label", label.as_str()), 1.0);
        }
        for (element, path) in self.elements.iter().filter(|(element, _)| *element != "label") {
            // Some drivers have words among their numbers.
            let Some(value) = visit.text(path).and_then(|text| text.parse::<f64>().ok()) else { continue };
            let (name, factor) = meaning(self.kind, element, self.elements.contains_key(""));
            match &label {
                // Frequencies are told apart by what they are of.
                Some(label) if self.kind == "freq" && element == "input" => {
                    visit.put_named(&name, &chip.clone().with("sensor", clean(label)), value * factor);
                }
                None if self.kind == "freq" && element == "input" => {}
                _ => visit.put_named(&name, &labels, value * factor),
            }
        }
    }
}

/// `temp1_crit_alarm`: kind, number, element.
pub(super) fn parse_name(name: &str) -> Option<(&'static str, u32, &str)> {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(digits);
    let kind = KINDS.iter().find(|known| **known == kind)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, element) = rest.split_at(end);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    let element =
        if element.is_empty() { "" } else { element.strip_prefix('_').filter(|element| !element.is_empty())? };
    Some((kind, number, element))
}

/// A metric's name, and what its values are multiplied by: the kernel counts in thousandths and millionths.
fn meaning(kind: &str, element: &str, has_plain_value: bool) -> (String, f64) {
    const MILLI: f64 = 1e-3;
    const MICRO: f64 = 1e-6;
    let named = match (kind, element) {
        ("beep_enable", _) => return ("node_hwmon_beep_enabled".to_owned(), 1.0),
        ("vrm", _) => return ("node_hwmon_voltage_regulator_version".to_owned(), 1.0),
        ("update_interval", _) => return ("node_hwmon_update_interval_seconds".to_owned(), MILLI),
        ("freq", "input") => return ("node_hwmon_freq_freq_mhz".to_owned(), MICRO),
        (_, "input") if has_plain_value => format!("node_hwmon_{kind}_input"),
        (_, "" | "input") => format!("node_hwmon_{kind}"),
        _ => format!("node_hwmon_{kind}_{}", clean(element)),
    };
    let (unit, factor) = match (kind, element) {
        (_, "fault" | "alarm") => ("", 1.0),
        (_, "beep") => ("_enabled", 1.0),
        ("in" | "cpu", _) => ("_volts", MILLI),
        ("temp", "type") => ("", 1.0),
        ("temp", _) => ("_celsius", MILLI),
        ("curr", _) => ("_amps", MILLI),
        ("energy", _) => ("_joule_total", MICRO),
        ("humidity", _) | ("power", "accuracy") => ("", MICRO),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => ("_seconds", MILLI),
        ("power", _) => ("_watt", MICRO),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", 1.0),
        _ => ("", 1.0),
    };
    (named + unit, factor)
}

/// What a chip is called: by its device, whose place is stable; chips of one device are told apart.
fn chip_label(chip: &Path) -> Option<String> {
    let base = base_label(chip)?;
    let twins: Vec<PathBuf> = host::entries(chip.parent()?, "")
        .into_iter()
        .filter(|other| other != chip && base_label(other).as_ref() == Some(&base))
        .collect();
    if twins.is_empty() {
        return Some(base);
    }
    let own = name_of(chip);
    let apart = Some(clean(&own)).filter(|name| !name.is_empty() && twins.iter().all(|twin| name_of(twin) != own));
    Some(format!("{base}_{}", apart.or_else(|| last_part(chip))?))
}

fn base_label(chip: &Path) -> Option<String> {
    if let Some(device) = host::resolve(&chip.join("device")) {
        let parts = [device.parent().and_then(last_part), last_part(&device)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            return Some(parts.join("_"));
        }
    }
    let name = Some(clean(&name_of(chip))).filter(|name| !name.is_empty());
    name.or_else(|| last_part(&host::resolve(chip)?))
}

fn name_of(chip: &Path) -> String {
    let name = host::read_attribute(&chip.join("name")).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&name).trim().to_owned()
}

fn last_part(path: &Path) -> Option<String> {
    Some(clean(&path.file_name()?.to_string_lossy())).filter(|name| !name.is_empty())
}

/// As part of a metric's name: small letters, digits, colons and underscores, none at the ends.
fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '_');
    let replaced: String = name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    replaced.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kind_number_and_element() {
        let check = |name: &str, expect: Option<(&str, u32, &str)>| assert_eq!(parse_name(name), expect, "{name}");
        check("temp1_input", Some(("temp", 1, "input")));
        check("temp12_crit_alarm", Some(("temp", 12, "crit_alarm")));
        check("pwm1", Some(("pwm", 1, "")));
        check("vrm", Some(("vrm", 0, "")));
        check("beep_enable", Some(("beep_enable", 0, "")));
        check("power1_average_interval", Some(("power", 1, "average_interval")));
        check("name", None);
        check("temp1x", None);
        check("temp1_", None);
        check("temp99999999999_input", None);
        check("temperature1_input", None);
        check("1", None);
        check("", None);
    }

    #[test]
    fn a_name_says_its_unit() {
        let check = |kind: &str, element: &str, has_plain_value: bool, expect: (&str, f64)| {
            let (name, factor) = meaning(kind, element, has_plain_value);
            assert_eq!((name.as_str(), factor), expect, "{kind} {element}");
        };
        check("temp", "input", false, ("node_hwmon_temp_celsius", 1e-3));
        check("temp", "crit_alarm", false, ("node_hwmon_temp_crit_alarm_celsius", 1e-3));
        check("temp", "alarm", false, ("node_hwmon_temp_alarm", 1.0));
        check("temp", "type", false, ("node_hwmon_temp_type", 1.0));
        check("in", "beep", false, ("node_hwmon_in_beep_enabled", 1.0));
        check("fan", "min", false, ("node_hwmon_fan_min_rpm", 1.0));
        check("fan", "pulses", false, ("node_hwmon_fan_pulses", 1.0));
        check("pwm", "", true, ("node_hwmon_pwm", 1.0));
        check("fan", "input", true, ("node_hwmon_fan_input_rpm", 1.0));
        check("power", "average", false, ("node_hwmon_power_average_watt", 1e-6));
        check("power", "average_interval", false, ("node_hwmon_power_average_interval_seconds", 1e-3));
        check("energy", "input", false, ("node_hwmon_energy_joule_total", 1e-6));
        check("humidity", "input", false, ("node_hwmon_humidity", 1e-6));
        check("curr", "Max-Amps", false, ("node_hwmon_curr_max_amps_amps", 1e-3));
    }
}
