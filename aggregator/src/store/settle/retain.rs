//! What has expired goes, by whole files; and which tier answers for which time.

use std::time::Duration;

use common::time::{TimeRange, Timestamp};

use crate::store::Retention;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::day;
use crate::store::block::set::Blocks;
use crate::store::catalog;
use crate::store::catalog::Begins;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;

const HOUR: Duration = Duration::from_secs(3_600);

/// Which files there are, and how long they are kept.
pub(in crate::store) struct Kept<'a> {
    pub(super) blocks: Vec<Block>,
    /// After when tiers have everything of which files went for want of room.
    begins: Begins,
    retention: &'a Retention,
    now: Timestamp,
}

impl Settler {
    /// Removes files that have expired. Answers whether there were any.
    pub(super) fn retain(&self, now: Timestamp) -> Result<bool, SettleError> {
        let Self { shared, .. } = self;
        let mut kept = Kept::of(&shared.blocks, &shared.config.retention, now);
        let gone = kept.let_go(shared.blocks.all().iter().map(|file| (file.block, file.bytes)).collect());
        if gone.is_empty() {
            return Ok(false);
        }
        let (removed, begins) = (gone.clone(), kept.begins.clone());
        self.change(move |transaction, _| {
            catalog::remove_blocks(transaction, &removed)?;
            begins.iter().try_for_each(|(tier, begins)| catalog::put_begins(transaction, *tier, *begins))
        })?;
        shared.blocks.begin(kept.begins);
        shared.blocks.replace(&gone, &[]);
        Ok(true)
    }
}

impl<'a> Kept<'a> {
    pub(in crate::store) fn of(blocks: &Blocks, retention: &'a Retention, now: Timestamp) -> Self {
        let files = blocks.all().iter().map(|file| file.block).collect();
        Self { blocks: files, begins: blocks.begins(), retention, now }
    }

    #[cfg(test)]
    pub(super) const fn new(blocks: Vec<Block>, retention: &'a Retention, now: Timestamp) -> Self {
        Self { blocks, begins: Begins::new(), retention, now }
    }

    /// Which tier answers for which part of a range, oldest first: the finest that there is for it.
    pub(in crate::store) fn tiers(&self, range: TimeRange) -> Vec<(Tier, TimeRange)> {
        let mut through = range.through;
        let mut tiers = Vec::new();
        for tier in Tier::ALL {
            let latest = self.aged(tier).max(self.begins.get(&tier).copied().unwrap_or_default());
            let after = if latest <= range.after { range.after } else { range.after.max(self.begins(tier)) };
            if after < through {
                tiers.push((tier, TimeRange { after, through }));
                through = after;
            }
        }
        tiers.reverse();
        tiers
    }

    /// The files of a tier.
    pub(super) fn of_tier(&self, tier: Tier) -> Vec<Block> {
        self.blocks.iter().filter(|block| block.tier == tier).copied().collect()
    }

    /// The same where longer windows may answer whose length divides a grain, as far as they were made of all that there is:
    /// what is not before `unsealed` may be in no file.
    pub(in crate::store) fn tiers_of(
        &self,
        range: TimeRange,
        grain: Duration,
        unsealed: Option<Timestamp>,
    ) -> Vec<(Tier, TimeRange)> {
        let finest = self.tiers(range);
        let divides = |tier: &Tier| {
            let length = tier.resolution().unwrap_or_default();
            !grain.is_zero() && grain.as_millis().is_multiple_of(length.as_millis().max(1))
        };
        // Where it goes before what is finer does, it is no tier to be chosen.
        let reaches =
            |tier: &Tier| finest.iter().all(|(finer, range)| tier <= finer || self.begins(*tier) <= range.after);
        let Some(tier) = Tier::COARSE.into_iter().rev().filter(divides).find(reaches) else {
            return finest;
        };
        let made = self.made_through(tier);
        let seam = unsealed.map_or(made, |unsealed| made.min(unsealed.before(HOUR).align_down(HOUR)));
        let mut tiers: Vec<(Tier, TimeRange)> = Vec::new();
        for (finer, part) in finest {
            let cut = seam.clamp(part.after, part.through);
            let pieces =
                [(finer.max(tier), TimeRange { through: cut, ..part }), (finer, TimeRange { after: cut, ..part })];
            for (tier, piece) in pieces.into_iter().filter(|(_, piece)| piece.after < piece.through) {
                match tiers.last_mut().filter(|(before, _)| *before == tier) {
                    Some((_, before)) => before.through = piece.through,
                    None => tiers.push((tier, piece)),
                }
            }
        }
        tiers
    }

