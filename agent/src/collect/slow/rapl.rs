//! `/sys/class/powercap`: energy that the processor's parts used. Only root may read it on kernels since 5.10.

use std::path::Path;

use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::host;
use crate::host::Roots;

/// The processor's power zones.
pub(in crate::collect) fn rapl(roots: &Roots) -> impl Collector + use<> {
    let class = roots.sysfs.join("class/powercap");
    devices("rapl", move || host::entries(&class, "intel-rapl:"), visit)
}

fn visit(zone: &Path, visit: &mut Visit) {
    let Some(name) = visit.text(&zone.join("name")) else { return };
    let numbered = name.rsplit_once('-').and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)));
    let (name, index) = numbered.unwrap_or_else(|| (name.as_str(), twins_before(zone, &name)));
    let labels = Labels::new().with("index", index.to_string()).with("path", zone.to_string_lossy().into_owned());
    let energy = visit.text_if_allowed(&zone.join("energy_uj"));
    if let Some(microjoules) = energy.and_then(|text| text.parse::<f64>().ok()) {
        visit.put_named_counter(
            &format!("node_rapl_{}_joules_total", name.replace('-', "_")),
            &labels,
            microjoules * 1e-6,
        );
    }
}

/// Zones of the same name are counted in the order of their directories.
fn twins_before(zone: &Path, name: &str) -> u32 {
    let zones = zone.parent().map(|class| host::entries(class, "")).unwrap_or_default();
    let named = |other: &&std::path::PathBuf| {
        let read = host::read_attribute(&other.join("name")).ok().flatten();
        read.is_some_and(|other| other == name.as_bytes())
    };
    let before = zones.iter().take_while(|other| *other != zone).filter(named).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}
