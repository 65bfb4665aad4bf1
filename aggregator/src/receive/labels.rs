//! Which label sets a series from elsewhere may have.

use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

/// Labels of one series: Kubernetes' own targets have two dozen.
pub const SERIES_LABELS_MAX: usize = 64;

/// Bytes of a label's name, as others allow.
pub const LABEL_NAME_BYTES_MAX: usize = 1_024;

/// Bytes of a label's value: a URL, a command line, never a document.
pub const LABEL_VALUE_BYTES_MAX: usize = 4_096;

/// What is wrong with a label set. Names may be any text, as in Prometheus 3.
pub(super) fn fault<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<String> {
    let mut count = 0;
    let mut named = false;
    for (name, value) in pairs.clone() {
        count += 1;
        if name.is_empty() {
            return Some("a label has no name".to_owned());
        }
        if LABEL_NAME_BYTES_MAX < name.len() {
            return Some(format!("the name of a label has more than {LABEL_NAME_BYTES_MAX} bytes"));
        }
        if LABEL_VALUE_BYTES_MAX < value.len() {
            return Some(format!("label {name:?} has a value of more than {LABEL_VALUE_BYTES_MAX} bytes"));
        }
        named |= name == NAME && !value.is_empty();
    }
    if SERIES_LABELS_MAX < count {
        return Some(format!("it has more than {SERIES_LABELS_MAX} labels"));
    }
    if !named {
        return Some(format!("it has no name: label {NAME} is missing"));
    }
    repeated(pairs).map(|name| format!("label {name:?} is there twice"))
}

fn repeated<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    let mut names: Vec<&str> = pairs.map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// A sample, for a message about it.
pub(super) fn example(labels: &Labels, at: Timestamp) -> String {
    format!("{} at {at}", beginning(labels))
}

/// The beginning of a label set, for a message about it: a whole one may be long.
pub(super) fn beginning(labels: &Labels) -> String {
    const CHARS: usize = 200;
    let text = labels.to_string();
    match text.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
