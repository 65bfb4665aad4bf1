//! `/sys/class/net`: whether network interfaces are up, how fast they are, and what they are.

use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::text;
use crate::host;
use crate::host::Roots;

const UP: &Metric = metric("node_network_up");
const SPEED: &Metric = metric("node_network_speed_bytes");
const INFO: &Metric = metric("node_network_info");

/// Files of an interface that hold a number.
const NUMBERS: [(&str, &Metric); 18] = [
    ("addr_assign_type", metric("node_network_address_assign_type")),
    ("carrier", metric("node_network_carrier")),
    ("carrier_changes", metric("node_network_carrier_changes_total")),
    ("carrier_down_count", metric("node_network_carrier_down_changes_total")),
    ("carrier_up_count", metric("node_network_carrier_up_changes_total")),
    ("dev_id", metric("node_network_device_id")),
    ("dormant", metric("node_network_dormant")),
    ("flags", metric("node_network_flags")),
    ("ifindex", metric("node_network_iface_id")),
    ("iflink", metric("node_network_iface_link")),
    ("link_mode", metric("node_network_iface_link_mode")),
    ("mtu", metric("node_network_mtu_bytes")),
    ("name_assign_type", metric("node_network_name_assign_type")),
    ("netdev_group", metric("node_network_net_dev_group")),
    ("speed", SPEED),
    ("statistics/rx_nohandler", metric("node_network_receive_nohandler_total")),
    ("tx_queue_len", metric("node_network_transmit_queue_length")),
    ("type", metric("node_network_protocol_type")),
];

/// Files of an interface whose text is a label.
const TEXTS: [&str; 5] = ["address", "broadcast", "duplex", "ifalias", "operstate"];

const BYTES_PER_MEGABIT: f64 = 125_000.0;

/// Network interfaces. To tell the speed of one, the kernel may have to wait until another is set up.
pub(in crate::collect) fn netclass(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/net");
    // A list of bonds stands among the interfaces.
    let is_interface = |path: &PathBuf| path.file_name().is_some_and(|name| name != "bonding_masters");
    devices("netclass", move || host::entries(&class, "").into_iter().filter(is_interface).collect(), visit)
}

fn visit(interface: &Path, visit: &mut Visit) {
    let Some(name) = interface.file_name() else { return };
    let device = Labels::new().with("device", name.to_string_lossy());
    if let Some(state) = visit.text(&interface.join("operstate")) {
        visit.put(UP, &device, f64::from(u8::from(state == "up")));
    }
    for (file, metric) in NUMBERS {
        let said = if visit.is_due(metric) { visit.text(&interface.join(file)) } else { None };
        match said.map(|text| number(text.as_bytes())) {
            Some(Some(value)) if metric == SPEED => visit.put(SPEED, &device, value * BYTES_PER_MEGABIT),
            Some(Some(value)) => visit.put(metric, &device, value),
            // A speed that is not known is -1.
            Some(None) if metric != SPEED => visit.malformed(file),
            _ => {}
        }
    }
    if visit.is_due(INFO) {
        let flags = visit.text(&interface.join("flags")).and_then(|flags| number(flags.as_bytes()));
        let texts = TEXTS.map(|file| (file, visit.text(&interface.join(file)).unwrap_or_default()));
        let said = device.with("adminstate", admin_state(flags)).and(&texts.into_iter().collect());
        visit.put(INFO, &said, 1.0);
    }
}

/// What the operator wants, told by the lowest flag.
fn admin_state(flags: Option<f64>) -> &'static str {
    match flags {
        None => "unknown",
        Some(flags) if flags % 2.0 == 1.0 => "up",
        Some(_) => "down",
    }
}

/// `1500`, `0x1303`.
#[expect(clippy::cast_precision_loss, reason = "above 2^53 the nearest float")]
pub(super) fn number(text: &[u8]) -> Option<f64> {
    let number = match text {
        [b'0', b'x', digits @ ..] => text::hexadecimal(digits),
        digits => text::number(digits),
    };
    number.map(|number| number as f64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_interface_says_what_it_can() {
        let check = |files: &[(&str, &str)], minute: bool, failed: bool, expect: &[&str]| {
            let directory = tempfile::tempdir().unwrap();
            let interface = directory.path().join("eth0");
            fs::create_dir_all(&interface).unwrap();
            for (file, text) in files {
                fs::write(interface.join(file), text).unwrap();
            }
            let mut told = Visit::new(minute);
            visit(&interface, &mut told);
            assert_eq!(
                (told.shown(), told.failed.is_some()),
                (expect.iter().map(|it| (*it).to_owned()).collect(), failed)
            );
        };
        let up = r#"node_network_up{device="eth0"} 1"#;
        let files = [("operstate", "up\n"), ("carrier", "1\n"), ("flags", "0x1003\n"), ("speed", "-1\n")];
        check(&files, false, false, &[up, r#"node_network_carrier{device="eth0"} 1"#]);
        check(
            &[("operstate", "lowerlayerdown\n"), ("flags", "0x1002\n"), ("speed", "1000\n"), ("ifalias", "a \"b\"\n")],
            true,
            false,
            &[
                r#"node_network_up{device="eth0"} 0"#,
                r#"node_network_flags{device="eth0"} 4098"#,
                r#"node_network_speed_bytes{device="eth0"} 125000000"#,
                r#"node_network_info{adminstate="down", device="eth0", ifalias="a \"b\"", operstate="lowerlayerdown"} 1"#,
            ],
        );
        check(&[("operstate", "up\n"), ("carrier", "x\n")], false, true, &[up]);
        check(&[("mtu", "1500\n")], false, false, &[]);
        check(&[], true, false, &[r#"node_network_info{adminstate="unknown", device="eth0"} 1"#]);
    }
}
