//! `/sys/devices/system/cpu/cpu*/cpufreq`: how fast cores run and may run. To tell, some kernels interrupt the core and
//! wait for ten milliseconds.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::cpu::CORE;
use crate::collect::slow::cpu::cores;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::host::Roots;

const HERTZ_PER_KILOHERTZ: f64 = 1e3;
const GOVERNOR: &Metric = metric("node_cpu_scaling_governor");

/// Files of a core, in kHz.
const FREQUENCIES: [(&str, &Metric); 5] = [
    ("cpuinfo_max_freq", metric("node_cpu_frequency_max_hertz")),
    ("cpuinfo_min_freq", metric("node_cpu_frequency_min_hertz")),
    ("scaling_cur_freq", metric("node_cpu_scaling_frequency_hertz")),
    ("scaling_max_freq", metric("node_cpu_scaling_frequency_max_hertz")),
    ("scaling_min_freq", metric("node_cpu_scaling_frequency_min_hertz")),
];

/// Cores with a frequency that can be changed.
pub(in crate::collect) fn cpufreq(roots: &Roots) -> impl Collector + use<> {
    let cpus = roots.sysfs.join("devices/system/cpu");
    devices("cpufreq", move || cores(&cpus), visit).each(Tier::Minute)
}

fn visit(core: &Path, visit: &mut Visit) {
    let labels = Labels::new().with("cpu", name_behind(core, CORE).unwrap_or_default());
    let core = core.join("cpufreq");
    for (file, metric) in FREQUENCIES {
        visit.put_number(metric, &labels, &core.join(file), HERTZ_PER_KILOHERTZ);
    }
    let Some(governor) = visit.text(&core.join("scaling_governor")) else { return };
    let available = visit.text(&core.join("scaling_available_governors")).unwrap_or_default();
    for other in available.split_ascii_whitespace() {
        let is_set = f64::from(u8::from(other == governor));
        visit.put(GOVERNOR, &labels.clone().with("governor", other), is_set);
    }
}
