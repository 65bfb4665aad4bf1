//! `/sys/devices/system/cpu` and `/proc/cpuinfo`: which cores there are, and how often they were too hot.

use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::collect::text;
use crate::host;
use crate::host::Roots;

const INFO: &Metric = metric("node_cpu_info");
const FREQUENCY: &Metric = metric("node_cpu_frequency_hertz");
const ONLINE: &Metric = metric("node_cpu_online");
const CORE_THROTTLES: &Metric = metric("node_cpu_core_throttles_total");
const PACKAGE_THROTTLES: &Metric = metric("node_cpu_package_throttles_total");
const ISOLATED: &Metric = metric("node_cpu_isolated");

/// Labels of a core, and the fields of `/proc/cpuinfo` that they are.
const FIELDS: [(&str, &str); 10] = [
    ("cachesize", "cache size"),
    ("core", "core id"),
    ("cpu", "processor"),
    ("family", "cpu family"),
    ("microcode", "microcode"),
    ("model", "model"),
    ("model_name", "model name"),
    ("package", "physical id"),
    ("stepping", "stepping"),
    ("vendor", "vendor_id"),
];

/// Cores that a range names at most: what the largest kernel is built for.
const CORES_MAX: u64 = 8_192;

const HERTZ_PER_MEGAHERTZ: f64 = 1e6;

/// The directories of cores begin so.
pub(super) const CORE: &str = "cpu";

/// The largest `/proc/cpuinfo`: 2 KiB a core.
const CPUINFO_BYTES_MAX: usize = 16 << 20;

/// The cores as hardware.
pub(in crate::collect) fn cpu(roots: &Roots) -> impl Collector + use<> {
    let cpus = roots.sysfs.join("devices/system/cpu");
    let cpuinfo = roots.procfs.join("cpuinfo");
    devices("cpu", move || vec![cpus.clone()], move |cpus, visit| self::visit(cpus, &cpuinfo, visit)).each(Tier::Minute)
}

/// The cores' directories.
pub(super) fn cores(cpus: &Path) -> Vec<PathBuf> {
    let is_core = |path: &PathBuf| name_behind(path, CORE).is_some_and(|name| text::number(name.as_bytes()).is_some());
    host::entries(cpus, CORE).into_iter().filter(is_core).collect()
}

fn visit(cpus: &Path, cpuinfo: &Path, visit: &mut Visit) {
    let (online, isolated) = (list(&cpus.join("online"), visit), list(&cpus.join("isolated"), visit));
    for core in isolated.into_iter().flatten() {
        visit.put(ISOLATED, &Labels::new().with("cpu", core.to_string()), 1.0);
    }
    for path in cores(cpus) {
        let core = name_behind(&path, CORE).unwrap_or_default();
        if let Some(online) = &online {
            let is_online = text::number(core.as_bytes()).is_some_and(|core| online.contains(&core));
            visit.put(ONLINE, &Labels::new().with("cpu", core), f64::from(u8::from(is_online)));
        }
        throttles(&path, visit);
    }
    info(&visit.lines(cpuinfo, CPUINFO_BYTES_MAX), visit);
}

fn list(path: &Path, visit: &mut Visit) -> Option<Vec<u64>> {
    let text = visit.text(path)?;
    visit.take(ranges(text.as_bytes()).ok_or_else(|| CollectError::Garbled(path.into())))
}

/// Threads of one core count together: the first one's count stands.
fn throttles(path: &Path, visit: &mut Visit) {
    let mut id = |file: &str| visit.text(&path.join("topology").join(file));
    let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else { return };
    let package = Labels::new().with("package", package);
    let throttle = path.join("thermal_throttle");
    visit.put_number(CORE_THROTTLES, &package.clone().with("core", core), &throttle.join("core_throttle_count"), 1.0);
    visit.put_number(PACKAGE_THROTTLES, &package, &throttle.join("package_throttle_count"), 1.0);
}

fn info(cpuinfo: &[u8], visit: &mut Visit) {
    for Core { labels, megahertz } in parse(cpuinfo) {
        if let Some(megahertz) = megahertz {
            let place = ["core", "cpu", "package"].map(|label| (label, labels.get(label)));
            visit.put(FREQUENCY, &place.into_iter().collect(), megahertz * HERTZ_PER_MEGAHERTZ);
        }
        visit.put(INFO, &labels, 1.0);
    }
}

pub(super) struct Core {
    labels: Labels,
    megahertz: Option<f64>,
}

/// Paragraphs of `model name : …`, one a core. What other architectures write behind them has no number.
pub(super) fn parse(cpuinfo: &[u8]) -> Vec<Core> {
    let text = text::label(cpuinfo);
    let cores = text.split("\n\n").filter_map(|paragraph| {
        let field = |wanted: &str| {
            let mut fields = paragraph.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(name, _)| name.trim_end() == wanted).map(|(_, value)| value.trim())
        };
        text::number(field("processor")?.as_bytes())?;
        let megahertz: Option<f64> = field("cpu MHz").and_then(|megahertz| megahertz.parse().ok());
        let labels = FIELDS.iter().map(|(label, name)| (*label, field(name).unwrap_or_default())).collect();
        Some(Core { labels, megahertz: megahertz.filter(|megahertz| megahertz.is_finite()) })
    });
    cores.collect()
}

/// `0-3,8`; nothing is none.
pub(super) fn ranges(list: &[u8]) -> Option<Vec<u64>> {
    let mut cores = Vec::new();
    for range in list.split(|byte| *byte == b',').filter(|_| !list.is_empty()) {
        let mut ends = range.splitn(2, |byte| *byte == b'-').map(text::number);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        if CORES_MAX <= last {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_a_paragraph_with_a_number() {
        let check = |cpuinfo: &str, expect: &[(&str, Option<f64>)]| {
            let cores = parse(cpuinfo.as_bytes());
            let found: Vec<_> = cores.iter().map(|core| (core.labels.to_string(), core.megahertz)).collect();
            let expect: Vec<_> = expect.iter().map(|(labels, megahertz)| ((*labels).to_owned(), *megahertz)).collect();
            assert_eq!(found, expect, "{cpuinfo:?}");
        };
        check(
            "processor\t: 1\nmodel name\t: A: 1.9GHz\ncpu MHz\t\t: 799.5\nflags\t: a b\n\nprocessor : 2\nstepping : 3\n\n",
            &[(r#"{cpu="1", model_name="A: 1.9GHz"}"#, Some(799.5)), (r#"{cpu="2", stepping="3"}"#, None)],
        );
        check("processor : 0\ncpu MHz : inf\n\nHardware : BCM2835\n", &[(r#"{cpu="0"}"#, None)]);
        check("processor : x\n\nprocessor\n\n\u{fffd}", &[]);
        check("", &[]);
    }

    #[test]
    fn a_list_of_cores_has_numbers_and_ranges() {
        let check = |list: &str, expect: Option<&[u64]>| {
            assert_eq!(ranges(list.as_bytes()).as_deref(), expect, "{list}");
        };
        check("", Some(&[]));
        check("0", Some(&[0]));
        check("0-2,5,7-8", Some(&[0, 1, 2, 5, 7, 8]));
        check("3-1", Some(&[]));
        check("0-8191,", None);
        check("0-8192", None);
        check("1-", None);
        check("-1", None);
        check("1-2-3", None);
        check("1 2", None);
    }
}
