//! CPU time of processes that lived between two ticks: what a container or service used beyond what its processes were
//! seen to use, shown as the group `(exited)`.
//!
//! The kernel counts a cgroup's CPU time as it passes, that of a process is lost when it ends unseen. The difference is
//! exact but for rounding: a living process hides up to two clock ticks. `(exited)` is the largest difference so far, so
//! that it does not fall when those ticks come out. What could not be seen before a cgroup was followed is left out.

use std::collections::HashMap;
use std::time::Duration;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::cgroup::Cgroups;
use crate::collect::cgroup::CpuTime;
use crate::collect::cgroup::Handle;
use crate::collect::process::group::Clockwork;

/// Name of the group.
pub(super) const NAME: &str = "(exited)";

/// CPU time from which it is shown: less is rounding.
const SHOWN_SECONDS: f64 = 0.1;

/// How long it is shown after the last container of the name ended.
const KEPT: Duration = Duration::from_secs(60);

const CPU: &Metric = metric("namedprocess_namegroup_cpu_seconds_total");

/// All containers and services, and the groups `(exited)`: one a container, and one of all services together, as their
/// processes share groups too.
#[derive(Debug, Default)]
pub(super) struct Exited {
    ledgers: Vec<Option<Ledger>>,
    pools: HashMap<String, Pool>,
}

/// One container or service.
#[derive(Debug)]
struct Ledger {
    handle: Handle,
    /// The one it lies in, whose CPU time its own is part of.
    around: Option<Handle>,
    /// What it used in all, and what of that its surroundings know of.
    used: CpuTime,
    told_seconds: f64,
    /// What those inside it used.
    inside_seconds: f64,
    /// What its processes were seen to use.
    seen_seconds: f64,
    /// Whether anything in it was there before it was followed.
    has_past: bool,
    /// What is not growth of now. Known after the first round.
    past_seconds: Option<f64>,
    exited_seconds: f64,
    /// What it had used in all when its processes were read last.
    read_seconds: f64,
    ran: Ran,
}

/// Whether the processes of a container or service ran since the look before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ran {
    /// None did.
    No,
    /// Some did, together less than a clock tick since they were read last: nothing that their files would show for sure.
    Little,
    /// Some did, or nobody can say.
    Maybe,
}

/// What is shown of one name.
#[derive(Debug, Default)]
struct Pool {
    /// In programs, in the kernel.
    seconds: [f64; 2],
    latest: Timestamp,
    shown: Option<(u32, [SeriesKey; 2])>,
}

impl Exited {
    /// Takes what all cgroups used. `all` asks for the processes of each that used anything, else of those that used as
    /// much as the file of a process shows. `beginning` says that the agent itself begins: all of them have a past.
    pub(super) fn look(&mut self, cgroups: &Cgroups, clockwork: Clockwork, all: bool, beginning: bool) {
        let least = if all { 0.0 } else { clockwork.seconds(1) };
        for slot in &mut self.ledgers {
            slot.take_if(|ledger| !cgroups.is_living(ledger.handle));
        }
        for (handle, used) in cgroups.each() {
            if self.ledgers.len() <= handle.slot() {
                self.ledgers.resize_with(handle.slot() + 1, || None);
            }
            let slot = &mut self.ledgers[handle.slot()];
            let known = slot.take().filter(|ledger| ledger.handle == handle);
            let is_new = known.is_none();
            let ledger = slot.insert(known.unwrap_or_else(|| Ledger::new(handle, cgroups, beginning)));
            ledger.used = used.filter(|used| ledger.used.usage <= used.usage).unwrap_or(ledger.used);
            let unread = ledger.used.usage - ledger.read_seconds;
            // Where CPU time is nowhere counted, something may always have run.
            ledger.ran = if is_new || used.is_none() || (0.0 < unread && least <= unread) {
                ledger.read_seconds = ledger.used.usage;
                Ran::Maybe
            } else if 0.0 < unread {
                Ran::Little
            } else {
                Ran::No
            };
        }
    }

    /// Whether its processes ran; of one that is gone nothing is known.
    pub(super) fn ran(&self, handle: Handle) -> Ran {
        self.get(handle).map_or(Ran::Maybe, |ledger| ledger.ran)
    }

    /// Notes what a process was seen to use, and whether it did something before that was not seen here.
    pub(super) fn see(&mut self, handle: Handle, seconds: f64, has_past: bool) {
        if let Some(ledger) = self.get_mut(handle) {
            ledger.seen_seconds += seconds;
            ledger.has_past |= has_past;
        }
    }

