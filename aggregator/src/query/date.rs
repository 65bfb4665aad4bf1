//! Parts of a date in UTC, of seconds since the epoch.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

pub(super) fn year(seconds: f64) -> f64 {
    part(seconds, |at| at.year().into())
}

pub(super) fn month(seconds: f64) -> f64 {
    part(seconds, |at| at.month().into())
}

pub(super) fn day_of_month(seconds: f64) -> f64 {
    part(seconds, |at| at.day().into())
}

/// Sunday is 0.
pub(super) fn day_of_week(seconds: f64) -> f64 {
    part(seconds, |at| at.weekday().to_sunday_zero_offset().into())
}

/// From 1.
pub(super) fn day_of_year(seconds: f64) -> f64 {
    part(seconds, |at| at.day_of_year().into())
}

pub(super) fn days_in_month(seconds: f64) -> f64 {
    part(seconds, |at| at.days_in_month().into())
}

pub(super) fn hour(seconds: f64) -> f64 {
    part(seconds, |at| at.hour().into())
}

pub(super) fn minute(seconds: f64) -> f64 {
    part(seconds, |at| at.minute().into())
}

/// NaN for moments that no calendar has.
#[expect(clippy::cast_possible_truncation, reason = "out of range saturates and is refused by the calendar")]
fn part(seconds: f64, part: impl Fn(DateTime) -> f64) -> f64 {
    if seconds.is_nan() {
        return f64::NAN;
    }
    let moment = Timestamp::from_second(seconds.floor() as i64);
    moment.map_or(f64::NAN, |moment| part(TimeZone::UTC.to_datetime(moment)))
}
