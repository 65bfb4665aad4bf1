//! The flight recorder's blocks: how ticks stand in them, and how they are read, by the agent and by whoever it sends them.
//!
//! A tick names what has a value by exceptions from the tick before it of the same kind, and then codes each value against
//! the one before: runs of values that stood still, small differences of the integers that stand for rounded values, the
//! bits of whatever else.

use crate::metric::Decimals;
use crate::metric::Tier;
use crate::schema::SeriesIndex;
use crate::time::Timestamp;
use crate::wire::bytes::Reader;
use crate::wire::bytes::unzigzag;

/// What had a value at one tick: series of a run and their values, in the order of their index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// When.
    pub stamp: Timestamp,
    /// What.
    pub values: Vec<(SeriesIndex, f64)>,
}

/// Where coding stands: the same for who writes and who reads.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Of the tick before.
    pub stamp: Timestamp,
    /// Of each series.
    pub slots: Vec<Slot>,
}

/// Where one series stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// Its value.
    pub value: f64,
    /// At which kinds of ticks it had a value last time, one bit each.
    pub kinds: u8,
}

/// What a code that is no difference means when it is zero: the bits of a value follow.
pub const BITS_FOLLOW: u64 = 0;

/// The kind of a tick, by the slowest tier that has values at it.
#[must_use]
pub const fn kind(due: Tier) -> u8 {
    match due {
        Tier::Second => 1,
        Tier::Window => 2,
        Tier::Minute => 4,
    }
}

impl Track {
    /// Where a block begins.
    pub fn begin_block(&mut self) {
        self.stamp = Timestamp::default();
        self.slots.fill(Slot::default());
    }

    /// Reads the tick that stands at `at` of a block; nothing at its end, or where it is not what was written. `decimals`
    /// are those of the run's series, at least as many as are in the block.
    pub fn next(&mut self, decimals: &[Decimals], block: &[u8], at: &mut usize) -> Option<Tick> {
        let mut reader = Reader::new(block.get(*at..)?);
        let length = reader.len();
        let stamp = self.stamp.as_millis().wrapping_add(unzigzag(reader.varint().ok()?));
        self.stamp = Timestamp::from_millis(stamp);
        let kind = reader.byte().ok()?;
        self.take_presence(&mut reader, kind, decimals.len())?;
        let mut still = 0;
        let mut values = Vec::new();
        for (at, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| slot.kinds & kind != 0) {
            if still == 0 {
                still = slot.take(&mut reader, *decimals.get(at as usize)?)?;
            } else {
                still -= 1;
            }
            values.push((SeriesIndex(at), slot.value));
        }
        *at += length - reader.len();
        Some(Tick { stamp: self.stamp, values })
    }

    fn take_presence(&mut self, reader: &mut Reader<'_>, kind: u8, known: usize) -> Option<()> {
        let series = usize::try_from(reader.varint().ok()?).ok().filter(|series| *series <= known)?;
        self.slots.resize(series.max(self.slots.len()), Slot::default());
        let (mut at, mut odd) = (0_usize, false);
        let mut turn = |through: usize, odd: bool, at: &mut usize| {
            self.slots.get_mut(*at..through)?.iter_mut().for_each(|slot| slot.kinds ^= if odd { kind } else { 0 });
            *at = through;
            Some(())
        };
        for _ in 0..reader.varint().ok()? {
            let through = at.checked_add(usize::try_from(reader.varint().ok()?).ok()?)?;
            turn(through, odd, &mut at)?;
            odd = !odd;
        }
        turn(series, odd, &mut at)
    }
}

impl Slot {
    /// Reads what comes next: a new value of this series, or for how many behind it values stood still too.
    fn take(&mut self, reader: &mut Reader<'_>, decimals: Decimals) -> Option<u64> {
        let code = reader.varint().ok()?;
        if code == BITS_FOLLOW {
            self.value = f64::from_bits(u64::from_le_bytes(reader.take(8).ok()?.try_into().ok()?));
        } else if code & 1 == 1 {
            self.value = decimals.value(decimals.mantissa(self.value)?.wrapping_add(unzigzag(code >> 1)));
        } else {
            return Some((code >> 1) - 1);
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(block in prop::collection::vec(any::<u8>(), 0..300), small in prop::collection::vec(0..6_u8, 0..60)) {
            for bytes in [block, small] {
                let (mut track, mut at) = (Track::default(), 0);
                let decimals = [Decimals::new(0), Decimals::new(2), Decimals::FULL].repeat(4);
                while track.next(&decimals, &bytes, &mut at).is_some() {
                    prop_assert!(track.slots.len() <= decimals.len());
                }
            }
        }
    }
}
