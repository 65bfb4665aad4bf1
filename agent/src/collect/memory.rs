//! `/proc/meminfo`: how memory is used.

use common::catalog;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::roster::Roster;
use crate::collect::text;
use crate::host::KeptFile;
use crate::host::Roots;

/// Every field of the kernel's that the catalog knows.
pub(super) struct Memory {
    file: KeptFile,
    fields: Roster<Option<SeriesKey>>,
}

impl Memory {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { file: KeptFile::in_one_piece(roots.procfs.join("meminfo")), fields: Roster::default() }
    }

    pub(super) fn parse(&mut self, text: &[u8], samples: &mut Samples) -> Option<()> {
        let mut understood = Some(()).filter(|()| !text.is_empty());
        self.fields.begin();
        for line in text::lines(text) {
            let Some(Field { name, value, is_kib }) = field(line) else {
                understood = None;
                continue;
            };
            let series = self.fields.get(name, || {
                let metric = catalog::find(&metric_name(name, is_kib))?;
                Some(samples.series(HOST, metric, &Labels::new()))
            });
            if let Some(series) = *series {
                samples.put_count(series, if is_kib { value.saturating_mul(1024) } else { value });
            }
        }
        self.fields.end(|series| series.into_iter().for_each(|series| samples.end(series)));
        understood
    }
}

impl Collector for Memory {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let text = tick.host.read(&mut self.file)?;
        self.parse(text, tick.samples).ok_or(CollectError::Malformed("meminfo"))
    }
}

#[derive(Debug, PartialEq)]
struct Field<'a> {
    name: &'a [u8],
    value: u64,
    is_kib: bool,
}

/// `Active(anon):  2020004 kB`; a count has no unit.
fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let mut words = text::words(&line[colon + 1..]);
    let value = text::number(words.next()?)?;
    Some(Field { name: &line[..colon], value, is_kib: words.next() == Some(b"kB") })
}

/// `Active(anon)` in kB is `node_memory_Active_anon_bytes`.
fn metric_name(field: &[u8], is_kib: bool) -> String {
    let field = text::label(field).replace('(', "_").replace(')', "");
    format!("node_memory_{field}{}", if is_kib { "_bytes" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_a_name_a_number_and_perhaps_a_unit() {
        let check = |line: &[u8], expect: Option<(&str, u64)>| {
            let found = field(line).map(|Field { name, value, is_kib }| (metric_name(name, is_kib), value));
            assert_eq!(found, expect.map(|(name, value)| (name.to_owned(), value)), "{}", line.escape_ascii());
        };
        check(b"MemTotal:        3742148 kB", Some(("node_memory_MemTotal_bytes", 3_742_148)));
        check(b"Active(anon):    2020004 kB", Some(("node_memory_Active_anon_bytes", 2_020_004)));
        check(b"HugePages_Total:       7", Some(("node_memory_HugePages_Total", 7)));
        check(b"MemTotal:", None);
        check(b"MemTotal 3742148 kB", None);
        check(b"MemTotal: -1 kB", None);
        check(b"", None);
    }

    #[test]
    fn unknown_fields_and_garbage_leave_the_others_standing() {
        let check = |text: &[u8], understood: bool, expect: &[f64]| {
            let mut samples = Samples::default();
            let parsed = Memory::new(&Roots::default()).parse(text, &mut samples);
            assert_eq!(parsed.is_some(), understood, "{}", text.escape_ascii());
            let values: Vec<f64> = samples.values().iter().map(|(_, value)| *value).collect();
            assert_eq!(values, expect, "{}", text.escape_ascii());
        };
        check(b"MemTotal: 2 kB\nFromTheFuture: 1 kB\nMemFree: 1 kB extra\n", true, &[2_048.0, 1_024.0]);
        check(b"MemTotal: 2 kB\nMemTotal: 3 kB\n", true, &[2_048.0]);
        check(b"MemTotal: 2 kB\n\xff\xff\nMemFree: 1 kB\n", false, &[2_048.0, 1_024.0]);
        check(b"MemTotal: 2 kB\nMemFree: 1", true, &[2_048.0]);
        check(b"", false, &[]);
    }
}
