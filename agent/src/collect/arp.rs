//! `/proc/net/arp`: neighbours that each network interface knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Tick;
use crate::collect::given::Given;
use crate::collect::if_there;
use crate::collect::text;
use crate::host::Roots;

const ENTRIES: &Metric = metric("node_arp_entries");

/// The table of neighbours.
pub(super) struct Arp {
    file: [PathBuf; 2],
    given: Given,
}

impl Arp {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: roots.of_net("arp"), given: Given::default() }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(ENTRIES.tier) {
            return Ok(());
        }
        let text = if_there(tick.host.read_either(&self.file))?;
        let counted = text.map_or(Some(BTreeMap::new()), count);
        for (device, entries) in counted.iter().flatten() {
            let entity = tick.samples.entity(&Labels::new().with("device", text::label(device)));
            self.given.put(tick.samples, entity, (ENTRIES, &Labels::new()), f64::from(*entries));
        }
        self.given.end(tick.samples);
        counted.map(|_| ()).ok_or(CollectError::Malformed("arp"))
    }
}

/// Lines by their sixth column: address, type, flags, hardware address, mask, device. `None` if one has fewer.
pub(super) fn count(text: &[u8]) -> Option<BTreeMap<&[u8], u32>> {
    const DEVICE: usize = 5;
    let mut entries = BTreeMap::new();
    text.strip_suffix(b"\n")?;
    for line in text::lines(text).skip(1) {
        *entries.entry(text::words(line).nth(DEVICE)?).or_insert(0) += 1;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";

    #[test]
    fn neighbours_are_counted_by_interface() {
        let check = |lines: &str, expect: Option<&[(&str, u32)]>| {
            let text = format!("{HEAD}{lines}");
            let found = count(text.as_bytes());
            let found: Option<Vec<_>> =
                found.map(|it| it.into_iter().map(|(name, count)| (text::label(name), count)).collect());
            let expect: Option<Vec<_>> =
                expect.map(|it| it.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect());
            assert_eq!(found, expect, "{lines}");
        };
        let line = |device: &str| format!("192.168.1.1  0x1  0x2  cc:aa:dd:ee:aa:bb  *  {device}\n");
        check("", Some(&[]));
        check(&[line("eth1"), line("eth0 new"), line("eth1")].concat(), Some(&[("eth0", 1), ("eth1", 2)]));
        check("192.168.1.1 0x1 0x2 cc:aa:dd:ee:aa:bb *\n", None);
        check(line("eth10").trim_end(), None);
        assert_eq!(count(b""), None);
    }
}
