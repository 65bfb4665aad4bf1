//! How often processes are looked at: each second, and more seldom while the agent costs too much. Pure.
//!
//! Thousands of busy processes cost more than a monitor may. The agent's own CPU time is judged each minute; past the
//! limit the pace goes down a step. It goes up a step after some minutes in which even the cost of the faster pace would
//! have stayed below the limit, so that it does not swing.

use std::time::Duration;

use crate::config::INTERVALS;

/// What the agent's own CPU time is averaged over.
const JUDGED_OVER: Duration = Duration::from_secs(60);

/// Seconds between two looks, step by step.
const STEPS: [u32; 4] = INTERVALS;

/// Cheap minutes after which the pace goes up a step.
const CHEAP_MINUTES: u32 = 3;

/// A minute is cheap if it cost this part of the limit: no step makes more than two and a half times as many looks.
const CHEAP: f64 = 0.4;

/// How often processes are looked at.
#[derive(Debug)]
pub(super) struct Pace {
    /// Part of one core that the agent may use; nothing is no limit.
    limit: Option<f64>,
    /// The fastest step.
    least: usize,
    step: usize,
    /// When the minute began that is being judged, and the CPU time that the agent had used by then.
    began: Option<(Duration, Duration)>,
    cheap_minutes: u32,
    seconds_since_look: u32,
}

/// The pace changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// What the agent used, as a part of one core.
    pub used: f64,
    /// Seconds between two looks before.
    pub before: u32,
    /// Seconds between two looks from here on.
    pub after: u32,
}

impl Pace {
    /// `limit` is the part of one core that the agent may use, `seconds` what lies between two looks at least.
    pub(super) fn new(limit: Option<f64>, seconds: u32) -> Self {
        let least = STEPS.iter().position(|step| seconds <= *step).unwrap_or(STEPS.len() - 1);
        Self { limit, least, step: least, began: None, cheap_minutes: 0, seconds_since_look: 0 }
    }

    /// Seconds between two looks.
    pub(super) fn interval_seconds(&self) -> u32 {
        STEPS[self.step]
    }

    /// Judges what the agent used. `now` is the monotonic clock, `own_cpu` the CPU time that the agent has used so far.
    pub(super) fn judge(&mut self, now: Duration, own_cpu: Duration) -> Option<Change> {
        let (began, cpu_then) = *self.began.get_or_insert((now, own_cpu));
        let passed = now.saturating_sub(began);
        if passed < JUDGED_OVER {
            return None;
        }
        self.began = Some((now, own_cpu));
        let limit = self.limit?;
        let used = own_cpu.saturating_sub(cpu_then).div_duration_f64(passed);
        let cheap = used <= limit * CHEAP;
        self.cheap_minutes = if cheap { self.cheap_minutes + 1 } else { 0 };
        let step = if limit < used {
            (self.step + 1).min(STEPS.len() - 1)
        } else if CHEAP_MINUTES <= self.cheap_minutes {
            self.step.saturating_sub(1).max(self.least)
        } else {
            self.step
        };
        if step == self.step {
            return None;
        }
        let before = self.interval_seconds();
        (self.step, self.cheap_minutes) = (step, 0);
        Some(Change { used, before, after: self.interval_seconds() })
    }

    /// Whether this tick looks at processes. A window's first tick always does.
    pub(super) fn looks(&mut self, first_in_window: bool) -> bool {
        self.seconds_since_look += 1;
        let looks = first_in_window || self.interval_seconds() <= self.seconds_since_look;
        if looks {
            self.seconds_since_look = 0;
        }
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per cent of a core in each minute, and the interval behind it.
    #[track_caller]
    fn check(limit: Option<f64>, minutes: &[(f64, u32)]) {
        let mut pace = Pace::new(limit, 1);
        let (mut now, mut cpu) = (Duration::from_secs(1_000), Duration::from_secs(5));
        assert_eq!(pace.judge(now, cpu), None);
        for &(per_cent, expect) in minutes {
            let before = pace.interval_seconds();
            let changes = (0..60).filter_map(|_| {
                now += Duration::from_secs(1);
                cpu += Duration::from_secs(1).mul_f64(per_cent / 100.0);
                pace.judge(now, cpu).map(|change| (change.before, change.after))
            });
            let changes: Vec<_> = changes.collect();
            assert_eq!(changes, if expect == before { vec![] } else { vec![(before, expect)] }, "{minutes:?}");
        }
    }

    #[test]
    fn it_looks_no_more_often_than_it_is_told_to() {
        let mut pace = Pace::new(Some(0.02), 5);
        for minute in 0..10 {
            assert_eq!(pace.judge(Duration::from_secs(60 * minute), Duration::ZERO), None);
        }
        assert_eq!(pace.interval_seconds(), 5);
    }

    #[test]
    fn a_cheap_agent_looks_each_second() {
        check(Some(0.02), &[(0.4, 1), (1.9, 1), (1.9, 1)]);
    }

    #[test]
    fn a_minute_past_the_limit_slows_a_step_and_no_further_than_the_last() {
        check(Some(0.02), &[(3.0, 2), (2.5, 5), (2.1, 10), (9.0, 10)]);
    }

    #[test]
    fn it_recovers_a_step_after_three_cheap_minutes() {
        let slow = [(3.0, 2), (3.0, 5)];
        let recovering = [(0.5, 5), (0.5, 5), (0.5, 2), (0.5, 2), (0.5, 2), (0.5, 1), (0.5, 1)];
        check(Some(0.02), &[slow.as_slice(), &recovering].concat());
    }

    #[test]
    fn between_cheap_and_dear_nothing_changes() {
        check(Some(0.02), &[(3.0, 2), (1.0, 2), (1.9, 2), (1.0, 2), (1.0, 2), (0.7, 2), (0.7, 2), (1.0, 2), (0.7, 2)]);
    }

    #[test]
    fn without_a_limit_or_with_another_one() {
        check(None, &[(80.0, 1), (80.0, 1)]);
        check(Some(0.5), &[(40.0, 1), (60.0, 2)]);
    }

    #[test]
    fn ticks_that_look() {
        let check = |step: usize, late: &[usize], expect: &str| {
            let mut pace = Pace { step, ..Pace::new(None, 1) };
            let ticks = (0..20).filter(|tick| !late.contains(tick));
            let looked: String = ticks.map(|tick| if pace.looks(tick % 10 == 0) { '#' } else { '.' }).collect();
            assert_eq!(looked, expect);
        };
        check(0, &[], "####################");
        check(1, &[], "#.#.#.#.#.#.#.#.#.#.");
        check(2, &[], "#....#....#....#....");
        check(3, &[], "#.........#.........");
        check(2, &[3], "#....#...#....#....");
    }
}
