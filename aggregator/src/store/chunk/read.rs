//! Reading chunks: of the windows only the fields that are asked for, in columns that others go on with.

use common::metric::Kind;
use common::time::{TimeRange, Timestamp};
use common::window::{Counter, Gauge, Window};

use crate::store::chunk::COUNTS;
use crate::store::chunk::ChunkRef;
use crate::store::chunk::ENTRIES_MAX;
use crate::store::chunk::Entry;
use crate::store::chunk::MARKS;
use crate::store::chunk::ODD;
use crate::store::chunk::SCALE_SHIFT;
use crate::store::chunk::STAMPS;
use crate::store::chunk::Scale;
use crate::store::chunk::Shape;
use crate::store::chunk::column::Reader;
use crate::store::chunk::column::append_integers;
use crate::store::chunk::column::floats;
use crate::store::chunk::column::integers;
use crate::store::chunk::column::unzigzag;
use crate::store::chunk::growth;
use crate::store::chunk::ordered;
use crate::store::chunk::still;
use crate::store::select::Field;
use crate::store::select::STALE;
use crate::store::select::Samples;

/// The columns of the chunk that was read last; their place is used again for the next.
#[derive(Debug, Default)]
pub(in crate::store) struct Unpacked {
    /// Whether an entry marks the end; empty if none does.
    marks: Vec<i64>,
    /// Empty if all are the same: `count`.
    counts: Vec<i64>,
    count: i64,
    /// Whether what is usually implied is not; empty if all is.
    odd: Vec<i64>,
    last: Vec<f64>,
    /// Of the windows that are odd: smallest, largest and sum of a gauge, growth of a counter.
    odd_values: [Vec<f64>; 3],
    peaks: Vec<f64>,
    mantissas: Vec<i64>,
}

impl ChunkRef<'_> {
    /// How many entries it says it has.
    pub(in crate::store) fn len(self) -> usize {
        len(&mut Reader(self.bytes))
    }

    /// The entries. Of bytes that nobody encoded, some.
    pub(in crate::store) fn decode(self, shape: Shape) -> Vec<Entry> {
        use Field::{Count, Increase, Last, Max, Min, Peak, Sum};
        let mut samples = Samples::default();
        let fields: &[Field] = match shape.kind {
            Kind::Gauge => &[Count, Last, Min, Max, Sum],
            Kind::Counter => &[Count, Last, Increase, Peak],
        };
        samples.reset(fields.len());
        let mut unpacked = Unpacked::default();
        unpacked.append(self, (shape, fields), &mut samples);
        let window = |at: usize| {
            let value = |column: usize| samples.columns[column][at];
            // A count was an integer of 32 bits before it was a column.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
            let (count, last) = (value(0) as u32, value(1));
            match shape.kind {
                Kind::Gauge => Window::Gauge(Gauge { count, min: value(2), max: value(3), sum: value(4), last }),
                Kind::Counter => Window::Counter(Counter { count, last, increase: value(2), peak: value(3) }),
            }
        };
        let marked = |at: usize| unpacked.marks.get(at).is_some_and(|mark| *mark != 0);
        let entry = |(at, stamp): (usize, &Timestamp)| Entry {
            stamp: *stamp,
            window: if marked(at) { None } else { Some(window(at)) },
        };
        samples.stamps.iter().enumerate().map(entry).collect()
    }

    fn append_even_stamps(self, len: usize, stamps: &mut Vec<Timestamp>) {
        let mut stamp = self.first.as_millis();
        let steps = i64::try_from(len).unwrap_or(0).saturating_sub(1).max(1);
        let step = self.last.as_millis().wrapping_sub(stamp) / steps;
        let from = stamps.len();
        stamps.resize(from + len, self.first);
        for place in &mut stamps[from..] {
            *place = Timestamp::from_millis(stamp);
            stamp = stamp.wrapping_add(step);
        }
    }
}

impl Unpacked {
    /// Appends the entries of a chunk that are in a range.
    pub(in crate::store) fn append_within(
        &mut self,
        chunk: ChunkRef<'_>,
        (shape, fields): (Shape, &[Field]),
        range: TimeRange,
        into: &mut Samples,
    ) {
        let from = into.stamps.len();
        self.append(chunk, (shape, fields), into);
        if range.after < chunk.first && chunk.last <= range.through {
            return;
        }
        let new = &into.stamps[from..];
        let (before, through) =
            (new.partition_point(|stamp| *stamp <= range.after), new.partition_point(|stamp| *stamp <= range.through));
        into.truncate(from + through);
        into.remove(from..from + before.min(through));
    }

    /// Appends the entries of a chunk.
    fn append(&mut self, chunk: ChunkRef<'_>, (shape, fields): (Shape, &[Field]), into: &mut Samples) {
        let mut reader = Reader(chunk.bytes);
        let len = len(&mut reader);
        let flags = reader.byte();
        let scale = Scale::read(flags >> SCALE_SHIFT);
        if flags & STAMPS == 0 {
            chunk.append_even_stamps(len, &mut into.stamps);
        } else {
            integers(&mut reader, len, &mut self.mantissas);
            into.stamps.extend(self.mantissas.iter().map(|stamp| Timestamp::from_millis(*stamp)));
        }
        let mut column = |what: u8, len: usize, out: &mut Vec<i64>| {
            if flags & what == 0 { out.clear() } else { integers(&mut reader, len, out) }
        };
        column(MARKS, len, &mut self.marks);
        let living = if self.marks.is_empty() { len } else { self.marks.iter().filter(|mark| **mark == 0).count() };
        column(COUNTS, living, &mut self.counts);
        column(ODD, living, &mut self.odd);
        if flags & COUNTS == 0 {
            self.count = unzigzag(reader.varint());
        }
        if let ([Field::Last], [column]) = (fields, &mut into.columns[..]) {
            let from = column.len();
            append_values(&mut reader, (scale, living), &[], &mut self.mantissas, column);
            spread(&self.marks, column, from);
            return;
        }
        values(&mut reader, (scale, living), &[], &mut self.mantissas, &mut self.last);
        if fields.iter().any(|field| !matches!(field, Field::Last | Field::Count)) {
            self.read_rest(&mut reader, shape, scale);
        }
        for (field, column) in fields.iter().zip(&mut into.columns) {
            let from = column.len();
            self.put((shape, scale), *field, column);
            spread(&self.marks, column, from);
        }
    }

