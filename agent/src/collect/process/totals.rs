//! How many processes and threads the host has and may have, as node_exporter names it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::HOST;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::if_there;
use crate::collect::process::group::Level;
use crate::collect::text;

const PROCESSES: &Metric = metric("node_processes_pids");
const THREADS: &Metric = metric("node_processes_threads");
const STATE: &Metric = metric("node_processes_state");

/// Files of `/proc/sys/kernel` that say how many there may be.
const LIMITS: [(&str, &Metric); 2] =
    [("pid_max", metric("node_processes_max_processes")), ("threads-max", metric("node_processes_max_threads"))];

/// All processes of the host together.
pub(super) struct Totals {
    kernel: PathBuf,
    /// By the letter of each state in which a process was seen.
    states: BTreeMap<u8, SeriesKey>,
}

impl Totals {
    pub(super) fn new(procfs: &Path) -> Self {
        Self { kernel: procfs.join("sys/kernel"), states: BTreeMap::new() }
    }

    /// Puts what is due; of processes only if all are seen.
    pub(super) fn put(
        &mut self,
        tick: &mut Tick<'_>,
        levels: Option<impl Iterator<Item = Level>>,
    ) -> Result<(), CollectError> {
        if let Some(levels) = levels.filter(|_| tick.moment.due(PROCESSES.tier)) {
            self.put_counts(tick, levels);
        }
        self.put_limits(tick)
    }

    fn put_counts(&mut self, tick: &mut Tick<'_>, levels: impl Iterator<Item = Level>) {
        let (mut processes, mut threads) = (0, 0);
        let mut states: BTreeMap<u8, u64> = self.states.keys().map(|letter| (*letter, 0)).collect();
        for level in levels.filter(|level| level.state.is_ascii_alphabetic()) {
            processes += 1;
            threads += level.threads;
            *states.entry(level.state).or_default() += 1;
        }
        if processes == 0 {
            return;
        }
        for (metric, count) in [(PROCESSES, processes), (THREADS, threads)] {
            let series = tick.samples.series(HOST, metric, &Labels::new());
            tick.samples.put_count(series, count);
        }
        for (letter, count) in states {
            let series = self.states.entry(letter).or_insert_with(|| {
                let labels = Labels::new().with("state", &*char::from(letter).to_string());
                tick.samples.series(HOST, STATE, &labels)
            });
            tick.samples.put_count(*series, count);
        }
    }

    fn put_limits(&self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        for (name, metric) in LIMITS {
            if !tick.moment.due(metric.tier) {
                continue;
            }
            let Some(text) = if_there(tick.host.read_once(&self.kernel.join(name)))? else { continue };
            let limit = text::first(text).and_then(text::number).ok_or(CollectError::Malformed(name))?;
            let series = tick.samples.series(HOST, metric, &Labels::new());
            tick.samples.put_count(series, limit);
        }
        Ok(())
    }
}
