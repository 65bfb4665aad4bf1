//! A column of integers or floats, compressed. Its length is kept elsewhere.
//!
//! Integers become offsets from the first, shifted by the power of two that all share; the offsets, their differences
//! or the differences of those are packed into as few bits as 32 of them need, zeros into a bitmap where they are many.

/// Values packed with one width.
const CHUNK: usize = 32;

/// What the packed residuals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// There are none: all values are the same.
    Constant = 0,
    /// There are none: all differences are the same.
    Linear = 1,
    /// Offsets above the smallest one.
    Offset = 2,
    /// Differences.
    Delta = 3,
    /// Differences above the smallest one.
    Steady = 4,
    /// Differences of differences.
    Delta2 = 5,
}

impl Mode {
    const PACKED: [Self; 4] = [Self::Offset, Self::Delta, Self::Steady, Self::Delta2];

    fn read(byte: u8) -> Self {
        let all = [Self::Linear, Self::Offset, Self::Delta, Self::Steady, Self::Delta2];
        all.into_iter().find(|mode| *mode as u8 == byte).unwrap_or(Self::Constant)
    }
}

/// Writes integers.
pub(in crate::store) fn put_integers(out: &mut Vec<u8>, values: &[i64]) {
    let first = values.first().copied().unwrap_or(0);
    let differing = values.iter().fold(0, |bits, value| bits | value.wrapping_sub(first));
    if differing == 0 {
        out.push(Mode::Constant as u8);
        put_varint(out, zigzag(first));
        return;
    }
    let shift = differing.trailing_zeros();
    // The first one twice, so that its difference from the one before it is there, and none.
    let offsets: Vec<i64> =
        std::iter::once(0).chain(values.iter().map(|value| value.wrapping_sub(first) >> shift)).collect();
    let step = offsets[2];
    if offsets[1..].windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        put_head(out, Mode::Linear, shift, first);
        put_varint(out, zigzag(step));
        return;
    }
    let bits = |(mode, base): &(Mode, i64)| {
        let mut bits = 0;
        each_chunk((*mode, *base), &offsets, |chunk| bits += chunk_bits(chunk));
        bits
    };
    let ways = Mode::PACKED.map(|mode| (mode, base(mode, &offsets)));
    let Some(way) = ways.into_iter().min_by_key(bits) else {
        return;
    };
    put_head(out, way.0, shift, first);
    put_varint(out, zigzag(way.1));
    let mut bits = BitWriter::new(out);
    each_chunk(way, &offsets, |chunk| put_chunk(&mut bits, chunk));
    bits.finish();
}

/// Reads `len` integers into `out`, in place of what it holds.
pub(in crate::store) fn integers(bytes: &mut Reader<'_>, len: usize, out: &mut Vec<i64>) {
    out.clear();
    append_integers(bytes, len, |integer| integer, out);
}

/// Reads `len` integers, and appends what each stands for.
pub(in crate::store) fn append_integers<T: Clone>(
    bytes: &mut Reader<'_>,
    len: usize,
    of: impl Fn(i64) -> T,
    out: &mut Vec<T>,
) {
    let from = out.len();
    let mode = Mode::read(bytes.byte() & 7);
    if mode == Mode::Constant {
        out.resize(from + len, of(unzigzag(bytes.varint())));
        return;
    }
    let shift = bytes.byte() & 63;
    let first = unzigzag(bytes.varint());
    let base = unzigzag(bytes.varint()) << shift;
    out.resize(from + len, of(first));
    let Some((_, places)) = out[from..].split_first_mut() else {
        return;
    };
    let (mut integer, mut step) = (first, 0_i64);
    let mut grow = |by: i64| {
        integer = integer.wrapping_add(by);
        of(integer)
    };
    match mode {
        Mode::Constant => {}
        Mode::Linear => places.iter_mut().for_each(|place| *place = grow(base)),
        Mode::Offset => {
            let lowest = first.wrapping_add(base);
            unpack(bytes, places, |residual| of(lowest.wrapping_add(residual.cast_signed() << shift)));
        }
        Mode::Delta => unpack(bytes, places, |residual| grow(unzigzag(residual) << shift)),
        Mode::Steady => unpack(bytes, places, |residual| grow(base.wrapping_add(residual.cast_signed() << shift))),
        Mode::Delta2 => unpack(bytes, places, |residual| {
            step = step.wrapping_add(unzigzag(residual) << shift);
            grow(step)
        }),
    }
}

