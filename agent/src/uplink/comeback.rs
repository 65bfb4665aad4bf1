//! When to try again for a session. Pure: randomness is the caller's.

use std::time::Duration;

use common::backoff::Backoff;

/// Delays between attempts: soon enough that a restarted aggregator misses one window, far enough apart that agents whose
/// aggregator is gone for long cost nothing.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);
const RECONNECT_MOST: Duration = Duration::from_secs(30);

/// The longest stretch over which an aggregator may have its agents spread their return: 75,000 of them at the pace that
/// it asks for, several times what one aggregator is meant for.
const RETURN_WITHIN_MAX: Duration = Duration::from_secs(60);

/// The way back to a session.
#[derive(Clone, Copy, Debug)]
pub struct Comeback {
    backoff: Backoff,
    /// Over how long the agents of the aggregator spread their return when they lose their sessions.
    within: Duration,
}

impl Comeback {
    /// Nothing was tried, and nobody said anything.
    #[must_use]
    pub const fn new() -> Self {
        Self { backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_MOST), within: Duration::ZERO }
    }

    /// Notes what the aggregator says of the return of its agents, if it says something.
    pub fn hear(&mut self, within: Option<Duration>) {
        self.within = within.unwrap_or(self.within).min(RETURN_WITHIN_MAX);
    }

    /// Starts over: a session did what it is for.
    pub const fn succeed(&mut self) {
        self.backoff.reset();
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// The delay before the next attempt; `random` is from 0 to 1. The first after a session is spread as the aggregator
    /// asked for: it may have lost all its sessions at once. Those behind it are far enough apart by themselves.
    pub fn next(&mut self, random: f64) -> Duration {
        let within = std::mem::take(&mut self.within);
        self.backoff.next(random).saturating_add(within.mul_f64(random.clamp(0.0, 1.0)))
    }
}

impl Default for Comeback {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the aggregator says in milliseconds, and the first two delays of the agents that draw least and most.
    #[track_caller]
    fn check(said: &[Option<u64>], expect: [(u64, u64); 2]) {
        let mut agents = [Comeback::new(), Comeback::new()];
        for within in said {
            agents.iter_mut().for_each(|agent| agent.hear(within.map(Duration::from_millis)));
        }
        let [least, most] = &mut agents;
        let delays = [(); 2].map(|()| (least.next(0.0), most.next(1.0)));
        assert_eq!(delays, expect.map(|(least, most)| (Duration::from_millis(least), Duration::from_millis(most))));
    }

    #[test]
    fn the_first_attempt_after_a_session_is_spread_as_the_aggregator_asks() {
        check(&[], [(500, 1_500), (750, 2_250)]);
        check(&[None], [(500, 1_500), (750, 2_250)]);
        check(&[Some(8_000)], [(500, 9_500), (750, 2_250)]);
        // It says so in its welcome, and another time when it goes, if it is one that does.
        check(&[Some(8_000), None], [(500, 9_500), (750, 2_250)]);
        check(&[Some(8_000), Some(0)], [(500, 1_500), (750, 2_250)]);
        check(&[Some(u64::MAX)], [(500, 61_500), (750, 2_250)]);
    }
}
