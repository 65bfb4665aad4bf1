//! Prometheus' remote write, both versions: a compressed message becomes the series that can be stored, and a count of
//! what cannot.
//!
//! Messages: `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request` (2.0). Native histograms are not stored
//! (ADR 0006), exemplars and metadata are passed over.

use std::collections::HashMap;
use std::sync::Arc;

use common::metric::Labels;
use common::time::Timestamp;

use crate::receive::SERIES_LABELS_MAX;
use crate::receive::labels;
use crate::receive::protobuf::Fields;
use crate::receive::protobuf::Malformed;
use crate::receive::protobuf::Value;
use crate::receive::received::Reason;
use crate::receive::received::Received;
use crate::receive::received::Terms;
use crate::store::commit::Written;
use crate::store::select::STALE;

/// Bytes of one message, decompressed: senders keep it below 8 MiB.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Samples of one message: senders put 10,000 into one at most. Each takes ten times its bytes while it is decoded.
pub const MESSAGE_SAMPLES_MAX: usize = 1_000_000;

/// Bytes of all labels of one message, each with what it takes beside its text: a table of symbols can name the same
/// long text any number of times.
pub const MESSAGE_LABEL_BYTES_MAX: usize = 64 << 20;

/// Symbols of one message: as many as samples.
pub const MESSAGE_SYMBOLS_MAX: usize = 1_000_000;

/// What a label takes beside its text.
const LABEL_BYTES: usize = 32;

/// What no byte of a snappy body can stand for more of: a copy of 64 bytes takes 3.
const EXPANSION_MAX: usize = 22;

/// Which message a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// Why a body is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is more than is taken at once.
    #[error("{0}")]
    TooLarge(String),
    /// It is not compressed as it must be.
    #[error("the body is not snappy's block format: {0}")]
    Compression(String),
    /// It is no such message.
    #[error("the message cannot be read: {0}")]
    Message(#[from] Malformed),
    /// It names a symbol that is not in its table.
    #[error("the message names symbol {0}, and has {1}")]
    Symbol(u64, usize),
    /// A list that must have pairs has not.
    #[error("the message has a label name without a value")]
    Odd,
}

/// Decodes a body.
///
/// # Errors
/// When it is too large or malformed: nothing of it is to be stored.
pub fn decode(body: &[u8], version: Version, terms: &Terms) -> Result<Received, DecodeError> {
    decode_message(&decompress(body)?, version, terms)
}

/// Decodes a message that is not compressed.
///
/// # Errors
/// As [`decode`].
pub fn decode_message(message: &[u8], version: Version, terms: &Terms) -> Result<Received, DecodeError> {
    let decoder = Decoder { terms, received: Received::default(), samples: 0, label_bytes: 0, texts: HashMap::new() };
    match version {
        Version::One => decoder.one(message),
        Version::Two => decoder.two(message),
    }
}

/// What is declared is judged before memory is taken for it.
fn decompress(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let compression = |error: snap::Error| DecodeError::Compression(error.to_string());
    let length = snap::raw::decompress_len(body).map_err(compression)?;
    if MESSAGE_BYTES_MAX < length {
        return Err(too_many("bytes", MESSAGE_BYTES_MAX));
    }
    if EXPANSION_MAX.saturating_mul(body.len()) < length {
        return Err(DecodeError::Compression(format!("{} bytes cannot stand for {length}", body.len())));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(compression)
}

fn too_many(what: &str, limit: usize) -> DecodeError {
    DecodeError::TooLarge(format!("the message has more than {limit} {what}: send less at once"))
}

struct Decoder<'m> {
    terms: &'m Terms,
    received: Received,
    samples: usize,
    label_bytes: usize,
    /// Texts of labels: most come many times in one message.
    texts: HashMap<&'m str, Arc<str>>,
}

/// Texts that a message names by their place; nothing where it has no text.
type Symbols<'m> = [Option<&'m str>];

impl<'m> Decoder<'m> {
    /// `WriteRequest`: series in field 1, metadata in field 3.
    fn one(mut self, message: &'m [u8]) -> Result<Received, DecodeError> {
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.field()? {
            if number == 1 {
                self.series(value.message(1)?, None)?;
            }
        }
        Ok(self.received)
    }

