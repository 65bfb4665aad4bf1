//! `/proc/net/softnet_stat`: packets that each core took from the network cards, and those it dropped.

use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::if_there;
use crate::collect::rows::Rows;
use crate::collect::text;
use crate::host::Roots;

/// Metrics, and the hexadecimal column of each. Those behind the ninth came with Linux 2.6.39, 4.18 and 5.14.
const COLUMNS: [(&Metric, usize); 7] = [
    (metric("node_softnet_processed_total"), 0),
    (metric("node_softnet_dropped_total"), 1),
    (metric("node_softnet_times_squeezed_total"), 2),
    (metric("node_softnet_cpu_collision_total"), 8),
    (metric("node_softnet_received_rps_total"), 9),
    (metric("node_softnet_flow_limit_count_total"), 10),
    (metric("node_softnet_backlog_len"), 11),
];
const COLUMNS_MIN: usize = 9;
const CORE: usize = 12;

/// The cores' backlogs.
pub(super) struct Softnet {
    file: [PathBuf; 2],
    cores: Rows<{ COLUMNS.len() }>,
}

impl Softnet {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: roots.of_net("softnet_stat"), cores: Rows::new("cpu", COLUMNS.map(|(metric, _)| metric)) }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.cores.begin();
        for (row, line) in text::lines(text).enumerate() {
            let Some((core, values)) = parse(line) else {
                understood = None;
                continue;
            };
            let core = core.map_or(row, |core| core as usize);
            self.cores.put(core.to_string().as_bytes(), values, samples);
        }
        self.cores.end(samples);
        understood
    }
}

impl Collector for Softnet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(COLUMNS[0].0.tier) {
            return Ok(());
        }
        let Some(text) = if_there(tick.host.read_either(&self.file))? else { return Ok(()) };
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("softnet_stat"))
    }
}

/// The core, where the line tells it, and its numbers. A core that is offline has no line, so that older kernels number
/// those behind it wrongly; they tell no better.
fn parse(line: &[u8]) -> Option<(Option<u32>, [f64; COLUMNS.len()])> {
    let mut columns = [0; CORE + 1];
    let mut found = 0;
    for (slot, word) in columns.iter_mut().zip(text::words(line)) {
        *slot = u32::try_from(text::hexadecimal(word)?).ok()?;
        found += 1;
    }
    let core = (CORE < found).then_some(columns[CORE]);
    (COLUMNS_MIN <= found).then_some((core, COLUMNS.map(|(_, column)| columns[column].into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_core() {
        let check = |line: &str, expect: Option<(Option<u32>, [f64; 7])>| {
            assert_eq!(parse(line.as_bytes()), expect, "{line}");
        };
        check("1f 2 3 4 5 6 7 8 9", Some((None, [31.0, 2.0, 3.0, 9.0, 0.0, 0.0, 0.0])));
        check("1 2 3 4 5 6 7 8 9 a b", Some((None, [1.0, 2.0, 3.0, 9.0, 10.0, 11.0, 0.0])));
        check("1 2 3 4 5 6 7 8 9 a b c 5", Some((Some(5), [1.0, 2.0, 3.0, 9.0, 10.0, 11.0, 12.0])));
        check("1 2 3 4 5 6 7 8 9 a b c 5 new", Some((Some(5), [1.0, 2.0, 3.0, 9.0, 10.0, 11.0, 12.0])));
        check("1 2 3 4 5 6 7 8", None);
        check("1 2 3 4 5 6 7 8 x", None);
        check("100000000 2 3 4 5 6 7 8 9", None);
        check("", None);
    }

    #[test]
    fn cores_that_are_offline_leave_a_gap() {
        let mut samples = Samples::default();
        let text = b"1 0 0 0 0 0 0 0 0 0 0 0 0\n2 0 0 0 0 0 0 0 0 0 0 0 2\nx\n3 0 0 0 0 0 0 0 0 0 0 0 3";
        assert_eq!(Softnet::new(&Roots::default()).parse(text, &mut samples), None);
        let schema = samples.settle();
        let cores: Vec<&str> = schema.columns().iter().map(|column| column.labels.get("cpu")).collect();
        assert_eq!(cores, [["0"; 7], ["2"; 7]].concat());
    }
}
