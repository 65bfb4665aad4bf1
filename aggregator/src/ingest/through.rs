//! How far the windows of all hosts that are followed have come. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use common::batch::HostId;
use common::time::Timestamp;

/// The end of the latest window of each host that is followed.
#[derive(Debug, Default)]
pub(super) struct Through {
    latest: BTreeMap<HostId, Timestamp>,
    /// The same, the one that is furthest behind first.
    ordered: BTreeSet<(Timestamp, HostId)>,
}

impl Through {
    /// Notes how far a host is; none if it is not followed.
    pub(super) fn note(&mut self, host: HostId, latest: Option<Timestamp>) {
        let before = match latest {
            Some(latest) => self.latest.insert(host, latest),
            None => self.latest.remove(&host),
        };
        if before == latest {
            return;
        }
        if let Some(before) = before {
            self.ordered.remove(&(before, host));
        }
        self.ordered.extend(latest.map(|latest| (latest, host)));
    }

    /// How far all of them are; the end of time if there are none.
    pub(super) fn all(&self) -> Timestamp {
        self.ordered.first().map_or(Timestamp::from_millis(i64::MAX), |(latest, _)| *latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts and how far each is, one after the other, and how far all are behind each.
    fn check(notes: &[(u32, Option<i64>, i64)]) {
        let mut through = Through::default();
        for (host, latest, all) in notes {
            through.note(HostId(*host), latest.map(Timestamp::from_millis));
            assert_eq!(through.all().as_millis(), *all, "{host} {latest:?}");
            assert_eq!(through.latest.len(), through.ordered.len());
        }
    }

    #[test]
    fn the_one_that_is_furthest_behind_counts() {
        check(&[(1, Some(10), 10), (2, Some(20), 10), (1, Some(30), 20), (1, Some(30), 20), (2, None, 30)]);
        check(&[(1, Some(20), 20), (1, Some(10), 10), (1, None, i64::MAX), (1, None, i64::MAX)]);
    }
}
