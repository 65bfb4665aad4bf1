//! `/proc/spl/kstat/zfs`: the cache of ZFS, and the health of its pools.

use std::path::Path;

use common::catalog;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Collector;
use crate::collect::slow::Visit;
use crate::collect::slow::devices;
use crate::collect::slow::name_behind;
use crate::collect::text;
use crate::host;
use crate::host::Roots;

const POOL: &Metric = metric("node_zfs_zpool_state");
const STATES: [&str; 7] = ["degraded", "faulted", "offline", "online", "removed", "suspended", "unavail"];

/// `arcstats` has about 150 lines of 50 bytes.
const ARCSTATS_BYTES_MAX: usize = 64 * 1024;
const ARCSTATS: &str = "arcstats";

/// ZFS.
pub(in crate::collect) fn zfs(roots: &Roots) -> impl Collector + use<> {
    let kstat = roots.procfs.join("spl/kstat/zfs");
    let is_shown = |place: &std::path::PathBuf| place.ends_with(ARCSTATS) || place.join("state").exists();
    devices("zfs", move || host::entries(&kstat, "").into_iter().filter(is_shown).collect(), visit)
}

fn visit(place: &Path, visit: &mut Visit) {
    if place.ends_with(ARCSTATS) {
        let stats = visit.lines(place, ARCSTATS_BYTES_MAX);
        return parse(&stats, visit);
    }
    let Some(state) = visit.text(&place.join("state")) else { return };
    let labels = Labels::new().with("zpool", name_behind(place, "").unwrap_or_default());
    for known in STATES {
        visit.put(POOL, &labels.clone().with("state", known), f64::from(u8::from(state.eq_ignore_ascii_case(known))));
    }
}

/// Two lines of headings, then name, type and value. Names that the catalog does not have are passed over.
pub(super) fn parse(stats: &[u8], visit: &mut Visit) {
    for line in text::lines(stats).skip(2) {
        let mut words = text::words(line);
        let name = words.next().map(text::label).unwrap_or_default();
        let Some(metric) = catalog::find(&format!("node_zfs_arc_{name}")) else { continue };
        visit.put_word(metric, &Labels::new(), words.nth(1).unwrap_or_default(), ARCSTATS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_a_type_and_a_value() {
        let check = |lines: &str, expect: &[&str], whole: bool| {
            let mut visit = Visit::default();
            parse(format!("6 1 0x01 91\nname type data\n{lines}").as_bytes(), &mut visit);
            assert_eq!(
                (visit.shown(), visit.failed.is_none()),
                (expect.iter().map(|it| (*it).to_owned()).collect(), whole)
            );
        };
        check("hits 4 7\nno_such_name 4 8\nsize 4 9\n", &["node_zfs_arc_hits{} 7", "node_zfs_arc_size{} 9"], true);
        check("memory_available_bytes 3 -7\n", &["node_zfs_arc_memory_available_bytes{} -7"], true);
        check("hits 4\nsize 4 9\n", &["node_zfs_arc_size{} 9"], false);
        check("hits 4 x\nsize 4 nan\n", &[], false);
        check("hits 4 71", &[], true);
    }
}
