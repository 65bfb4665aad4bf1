//! Which windows answer: those that were written, or longer ones that were made of them.

use std::time::Duration;

use common::time::Timestamp;

use crate::store::select::Tiered;

/// How long the window of a stamp is, if it was made of others.
pub(super) fn resolution(tiers: &[Tiered], stamp: Timestamp) -> Option<Duration> {
    of(tiers, stamp).and_then(|tier| tier.resolution)
}

/// How many of a series' windows were made of others.
pub(super) fn coarse(stamps: &[Timestamp], tiers: &[Tiered]) -> usize {
    let made = tiers.iter().rfind(|tier| tier.resolution.is_some());
    made.map_or(0, |made| stamps.partition_point(|stamp| *stamp <= made.through))
}

/// Whether a window is the latest one that can be in a range that is shorter, of those that answer where it begins.
pub(super) fn covers(tiers: &[Tiered], stamp: Timestamp, (after, through): (i64, i64)) -> bool {
    let tier = of(tiers, stamp).filter(|tier| after < tier.through.as_millis());
    tier.and_then(|tier| tier.resolution).is_some_and(|length| through < stamp.after(length).as_millis())
}

fn of(tiers: &[Tiered], stamp: Timestamp) -> Option<&Tiered> {
    tiers.iter().find(|tier| stamp <= tier.through)
}
