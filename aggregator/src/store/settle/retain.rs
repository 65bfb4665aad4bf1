//! What has expired goes, by whole files; and which tier answers for which time.

use std::time::Duration;

use common::time::{TimeRange, Timestamp};

use crate::store::Retention;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::catalog;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;

const HOUR: Duration = Duration::from_secs(3_600);

impl Settler {
    /// Removes files that have expired. Answers whether there were any.
    pub(super) fn retain(&mut self, now: Timestamp) -> Result<bool, SettleError> {
        let retention = self.shared.config.retention;
        let files = self.shared.blocks.all().iter().map(|file| (file.block, file.bytes)).collect();
        let gone = gone(files, &retention, now);
        if gone.is_empty() {
            return Ok(false);
        }
        let removed = gone.clone();
        self.change(move |transaction, _| catalog::remove_blocks(transaction, &removed))?;
        self.shared.blocks.replace(&gone, &[]);
        Ok(true)
    }
}

/// The files that have expired, and the oldest of the others where all together are too large.
fn gone(mut files: Vec<(Block, u64)>, retention: &Retention, now: Timestamp) -> Vec<i64> {
    files.sort_by_key(|(block, _)| block.range.through);
    let mut bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let is_gone = |(block, size): &(Block, u64)| {
        let is_large = retention.bytes.is_some_and(|most| most < bytes);
        let is_gone = is_large || block.range.through <= begins(block.tier, retention, now);
        bytes -= if is_gone { *size } else { 0 };
        is_gone
    };
    files.into_iter().filter(is_gone).map(|(block, _)| block.id).collect()
}

/// Which tier answers for which part of a range, oldest first: the finest that is kept for it.
pub(in crate::store) fn tiers(retention: &Retention, now: Timestamp, range: TimeRange) -> Vec<(Tier, TimeRange)> {
    let mut through = range.through;
    let mut tiers = Vec::new();
    for tier in Tier::ALL {
        let after = range.after.max(begins(tier, retention, now));
        if after < through {
            tiers.push((tier, TimeRange { after, through }));
            through = after;
        }
    }
    tiers.reverse();
    tiers
}

/// What a tier has is after this.
fn begins(tier: Tier, retention: &Retention, now: Timestamp) -> Timestamp {
    let kept = match tier {
        Tier::Raw => retention.raw,
    };
    now.before(kept).align_down(HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::block::hour;

    #[test]
    fn what_has_expired_goes_and_the_oldest_where_files_are_too_large() {
        let now = Timestamp::from_seconds(100 * 3_600);
        let file = |id: i64| {
            let range = hour(Timestamp::from_seconds(3_600 * (90 + id)));
            (Block { id, tier: Tier::Raw, range }, 10)
        };
        let check = |kept: u64, bytes: Option<u64>, expect: &[i64]| {
            let retention = Retention { raw: HOUR * u32::try_from(kept).unwrap(), bytes };
            assert_eq!(gone([3, 1, 4, 2].map(file).to_vec(), &retention, now), expect, "{kept} h, {bytes:?} bytes");
        };
        check(100, None, &[]);
        check(8, None, &[1, 2]);
        check(100, Some(40), &[]);
        check(100, Some(39), &[1]);
        check(100, Some(15), &[1, 2, 3]);
        check(8, Some(15), &[1, 2, 3]);
        check(7, Some(1_000), &[1, 2, 3]);
    }
}
