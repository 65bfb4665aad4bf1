//! `/proc/vmstat`: paging, faults and OOM kills.

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::fields::Fields;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// The fields that the catalog knows: those that node_exporter shows by default.
pub(super) struct Vmstat {
    file: KeptFile,
    fields: Fields,
}

impl Vmstat {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: KeptFile::new(roots.procfs.join("vmstat")), fields: Fields::new("node_vmstat_") }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.fields.begin();
        for line in text::lines(text) {
            let mut words = text::words(line);
            let named = words.next().zip(words.next());
            understood = understood.and(named.and_then(|(name, value)| self.fields.put(name, value, samples)));
        }
        self.fields.end(samples);
        understood
    }
}

impl Collector for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let text = tick.host.read(&mut self.file)?;
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("vmstat"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_read_and_others_passed_over() {
        let check = |text: &[u8], understood: bool, expect: &[f64]| {
            let mut samples = Samples::default();
            let parsed = Vmstat::new(&Roots::default()).parse(text, &mut samples);
            assert_eq!(parsed.is_some(), understood, "{}", text.escape_ascii());
            let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expect, "{}", text.escape_ascii());
        };
        check(b"nr_free_pages 1\npgpgin 2\npgfault 3 4\noom_kill 5\n", true, &[2.0, 3.0, 5.0]);
        check(b"pgpgin x\noom_kill 5\n", false, &[5.0]);
        check(b"pgpgin\noom_kill 5\n", false, &[5.0]);
        check(b"pgpgin 2\noom_kill 55", true, &[2.0]);
        check(b"nr_unstable -3\n\xff 1\n", true, &[]);
        check(b"", false, &[]);
    }
}
