//! The samples section: for each living series, whether it is there, whether it moved, and by how much.
//!
//! Presence and tick counts follow from a column's tier and the stamp; what differs is listed. Then bits and bytes run
//! beside each other: the bits choose a form for each series, the bytes hold its numbers. All numbers are mantissas. In
//! codec 1 they are varints; in codec 2 they stand among the bits, coded by their spread, and there are no bytes.

use super::Against;
use super::CODEC_VARINTS;
use super::CodecError;
use super::spread::Spread;
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
use crate::window::same_bits;
use crate::wire::bytes::BitReader;
use crate::wire::bytes::Bits;
use crate::wire::bytes::Reader;
use crate::wire::bytes::put_sized;
use crate::wire::bytes::put_varint;
use crate::wire::bytes::unzigzag;
use crate::wire::bytes::zigzag;

/// What is remembered of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Previous {
    /// Value at the end of the latest window.
    pub(super) last: f64,
    coding: Coding,
}

/// How its numbers are coded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Coding {
    /// All numbers of this series so far were multiples of two to this power: sizes in pages, kilobytes, sectors.
    shift: u8,
    /// Of the kinds of numbers that it has.
    spreads: [Spread; 4],
}

impl Coding {
    /// Whether it is the same. Byte by byte, as they were just written: what is compared as one word is waited for.
    fn is(self, other: Self) -> bool {
        self.shift == other.shift && self.spreads.iter().zip(&other.spreads).all(|(left, right)| left == right)
    }
}

/// Kinds of numbers, as places in [`Coding::spreads`]: of a gauge the growth of its last value, how far its extremes are
/// from that, and its sum from what is likely; of a counter its growth, what it lost, and its peak.
mod kind {
    pub(super) const GROWTH: usize = 0;
    pub(super) const BELOW: usize = 1;
    pub(super) const ABOVE: usize = 2;
    pub(super) const SUM: usize = 3;
    pub(super) const LOST: usize = 1;
    pub(super) const INCREASE: usize = 2;
    pub(super) const PEAK: usize = 3;
}

/// Pages of 4 KiB. Four bits hold it.
const COARSEST_SHIFT: u8 = 12;
const SHIFT_BITS: u32 = 4;

impl Default for Previous {
    fn default() -> Self {
        Self { last: 0.0, coding: Coding { shift: COARSEST_SHIFT, spreads: Default::default() } }
    }
}

const TIERS: [Tier; 3] = [Tier::Second, Tier::Window, Tier::Minute];