/// Writes the bits of floats: those that differ little from the one before cost little.
pub(in crate::store) fn put_floats(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let mut bits = BitWriter::new(out);
    let mut before = 0;
    for value in values {
        let differing = value ^ before;
        before = value;
        bits.put(u64::from(differing != 0), 1);
        if differing != 0 {
            let (leading, trailing) = (differing.leading_zeros(), differing.trailing_zeros());
            let width = 64 - leading - trailing;
            bits.put(u64::from(leading), 6);
            bits.put(u64::from(width - 1), 6);
            bits.put(differing >> trailing, width);
        }
    }
    bits.finish();
}

/// Appends `len` floats.
pub(in crate::store) fn floats(bytes: &mut Reader<'_>, len: usize, out: &mut Vec<f64>) {
    let mut bits = BitReader::new(bytes);
    let mut before = 0;
    out.extend((0..len).map(|_| {
        if bits.take(1) == 1 {
            let leading = narrow(bits.take(6));
            let width = narrow(bits.take(6)) + 1;
            before ^= bits.take(width) << (64 - width).saturating_sub(leading);
        }
        f64::from_bits(before)
    }));
    bits.finish();
}

/// Writes a number in as few bytes as it needs.
pub(in crate::store) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Small numbers of either sign as small numbers.
pub(in crate::store) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(in crate::store) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Takes bytes from the front. Behind the end there are zeros: a checksum says whether what is read was written so.
pub(in crate::store) struct Reader<'a>(pub(in crate::store) &'a [u8]);

impl Reader<'_> {
    pub(in crate::store) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(in crate::store) fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
}

fn put_head(out: &mut Vec<u8>, mode: Mode, shift: u32, first: i64) {
    out.push(mode as u8);
    out.push(shift.to_le_bytes()[0]);
    put_varint(out, zigzag(first));
}

/// What the residuals are above.
fn base(mode: Mode, offsets: &[i64]) -> i64 {
    let lowest = match mode {
        Mode::Constant | Mode::Linear | Mode::Delta | Mode::Delta2 => None,
        Mode::Offset => offsets[2..].iter().copied().min(),
        Mode::Steady => offsets[1..].windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).min(),
    };
    lowest.unwrap_or(0)
}

/// Hands on the residuals of all offsets but the first, which is zero, as many at once as are packed with one width.
fn each_chunk((mode, base): (Mode, i64), offsets: &[i64], mut packed: impl FnMut(&[u64])) {
    let mut chunk = [0; CHUNK];
    for from in (0..offsets.len() - 2).step_by(CHUNK) {
        let offsets = &offsets[from..offsets.len().min(from + CHUNK + 2)];
        let residuals = &mut chunk[..offsets.len() - 2];
        match mode {
            Mode::Constant | Mode::Linear => {}
            Mode::Offset => fill(residuals, offsets, |[_, _, next]| next.wrapping_sub(base).cast_unsigned()),
            Mode::Delta => fill(residuals, offsets, |[_, last, next]| zigzag(next.wrapping_sub(last))),
            Mode::Steady => {
                fill(residuals, offsets, |[_, last, next]| next.wrapping_sub(last).wrapping_sub(base).cast_unsigned())
            }
            Mode::Delta2 => fill(residuals, offsets, |[before, last, next]| {
                zigzag(next.wrapping_sub(last).wrapping_sub(last.wrapping_sub(before)))
            }),
        }
        packed(residuals);
    }
}