    /// `Request`: symbols in field 4, series in field 5.
    fn two(mut self, message: &'m [u8]) -> Result<Received, DecodeError> {
        let symbols = symbols(message)?;
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.field()? {
            if number == 5 {
                self.series(value.message(5)?, Some(&symbols))?;
            }
        }
        Ok(self.received)
    }

    /// One `TimeSeries` of either version: labels in field 1, samples in 2, and histograms in 4 or, with symbols, 3.
    fn series(&mut self, mut fields: Fields<'m>, symbols: Option<&Symbols<'m>>) -> Result<(), DecodeError> {
        let mut series = OneSeries::default();
        while let Some((number, value)) = fields.field()? {
            match (number, symbols) {
                (1, None) => {
                    let [name, value] = label(value.message(1)?)?;
                    series.push_label(name, value);
                }
                (1, Some(symbols)) => series.push_references(value, symbols)?,
                (2, _) => {
                    self.count()?;
                    series.samples.push(sample(value.message(2)?)?);
                }
                (3, Some(_)) | (4, None) => {
                    self.count()?;
                    series.histograms += 1;
                }
                _ => {}
            }
        }
        if series.dangling.is_some() {
            return Err(DecodeError::Odd);
        }
        self.take(series)
    }

    /// Makes of a series what can be stored, and counts what cannot.
    fn take(&mut self, mut series: OneSeries<'m>) -> Result<(), DecodeError> {
        let histograms = series.histograms;
        let samples = std::mem::take(&mut series.samples);
        let all = samples.len() as u64 + histograms;
        if all == 0 {
            return Ok(());
        }
        let refused = &mut self.received.refused;
        if let Some(fault) = series.fault() {
            let example = || format!("{}: {fault}", labels::beginning(&series.labels.iter().copied().collect()));
            refused.push(Reason::Labels, all, example);
            return Ok(());
        }
        let bytes = |(name, value): &(&str, &str)| LABEL_BYTES + name.len() + value.len();
        self.label_bytes += series.labels.iter().map(bytes).sum::<usize>();
        if MESSAGE_LABEL_BYTES_MAX < self.label_bytes {
            return Err(too_many("bytes of labels", MESSAGE_LABEL_BYTES_MAX));
        }
        let texts = &mut self.texts;
        let mut shared = |text: &'m str| Arc::clone(texts.entry(text).or_insert_with(|| text.into()));
        let own: Labels = series.labels.iter().map(|(name, value)| (shared(name), shared(value))).collect();
        let labels = self.terms.labels.clone().and(&own);
        refused.push(Reason::Histogram, histograms, || labels::beginning(&labels));
        self.received.push(Written { labels, samples }, self.terms);
        Ok(())
    }

    fn count(&mut self) -> Result<(), DecodeError> {
        self.samples += 1;
        if MESSAGE_SAMPLES_MAX < self.samples { Err(too_many("samples", MESSAGE_SAMPLES_MAX)) } else { Ok(()) }
    }
}

/// One series of a message, as it stands there.
#[derive(Default)]
struct OneSeries<'m> {
    labels: Vec<(&'m str, &'m str)>,
    /// Whether a label is not text.
    foreign: bool,
    /// Symbol of a name whose value has not come.
    dangling: Option<Option<&'m str>>,
    samples: Vec<(Timestamp, Option<f64>)>,
    histograms: u64,
}

impl<'m> OneSeries<'m> {
    fn push_label(&mut self, name: Option<&'m str>, value: Option<&'m str>) {
        match name.zip(value) {
            // One more than there may be, so that it shows.
            Some(pair) if self.labels.len() <= SERIES_LABELS_MAX => self.labels.push(pair),
            Some(_) => {}
            None => self.foreign = true,
        }
    }

    /// Places of names and values by turns: packed, or one a field.
    fn push_references(&mut self, value: Value<'m>, symbols: &Symbols<'m>) -> Result<(), DecodeError> {
        if let Value::Varint(place) = value {
            return self.push_reference(place, symbols);
        }
        let mut packed = value.message(1)?;
        while !packed.is_empty() {
            self.push_reference(packed.varint()?, symbols)?;
        }
        Ok(())
    }

