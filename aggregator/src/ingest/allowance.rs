//! How fast one session may send. Pure.

use std::time::Duration;

/// Bytes that a session may send in each second, on average: several times what an agent sends that catches up and answers
/// a recall meanwhile.
pub(super) const SESSION_BYTES_PER_SECOND_MAX: u32 = 8 << 20;

/// Bytes that it may send at once besides: the first schema and keyframe of the largest host, and what is on its way.
const BURST_BYTES_MAX: u32 = 32 << 20;

/// What a session has left.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Bytes sent and not worn off.
    sent: f64,
    /// When that was looked at last.
    looked: Duration,
}

impl Allowance {
    pub(super) const fn new(now: Duration) -> Self {
        Self { sent: 0.0, looked: now }
    }

    /// Counts bytes that were read. Answers for how long nothing more is read; no time while they are within bounds.
    pub(super) fn take(&mut self, bytes: usize, now: Duration) -> Duration {
        let rate = f64::from(SESSION_BYTES_PER_SECOND_MAX);
        let worn_off = now.saturating_sub(self.looked).as_secs_f64() * rate;
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        (self.sent, self.looked) = ((self.sent - worn_off).max(0.0) + bytes, now);
        Duration::from_secs_f64((self.sent - f64::from(BURST_BYTES_MAX)).max(0.0) / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mebibytes read at a second, and the milliseconds that nothing is read behind that.
    fn check(reads: &[(u64, usize, u128)]) {
        let mut allowance = Allowance::new(Duration::ZERO);
        for (second, mebibytes, expect) in reads {
            let pause = allowance.take(mebibytes << 20, Duration::from_secs(*second));
            assert_eq!(pause.as_millis(), *expect, "{reads:?}");
        }
    }

    #[test]
    fn a_burst_passes_and_what_is_more_waits() {
        check(&[(0, 32, 0), (0, 8, 1_000), (1, 4, 500), (100, 32, 0), (100, 1, 125)]);
        check(&[(1, 8, 0), (2, 8, 0), (3, 8, 0), (1_000, 8, 0)]);
        check(&[(0, 4_000, 496_000)]);
    }
}