/// Makes residuals of offsets, each of one and of the two before it.
fn fill(residuals: &mut [u64], offsets: &[i64], of: impl Fn([i64; 3]) -> u64) {
    let lasts = offsets.iter().zip(&offsets[1..]).zip(&offsets[2..]);
    for (residual, ((before, last), next)) in residuals.iter_mut().zip(lasts) {
        *residual = of([*before, *last, *next]);
    }
}

/// Width of the widest, and how many are not zero.
fn measure(chunk: &[u64]) -> (u32, usize) {
    let width = 64 - chunk.iter().fold(0, |bits, value| bits | value).leading_zeros();
    (width, chunk.iter().filter(|value| **value != 0).count())
}

fn chunk_bits(chunk: &[u64]) -> usize {
    let (width, filled) = measure(chunk);
    8 + (chunk.len() * width as usize).min(chunk.len() + filled * width as usize)
}

fn put_chunk(bits: &mut BitWriter<'_>, chunk: &[u64]) {
    let (width, filled) = measure(chunk);
    let sparse = chunk.len() + filled * (width as usize) < chunk.len() * width as usize;
    bits.put(u64::from(width), 7);
    bits.put(u64::from(sparse), 1);
    if sparse {
        chunk.iter().for_each(|value| bits.put(u64::from(*value != 0), 1));
        chunk.iter().filter(|value| **value != 0).for_each(|value| bits.put(*value, width));
    } else {
        chunk.iter().for_each(|value| bits.put(*value, width));
    }
}

/// Reads the bits of as many as there is place for, and puts there what each stands for.
fn unpack<T>(bytes: &mut Reader<'_>, places: &mut [T], mut of: impl FnMut(u64) -> T) {
    let mut bits = BitReader::new(bytes);
    for chunk in places.chunks_mut(CHUNK) {
        let head = narrow(bits.take(8));
        let width = (head & 0x7f).min(64);
        if head & 0x80 == 0 {
            bits.take_all(width, chunk, &mut of);
        } else {
            let filled = bits.take(narrow(chunk.len() as u64));
            for (at, place) in chunk.iter_mut().enumerate() {
                *place = of(if filled >> at & 1 == 1 { bits.take(width) } else { 0 });
            }
        }
    }
    bits.finish();
}

fn narrow(bits: u64) -> u32 {
    u32::try_from(bits).unwrap_or(0)
}

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Those that make no word yet.
    waiting: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, waiting: 0, count: 0 }
    }

    /// Appends the lowest `width` bits of `value`, which has no others.
    fn put(&mut self, value: u64, width: u32) {
        self.waiting |= value << self.count;
        self.count += width;
        if u64::BITS <= self.count {
            self.out.extend_from_slice(&self.waiting.to_le_bytes());
            self.count -= u64::BITS;
            self.waiting = value.checked_shr(width - self.count).unwrap_or(0);
        }
    }

    fn finish(self) {
        self.out.extend_from_slice(&self.waiting.to_le_bytes()[..self.count.div_ceil(8) as usize]);
    }
}

/// More bytes than a chunk of numbers has where each is read in a word: a power of two, so that nobody need look whether
/// one lies behind them.
const NEAR: usize = 256;

struct BitReader<'a, 'b> {
    bytes: &'a mut Reader<'b>,
    /// Bits taken.
    taken: usize,
    /// Where a chunk of numbers is read, with zeros behind the end.
    near: [u8; NEAR + size_of::<u64>()],
}

impl<'a, 'b> BitReader<'a, 'b> {
    const fn new(bytes: &'a mut Reader<'b>) -> Self {
        Self { bytes, taken: 0, near: [0; NEAR + size_of::<u64>()] }
    }

