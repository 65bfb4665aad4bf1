//! The text that exporters print, and what `docs/METRICS.md` says of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Values by series, as they are written but for empty labels.
pub(crate) fn exposition(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((without_empty_labels(series), value.parse().ok()?))
    };
    lines.filter_map(parse).collect()
}

/// An empty label is none.
fn without_empty_labels(series: &str) -> String {
    let mut series = series.to_owned();
    while let Some(at) = series.find("=\"\"") {
        let name = series[..at].rfind(['{', ',']).unwrap() + 1;
        let end = at + 3;
        let comma = usize::from(series[end..].starts_with(','));
        series.replace_range(name..end + comma, "");
    }
    series.replace(",}", "}")
}

/// The name of a series' metric.
pub(crate) fn family(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

/// The name of a metric, in which a `*` stands for anything.
#[derive(Debug)]
pub(crate) struct Pattern {
    head: String,
    tail: Option<String>,
}

impl Pattern {
    pub(crate) fn is_of(&self, family: &str) -> bool {
        let Some(tail) = &self.tail else { return family == self.head };
        family.starts_with(&self.head) && family.ends_with(tail)
    }
}

/// The metrics of the table in a section of the document.
pub(crate) fn documented(section: &str) -> Vec<Pattern> {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md")).unwrap();
    let (_, table) = document.split_once(&format!("## {section}\n")).unwrap();
    let table = table.split("\n## ").next().unwrap_or_default();
    let named = table.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split('`').nth(1));
    let pattern = |name: &str| match name.split_once('*') {
        Some((head, tail)) => Pattern { head: head.to_owned(), tail: Some(tail.to_owned()) },
        None => Pattern { head: name.to_owned(), tail: None },
    };
    named.map(pattern).collect()
}
