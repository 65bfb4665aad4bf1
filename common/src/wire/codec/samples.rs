//! The samples section: for each living series, whether it is there, whether it moved, and by how much.
//!
//! Presence and tick counts follow from a column's tier and the stamp; what differs is listed. Then bits and bytes run
//! beside each other: the bits choose a form for each series, the bytes hold its numbers. All numbers are mantissas.

use super::Against;
use super::CodecError;
use crate::batch::Batch;
use crate::batch::WINDOW;
use crate::metric::Decimals;
use crate::metric::Kind;
use crate::metric::Tier;
use crate::schema::Column;
use crate::schema::Schema;
use crate::schema::SeriesIndex;
use crate::time::Timestamp;
use crate::window::Counter;
use crate::window::Gauge;
use crate::window::Window;
use crate::wire::bytes::BitReader;
use crate::wire::bytes::Bits;
use crate::wire::bytes::Reader;
use crate::wire::bytes::put_sized;
use crate::wire::bytes::put_varint;
use crate::wire::bytes::zigzag;

/// What is remembered of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Previous {
    /// Value at the end of the latest window.
    pub(super) last: f64,
    /// All numbers of this series so far were multiples of two to this power: sizes in pages, kilobytes, sectors.
    shift: u8,
}

/// Pages of 4 KiB. Four bits hold it.
const COARSEST_SHIFT: u8 = 12;
const SHIFT_BITS: u8 = 4;

impl Default for Previous {
    fn default() -> Self {
        Self { last: 0.0, shift: COARSEST_SHIFT }
    }
}

const TIERS: [Tier; 3] = [Tier::Second, Tier::Window, Tier::Minute];

/// Codes all samples of a batch and remembers them.
pub(super) fn encode(batch: &Batch, schema: &Schema, version: u32, previous: &mut Vec<Previous>) -> Vec<u8> {
    previous.resize(previous.len().max(schema.series().len()), Previous::default());
    let ticks = usual_ticks(batch, schema, version);
    let mut exceptions = Vec::new();
    let (mut exception_count, mut gap) = (0, 0);
    let mut pen = Pen::default();
    for (index, column, window) in joined(batch, schema, version) {
        let count = window.map_or(0, Window::count);
        if count == ticks[place(column.tier)] {
            gap += 1;
        } else {
            put_varint(&mut exceptions, gap);
            put_varint(&mut exceptions, count.into());
            (exception_count, gap) = (exception_count + 1, 0);
        }
        let previous = &mut previous[index.0 as usize];
        match window {
            Some(Window::Gauge(gauge)) => pen.gauge(gauge, column.decimals, previous),
            Some(Window::Counter(counter)) => pen.counter(counter, column, previous),
            None => {}
        }
    }
    let mut section = Vec::new();
    put_ticks(&mut section, ticks, batch.stamp);
    put_varint(&mut section, exception_count);
    section.extend_from_slice(&exceptions);
    put_sized(&mut section, pen.bits.as_bytes());
    section.extend_from_slice(&pen.bytes);
    section
}

/// Samples, and the series whose shift changed.
pub(super) type Decoded = (Vec<(SeriesIndex, Window)>, Vec<Shift>);

/// What [`encode`] was given, and the shifts that changed. The caller remembers both once the whole batch is good.
pub(super) fn decode(section: &[u8], against: Against<'_>, previous: &[Previous]) -> Result<Decoded, CodecError> {
    let mut reader = Reader::new(section);
    let ticks = take_ticks(&mut reader, against.stamp)?;
    let mut exceptions = Exceptions::new(&mut reader)?;
    let mut eye = Eye { bits: BitReader::new(reader.sized()?), bytes: reader, shifts: Vec::new() };
    let mut samples = Vec::with_capacity(against.schema.series().len());
    for (index, column) in against.schema.living(against.version) {
        let count = exceptions.next().unwrap_or(ticks[place(column.tier)]);
        if count == 0 {
            continue;
        }
        let previous = previous.get(index.0 as usize).copied().unwrap_or_default();
        let window = match column.kind {
            Kind::Gauge => Window::Gauge(eye.gauge(count, column.decimals, (index, previous))?),
            Kind::Counter => Window::Counter(eye.counter(count, column, (index, previous))?),
        };
        samples.push((index, window));
    }
    if !eye.bytes.is_empty() || !exceptions.is_empty() {
        return Err(CodecError::Malformed("more values than series"));
    }
    Ok((samples, eye.shifts))
}

