//! One container or service: what it is called, and whether it is shown.
//!
//! A container's cgroup appears before its runtime has written its name down. Its series begin once the name is known,
//! at the latest three ticks on; counters lose nothing by that. A name that comes still later, or changes, ends the
//! series that stand under the old one and begins new ones.

use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::Tick;
use crate::collect::cgroup::boot_seconds;
use crate::collect::cgroup::condition;
use crate::collect::cgroup::condition::Condition;
use crate::collect::cgroup::departed::Departed;
use crate::collect::cgroup::departed::Departures;
use crate::collect::cgroup::departed::LAST_SEEN;
use crate::collect::cgroup::event;
use crate::collect::cgroup::members;
use crate::collect::cgroup::network::Namespaces;
use crate::collect::cgroup::network::Network;
use crate::collect::cgroup::network::Place;
use crate::collect::cgroup::parse;
use crate::collect::cgroup::tree::Trees;
use crate::collect::cgroup::usage::Usage;
use crate::collect::cgroup::victims::Victims;
use crate::host::Host;
use crate::host::clock_ticks_per_second;
use crate::identify::Described;
use crate::identify::Description;
use crate::identify::Directory;
use crate::identify::Identity;
use crate::identify::SHORT_ID;
use crate::identify::State;
use crate::identify::Written;
use crate::identify::identify;

/// Ticks that a container may stay unnamed before it is shown by its id.
pub(super) const UNNAMED_TICKS: u32 = 3;

/// Ticks after which nobody asks for the name of one that has none.
const NAMING_TICKS: u32 = 60;

/// What the only process of a container is called that does nothing but hold the network of a pod.
const SANDBOX_COMMANDS: [&[u8]; 2] = [b"pause", b"catatonit"];

/// One container or service.
pub(super) struct Workload {
    /// Tells it from others that had or will have its slot.
    pub instance: u64,
    pub path: String,
    pub usage: Usage,
    /// What stands in the label `name`; empty for a service.
    pub name: String,
    pub shown: Option<Shown>,
    pub is_container: bool,
    /// Whether it only holds the network of a pod, and is not listed for itself.
    pub is_sandbox: bool,
    network: Network,
    condition: Condition,
    ticks: u32,
    appeared: Option<Timestamp>,
    described: Option<(Box<Description>, Written)>,
}

/// A workload's place in the schema.
pub(super) struct Shown {
    pub entity: u32,
    pub labels: Labels,
}

impl Workload {
    /// The workload of a cgroup. `appeared` is when it was first seen, if it was not there before the agent was.
    pub(super) fn new(instance: u64, identity: &Identity<'_>, appeared: Option<Timestamp>) -> Self {
        Self {
            instance,
            path: identity.root.to_owned(),
            usage: Usage::new(),
            name: String::new(),
            shown: None,
            is_container: identity.runtime.is_container(),
            is_sandbox: false,
            network: Network::default(),
            condition: Condition::default(),
            ticks: 0,
            appeared,
            described: None,
        }
    }

    /// Whether it is there for anyone but the file system: a container whose runtime died may leave its cgroup behind.
    pub(super) fn lives(&mut self, host: &mut Host) -> bool {
        let populated = if self.is_container { self.usage.is_populated(host) } else { Some(true) };
        populated.or_else(|| self.state().map(|state| state.is_running)).unwrap_or(true)
    }

    /// Ends its series. Returns what is left to tell of it, if it was listed and is a container.
    pub(super) fn leave(&mut self, tick: &mut Tick<'_>) -> Option<Departed> {
        let now = tick.moment.stamp;
        let shown = self.shown.take()?;
        tick.samples.end_entity(shown.entity);
        self.forget_series();
        (self.ticks, self.appeared) = (0, Some(now));
        (self.is_container && !self.is_sandbox).then(|| Departed {
            entity: shown.entity,
            labels: shown.labels,
            path: self.path.clone(),
            name: self.name.clone(),
            at: now,
            oom_kills: self.usage.oom_kills(),
            saw_oom_kill: self.usage.saw_oom_kill(),
            exit: self.condition.exit,
        })
    }

