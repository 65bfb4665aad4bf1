//! Durations as rule files and Alertmanager's file write them: `1h30m`, `10s`, `0s`.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration: numbers with the units y, w, d, h, m, s, ms, each once, largest first; or `0`.
///
/// # Errors
/// One sentence that says what a duration looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let complaint = || format!("{text:?} is not a duration such as 30s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let millis = units.by_ref().find(|(name, _)| *name == unit).ok_or_else(complaint)?.1;
        let number: u64 = number.parse().map_err(|_| complaint())?;
        sum = number.checked_mul(millis).and_then(|part| sum.checked_add(part)).ok_or_else(complaint)?;
        rest = behind;
    }
    // Milliseconds since the epoch are signed: a longer stretch could not be added to a moment.
    if text.is_empty() || i64::try_from(sum).is_err() { Err(complaint()) } else { Ok(Duration::from_millis(sum)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, millis: Option<u64>) {
        assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn reads_what_prometheus_reads() {
        check("0", Some(0));
        check("0s", Some(0));
        check("10s", Some(10_000));
        check("1h30m", Some(5_400_000));
        check("1d1ms", Some(86_400_001));
        check("5m", Some(300_000));
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "5", "m", "30m1h", "1m1m", "-1s", "1.5h", "inf", "5 m", "99999999999y", "1é"] {
            check(text, None);
        }
    }
}
