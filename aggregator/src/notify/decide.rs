//! Whether to notify. One pure function; its answer is a reason that people can read.

use std::collections::BTreeSet;
use std::time::Duration;

use common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::fingerprint::Fingerprint;

/// What a receiver was told last about a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Alerts it was told to fire.
    pub firing: BTreeSet<Fingerprint>,
    /// Alerts it was told to be resolved.
    pub resolved: BTreeSet<Fingerprint>,
    /// When that was decided.
    pub at: Timestamp,
}

/// How a group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Alerts that fire.
    pub firing: BTreeSet<Fingerprint>,
    /// Alerts that resolved since they were told last.
    pub resolved: BTreeSet<Fingerprint>,
}

/// Why to notify, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Alerts fire that the receiver does not know of.
    NewAlerts,
    /// Nothing fires any more.
    AllResolved,
    /// Some alerts resolved, others still fire.
    SomeResolved,
    /// Nothing changed for the repeat interval.
    Repeat,
    /// Not: all resolved before the receiver was ever told.
    NeverTold,
    /// Not: the receiver knows, and the repeat interval is not over.
    NothingNew,
    /// Not: all resolved, which this receiver does not want to hear.
    ResolvedUnwanted,
}

impl Reason {
    /// Whether it is a reason to notify.
    #[must_use]
    pub const fn sends(self) -> bool {
        match self {
            Self::NewAlerts | Self::AllResolved | Self::SomeResolved | Self::Repeat => true,
            Self::NeverTold | Self::NothingNew | Self::ResolvedUnwanted => false,
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NewAlerts => "new alerts",
            Self::AllResolved => "all resolved",
            Self::SomeResolved => "some resolved",
            Self::Repeat => "repeat interval passed",
            Self::NeverTold => "resolved before it was ever delivered",
            Self::NothingNew => "nothing new since the last notification",
            Self::ResolvedUnwanted => "all resolved, and send_resolved is off",
        }
    }
}

/// Decides whether a receiver is told how a group stands.
#[must_use]
pub fn decide(
    told: Option<&Told>,
    standing: &Standing,
    send_resolved: bool,
    repeat_interval: Duration,
    now: Timestamp,
) -> Reason {
    let Standing { firing, resolved } = standing;
    let Some(told) = told else {
        return if firing.is_empty() { Reason::NeverTold } else { Reason::NewAlerts };
    };
    if !firing.is_subset(&told.firing) {
        return Reason::NewAlerts;
    }
    if firing.is_empty() {
        return match (told.firing.is_empty(), send_resolved) {
            (true, _) => Reason::NothingNew,
            (false, true) => Reason::AllResolved,
            (false, false) => Reason::ResolvedUnwanted,
        };
    }
    if send_resolved && !resolved.is_subset(&told.resolved) {
        return Reason::SomeResolved;
    }
    if repeat_interval <= now.since(told.at) { Reason::Repeat } else { Reason::NothingNew }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(letters: &str) -> BTreeSet<Fingerprint> {
        letters.bytes().map(|letter| Fingerprint(u64::from(letter))).collect()
    }

    /// A letter is an alert. `told` and `stands` are alerts that fire / that are resolved; minutes are since the last.
    fn check(told: Option<(&str, &str)>, stands: (&str, &str), minutes: i64, expect: (Reason, Reason)) {
        let told = told.map(|(firing, resolved)| Told {
            firing: set(firing),
            resolved: set(resolved),
            at: Timestamp::from_seconds(0),
        });
        let standing = Standing { firing: set(stands.0), resolved: set(stands.1) };
        let repeat = Duration::from_secs(60 * 60);
        let now = Timestamp::from_seconds(60 * minutes);
        let got = [true, false].map(|send| decide(told.as_ref(), &standing, send, repeat, now));
        assert_eq!((got[0], got[1]), expect, "{told:?} {stands:?} {minutes}");
    }

    #[test]
    fn decides_as_alertmanager_does() {
        let same = |reason| (reason, reason);
        check(None, ("a", ""), 0, same(Reason::NewAlerts));
        check(None, ("", "a"), 0, same(Reason::NeverTold));
        check(Some(("a", "")), ("a", ""), 5, same(Reason::NothingNew));
        check(Some(("a", "")), ("ab", ""), 5, same(Reason::NewAlerts));
        check(Some(("ab", "")), ("a", ""), 5, same(Reason::NothingNew));
        check(Some(("ab", "")), ("a", "b"), 5, (Reason::SomeResolved, Reason::NothingNew));
        check(Some(("a", "b")), ("a", "b"), 5, same(Reason::NothingNew));
        check(Some(("a", "")), ("", "a"), 5, (Reason::AllResolved, Reason::ResolvedUnwanted));
        check(Some(("", "a")), ("", "a"), 500, same(Reason::NothingNew));
        check(Some(("", "a")), ("a", ""), 5, same(Reason::NewAlerts));
        check(Some(("a", "")), ("a", ""), 59, same(Reason::NothingNew));
        check(Some(("a", "")), ("a", ""), 60, same(Reason::Repeat));
    }
}
