//! The `cpu` lines of `/proc/stat`: time by core and mode.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::host;

const SECONDS: &Metric = metric("node_cpu_seconds_total");
const GUEST_SECONDS: &Metric = metric("node_cpu_guest_seconds_total");

/// Columns of a `cpu` line, in the kernel's order, with the labels they get.
const MODES: [(&Metric, &str); 10] = [
    (SECONDS, "user"),
    (SECONDS, "nice"),
    (SECONDS, "system"),
    (SECONDS, "idle"),
    (SECONDS, "iowait"),
    (SECONDS, "irq"),
    (SECONDS, "softirq"),
    (SECONDS, "steal"),
    (GUEST_SECONDS, "user"),
    (GUEST_SECONDS, "nice"),
];

const IDLE: usize = 3;

/// A core whose idle time falls by this much was away and counts from zero again; less is the kernel's own jitter.
const HOTPLUG_SECONDS: u64 = 3;

/// Time by core and mode, in clock ticks.
pub(super) struct Cores {
    cores: Roster<Core>,
    ticks_per_second: u64,
}

#[derive(Debug)]
struct Core {
    series: [SeriesKey; MODES.len()],
    ticks: [u64; MODES.len()],
}

impl Cores {
    pub(super) fn new() -> Self {
        Self { cores: Roster::default(), ticks_per_second: host::clock_ticks_per_second().max(1) }
    }

    pub(super) fn begin(&mut self) {
        self.cores.begin();
    }

    /// Takes what follows `cpu` in its line. The sum of all cores, whose number is empty, is left to queries.
    ///
    /// Idle and iowait may go back a little, because other cores write them: such a value stands still.
    #[expect(clippy::cast_precision_loss, reason = "exact for 2^53 ticks, 28 million years")]
    pub(super) fn line(&mut self, rest: &[u8], samples: &mut Samples) -> Option<()> {
        let number = rest.split(|byte| *byte == b' ').next()?;
        if number.is_empty() {
            return Some(());
        }
        text::number(number)?;
        let ticks = parse(&rest[number.len()..])?;
        let core = self.cores.get(number, || Core::new(number, samples));
        core.advance(ticks, HOTPLUG_SECONDS * self.ticks_per_second);
        for (series, ticks) in core.series.into_iter().zip(core.ticks) {
            samples.put(series, ticks as f64 / self.ticks_per_second as f64);
        }
        Some(())
    }

    pub(super) fn end(&mut self, samples: &mut Samples) {
        self.cores.end(|core| core.series.into_iter().for_each(|series| samples.end(series)));
    }
}

impl Core {
    fn new(number: &[u8], samples: &mut Samples) -> Self {
        let cpu = Labels::new().with("cpu", text::label(number));
        let series = MODES.map(|(metric, mode)| samples.series(HOST, metric, &cpu.clone().with("mode", mode)));
        Self { series, ticks: [0; MODES.len()] }
    }

    fn advance(&mut self, ticks: [u64; MODES.len()], hotplug_ticks: u64) {
        if hotplug_ticks <= self.ticks[IDLE].saturating_sub(ticks[IDLE]) {
            self.ticks = ticks;
        }
        for (held, read) in self.ticks.iter_mut().zip(ticks) {
            *held = (*held).max(read);
        }
    }
}

/// Ten columns; steal came with Linux 2.6.11, guest with 2.6.24, guest nice with 2.6.33.
fn parse(columns: &[u8]) -> Option<[u64; MODES.len()]> {
    const COLUMNS_MIN: usize = 7;
    let mut ticks = [0; MODES.len()];
    let mut found = 0;
    for (slot, number) in ticks.iter_mut().zip(text::numbers(columns)) {
        *slot = number;
        found += 1;
    }
    (COLUMNS_MIN <= found).then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines in, `mode=ticks` of those that moved out.
    fn check(ticks: &[&str], expect: &[f64]) {
        let mut cores = Cores { cores: Roster::default(), ticks_per_second: 100 };
        let mut samples = Samples::default();
        for line in ticks {
            samples.begin_tick();
            cores.begin();
            assert_eq!(cores.line(line.as_bytes(), &mut samples), Some(()));
            cores.end(&mut samples);
        }
        let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
        assert_eq!(values, expect);
    }

    #[test]
    fn time_that_goes_back_a_little_stands_still() {
        let expect = [0.01, 0.02, 0.03, 4.0, 0.05, 0.0, 0.0, 0.08, 0.09, 0.1];
        check(&["0 1 2 3 400 5 0 0 8 9 10"], &expect);
        check(&["0 1 2 3 400 5 0 0 8 9 10", "0 1 2 3 101 4 0 0 8 9 10"], &expect);
    }

    #[test]
    fn a_core_that_was_away_counts_anew() {
        let expect = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        check(&["0 1 2 3 400 5 0 0 8 9 10", "0 0 0 0 100 0 0 0 0 0 0"], &expect);
    }

    #[test]
    fn the_sum_of_all_cores_is_left_out_and_so_are_columns_to_come() {
        check(&[" 1 2 3 4 5 6 7 8 9 10"], &[]);
        check(&["0 0 0 0 0 0 0 0 0 0 100 11 12"], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_core_that_goes_takes_its_series_along() {
        let mut cores = Cores::new();
        let mut samples = Samples::default();
        for lines in [&["0 1 2 3 4 5 6 7", "1 1 2 3 4 5 6 7"][..], &["0 1 2 3 4 5 6 7"]] {
            cores.begin();
            for line in lines {
                cores.line(line.as_bytes(), &mut samples);
            }
            cores.end(&mut samples);
            samples.settle();
        }
        let schema = samples.settle();
        assert_eq!(schema.living(schema.version()).count(), MODES.len());
    }

    #[test]
    fn a_line_that_is_cut_or_garbled_is_refused() {
        let mut cores = Cores::new();
        let mut samples = Samples::default();
        for line in ["0", "0 1 2 3", "x 1 2 3 4 5 6 7 8", "0 1 2 x 4 5 6 7 8", "-1 1 2 3 4 5 6 7 8"] {
            assert_eq!(cores.line(line.as_bytes(), &mut samples), None, "{line}");
        }
        assert_eq!(samples.values(), []);
    }
}
