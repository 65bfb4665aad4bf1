//! Block files: what is older than the head. A file is immutable from birth: to change one, another is written.

pub(super) mod file;
pub(super) mod part;
pub(super) mod set;
pub(super) mod walk;

use std::fmt;
use std::time::Duration;

use common::time::{TimeRange, Timestamp};
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How coarse the windows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tier {
    /// As they came.
    Raw,
    /// Of five minutes.
    FiveMinutes,
    /// Of an hour.
    OneHour,
}

impl Tier {
    /// Finest first.
    pub(super) const ALL: [Self; 3] = [Self::Raw, Self::FiveMinutes, Self::OneHour];

    /// Those that are made of the raw ones.
    pub(super) const COARSE: [Self; 2] = [Self::FiveMinutes, Self::OneHour];

    /// As the table of files has it.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::FiveMinutes => 1,
            Self::OneHour => 2,
        }
    }

    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.number() == number)
    }

    /// The length of its windows, if they all have one.
    pub(super) const fn resolution(self) -> Option<Duration> {
        match self {
            Self::Raw => None,
            Self::FiveMinutes => Some(Duration::from_secs(300)),
            Self::OneHour => Some(HOUR),
        }
    }

    /// What one file of it covers in the end, shortest first.
    const fn stretches(self) -> &'static [fn(Timestamp) -> TimeRange] {
        match self {
            Self::Raw => &[hour, day],
            Self::FiveMinutes => &[day, month],
            Self::OneHour => &[day, month, year],
        }
    }

    /// The longest of those around a stamp that is over by `cut`, up to which everything is in files: nothing comes for
    /// it but late.
    pub(super) fn finished(self, stamp: Timestamp, cut: Timestamp) -> Option<TimeRange> {
        let stretches = self.stretches().iter().rev().map(|stretch| stretch(stamp));
        stretches.into_iter().find(|range| range.through.after(MERGE_AFTER) <= cut)
    }

    /// The directory of its files.
    pub(super) const fn directory(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }
}

/// What a file covers: all stamps in it lie in `range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Of two files that say something about one stamp, that with the higher number was written later and is right.
    pub(super) id: i64,
    pub(super) tier: Tier,
    pub(super) range: TimeRange,
}

impl Block {
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        overlap(self.range, range)
    }

    /// Whether it may have something of a series that lived so long: a coarse window is stamped with the end of its stretch.
    pub(super) fn may_have(&self, lived: TimeRange) -> bool {
        let through = self.tier.resolution().map_or(lived.through, |length| lived.through.align_up(length));
        self.overlaps(TimeRange { through, ..lived })
    }

    /// The parts of a range where what it has counts beside these files: a coarse one is made of everything in its range,
    /// and stands in the place of earlier ones there.
    pub(super) fn counts(&self, range: TimeRange, beside: &[Self]) -> Vec<TimeRange> {
        let replaces = |later: &&Self| self.tier != Tier::Raw && self.tier == later.tier && self.id < later.id;
        let mut parts = vec![range];
        for later in beside.iter().filter(replaces).filter(|later| later.overlaps(range)) {
            let around = |part: TimeRange| {
                let before = TimeRange { through: part.through.min(later.range.after), ..part };
                [before, TimeRange { after: part.after.max(later.range.through), ..part }]
            };
            parts = parts.into_iter().flat_map(around).filter(|part| part.after < part.through).collect();
        }
        parts
    }

    /// The hours of a range, counted from the first one of the file, which may be shorter than an hour.
    pub(super) fn hours(&self, range: TimeRange) -> (u32, u32) {
        let within =
            TimeRange { after: range.after.max(self.range.after), through: range.through.min(self.range.through) };
        let since = |at: Timestamp| u32::try_from(at.since(self.range.after).as_secs() / HOUR.as_secs()).unwrap_or(0);
        (since(within.after), since(within.through.before(Duration::from_millis(1))))
    }
}

impl fmt::Display for Block {
    /// Where it lies: `raw/2026-11-21T13.17.db`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}.db", self.tier.directory(), name(self.range), self.id)
    }
}

/// How long after its end an hour or a day is merged: an hour's delay of agents costs no second merging.
const MERGE_AFTER: Duration = HOUR;

/// Whether two ranges have something in common.
pub(super) fn overlap(left: TimeRange, right: TimeRange) -> bool {
    right.after < left.through && left.after < right.through
}

