//! What has expired goes, by whole files; and which tier answers for which time.

use std::sync::Arc;
use std::time::Duration;

use common::time::{TimeRange, Timestamp};

use crate::store::Retention;
use crate::store::block::Tier;
use crate::store::block::set::BlockFile;
use crate::store::catalog;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;

const HOUR: Duration = Duration::from_secs(3_600);

impl Settler {
    /// Removes files that have expired. Answers whether there were any.
    pub(super) fn retain(&mut self, now: Timestamp) -> Result<bool, SettleError> {
        let retention = self.shared.config.retention;
        let gone: Vec<i64> = {
            let files = self.shared.blocks.all();
            let expired =
                files.iter().filter(|file| file.block.range.through <= begins(file.block.tier, &retention, now));
            expired.map(|file| file.block.id).collect()
        };
        if gone.is_empty() {
            return Ok(false);
        }
        let removed = gone.clone();
        self.change(move |transaction, _| catalog::remove_blocks(transaction, &removed))?;
        self.shared.blocks.replace(&gone, &[]);
        Ok(true)
    }
}

/// Which tier answers for which part of a range, oldest first: the finest that is kept for it.
pub(in crate::store) fn tiers(
    _files: &[Arc<BlockFile>],
    retention: &Retention,
    now: Timestamp,
    range: TimeRange,
) -> Vec<(Tier, TimeRange)> {
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
        Tier::FiveMinutes => retention.five_minutes,
        Tier::OneHour => retention.one_hour,
    };
    now.before(kept).align_down(HOUR)
}