    /// Through when a tier that is made of the raw one has everything that raw files have.
    fn made_through(&self, tier: Tier) -> Timestamp {
        let lacking = self.blocks.iter().filter(|block| self.lacks(tier, **block)).map(|block| block.range.after);
        let made = self.blocks.iter().filter(|block| block.tier == tier).map(|block| block.range.through).max();
        lacking.chain([made.unwrap_or_default()]).min().unwrap_or_default().align_down(HOUR)
    }

    /// Whether a tier that is made of the raw one lacks what a raw file has.
    pub(super) fn lacks(&self, tier: Tier, raw: Block) -> bool {
        let day = day(raw.range.through);
        // Who merges a longer stretch sees to it that its days were made before: the number of a file says what is in it.
        let of_day = self.blocks.iter().filter(|block| block.tier == tier && block.overlaps(day));
        let made = of_day.map(|block| block.id).max();
        let wanted = raw.tier == Tier::Raw && self.aged(tier) < day.through;
        wanted && made < Some(raw.id) && !made.is_some_and(|made| self.outlived((day, made)))
    }

    /// Whether the samples went of which a day's windows were made. What comes for it then is all but for those: nothing is
    /// made of it, and it goes, too.
    fn outlived(&self, (day, made): (TimeRange, i64)) -> bool {
        let went = self.aged(Tier::Raw).max(self.begins.get(&Tier::Raw).copied().unwrap_or_default());
        let source = |block: &Block| block.tier == Tier::Raw && block.id < made && block.overlaps(day);
        day.through <= went && !self.blocks.iter().any(source)
    }

    /// The files that have expired; of the others, where all together are too large, the oldest of the finest.
    fn let_go(&mut self, mut files: Vec<(Block, u64)>) -> Vec<i64> {
        let mut bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let mut gone = Vec::new();
        let mut begins: Begins = Tier::ALL.into_iter().map(|tier| (tier, self.begins(tier))).collect();
        files.sort_by_key(|(block, _)| (block.tier, block.range.through));
        for (Block { id, tier, range }, size) in files {
            if self.retention.bytes.is_some_and(|most| most < bytes) {
                let later = begins.get(&tier).copied().max(Some(range.through)).unwrap_or_default();
                begins.insert(tier, later);
                self.begins.insert(tier, later);
            }
            if begins.get(&tier).is_some_and(|begins| range.through <= *begins) {
                bytes -= size;
                gone.push(id);
            }
        }
        gone
    }

    /// What a tier has is after this: of the raw one, everything of which the others were not made yet.
    fn begins(&self, tier: Tier) -> Timestamp {
        let is_lacking = |block: &&Block| Tier::COARSE.iter().any(|coarse| self.lacks(*coarse, **block));
        let lacking = self.blocks.iter().filter(|_| tier == Tier::Raw).filter(is_lacking);
        let lacking = lacking.map(|block| block.range.after);
        let begins = lacking.chain([self.aged(tier)]).min();
        begins.max(self.begins.get(&tier).copied()).unwrap_or_default()
    }