/// Codes all samples of a batch and remembers them.
pub(super) fn encode(codec: u8, batch: &Batch, against: Against<'_>, previous: &mut Vec<Previous>) -> Vec<u8> {
    let Against { schema, version, .. } = against;
    previous.resize(previous.len().max(schema.series().len()), Previous::default());
    let all: Vec<_> = joined(batch, schema, version).collect();
    let ticks = usual_ticks(&all, batch.stamp);
    let mut exceptions = Vec::new();
    let (mut exception_count, mut gap) = (0, 0);
    let mut pen = Pen { varints: (codec == CODEC_VARINTS).then(Vec::new), bits: Bits::default() };
    for (index, column, window) in all {
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
    let bits = pen.bits.into_bytes();
    match pen.varints {
        Some(varints) => {
            put_sized(&mut section, &bits);
            section.extend_from_slice(&varints);
        }
        None => section.extend_from_slice(&bits),
    }
    section
}

/// Samples, and the series whose coding changed.
pub(super) type Decoded = (Vec<(SeriesIndex, Window)>, Vec<(SeriesIndex, Coding)>);

/// What [`encode`] was given, and the codings that changed. The caller remembers both once the whole batch is good.
pub(super) fn decode(
    codec: u8,
    section: &[u8],
    against: Against<'_>,
    previous: &[Previous],
) -> Result<Decoded, CodecError> {
    let mut reader = Reader::new(section);
    let ticks = take_ticks(&mut reader, against.stamp)?;
    let mut exceptions = Exceptions::new(&mut reader)?;
    let mut eye = if codec == CODEC_VARINTS {
        Eye { bits: BitReader::new(reader.sized()?), varints: Some(reader) }
    } else {
        Eye { bits: BitReader::new(reader.rest()), varints: None }
    };
    let mut codings = Vec::new();
    let mut samples = Vec::with_capacity(against.schema.series().len());
    for (index, column) in against.schema.living(against.version) {
        let count = exceptions.next().unwrap_or(ticks[place(column.tier)]);
        if count == 0 {
            continue;
        }
        let mut previous = previous.get(index.0 as usize).copied().unwrap_or_default();
        let before = previous.coding;
        let window = match column.kind {
            Kind::Gauge => Window::Gauge(eye.gauge(count, column.decimals, &mut previous)?),
            Kind::Counter => Window::Counter(eye.counter(count, column, &mut previous)?),
        };
        samples.push((index, window));
        if !previous.coding.is(before) {
            codings.push((index, previous.coding));
        }
    }
    if !eye.is_at_end() || !exceptions.is_empty() {
        return Err(CodecError::Malformed("more values than series"));
    }
    Ok((samples, codings))
}

/// Makes a decoded batch the one before the next.
pub(super) fn remember(
    previous: &mut Vec<Previous>,
    samples: &[(SeriesIndex, Window)],
    codings: &[(SeriesIndex, Coding)],
) {
    let needed = samples.last().map_or(0, |(index, _)| index.0 as usize + 1);
    previous.resize(previous.len().max(needed), Previous::default());
    for (index, window) in samples {
        previous[index.0 as usize].last = window.last();
    }
    for (index, coding) in codings {
        previous[index.0 as usize].coding = *coding;
    }
}

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
fn usual_ticks(all: &[(SeriesIndex, &Column, Option<&Window>)], stamp: Timestamp) -> [u32; 3] {
    let mut usual = TIERS.map(|tier| (tier.ticks(stamp), 0_u32));
    for (_, column, window) in all {
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
struct Pen {
    bits: Bits,
    /// Where numbers go in codec 1.
    varints: Option<Vec<u8>>,
}

impl Pen {
    fn gauge(&mut self, gauge: &Gauge, decimals: Decimals, previous: &mut Previous) {
        let before = *previous;
        previous.last = gauge.last;
        if flat(before.last, gauge.count, decimals).is(gauge) {
            return self.form([false]);
        }
        let is_flat = flat(gauge.last, gauge.count, decimals).is(gauge);
        let fields = [gauge.last, gauge.min, gauge.max, gauge.sum];
        let mantissas = fields.map(|field| decimals.mantissa(field));
        let [Some(last), Some(min), Some(max), Some(sum)] = mantissas else {
            self.form([true, true, true, is_flat]);
            return self.floats(if is_flat { &fields[..1] } else { &fields });
        };
        let delta = last - base(before.last, decimals);
        if is_flat {
            self.form([true, false]);
            let shift = self.grid(&[delta], previous);
            return self.number(kind::GROWTH, zigzag(delta >> shift), previous);
        }
        self.form([true, true, false]);
        let shift = self.grid(&[delta, min - last, max - last, sum], previous);
        self.number(kind::GROWTH, zigzag(delta >> shift), previous);
        self.number(kind::BELOW, ((last - min) >> shift).cast_unsigned(), previous);
        self.number(kind::ABOVE, ((max - last) >> shift).cast_unsigned(), previous);
        let guess = likely_sum(min, max, gauge.count);
        self.number(kind::SUM, zigzag((sum >> shift).wrapping_sub(guess >> shift)), previous);
    }

    fn counter(&mut self, counter: &Counter, column: &Column, previous: &mut Previous) {
        let before = *previous;
        previous.last = counter.last;
        let decimals = column.decimals;
        let peak = if column.peak { counter.peak } else { 0.0 };
        if same_bits([counter.last, counter.increase, peak], [before.last, 0.0, 0.0]) {
            return self.form([false]);
        }
        let fields = [counter.last, counter.increase, peak];
        let [Some(last), Some(increase), Some(fastest)] = fields.map(|field| decimals.mantissa(field)) else {
            self.form([true, true, true]);
            return self.floats(&fields);
        };
        let delta = last - base(before.last, decimals);
        if 0 <= delta && delta == increase {
            self.form([true, false]);
            let shift = self.grid(&[delta], previous);
            self.number(kind::GROWTH, (delta >> shift).cast_unsigned(), previous);
        } else {
            self.form([true, true, false]);
            let shift = self.grid(&[delta, increase], previous);
            self.number(kind::LOST, zigzag(delta >> shift), previous);
            self.number(kind::INCREASE, zigzag(increase >> shift), previous);
        }
        if column.peak {
            self.number(kind::PEAK, zigzag(fastest - mean_rate(increase)), previous);
        }
    }

    fn form<const N: usize>(&mut self, bits: [bool; N]) {
        let (number, count) = bits.iter().fold((0, 0), |(number, at), bit| (number | u64::from(*bit) << at, at + 1));
        self.bits.put(number, count);
    }

    fn number(&mut self, kind: usize, number: u64, previous: &mut Previous) {
        match &mut self.varints {
            Some(varints) => put_varint(varints, number),
            None => previous.coding.spreads[kind].put(&mut self.bits, number),
        }
    }

    fn floats(&mut self, floats: &[f64]) {
        for float in floats {
            match &mut self.varints {
                Some(varints) => varints.extend_from_slice(&float.to_le_bytes()),
                None => self.bits.put(float.to_bits(), 64),
            }
        }
    }

    /// The power of two that divides all these numbers and those before them.
    fn grid(&mut self, numbers: &[i64], previous: &mut Previous) -> u8 {
        let before = previous.coding.shift;
        if before == 0 {
            return 0;
        }
        let together = numbers.iter().fold(0, |together, number| together | number);
        let shift = u8::try_from(together.trailing_zeros()).map_or(before, |zeros| zeros.min(before));
        self.bits.push(shift == before);
        if shift != before {
            self.bits.put(shift.into(), SHIFT_BITS);
        }
        previous.coding.shift = shift;
        shift
    }
}

// The forms, as ones before the zero behind them; behind those of the last is none.
const UNCHANGED: u32 = 0;
const COMMON: u32 = 1;
const FLOATS: u32 = 3;

/// Reads what [`Pen`] wrote.
struct Eye<'a> {
    bits: BitReader<'a>,
    /// Where numbers stand in codec 1.
    varints: Option<Reader<'a>>,
}

impl Eye<'_> {
    fn gauge(&mut self, count: u32, decimals: Decimals, at: &mut Previous) -> Result<Gauge, CodecError> {
        let before = at.last;
        let form = self.form()?;
        if form == FLOATS {
            if self.bits.bit()? {
                return Ok(flat(self.float()?, count, decimals));
            }
            let [last, min, max, sum] = [self.float()?, self.float()?, self.float()?, self.float()?];
            return Ok(Gauge { count, min, max, sum, last });
        }
        if form == UNCHANGED {
            return Ok(flat(before, count, decimals));
        }
        let shift = self.grid(at)?;
        let last = base(before, decimals).wrapping_add(unzigzag(self.number(kind::GROWTH, at)?) << shift);
        if form == COMMON {
            return Ok(flat(decimals.value(last), count, decimals));
        }
        let min = last.wrapping_sub(self.number(kind::BELOW, at)?.cast_signed() << shift);
        let max = last.wrapping_add(self.number(kind::ABOVE, at)?.cast_signed() << shift);
        let guess = likely_sum(min, max, count);
        let sum = (guess >> shift).wrapping_add(unzigzag(self.number(kind::SUM, at)?)) << shift;
        let [last, min, max, sum] = [last, min, max, sum].map(|mantissa| decimals.value(mantissa));
        Ok(Gauge { count, min, max, sum, last })
    }

    fn counter(&mut self, count: u32, column: &Column, at: &mut Previous) -> Result<Counter, CodecError> {
        let before = at.last;
        let decimals = column.decimals;
        let form = self.form()?;
        if form == FLOATS {
            let [last, increase, peak] = [self.float()?, self.float()?, self.float()?];
            return Ok(Counter { count, last, increase, peak });
        }
        if form == UNCHANGED {
            return Ok(Counter { count, last: before, increase: 0.0, peak: 0.0 });
        }
        let shift = self.grid(at)?;
        let (delta, increase) = if form == COMMON {
            let delta = self.number(kind::GROWTH, at)?.cast_signed() << shift;
            (delta, delta)
        } else {
            let delta = unzigzag(self.number(kind::LOST, at)?);
            (delta << shift, unzigzag(self.number(kind::INCREASE, at)?) << shift)
        };
        let last = base(before, decimals).wrapping_add(delta);
        let faster = if column.peak { Some(unzigzag(self.number(kind::PEAK, at)?)) } else { None };
        let peak = faster.map_or(0, |faster| mean_rate(increase).wrapping_add(faster));
        let [last, increase, peak] = [last, increase, peak].map(|mantissa| decimals.value(mantissa));
        Ok(Counter { count, last, increase, peak })
    }

    fn form(&mut self) -> Result<u32, CodecError> {
        self.bits.ones(FLOATS)
    }

    fn number(&mut self, kind: usize, at: &mut Previous) -> Result<u64, CodecError> {
        match &mut self.varints {
            Some(varints) => varints.varint(),
            None => at.coding.spreads[kind].take(&mut self.bits),
        }
    }

    fn float(&mut self) -> Result<f64, CodecError> {
        match &mut self.varints {
            Some(varints) => varints.float(),
            None => self.bits.take(64).map(f64::from_bits),
        }
    }

    fn grid(&mut self, at: &mut Previous) -> Result<u8, CodecError> {
        let shift = &mut at.coding.shift;
        if *shift != 0 && !self.bits.bit()? {
            *shift = u8::try_from(self.bits.take(SHIFT_BITS)?).unwrap_or(0);
        }
        Ok(*shift)
    }

    fn is_at_end(&self) -> bool {
        self.varints.as_ref().map_or_else(|| self.bits.is_at_end(), Reader::is_empty)
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