    /// Makes its place in the schema once its name is known, and again when the name changes.
    pub(super) fn show(&mut self, tick: &mut Tick<'_>, of: &mut Surroundings<'_>) {
        self.ticks = self.ticks.saturating_add(1);
        let may_look = tick.moment.first_in_window && self.may_have_news(tick.host);
        if self.shown.is_some() && !may_look && !of.directory.has_news(&self.path) {
            return;
        }
        let path = self.path.clone();
        let Some(identity) = identify(&path) else { return };
        let described = of.directory.describe(tick.host, &identity);
        let waits = described == Described::Missing && self.ticks <= UNNAMED_TICKS && tick.moment.patience.is_zero();
        if self.shown.is_none() && waits {
            return;
        }
        let health = self.state().map(|state| state.health.clone());
        if let Described::Known(description, written) = described {
            self.described = Some((description, written));
            self.usage.expect_change();
        }
        if self.shown.is_none() && !self.lives(tick.host) {
            return;
        }
        self.is_sandbox = self.holds_only_the_network(tick.host, of.trees, &identity);
        let labels = self.labels(tick.host, of.directory, &identity);
        if self.shown.as_ref().is_none_or(|shown| shown.labels != labels) {
            self.register(tick, of, labels);
        }
        if let (Some(shown), Some(state)) = (&self.shown, self.state()) {
            let states = [health.as_deref(), Some(state.health.as_str())];
            condition::tell_health(tick.samples, tick.moment.stamp, (&self.name, &shown.labels), states);
        }
    }

    /// Puts what is due; `killed` is how many of its tasks the kernel killed.
    pub(super) fn put(&mut self, tick: &mut Tick<'_>, killed: u64, victims: &mut Victims) {
        let Some(shown) = self.shown.as_ref().filter(|_| !self.is_sandbox) else { return };
        let moment = tick.moment;
        self.usage.put(tick.samples, shown.entity, moment);
        if moment.due(LAST_SEEN.tier) {
            let series = tick.samples.series(shown.entity, LAST_SEEN, &Labels::new());
            tick.samples.put(series, moment.stamp.as_seconds());
        }
        self.condition.put(tick, shown.entity, self.described.as_ref().map(|(description, _)| &**description));
        if 0 < killed {
            let name = if self.is_container { self.name.as_str() } else { shown.labels.get("service") };
            let named = victims.take(&self.path);
            let text = format!("the kernel killed {killed} of the tasks of {name} for want of memory{named}");
            event(tick.samples, moment.stamp, "oom_kill", &shown.labels, text);
        }
    }

    /// Puts the figures of its network interfaces, unless its network namespace is somebody else's.
    pub(super) fn put_network(&mut self, tick: &mut Tick<'_>, trees: &Trees, namespaces: &mut Namespaces) {
        let Some(shown) = &self.shown else { return };
        let ran = self.usage.ran_before_window();
        let place = Place { trees, cgroup: &self.path, entity: shown.entity, ran };
        self.network.put(tick, &place, namespaces);
    }

    /// Who owns a network namespace that several are in: the smallest. A pod's own container, then the oldest.
    pub(super) fn precedence(&self) -> f64 {
        if self.is_sandbox { 0.0 } else { self.usage.start().unwrap_or(f64::MAX) }
    }

    fn state(&self) -> Option<&State> {
        self.described.as_ref().and_then(|(description, _)| description.state.as_ref())
    }

    fn may_have_news(&self, host: &Host) -> bool {
        match &self.described {
            Some((_, written)) => !written.is_current(host),
            None => self.ticks <= NAMING_TICKS,
        }
    }

    fn forget_series(&mut self) {
        self.usage.forget_series();
        self.network.forget_series();
        self.condition.forget_series();
    }