    fn aged(&self, tier: Tier) -> Timestamp {
        let kept = match tier {
            Tier::Raw => self.retention.raw,
            Tier::FiveMinutes => self.retention.five_minutes,
            Tier::OneHour => self.retention.one_hour,
        };
        self.now.before(kept).align_down(HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::block::hour;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(3_600 * hours)
    }

    #[test]
    fn what_has_expired_goes_and_the_oldest_where_files_are_too_large() {
        let file = |id: i64| Block { id, tier: Tier::Raw, range: hour(at(90 + id)) };
        let check = |hours: u32, bytes: Option<u64>, expect: &[i64]| {
            let zero = Duration::ZERO;
            let retention = Retention { raw: HOUR * hours, five_minutes: zero, one_hour: zero, bytes };
            let blocks = [3, 1, 4, 2].map(file).to_vec();
            let gone = Kept::new(blocks.clone(), &retention, at(100))
                .let_go(blocks.into_iter().map(|block| (block, 10)).collect());
            assert_eq!(gone, expect, "{hours} h, {bytes:?} bytes");
        };
        check(100, None, &[]);
        check(8, None, &[1, 2]);
        check(100, Some(40), &[]);
        check(100, Some(39), &[1]);
        check(100, Some(15), &[1, 2, 3]);
        check(8, Some(15), &[1, 2, 3]);
        check(7, Some(1_000), &[1, 2, 3]);
    }

    #[test]
    fn the_finest_tier_that_is_there_answers_and_nothing_twice() {
        let retention = Retention { raw: HOUR * 48, five_minutes: HOUR * 96, one_hour: HOUR * 192, bytes: None };
        let check = |blocks: &[(i64, Tier, i64)], begins: &[(Tier, i64)], expect: &[(Tier, i64, i64)]| {
            let block = |(id, tier, end): &(i64, Tier, i64)| Block { id: *id, tier: *tier, range: day(at(*end)) };
            let mut kept = Kept::new(blocks.iter().map(block).collect(), &retention, at(240));
            kept.begins = begins.iter().map(|(tier, begins)| (*tier, at(*begins))).collect();
            let tiers = kept.tiers(TimeRange { after: at(0), through: at(240) });
            let tiers = tiers.into_iter().map(|(tier, range)| (tier, range.after, range.through));
            assert_eq!(
                tiers.collect::<Vec<_>>(),
                expect.iter().map(|(tier, after, through)| (*tier, at(*after), at(*through))).collect::<Vec<_>>()
            );
        };
        use Tier::*;
        check(&[], &[], &[(OneHour, 48, 144), (FiveMinutes, 144, 192), (Raw, 192, 240)]);
        let made = [(1, Raw, 192), (2, FiveMinutes, 192), (3, OneHour, 192)];
        check(&made, &[], &[(OneHour, 48, 144), (FiveMinutes, 144, 192), (Raw, 192, 240)]);
        check(&made[..2], &[], &[(OneHour, 48, 144), (FiveMinutes, 144, 168), (Raw, 168, 240)]);
        let late = [made.as_slice(), &[(4, Raw, 192)]].concat();
        check(&late, &[], &[(OneHour, 48, 144), (FiveMinutes, 144, 168), (Raw, 168, 240)]);
        check(&late, &[(Raw, 216)], &[(OneHour, 48, 144), (FiveMinutes, 144, 216), (Raw, 216, 240)]);
    }

    #[test]
    fn longer_windows_answer_where_they_divide_the_grain_as_far_as_they_are_made() {
        use Tier::*;
        let day = |id: i64, tier: Tier, end: i64| Block { id, tier, range: day(at(end)) };
        let made =
            [192, 216].into_iter().flat_map(|end| [day(1, Raw, end), day(2, FiveMinutes, end), day(3, OneHour, end)]);
        let made: Vec<Block> = made.chain([Block { id: 4, tier: Raw, range: hour(at(220)) }]).collect();
        let retention = Retention { raw: HOUR * 48, five_minutes: HOUR * 96, one_hour: HOUR * 192, bytes: None };
        let check_of = |blocks: &[Block],
                        retention: &Retention,
                        grain: u32,
                        unsealed: Option<i64>,
                        expect: &[(Tier, i64, i64)]| {
            let kept = Kept::new(blocks.to_vec(), retention, at(240));
            let range = TimeRange { after: at(100), through: at(240) };
            let tiers = kept.tiers_of(range, Duration::from_secs(60) * grain, unsealed.map(at));
            let tiers: Vec<_> = tiers.into_iter().map(|(tier, range)| (tier, range.after, range.through)).collect();
            let expect: Vec<_> =
                expect.iter().map(|(tier, after, through)| (*tier, at(*after), at(*through))).collect();
            assert_eq!(tiers, expect, "{grain} min, {unsealed:?}");
        };
        let check = |grain, unsealed, expect: &[_]| check_of(&made, &retention, grain, unsealed, expect);
        let finest = &[(OneHour, 100, 144), (FiveMinutes, 144, 192), (Raw, 192, 240)];
        let five = &[(OneHour, 100, 144), (FiveMinutes, 144, 216), (Raw, 216, 240)];
        check(0, None, finest);
        check(7, None, finest);
        check(5, None, five);
        check(30, None, five);
        check(60, None, &[(OneHour, 100, 216), (Raw, 216, 240)]);
        check(24 * 60, Some(230), &[(OneHour, 100, 216), (Raw, 216, 240)]);
        // Something came late, and is in no file yet; or in one of which nothing was made.
        check(60, Some(200), &[(OneHour, 100, 199), (Raw, 199, 240)]);
        let late = [made.as_slice(), &[Block { id: 5, tier: Raw, range: hour(at(210)) }]].concat();
        check_of(&late, &retention, 5, None, &[(OneHour, 100, 144), (FiveMinutes, 144, 209), (Raw, 209, 240)]);
        // What is kept for less long than the samples answers for none of them.
        let short = Retention { five_minutes: HOUR * 24, ..retention };
        check_of(&made, &short, 5, None, &[(OneHour, 100, 192), (Raw, 192, 240)]);
    }
}
