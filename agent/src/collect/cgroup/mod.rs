//! Containers and systemd services: what each uses and may use, by cAdvisor's names.
//!
//! A container's cgroup appears before its runtime has written its name down. Its series begin once the name is known,
//! at the latest three ticks on; counters lose nothing by that. A name that comes still later ends the series that
//! stand under the id and begins new ones.

mod device;
mod files;
mod parse;
mod tree;
mod usage;
mod walk;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use common::batch::Event;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::SeriesIndex;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::cgroup::device::Devices;
use crate::collect::cgroup::parse::Io;
use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Trees;
use crate::collect::cgroup::usage::Usage;
use crate::collect::cgroup::walk::Change;
use crate::collect::cgroup::walk::Walk;
use crate::host::Host;
use crate::host::clock_ticks_per_second;
use crate::identify::Described;
use crate::identify::Description;
use crate::identify::Directory;
use crate::identify::Runtime;
use crate::identify::identify;
use crate::identify::unescape;

pub(in crate::collect) use parse::CpuTime;

const LAST_SEEN: &Metric = metric("container_last_seen");
const RESTARTS: &Metric = metric("lapwing_container_restarts_total");

/// Ticks that a container may stay unnamed before it is shown by its id.
const UNNAMED_TICKS: u32 = 3;

/// Ticks after which nobody asks for a name any more.
const NAMING_TICKS: u32 = 60;

/// How long `container_last_seen` outlives its container, so that a rule can notice.
const LAST_SEEN_KEPT: Duration = Duration::from_secs(300);

/// Digits of an id that stand for a name, as Docker shows them.
const SHORT_ID: usize = 12;

/// All containers and services of the host.
#[derive(Default)]
pub(super) struct Cgroups {
    trees: Option<Trees>,
    roots: Vec<PathBuf>,
    walk: Walk,
    directory: Directory,
    slots: Vec<Option<Workload>>,
    by_path: HashMap<String, usize>,
    departed: Vec<Departed>,
    instances: u64,
    first_look_done: bool,
}

/// Names one instance of a container or service for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    slot: usize,
    instance: u64,
}

impl Handle {
    /// A small number that no other living one has.
    pub(super) fn slot(self) -> usize {
        self.slot
    }
}

struct Workload {
    instance: u64,
    path: String,
    runtime: Runtime,
    id: String,
    usage: Usage,
    ticks: u32,
    appeared: Option<Timestamp>,
    described: Option<Description>,
    /// What stands in the labels `name` and `container`; empty for a service.
    name: String,
    shown: Option<Shown>,
}

/// A workload's place in the schema.
struct Shown {
    entity: u32,
    labels: Labels,
    last_seen: SeriesIndex,
    restarts: Option<SeriesIndex>,
}

/// The one series of a container that outlives it.
struct Departed {
    entity: u32,
    last_seen: SeriesIndex,
    at: Timestamp,
}

