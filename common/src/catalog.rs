//! Every metric that we emit: name, kind, unit, decimals, tier, labels and help. One line a metric.
//!
//! What stands here is sampled, shipped, stored, rolled up, queryable, documented (`docs/METRICS.md`) and selectable on
//! the page without another line.

use crate::metric::{Decimals, Kind, Tier, Unit};

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, as the field's standard programs emit it; ours begin with `lapwing_`.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Digits its values mean.
    pub decimals: Decimals,
    /// Whether its windows keep the fastest growth between two ticks.
    pub peak: bool,
    /// How often it is sampled.
    pub tier: Tier,
    /// The label `job`: which standard program emits it.
    pub job: &'static str,
    /// Labels besides `job` and those of the host.
    pub labels: &'static [&'static str],
    /// One sentence for a person.
    pub help: &'static str,
}

/// All metrics, by name.
pub const METRICS: &[Metric] = &[
    counter(
        "lapwing_agent_collector_errors_total",
        Unit::None,
        "Ticks at which a collector could not read all it should.",
    )
    .job("lapwing")
    .tier(Tier::Window)
    .labels(&["collector"]),
    counter("node_cpu_guest_seconds_total", Unit::Seconds, "CPU time of guests, which user and nice hold already.")
        .decimals(2)
        .peak()
        .labels(&["cpu", "mode"]),
    counter("node_cpu_seconds_total", Unit::Seconds, "CPU time by core and mode.")
        .decimals(2)
        .peak()
        .labels(&["cpu", "mode"]),
    gauge("node_load1", Unit::None, "1 minute load average.").decimals(2),
    gauge("node_load15", Unit::None, "15 minute load average.").decimals(2),
    gauge("node_load5", Unit::None, "5 minute load average.").decimals(2),
    gauge("node_scrape_collector_success", Unit::None, "Whether a collector succeeded.")
        .tier(Tier::Window)
        .labels(&["collector"]),
];

/// Finds a metric while compiling: a name that is not in the catalog does not build.
///
/// # Panics
/// At compile time, when `name` is unknown.
#[must_use]
#[expect(clippy::panic, reason = "evaluated by the compiler")]
pub const fn metric(name: &str) -> &'static Metric {
    let mut at = 0;
    while at < METRICS.len() {
        if equal(METRICS[at].name.as_bytes(), name.as_bytes()) {
            return &METRICS[at];
        }
        at += 1;
    }
    panic!("no such metric in common::catalog")
}

/// Finds a metric by a name that the kernel made: a line of `/proc/meminfo`, say.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.binary_search_by(|metric| metric.name.cmp(name)).ok().map(|at| &METRICS[at])
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        decimals: Decimals::new(0),
        peak: false,
        tier: Tier::Second,
        job: "node",
        labels: &[],
        help,
    }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { kind: Kind::Counter, ..gauge(name, unit, help) }
}

impl Metric {
    const fn decimals(self, digits: u8) -> Self {
        Self { decimals: Decimals::new(digits), ..self }
    }

    const fn peak(self) -> Self {
        Self { peak: true, ..self }
    }

    const fn tier(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }

    const fn job(self, job: &'static str) -> Self {
        Self { job, ..self }
    }

    const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let unsorted: Vec<_> = METRICS.windows(2).filter(|pair| pair[1].name <= pair[0].name).collect();
        assert_eq!(unsorted, Vec::<&[Metric]>::new());
    }
}