    /// Reads what stands behind the last values.
    fn read_rest(&mut self, reader: &mut Reader<'_>, shape: Shape, scale: Scale) {
        let Self { counts, count, odd, last, odd_values: [first, second, third], peaks, mantissas, .. } = self;
        let count = |at: usize| narrow(counts.get(at).copied().unwrap_or(*count));
        let is_odd = |at: &usize| odd.get(*at) == Some(&1);
        let odd: Vec<usize> = (0..last.len()).filter(is_odd).collect();
        match shape.kind {
            Kind::Gauge if odd.is_empty() => {}
            Kind::Gauge => {
                let base: Vec<f64> = odd.iter().map(|at| last[*at]).collect();
                values(reader, (scale, odd.len()), &base, mantissas, first);
                values(reader, (scale, odd.len()), &base, mantissas, second);
                let even: Vec<f64> = odd.iter().map(|at| still(count(*at), last[*at], scale).sum).collect();
                values(reader, (scale, odd.len()), &even, mantissas, third);
            }
            Kind::Counter => {
                if !odd.is_empty() {
                    values(reader, (scale, odd.len()), &[], mantissas, first);
                }
                if shape.peak {
                    values(reader, (scale, last.len()), &[], mantissas, peaks);
                }
            }
        }
    }

    /// Appends one field of the windows. Fields that a kind does not have read `Last`, or NaN.
    fn put(&self, (shape, scale): (Shape, Scale), field: Field, out: &mut Vec<f64>) {
        let from = out.len();
        let count = |at: usize| narrow(self.counts.get(at).copied().unwrap_or(self.count));
        let counts = || (0..self.last.len()).map(count);
        let odd_values = match (shape.kind, field) {
            (_, Field::Count) => {
                out.extend(counts().map(f64::from));
                return;
            }
            (Kind::Counter, Field::Peak) if shape.peak => {
                out.extend_from_slice(&self.peaks);
                return;
            }
            (_, Field::Peak) => {
                out.resize(from + self.last.len(), f64::NAN);
                return;
            }
            (Kind::Gauge, Field::Last | Field::Increase)
            | (Kind::Counter, Field::Last | Field::Min | Field::Max | Field::Sum) => {
                out.extend_from_slice(&self.last);
                return;
            }
            (Kind::Gauge, Field::Min | Field::Max) => {
                out.extend_from_slice(&self.last);
                &self.odd_values[usize::from(field == Field::Max)]
            }
            (Kind::Gauge, Field::Sum) => {
                out.extend(counts().zip(&self.last).map(|(count, last)| still(count, *last, scale).sum));
                &self.odd_values[2]
            }
            (Kind::Counter, Field::Increase) => {
                let before = std::iter::once(None).chain(self.last.iter().copied().map(Some));
                out.extend(before.zip(&self.last).map(|(before, last)| growth(before, *last, scale)));
                &self.odd_values[0]
            }
        };
        let places = out[from..].iter_mut().zip(&self.odd).filter(|(_, odd)| **odd == 1);
        places.zip(odd_values).for_each(|((place, _), value)| *place = *value);
    }
}

fn len(reader: &mut Reader<'_>) -> usize {
    usize::try_from(reader.varint()).unwrap_or(0).min(ENTRIES_MAX)
}

fn narrow(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

/// Reads a column of values, which are written as differences from `base` if there is one.
fn values(reader: &mut Reader<'_>, shape: (Scale, usize), base: &[f64], mantissas: &mut Vec<i64>, out: &mut Vec<f64>) {
    out.clear();
    append_values(reader, shape, base, mantissas, out);
}

/// The same behind others.
fn append_values(
    reader: &mut Reader<'_>,
    (scale, len): (Scale, usize),
    base: &[f64],
    mantissas: &mut Vec<i64>,
    out: &mut Vec<f64>,
) {
    let decimals = scale.decimals();
    match scale {
        Scale::Floats => floats(reader, len, out),
        Scale::Ordered => {
            append_integers(reader, len, |integer| f64::from_bits(ordered(integer).cast_unsigned()), out);
        }
        Scale::Digits(_) if base.is_empty() => append_integers(reader, len, decimals.values(), out),
        Scale::Digits(_) => {
            integers(reader, len, mantissas);
            let base = base.iter().map(|base| decimals.mantissa(*base).unwrap_or(0));
            let mantissas = mantissas.iter().zip(base).map(|(mantissa, base)| mantissa.wrapping_add(base));
            out.extend(mantissas.map(decimals.values()));
        }
    }
}

/// Puts the values behind `from` where no mark is, and marks where they are.
fn spread(marks: &[i64], column: &mut Vec<f64>, from: usize) {
    if marks.is_empty() {
        return;
    }
    let mut living = column.len();
    column.resize(from + marks.len(), f64::from_bits(STALE));
    for at in (0..marks.len()).rev() {
        if marks[at] == 0 {
            living -= 1;
            column[from + at] = column[living];
        } else {
            column[from + at] = f64::from_bits(STALE);
        }
    }
}
