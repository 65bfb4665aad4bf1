//! `/proc/sys/kernel/random`: what the kernel's random numbers are made from.

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

const FILES: [(&str, &Metric); 2] =
    [("entropy_avail", metric("node_entropy_available_bits")), ("poolsize", metric("node_entropy_pool_size_bits"))];

/// The entropy pool.
pub(super) struct Entropy([(PathBuf, SeriesKey); FILES.len()]);

impl Entropy {
    pub(super) fn new(roots: &Roots, samples: &mut Samples) -> Self {
        let random = roots.procfs.join("sys/kernel/random");
        Self(FILES.map(|(name, metric)| (random.join(name), samples.series(HOST, metric, &Labels::new()))))
    }
}

impl Collector for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if !tick.moment.due(FILES[0].1.tier) {
            return Ok(());
        }
        for ((path, series), (name, _)) in self.0.iter().zip(FILES) {
            let text = tick.host.read_once(path)?;
            let bits = text::first(text).and_then(text::number).ok_or(CollectError::Malformed(name))?;
            tick.samples.put_count(*series, bits);
        }
        Ok(())
    }
}
