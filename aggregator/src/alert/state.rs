//! The alert state machine. Pure: the evaluator supplies `now` and the verdict.

use std::time::Duration;

use common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a resolved alert is remembered, so that those who ask see what ended.
pub const RESOLVED_KEPT: Duration = Duration::from_secs(15 * 60);

/// Where one alert stands. There is no `Inactive`: an inactive alert is not in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The condition holds, but not yet for as long as the rule asks.
    Pending {
        /// When the condition began to hold.
        since: Timestamp,
        /// Since when the alert is held, because nothing is heard of its host.
        held: Option<Timestamp>,
    },
    /// The condition has held long enough; people are told.
    Firing {
        /// When the condition began to hold.
        since: Timestamp,
        /// When the alert began to fire.
        fired: Timestamp,
        /// Since when the condition does not hold, while `keep_firing_for` bridges the gap.
        ceased: Option<Timestamp>,
        /// Since when the alert is held, because nothing is heard of its host.
        held: Option<Timestamp>,
    },
    /// The alert fired, and that is over.
    Resolved {
        /// When the condition began to hold.
        since: Timestamp,
        /// When the alert began to fire.
        fired: Timestamp,
        /// When that ended.
        at: Timestamp,
        /// Why it ended.
        because: Ending,
    },
}

/// Why an alert resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The condition stopped holding.
    Ceased,
    /// The host has been silent for longer than alerts are held.
    HostSilent,
    /// The rule is gone, or its labels changed.
    RuleGone,
}

/// What an evaluation found out about one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The condition holds.
    Holds,
    /// The condition does not hold.
    Ceased,
    /// The alert's host is silent: what is known of it is old.
    Silent,
    /// The aggregator could not hear: nothing is known, and that says nothing about the host.
    Unheard,
}

/// The durations that a rule and the configuration set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long the condition must hold before the alert fires.
    pub hold_for: Duration,
    /// How long the alert goes on firing after the condition ceased.
    pub keep_firing_for: Duration,
    /// How long a silent host holds its alerts.
    pub hold_silent: Duration,
}

/// Advances one alert by one evaluation. `None` means that the alert is inactive.
#[must_use]
pub fn step(state: Option<State>, verdict: Verdict, patience: Patience, now: Timestamp) -> Option<State> {
    match verdict {
        Verdict::Silent => return hold(state?, patience.hold_silent, now),
        Verdict::Unheard => return hold(state?, Duration::MAX, now),
        Verdict::Holds | Verdict::Ceased => {}
    }
    let state = state.map(|state| release(state, now));
    match (state, verdict == Verdict::Holds) {
        (None | Some(State::Resolved { .. }), true) => Some(ripen(now, patience.hold_for, now)),
        (Some(State::Pending { since, .. }), true) => Some(ripen(since, patience.hold_for, now)),
        // A reload may have made the rule more patient than it was when the alert fired.
        (Some(State::Firing { since, .. }), true) if now.since(since) < patience.hold_for => {
            Some(State::Pending { since, held: None })
        }
        (Some(State::Firing { since, fired, held, .. }), true) => {
            Some(State::Firing { since, fired, ceased: None, held })
        }
        (Some(State::Firing { since, fired, ceased, held }), false) => {
            let ceased = ceased.unwrap_or(now);
            if now.since(ceased) < patience.keep_firing_for {
                Some(State::Firing { since, fired, ceased: Some(ceased), held })
            } else {
                Some(State::Resolved { since, fired, at: now, because: Ending::Ceased })
            }
        }
        (Some(resolved @ State::Resolved { at, .. }), false) => (now.since(at) <= RESOLVED_KEPT).then_some(resolved),
        (Some(State::Pending { .. }) | None, false) => None,
    }
}

impl State {
    /// Since when the alert is held, if it is.
    #[must_use]
    pub const fn held(self) -> Option<Timestamp> {
        match self {
            Self::Pending { held, .. } | Self::Firing { held, .. } => held,
            Self::Resolved { .. } => None,
        }
    }

    /// The state with nothing in it from after `now`: the clock was set back.
    #[must_use]
    pub fn set_back(self, now: Timestamp) -> Self {
        let set = |at: Timestamp| at.min(now);
        match self {
            Self::Pending { since, held } => Self::Pending { since: set(since), held: held.map(set) },
            Self::Firing { since, fired, ceased, held } => {
                Self::Firing { since: set(since), fired: set(fired), ceased: ceased.map(set), held: held.map(set) }
            }
            Self::Resolved { since, fired, at, because } => {
                Self::Resolved { since: set(since), fired: set(fired), at: set(at), because }
            }
        }
    }

    /// When the condition began to hold.
    #[must_use]
    pub const fn since(self) -> Timestamp {
        match self {
            Self::Pending { since, .. } | Self::Firing { since, .. } | Self::Resolved { since, .. } => since,
        }
    }

    /// The word for it: `pending`, `firing` or `resolved`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Firing { .. } => "firing",
            Self::Resolved { .. } => "resolved",
        }
    }
}

