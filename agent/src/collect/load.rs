//! `/proc/loadavg`: how many tasks want to run.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::host::KeptFile;
use crate::host::Roots;

const METRICS: [&Metric; 3] = [metric("node_load1"), metric("node_load5"), metric("node_load15")];

/// Load averages over 1, 5 and 15 minutes.
pub(super) struct Load {
    file: KeptFile,
    series: [SeriesKey; 3],
}

impl Load {
    pub(super) fn new(roots: &Roots, samples: &mut Samples) -> Self {
        Self {
            file: KeptFile::in_one_piece(roots.procfs.join("loadavg")),
            series: METRICS.map(|metric| samples.series(HOST, metric, &Labels::new())),
        }
    }
}

impl Collector for Load {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let loads = parse(tick.host.read(&mut self.file)?).ok_or(CollectError::Malformed("loadavg"))?;
        for (series, load) in self.series.into_iter().zip(loads) {
            tick.samples.put(series, load);
        }
        Ok(())
    }
}

/// The first three numbers.
pub(super) fn parse(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let mut next = || words.next()?.parse().ok().filter(|load: &f64| load.is_finite());
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_three_loads_and_nothing_else() {
        let check = |text: &[u8], expect| assert_eq!(parse(text), expect, "{:?}", text.escape_ascii().to_string());
        check(b"0.21 0.37 0.39 1/719 19737\n", Some([0.21, 0.37, 0.39]));
        check(b"0.21 0.37 0.39 1/719 19737 more columns", Some([0.21, 0.37, 0.39]));
        check(b"10000.00 0.00 0.00", Some([10_000.0, 0.0, 0.0]));
        check(b"0.21 0.37", None);
        check(b"0.21 NaN 0.37 1/719", None);
        check(b"", None);
        check(b"\xff\xfe 1 2 3", None);
    }
}