    fn push_reference(&mut self, place: u64, symbols: &Symbols<'m>) -> Result<(), DecodeError> {
        let symbol = usize::try_from(place).ok().and_then(|place| symbols.get(place));
        let symbol = *symbol.ok_or(DecodeError::Symbol(place, symbols.len()))?;
        match self.dangling.take() {
            None => self.dangling = Some(symbol),
            Some(name) => self.push_label(name, symbol),
        }
        Ok(())
    }

    fn fault(&self) -> Option<String> {
        if self.foreign { Some("a label is not UTF-8".to_owned()) } else { labels::fault(self.labels.iter().copied()) }
    }
}

fn symbols(message: &[u8]) -> Result<Vec<Option<&str>>, DecodeError> {
    let mut symbols = Vec::new();
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.field()? {
        if number == 4 {
            symbols.push(value.text(4)?);
            if MESSAGE_SYMBOLS_MAX < symbols.len() {
                return Err(too_many("symbols", MESSAGE_SYMBOLS_MAX));
            }
        }
    }
    Ok(symbols)
}

/// `Label`: name in field 1, value in 2.
fn label(mut fields: Fields<'_>) -> Result<[Option<&str>; 2], Malformed> {
    let mut label = [Some(""); 2];
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => label[0] = value.text(1)?,
            2 => label[1] = value.text(2)?,
            _ => {}
        }
    }
    Ok(label)
}

/// `Sample` of either version: value in field 1, milliseconds in 2.
fn sample(mut fields: Fields<'_>) -> Result<(Timestamp, Option<f64>), Malformed> {
    let (mut sample, mut at) = (0.0_f64, 0);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => sample = value.double(1)?,
            2 => at = value.int64(2)?,
            _ => {}
        }
    }
    Ok((Timestamp::from_millis(at), (sample.to_bits() != STALE).then_some(sample)))
}

#[cfg(test)]
mod tests {
    use common::metric::NAME;
    use common::time::TimeRange;
    use proptest::prelude::*;

    use super::*;

