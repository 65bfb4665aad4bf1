//! Parts of a date in UTC, of seconds since the epoch. Any number of seconds has a date, as in Go: no calendar ends.

/// A day of the proleptic Gregorian calendar.
struct Date {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
}

const DAY_SECONDS: i64 = 86_400;

pub(super) fn year(seconds: f64) -> f64 {
    part(seconds, |seconds| date(seconds).year)
}

pub(super) fn month(seconds: f64) -> f64 {
    part(seconds, |seconds| date(seconds).month)
}

pub(super) fn day_of_month(seconds: f64) -> f64 {
    part(seconds, |seconds| date(seconds).day)
}

/// Sunday is 0.
pub(super) fn day_of_week(seconds: f64) -> f64 {
    // The epoch began on a Thursday.
    part(seconds, |seconds| (days(seconds) + 4).rem_euclid(7))
}

/// From 1.
pub(super) fn day_of_year(seconds: f64) -> f64 {
    part(seconds, |seconds| days(seconds) - first_of(date(seconds).year, 1) + 1)
}

pub(super) fn days_in_month(seconds: f64) -> f64 {
    part(seconds, |seconds| {
        let Date { year, month, .. } = date(seconds);
        let next = if month == 12 { first_of(year + 1, 1) } else { first_of(year, month + 1) };
        next - first_of(year, month)
    })
}

pub(super) fn hour(seconds: f64) -> f64 {
    part(seconds, |seconds| seconds.rem_euclid(DAY_SECONDS) / 3_600)
}

pub(super) fn minute(seconds: f64) -> f64 {
    part(seconds, |seconds| seconds.rem_euclid(3_600) / 60)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "fractions are cut, and years are small"
)]
fn part(seconds: f64, part: impl Fn(i64) -> i64) -> f64 {
    if seconds.is_nan() { f64::NAN } else { part(seconds as i64) as f64 }
}

fn days(seconds: i64) -> i64 {
    seconds.div_euclid(DAY_SECONDS)
}

/// The day on which a moment lies. Years are counted from March, so that the leap day is a year's last.
fn date(seconds: i64) -> Date {
    // Days since 1 March of the year 0.
    let days = days(seconds) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Date { year: era * 400 + year_of_era + i64::from(month <= 2), month, day }
}

/// The days from the epoch to the first of a month.
fn first_of(year: i64, month: i64) -> i64 {
    let (year, month_from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_date_is_that_of_a_calendar(seconds in -377_705_023_201_i64..=253_402_207_200) {
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let float = seconds as f64;
            let at = TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(seconds).unwrap());
            prop_assert_eq!(year(float), f64::from(at.year()));
            prop_assert_eq!(month(float), f64::from(at.month()));
            prop_assert_eq!(day_of_month(float), f64::from(at.day()));
            prop_assert_eq!(day_of_week(float), f64::from(at.weekday().to_sunday_zero_offset()));
            prop_assert_eq!(day_of_year(float), f64::from(at.day_of_year()));
            prop_assert_eq!(days_in_month(float), f64::from(at.days_in_month()));
            prop_assert_eq!(hour(float), f64::from(at.hour()));
            prop_assert_eq!(minute(float), f64::from(at.minute()));
        }
    }

    #[test]
    fn every_number_has_a_date() {
        assert_eq!(minute(1e15), 46.0);
        assert_eq!(year(-0.5), 1970.0, "cut, not floored");
        assert!(year(f64::NAN).is_nan());
        for seconds in [f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            assert!((1.0..=12.0).contains(&month(seconds)) && (28.0..=31.0).contains(&days_in_month(seconds)));
        }
    }
}
