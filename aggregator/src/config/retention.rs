//! How long data is kept.

use std::time::Duration;

use common::config::ConfigError;
use common::config::Layers;
use serde::Deserialize;
use serde::Serialize;

use crate::config::unit;

/// Less would not hold a day of one host, its rollups and the files that are being merged.
const BYTES_MIN: u64 = 100 << 20;

/// How long data is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Samples as they came.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub raw: Duration,
    /// Their windows of five minutes.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub five_minutes: Duration,
    /// Those of an hour.
    #[serde(serialize_with = "unit::write_duration", deserialize_with = "unit::stretch")]
    pub one_hour: Duration,
    /// Bytes of all block files, after which the oldest go whatever their age.
    #[serde(serialize_with = "unit::write_size", deserialize_with = "unit::size")]
    pub bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
        Self { raw: days(15), five_minutes: days(90), one_hour: days(730), bytes: None }
    }
}

impl Retention {
    /// # Errors
    /// When nothing could be answered with it, or longer windows go before what they stand for.
    pub(super) fn check(&self, layers: &Layers<'_>) -> Result<(), ConfigError> {
        if self.raw < Duration::from_secs(3_600) {
            return Err(layers.refuse("retention.raw", "is less than an hour: rules and charts look back"));
        }
        if self.bytes.is_some_and(|bytes| bytes < BYTES_MIN) {
            return Err(layers.refuse("retention.bytes", "is less than 100MB: nothing would be left of a day"));
        }
        let Self { raw, five_minutes, one_hour, .. } = *self;
        let tiers =
            [("retention.raw", raw), ("retention.five_minutes", five_minutes), ("retention.one_hour", one_hour)];
        let shorter = tiers.iter().zip(&tiers[1..]).find(|((_, finer), (_, longer))| longer < finer);
        shorter.map_or(Ok(()), |((finer, kept), (key, short))| {
            let [kept, short] = [*kept, *short].map(unit::written);
            let why = format!(
                "is {short}, and `{finer}` is {kept}: longer windows take the place of what is finer when that has gone, \
                 so keep them {kept} or more"
            );
            Err(layers.refuse(key, why))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of `[retention]`, and the error.
    fn check(text: &str, expect: &str) {
        let text = format!("[retention]\n{text}");
        let layers = Layers { file: Some(("f", &text)), ..Layers::default() };
        #[derive(Deserialize)]
        struct Raw {
            retention: Retention,
        }
        let read: Retention = toml::from_str::<Raw>(&text).unwrap().retention;
        let refusal = read.check(&layers).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(refusal.starts_with(expect) && refusal.is_empty() == expect.is_empty(), "{refusal}");
    }

    #[test]
    fn longer_windows_are_kept_at_least_as_long_as_what_they_stand_for() {
        check("", "");
        check("raw = '90d'", "");
        check("raw = '1y'\nfive_minutes = '1y'", "");
        check("raw = '30d'\nfive_minutes = '30d'\none_hour = '30d'", "");
        check(
            "raw = '30d'\nfive_minutes = '7d'",
            "f, line 3: `retention.five_minutes` is 7d, and `retention.raw` is 30d: longer windows take the place of what",
        );
        check("raw = '91d'", "f, line 1: `retention.five_minutes` is 90d, and `retention.raw` is 91d: ");
        check("one_hour = '2159h'", "f, line 2: `retention.one_hour` is 2159h, and `retention.five_minutes` is 90d: ");
        check("raw = '30m'", "f, line 2: `retention.raw` is less than an hour");
        check("bytes = '99MB'", "f, line 2: `retention.bytes` is less than 100MB");
    }
}
