//! Timestamps, ranges, and the clock. The one module that reads a clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Builds a timestamp from milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Builds a timestamp from whole seconds since the epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, as PromQL's `time()` gives them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 285,000 years")]
    pub const fn as_seconds(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// Time elapsed since `earlier`, zero if the clock stepped back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `later` after this one, at most the last that exists.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }

    /// The moment `earlier` before this one, at most the first that exists.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(millis(earlier)))
    }

    /// The last multiple of `step` that is not after this moment. `step` is at least a millisecond.
    #[must_use]
    pub fn align_down(self, step: Duration) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(millis(step).max(1))))
    }

    /// The first multiple of `step` that is not before this moment: the stamp of the window it falls into.
    #[must_use]
    pub fn align_up(self, step: Duration) -> Self {
        let down = self.align_down(step);
        if down == self { down } else { down.after(step) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.div_euclid(1_000), self.0.rem_euclid(1_000))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The stretch (after, through], left-open as PromQL's ranges and our windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Excluded.
    pub after: Timestamp,
    /// Included.
    pub through: Timestamp,
}

impl TimeRange {
    /// Whether the moment lies inside.
    #[must_use]
    pub fn contains(self, at: Timestamp) -> bool {
        self.after < at && at <= self.through
    }
}

/// Everything that waits or stamps takes a clock: the real one, or one that a test moves.
///
/// Three hands, because they differ where it hurts: the wall clock steps, the monotonic one stands still while the
/// machine is suspended, the boot clock does neither.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real,
    Moved(Arc<watch::Sender<Hands>>),
}

#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    boot: Duration,
    monotonic: Duration,
}

impl Clock {
    /// How long a sleeper may miss a step of the wall clock.
    const WALL_STEP_NOTICED_WITHIN: Duration = Duration::from_secs(1);

    /// The kernel's clocks.
    #[must_use]
    pub const fn real() -> Self {
        Self(Source::Real)
    }

    /// A clock that stands at `wall` until it is moved.
    #[must_use]
    pub fn moved(wall: Timestamp) -> Self {
        let since = wall.since(Timestamp::default());
        Self(Source::Moved(Arc::new(watch::Sender::new(Hands { wall, boot: since, monotonic: since }))))
    }

    /// The wall clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::Real => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::default().after(since_epoch)
            }
            Source::Moved(hands) => hands.borrow().wall,
        }
    }

    /// Time since boot, suspension included (`CLOCK_BOOTTIME`).
    #[must_use]
    pub fn boot(&self) -> Duration {
        self.running(ClockId::Boottime, |hands| hands.boot)
    }

    /// Time since some start, suspension excluded (`CLOCK_MONOTONIC`): for intervals.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.running(ClockId::Monotonic, |hands| hands.monotonic)
    }

    fn running(&self, clock: ClockId, hand: fn(&Hands) -> Duration) -> Duration {
        match &self.0 {
            Source::Real => {
                let now = clock_gettime(clock);
                Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
            }
            Source::Moved(hands) => hand(&hands.borrow()),
        }
    }

    /// Waits for a stretch of running time.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until_boot(self.boot().saturating_add(duration)).await;
    }

    /// Waits until the boot clock shows `until`: for whoever has read it before, and must not miss what passed since.
    pub async fn sleep_until_boot(&self, until: Duration) {
        match &self.0 {
            Source::Real => tokio::time::sleep(until.saturating_sub(self.boot())).await,
            Source::Moved(hands) => wait(hands, |hands| until <= hands.boot).await,
        }
    }

    /// Waits until the wall clock shows `until`, through steps in either direction.
    pub async fn sleep_until(&self, until: Timestamp) {
        match &self.0 {
            Source::Real => {
                while self.wall() < until {
                    let remaining = until.since(self.wall());
                    tokio::time::sleep(remaining.min(Self::WALL_STEP_NOTICED_WITHIN)).await;
                }
            }
            Source::Moved(hands) => wait(hands, |hands| until <= hands.wall).await,
        }
    }

    /// Lets time pass on a moved clock; the real one passes by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Moved(hands) = &self.0 {
            hands.send_modify(|hands| {
                hands.wall = hands.wall.after(by);
                hands.boot = hands.boot.saturating_add(by);
                hands.monotonic = hands.monotonic.saturating_add(by);
            });
        }
    }

    /// Lets time pass on a moved clock as while the machine is suspended.
    pub fn suspend(&self, by: Duration) {
        if let Source::Moved(hands) = &self.0 {
            hands.send_modify(|hands| {
                hands.wall = hands.wall.after(by);
                hands.boot = hands.boot.saturating_add(by);
            });
        }
    }

    /// Sets the wall hand of a moved clock, as an operator or NTP does; no time passes.
    pub fn step_wall(&self, to: Timestamp) {
        if let Source::Moved(hands) = &self.0 {
            hands.send_modify(|hands| hands.wall = to);
        }
    }
}

async fn wait(hands: &watch::Sender<Hands>, reached: impl FnMut(&Hands) -> bool) {
    let mut seen = hands.subscribe();
    // The sender is held by the caller's clock, so the channel cannot close under the wait.
    drop(seen.wait_for(reached).await.map(drop));
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn stamps_align_to_the_window_they_fall_into() {
        let check = |millis: i64, down: i64, up: i64| {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.align_down(TEN).as_millis(), down, "down from {millis}");
            assert_eq!(at.align_up(TEN).as_millis(), up, "up from {millis}");
        };
        check(0, 0, 0);
        check(1, 0, 10_000);
        check(9_999, 0, 10_000);
        check(10_000, 10_000, 10_000);
        check(-1, -10_000, 0);
    }

    #[tokio::test]
    async fn sleepers_follow_the_moved_clock() {
        let clock = Clock::moved(Timestamp::from_seconds(100));
        let sleeper = clock.clone();
        let poll = |sleep: Pin<&mut _>| Future::poll(sleep, &mut Context::from_waker(Waker::noop()));
        let mut woken = std::pin::pin!(sleeper.sleep(TEN));
        for second in 0..10 {
            assert!(poll(woken.as_mut()).is_pending(), "woken after {second} s");
            clock.advance(Duration::from_secs(1));
        }
        woken.await;
    }

    #[test]
    fn a_wall_step_moves_no_running_time() {
        let clock = Clock::moved(Timestamp::from_seconds(100));
        let boot = clock.boot();
        clock.step_wall(Timestamp::from_seconds(40));
        assert_eq!(clock.wall(), Timestamp::from_seconds(40));
        assert_eq!(clock.boot(), boot);
    }

    #[test]
    fn only_the_monotonic_hand_stands_still_while_suspended() {
        let clock = Clock::moved(Timestamp::from_seconds(100));
        let monotonic = clock.monotonic();
        clock.suspend(TEN);
        assert_eq!((clock.wall(), clock.boot()), (Timestamp::from_seconds(110), Duration::from_secs(110)));
        assert_eq!(clock.monotonic(), monotonic);
    }
}
