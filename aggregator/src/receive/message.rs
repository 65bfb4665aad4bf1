//! Series as remote write 1.0 has them: what is read by [`remote_write`](super::remote_write), written.

use common::metric::Labels;
use common::time::Timestamp;

/// A message that grows. Its fields: `WriteRequest.timeseries` 1, `TimeSeries.labels` 1 and `samples` 2, name and value 1 and
/// 2 of a label, value and milliseconds 1 and 2 of a sample.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
    samples: u64,
}

const ONE_BYTES: u8 = 1 << 3 | 2;
const TWO_BYTES: u8 = 2 << 3 | 2;
const ONE_FIXED64: u8 = 1 << 3 | 1;
const TWO_VARINT: u8 = 2 << 3;

impl Message {
    /// Samples in it.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Bytes that it has before it is compressed.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds samples of a series, oldest first.
    pub fn push(&mut self, labels: &Labels, samples: impl Iterator<Item = (Timestamp, f64)>) {
        let mut series = Vec::new();
        let mut sorted: Vec<(&str, &str)> = labels.iter().collect();
        sorted.sort_unstable();
        for (name, value) in sorted {
            let mut label = Vec::with_capacity(4 + name.len() + value.len());
            field(&mut label, ONE_BYTES, name.as_bytes());
            field(&mut label, TWO_BYTES, value.as_bytes());
            field(&mut series, ONE_BYTES, &label);
        }
        for (stamp, value) in samples {
            let mut sample = vec![ONE_FIXED64];
            sample.extend(value.to_le_bytes());
            sample.push(TWO_VARINT);
            varint(&mut sample, stamp.as_millis().cast_unsigned());
            field(&mut series, TWO_BYTES, &sample);
            self.samples += 1;
        }
        field(&mut self.bytes, ONE_BYTES, &series);
    }

    /// All of it, compressed with snappy; it is empty then.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.samples = 0;
        let bytes = std::mem::take(&mut self.bytes);
        // It refuses nothing but what has four gigabytes.
        snap::raw::Encoder::new().compress_vec(&bytes).unwrap_or_default()
    }
}

fn field(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use common::time::TimeRange;

    use super::*;
    use crate::receive::received::Terms;
    use crate::receive::remote_write::Version;
    use crate::receive::remote_write::decode;

    #[test]
    fn what_is_written_is_read_again() {
        let labels = Labels::new().with("__name__", "m").with("z", "ü").with("a", "x".repeat(300));
        let marks = f64::from_bits(crate::store::select::STALE);
        let values = [0.1, -0.0, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE, marks];
        let at = |at: i64| Timestamp::from_millis(1_700_000_000_000 + at);
        let samples: Vec<(Timestamp, f64)> = (0..).map(at).zip(values).collect();
        let mut message = Message::default();
        message.push(&labels, samples.iter().copied());
        message.push(&Labels::new().with("__name__", "n"), samples[..1].iter().copied());
        assert_eq!(message.samples(), 7);
        let body = message.take();
        assert_eq!((message.samples(), message.take().len()), (0, 1));
        let range = TimeRange { after: Timestamp::default(), through: at(1_000) };
        let terms = Terms { labels: Labels::new(), range };
        let received = decode(&body, Version::One, &terms).unwrap();
        let told: Vec<_> =
            received.series.iter().map(|series| (series.labels.to_string(), series.samples.len())).collect();
        assert_eq!(told, [(labels.to_string(), 6), ("n{}".to_owned(), 1)]);
        let bits = |value: Option<f64>| value.map_or(crate::store::select::STALE, f64::to_bits);
        let told: Vec<_> = received.series[0].samples.iter().map(|(at, value)| (*at, bits(*value))).collect();
        assert_eq!(told, samples.iter().map(|(at, value)| (*at, value.to_bits())).collect::<Vec<_>>());
    }
}
