//! `/proc/sys/fs/file-nr`: files that are open on the host, and how many may be.

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
use crate::collect::text;
use crate::host::Roots;

const METRICS: [&Metric; 2] = [metric("node_filefd_allocated"), metric("node_filefd_maximum")];

/// Open files.
pub(super) struct Filefd {
    file: PathBuf,
    series: [SeriesKey; METRICS.len()],
}

impl Filefd {
    pub(super) fn new(roots: &Roots, samples: &mut Samples) -> Self {
        Self {
            file: roots.procfs.join("sys/fs/file-nr"),
            series: METRICS.map(|metric| samples.series(HOST, metric, &Labels::new())),
        }
    }
}

impl Collector for Filefd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(METRICS[0].tier) {
            return Ok(());
        }
        let text = tick.host.read_once(&self.file)?;
        // The one in the middle, of files that are free, is zero since Linux 2.6.
        let [allocated, _, maximum] =
            text::lines(text).next().and_then(text::array).ok_or(CollectError::Malformed("file-nr"))?;
        for (series, value) in self.series.into_iter().zip([allocated, maximum]) {
            tick.samples.put_count(series, value);
        }
        Ok(())
    }
}
