//! OpenMetrics text, and the older text of Prometheus, that others dumped: from bytes to series, line by line. Pure.
//!
//! What metrics are said to be, exemplars and comments are passed over. Samples are judged as those of remote write are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use common::metric::Labels;
use common::metric::NAME;
use common::time::TimeRange;
use common::time::Timestamp;

use crate::receive::labels;
use crate::receive::received::Reason;
use crate::receive::received::Received;
use crate::receive::received::Terms;
use crate::store::commit::Written;

/// Bytes of one line: 64 labels as long as they may be, with half of their letters escaped.
pub const LINE_BYTES_MAX: usize = 512 << 10;

/// Samples that are worth a commit: each waits for the disk.
const SAMPLES_ENOUGH: u64 = 100_000;

/// Bytes of labels that are.
const LABEL_BYTES_ENOUGH: usize = 8 << 20;

/// How a text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Stamps in seconds; `# EOF` ends it.
    #[default]
    OpenMetrics,
    /// Stamps in milliseconds, as in the text that came before it and in what `promtool tsdb dump` prints; nothing ends it.
    Prometheus,
}

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    line: u64,
    why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Where a series is in a batch; or why there can be none with its labels.
type Place = Result<usize, Arc<str>>;

/// A text that comes in pieces, and goes in batches.
#[derive(Debug)]
pub struct Reader {
    terms: Terms,
    format: Format,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    lines: u64,
    ended: bool,
    received: Received,
    /// The batch's series, by what stands before their values.
    places: HashMap<Box<str>, Place>,
    /// The same by their labels, which may be written in several ways: of one stamp the last sample counts, however it was.
    of_labels: HashMap<Labels, usize>,
    /// The series of the line before.
    before: (String, Place),
    label_bytes: usize,
}

impl Reader {
    /// One that has read nothing.
    #[must_use]
    pub fn new(terms: Terms, format: Format) -> Self {
        Self {
            terms,
            format,
            begun: Vec::new(),
            lines: 0,
            ended: false,
            received: Received::default(),
            places: HashMap::new(),
            of_labels: HashMap::new(),
            before: (String::new(), Ok(0)),
            label_bytes: 0,
        }
    }

    /// Stamps that can be stored by now: a text may take as long as it likes.
    pub fn judge_by(&mut self, range: TimeRange) {
        self.terms.range = range;
    }

