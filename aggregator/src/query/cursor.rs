//! Where moments that only grow stand among stamps.

use common::time::Timestamp;

/// One end of a range that slides over the stamps of a series.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    at: usize,
    /// How far it went last: between steps of one length there mostly are as many stamps.
    stride: usize,
}

impl Cursor {
    /// Where the first stamp stands that is behind a moment, which is not before the last one asked for.
    #[inline]
    pub(super) fn behind(&mut self, stamps: &[Timestamp], moment: i64) -> usize {
        let guess = self.at + self.stride;
        let is_past = |at: usize| stamps.get(at).is_some_and(|stamp| stamp.as_millis() <= moment);
        let hits = guess.checked_sub(1).is_none_or(is_past) && !is_past(guess);
        let at = if hits { guess } else { search(stamps, self.at, moment) };
        self.stride = at - self.at;
        self.at = at;
        at
    }
}

/// The same, if none before `from` is. It mostly is near.
fn search(stamps: &[Timestamp], from: usize, moment: i64) -> usize {
    let is_past = |stamp: &Timestamp| stamp.as_millis() <= moment;
    let (mut low, mut reach) = (from, 1);
    while stamps.get(low + reach - 1).is_some_and(is_past) {
        low += reach;
        reach *= 2;
    }
    let near = &stamps[low..stamps.len().min(low + reach - 1)];
    low + near.partition_point(is_past)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_stands_where_all_before_are_past(
            gaps in prop::collection::vec(prop_oneof![Just(10), 1..40_i64], 0..40),
            steps in prop::collection::vec(prop_oneof![Just(20), 0..200_i64], 0..20),
        ) {
            let sums = |steps: &[i64]| -> Vec<i64> {
                steps.iter().scan(0, |sum, step| { *sum += step; Some(*sum) }).collect()
            };
            let stamps: Vec<Timestamp> = sums(&gaps).into_iter().map(Timestamp::from_millis).collect();
            let mut cursor = Cursor::default();
            for moment in sums(&steps) {
                let expect = stamps.iter().filter(|stamp| stamp.as_millis() <= moment).count();
                prop_assert_eq!(cursor.behind(&stamps, moment), expect);
            }
        }
    }
}
