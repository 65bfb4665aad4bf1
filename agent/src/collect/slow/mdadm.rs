//! `/proc/mdstat` and `/sys/block/mdN/md`: software arrays, their disks and how far they are in sync.

use std::path::Path;

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

const BLOCKS: &Metric = metric("node_md_blocks");
const BLOCKS_SYNCED: &Metric = metric("node_md_blocks_synced");
const DEGRADED: &Metric = metric("node_md_degraded");
const DISKS: &Metric = metric("node_md_disks");
const DISKS_REQUIRED: &Metric = metric("node_md_disks_required");
const RAID_DISKS: &Metric = metric("node_md_raid_disks");
const STATE: &Metric = metric("node_md_state");

const STATES: [&str; 5] = ["active", "check", "inactive", "recovering", "resync"];

/// An array has a few hundred bytes in it.
const MDSTAT_BYTES_MAX: usize = 256 * 1024;
const MDSTAT: &str = "mdstat";

/// Software arrays.
pub(in crate::collect) fn mdadm(roots: &Roots) -> impl Collector + use<> {
    let (table, block) = (roots.procfs.join(MDSTAT), roots.sysfs.join("block"));
    let arrays = move || {
        let of_kernel = host::entries(&block, "md").into_iter().filter(|array| array.join("md").exists());
        table.exists().then(|| table.clone()).into_iter().chain(of_kernel).collect()
    };
    devices("mdadm", arrays, visit)
}

fn visit(place: &Path, visit: &mut Visit) {
    if place.ends_with(MDSTAT) {
        let table = visit.lines(place, MDSTAT_BYTES_MAX);
        return parse(&table, visit);
    }
    let labels = Labels::new().with("device", name_behind(place, "").unwrap_or_default());
    let array = place.join("md");
    let level = visit.text(&array.join("level")).unwrap_or_default();
    let has_disks = !matches!(level.as_str(), "" | "container" | "imsm" | "ddf");
    if has_disks && let Some(disks) = visit.text(&array.join("raid_disks")) {
        // `11 (10)` while it grows.
        visit.put_word(RAID_DISKS, &labels, disks.split(' ').next().unwrap_or_default().as_bytes(), "raid_disks");
    }
    // What has no redundancy cannot lack it.
    let degraded = visit.number(&array.join("degraded")).unwrap_or(0.0);
    visit.put(DEGRADED, &labels, degraded);
}

/// An array as the table has it.
#[derive(Debug, Default, PartialEq)]
struct Array {
    state: &'static str,
    required: u32,
    active: u32,
    failed: u32,
    spare: u32,
    blocks: f64,
    blocks_synced: f64,
}

pub(super) fn parse(table: &[u8], visit: &mut Visit) {
    let lines: Vec<&[u8]> = text::lines(table).collect();
    for (at, line) in lines.iter().enumerate() {
        let is_array = !line.is_empty() && !line.starts_with(b" ") && !line.starts_with(b"\t");
        if !is_array || line.starts_with(b"Personalities") || line.starts_with(b"unused") {
            continue;
        }
        let about =
            lines[at + 1..].iter().take_while(|line| !line.trim_ascii().is_empty()).map(|line| text::label(line));
        let about: Vec<String> = about.collect();
        match parse_array(&text::label(line), &about) {
            Some((name, array)) => array.put(&name, visit),
            None => visit.malformed(MDSTAT),
        }
    }
}

/// `md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]`, then the lines about it: `195310144 blocks [2/1] [U_]`, and while
/// it is made whole `recovery =  8.5% (16775552/195310144) finish=17.0min …`.
fn parse_array(line: &str, about: &[String]) -> Option<(String, Array)> {
    let mut words = line.split_whitespace();
    let (name, colon, state) = (words.next()?, words.next()?, words.next()?);
    let (blocks, rest) = about.first()?.trim_start().split_once(' ')?;
    let blocks: f64 = blocks.parse().ok().filter(|blocks: &f64| blocks.is_finite())?;
    let count = |mark: &str| u32::try_from(line.matches(mark).count()).ok();
    let (required, active) = if line.contains("raid0") || line.contains("linear") {
        (count("[")?, count("[")?)
    } else if state == "inactive" {
        (0, 0)
    } else {
        rest.split(['[', ']']).find_map(|part| {
            let (required, active) = part.split_once('/')?;
            Some((required.parse().ok()?, active.parse().ok()?))
        })?
    };
    let mut array = Array {
        state: ["active", "inactive"].into_iter().find(|known| *known == state).unwrap_or_default(),
        required,
        active,
        failed: count("(F)")?,
        spare: count("(S)")?,
        blocks,
        blocks_synced: blocks,
    };
    let syncing = [("recovery", "recovering"), ("reshape", ""), ("check", "check"), ("resync", "resync")];
    let progress = about[1..]
        .iter()
        .filter(|line| !line.contains("bitmap"))
        .find_map(|line| syncing.iter().find(|(word, _)| line.contains(word)).map(|(_, state)| (line, *state)));
    if let Some((line, state)) = progress {
        array.state = state;
        array.blocks_synced = if line.contains("PENDING") || line.contains("DELAYED") {
            0.0
        } else {
            line.split_once('(')?.1.split_once('/')?.0.parse().ok().filter(|synced: &f64| synced.is_finite())?
        };
    }
    (colon == ":").then(|| (name.to_owned(), array))
}