/// What is sealed at once: a head holds a third of what it would with hours, and four files an hour are not many.
pub(super) const QUARTER: Duration = Duration::from_secs(900);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The quarter of an hour whose windows are stamped so, left-open as they are.
pub(super) fn quarter(stamp: Timestamp) -> TimeRange {
    aligned(stamp, QUARTER)
}

/// The hour.
pub(super) fn hour(stamp: Timestamp) -> TimeRange {
    aligned(stamp, HOUR)
}

/// The day, in UTC.
pub(super) fn day(stamp: Timestamp) -> TimeRange {
    aligned(stamp, DAY)
}

fn aligned(stamp: Timestamp, length: Duration) -> TimeRange {
    let through = stamp.align_up(length);
    TimeRange { after: through.before(length), through }
}

/// The month.
fn month(stamp: Timestamp) -> TimeRange {
    calendar(stamp, Date::first_of_month, Date::last_of_month)
}

/// The year.
fn year(stamp: Timestamp) -> TimeRange {
    calendar(stamp, Date::first_of_year, Date::last_of_year)
}

fn calendar(stamp: Timestamp, first: fn(Date) -> Date, last: fn(Date) -> Date) -> TimeRange {
    let Some(date) = date(day(stamp).after) else {
        return day(stamp);
    };
    let midnight = |date: Date| {
        let zoned = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    };
    match (midnight(first(date)), midnight(last(date))) {
        (Some(after), Some(last)) => TimeRange { after, through: last.after(DAY) },
        _ => day(stamp),
    }
}

fn date(at: Timestamp) -> Option<Date> {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
    Some(at.to_zoned(TimeZone::UTC).date())
}

/// `2026-11-21T1345`, `2026-11-21T13`, `2026-11-21`, `2026-11` or `2026`; of a range that has no such name, its end.
fn name(range: TimeRange) -> String {
    let formats = [
        (quarter(range.through), "%Y-%m-%dT%H%M"),
        (hour(range.through), "%Y-%m-%dT%H"),
        (day(range.through), "%Y-%m-%d"),
        (month(range.through), "%Y-%m"),
    ];
    let format = formats.iter().find(|(same, _)| *same == range).map_or("%Y", |(_, format)| format);
    let after = jiff::Timestamp::from_millisecond(range.after.as_millis());
    after.map_or_else(|_| range.through.as_millis().to_string(), |after| after.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_file_counts_where_no_later_one_is() {
        let block = |id, tier, after, through| {
            let [after, through] = [after, through].map(Timestamp::from_seconds);
            Block { id, tier, range: TimeRange { after, through } }
        };
        let check = |tier, expect: &[(i64, i64)]| {
            let later =
                [block(1, tier, 0, 9), block(3, tier, 10, 20), block(4, tier, 15, 30), block(5, Tier::OneHour, 0, 99)];
            let parts = block(2, tier, 0, 40).counts(later[0].range, &later);
            assert_eq!(parts, [later[0].range]);
            let parts = block(2, tier, 0, 40).counts(block(2, tier, 0, 40).range, &later);
            let parts: Vec<_> =
                parts.iter().map(|part| (part.after.as_millis() / 1_000, part.through.as_millis() / 1_000)).collect();
            assert_eq!(parts, expect);
        };
        check(Tier::Raw, &[(0, 40)]);
        check(Tier::FiveMinutes, &[(0, 10), (30, 40)]);
    }

    #[test]
    fn a_file_is_named_by_what_it_covers() {
        let stamp = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let check = |range: fn(Timestamp) -> TimeRange, at: &str, expect: &str| {
            let block = Block { id: 7, tier: Tier::Raw, range: range(stamp(at)) };
            assert!(block.range.contains(stamp(at)));
            assert_eq!(block.to_string(), format!("raw/{expect}.7.db"));
        };
        check(quarter, "2026-11-21T13:00:10Z", "2026-11-21T1300");
        check(quarter, "2026-11-21T14:00:00Z", "2026-11-21T1345");
        check(hour, "2026-11-21T13:00:10Z", "2026-11-21T13");
        check(hour, "2026-11-21T14:00:00Z", "2026-11-21T13");
        check(hour, "2026-11-21T00:00:00Z", "2026-11-20T23");
        check(day, "2026-11-21T00:00:00Z", "2026-11-20");
        check(month, "2026-12-01T00:00:00Z", "2026-11");
        check(month, "2026-02-28T23:00:00Z", "2026-02");
        check(year, "2027-01-01T00:00:00Z", "2026");
        check(hour, "1970-01-01T00:00:00Z", "1969-12-31T23");
    }
}
