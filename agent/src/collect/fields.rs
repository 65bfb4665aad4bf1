//! Numbers that a file names, a metric of the host each.

use common::catalog;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::roster::Roster;
use crate::collect::text;

/// The fields that the catalog knows, by what stands behind the prefix in the metric's name; others are passed over.
pub(super) struct Fields {
    prefix: &'static str,
    fields: Roster<Option<SeriesKey>>,
}

impl Fields {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, fields: Roster::default() }
    }

    /// Begins a reading.
    pub(super) fn begin(&mut self) {
        self.fields.begin();
    }

    /// The series of a field, if the catalog knows it.
    pub(super) fn get(&mut self, name: &[u8], samples: &mut Samples) -> Option<SeriesKey> {
        *self.fields.get(name, || {
            let metric = catalog::find(&format!("{}{}", self.prefix, text::label(name)))?;
            Some(samples.series(HOST, metric, &Labels::new()))
        })
    }

    /// Puts what stands as a field's value; `None` if it is known and no number.
    pub(super) fn put(&mut self, name: &[u8], value: &[u8], samples: &mut Samples) -> Option<()> {
        if let Some(series) = self.get(name, samples) {
            samples.put_count(series, text::number(value)?);
        }
        Some(())
    }

    /// Ends a reading: fields that it did not name are gone.
    pub(super) fn end(&mut self, samples: &mut Samples) {
        self.fields.end(|series| series.into_iter().for_each(|series| samples.end(series)));
    }
}