    /// Reads on.
    ///
    /// # Errors
    /// When a line is not as it must be: what stands before it is in the batch, and nothing more is to be read.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BadLine> {
        let mut lines = piece.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.begun.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend(line);
                self.line(&whole)?;
            }
        }
        self.begun.extend(last);
        if LINE_BYTES_MAX < self.begun.len() { self.line(&[0; LINE_BYTES_MAX + 1]) } else { Ok(()) }
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When the last line is not as it must be, or missing.
    pub fn end(&mut self) -> Result<(), BadLine> {
        let last = std::mem::take(&mut self.begun);
        if !last.is_empty() {
            self.line(&last)?;
        }
        if self.format == Format::OpenMetrics && !self.ended {
            let why = "the text ends without `# EOF`: it is not whole".to_owned();
            return Err(BadLine { line: self.lines + 1, why });
        }
        Ok(())
    }

    /// Whether the batch is worth a commit.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        let Received { samples, refused, .. } = &self.received;
        SAMPLES_ENOUGH <= samples + refused.total() || LABEL_BYTES_ENOUGH <= self.label_bytes
    }

    /// What was read since it was asked before.
    pub fn take(&mut self) -> Received {
        self.places.clear();
        self.of_labels.clear();
        self.before.0.clear();
        self.label_bytes = 0;
        let mut received = std::mem::take(&mut self.received);
        received.series.retain(|series| !series.samples.is_empty());
        received
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BadLine> {
        self.lines += 1;
        self.read(line).map_err(|why| BadLine { line: self.lines, why })
    }

    fn read(&mut self, line: &[u8]) -> Result<(), String> {
        if LINE_BYTES_MAX < line.len() {
            return Err(format!("it has more than {LINE_BYTES_MAX} bytes"));
        }
        let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err("it stands behind `# EOF`".to_owned());
        }
        if line.starts_with('#') {
            self.ended = line == "# EOF";
            return Ok(());
        }
        let rest = self.series(line)?;
        let mut words = rest.split_ascii_whitespace();
        let value = words.next().ok_or("it has no value")?;
        let value: f64 = value.parse().map_err(|_| format!("{value:?} is no value"))?;
        let stamp = words.next().filter(|word| *word != "#").ok_or("it has no stamp")?;
        let stamp = self.format.stamp(stamp).ok_or_else(|| format!("{stamp:?} is no stamp"))?;
        match words.next() {
            // An exemplar.
            None | Some("#") => {}
            Some(more) => return Err(format!("{more:?} stands behind its stamp")),
        }
        self.sample(stamp, value);
        Ok(())
    }

    /// Goes to a line's series. Answers what stands behind it.
    fn series<'l>(&mut self, line: &'l str) -> Result<&'l str, String> {
        // Mostly that of the line before.
        let rest = line.strip_prefix(self.before.0.as_str()).filter(|_| !self.before.0.is_empty());
        let rest = rest.filter(|rest| rest.starts_with([' ', '\t']) && !rest.trim_ascii_start().starts_with('{'));
        if let Some(rest) = rest {
            return Ok(rest);
        }
        let Series { labels, rest } = Series::read(line)?;
        let text = &line[..line.len() - rest.len()];
        let place = match self.places.get(text) {
            Some(place) => place.clone(),
            None => {
                let place = self.place(&labels);
                self.places.insert(text.into(), place.clone());
                // The text, and the labels twice.
                self.label_bytes += 3 * text.len();
                place
            }
        };
        self.before = (text.to_owned(), place);
        Ok(rest)
    }

    /// A place for a new series of the batch.
    fn place(&mut self, labels: &[Label<'_>]) -> Place {
        let pairs = labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let own: Labels = pairs.clone().collect();
        if let Some(fault) = labels::fault(pairs) {
            return Err(format!("{}: {fault}", labels::beginning(&own)).into());
        }
        let series = &mut self.received.series;
        let labels = self.terms.labels.clone().and(&own);
        let place = *self.of_labels.entry(labels).or_insert_with_key(|labels| {
            series.push(Written { labels: labels.clone(), samples: Vec::new() });
            series.len() - 1
        });
        Ok(place)
    }

    fn sample(&mut self, stamp: Timestamp, value: f64) {
        let Received { series, samples, refused } = &mut self.received;
        let series = match &self.before.1 {
            Ok(place) => series.get_mut(*place),
            Err(fault) => return refused.push(Reason::Labels, 1, || fault.as_ref().to_owned()),
        };
        let Some(Written { labels, samples: of_series }) = series else { return };
        match self.terms.refuse(stamp) {
            Some(reason) => refused.push(reason, 1, || labels::example(labels, stamp)),
            None => {
                of_series.push((stamp, Some(value)));
                *samples += 1;
            }
        }
    }
}

impl Format {
    /// To the nearest millisecond.
    fn stamp(self, text: &str) -> Option<Timestamp> {
        let millis = match self {
            Self::Prometheus => text.parse().ok()?,
            Self::OpenMetrics => {
                let millis = (text.parse::<f64>().ok()? * 1_000.0).round();
                whole(millis)?
            }
        };
        Some(Timestamp::from_millis(millis))
    }
}

/// Up to here a float has all whole numbers.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

#[expect(clippy::cast_possible_truncation, reason = "it is looked at whether it fits")]
fn whole(millis: f64) -> Option<i64> {
    (millis.abs() < EXACT_BELOW).then_some(millis as i64)
}