fn ripen(since: Timestamp, hold_for: Duration, now: Timestamp) -> State {
    if hold_for <= now.since(since) {
        State::Firing { since, fired: now, ceased: None, held: None }
    } else {
        State::Pending { since, held: None }
    }
}

/// Nothing is known: the alert stays as it is, for as long as silence is believed to be only silence.
fn hold(state: State, hold_silent: Duration, now: Timestamp) -> Option<State> {
    let held = state.held().unwrap_or(now);
    match state {
        State::Resolved { at, .. } => (now.since(at) <= RESOLVED_KEPT).then_some(state),
        State::Pending { .. } if hold_silent <= now.since(held) => None,
        State::Firing { since, fired, .. } if hold_silent <= now.since(held) => {
            Some(State::Resolved { since, fired, at: now, because: Ending::HostSilent })
        }
        State::Pending { since, .. } => Some(State::Pending { since, held: Some(held) }),
        State::Firing { since, fired, ceased, .. } => Some(State::Firing { since, fired, ceased, held: Some(held) }),
    }
}

/// The time in which nothing was known counts neither for ripening nor for `keep_firing_for`.
fn release(state: State, now: Timestamp) -> State {
    let Some(held) = state.held() else { return state };
    let unknown = now.since(held);
    match state {
        State::Pending { since, .. } => State::Pending { since: since.after(unknown), held: None },
        State::Firing { since, fired, ceased, .. } => {
            State::Firing { since, fired, ceased: ceased.map(|ceased| ceased.after(unknown)), held: None }
        }
        State::Resolved { .. } => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Minutes of `for`, of `keep_firing_for` and of `hold_silent`; one character per evaluation, one minute apart:
    /// `#` holds, `.` does not, `?` the host is silent, `!` nobody is heard. In the trace capitals fire and `h`, `H` are held.
    fn check((hold_for, keep_firing_for, hold_silent): (u32, u32, u32), verdicts: &str, expect: &str) {
        let patience = Patience {
            hold_for: MINUTE * hold_for,
            keep_firing_for: MINUTE * keep_firing_for,
            hold_silent: MINUTE * hold_silent,
        };
        let mut state = None;
        let mut trace = String::new();
        for (minute, verdict) in (0..).zip(verdicts.chars()) {
            let verdict = match verdict {
                '#' => Verdict::Holds,
                '.' => Verdict::Ceased,
                '?' => Verdict::Silent,
                _ => Verdict::Unheard,
            };
            state = step(state, verdict, patience, Timestamp::from_seconds(60 * minute));
            trace.push(match state {
                None => '-',
                Some(State::Pending { held: Some(_), .. }) => 'h',
                Some(State::Firing { held: Some(_), .. }) => 'H',
                Some(State::Pending { .. }) => 'p',
                Some(State::Firing { .. }) => 'F',
                Some(State::Resolved { because: Ending::HostSilent, .. }) => 's',
                Some(State::Resolved { .. }) => 'r',
            });
        }
        assert_eq!(trace, expect, "{verdicts}");
    }

    #[test]
    fn fires_after_hold() {
        check((2, 0, 9), ".###.", "-ppFr");
    }

    #[test]
    fn a_gap_restarts_the_hold() {
        check((2, 0, 9), "##.###", "pp-ppF");
    }

    #[test]
    fn zero_hold_fires_at_once() {
        check((0, 0, 9), "#..#", "FrrF");
    }

    #[test]
    fn resolved_is_kept_for_a_quarter_of_an_hour() {
        check((0, 0, 9), "#..................", "Frrrrrrrrrrrrrrrr--");
    }

    #[test]
    fn a_resolved_alert_that_returns_ripens_anew() {
        check((1, 0, 9), "##.###", "pFrpFF");
    }

    #[test]
    fn keeps_firing_through_short_gaps() {
        check((0, 2, 9), "#..#...#", "FFFFFFrF");
    }

    #[test]
    fn a_silent_host_neither_ripens_nor_resolves() {
        check((2, 0, 9), "##????##.", "pphhhhFFr");
        check((0, 0, 9), "#????.", "FHHHHr");
        check((0, 2, 9), "#.???..", "FFHHHFr");
    }

    #[test]
    fn a_silent_host_raises_nothing() {
        check((0, 0, 9), "??#", "--F");
    }

    #[test]
    fn silence_ends_an_alert_after_all() {
        check((0, 0, 3), "#?????.", "FHHHsss");
        check((2, 0, 3), "#?????.", "phhh---");
    }

    #[test]
    fn what_is_not_heard_never_ends_an_alert() {
        check((0, 0, 3), "#!!!!!.", "FHHHHHr");
        check((2, 0, 3), "#!!!!!##", "phhhhhpF");
    }

    #[test]
    fn a_rule_that_became_patient_takes_its_alert_back() {
        let patience =
            |minutes| Patience { hold_for: MINUTE * minutes, keep_firing_for: Duration::ZERO, hold_silent: MINUTE };
        let at = Timestamp::from_seconds;
        let firing = step(None, Verdict::Holds, patience(0), at(0));
        let taken_back = step(firing, Verdict::Holds, patience(5), at(60));
        assert_eq!(taken_back, Some(State::Pending { since: at(0), held: None }));
    }
}