/// Makes a decoded batch the one before the next.
pub(super) fn remember(previous: &mut Vec<Previous>, samples: &[(SeriesIndex, Window)], shifts: &[Shift]) {
    let needed = samples.last().map_or(0, |(index, _)| index.0 as usize + 1);
    previous.resize(previous.len().max(needed), Previous::default());
    for (index, window) in samples {
        previous[index.0 as usize].last = window.last();
    }
    for (index, shift) in shifts {
        previous[index.0 as usize].shift = *shift;
    }
}

/// A series whose numbers turned out to be finer than remembered.
pub(super) type Shift = (SeriesIndex, u8);

/// Each living series with its window, if the batch has one that fits it.
fn joined<'a>(
    batch: &'a Batch,
    schema: &'a Schema,
    version: u32,
) -> impl Iterator<Item = (SeriesIndex, &'a Column, Option<&'a Window>)> {
    let mut samples = batch.samples.iter().peekable();
    schema.living(version).map(move |(index, column)| {
        while samples.next_if(|(at, _)| *at < index).is_some() {}
        let window = samples.next_if(|(at, _)| *at == index).map(|(_, window)| window);
        (index, column, window.filter(|window| fits(column, window)))
    })
}

fn fits(column: &Column, window: &Window) -> bool {
    let kind = match window {
        Window::Gauge(_) => Kind::Gauge,
        Window::Counter(_) => Kind::Counter,
    };
    kind == column.kind && 0 < window.count()
}

/// The tick count that most series of each tier have: one late tick is told once, not for each series.
fn usual_ticks(batch: &Batch, schema: &Schema, version: u32) -> [u32; 3] {
    let mut usual = TIERS.map(|tier| (tier.ticks(batch.stamp), 0_u32));
    for (_, column, window) in joined(batch, schema, version) {
        let count = window.map_or(0, Window::count);
        let (candidate, votes) = &mut usual[place(column.tier)];
        match (*candidate == count, *votes) {
            (true, _) => *votes += 1,
            (false, 0) => (*candidate, *votes) = (count, 1),
            (false, _) => *votes -= 1,
        }
    }
    usual.map(|(ticks, _)| ticks)
}

const fn place(tier: Tier) -> usize {
    match tier {
        Tier::Second => 0,
        Tier::Window => 1,
        Tier::Minute => 2,
    }
}

/// One bit for each tier whose ticks are not what its stamp implies, then those ticks.
fn put_ticks(section: &mut Vec<u8>, ticks: [u32; 3], stamp: Timestamp) {
    let implied = TIERS.map(|tier| tier.ticks(stamp));
    let differ = |tier: &usize| ticks[*tier] != implied[*tier];
    section.push((0..3).filter(differ).fold(0, |mask, tier| mask | 1 << tier));
    for tier in (0..3).filter(differ) {
        put_varint(section, ticks[tier].into());
    }
}

fn take_ticks(reader: &mut Reader<'_>, stamp: Timestamp) -> Result<[u32; 3], CodecError> {
    let mut ticks = TIERS.map(|tier| tier.ticks(stamp));
    let mask = reader.byte()?;
    for (place, ticks) in ticks.iter_mut().enumerate() {
        if mask >> place & 1 == 1 {
            *ticks = reader.varint32()?;
        }
    }
    Ok(ticks)
}

/// Series whose count is not the usual one, as distances.
struct Exceptions {
    listed: std::vec::IntoIter<(u64, u32)>,
    gap: Option<(u64, u32)>,
}

impl Exceptions {
    fn new(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.varint()?;
        let listed: Result<Vec<_>, _> = (0..count).map(|_| Ok((reader.varint()?, reader.varint32()?))).collect();
        let mut listed = listed?.into_iter();
        let gap = listed.next();
        Ok(Self { listed, gap })
    }

    /// The count of the next series, if it is an exception.
    fn next(&mut self) -> Option<u32> {
        let (gap, count) = self.gap.as_mut()?;
        if *gap == 0 {
            let count = *count;
            self.gap = self.listed.next();
            return Some(count);
        }
        *gap -= 1;
        None
    }

