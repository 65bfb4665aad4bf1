//! What the agent itself costs and how it fares.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

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
use crate::config::Roots;
use crate::host;
use crate::host::SIGHTS;

/// What other parts of the agent count about themselves; they write, this collector reads.
#[derive(Debug, Default)]
pub struct OwnCounts {
    /// Values folded into windows.
    pub samples: AtomicU64,
    /// Ticks that came so late that another was due already.
    pub late_ticks: AtomicU64,
    /// Windows that were not written because the clock was set back.
    pub skipped_windows: AtomicU64,
    /// Batches that wait for their acknowledgement.
    pub spool_batches: AtomicU64,
    /// Bytes that some of them take on disk.
    pub spool_disk_bytes: AtomicU64,
    /// Whether the disk does not take them.
    pub spool_disk_failing: AtomicU64,
    /// Files of the spool that could not be read back.
    pub spool_corrupt_files: AtomicU64,
    /// Batches that were dropped because the spool was full, or lost with a file of it.
    pub dropped_batches: AtomicU64,
    /// Sessions with the aggregator after the first.
    pub reconnects: AtomicU64,
    /// Packets to the aggregator that were lost.
    pub lost_packets: AtomicU64,
    /// Time to the aggregator and back, in microseconds; 0 while it is not known.
    pub round_trip_us: AtomicU64,
    /// What may be on its way at once.
    pub congestion_window_bytes: AtomicU64,
    /// Whether the session goes over TCP.
    pub session_over_tcp: AtomicU64,
    /// Whether what the aggregator wanted to set last was refused.
    pub settings_refused: AtomicU64,
    /// Whether the aggregator keeps it out, because another agent has its state.
    pub kept_out: AtomicU64,
    /// How far back the flight recorder reaches, in seconds.
    pub recorded_seconds: AtomicU64,
    /// Series that found no room.
    pub refused_series: AtomicU64,
    /// How far stamps are ahead of the host's wall clock, in milliseconds.
    pub clock_offset_ms: AtomicI64,
}

const CPU_SECONDS: &Metric = metric("lapwing_agent_cpu_seconds_total");
const RESIDENT_BYTES: &Metric = metric("lapwing_agent_resident_memory_bytes");
const ROUND_TRIP: &Metric = metric("lapwing_agent_round_trip_seconds");
const CONGESTION_WINDOW: &Metric = metric("lapwing_agent_congestion_window_bytes");
const CLOCK_OFFSET: &Metric = metric("lapwing_agent_clock_offset_seconds");

const DENIED: &Metric = metric("lapwing_agent_denied");

type Count = fn(&OwnCounts) -> &AtomicU64;

/// Metrics of [`OwnCounts`], and which count each shows.
const COUNTS: [(&Metric, Count); 15] = [
    (metric("lapwing_agent_samples_total"), |own| &own.samples),
    (metric("lapwing_agent_late_ticks_total"), |own| &own.late_ticks),
    (metric("lapwing_agent_skipped_windows_total"), |own| &own.skipped_windows),
    (metric("lapwing_agent_spool_batches"), |own| &own.spool_batches),
    (metric("lapwing_agent_spool_corrupt_files_total"), |own| &own.spool_corrupt_files),
    (metric("lapwing_agent_spool_disk_bytes"), |own| &own.spool_disk_bytes),
    (metric("lapwing_agent_spool_disk_failing"), |own| &own.spool_disk_failing),
    (metric("lapwing_agent_dropped_batches_total"), |own| &own.dropped_batches),
    (metric("lapwing_agent_reconnects_total"), |own| &own.reconnects),
    (metric("lapwing_agent_lost_packets_total"), |own| &own.lost_packets),
    (metric("lapwing_agent_session_over_tcp"), |own| &own.session_over_tcp),
    (metric("lapwing_agent_kept_out"), |own| &own.kept_out),
    (metric("lapwing_agent_settings_refused"), |own| &own.settings_refused),
    (metric("lapwing_agent_recorded_seconds"), |own| &own.recorded_seconds),
    (metric("lapwing_agent_refused_series_total"), |own| &own.refused_series),
];

/// The agent's own cost.
pub(super) struct Own {
    counts: Arc<OwnCounts>,
    cpu: SeriesKey,
    resident: SeriesKey,
    offset: SeriesKey,
    round_trip: SeriesKey,
    congestion_window: SeriesKey,
    series: [SeriesKey; COUNTS.len()],
    /// What the agent may see changes only with the process: asked once.
    denied: [(SeriesKey, bool); SIGHTS.len()],
}

impl Own {
    pub(super) fn new(counts: Arc<OwnCounts>, roots: &Roots, samples: &mut Samples) -> Self {
        let denied = SIGHTS.map(|sight| {
            let labels = Labels::new().with("sight", sight.name);
            (samples.series(HOST, DENIED, &labels), sight.is_denied(roots))
        });
        let mut series = |metric| samples.series(HOST, metric, &Labels::new());
        Self {
            counts,
            cpu: series(CPU_SECONDS),
            resident: series(RESIDENT_BYTES),
            offset: series(CLOCK_OFFSET),
            round_trip: series(ROUND_TRIP),
            congestion_window: series(CONGESTION_WINDOW),
            series: COUNTS.map(|(metric, _)| series(metric)),
            denied,
        }
    }
}

impl Collector for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(CPU_SECONDS.tier) {
            return Ok(());
        }
        for (series, (_, count)) in self.series.into_iter().zip(COUNTS) {
            tick.samples.put_count(series, count(&self.counts).load(Relaxed));
        }
        for (series, denied) in self.denied {
            tick.samples.put(series, f64::from(u8::from(denied)));
        }
        tick.samples.put(self.cpu, host::own_cpu_time().as_secs_f64());
        tick.samples.put(self.offset, self.counts.clock_offset_ms.load(Relaxed) as f64 / 1e3);
        let round_trip_us = self.counts.round_trip_us.load(Relaxed);
        if 0 < round_trip_us {
            tick.samples.put(self.round_trip, Duration::from_micros(round_trip_us).as_secs_f64());
            tick.samples.put_count(self.congestion_window, self.counts.congestion_window_bytes.load(Relaxed));
        }
        // Our own kernel's, whatever tree the host is read from.
        let statm = tick.host.read_once(Path::new("/proc/self/statm"))?;
        let [_size, resident_pages] = text::array(statm.trim_ascii_end()).ok_or(CollectError::Malformed("statm"))?;
        tick.samples.put_count(self.resident, resident_pages.saturating_mul(host::page_bytes()));
        Ok(())
    }
}