type Label<'l> = (Cow<'l, str>, Cow<'l, str>);

/// What stands before a value: `name`, `name{label="value"}` or `{"name","label"="value"}`.
struct Series<'l> {
    /// The metric's name among them.
    labels: Vec<Label<'l>>,
    /// What stands behind it.
    rest: &'l str,
}

impl<'l> Series<'l> {
    fn read(line: &'l str) -> Result<Self, String> {
        let (name, mut rest) = word(line);
        let mut labels: Vec<Label<'l>> = Vec::new();
        if !name.is_empty() {
            labels.push((NAME.into(), name.into()));
        }
        let Some(inside) = rest.trim_ascii_start().strip_prefix('{') else {
            let begins = if name.is_empty() { Err("it does not begin with a series".to_owned()) } else { Ok(()) };
            return begins.map(|()| Self { labels, rest });
        };
        rest = inside.trim_ascii_start();
        while !rest.starts_with('}') {
            let is_quoted = rest.starts_with('"');
            let (key, behind) = if is_quoted { quoted(rest)? } else { plain(rest) };
            rest = behind.trim_ascii_start();
            if let Some(value) = rest.strip_prefix('=') {
                let (value, behind) = quoted(value.trim_ascii_start())?;
                labels.push((key, value));
                rest = behind.trim_ascii_start();
            } else if is_quoted {
                // The name of the metric stands alone.
                labels.push((NAME.into(), key));
            } else {
                return Err("`=` is missing in its labels".to_owned());
            }
            match rest.strip_prefix(',') {
                Some(behind) => rest = behind.trim_ascii_start(),
                None if rest.starts_with('}') => {}
                None => return Err("a comma or `}` is missing behind one of its labels".to_owned()),
            }
        }
        Ok(Self { labels, rest: &rest[1..] })
    }
}

/// Letters, digits, underscores and colons at the beginning, and the rest.
fn word(text: &str) -> (&str, &str) {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    let end = text.find(|char| !is_plain(char)).unwrap_or(text.len());
    text.split_at(if text.starts_with(|char: char| char.is_ascii_digit()) { 0 } else { end })
}

fn plain(text: &str) -> (Cow<'_, str>, &str) {
    let (word, rest) = word(text);
    (word.into(), rest)
}