    /// A field with a length before it.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        put_varint(&mut field, content.len() as u64);
        field.extend(content);
        field
    }

    fn put_varint(out: &mut Vec<u8>, mut value: u64) {
        while 0x7f < value {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn sample(at: i64, value: f64) -> Vec<u8> {
        let mut sample = vec![1 << 3 | 1];
        sample.extend(value.to_bits().to_le_bytes());
        sample.push(2 << 3);
        put_varint(&mut sample, at.cast_unsigned());
        bytes(2, &sample)
    }

    fn label(name: &str, value: &str) -> Vec<u8> {
        bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
    }

    fn one(parts: &[Vec<u8>]) -> Vec<u8> {
        bytes(1, &parts.concat())
    }

    fn references(places: &[u64]) -> Vec<u8> {
        let mut packed = Vec::new();
        places.iter().for_each(|place| put_varint(&mut packed, *place));
        bytes(1, &packed)
    }

    /// A request of the second version with these symbols behind the empty one.
    fn two(symbols: &[&str], series: &[Vec<u8>]) -> Vec<u8> {
        let symbols = std::iter::once(&"").chain(symbols).map(|symbol| bytes(4, symbol.as_bytes()));
        symbols.chain([bytes(5, &series.concat())]).collect::<Vec<_>>().concat()
    }

    fn terms() -> Terms {
        let range = TimeRange { after: Timestamp::from_millis(1_000), through: Timestamp::from_millis(2_000) };
        Terms { labels: Labels::new().with("dc", "2"), range }
    }

    /// Series as `labels value@millis …`, and what is refused.
    fn told(received: &Received) -> String {
        let sample = |(at, value): &(Timestamp, Option<f64>)| {
            let value = value.map_or_else(|| "!".to_owned(), |value| value.to_string());
            format!(" {value}@{}", at.as_millis())
        };
        let series =
            |series: &Written| format!("{}{}", series.labels, series.samples.iter().map(sample).collect::<String>());
        let lines: Vec<_> = received.series.iter().map(series).collect();
        format!("{} / {}", lines.join("; "), received.refused)
    }

    fn check(message: &[u8], version: Version, expect: &str) {
        let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
        let told = decode(&body, version, &terms()).map_or_else(|error| error.to_string(), |received| told(&received));
        assert_eq!(told, expect, "{version:?}");
    }

    #[test]
    fn the_first_version_is_read() {
        let up = || [label("job", "node"), label(NAME, "up")].concat();
        let check = |message: &[u8], expect: &str| check(message, Version::One, expect);
        check(&[], " / ");
        check(
            &one(&[up(), sample(1_500, 1.0), sample(1_501, f64::from_bits(STALE)), sample(1_499, f64::NAN)]),
            r#"up{dc="2", job="node"} 1@1500 !@1501 NaN@1499 / "#,
        );
        // Samples before labels, fields nobody knows, metadata, exemplars, no samples, an empty label.
        check(&one(&[sample(1_500, 2.0), up(), bytes(9, b"new")]), r#"up{dc="2", job="node"} 2@1500 / "#);
        check(&bytes(3, b"\x08\x01\x12\x02up"), " / ");
        check(&one(&[up(), bytes(3, b"anything")]), " / ");
        check(&one(&[up(), label("empty", ""), sample(2_000, 3.0)]), r#"up{dc="2", job="node"} 3@2000 / "#);
        check(&one(&[up(), label("dc", "3"), sample(2_000, 3.0)]), r#"up{dc="3", job="node"} 3@2000 / "#);
    }

    #[test]
    fn what_cannot_be_stored_is_counted_and_the_rest_is_taken() {
        let up = |samples: &[Vec<u8>]| one(&[label(NAME, "up"), samples.concat()]);
        let check = |message: &[u8], expect: &str| check(message, Version::One, expect);
        check(
            &up(&[
                sample(1_000, 1.0),
                sample(1_001, 2.0),
                sample(2_000, 3.0),
                sample(2_001, 4.0),
                sample(i64::MIN, 5.0),
            ]),
            r#"up{dc="2"} 2@1001 3@2000 / 1 are from the future, 2 are older than what is kept; for example up{dc="2"} at 1.000"#,
        );
        check(
            &up(&[sample(1_500, 1.0), bytes(4, b"\x08\x01")]),
            r#"up{dc="2"} 1@1500 / 1 are native histograms, which are not stored; for example up{dc="2"}"#,
        );
        let bad =
            |labels: &[Vec<u8>]| [one(&[labels.concat(), sample(1_500, 0.0)]), up(&[sample(1_500, 1.0)])].concat();
        let check = |labels: &[Vec<u8>], why: &str| {
            let expect = format!(r#"up{{dc="2"}} 1@1500 / 1 have labels that no series may have; for example {why}"#);
            check(&bad(labels), &expect);
        };
        check(&[], "{}: it has no name: label __name__ is missing");
        check(&[label("job", "a")], r#"{job="a"}: it has no name: label __name__ is missing"#);
        check(&[label(NAME, "")], "{}: it has no name: label __name__ is missing");
        check(&[label(NAME, "m"), label("", "a")], r#"m{="a"}: a label has no name"#);
        check(&[label(NAME, "m"), label("a", "1"), label("a", "2")], r#"m{a="2"}: label "a" is there twice"#);
        check(
            &[label(NAME, "m"), bytes(1, &[bytes(1, b"\xff"), bytes(2, b"x")].concat())],
            "m{}: a label is not UTF-8",
        );
        let many: Vec<_> = (0..64).map(|n| label(&format!("l{n}"), "")).chain([label(NAME, "m")]).collect();
        check(&many, "m{}: it has more than 64 labels");
        check(&[label(NAME, "m"), label(&"n".repeat(1_025), "")], "m{}: the name of a label has more than 1024 bytes");
    }

    #[test]
    fn the_second_version_is_read() {
        let symbols = [NAME, "up", "job", "node", "m"];
        let check_two = |series: &[Vec<u8>], expect: &str| check(&two(&symbols, series), Version::Two, expect);
        check_two(&[references(&[3, 4, 1, 2]), sample(1_500, 1.0)], r#"up{dc="2", job="node"} 1@1500 / "#);
        // One reference a field, a start stamp, metadata, exemplars.
        let unpacked = [vec![8, 1], vec![8, 2]].concat();
        check_two(
            &[unpacked, sample(1_500, 1.0), bytes(5, &[8, 1]), vec![6 << 3, 7], bytes(4, b"x")],
            r#"up{dc="2"} 1@1500 / "#,
        );
        check_two(
            &[references(&[1, 5]), bytes(3, &[])],
            r#" / 1 are native histograms, which are not stored; for example m{dc="2"}"#,
        );
        check_two(&[references(&[1, 5]), bytes(5, &[8, 1])], " / ");
        check_two(&[references(&[1, 6]), sample(1_500, 1.0)], "the message names symbol 6, and has 6");
        check_two(
            &[references(&[1, u64::MAX]), sample(1_500, 1.0)],
            "the message names symbol 18446744073709551615, and has 6",
        );
        check_two(&[references(&[1, 2, 3]), sample(1_500, 1.0)], "the message has a label name without a value");
        // The table may come behind what names it.
        let turned = [
            bytes(5, &[references(&[1, 2]), sample(1_500, 1.0)].concat()),
            bytes(4, b""),
            bytes(4, NAME.as_bytes()),
            bytes(4, b"up"),
        ]
        .concat();
        check(&turned, Version::Two, r#"up{dc="2"} 1@1500 / "#);
        // Each version as the other is an empty message.
        check(&one(&[label(NAME, "up"), sample(1_500, 1.0)]), Version::Two, " / ");
        check(&two(&symbols, &[references(&[1, 2]), sample(1_500, 1.0)]), Version::One, " / ");
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let check = |body: &[u8], expect: &str| {
            let error = decode(body, Version::One, &terms()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        let mut declared = Vec::new();
        put_varint(&mut declared, (32 << 20) + 1);
        check(&declared, "more than 33554432 bytes");
        let mut lying = Vec::new();
        put_varint(&mut lying, 32 << 20);
        check(&lying, "4 bytes cannot stand for 33554432");
        check(&[], "snappy");
        check(&[0xff; 12], "snappy");
        check(b"\x05\x10hi", "snappy");
        let compressed = |message: &[u8]| snap::raw::Encoder::new().compress_vec(message).unwrap();
        check(&compressed(&one(&[[2 << 3 | 2, 0].repeat(1_000_001)])), "more than 1000000 samples");
        check(&compressed(b"\x0a\x05ab"), "it ends inside a field");
        // Two bytes of a message name ten thousand.
        let long = "x".repeat(4_000);
        let series = |n: u64| bytes(5, &[references(&[1, 2, 3 + n, 2]), sample(1_500, 1.0)].concat());
        let names: Vec<String> = (0..20_000).map(|n| format!("n{n}")).collect();
        let mut symbols = vec![NAME, long.as_str()];
        symbols.extend(names.iter().map(String::as_str));
        let message = [two(&symbols, &[]), (0..20_000).map(series).collect::<Vec<_>>().concat()].concat();
        let error = decode_message(&message, Version::Two, &terms()).unwrap_err().to_string();
        assert!(error.contains("more than 67108864 bytes of labels"), "{error}");
        let many = bytes(4, b"").repeat(1_000_001);
        let error = decode_message(&many, Version::Two, &terms()).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 symbols"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut message in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            for version in [Version::One, Version::Two] {
                drop(decode(&message, version, &terms()));
                drop(decode_message(&message, version, &terms()));
            }
            // And whole ones with a byte changed.
            let whole = two(&[NAME, "up"], &[references(&[1, 2]), sample(1_500, 1.0), bytes(3, &message)]);
            message = whole;
            let at = at.index(message.len());
            message[at] = to;
            for version in [Version::One, Version::Two] {
                drop(decode_message(&message, version, &terms()));
                drop(decode_message(&message[..at], version, &terms()));
            }
        }
    }
}
