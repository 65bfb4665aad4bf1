//! Every metric that we emit: name, kind, unit, decimals, tier, labels and help. One line a metric.
//!
//! What stands here is sampled, shipped, stored, rolled up, queryable, documented (`docs/METRICS.md`) and selectable on
//! the page without another line.

mod container;
mod hardware;
mod kernel;
mod network;
mod own;
mod process;
mod protocol;
mod storage;
mod volume;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::metric::Decimals;
use crate::metric::Kind;
use crate::metric::Tier;
use crate::metric::Unit;

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

/// All metrics, a subject each.
const SUBJECTS: [&[Metric]; 9] = [
    container::METRICS,
    hardware::METRICS,
    kernel::METRICS,
    network::METRICS,
    own::METRICS,
    process::METRICS,
    protocol::METRICS,
    storage::METRICS,
    volume::METRICS,
];

static BY_NAME: LazyLock<HashMap<&str, &Metric>> =
    LazyLock::new(|| all().map(|metric| (metric.name, metric)).collect());

/// All metrics.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    SUBJECTS.into_iter().flatten()
}

/// Finds a metric while compiling: a name that is not in the catalog does not build.
///
/// # Panics
/// At compile time, when `name` is unknown.
#[must_use]
#[expect(clippy::panic, reason = "evaluated by the compiler")]
pub const fn metric(name: &str) -> &'static Metric {
    let mut subject = 0;
    while subject < SUBJECTS.len() {
        let mut at = 0;
        while at < SUBJECTS[subject].len() {
            if equal(SUBJECTS[subject][at].name.as_bytes(), name.as_bytes()) {
                return &SUBJECTS[subject][at];
            }
            at += 1;
        }
        subject += 1;
    }
    panic!("no such metric in common::catalog")
}

/// Finds a metric by a name that the kernel made: a line of `/proc/meminfo`, say.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    BY_NAME.get(name).copied()
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

    /// What we say about ourselves: once a window is enough.
    const fn own(self) -> Self {
        Self { job: "lapwing", tier: Tier::Window, ..self }
    }

    /// Of a container or service, as cAdvisor emits it.
    const fn container(self) -> Self {
        Self { job: "cadvisor", labels: container::LABELS, ..self }
    }

    /// Of a group of processes, as process-exporter emits it.
    const fn group(self) -> Self {
        Self { job: "process", labels: process::LABELS, ..self }
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
    fn names_are_unique_and_sorted_by_subject() {
        assert_eq!(BY_NAME.len(), all().count());
        for subject in SUBJECTS {
            let unsorted: Vec<_> = subject.windows(2).filter(|pair| pair[1].name <= pair[0].name).collect();
            assert_eq!(unsorted, Vec::<&[Metric]>::new());
        }
    }
}
