//! Numbers coded by their spread: Rice's code, whose parameter follows the numbers of the same kind and series before it.

use super::CodecError;
use crate::wire::bytes::BitReader;
use crate::wire::bytes::Bits;

/// What is remembered of the numbers before: about how many bits they took, in quarters of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread(u8);

/// No number came yet.
const UNKNOWN: u8 = u8::MAX;

/// What the longest number takes, less one so that what is told as it is can be shifted.
const LONGEST: i32 = 4 * 63;

/// How many quarters of a bit fewer are told as they are than numbers took: measured, on the sets of `codec_size`.
const FEWER: u8 = 3;

/// Ones before a number that say that its length follows, because it is far longer than those before.
const ESCAPE: u32 = 12;

/// Bits of a length.
const LENGTH_BITS: u32 = 6;

impl Default for Spread {
    fn default() -> Self {
        Self(UNKNOWN)
    }
}

impl Spread {
    /// Appends a number and learns from it.
    pub(super) fn put(&mut self, out: &mut Bits, number: u64) {
        let low = self.low();
        match low.map(|low| (low, number >> low)) {
            Some((low, high)) if high < u64::from(ESCAPE) => {
                let ones = u32::try_from(high).unwrap_or(ESCAPE);
                let told = number & ((1 << low) - 1);
                if low + ones < 32 {
                    out.put(((1 << ones) - 1) | (told << (ones + 1)), ones + 1 + low);
                } else {
                    out.put((1 << ones) - 1, ones + 1);
                    out.put(told, low);
                }
            }
            escaped => {
                out.put((1 << ESCAPE) - 1, if escaped.is_some() { ESCAPE } else { 0 });
                let behind_first = bits(number).saturating_sub(1);
                out.put(behind_first.into(), LENGTH_BITS);
                // The first bit of a number of two or more is one; that of 0 and 1 is told.
                out.put(number, behind_first.max(1));
            }
        }
        self.learn(number);
    }

    /// What [`Self::put`] was given.
    pub(super) fn take(&mut self, from: &mut BitReader<'_>) -> Result<u64, CodecError> {
        let told = self.low().map_or(Ok(None), |low| from.rice(low, ESCAPE))?;
        let number = match told {
            Some(number) => number,
            None => {
                let behind_first = u32::try_from(from.take(LENGTH_BITS)?).unwrap_or(0);
                let first = if behind_first == 0 { 0 } else { 1 << behind_first };
                first | from.take(behind_first.max(1))?
            }
        };
        self.learn(number);
        Ok(number)
    }

    /// Bits of the next number that are told as they are, if that can be said.
    fn low(self) -> Option<u32> {
        (self.0 != UNKNOWN).then(|| u32::from(self.0.saturating_sub(FEWER) / 4))
    }

    /// Goes a quarter of the way, or at least one quarter of a bit.
    fn learn(&mut self, number: u64) {
        let found = 4 * bits(number).cast_signed();
        let known = i32::from(self.0);
        let way = found - known;
        let step = if way.abs() < 4 { way.signum() } else { way / 4 };
        let learnt = if self.0 == UNKNOWN { found } else { known + step };
        self.0 = u8::try_from(learnt.clamp(0, LONGEST)).unwrap_or(0);
    }
}

/// Bits that a number takes.
const fn bits(number: u64) -> u32 {
    64 - number.leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(numbers: &[u64]) -> usize {
        let (mut out, mut spread) = (Bits::default(), Spread::default());
        numbers.iter().for_each(|number| spread.put(&mut out, *number));
        let bytes = out.into_bytes();
        let (mut from, mut spread) = (BitReader::new(&bytes), Spread::default());
        for number in numbers {
            assert_eq!(spread.take(&mut from), Ok(*number), "{numbers:?}");
        }
        assert!(from.is_at_end());
        bytes.len()
    }

    #[test]
    fn numbers_come_back_however_they_jump() {
        check(&[0, 1, 0, u64::MAX, 0, 0, 1 << 63, u64::MAX, 12, 11, 4_096]);
        check(&[u64::MAX, u64::MAX, u64::MAX, 1]);
    }

    #[test]
    fn numbers_cost_their_spread() {
        // 100 numbers around 1,000 have ten bits each; Rice's code takes about one and a half more.
        let numbers: Vec<u64> = (0..100).map(|at| 700 + at * 7_919 % 600).collect();
        assert!(check(&numbers) <= 100 * 12 / 8);
        // A jump costs, and is forgotten soon.
        let jumped: Vec<u64> =
            numbers.iter().copied().take(50).chain([1 << 40]).chain(numbers.iter().copied().take(50)).collect();
        assert!(check(&jumped) < check(&numbers) + 24);
        assert!(check(&[0; 800]) <= 100 + 8);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(numbers in prop::collection::vec((any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift), 0..100)) {
            check(&numbers);
        }
    }
}
