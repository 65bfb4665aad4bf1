//! A part of a block file: some series of one host, one behind the other, and an index of them in front.

use common::metric::{Decimals, Kind};
use common::time::Timestamp;

use crate::store::chunk::Chunk;
use crate::store::chunk::ChunkRef;
use crate::store::chunk::Shape;
use crate::store::chunk::column::Reader;
use crate::store::chunk::column::put_varint;

/// What stamps mostly are multiples of: the length of a window.
const GRID_MILLIS: u64 = 10_000;

/// A part that grows.
#[derive(Debug)]
pub(in crate::store) struct PartBuilder {
    /// What all stamps are behind.
    after: Timestamp,
    first: Option<u32>,
    last: u32,
    count: u64,
    index: Vec<u8>,
    chunks: Vec<u8>,
}

impl PartBuilder {
    pub(in crate::store) const fn new(after: Timestamp) -> Self {
        Self { after, first: None, last: 0, count: 0, index: Vec::new(), chunks: Vec::new() }
    }

    /// Adds a series, which has a higher number than the one before. Its chunks ascend.
    pub(in crate::store) fn push(&mut self, number: u32, shape: Shape, chunks: &[Chunk]) {
        let first = *self.first.get_or_insert(number);
        let step = u64::from(number - if self.count == 0 { first } else { self.last });
        put_varint(&mut self.index, step << 2 | u64::from(shape.kind == Kind::Counter) << 1 | u64::from(shape.peak));
        let begun = self.chunks.len();
        let mut before = self.after;
        for chunk in chunks {
            put_distance(&mut self.chunks, before, chunk.first);
            put_distance(&mut self.chunks, chunk.first, chunk.last);
            put_varint(&mut self.chunks, chunk.bytes.len() as u64);
            self.chunks.extend_from_slice(&chunk.bytes);
            before = chunk.last;
        }
        put_varint(&mut self.index, (self.chunks.len() - begun) as u64);
        self.last = number;
        self.count += 1;
    }

    /// What it takes so far.
    pub(in crate::store) const fn bytes(&self) -> usize {
        self.index.len() + self.chunks.len()
    }

    /// The number of its first series and its bytes, if it has any; the next part begins.
    pub(in crate::store) fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        let first = self.first.take()?;
        let mut bytes = Vec::with_capacity(self.bytes() + 10);
        put_varint(&mut bytes, self.count);
        bytes.append(&mut self.index);
        bytes.append(&mut self.chunks);
        self.count = 0;
        Some((first, bytes))
    }
}

/// A part that is read. Of bytes that nobody wrote, it says something, and little.
#[derive(Debug)]
pub(in crate::store) struct Part<'a> {
    after: Timestamp,
    series: Vec<PartSeries<'a>>,
}

/// One series of a part.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct PartSeries<'a> {
    pub(in crate::store) number: u32,
    /// Decimals are not known here; decoding does not ask for them.
    pub(in crate::store) shape: Shape,
    chunks: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads the index. `first` is the number of the first series, `after` what all stamps are behind.
    pub(in crate::store) fn read((first, after): (u32, Timestamp), bytes: &'a [u8]) -> Self {
        let mut reader = Reader(bytes);
        let mut index = Vec::new();
        let mut number = u64::from(first);
        for _ in 0..reader.varint() {
            let head = reader.varint();
            number = number.wrapping_add(head >> 2);
            let (Ok(number), false) = (u32::try_from(number), reader.0.is_empty()) else {
                break;
            };
            let kind = if head & 2 == 0 { Kind::Gauge } else { Kind::Counter };
            let shape = Shape { kind, decimals: Decimals::FULL, peak: head & 1 == 1 };
            index.push((number, shape, usize::try_from(reader.varint()).unwrap_or(usize::MAX)));
        }
        let mut rest = reader.0;
        let series = index.into_iter().map(|(number, shape, len)| {
            let (chunks, behind) = rest.split_at(len.min(rest.len()));
            rest = behind;
            PartSeries { number, shape, chunks }
        });
        Self { after, series: series.collect() }
    }

    /// Its series, by number.
    pub(in crate::store) fn series(&self) -> &[PartSeries<'a>] {
        &self.series
    }

    /// The chunks of one of them, ascending.
    pub(in crate::store) fn chunks(&self, series: PartSeries<'a>) -> impl Iterator<Item = ChunkRef<'a>> + use<'a> {
        let mut reader = Reader(series.chunks);
        let mut before = self.after;
        std::iter::from_fn(move || {
            if reader.0.is_empty() {
                return None;
            }
            let first = distant(&mut reader, before);
            let last = distant(&mut reader, first);
            let len = usize::try_from(reader.varint()).unwrap_or(usize::MAX).min(reader.0.len());
            let (bytes, behind) = reader.0.split_at(len);
            reader = Reader(behind);
            before = last;
            Some(ChunkRef { first, last, bytes })
        })
    }
}

fn put_distance(out: &mut Vec<u8>, from: Timestamp, to: Timestamp) {
    let millis = to.as_millis().wrapping_sub(from.as_millis()).cast_unsigned();
    let coarse = millis.is_multiple_of(GRID_MILLIS);
    put_varint(out, if coarse { (millis / GRID_MILLIS) << 1 } else { (millis << 1) | 1 });
}

fn distant(reader: &mut Reader<'_>, from: Timestamp) -> Timestamp {
    let read = reader.varint();
    let millis = if read & 1 == 1 { read >> 1 } else { (read >> 1).wrapping_mul(GRID_MILLIS) };
    Timestamp::from_millis(from.as_millis().wrapping_add(millis.cast_signed()))
}

#[cfg(test)]
mod tests {
    use common::window::{Gauge, Window};
    use proptest::prelude::*;

    use super::*;
    use crate::store::chunk::Entry;

    const SHAPE: Shape = Shape { kind: Kind::Gauge, decimals: Decimals::FULL, peak: false };

    fn chunks(stamps: &[i64]) -> Vec<Chunk> {
        let entry =
            |stamp: &i64| Entry { stamp: Timestamp::from_millis(*stamp), window: Some(Window::Gauge(Gauge::of(1.5))) };
        let entries: Vec<Entry> = stamps.iter().map(entry).collect();
        entries.chunks(3).map(|entries| Chunk::encode(SHAPE, entries)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_pushed_is_read(series in prop::collection::btree_map(any::<u32>(), prop::collection::btree_set(prop_oneof![(0..400_i64).prop_map(|at| at * 10_000), 0..9_000_000_i64], 1..12), 1..20)) {
            let after = Timestamp::from_millis(-1);
            let mut builder = PartBuilder::new(after);
            for (number, stamps) in &series {
                builder.push(*number, SHAPE, &chunks(&stamps.iter().copied().collect::<Vec<_>>()));
            }
            let (first, bytes) = builder.take().unwrap();
            prop_assert!(builder.take().is_none());
            let part = Part::read((first, after), &bytes);
            let read = |series: &PartSeries<'_>| {
                let entries = part.chunks(*series).flat_map(|chunk| chunk.decode(series.shape));
                (series.number, entries.map(|entry| entry.stamp.as_millis()).collect())
            };
            prop_assert_eq!(part.series().iter().map(read).collect::<std::collections::BTreeMap<_, _>>(), series);
        }

        #[test]
        fn any_bytes_are_read_as_something(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let part = Part::read((0, Timestamp::default()), &bytes);
            for series in part.series() {
                for chunk in part.chunks(*series) {
                    drop(chunk.decode(series.shape));
                }
            }
        }
    }
}