impl Cgroups {
    /// Looks which there are, reads them and puts their values.
    pub(super) fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let moment = tick.moment;
        if self.trees.is_none() {
            let trees = Trees::find(tick.host);
            self.roots = trees.roots().map(ToOwned::to_owned).collect();
            self.trees = Some(trees);
        }
        let everywhere = moment.due(Tier::Minute) || !self.first_look_done;
        let looked = self.walk.look(tick.host, &self.roots, everywhere);
        let (changes, outcome) = match looked {
            Ok(changes) => (changes, Ok(())),
            Err(error) => (Vec::new(), Err(error.into())),
        };
        for change in changes {
            match change {
                Change::Ended(path) => self.end(tick.samples, moment, &path),
                Change::Appeared(path) => self.begin(moment, path),
            }
        }
        self.first_look_done = true;
        self.put(tick);
        self.put_departed(tick);
        if self.walk.is_full() { Err(CollectError::Malformed("cgroup tree of so many cgroups")) } else { outcome }
    }

    /// The container or service that a cgroup is or lies in.
    pub(super) fn find(&self, path: &str) -> Option<Handle> {
        let slot = *self.by_path.get(identify(path)?.root)?;
        let instance = self.slots.get(slot)?.as_ref()?.instance;
        Some(Handle { slot, instance })
    }

    /// All of them, each with what it used in all; nothing where CPU time is not counted.
    pub(super) fn each(&self) -> impl Iterator<Item = (Handle, Option<CpuTime>)> {
        let living = self.slots.iter().enumerate().filter_map(|(slot, workload)| Some((slot, workload.as_ref()?)));
        living.map(|(slot, workload)| (Handle { slot, instance: workload.instance }, workload.usage.cpu_time()))
    }

    /// Whether it is there.
    pub(super) fn is_living(&self, handle: Handle) -> bool {
        self.get(handle).is_some()
    }

    /// The container or service that it lies in.
    pub(super) fn around(&self, handle: Handle) -> Option<Handle> {
        let (above, _) = self.get(handle)?.path.rsplit_once('/')?;
        self.find(above)
    }

    /// The name that its series have: nothing while that is not known yet, empty for a service.
    pub(super) fn name(&self, handle: Handle) -> Option<&str> {
        self.get(handle).map_or(Some(""), |workload| workload.shown.as_ref().map(|_| workload.name.as_str()))
    }

    fn get(&self, handle: Handle) -> Option<&Workload> {
        self.slots.get(handle.slot)?.as_ref().filter(|workload| workload.instance == handle.instance)
    }

    fn begin(&mut self, moment: Moment, path: String) {
        let Some(identity) = identify(&path).filter(|identity| identity.root == path) else { return };
        self.instances += 1;
        let workload = Workload {
            instance: self.instances,
            runtime: identity.runtime,
            id: identity.id.to_owned(),
            usage: Usage::new(),
            ticks: 0,
            appeared: self.first_look_done.then_some(moment.stamp),
            described: None,
            name: String::new(),
            shown: None,
            path,
        };
        let free = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_path.insert(workload.path.clone(), free);
        self.slots[free] = Some(workload);
    }

    fn end(&mut self, samples: &mut Samples, moment: Moment, path: &str) {
        let Some(slot) = self.by_path.remove(path) else { return };
        let Some(mut workload) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        if let Some(shown) = workload.shown.take() {
            samples.end_entity(shown.entity);
            if workload.runtime.is_container() {
                let last_seen = samples.series(shown.entity, LAST_SEEN, &Labels::new());
                self.departed.push(Departed { entity: shown.entity, last_seen, at: moment.stamp });
                event(
                    samples,
                    moment,
                    "container_stopped",
                    &shown.labels,
                    &format!("Container {} ended.", workload.name),
                );
            }
        }
    }

    fn put(&mut self, tick: &mut Tick<'_>) {
        let Self { slots, trees: Some(trees), directory, departed, .. } = self else { return };
        for workload in slots.iter_mut().flatten() {
            let Some(killed) = workload.usage.read(tick.host, trees, &workload.path, tick.moment) else { continue };
            workload.show(tick, trees, directory);
            let Some(shown) = &workload.shown else { continue };
            departed.retain(|departed| departed.entity != shown.entity);
            workload.usage.put(tick.samples, shown.entity, tick.moment);
            if tick.moment.due(LAST_SEEN.tier) {
                tick.samples.put(shown.last_seen, tick.moment.stamp.as_seconds());
            }
            if let (Some(restarts), Some(described)) = (shown.restarts, &workload.described)
                && tick.moment.due(RESTARTS.tier)
            {
                tick.samples.put_count(restarts, described.restarts);
            }
            if 0 < killed {
                let who = if workload.name.is_empty() { &workload.id } else { &workload.name };
                let text = format!("The kernel killed {killed} of the tasks of {who} for want of memory.");
                event(tick.samples, tick.moment, "oom_kill", &shown.labels, &text);
            }
        }
    }

    fn put_departed(&mut self, tick: &mut Tick<'_>) {
        let Tick { samples, moment, .. } = tick;
        self.departed.retain(|departed| {
            let kept = moment.stamp.since(departed.at) < LAST_SEEN_KEPT;
            if !kept {
                samples.end(departed.last_seen);
            } else if moment.due(LAST_SEEN.tier) {
                samples.put(departed.last_seen, departed.at.as_seconds());
            }
            kept
        });
    }
}

