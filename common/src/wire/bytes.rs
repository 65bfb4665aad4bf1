//! Varints, bits and text, written and read in turn. Reading past the end is an error, never a panic.

use super::codec::CodecError;

/// Maps small numbers of either sign to small numbers without one.
#[must_use]
pub const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(coded: u64) -> i64 {
    (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed()
}

/// Appends seven bits a byte, the lowest first.
#[expect(clippy::cast_possible_truncation, reason = "seven bits fit a byte")]
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and the bytes.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bits, the lowest of each byte first.
#[derive(Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits that are no whole byte yet, fewer than 32 between calls.
    pending: u64,
    count: u32,
}

impl Bits {
    /// Appends one bit.
    pub(super) fn push(&mut self, bit: bool) {
        self.put(u64::from(bit), 1);
    }

    /// Appends the lowest `count` bits of a number, at most 64.
    #[inline]
    pub(super) fn put(&mut self, number: u64, count: u32) {
        if 32 < count {
            self.put_word(number, 32);
            return self.put_word(number >> 32, count - 32);
        }
        self.put_word(number, count);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bytes are meant")]
    fn put_word(&mut self, number: u64, count: u32) {
        self.pending |= (number & ((1 << count) - 1)) << self.count;
        self.count += count;
        if 32 <= self.count {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    /// Whole bytes, the last padded with zeros.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let rest = self.pending.to_le_bytes();
        self.bytes.extend_from_slice(rest.get(..self.count.div_ceil(8) as usize).unwrap_or_default());
        self.bytes
    }
}

/// Reads what [`Bits`] wrote.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

/// Bits that can be looked at from any place.
const SEEN: u32 = 57;

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bit.
    pub(super) fn bit(&mut self) -> Result<bool, CodecError> {
        self.take(1).map(|bit| bit == 1)
    }

    /// The next `count` bits as a number, at most 64.
    pub(super) fn take(&mut self, count: u32) -> Result<u64, CodecError> {
        if SEEN < count {
            let low = self.take(32)?;
            return Ok(low | self.take(count - 32)? << 32);
        }
        let taken = self.seen() & ((1 << count) - 1);
        self.skip(count)?;
        Ok(taken)
    }

    /// How many ones come next, and the zero behind them; or `most` ones, at most 56.
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, CodecError> {
        let ones = self.seen().trailing_ones().min(most);
        self.skip(if ones < most { ones + 1 } else { ones })?;
        Ok(ones)
    }

    /// A number whose highest bits come as so many ones and the zero behind them, and its `low` lowest, at most 63, as they are;
    /// or nothing behind `most` ones.
    #[inline]
    pub(super) fn rice(&mut self, low: u32, most: u32) -> Result<Option<u64>, CodecError> {
        let seen = self.seen();
        let ones = seen.trailing_ones();
        if most <= ones {
            self.skip(most)?;
            return Ok(None);
        }
        let told = if ones + 1 + low <= SEEN {
            self.skip(ones + 1 + low)?;
            seen >> (ones + 1) & ((1 << low) - 1)
        } else {
            self.skip(ones + 1)?;
            self.take(low)?
        };
        Ok(Some(u64::from(ones) << low | told))
    }

    /// Whether nothing but the padding of the last byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.len() == self.at.div_ceil(8) && self.seen() == 0
    }

    #[inline]
    fn skip(&mut self, count: u32) -> Result<(), CodecError> {
        let at = self.at + count as usize;
        if 8 * self.bytes.len() < at {
            return Err(CodecError::Truncated);
        }
        self.at = at;
        Ok(())
    }

    /// At least the next [`SEEN`] bits; zeros behind the last.
    #[inline]
    fn seen(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(byte, rest)| *byte = *rest);
            word
        });
        u64::from_le_bytes(word) >> (self.at % 8)
    }
}

/// Reads bytes from the front.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// All that is left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn byte(&mut self) -> Result<u8, CodecError> {
        self.take(1).map(|byte| byte[0])
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], CodecError> {
        let count = usize::try_from(count).map_err(|_| CodecError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next varint.
    ///
    /// # Errors
    /// When it is cut off, or longer than 64 bits.
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(CodecError::Malformed("a number is longer than 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CodecError::Malformed("a number is longer than 64 bits"))
    }

    /// The next varint of either sign.
    pub(super) fn signed(&mut self) -> Result<i64, CodecError> {
        self.varint().map(unzigzag)
    }

    /// The next varint, which must fit 32 bits.
    pub(super) fn varint32(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.varint()?).map_err(|_| CodecError::Malformed("a number is longer than 32 bits"))
    }

    /// The next eight bytes as a float.
    pub(super) fn float(&mut self) -> Result<f64, CodecError> {
        let bytes = self.take(8)?.try_into().map_err(|_| CodecError::Truncated)?;
        Ok(f64::from_le_bytes(bytes))
    }

    /// The next length and as many bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], CodecError> {
        let count = self.varint()?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, zigzag(number));
            assert_eq!(Reader::new(&bytes).signed(), Ok(number), "{bytes:?}");
            bytes.pop();
            assert_eq!(Reader::new(&bytes).signed(), Err(CodecError::Truncated));
        }
    }

    #[test]
    fn a_number_of_too_many_bytes_is_refused() {
        let check = |bytes: &[u8]| assert!(matches!(Reader::new(bytes).varint(), Err(CodecError::Malformed(_))));
        check(&[0xff; 11]);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
    }
}
