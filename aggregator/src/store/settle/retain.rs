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

    /// Whether a tier that is made of the raw one lacks what a raw file has.
    pub(super) fn lacks(&self, tier: Tier, raw: Block) -> bool {
        let day = day(raw.range.through);
        // Who merges a longer stretch sees to it that its days were made before: the number of a file says what is in it.
        let of_day = self.blocks.iter().filter(|block| block.tier == tier && block.overlaps(day));
        raw.tier == Tier::Raw && self.aged(tier) < day.through && of_day.map(|block| block.id).max() < Some(raw.id)
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
}