/// What stands in quotes at the beginning, without its escapes, and the rest. A backslash before anything but a quote, `n` or
/// itself is one, as in Prometheus.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let inside = text.strip_prefix('"').ok_or("a quote is missing in its labels")?;
    let mut is_escaped = false;
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    let end = end.ok_or("a quote in its labels is not closed")?;
    let (inside, rest) = (&inside[..end], &inside[end + 1..]);
    Ok((if inside.contains('\\') { unescaped(inside).into() } else { inside.into() }, rest))
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, (char == '\\').then(|| chars.next()).flatten()) {
            (_, Some('n')) => out.push('\n'),
            (_, Some(escaped @ ('"' | '\\'))) => out.push(escaped),
            (char, other) => {
                out.push(char);
                out.extend(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(format: Format) -> Reader {
        let range = TimeRange { after: Timestamp::from_millis(1_000), through: Timestamp::from_millis(2_000) };
        Reader::new(Terms { labels: Labels::new().with("dc", "2"), range }, format)
    }

    /// What is read of a text: series as `labels value@millis …`, what is refused, and what ended it.
    fn told(format: Format, text: &[u8], pieces: usize) -> String {
        let mut reader = reader(format);
        let read = text.chunks(pieces.max(1)).try_for_each(|piece| reader.push(piece)).and_then(|()| reader.end());
        let received = reader.take();
        let sample = |(at, value): &(Timestamp, Option<f64>)| format!(" {}@{}", value.unwrap(), at.as_millis());
        let series =
            |series: &Written| format!("{}{}", series.labels, series.samples.iter().map(sample).collect::<String>());
        let lines: Vec<_> = received.series.iter().map(series).collect();
        let ended = read.map_or_else(|bad| format!(" / {bad}"), |()| String::new());
        format!("{} / {}{ended}", lines.join("; "), received.refused)
    }

    fn check(text: &str, expect: &str) {
        for pieces in [1, 3, text.len()] {
            assert_eq!(told(Format::OpenMetrics, format!("{text}\n# EOF\n").as_bytes(), pieces), expect, "{text}");
        }
    }

    #[test]
    fn series_are_read_as_others_write_them() {
        check("up 1 1.5", r#"up{dc="2"} 1@1500 / "#);
        check("up{} 1 1.5\nup 2 1.501", r#"up{dc="2"} 1@1500 2@1501 / "#);
        check("up 1 1.5\nup{dc=\"2\"} 2 1.5\nup 3 1.5", r#"up{dc="2"} 1@1500 2@1500 3@1500 / "#);
        check("up{a=\"1\",} 1 1.5\nup{a=\"1\",} 2 1.501", r#"up{a="1", dc="2"} 1@1500 2@1501 / "#);
        check("up {a=\"1\"} 1 1.5\nup {b=\"1\"} 2 1.5", r#"up{a="1", dc="2"} 1@1500; up{b="1", dc="2"} 2@1500 / "#);
        check("up 1 1.5\nup {b=\"1\"} 2 1.5", r#"up{dc="2"} 1@1500; up{b="1", dc="2"} 2@1500 / "#);
        check("up 1 1.5\nup_to 2 1.5\nup 3 1.6", r#"up{dc="2"} 1@1500 3@1600; up_to{dc="2"} 2@1500 / "#);
        check(r#"{__name__="up", dc="3"} 1 1.5"#, r#"up{dc="3"} 1@1500 / "#);
        check("{\"h\u{f6}he\",\"a.b\"=\"c\"} 1 1.5", "h\u{f6}he{a.b=\"c\", dc=\"2\"} 1@1500 / ");
        check(r#"up{a="\\\"\n\t} # {"} 1 1.5"#, r#"up{a="\\\"\n\\t} # {", dc="2"} 1@1500 / "#);
        check("up NaN 1.5\nup -Inf 1.6\nup 1e-3 1700e-3", r#"up{dc="2"} NaN@1500 -inf@1600 0.001@1700 / "#);
        // Comments, empty lines, exemplars, ends of lines as Windows has them.
        check("# TYPE up gauge\n\n# any\nup 1 1.5 # {t=\"x\"} 2 3\r", r#"up{dc="2"} 1@1500 / "#);
        // An exemplar is no stamp.
        check("up 1 # {t=\"x\"} 2 3", " /  / line 1: it has no stamp");
    }

    #[test]
    fn the_older_text_has_milliseconds_and_no_end() {
        let check =
            |text: &str, expect: &str| assert_eq!(told(Format::Prometheus, text.as_bytes(), 9), expect, "{text}");
        check("up 1 1500\n", r#"up{dc="2"} 1@1500 / "#);
        check("{__name__=\"up\", a=\"1\"} 1e+06 1500", r#"up{a="1", dc="2"} 1000000@1500 / "#);
        check("up 1 1.5", " /  / line 1: \"1.5\" is no stamp");
        check("", " / ");
    }

    #[test]
    fn what_cannot_be_stored_is_counted_and_the_rest_is_taken() {
        check(
            "up 1 1\nup 2 1.001\nup 3 2\nup 4 2.001\nup 5 -1e9",
            r#"up{dc="2"} 2@1001 3@2000 / 1 are from the future, 2 are older than what is kept; for example up{dc="2"} at 1.000"#,
        );
        check(
            "{a=\"1\"} 1 1.5\n{a=\"1\"} 1 1.6\nup 1 1.5\n{a=\"1\"} 1 1.7",
            r#"up{dc="2"} 1@1500 / 3 have labels that no series may have; for example {a="1"}: it has no name: label __name__ is missing"#,
        );
        check(
            "up{a=\"1\",a=\"2\"} 1 1.5",
            r#" / 1 have labels that no series may have; for example up{a="2"}: label "a" is there twice"#,
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_ends_it() {
        let bad = |line: &str, why: &str| {
            check(&format!("up 1 1.5\n{line}"), &format!("up{{dc=\"2\"}} 1@1500 /  / line 2: {why}"))
        };
        bad("up", "it has no value");
        bad("up one 1.5", "\"one\" is no value");
        bad("up 1", "it has no stamp");
        bad("up 1 NaN", "\"NaN\" is no stamp");
        bad("up 1 1e300", "\"1e300\" is no stamp");
        bad("up 1 1.5 2", "\"2\" stands behind its stamp");
        bad("1up 1 1.5", "it does not begin with a series");
        bad("up{a=1} 1 1.5", "a quote is missing in its labels");
        bad("up{a=\"1 1 1.5", "a quote in its labels is not closed");
        bad("up{a=\"1\\\"} 1 1.5", "a quote in its labels is not closed");
        bad("up{a=\"1\" b=\"2\"} 1 1.5", "a comma or `}` is missing behind one of its labels");
        bad("up{", "`=` is missing in its labels");
        bad("up{a}", "`=` is missing in its labels");
    }

    #[test]
    fn a_text_that_is_not_whole_is_not_taken_for_one() {
        let check = |text: &[u8], expect: &str| assert_eq!(told(Format::OpenMetrics, text, 4), expect);
        check(b"up 1 1.5\n", "up{dc=\"2\"} 1@1500 /  / line 2: the text ends without `# EOF`: it is not whole");
        check(b"up 1 1.5\n# EOF", "up{dc=\"2\"} 1@1500 / ");
        check(b"# EOF\n\n", " / ");
        check(b"# EOF\nup 1 1.5", " /  / line 2: it stands behind `# EOF`");
        check(b"up{a=\"\xff\"} 1 1.5", " /  / line 1: it is not UTF-8");
        check("x".repeat(LINE_BYTES_MAX + 1).as_bytes(), " /  / line 1: it has more than 524288 bytes");
        let mut endless = reader(Format::OpenMetrics);
        let piece = vec![b'x'; 64 << 10];
        assert!((0..9).any(|_| endless.push(&piece).is_err()) && endless.begun.len() <= 9 * piece.len());
    }

    #[test]
    fn a_batch_ends_and_the_next_one_knows_nothing_of_it() {
        let mut reader = reader(Format::OpenMetrics);
        reader.push(b"up 1 1.5\nup 2 1.6\n").unwrap();
        assert!(!reader.has_enough());
        assert_eq!(reader.take().samples, 2);
        reader.push(b"up 3 1.7\nup{a=\"b\"} 4 1.7\n").unwrap();
        let received = reader.take();
        assert_eq!((received.samples, received.series.len()), (2, 2));
        let line = format!("up{{a=\"{}\"}} 1 1.5\n", "x".repeat(4_000));
        (0..2_000).for_each(|at| {
            reader
                .push(line.replace("xx}", &format!("{at}}}")).replace("a=\"x", &format!("a=\"{at}x")).as_bytes())
                .unwrap()
        });
        assert!(reader.has_enough(), "of long labels there are enough soon");
        reader.take();
        (0..SAMPLES_ENOUGH).for_each(|at| reader.push(format!("a{at} 1 9\n").as_bytes()).unwrap());
        assert!(reader.has_enough(), "of series whose samples are refused, too");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200), lines in "[a-z{}=\"\\\\,# .0-9\n-]{0,200}", pieces in 1_usize..9) {
            for format in [Format::OpenMetrics, Format::Prometheus] {
                drop((told(format, &text, pieces), told(format, lines.as_bytes(), pieces)));
            }
        }
    }
}
