//! Kinds, units, decimals and labels: what a series is made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::time::Timestamp;

/// How a series behaves, and so which fields its windows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until it starts again at zero.
    Counter,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count, a state, a version: nothing to convert.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A share of one.
    Ratio,
    /// Degrees Celsius.
    Celsius,
}

/// How often a series is sampled, and so in which windows it stands and how many ticks they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Tier {
    /// Each second: ten ticks in each window.
    Second,
    /// Once a window.
    Window,
    /// Once a minute: one tick in each window whose stamp is a whole minute.
    Minute,
}

impl Tier {
    /// Ticks that the window stamped `stamp` holds when nothing went wrong; zero means that the series is not in it.
    #[must_use]
    pub fn ticks(self, stamp: Timestamp) -> u32 {
        match self {
            Self::Second => 10,
            Self::Window => 1,
            Self::Minute => u32::from(stamp.align_down(Self::MINUTE) == stamp),
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);
}

/// Digits behind the point that a metric's values mean. Values are rounded to them where they are made, so that sums
/// are exact and a value travels as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Decimals(u8);

impl Decimals {
    /// Values that are kept to the last bit: they come from elsewhere and mean what they say.
    pub const FULL: Self = Self(u8::MAX);

    /// The largest number of digits: 10^9 times a day in seconds still fits a float's 53 bits.
    pub const MAX: u8 = 9;

    /// `digits` behind the point; more than [`Self::MAX`] means [`Self::FULL`].
    #[must_use]
    pub const fn new(digits: u8) -> Self {
        if digits <= Self::MAX { Self(digits) } else { Self::FULL }
    }

    /// Rounds to what the metric means.
    #[must_use]
    pub fn round(self, value: f64) -> f64 {
        self.scale().map_or(value, |scale| (value * scale).round() / scale)
    }

    /// The integer that stands for a rounded value, if there is one that gives it back to the bit.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "checked against the value itself")]
    pub fn mantissa(self, value: f64) -> Option<i64> {
        // Whole numbers are what most values are, and rounding is a call on most machines.
        let mantissa = if self.0 == 0 { value as i64 } else { nearest(value * self.scale()?) };
        let exact = self.value(mantissa).to_bits() == value.to_bits();
        (exact && mantissa.unsigned_abs() < 1 << 53).then_some(mantissa)
    }

    /// The value that an integer stands for.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "mantissas are below 2^53")]
    pub fn value(self, mantissa: i64) -> f64 {
        if self.0 == 0 { mantissa as f64 } else { mantissa as f64 / self.scale().unwrap_or(1.0) }
    }

    /// What tells the values that integers stand for, where there are many.
    #[expect(clippy::cast_precision_loss, reason = "mantissas are below 2^53")]
    pub fn values(self) -> impl Fn(i64) -> f64 {
        // One division more costs less than looking at each whether there is one.
        let scale = self.scale().unwrap_or(1.0);
        move |mantissa| mantissa as f64 / scale
    }

    fn scale(self) -> Option<f64> {
        // Looked up, because this is asked several times of each value.
        const SCALES: [f64; 1 + Decimals::MAX as usize] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
        SCALES.get(usize::from(self.0)).copied()
    }
}

/// As `round` does; what is beyond 2^52 is whole.
#[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
fn nearest(value: f64) -> i64 {
    const WHOLE: f64 = (1_u64 << 52) as f64;
    if value.abs() < WHOLE { (value + 0.5_f64.copysign(value)) as i64 } else { value as i64 }
}

/// The name of the label that holds a series' metric name.
pub const NAME: &str = "__name__";

/// A set of labels, sorted by name, each name once, no empty values. Cloning shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Pair]>);

type Pair = (Arc<str>, Arc<str>);

impl Labels {
    /// No labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks a value up; a missing label is an empty one, as in Prometheus.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.position(name).map_or("", |at| &self.0[at].1)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<Arc<str>> + AsRef<str>, value: impl Into<Arc<str>> + AsRef<str>) {
        let (before, behind, new) = match (self.position(name.as_ref()), value.as_ref().is_empty()) {
            (Ok(at), true) => (at, at + 1, None),
            (Ok(at), false) => (at, at + 1, Some((name.into(), value.into()))),
            (Err(_), true) => return,
            (Err(at), false) => (at, at, Some((name.into(), value.into()))),
        };
        self.0 = self.0[..before].iter().cloned().chain(new).chain(self.0[behind..].iter().cloned()).collect();
    }

    /// These labels and one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<Arc<str>> + AsRef<str>, value: impl Into<Arc<str>> + AsRef<str>) -> Self {
        self.set(name, value);
        self
    }

    /// These labels and those of `other`, which wins where both have one.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        let mine = self.0.iter().filter(|(name, _)| other.position(name).is_err());
        let mut pairs: Vec<Pair> = mine.chain(other.0.iter()).cloned().collect();
        pairs.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        Self(pairs.into())
    }

    /// Keeps the labels whose name is wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        let kept: Vec<Pair> = self.0.iter().filter(|(name, _)| wanted(name)).cloned().collect();
        if kept.len() < self.len() {
            self.0 = kept.into();
        }
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| (**have).cmp(name))
    }
}

impl<N: Into<Arc<str>> + AsRef<str>, V: Into<Arc<str>> + AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<Pair> = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        // The last of a name wins; sorted at once, because a peer may send very many.
        pairs.reverse();
        pairs.sort_by(|left, right| left.0.cmp(&right.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        pairs.retain(|(_, value)| !value.is_empty());
        Self(pairs.into())
    }
}

impl fmt::Display for Labels {
    /// As Prometheus prints a series: `name{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get(NAME))?;
        let rest: Vec<_> =
            self.iter().filter(|(name, _)| *name != NAME).map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", rest.join(", "))
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Encode for Labels {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        let pairs: Vec<(&str, &str)> = self.iter().collect();
        pairs.encode(encoder)
    }
}

impl<C> Decode<C> for Labels {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        let pairs = Vec::<(String, String)>::decode(decoder)?;
        Ok(pairs.into_iter().collect())
    }
}

bincode::impl_borrow_decode!(Labels);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_sorted_set_without_empty_values() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3"), ("c", "")].into_iter().collect();
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.get("c"), "");
        let removed: Labels = [("a", "1"), ("b", "2"), ("a", "")].into_iter().collect();
        assert_eq!(removed.to_string(), r#"{b="2"}"#);
        assert!(labels.with("a", "").with("b", "").is_empty());
    }

    #[test]
    fn a_mantissa_gives_its_value_back_to_the_bit() {
        let check = |digits: u8, value: f64, mantissa: Option<i64>| {
            assert_eq!(Decimals::new(digits).mantissa(value), mantissa, "{value} with {digits} decimals");
        };
        check(2, 0.29, Some(29));
        check(0, 0.29, None);
        check(0, -0.0, None);
        check(3, f64::NAN, None);
        check(0, f64::INFINITY, None);
        check(0, 9.1e18, None);
        check(255, 1.0, None);
    }
}
