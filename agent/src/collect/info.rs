//! A series that is always one: its labels are what it says.

use common::catalog::Metric;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;

/// One such series. Labels that changed end it and begin another.
pub(super) struct Info {
    metric: &'static Metric,
    said: Option<(Labels, SeriesKey)>,
}

impl Info {
    pub(super) const fn new(metric: &'static Metric) -> Self {
        Self { metric, said: None }
    }

    pub(super) const fn metric(&self) -> &'static Metric {
        self.metric
    }

    pub(super) fn put(&mut self, samples: &mut Samples, labels: Labels) {
        let series = match self.said.take() {
            Some((said, series)) if said == labels => series,
            before => {
                if let Some((_, series)) = before {
                    samples.end(series);
                }
                samples.series(HOST, self.metric, &labels)
            }
        };
        samples.put(series, 1.0);
        self.said = Some((labels, series));
    }
}
