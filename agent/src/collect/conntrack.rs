//! Connections that the kernel tracks, how many it may, and what it could not.

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

/// Files of one number below `/proc/sys/net/netfilter`.
const NUMBERS: [(&str, &Metric); 2] = [
    ("nf_conntrack_count", metric("node_nf_conntrack_entries")),
    ("nf_conntrack_max", metric("node_nf_conntrack_entries_limit")),
];

/// Columns of `/proc/net/stat/nf_conntrack`, by their heading: a row a core, in hexadecimal.
const COLUMNS: [(&[u8], &Metric); 8] = [
    (b"found", metric("node_nf_conntrack_stat_found")),
    (b"invalid", metric("node_nf_conntrack_stat_invalid")),
    (b"ignore", metric("node_nf_conntrack_stat_ignore")),
    (b"insert", metric("node_nf_conntrack_stat_insert")),
    (b"insert_failed", metric("node_nf_conntrack_stat_insert_failed")),
    (b"drop", metric("node_nf_conntrack_stat_drop")),
    (b"early_drop", metric("node_nf_conntrack_stat_early_drop")),
    (b"search_restart", metric("node_nf_conntrack_stat_search_restart")),
];

/// Tracked connections; nothing where the kernel's module is not loaded.
pub(super) struct Conntrack {
    numbers: [PathBuf; NUMBERS.len()],
    table: [PathBuf; 2],
    given: Given,
}

impl Conntrack {
    pub(super) fn new(roots: &Roots) -> Self {
        let netfilter = roots.procfs.join("sys/net/netfilter");
        Self {
            numbers: NUMBERS.map(|(name, _)| netfilter.join(name)),
            table: roots.of_net("stat/nf_conntrack"),
            given: Given::default(),
        }
    }

    fn numbers(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        for (path, (name, metric)) in self.numbers.iter().zip(NUMBERS) {
            if let Some(text) = if_there(tick.host.read_once(path))? {
                let number = text::first(text).and_then(text::number).ok_or(CollectError::Malformed(name))?;
                self.given.put_count(tick.samples, (metric, &Labels::new()), number);
            }
        }
        Ok(())
    }

    fn table(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let Some(text) = if_there(tick.host.read_either(&self.table))? else { return Ok(()) };
        for (sum, (_, metric)) in sums(text).ok_or(CollectError::Malformed("nf_conntrack"))?.into_iter().zip(COLUMNS) {
            sum.into_iter().for_each(|sum| self.given.put_count(tick.samples, (metric, &Labels::new()), sum));
        }
        Ok(())
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(NUMBERS[0].1.tier) {
            return Ok(());
        }
        let read = self.numbers(tick);
        let read = read.and(self.table(tick));
        self.given.end(tick.samples);
        read
    }
}

/// The sum of each column over all cores; `None` where this kernel has no such column.
pub(super) fn sums(text: &[u8]) -> Option<[Option<u64>; COLUMNS.len()]> {
    let mut lines = text::lines(text.strip_suffix(b"\n").map(|_| text)?);
    let headings = lines.next()?;
    let place = COLUMNS.map(|(heading, _)| text::words(headings).position(|word| word == heading));
    let mut sums = place.map(|place| place.map(|_| 0_u64));
    for line in lines {
        for (sum, place) in sums.iter_mut().zip(place) {
            if let (Some(sum), Some(place)) = (sum, place) {
                *sum = sum.wrapping_add(text::words(line).nth(place).and_then(text::hexadecimal)?);
            }
        }
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_heading_and_summed_over_the_cores() {
        let check = |text: &str, expect: Option<&[u64]>| {
            let found = sums(text.as_bytes()).map(|sums| sums.into_iter().flatten().collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expect, "{text:?}");
        };
        check("entries  found drop\n00000021  00000001 0000000a\n00000021  00000002 0000000a\n", Some(&[3, 20]));
        check("drop found new_one\n1 2 3\n", Some(&[2, 1]));
        check("found\n", Some(&[0]));
        check("new_one\n1\n", Some(&[]));
        check("entries found\n1\n", None);
        check("found\nx\n", None);
        check("found\n1\n2", None);
        check("", None);
    }
}
