//! `/sys/class/net/MASTER/bonding`: how many interfaces a bond has, and how many of them work.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::host;
use crate::host::Roots;

const SLAVES: &Metric = metric("node_bonding_slaves");
const ACTIVE: &Metric = metric("node_bonding_active");

/// Bonded network interfaces.
pub(in crate::collect) fn bonding(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/net");
    devices("bonding", move || host::entries(&class, "bonding_masters"), visit)
}

fn visit(masters: &Path, visit: &mut Visit) {
    let Some(class) = masters.parent() else { return };
    for master in visit.text(masters).unwrap_or_default().split_whitespace() {
        let slaves = visit.text(&class.join(master).join("bonding/slaves")).unwrap_or_default();
        let (mut all, mut active) = (0_u32, 0_u32);
        for slave in slaves.split_whitespace() {
            // Kernels before 3.9 have the prefix `slave_`.
            let places = ["lower_", "slave_"].map(|prefix| class.join(master).join(format!("{prefix}{slave}")));
            let mut states = places.iter().filter_map(|place| visit.text(&place.join("bonding_slave/mii_status")));
            all += 1;
            active += u32::from(states.next().is_some_and(|state| state == "up"));
        }
        let labels = Labels::new().with("master", master);
        visit.put(SLAVES, &labels, f64::from(all));
        visit.put(ACTIVE, &labels, f64::from(active));
    }
}
