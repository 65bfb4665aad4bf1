//! What a reading gave values, for what is read once a window or more seldom.

use common::catalog::Metric;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;

/// The series of a reading. They are looked up anew at each, which costs a search among those of the entity, so that
/// another collector may end the entity: a network interface has series of several.
#[derive(Debug, Default)]
pub(super) struct Given {
    before: Vec<SeriesKey>,
    now: Vec<SeriesKey>,
}

impl Given {
    /// Puts a value of the reading.
    pub(super) fn put(
        &mut self,
        samples: &mut Samples,
        entity: u32,
        (metric, labels): (&'static Metric, &Labels),
        value: f64,
    ) {
        let series = samples.series(entity, metric, labels);
        samples.put(series, value);
        self.now.push(series);
    }

    /// Puts a count of the host's. Above 2^53 the nearest float is taken.
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    pub(super) fn put_count(&mut self, samples: &mut Samples, what: (&'static Metric, &Labels), value: u64) {
        self.put(samples, HOST, what, value as f64);
    }

    /// Ends the reading: what it gave no value is gone.
    pub(super) fn end(&mut self, samples: &mut Samples) {
        self.now.sort_unstable();
        let gone = |series: &&SeriesKey| self.now.binary_search(series).is_err();
        self.before.iter().filter(gone).for_each(|series| samples.end(*series));
        std::mem::swap(&mut self.before, &mut self.now);
        self.now.clear();
    }
}

#[cfg(test)]
mod tests {
    use common::catalog::metric;

    use super::*;

    #[test]
    fn what_readings_give_no_value_ends_and_comes_back_as_another() {
        let mut samples = Samples::default();
        let mut given = Given::default();
        let mut check = |cpus: &str, expect: &[u32]| {
            samples.begin_tick();
            for cpu in cpus.split_whitespace() {
                let cpu = Labels::new().with("cpu", cpu);
                given.put(&mut samples, 0, (metric("node_cpu_isolated"), &cpu), 1.0);
            }
            given.end(&mut samples);
            let living = samples.settle();
            let living: Vec<u32> = living.living(living.version()).map(|(series, _)| series.0).collect();
            assert_eq!(living, expect, "{cpus}");
        };
        check("3 1", &[0, 1]);
        check("1 3", &[0, 1]);
        check("1", &[0, 1]);
        check("1 3", &[0, 1]);
        check("1", &[0, 1]);
        check("1", &[1]);
        check("1 3", &[1, 2]);
        check("", &[1, 2]);
        check("", &[]);
    }
}
