//! The figures of one cgroup that have no device and no interface: values, counters that never fall, their series.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;

/// What is known of a cgroup, in the order of [`SERIES`].
#[derive(Clone, Copy)]
pub(super) enum Figure {
    Cpu,
    User,
    System,
    Periods,
    ThrottledPeriods,
    ThrottledSeconds,
    Quota,
    Period,
    Shares,
    Memory,
    MemoryMost,
    MemoryFailures,
    WorkingSet,
    Rss,
    Cache,
    MappedFile,
    Kernel,
    Swap,
    Faults,
    MajorFaults,
    FaultsOfAll,
    MajorFaultsOfAll,
    RefaultsFile,
    RefaultsAnon,
    MemoryLimit,
    Oom,
    CpuWaiting,
    CpuStalled,
    MemoryWaiting,
    MemoryStalled,
    IoWaiting,
    IoStalled,
    Processes,
    Threads,
    ThreadsMax,
    Start,
}

type Column = (&'static Metric, &'static [(&'static str, &'static str)]);

const fn plain(name: &str) -> Column {
    (metric(name), &[])
}

const FAILURES: &Metric = metric("container_memory_failures_total");

const SERIES: [Column; Figure::Start as usize + 1] = [
    (metric("container_cpu_usage_seconds_total"), &[("cpu", "total")]),
    plain("container_cpu_user_seconds_total"),
    plain("container_cpu_system_seconds_total"),
    plain("container_cpu_cfs_periods_total"),
    plain("container_cpu_cfs_throttled_periods_total"),
    plain("container_cpu_cfs_throttled_seconds_total"),
    plain("container_spec_cpu_quota"),
    plain("container_spec_cpu_period"),
    plain("container_spec_cpu_shares"),
    plain("container_memory_usage_bytes"),
    plain("container_memory_max_usage_bytes"),
    plain("container_memory_failcnt"),
    plain("container_memory_working_set_bytes"),
    plain("container_memory_rss"),
    plain("container_memory_cache"),
    plain("container_memory_mapped_file"),
    plain("container_memory_kernel_usage"),
    plain("container_memory_swap"),
    (FAILURES, &[("failure_type", "pgfault"), ("scope", "container")]),
    (FAILURES, &[("failure_type", "pgmajfault"), ("scope", "container")]),
    (FAILURES, &[("failure_type", "pgfault"), ("scope", "hierarchy")]),
    (FAILURES, &[("failure_type", "pgmajfault"), ("scope", "hierarchy")]),
    plain("container_memory_workingset_refault_file_total"),
    plain("container_memory_workingset_refault_anon_total"),
    plain("container_spec_memory_limit_bytes"),
    plain("container_oom_events_total"),
    plain("container_pressure_cpu_waiting_seconds_total"),
    plain("container_pressure_cpu_stalled_seconds_total"),
    plain("container_pressure_memory_waiting_seconds_total"),
    plain("container_pressure_memory_stalled_seconds_total"),
    plain("container_pressure_io_waiting_seconds_total"),
    plain("container_pressure_io_stalled_seconds_total"),
    plain("container_processes"),
    plain("container_threads"),
    plain("container_threads_max"),
    plain("container_start_time_seconds"),
];

/// The figures of one cgroup.
#[derive(Debug)]
pub(super) struct Figures {
    values: [Option<f64>; SERIES.len()],
    series: [Option<SeriesKey>; SERIES.len()],
}

impl Default for Figures {
    fn default() -> Self {
        Self { values: [None; SERIES.len()], series: [None; SERIES.len()] }
    }
}

impl Figures {
    pub(super) fn get(&self, figure: Figure) -> Option<f64> {
        self.values[figure as usize]
    }

    /// Sets a value. What cannot be read for once is what it was.
    pub(super) fn set(&mut self, figure: Figure, value: Option<f64>) {
        self.values[figure as usize] = value.or(self.values[figure as usize]);
    }

    /// Says that there is no such value any more.
    pub(super) fn clear(&mut self, figure: Figure) {
        self.values[figure as usize] = None;
    }

    /// Sets a counter. The kernel scales the split of CPU time anew at each read: it may step back a little.
    pub(super) fn grow(&mut self, figure: Figure, value: Option<f64>) {
        let before = self.get(figure);
        self.set(figure, value.map(|value| before.map_or(value, |before| value.max(before))));
    }

    /// Puts what is due, under the labels of `entity`.
    pub(super) fn put(&mut self, samples: &mut Samples, entity: u32, moment: Moment) {
        for (at, (metric, labels)) in SERIES.iter().enumerate() {
            let Some(value) = self.values[at].filter(|_| moment.due(metric.tier)) else { continue };
            let series = *self.series[at]
                .get_or_insert_with(|| samples.series(entity, metric, &labels.iter().copied().collect::<Labels>()));
            samples.put(series, value);
        }
    }

    /// Lets the next [`Self::put`] make new series.
    pub(super) fn forget_series(&mut self) {
        self.series = [None; SERIES.len()];
    }
}
