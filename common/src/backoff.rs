//! Jittered exponential backoff. Randomness is the caller's.

use std::time::Duration;

/// Grows from `first` by half each time up to `most`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first delay, and the longest.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// The delay before the next attempt. `random` is from 0 to 1 and spreads it from half to one and a half.
    pub fn next(&mut self, random: f64) -> Duration {
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        self.attempts = self.attempts.saturating_add(1).min(100);
        let grown = self.first.as_secs_f64() * 1.5_f64.powi(exponent);
        let spread = 0.5 + random.clamp(0.0, 1.0);
        Duration::from_secs_f64(grown.min(self.most.as_secs_f64()) * spread)
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts over, after a success.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(backoff.next(0.5), Duration::from_secs(1));
        assert_eq!(backoff.next(0.5), Duration::from_millis(1_500));
        for _ in 0..200 {
            assert!(backoff.next(1.0) <= Duration::from_secs(90));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
    }
}
