//! How durations and sizes are written, as in Prometheus: `200ms`, `1h30m`, `50GB`.

use std::time::Duration;

use serde::Deserialize as _;
use serde::Deserializer;
use serde::Serializer;
use serde::de::Error as _;

/// Units of durations in milliseconds, the smallest first.
const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// Units of sizes as powers of two.
const SIZES: &[(&str, u32)] = &[("KB", 10), ("MB", 20), ("GB", 30), ("TB", 40), ("B", 0)];

pub(super) fn stretch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration such as 200ms, 10s or 1h30m")))
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let known = bytes(&text).map(Some);
    known.ok_or_else(|| D::Error::custom(format!("{text:?} is not a size such as 500MB, 50GB or 2TB")))
}

/// A size as Prometheus writes it: `512KB`, `500MB`, `50GB`, `2TB`, each 1,024 of the one before.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = SIZES.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A duration as Prometheus writes it: `200ms`, `10s`, `1h30m`, `2d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let (_, unit) = DURATIONS.iter().find(|(name, _)| *name == &rest[digits..digits + letters])?;
        let count: u64 = rest[..digits].parse().ok()?;
        millis = millis.checked_add(count.checked_mul(*unit)?)?;
        rest = &rest[digits + letters..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

pub(super) fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*duration))
}

/// A duration as [`duration`] reads it, in the largest unit up to days that says it exactly.
pub(super) fn written(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = DURATIONS.iter().take(5).rev().find(|(_, unit)| 0 < millis && millis.is_multiple_of(*unit));
    let (name, unit) = exact.unwrap_or(&("s", 1));
    format!("{}{name}", millis / unit)
}

/// Writes a size as [`size`] reads it.
pub(super) fn write_size<S: Serializer>(size: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(bytes) = size else { return serializer.serialize_str("") };
    let exact = SIZES.iter().filter(|(_, shift)| bytes.is_multiple_of(1 << shift)).max_by_key(|(_, shift)| *shift);
    let (name, shift) = exact.unwrap_or(&("B", 0));
    serializer.collect_str(&format_args!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_prometheus() {
        let check =
            |text: &str, millis: Option<u64>| assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        check("200ms", Some(200));
        check("1h30m", Some(5_400_000));
        check("2d", Some(172_800_000));
        check("0", Some(0));
        check("0s", Some(0));
        check("", None);
        check("10", None);
        check("s", None);
        check("1.5s", None);
        check("1 s", None);
        check("99999999999999999999s", None);
        check("1µs", None);
    }
}