    /// Forgets how far all were, because some processes could not be seen: their work is not that of ended ones.
    pub(super) fn lapse(&mut self) {
        for ledger in self.ledgers.iter_mut().flatten() {
            (ledger.has_past, ledger.past_seconds, ledger.exited_seconds) = (true, None, 0.0);
        }
    }

    /// Draws the difference, after all processes were seen.
    pub(super) fn settle(&mut self, cgroups: &Cgroups, now: Timestamp) {
        for slot in 0..self.ledgers.len() {
            let told = self.ledgers[slot].as_mut().and_then(|ledger| Some((ledger.around?, ledger.tell())));
            if let Some((around, seconds)) = told
                && let Some(around) = self.get_mut(around)
            {
                around.inside_seconds += seconds;
            }
        }
        for ledger in self.ledgers.iter_mut().flatten().filter(|ledger| ledger.ran == Ran::Maybe) {
            let Some(name) = cgroups.name(ledger.handle) else { continue };
            let grown = ledger.grow();
            if !self.pools.contains_key(name) {
                self.pools.insert(name.to_owned(), Pool::default());
            }
            if let Some(pool) = self.pools.get_mut(name) {
                pool.latest = now;
                pool.seconds = [pool.seconds[0] + grown[0], pool.seconds[1] + grown[1]];
            }
        }
    }

    /// Puts what is due. `welcome` says whether groups may become visible.
    pub(super) fn put(&mut self, samples: &mut Samples, moment: Moment, welcome: bool, cgroups: &Cgroups) {
        if welcome {
            self.retire(samples, moment.stamp, cgroups);
        }
        for (name, pool) in &mut self.pools {
            if welcome && pool.shown.is_none() && SHOWN_SECONDS <= pool.seconds.iter().sum() {
                let labels =
                    Labels::new().with("groupname", NAME).with("container", name.as_str()).with("name", name.as_str());
                let entity = samples.entity(&labels);
                let series = |mode| samples.series(entity, CPU, &Labels::new().with("mode", mode));
                pool.shown = Some((entity, ["user", "system"].map(series)));
            }
            for (series, seconds) in pool.shown.iter().flat_map(|(_, series)| series.iter().zip(pool.seconds)) {
                samples.put(*series, seconds);
            }
        }
    }

    /// Ends the groups whose containers are gone.
    fn retire(&mut self, samples: &mut Samples, now: Timestamp, cgroups: &Cgroups) {
        for name in self.ledgers.iter().flatten().filter_map(|ledger| cgroups.name(ledger.handle)) {
            if let Some(pool) = self.pools.get_mut(name) {
                pool.latest = now;
            }
        }
        self.pools.retain(|_, pool| {
            let kept = now.since(pool.latest) <= KEPT;
            if let (false, Some((entity, _))) = (kept, &pool.shown) {
                samples.end_entity(*entity);
            }
            kept
        });
    }

    fn get(&self, handle: Handle) -> Option<&Ledger> {
        self.ledgers.get(handle.slot())?.as_ref().filter(|ledger| ledger.handle == handle)
    }

    fn get_mut(&mut self, handle: Handle) -> Option<&mut Ledger> {
        self.ledgers.get_mut(handle.slot())?.as_mut().filter(|ledger| ledger.handle == handle)
    }
}

impl Ledger {
    fn new(handle: Handle, cgroups: &Cgroups, has_past: bool) -> Self {
        Self {
            handle,
            around: cgroups.around(handle),
            used: CpuTime::default(),
            told_seconds: 0.0,
            inside_seconds: 0.0,
            seen_seconds: 0.0,
            has_past,
            past_seconds: None,
            exited_seconds: 0.0,
            read_seconds: 0.0,
            ran: Ran::Maybe,
        }
    }

    /// What its surroundings do not know of yet. Its past was theirs.
    fn tell(&mut self) -> f64 {
        if self.past_seconds.is_none() && self.has_past {
            self.told_seconds = self.used.usage;
        }
        self.used.usage - std::mem::replace(&mut self.told_seconds, self.used.usage)
    }

    /// By how much the difference grew, in programs and in the kernel as the cgroup's own time is parted.
    fn grow(&mut self) -> [f64; 2] {
        let difference = self.used.usage - self.inside_seconds - self.seen_seconds;
        let past = *self.past_seconds.get_or_insert(if self.has_past { difference } else { 0.0 });
        let grown = (difference - past - self.exited_seconds).max(0.0);
        self.exited_seconds += grown;
        let parted = self.used.user + self.used.system;
        let user = if 0.0 < parted { grown * self.used.user / parted } else { grown };
        [user, grown - user]
    }
}