    const fn is_empty(&self) -> bool {
        self.gap.is_none()
    }
}

/// Writes the forms. Bits: `0` unchanged; `10` the common form; `110` all numbers; `111` floats to the bit.
#[derive(Default)]
struct Pen {
    bits: Bits,
    bytes: Vec<u8>,
}

impl Pen {
    fn gauge(&mut self, gauge: &Gauge, decimals: Decimals, previous: &mut Previous) {
        let before = *previous;
        previous.last = gauge.last;
        if same_gauge(&flat(before.last, gauge.count, decimals), gauge) {
            return self.form(&[false]);
        }
        let is_flat = same_gauge(&flat(gauge.last, gauge.count, decimals), gauge);
        let fields = [gauge.last, gauge.min, gauge.max, gauge.sum];
        let mantissas = fields.map(|field| decimals.mantissa(field));
        let [Some(last), Some(min), Some(max), Some(sum)] = mantissas else {
            self.form(&[true, true, true, is_flat]);
            return self.floats(if is_flat { &fields[..1] } else { &fields });
        };
        let delta = last - base(before.last, decimals);
        if is_flat {
            self.form(&[true, false]);
            let shift = self.grid(&[delta], previous);
            return self.number(zigzag(delta >> shift));
        }
        self.form(&[true, true, false]);
        let shift = self.grid(&[delta, min - last, max - last, sum], previous);
        self.number(zigzag(delta >> shift));
        self.number(((last - min) >> shift).cast_unsigned());
        self.number(((max - last) >> shift).cast_unsigned());
        let guess = likely_sum(min, max, gauge.count);
        self.number(zigzag((sum >> shift).wrapping_sub(guess >> shift)));
    }

    fn counter(&mut self, counter: &Counter, column: &Column, previous: &mut Previous) {
        let before = *previous;
        previous.last = counter.last;
        let decimals = column.decimals;
        let peak = if column.peak { counter.peak } else { 0.0 };
        let stood =
            [counter.last, counter.increase, peak].map(f64::to_bits) == [before.last, 0.0, 0.0].map(f64::to_bits);
        if stood {
            return self.form(&[false]);
        }
        let fields = [counter.last, counter.increase, peak];
        let [Some(last), Some(increase), Some(fastest)] = fields.map(|field| decimals.mantissa(field)) else {
            self.form(&[true, true, true]);
            return self.floats(&fields);
        };
        let delta = last - base(before.last, decimals);
        if 0 <= delta && delta == increase {
            self.form(&[true, false]);
            let shift = self.grid(&[delta], previous);
            self.number((delta >> shift).cast_unsigned());
        } else {
            self.form(&[true, true, false]);
            let shift = self.grid(&[delta, increase], previous);
            self.number(zigzag(delta >> shift));
            self.number(zigzag(increase >> shift));
        }
        if column.peak {
            self.number(zigzag(fastest - mean_rate(increase)));
        }
    }

    fn form(&mut self, bits: &[bool]) {
        bits.iter().for_each(|bit| self.bits.push(*bit));
    }

    fn number(&mut self, number: u64) {
        put_varint(&mut self.bytes, number);
    }

    fn floats(&mut self, floats: &[f64]) {
        floats.iter().for_each(|float| self.bytes.extend_from_slice(&float.to_le_bytes()));
    }

    /// The power of two that divides all these numbers and those before them.
    fn grid(&mut self, numbers: &[i64], previous: &mut Previous) -> u8 {
        if previous.shift == 0 {
            return 0;
        }
        let together = numbers.iter().fold(0, |together, number| together | number);
        let shift = u8::try_from(together.trailing_zeros()).map_or(previous.shift, |zeros| zeros.min(previous.shift));
        self.bits.push(shift == previous.shift);
        if shift != previous.shift {
            self.bits.push_number(shift, SHIFT_BITS);
        }
        previous.shift = shift;
        shift
    }
}

/// Reads what [`Pen`] wrote.
struct Eye<'a> {
    bits: BitReader<'a>,
    bytes: Reader<'a>,
    shifts: Vec<Shift>,
}

