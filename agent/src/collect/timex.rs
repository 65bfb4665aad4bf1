//! How right the kernel believes its clock to be.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::host;
use crate::host::Discipline;

type Part = fn(&Discipline) -> f64;

const PARTS: [(&Metric, Part); 17] = [
    (metric("node_timex_estimated_error_seconds"), |told| told.estimated_error_seconds),
    (metric("node_timex_frequency_adjustment_ratio"), |told| told.frequency_ratio),
    (metric("node_timex_loop_time_constant"), |told| told.loop_constant),
    (metric("node_timex_maxerror_seconds"), |told| told.max_error_seconds),
    (metric("node_timex_offset_seconds"), |told| told.offset_seconds),
    (metric("node_timex_pps_calibration_total"), |told| told.pps_calibrations),
    (metric("node_timex_pps_error_total"), |told| told.pps_errors),
    (metric("node_timex_pps_frequency_hertz"), |told| told.pps_frequency_hertz),
    (metric("node_timex_pps_jitter_seconds"), |told| told.pps_jitter_seconds),
    (metric("node_timex_pps_jitter_total"), |told| told.pps_jitters),
    (metric("node_timex_pps_shift_seconds"), |told| told.pps_shift_seconds),
    (metric("node_timex_pps_stability_exceeded_total"), |told| told.pps_instabilities),
    (metric("node_timex_pps_stability_hertz"), |told| told.pps_stability_hertz),
    (metric("node_timex_status"), |told| told.status),
    (metric("node_timex_sync_status"), |told| f64::from(u8::from(told.is_synchronized))),
    (metric("node_timex_tai_offset_seconds"), |told| told.tai_offset_seconds),
    (metric("node_timex_tick_seconds"), |told| told.tick_seconds),
];

/// What steers the clock.
pub(super) struct Timex([SeriesKey; PARTS.len()]);

impl Timex {
    pub(super) fn new(samples: &mut Samples) -> Self {
        Self(PARTS.map(|(metric, _)| samples.series(HOST, metric, &Labels::new())))
    }
}

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(PARTS[0].0.tier) {
            return Ok(());
        }
        let told = host::discipline().map_err(CollectError::Clock)?;
        for (series, (_, part)) in self.0.into_iter().zip(PARTS) {
            tick.samples.put(series, part(&told));
        }
        Ok(())
    }
}
