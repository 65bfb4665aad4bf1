//! Containers that ended: what is told of their end, and when they were seen last.

use std::time::Duration;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::cgroup::condition::EXIT_CODE;
use crate::collect::cgroup::condition::exit_code;
use crate::collect::cgroup::event;
use crate::collect::cgroup::victims::Victims;
use crate::identify::Directory;
use crate::identify::Ending;
use crate::identify::Exit;
use crate::identify::identify;

pub(super) const LAST_SEEN: &Metric = metric("container_last_seen");

/// How long `container_last_seen` outlives its container, so that a rule can notice.
const LAST_SEEN_KEPT: Duration = Duration::from_secs(300);

/// A cgroup is gone before its runtime has written down why; after this long it never will.
const EXIT_WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// A container that ended.
pub(super) struct Departed {
    pub entity: u32,
    pub labels: Labels,
    /// The path of its cgroup.
    pub path: String,
    pub name: String,
    pub at: Timestamp,
    /// How many of its tasks the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Whether any of them since it began last.
    pub saw_oom_kill: bool,
    /// How it ended, or how it had ended before as long as that is not known.
    pub exit: Option<Exit>,
}

/// All that ended lately.
#[derive(Default)]
pub(super) struct Departures(Vec<Departure>);

struct Departure {
    departed: Departed,
    told: bool,
}

impl Departures {
    /// Notes that a container ended. Its other series have ended already.
    pub(super) fn push(&mut self, samples: &mut Samples, departed: Departed) {
        // Its place is kept, though it has no value before the window's end.
        samples.series(departed.entity, LAST_SEEN, &Labels::new());
        self.0.push(Departure { departed, told: false });
    }

    /// The container that an entity was until it ended, if it is there again.
    pub(super) fn take(
        &mut self,
        tick: &mut Tick<'_>,
        directory: &mut Directory,
        victims: &mut Victims,
        entity: u32,
    ) -> Option<Departed> {
        let at = self.0.iter().position(|departure| departure.departed.entity == entity)?;
        let mut departure = self.0.swap_remove(at);
        departure.tell(tick, directory, victims, true);
        Some(departure.departed)
    }

    /// Tells of ends that became known, puts when containers were seen last, and forgets those that ended long ago.
    pub(super) fn tick(&mut self, tick: &mut Tick<'_>, directory: &mut Directory, victims: &mut Victims) {
        self.0.retain_mut(|departure| {
            let now = tick.moment.stamp;
            let age = now.since(departure.departed.at);
            departure.tell(tick, directory, victims, EXIT_WRITTEN_WITHIN <= age);
            if LAST_SEEN_KEPT <= age {
                tick.samples.end_entity(departure.departed.entity);
            } else if tick.moment.due(LAST_SEEN.tier) {
                departure.put(tick.samples);
            }
            age < LAST_SEEN_KEPT
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Departure {
    /// Tells that it ended, once: when it is known how, or when nobody will say any more.
    fn tell(&mut self, tick: &mut Tick<'_>, directory: &mut Directory, victims: &mut Victims, at_last: bool) {
        if self.told {
            return;
        }
        let ending =
            identify(&self.departed.path).map_or(Ending::Unknown, |identity| directory.ending(tick.host, &identity));
        let exit = match ending {
            Ending::Unnoticed if !at_last => return,
            Ending::Unnoticed | Ending::Unknown => None,
            Ending::Known(exit) => Some(exit),
        };
        self.told = true;
        let Departed { path, name, labels, at, oom_kills, saw_oom_kill, exit: known, .. } = &mut self.departed;
        *known = exit.or(*known);
        let code = exit.map(|exit| format!(" with exit code {}", exit.code)).unwrap_or_default();
        if exit.is_some_and(|exit| exit.oom_killed) && !*saw_oom_kill {
            // Its last task was killed and its cgroup removed between two ticks: only the runtime saw it.
            *oom_kills += 1;
            let text = format!("the kernel killed a task of {name} for want of memory{}", victims.take(path));
            event(tick.samples, *at, "oom_kill", labels, text);
        }
        event(tick.samples, *at, "container_exited", labels, format!("container {name} ended{code}"));
    }

    /// Puts when it was seen last, and how it ended.
    fn put(&self, samples: &mut Samples) {
        let values = [(LAST_SEEN, Some(self.departed.at.as_seconds())), (EXIT_CODE, self.departed.exit.map(exit_code))];
        for (metric, value) in values {
            if let Some(value) = value {
                let series = samples.series(self.departed.entity, metric, &Labels::new());
                samples.put(series, value);
            }
        }
    }
}
