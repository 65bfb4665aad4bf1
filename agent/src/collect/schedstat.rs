//! `/proc/schedstat`: how long tasks ran on each core and waited for it.

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

const METRICS: [&Metric; 3] = [
    metric("node_schedstat_running_seconds_total"),
    metric("node_schedstat_waiting_seconds_total"),
    metric("node_schedstat_timeslices_total"),
];

/// The scheduler's statistics.
pub(super) struct Schedstat {
    file: PathBuf,
    cores: Rows<{ METRICS.len() }>,
}

impl Schedstat {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: roots.procfs.join("schedstat"), cores: Rows::new("cpu", METRICS) }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.cores.begin();
        for line in text::lines(text).filter_map(|line| line.strip_prefix(b"cpu")) {
            match parse(line) {
                Some((core, values)) => self.cores.put(core, values, samples),
                None => understood = None,
            }
        }
        self.cores.end(samples);
        understood
    }
}

impl Collector for Schedstat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(METRICS[0].tier) {
            return Ok(());
        }
        let Some(text) = if_there(tick.host.read_once(&self.file))? else { return Ok(()) };
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("schedstat"))
    }
}

/// `0 498494191 0 …`: the core, six counts, nanoseconds run, nanoseconds waited, turns.
#[expect(clippy::cast_precision_loss, reason = "rounded to microseconds: exact for 285 years")]
fn parse(line: &[u8]) -> Option<(&[u8], [f64; METRICS.len()])> {
    let core = text::words(line).next()?;
    let [_core, _, _, _, _, _, _, running, waiting, turns] = text::array(line)?;
    Some((core, [running as f64 / 1e9, waiting as f64 / 1e9, turns as f64]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_three_of_nine_numbers_count() {
        let check = |text: &[u8], understood: bool, expect: &[f64]| {
            let mut samples = Samples::default();
            let parsed = Schedstat::new(&Roots::default()).parse(text, &mut samples);
            assert_eq!(parsed.is_some(), understood, "{}", text.escape_ascii());
            let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expect, "{}", text.escape_ascii());
        };
        let cpu0 = "cpu0 1 2 3 4 5 6 7000000000 8500000000 9 new\n";
        check(format!("version 17\ntimestamp 1\n{cpu0}domain0 MC 03 1 2\n").as_bytes(), true, &[7.0, 8.5, 9.0]);
        check(format!("cpu1 1 2 3 4 5 6 7 8\n{cpu0}").as_bytes(), false, &[7.0, 8.5, 9.0]);
        check(
            format!("cpux 1 2 3 4 5 6 7 8 9\ncpu 1 2 3 4 5 6 7 8 9\n{cpu0}cpu2 1").as_bytes(),
            false,
            &[7.0, 8.5, 9.0],
        );
        check(b"version 17\n", true, &[]);
        check(b"", false, &[]);
    }
}
