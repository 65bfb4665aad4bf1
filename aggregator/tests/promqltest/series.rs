//! The script's notation of a series: `name{label="value"} 1 2 _ 3+1x5 stale`.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use aggregator::query::QueryError;
use aggregator::query::source::Lend;
use aggregator::query::source::Memory;
use aggregator::query::source::Source;
use aggregator::store::select::Question;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

use crate::questions::Samples;
use crate::script::Load;

/// What stands at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item {
    /// Nothing.
    None,
    /// A native histogram.
    Histogram,
    /// A staleness mark.
    Stale,
    /// A sample.
    Value(f64),
}

/// What a script has loaded: the floats, and where native histograms would be.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    floats: Memory,
    histograms: Memory,
    /// Whether a selection has met a native histogram.
    met: AtomicBool,
}

impl Loaded {
    /// Adds series. Gives the floats among their samples.
    pub(crate) fn load(&self, load: &Load) -> Vec<(Labels, Timestamp, Item)> {
        let mut floats = Vec::new();
        for line in &load.series {
            let (labels, values) = metric(line);
            let mut at = Timestamp::default();
            for item in items(values) {
                match item {
                    Item::None => {}
                    Item::Histogram => self.histograms.append_sample(&labels, at, 1.0),
                    Item::Stale => self.floats.mark_stale(&labels, at),
                    Item::Value(value) => self.floats.append_sample(&labels, at, value),
                }
                if matches!(item, Item::Value(_)) && load.with_native {
                    self.histograms.append_sample(&native(&labels), at, 1.0);
                }
                if matches!(item, Item::Value(_) | Item::Stale) {
                    floats.push((labels.clone(), at, item));
                }
                at = at.after(load.step);
            }
        }
        floats
    }

    /// Only these floats.
    pub(crate) fn of(samples: &Samples) -> Self {
        let loaded = Self::default();
        for (labels, samples) in samples {
            samples.iter().for_each(|(stamp, value)| loaded.floats.append_sample(labels, *stamp, *value));
        }
        loaded
    }

    /// Whether a native histogram was met since this was asked last.
    pub(crate) fn has_met_histograms(&self) -> bool {
        self.met.swap(false, Ordering::Relaxed)
    }
}

impl Source for Loaded {
    fn select(&self, question: Question<'_>, give: &mut Lend<'_>) -> Result<(), QueryError> {
        self.histograms.select(question, &mut |_| {
            self.met.store(true, Ordering::Relaxed);
            Ok(())
        })?;
        self.floats.select(question, give)
    }
}

/// The name of the native histogram that stands for a bucket.
fn native(bucket: &Labels) -> Labels {
    let mut labels = bucket.clone().with("le", "");
    labels.set(NAME, bucket.get(NAME).trim_end_matches("_bucket"));
    labels
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
    let plain = |text: &str| {
        // Between two histograms stands what the one is changed by.
        let words = text.split_whitespace().filter(|word| !matches!(*word, "+" | "-"));
        words.flat_map(item).collect::<Vec<_>>()
    };
    let mut items = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        items.extend(plain(before));
        rest = behind.split_once("}}").unwrap().1;
        if rest.starts_with(['+', '-']) {
            continue;
        }
        let (times, behind) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        let times = times.strip_prefix('x').map_or(0, |times| times.parse().unwrap());
        items.extend(vec![Item::Histogram; times + 1]);
        rest = behind;
    }
    items.extend(plain(rest));
    items
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
