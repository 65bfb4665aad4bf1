//! Containers and systemd services: what each uses and may use, by cAdvisor's names.

mod condition;
mod departed;
mod device;
mod figure;
mod files;
mod limits;
mod machine;
mod members;
mod network;
mod parse;
mod tree;
mod usage;
mod victims;
mod walk;
mod workload;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use common::batch::Event;
use common::metric::Labels;
use common::metric::Tier;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::collect::cgroup::departed::Departures;
use crate::collect::cgroup::device::Devices;
use crate::collect::cgroup::limits::LimitsRead;
use crate::collect::cgroup::network::Namespaces;
use crate::collect::cgroup::parse::Io;
use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Trees;
use crate::collect::cgroup::usage::Around;
use crate::collect::cgroup::victims::Victims;
use crate::collect::cgroup::walk::Change;
use crate::collect::cgroup::walk::Walk;
use crate::collect::cgroup::workload::Surroundings;
use crate::collect::cgroup::workload::Workload;
use crate::host::Host;
use crate::identify::Directory;
use crate::identify::identify;

pub(in crate::collect) use parse::CpuTime;

/// All containers and services of the host.
#[derive(Default)]
pub(super) struct Cgroups {
    trees: Option<Trees>,
    roots: Vec<PathBuf>,
    walk: Walk,
    directory: Directory,
    limits: LimitsRead,
    namespaces: Namespaces,
    slots: Vec<Option<Workload>>,
    by_path: HashMap<String, usize>,
    departures: Departures,
    victims: Option<Victims>,
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

impl Cgroups {
    /// Shows containers as `directory` describes them.
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory, ..Self::default() }
    }

    /// Looks which there are, reads them and puts their values.
    pub(super) fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let moment = tick.moment;
        if self.trees.is_none() {
            let trees = Trees::find(tick.host);
            self.roots = trees.roots().map(ToOwned::to_owned).collect();
            self.trees = Some(trees);
        }
        self.directory.refresh(moment.patience);
        self.victims.get_or_insert_with(|| Victims::new(tick.host));
        let everywhere = moment.due(Tier::Minute) || !self.first_look_done;
        let looked = self.walk.look(tick.host, &self.roots, everywhere);
        let (changes, outcome) = match looked {
            Ok(changes) => (changes, Ok(())),
            Err(error) => (Vec::new(), Err(error.into())),
        };
        for change in changes {
            match change {
                Change::Ended(path) => self.end(tick, &path),
                Change::Appeared(path) => self.begin(moment, &path),
            }
        }
        self.first_look_done = true;
        self.put(tick);
        if moment.first_in_window {
            self.put_networks(tick);
            condition::put_engines(tick, &self.directory);
        }
        let Self { departures, directory, victims: Some(victims), .. } = self else { return outcome };
        departures.tick(tick, directory, victims);
        machine::put(tick);
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

    fn begin(&mut self, moment: Moment, path: &str) {
        let Some(identity) = identify(path).filter(|identity| identity.root == path) else { return };
        self.instances += 1;
        let appeared = self.first_look_done.then_some(moment.stamp);
        let workload = Workload::new(self.instances, &identity, appeared);
        let free = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_path.insert(path.to_owned(), free);
        self.slots[free] = Some(workload);
        let outer = identity.outer().and_then(|outer| self.by_path.get(outer.root));
        if let Some(Some(outer)) = outer.and_then(|slot| self.slots.get_mut(*slot)) {
            outer.usage.holds_others = true;
        }
    }

    fn end(&mut self, tick: &mut Tick<'_>, path: &str) {
        let Some(slot) = self.by_path.remove(path) else { return };
        let Some(mut workload) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        if let Some(departed) = workload.leave(tick) {
            self.departures.push(tick.samples, departed);
        }
    }

    fn put(&mut self, tick: &mut Tick<'_>) {
        let Self { slots, trees: Some(trees), directory, departures, limits, victims: Some(victims), .. } = self else {
            return;
        };
        limits.clear();
        for workload in slots.iter_mut().flatten() {
            let around = Around { trees, limits };
            let read = workload.usage.read(tick.host, around, &workload.path, tick.moment);
            let Some(killed) = read else { continue };
            if workload.lives(tick.host) {
                workload.show(tick, &mut Surroundings { trees, directory, departures, victims });
                workload.put(tick, killed, victims);
            } else if let Some(departed) = workload.leave(tick) {
                departures.push(tick.samples, departed);
            }
        }
    }

    /// Gives each network namespace to one container: the pod's own, or the one that has been in it longest.
    fn put_networks(&mut self, tick: &mut Tick<'_>) {
        let Self { slots, trees: Some(trees), namespaces, .. } = self else { return };
        if !namespaces.begin(tick.host) {
            return;
        }
        let mut workloads: Vec<_> = slots.iter_mut().flatten().filter(|workload| workload.is_container).collect();
        workloads.sort_by(|left, right| left.precedence().total_cmp(&right.precedence()));
        for workload in workloads {
            workload.put_network(tick, trees, namespaces);
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

fn event(samples: &mut Samples, at: Timestamp, kind: &str, entity: &Labels, text: String) {
    samples.event(Event { at, kind: kind.to_owned(), entity: entity.clone(), text });
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
    parse::io_stat(bytes, |device, io, value| {
        devices.set(device, io, value);
    });
    parse::blkio(bytes, [Io::Reads, Io::Writes], |device, io, value| {
        devices.set(device, io, value);
    });
    device::partition_name(bytes, (8, 0));
    machine::cores(bytes);
    machine::memory_bytes(bytes);
    victims::parse_anything(bytes);
    drop(tree::parse_mounts(bytes, Path::new("/sys/fs/cgroup")));
}

#[cfg(test)]
mod tests;