impl Workload {
    /// Makes its place in the schema once its name is known, and again when the name changes.
    fn show(&mut self, tick: &mut Tick<'_>, trees: &Trees, directory: &mut Directory) {
        self.ticks = self.ticks.saturating_add(1);
        let settled = self.shown.is_some() && !(tick.moment.first_in_window && self.ticks <= NAMING_TICKS);
        if settled {
            return;
        }
        let described = self.describe(tick, directory);
        let waits = described == Described::Missing && self.ticks <= UNNAMED_TICKS && tick.moment.patience.is_zero();
        if self.shown.is_none() && waits {
            return;
        }
        if let Described::Known(description) = described {
            self.described = Some(description);
        }
        let labels = self.labels();
        if self.shown.as_ref().is_some_and(|shown| shown.labels == labels) {
            return;
        }
        self.register(tick, trees, labels);
    }

    fn describe(&self, tick: &mut Tick<'_>, directory: &mut Directory) -> Described {
        if self.runtime.is_container() {
            directory.describe(tick.host, self.runtime, &self.id)
        } else {
            Described::Never
        }
    }

    fn labels(&mut self) -> Labels {
        let labels = Labels::new().with("id", self.path.as_str());
        if !self.runtime.is_container() {
            return labels.with("service", unescape(&self.id));
        }
        let Description { name, image, labels: own, .. } = self.described.clone().unwrap_or_default();
        self.name = if name.is_empty() { self.id.chars().take(SHORT_ID).collect() } else { name };
        let name = self.name.as_str();
        own.and(&labels).with("name", name).with("container", name).with("image", image)
    }

    fn register(&mut self, tick: &mut Tick<'_>, trees: &Trees, labels: Labels) {
        let again = self.shown.take();
        if let Some(before) = &again {
            tick.samples.end_entity(before.entity);
            self.usage.forget_series();
        } else {
            self.note_start(tick, trees, &labels);
        }
        let entity = tick.samples.entity(&labels);
        let restarts = self.described.as_ref().map(|_| tick.samples.series(entity, RESTARTS, &Labels::new()));
        let last_seen = tick.samples.series(entity, LAST_SEEN, &Labels::new());
        self.shown = Some(Shown { entity, labels, last_seen, restarts });
    }

    fn note_start(&mut self, tick: &mut Tick<'_>, trees: &Trees, labels: &Labels) {
        let oldest = usage::oldest_start_ticks(tick.host, trees, &self.path);
        let per_second = parse::scaled(clock_ticks_per_second(), 1.0);
        let boot = boot_seconds(tick.host, tick.moment.stamp);
        let began = oldest.zip(boot).map(|(ticks, boot)| boot + parse::scaled(ticks, per_second));
        let began = began.or(self.appeared.map(Timestamp::as_seconds));
        if let Some(began) = began {
            self.usage.began(began);
        }
        if self.appeared.is_some() && self.runtime.is_container() {
            event(tick.samples, tick.moment, "container_started", labels, &format!("Container {} began.", self.name));
        }
    }
}

/// When the host booted, in seconds since the epoch.
pub(super) fn boot_seconds(host: &mut Host, now: Timestamp) -> Option<f64> {
    let path = host.roots().procfs.join("uptime");
    let uptime = std::str::from_utf8(host.read_once(&path).ok()?).ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Some(now.as_seconds() - uptime)
}

fn event(samples: &mut Samples, moment: Moment, kind: &str, entity: &Labels, text: &str) {
    samples.event(Event { at: moment.stamp, kind: kind.to_owned(), entity: entity.clone(), text: text.to_owned() });
}

/// Gives any bytes to all parsers of cgroup files.
pub(super) fn parse_anything(bytes: &[u8]) {
    for version in [Version::V1, Version::V2] {
        parse::throttling(bytes, version);
        parse::memory_stat(bytes, version);
    }
    parse::single(bytes).map(parse::shares);
    parse::limit(bytes);
    parse::cpu_time(bytes);
    parse::cpu_max(bytes);
    parse::value_of(bytes, "oom_kill");
    let mut devices = Devices::default();
    parse::io_stat(bytes, |device, io, value| devices.set(device, io, value));
    parse::blkio(bytes, [Io::Reads, Io::Writes], |device, io, value| devices.set(device, io, value));
    device::partition_name(bytes, (8, 0));
    drop(tree::parse_mounts(bytes, Path::new("/sys/fs/cgroup")));
}

#[cfg(test)]
mod tests;
