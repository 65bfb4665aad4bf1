//! `/proc/pressure`: time that tasks lost waiting for CPU, memory, IO and interrupts.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// File, and the metrics of its `some` and `full` lines. `full` of the CPU means nothing for a whole host and is always
/// zero; interrupts stall everything or nothing. None is there before Linux 4.20, and that of interrupts before 6.1.
const FILES: [(&str, Option<&Metric>, Option<&Metric>); 4] = [
    ("cpu", Some(metric("node_pressure_cpu_waiting_seconds_total")), None),
    (
        "io",
        Some(metric("node_pressure_io_waiting_seconds_total")),
        Some(metric("node_pressure_io_stalled_seconds_total")),
    ),
    (
        "memory",
        Some(metric("node_pressure_memory_waiting_seconds_total")),
        Some(metric("node_pressure_memory_stalled_seconds_total")),
    ),
    ("irq", None, Some(metric("node_pressure_irq_stalled_seconds_total"))),
];

/// Pressure stall information.
pub(super) struct Pressure(Vec<Resource>);

struct Resource {
    file: KeptFile,
    some: Line,
    full: Line,
}

/// A line's metric, and its series once there was a value.
#[derive(Clone, Copy)]
struct Line(Option<&'static Metric>, Option<SeriesKey>);

impl Pressure {
    pub(super) fn new(roots: &Roots) -> Self {
        let directory = roots.procfs.join("pressure");
        let resource = |(name, some, full)| Resource {
            file: KeptFile::in_one_piece(directory.join::<&str>(name)),
            some: Line(some, None),
            full: Line(full, None),
        };
        Self(FILES.into_iter().map(resource).collect())
    }
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let mut result = Ok(());
        for resource in &mut self.0 {
            result = result.and(resource.tick(tick));
        }
        result
    }
}

impl Resource {
    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        match tick.host.read(&mut self.file) {
            Ok(text) => {
                let totals = parse(text).ok_or(CollectError::Malformed("pressure"))?;
                self.some.put(totals.some, tick.samples);
                self.full.put(totals.full, tick.samples);
                Ok(())
            }
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    fn put(&mut self, micros: Option<u64>, samples: &mut Samples) {
        if let (Some(metric), Some(micros)) = (self.0, micros) {
            let series = *self.1.get_or_insert_with(|| samples.series(HOST, metric, &Labels::new()));
            samples.put(series, micros as f64 / 1e6);
        }
    }
}

/// Totals of both lines, in microseconds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) some: Option<u64>,
    pub(super) full: Option<u64>,
}

/// `some avg10=0.18 avg60=0.34 avg300=0.10 total=159886802`. The last line need not end: some kernels omit that.
pub(super) fn parse(text: &[u8]) -> Option<Totals> {
    let mut totals = Totals::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut words = text::words(line);
        let kind = words.next()?;
        let total = text::number(words.find_map(|word| word.strip_prefix(b"total="))?)?;
        match kind {
            b"some" => totals.some = Some(total),
            b"full" => totals.full = Some(total),
            _ => {}
        }
    }
    (totals != Totals::default()).then_some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_and_averages_left_to_queries() {
        let check = |text: &[u8], expect: Option<(Option<u64>, Option<u64>)>| {
            assert_eq!(parse(text), expect.map(|(some, full)| Totals { some, full }), "{}", text.escape_ascii());
        };
        let both = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=14\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        check(both, Some((Some(14), Some(3))));
        check(b"full avg10=0.00 avg60=0.00 avg300=0.00 total=8494", Some((None, Some(8_494))));
        check(b"some avg10=0.00 more=1 total=14 extra\nrare total=1\n", Some((Some(14), None)));
        check(b"some avg10=0.00 avg60=0.00 avg300=0.00\n", None);
        check(b"some avg10=0.00 total=\n", None);
        check(b"some avg10=0.00 total=-1\n", None);
        check(b"\xff\n", None);
        check(b"", None);
    }
}
