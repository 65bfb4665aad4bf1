//! What time the host believes it is, and by which clock.

use std::path::PathBuf;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::given::Given;
use crate::collect::if_there;
use crate::collect::text;
use crate::host::Roots;

const SECONDS: &Metric = metric("node_time_seconds");

/// Files that name clock sources, and what it says of one to be named there. There is one device, numbered zero.
const CLOCKS: [(&str, &Metric); 2] = [
    ("available_clocksource", metric("node_time_clocksource_available_info")),
    ("current_clocksource", metric("node_time_clocksource_current_info")),
];
const DEVICE: &str = "0";

/// The host's wall clock, as wrong as it may be.
pub(super) struct Time {
    seconds: SeriesKey,
    clocks: [PathBuf; CLOCKS.len()],
    given: Given,
}

impl Time {
    pub(super) fn new(roots: &Roots, samples: &mut Samples) -> Self {
        let device = roots.sysfs.join("devices/system/clocksource/clocksource0");
        Self {
            seconds: samples.series(HOST, SECONDS, &Labels::new()),
            clocks: CLOCKS.map(|(name, _)| device.join(name)),
            given: Given::default(),
        }
    }

    fn clocks(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        for (path, (_, metric)) in self.clocks.iter().zip(CLOCKS) {
            let text = if_there(tick.host.read_once(path))?.unwrap_or_default();
            for clock in text::words(text.trim_ascii()) {
                let labels = Labels::new().with("clocksource", text::label(clock)).with("device", DEVICE);
                self.given.put(tick.samples, HOST, (metric, &labels), 1.0);
            }
        }
        self.given.end(tick.samples);
        Ok(())
    }
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if tick.moment.due(SECONDS.tier) {
            tick.samples.put(self.seconds, tick.moment.wall.as_seconds());
        }
        if tick.moment.due(CLOCKS[0].1.tier) { self.clocks(tick) } else { Ok(()) }
    }
}
