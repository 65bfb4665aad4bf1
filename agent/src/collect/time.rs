//! What time the host believes it is.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::schema::SeriesIndex;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::Tick;

const SECONDS: &Metric = metric("node_time_seconds");

/// The host's wall clock, as wrong as it may be.
pub(super) struct Time(SeriesIndex);

impl Time {
    pub(super) fn new(samples: &mut Samples) -> Self {
        Self(samples.series(HOST, SECONDS, &Labels::new()))
    }
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if tick.moment.due(SECONDS.tier) {
            tick.samples.put(self.0, tick.moment.wall.as_seconds());
        }
        Ok(())
    }
}
