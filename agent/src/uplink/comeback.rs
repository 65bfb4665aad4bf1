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
    /// Over how long the agents of the aggregator spread their return when they lose their sessions, if it ever said so.
    within: Option<Duration>,
    /// Whether that is still to be done.
    lost: bool,
}

impl Comeback {
    /// Nothing was tried, and nobody said anything.
    #[must_use]
    pub const fn new() -> Self {
        Self { backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_MOST), within: None, lost: false }
    }

    /// Notes what the aggregator says of the return of its agents, if it says something.
    pub fn hear(&mut self, within: Option<Duration>) {
        self.within = within.map(|within| within.min(RETURN_WITHIN_MAX)).or(self.within);
        self.lost = true;
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
        let within = self.within.filter(|_| std::mem::take(&mut self.lost)).unwrap_or_default();
        self.backoff.next(random).saturating_add(within.mul_f64(random.clamp(0.0, 1.0)))
    }

    /// The same after an attempt for which the aggregator had no room. It is there, and has room again when those before are
    /// in, a part of the fleet: who knows how long the whole takes comes again in a quarter of that, however often.
    pub fn next_turned_away(&mut self, random: f64) -> Duration {
        match self.within {
            Some(within) => {
                Backoff::new(RECONNECT_FIRST, RECONNECT_MOST).next(random)
                    + within.mul_f64(random.clamp(0.0, 1.0) / 4.0)
            }
            None => self.backoff.next(random),
        }
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

    #[test]
    fn who_was_turned_away_comes_again_as_soon_however_often() {
        let mut agent = Comeback::new();
        let delays = |agent: &mut Comeback| [0.0, 1.0].map(|random| agent.next_turned_away(random).as_millis());
        // Nobody said how many there are.
        assert_eq!(delays(&mut agent), [500, 2_250]);
        assert_eq!(delays(&mut agent), [1_125, 5_062]);
        agent.hear(Some(Duration::from_secs(8)));
        agent.next(0.5);
        for _ in 0..20 {
            assert_eq!(delays(&mut agent), [500, 3_500]);
        }
        // What grows for an aggregator that is gone neither grew nor was forgotten.
        assert_eq!(agent.attempts(), 5);
    }
}
