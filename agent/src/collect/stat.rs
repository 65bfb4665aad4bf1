//! `/proc/stat`: CPU time, interrupts, context switches, forks, and who runs or waits. Read once for all of them.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::cpu::Cores;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// First word of a line, and the metric of its first number.
const LINES: [(&[u8], &Metric); 6] = [
    (b"intr", metric("node_intr_total")),
    (b"ctxt", metric("node_context_switches_total")),
    (b"btime", metric("node_boot_time_seconds")),
    (b"processes", metric("node_forks_total")),
    (b"procs_running", metric("node_procs_running")),
    (b"procs_blocked", metric("node_procs_blocked")),
];

const SOFTIRQS: &Metric = metric("node_softirqs_total");

/// Numbers of the line `softirq`, behind their sum.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

/// The kernel's own statistics.
pub(super) struct Stat {
    file: KeptFile,
    cores: Cores,
    series: [SeriesKey; LINES.len()],
    softirqs: [SeriesKey; VECTORS.len()],
}

impl Stat {
    pub(super) fn new(roots: &Roots, samples: &mut Samples) -> Self {
        Self {
            file: KeptFile::in_one_piece(roots.procfs.join("stat")),
            cores: Cores::new(),
            series: LINES.map(|(_, metric)| samples.series(HOST, metric, &Labels::new())),
            softirqs: VECTORS.map(|vector| samples.series(HOST, SOFTIRQS, &Labels::new().with("vector", vector))),
        }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(());
        self.cores.begin();
        for line in text::lines(text) {
            let parsed = match line.strip_prefix(b"cpu") {
                Some(rest) => self.cores.line(rest, samples),
                None => self.line(line, samples),
            };
            understood = understood.and(parsed);
        }
        self.cores.end(samples);
        understood.filter(|()| !text.is_empty())
    }

    fn line(&self, line: &[u8], samples: &mut Samples) -> Option<()> {
        let mut words = text::words(line);
        let word = words.next()?;
        if word == b"softirq" {
            let [_sum, counts @ ..] = text::array::<{ 1 + VECTORS.len() }>(&line[word.len()..])?;
            for (series, count) in self.softirqs.into_iter().zip(counts) {
                samples.put_count(series, count);
            }
        }
        if let Some(at) = LINES.iter().position(|(known, _)| *known == word) {
            samples.put_count(self.series[at], text::number(words.next()?)?);
        }
        Some(())
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let text = tick.host.read(&mut self.file)?;
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("stat"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], understood: bool, expect: &[f64]) {
        let mut samples = Samples::default();
        let mut stat = Stat::new(&Roots::default(), &mut samples);
        assert_eq!(stat.parse(text, &mut samples).is_some(), understood, "{}", text.escape_ascii());
        let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
        assert_eq!(values, expect, "{}", text.escape_ascii());
    }

    #[test]
    fn lines_that_are_not_understood_leave_the_others_standing() {
        check(
            b"cpu  1 2\nintr 885 17 0\nctxt 38\nbtime 1418183276\nprocesses 26442\nprocs_running 2\nprocs_blocked 1\n",
            true,
            &[885.0, 38.0, 1_418_183_276.0, 26_442.0, 2.0, 1.0],
        );
        check(b"ctxt 38\nbtime x\nprocs_running 2\n", false, &[38.0, 2.0]);
        check(b"ctxt 38\nprocs_run", true, &[38.0]);
        check(b"cpu0 1 2\nctxt 38\n", false, &[38.0]);
        check(b"softirq 9 1 2 3 4 5 6 7 8 9 10 11\n", true, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        check(b"softirq 1 2\nsomething new\nctxt 38\n", false, &[38.0]);
        check(b"ctxt\n", false, &[]);
        check(b"", false, &[]);
        check(b"\xff\xfe\n\0\n", true, &[]);
    }
}
