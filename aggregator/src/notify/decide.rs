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

/// Why to notify, or why not, or not any more.
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
    /// Not any more: a later notification took its place before it was delivered.
    Replaced,
    /// Not any more: the routes know the receiver no longer.
    ReceiverGone,
    /// Not any more: nobody took it for a day.
    TooOld,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NewAlerts,
        Self::AllResolved,
        Self::SomeResolved,
        Self::Repeat,
        Self::NeverTold,
        Self::NothingNew,
        Self::ResolvedUnwanted,
        Self::Replaced,
        Self::ReceiverGone,
        Self::TooOld,
    ];

    /// Whether it is a reason to notify.
    #[must_use]
    pub const fn sends(self) -> bool {
        match self {
            Self::NewAlerts | Self::AllResolved | Self::SomeResolved | Self::Repeat => true,
            Self::NeverTold
            | Self::NothingNew
            | Self::ResolvedUnwanted
            | Self::Replaced
            | Self::ReceiverGone
            | Self::TooOld => false,
        }
    }

    /// Its name in the API and in history, by which the page says it in the person's language. It never changes.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NewAlerts => "new_alerts",
            Self::AllResolved => "all_resolved",
            Self::SomeResolved => "some_resolved",
            Self::Repeat => "repeat",
            Self::NeverTold => "never_told",
            Self::NothingNew => "nothing_new",
            Self::ResolvedUnwanted => "resolved_unwanted",
            Self::Replaced => "replaced",
            Self::ReceiverGone => "receiver_gone",
            Self::TooOld => "too_old",
        }
    }

    /// The reason of a name.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
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
            Self::Replaced => "replaced by a later notification",
            Self::ReceiverGone => "the receiver is gone",
            Self::TooOld => "could not be delivered for a day",
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
    use std::collections::BTreeMap;

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

    #[test]
    fn every_reason_has_a_name_and_is_said_in_both_languages() {
        let dictionary = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).unwrap();
        let english = dictionary(include_str!("../../ui/web/src/words/en.json"));
        let chinese = dictionary(include_str!("../../ui/web/src/words/zh.json"));
        for reason in Reason::ALL {
            let code = reason.code();
            assert_eq!(serde_json::to_value(reason).unwrap(), code);
            assert_eq!(Reason::of(code), Some(reason));
            let word = format!("reason.{code}");
            let [english, chinese] =
                [&english, &chinese].map(|said| said.get(&word).map(String::as_str).unwrap_or_default());
            assert_eq!(english.to_lowercase(), reason.words(), "{word}");
            assert!(chinese.contains(|c: char| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{word}: {chinese:?}");
        }
        let said = english.keys().filter(|word| word.starts_with("reason.")).count();
        assert_eq!(said, Reason::ALL.len(), "nothing else is said");
    }
}
