//! The script's notation of a series: `name{label="value"} 1 2 _ 3+1x5 stale`.

use aggregator::query::source::Memory;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

use crate::script::Load;

/// What stands at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item {
    /// Nothing.
    None,
    /// A staleness mark.
    Stale,
    /// A sample.
    Value(f64),
}

/// Adds series to memory. Gives the names of those that are native histograms, which are not added.
pub(crate) fn load(load: &Load, memory: &Memory) -> Vec<String> {
    let mut histograms = Vec::new();
    for line in &load.series {
        let (labels, values) = metric(line);
        if values.contains("{{") {
            histograms.push(labels.get(NAME).to_owned());
            continue;
        }
        if load.with_native {
            histograms.push(labels.get(NAME).trim_end_matches("_bucket").to_owned());
        }
        let mut at = Timestamp::default();
        for item in items(values) {
            match item {
                Item::None => {}
                Item::Stale => memory.mark_stale(&labels, at),
                Item::Value(value) => memory.append_sample(&labels, at, value),
            }
            at = at.after(load.step);
        }
    }
    histograms
}

/// Splits a line into labels and what stands behind them.
pub(crate) fn metric(line: &str) -> (Labels, &str) {
    let name_ends = line.find(|char: char| char == '{' || char.is_whitespace()).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_ends);
    let mut labels = Labels::new().with(NAME, name);
    let Some(inside) = rest.strip_prefix('{') else {
        return (labels, rest.trim());
    };
    rest = inside.trim_start();
    while !rest.starts_with('}') {
        let (name, behind) = name_or_text(rest);
        let (value, behind) = match behind.trim_start().strip_prefix('=') {
            Some(value) => quoted(value.trim_start()),
            None => (None, behind),
        };
        match value {
            Some(value) => labels.set(name, value),
            None => labels.set(NAME, name),
        }
        rest = behind.trim_start().trim_start_matches(',').trim_start();
    }
    (labels, rest[1..].trim())
}

fn name_or_text(text: &str) -> (String, &str) {
    match quoted(text) {
        (Some(name), behind) => (name, behind),
        (None, _) => {
            let ends = text.find(['=', ',', '}', ' ']).unwrap();
            (text[..ends].to_owned(), &text[ends..])
        }
    }
}

fn quoted(text: &str) -> (Option<String>, &str) {
    let Some(quote) = text.chars().next().filter(|char| matches!(char, '"' | '\'' | '`')) else {
        return (None, text);
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if quote != '`' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, escaped)) => value.push(escaped),
                None => {}
            },
            char if char == quote => return (Some(value), &text[at + 1..]),
            char => value.push(char),
        }
    }
    panic!("no end of string: {text}")
}

/// The items of a series: `1`, `_`, `_x3`, `stale`, `1x3` (four of them), `1+2x3`, `1-2x3`.
pub(crate) fn items(text: &str) -> Vec<Item> {
    text.split_whitespace().flat_map(item).collect()
}

fn item(text: &str) -> Vec<Item> {
    let (what, times) = match text.rsplit_once('x') {
        Some((what, times)) => (what, Some(times.parse::<u32>().unwrap())),
        None => (text, None),
    };
    match what {
        "_" => vec![Item::None; times.unwrap_or(1) as usize],
        "stale" => vec![Item::Stale; times.map_or(1, |times| times as usize + 1)],
        _ => {
            let (start, step) = start_and_step(what);
            (0..=times.unwrap_or(0)).map(|at| Item::Value(start + step * f64::from(at))).collect()
        }
    }
}

/// `1`, `1+2`, `1-2`; a sign behind an `e` belongs to the number.
fn start_and_step(text: &str) -> (f64, f64) {
    let bytes = text.as_bytes();
    let sign = (1..bytes.len()).find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    match sign {
        Some(sign) => (number(&text[..sign]), number(&text[sign..])),
        None => (number(text), 0.0),
    }
}

/// A number in Go's notation.
pub(crate) fn number(text: &str) -> f64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text.trim_start_matches('+')), |digits| (-1.0, digits));
    sign * digits.parse::<f64>().unwrap_or_else(|_| panic!("no number: {text}"))
}
