//! Numbers for people: the `humanize…` functions of Prometheus' templates.

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::alert::template::go::four_digits;

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const LARGE_BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// With metric prefixes: `1.235M`.
pub(super) fn metric(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        four_digits(value)
    } else if 1.0 <= value.abs() {
        scaled_down(value, 1_000.0, &LARGE)
    } else {
        scaled_up(value)
    }
}

/// With binary prefixes: `1.177Mi`.
pub(super) fn binary(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        four_digits(value)
    } else {
        scaled_down(value, 1_024.0, &LARGE_BINARY)
    }
}

/// Seconds as `14d 6h 56m 7s`, or `123.4ms` below one.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four_digits(seconds);
    }
    if seconds == 0.0 || seconds.abs() < 1.0 {
        return if seconds == 0.0 { format!("{}s", four_digits(seconds)) } else { format!("{}s", scaled_up(seconds)) };
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = SignedDuration::try_from_secs_f64(seconds.abs()).map_or(i64::MAX, |duration| duration.as_secs());
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(seconds.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {}s", whole % 60),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {}s", whole % 60),
        _ => format!("{sign}{days}d {hours}h {minutes}m {}s", whole % 60),
    }
}

/// A ratio as `12.34%`.
pub(super) fn percentage(ratio: f64) -> String {
    format!("{}%", four_digits(ratio * 100.0))
}

/// Seconds since the epoch as `2015-06-23 13:19:44.128 +0000 UTC`.
///
/// # Errors
/// When no calendar has that moment.
pub(super) fn timestamp(seconds: f64) -> Result<String, String> {
    if !seconds.is_finite() {
        return Ok(four_digits(seconds));
    }
    let millis = SignedDuration::try_from_secs_f64((seconds * 1_000.0).trunc() / 1_000.0)
        .ok()
        .and_then(|since_epoch| since_epoch.round(jiff::Unit::Millisecond).ok())
        .and_then(|since_epoch| Timestamp::from_duration(since_epoch).ok());
    let at = millis.ok_or_else(|| format!("{seconds:e} is not a moment"))?;
    Ok(at.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string())
}

fn scaled_down(mut value: f64, step: f64, prefixes: &[&str]) -> String {
    let mut prefix = "";
    for larger in prefixes {
        if value.abs() < step {
            break;
        }
        prefix = larger;
        value /= step;
    }
    format!("{}{prefix}", four_digits(value))
}

fn scaled_up(mut value: f64) -> String {
    let mut prefix = "";
    for smaller in SMALL {
        if 1.0 <= value.abs() {
            break;
        }
        prefix = smaller;
        value *= 1_000.0;
    }
    format!("{}{prefix}", four_digits(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |seconds, expect: &str| assert_eq!(duration(seconds), expect);
        check(0.0, "0s");
        check(899.99, "14m 59s");
        check(90_000.0, "1d 1h 0m 0s");
        check(-183_845.0, "-2d 3h 4m 5s");
        check(0.123_45, "123.5ms");
        check(0.000_1, "100us");
        check(12.345, "12.35s");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn moments() {
        let check = |seconds, expect: &str| assert_eq!(timestamp(seconds).unwrap(), expect);
        check(0.0, "1970-01-01 00:00:00 +0000 UTC");
        check(-1.0, "1969-12-31 23:59:59 +0000 UTC");
        check(1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC");
        check(f64::INFINITY, "+Inf");
        assert!(timestamp(1e300).is_err());
    }
}