    fn holds_only_the_network(&self, host: &mut Host, trees: &Trees, identity: &Identity<'_>) -> bool {
        match &self.described {
            Some((description, _)) if description.is_sandbox => true,
            Some((description, _)) if !identity.is_in_pod() || !description.pod.is_empty() => false,
            None if identity.is_sandbox() => true,
            // An engine, and the files of some, know the containers of a pod and not what they are for.
            _ if identity.is_in_pod() => {
                let members = members::first(host, trees, &self.path).map(|(_, members)| members);
                let mut commands = members.into_iter().flatten().map(|pid| members::command(host, pid));
                commands.next().flatten().is_some_and(|command| SANDBOX_COMMANDS.contains(&command.as_slice()))
            }
            _ => false,
        }
    }

    fn labels(&mut self, host: &mut Host, directory: &mut Directory, identity: &Identity<'_>) -> Labels {
        let labels = Labels::new().with("id", self.path.as_str());
        if !self.is_container {
            return labels.with("service", identity.name());
        }
        let described = self.described.as_ref().map(|(description, _)| description);
        let Description { mut name, mut container, mut pod, namespace, image, labels: own, .. } =
            described.map(|it| Description::clone(it)).unwrap_or_default();
        if pod.is_empty() {
            pod = identity.podman_pod().map(|id| id.chars().take(SHORT_ID).collect()).unwrap_or_default();
        }
        let labels = labels.with("image", image).with("namespace", namespace).with("pod", pod);
        if self.is_sandbox {
            self.name = String::new();
            return labels;
        }
        if name.is_empty() {
            name = identity.name();
            container.clone_from(&name);
        }
        self.name.clone_from(&name);
        let parent = parent(host, directory, identity);
        own.and(&labels).with("name", name).with("container", container).with("parent", parent)
    }

    fn register(&mut self, tick: &mut Tick<'_>, of: &mut Surroundings<'_>, labels: Labels) {
        let entity = tick.samples.entity(&labels);
        if let Some(before) = self.shown.take() {
            tick.samples.end_entity(before.entity);
            self.forget_series();
        } else {
            self.note_start(tick, of, &labels, entity);
        }
        self.shown = Some(Shown { entity, labels });
    }

    fn note_start(&mut self, tick: &mut Tick<'_>, of: &mut Surroundings<'_>, labels: &Labels, entity: u32) {
        let members = members::first(tick.host, of.trees, &self.path).map(|(_, members)| members).unwrap_or_default();
        let oldest = members::oldest_start_ticks(tick.host, &members);
        let per_second = parse::scaled(clock_ticks_per_second(), 1.0);
        let boot = boot_seconds(tick.host, tick.moment.stamp);
        let began = oldest.zip(boot).map(|(ticks, boot)| boot + parse::scaled(ticks, per_second));
        if let Some(began) = began.or(self.appeared.map(Timestamp::as_seconds)) {
            self.usage.began(began);
        }
        let before = of.departures.take(tick, of.directory, of.victims, entity);
        self.usage.add_oom_kills(before.as_ref().map_or(0, |before| before.oom_kills));
        self.condition.exit = before.as_ref().and_then(|before| before.exit);
        of.directory.forget_exit(&self.path);
        if self.appeared.is_some() && self.is_container && !self.is_sandbox {
            let (kind, again) =
                if before.is_some() { ("container_restarted", " again") } else { ("container_started", "") };
            let text = format!("container {} began{again}", self.name);
            event(tick.samples, tick.moment.stamp, kind, labels, text);
        }
    }
}

/// What a workload is shown by and among.
pub(super) struct Surroundings<'a> {
    pub trees: &'a Trees,
    pub directory: &'a mut Directory,
    pub departures: &'a mut Departures,
    pub victims: &'a mut Victims,
}

/// What the container is called in which this one lies; empty where it lies in none.
fn parent(host: &mut Host, directory: &mut Directory, identity: &Identity<'_>) -> String {
    let Some(outer) = identity.outer().filter(|outer| outer.runtime.is_container()) else { return String::new() };
    match directory.describe(host, &outer) {
        Described::Known(description, _) if !description.name.is_empty() => description.name,
        Described::Known(..) | Described::Missing | Described::Never => outer.name(),
    }
}