    fn take(&mut self, width: u32) -> u64 {
        let (byte, shift) = (self.taken / 8, self.taken % 8);
        self.taken += width as usize;
        let mut value = word(self.bytes.0, byte) >> shift;
        if 64 < shift + width as usize {
            value |= word(self.bytes.0, byte + 8) << (64 - shift);
        }
        value & u64::MAX.checked_shr(64 - width).unwrap_or(0)
    }

    /// Takes as many of one width as there is place for, at most a chunk, and puts there what each stands for.
    fn take_all<T>(&mut self, width: u32, places: &mut [T], mut of: impl FnMut(u64) -> T) {
        /// A word's bits behind those of the byte that a number begins in: wider ones lie in two words.
        const WIDTH_IN_WORD: u32 = 64 - 7;
        if WIDTH_IN_WORD < width {
            places.iter_mut().for_each(|place| *place = of(self.take(width)));
            return;
        }
        let (from, mut at) = (self.taken / 8, self.taken % 8);
        self.taken += places.len() * width as usize;
        let packed = self.bytes.0.get(from..).unwrap_or_default();
        let near = packed.len().min(self.near.len());
        self.near[..near].copy_from_slice(&packed[..near]);
        self.near[near..].fill(0);
        let mask = (1_u64 << width) - 1;
        for place in places {
            let word = self.near[at / 8 % NEAR..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            *place = of(word >> (at % 8) & mask);
            at += width as usize;
        }
    }

    /// Takes what is left of the last byte.
    fn finish(self) {
        let taken = self.taken.div_ceil(8).min(self.bytes.0.len());
        self.bytes.0 = &self.bytes.0[taken..];
    }
}

/// Eight bytes from `at` on; zeros where there are none.
fn word(bytes: &[u8], at: usize) -> u64 {
    if let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        return u64::from_le_bytes(*word);
    }
    match bytes.last_chunk() {
        Some(word) if at < bytes.len() => u64::from_le_bytes(*word) >> (8 * (at + 8 - bytes.len())),
        _ => (at..bytes.len()).rev().fold(0, |word, at| word << 8 | u64::from(bytes[at])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[i64], bytes_max: usize) {
        let mut out = Vec::new();
        put_integers(&mut out, values);
        assert!(out.len() <= bytes_max, "{} bytes for {values:?}", out.len());
        assert_eq!(read(&mut Reader(&out), values.len()), values);
    }

    fn read(reader: &mut Reader<'_>, len: usize) -> Vec<i64> {
        let mut values = vec![1; 3];
        integers(reader, len, &mut values);
        values
    }

    #[test]
    fn regular_columns_cost_little() {
        check(&[], 2);
        check(&[7], 2);
        check(&[7; 360], 2);
        check(&(0..360).map(|at| at * 10_000).collect::<Vec<_>>(), 5);
        check(&[0, 4_096, 0, 8_192, 4_096], 6);
        check(&[i64::MIN, i64::MAX, 0, -1], 46);
        let mut sparse = [5; 64];
        sparse[40] = 900;
        check(&sparse, 12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn integers_come_back(values in prop::collection::vec(prop_oneof![any::<i64>(), -50..50_i64], 0..100)) {
            let mut out = Vec::new();
            put_integers(&mut out, &values);
            let mut reader = Reader(&out);
            prop_assert_eq!(read(&mut reader, values.len()), values);
            prop_assert!(reader.0.is_empty());
        }

        #[test]
        fn floats_come_back_to_the_bit(values in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(1)], 0..100)) {
            let mut out = Vec::new();
            put_floats(&mut out, values.iter().copied());
            let mut reader = Reader(&out);
            let mut floats_out = Vec::new();
            floats(&mut reader, values.len(), &mut floats_out);
            prop_assert_eq!(floats_out.into_iter().map(f64::to_bits).collect::<Vec<_>>(), values);
            prop_assert!(reader.0.is_empty());
        }
    }
}