impl Array {
    fn put(&self, name: &str, visit: &mut Visit) {
        let labels = Labels::new().with("device", name);
        for state in STATES {
            visit.put(STATE, &labels.clone().with("state", state), f64::from(u8::from(state == self.state)));
        }
        for (state, disks) in [("active", self.active), ("failed", self.failed), ("spare", self.spare)] {
            visit.put(DISKS, &labels.clone().with("state", state), f64::from(disks));
        }
        visit.put(DISKS_REQUIRED, &labels, f64::from(self.required));
        visit.put(BLOCKS, &labels, self.blocks);
        visit.put(BLOCKS_SYNCED, &labels, self.blocks_synced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &str, expect: &[(&str, &str)], whole: bool) {
        let mut visit = Visit::default();
        parse(table.as_bytes(), &mut visit);
        let shown = visit.shown();
        for (device, expect) in expect {
            let of_device = shown.iter().filter(|line| line.contains(&format!("device={device:?}")));
            let values: Vec<&str> = of_device.filter_map(|line| line.rsplit(' ').next()).collect();
            assert_eq!(values.join(" "), *expect, "{table}");
        }
        assert_eq!((shown.len(), visit.failed.is_none()), (11 * expect.len(), whole), "{table}");
    }

    #[test]
    fn an_array_has_a_state_and_disks_and_blocks() {
        // State: active, check, inactive, recovering, resync; disks: active, failed, spare, required; blocks, synced.
        let whole = "md0 : active raid1 sdi1[0] sdj1[1]\n      248 blocks [2/2] [UU]\n\n";
        check(whole, &[("md0", "1 0 0 0 0 2 0 0 2 248 248")], true);
        let recovering = "md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      100 blocks [2/1] [U_]\n      \
                          [=>...]  recovery =  8.5% (16/100) finish=17.0min speed=259783K/sec\n\n";
        check(
            &format!("Personalities : [raid1]\n{recovering}{whole}unused devices: <none>\n"),
            &[("md6", "0 0 0 1 0 1 1 1 2 100 16"), ("md0", "1 0 0 0 0 2 0 0 2 248 248")],
            true,
        );
        let bitmap =
            "md7 : active raid6 sdb1[0]\n  78 blocks super 1.2 [4/3] [U_UU]\n  bitmap: 0/30 pages, resync no\n";
        check(bitmap, &[("md7", "1 0 0 0 0 3 0 0 4 78 78")], true);
        check(
            "md9 : active raid1 a[0]\n 5 blocks [4/4] [UUUU]\n resync=DELAYED\n",
            &[("md9", "0 0 0 0 1 4 0 0 4 5 0")],
            true,
        );
        check(
            "md2 : inactive sdb[2](S)\n 79 blocks super external:imsm\n",
            &[("md2", "0 0 1 0 0 0 0 1 0 79 79")],
            true,
        );
    }

    #[test]
    fn an_array_that_is_garbled_leaves_the_others_standing() {
        let whole = "md0 : active raid1 sdi1[0] sdj1[1]\n      248 blocks [2/2] [UU]\n\n";
        for garbled in [
            "md1\n\n",
            "md1 : active raid1 sda[0]\n\n",
            "md1 : active raid1 a[0]\n x blocks [2/2]\n\n",
            "md1 : active raid1 a[0]\n 5 blocks\n\n",
        ] {
            check(&format!("{garbled}{whole}"), &[("md0", "1 0 0 0 0 2 0 0 2 248 248")], false);
        }
        check("", &[], true);
    }
}
