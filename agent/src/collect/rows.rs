//! Rows of numbers of the host, a core or a method each.

use common::catalog::Metric;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::roster::Roster;
use crate::collect::text;

/// The series of each row: its name is the label, its columns are the metrics.
pub(super) struct Rows<const COLUMNS: usize> {
    label: &'static str,
    metrics: [&'static Metric; COLUMNS],
    rows: Roster<[SeriesKey; COLUMNS]>,
}

impl<const COLUMNS: usize> Rows<COLUMNS> {
    pub(super) fn new(label: &'static str, metrics: [&'static Metric; COLUMNS]) -> Self {
        Self { label, metrics, rows: Roster::default() }
    }

    /// Begins a reading.
    pub(super) fn begin(&mut self) {
        self.rows.begin();
    }

    pub(super) fn put(&mut self, name: &[u8], values: [f64; COLUMNS], samples: &mut Samples) {
        let series = self.rows.get(name, || {
            let labels = Labels::new().with(self.label, text::label(name));
            self.metrics.map(|metric| samples.series(HOST, metric, &labels))
        });
        for (series, value) in series.iter().zip(values) {
            samples.put(*series, value);
        }
    }

    /// Ends a reading: rows that it did not have are gone.
    pub(super) fn end(&mut self, samples: &mut Samples) {
        self.rows.end(|series| series.into_iter().for_each(|series| samples.end(series)));
    }
}
