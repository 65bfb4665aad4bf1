//! When many hosts vanish at once, the aggregator, or the network that it is on, is the suspect. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use common::batch::HostId;
use common::batch::WINDOW;
use common::time::Timestamp;

use crate::ingest::entry::UP_WITHIN;

/// Fewer hosts than this vanish together by chance, or with a switch of theirs.
const VANISHED_MIN: usize = 5;

/// The part of the fleet that must vanish: more than one in so many.
const PART: usize = 3;

/// Hosts count of which something came so long ago at most.
const FLEET_SEEN: Duration = Duration::from_secs(600);

/// How close together they must vanish.
const TOGETHER: Duration = Duration::from_secs(30);

/// A window that comes so long after its end is late: agents send at once, and a link takes no seconds. Hosts that are
/// late when the first of them counts as silent vanished with it.
const LATE: Duration = Duration::from_secs(4);

/// How long the silence of those hosts is put down to the aggregator. After that they are gone.
const BLIND_MAX: Duration = Duration::from_secs(600);

/// Whether the aggregator is blind, and for whom.
#[derive(Debug, Default)]
pub(super) struct Blind {
    since: Option<Timestamp>,
    vanished: BTreeSet<HostId>,
    /// Hosts there were when they vanished.
    fleet: usize,
}

impl Blind {
    /// Looks at the end of the latest window of each host that should be there.
    pub(super) fn look(&mut self, latest: &BTreeMap<HostId, Timestamp>, now: Timestamp) {
        let away = |stamp: Timestamp| now.since(stamp).saturating_sub(WINDOW);
        let is_late = |stamp: Timestamp| LATE < away(stamp);
        let lately = latest.iter().filter(|(_, stamp)| is_late(**stamp) && away(**stamp) <= UP_WITHIN + TOGETHER);
        let lately: BTreeSet<_> = lately.map(|(host, _)| *host).collect();
        match self.since {
            None => {
                let fleet = latest.values().filter(|stamp| now.since(**stamp) <= FLEET_SEEN).count();
                let is_silent = |host: &HostId| latest.get(host).is_some_and(|stamp| UP_WITHIN < away(*stamp));
                let many = VANISHED_MIN <= lately.len() && fleet < PART * lately.len();
                if many && lately.iter().any(is_silent) {
                    tracing::warn!(
                        vanished = lately.len(),
                        fleet,
                        "many hosts vanished at once: is it this aggregator's network?"
                    );
                    (self.since, self.vanished, self.fleet) = (Some(now), lately, fleet);
                }
            }
            Some(since) => {
                if now.since(since) <= TOGETHER {
                    self.vanished.extend(lately);
                }
                let still = self.vanished.iter().filter(|host| latest.get(host).is_some_and(|stamp| is_late(*stamp)));
                let (still, over) = (still.count(), BLIND_MAX <= now.since(since));
                if PART * still <= self.fleet || over {
                    tracing::info!(still, "the hosts that vanished at once are back, or gone");
                    *self = Self::default();
                }
            }
        }
    }

    /// Whether it is.
    pub(super) const fn is_blind(&self) -> bool {
        self.since.is_some()
    }

    /// The hosts whose silence says nothing.
    pub(super) const fn vanished(&self) -> &BTreeSet<HostId> {
        &self.vanished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + second)
    }

    /// Seconds at which a fleet is taken for unseen: hosts by when they vanish, and when they are back.
    fn check(hosts: &[(usize, i64, i64)], expect: Option<(i64, i64)>, hidden: usize) {
        let mut blind = Blind::default();
        let (mut seconds, mut most) = (Vec::new(), 0);
        for second in 0..1_500 {
            let mut latest = BTreeMap::new();
            for (group, (count, vanish, back)) in (0..).zip(hosts) {
                for host in 0..*count {
                    // What is sent a second after a window's end arrives, unless the host is away then.
                    let heard = (0..second).rev().find(|sent| sent % 10 == 1 && !(*vanish..*back).contains(sent));
                    let id = HostId(u32::try_from(100 * group + host).unwrap());
                    latest.extend(heard.map(|sent| (id, at(sent - 1))));
                }
            }
            blind.look(&latest, at(second));
            if blind.is_blind() {
                seconds.push(second);
                most = most.max(blind.vanished().len());
            }
        }
        let found = seconds.first().copied().zip(seconds.last().copied());
        assert_eq!((found, most), (expect, hidden), "{hosts:?}");
    }

    #[test]
    fn many_that_vanish_at_once_are_put_down_to_the_aggregator() {
        const NEVER: i64 = 9_999;
        let stay = |count| (count, NEVER, NEVER);
        // The last window ends at 200: silent 25 s later, and heard again at 301.
        check(&[(10, 205, 300)], Some((226, 301)), 10);
        // Those that were heard a window later are late when the first are silent.
        check(&[(5, 200, 300), (5, 205, 300)], Some((216, 301)), 10);
        check(&[stay(9), (5, 205, 300)], Some((226, 301)), 5);
        // Exactly a third, too few, too far apart.
        check(&[stay(10), (5, 205, 300)], None, 0);
        check(&[(4, 205, 300)], None, 0);
        check(&[stay(8), (3, 205, NEVER), (3, 265, NEVER)], None, 0);
        // Who does not come back is gone after ten minutes.
        check(&[stay(9), (5, 205, NEVER)], Some((226, 825)), 5);
    }
}
