//! Whether silence means anything: the stretch in which the aggregator itself could hear nobody, and the time that hosts
//! take to come back after it. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use common::time::TimeRange;
use common::time::Timestamp;

/// How long after the start, or after a time in which nobody could be heard, hosts may take to come back before their
/// silence means something.
pub const RETURN_MAX: Duration = Duration::from_secs(60);

/// An aggregator that looks at its clock each second and did not for so long stood still: it was frozen or suspended, or
/// the clock was set forward. A slow disk does not take that long.
const STILL_MIN: Duration = Duration::from_secs(30);

/// Of whom nothing can be known, because the aggregator could not hear them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Of nobody.
    Everybody,
    /// Of the hosts with these instances; of all others, something.
    Instances(BTreeSet<String>),
}

impl Unheard {
    /// Whether nothing can be said about what has this `instance`. What has none may be about all of them.
    #[must_use]
    pub fn hides(&self, instance: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Instances(instances) if instance.is_empty() => !instances.is_empty(),
            Self::Instances(instances) => instances.contains(instance),
        }
    }
}

/// When the aggregator heard and when it did not.
#[derive(Debug)]
pub(super) struct Hearing {
    /// The last stretch in which it could hear nobody.
    deaf: TimeRange,
    /// Whether that goes on.
    is_deaf: bool,
    /// When that was looked at last.
    looked: Timestamp,
}

impl Hearing {
    /// Before its start, the aggregator heard nobody.
    pub(super) const fn new(started: Timestamp) -> Self {
        let deaf = TimeRange { after: Timestamp::from_millis(i64::MIN), through: started };
        Self { deaf, is_deaf: false, looked: started }
    }

    /// Looks at the clock and at the store: whoever stands still hears nobody, and what cannot be stored is not heard.
    /// Says how far the clock was set back; what was noted of the time after `now` is then taken back to it.
    pub(super) fn look(&mut self, now: Timestamp, can_store: bool) -> Duration {
        let set_back = self.looked.since(now);
        self.deaf = TimeRange { after: self.deaf.after.min(now), through: self.deaf.through.min(now) };
        self.is_deaf = !can_store;
        if self.is_deaf || STILL_MIN < now.since(self.looked) {
            if self.deaf.through < self.looked {
                self.deaf.after = self.looked;
            }
            self.deaf.through = now;
        }
        self.looked = now;
        set_back
    }

    /// The last moment at which nobody could be heard.
    pub(super) const fn deaf_through(&self) -> Timestamp {
        self.deaf.through
    }

    /// Whether nobody could be heard at this moment.
    pub(super) fn is_deaf(&self, at: Timestamp) -> bool {
        self.deaf.contains(at) || (self.is_deaf && self.deaf.after < at)
    }

    /// Whether hosts may still be on their way back.
    pub(super) fn is_grace(&self, now: Timestamp) -> bool {
        self.is_deaf || now.since(self.deaf.through) < RETURN_MAX
    }
}