impl Eye<'_> {
    fn gauge(&mut self, count: u32, decimals: Decimals, at: (SeriesIndex, Previous)) -> Result<Gauge, CodecError> {
        let before = at.1.last;
        if !self.bits.bit()? {
            return Ok(flat(before, count, decimals));
        }
        if !self.bits.bit()? {
            let shift = self.grid(at)?;
            let last = base(before, decimals).wrapping_add(self.bytes.signed()? << shift);
            return Ok(flat(decimals.value(last), count, decimals));
        }
        if self.bits.bit()? {
            if self.bits.bit()? {
                return Ok(flat(self.bytes.float()?, count, decimals));
            }
            let [last, min, max, sum] = [self.float()?, self.float()?, self.float()?, self.float()?];
            return Ok(Gauge { count, min, max, sum, last });
        }
        let shift = self.grid(at)?;
        let last = base(before, decimals).wrapping_add(self.bytes.signed()? << shift);
        let min = last.wrapping_sub(self.bytes.varint()?.cast_signed() << shift);
        let max = last.wrapping_add(self.bytes.varint()?.cast_signed() << shift);
        let guess = likely_sum(min, max, count);
        let sum = (guess >> shift).wrapping_add(self.bytes.signed()?) << shift;
        let [last, min, max, sum] = [last, min, max, sum].map(|mantissa| decimals.value(mantissa));
        Ok(Gauge { count, min, max, sum, last })
    }

    fn counter(&mut self, count: u32, column: &Column, at: (SeriesIndex, Previous)) -> Result<Counter, CodecError> {
        let before = at.1.last;
        let decimals = column.decimals;
        if !self.bits.bit()? {
            return Ok(Counter { count, last: before, increase: 0.0, peak: 0.0 });
        }
        let explicit = self.bits.bit()?;
        if explicit && self.bits.bit()? {
            let [last, increase, peak] = [self.float()?, self.float()?, self.float()?];
            return Ok(Counter { count, last, increase, peak });
        }
        let shift = self.grid(at)?;
        let (delta, increase) = if explicit {
            (self.bytes.signed()? << shift, self.bytes.signed()? << shift)
        } else {
            let delta = self.bytes.varint()?.cast_signed() << shift;
            (delta, delta)
        };
        let last = base(before, decimals).wrapping_add(delta);
        let peak = if column.peak { mean_rate(increase).wrapping_add(self.bytes.signed()?) } else { 0 };
        let [last, increase, peak] = [last, increase, peak].map(|mantissa| decimals.value(mantissa));
        Ok(Counter { count, last, increase, peak })
    }

    fn float(&mut self) -> Result<f64, CodecError> {
        self.bytes.float()
    }

    fn grid(&mut self, (index, previous): (SeriesIndex, Previous)) -> Result<u8, CodecError> {
        if previous.shift == 0 || self.bits.bit()? {
            return Ok(previous.shift);
        }
        let shift = self.bits.number(SHIFT_BITS)?;
        self.shifts.push((index, shift));
        Ok(shift)
    }
}

/// A gauge that stood at `last` in all its ticks.
fn flat(last: f64, count: u32, decimals: Decimals) -> Gauge {
    let sum = match decimals.mantissa(last) {
        Some(mantissa) => decimals.value(mantissa.wrapping_mul(count.into())),
        // What arithmetic leaves of a NaN's bits is not defined.
        None if last.is_nan() => last,
        None => last * f64::from(count),
    };
    Gauge { count, min: last, max: last, sum, last }
}

/// Equal to the bit: NaN is itself, and the two zeros differ.
fn same_gauge(left: &Gauge, right: &Gauge) -> bool {
    let fields = |gauge: &Gauge| [gauge.min, gauge.max, gauge.sum, gauge.last].map(f64::to_bits);
    fields(left) == fields(right)
}

/// The integer that the next is told against.
fn base(last: f64, decimals: Decimals) -> i64 {
    decimals.mantissa(last).unwrap_or(0)
}

/// What the ticks probably sum up to: half way between the extremes.
fn likely_sum(min: i64, max: i64, count: u32) -> i64 {
    (min.wrapping_add(max) >> 1).wrapping_mul(count.into())
}

/// Growth per second if it was even.
const fn mean_rate(increase: i64) -> i64 {
    increase / WINDOW.as_secs().cast_signed()
}
