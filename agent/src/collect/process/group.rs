//! Groups of processes: all of one command, in one container, as process-exporter shows them.
//!
//! A group's counters are sums of what its processes were seen to add, so that they do not fall when one ends. A group
//! is shown from the first window that begins while it has a member: commands that come and go in between would fill
//! the schema.

use std::collections::HashMap;
use std::time::Duration;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::time::Timestamp;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::SeriesKey;

/// Groups that are shown at once; what belongs to none of them is shown as `other`. A host with more has commands that
/// name themselves by their work.
pub(super) const GROUPS_MAX: usize = 1_000;

/// How long a group without processes is still shown.
const EMPTY_KEPT: Duration = Duration::from_secs(60);

/// What a process was seen to use since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Time in programs, in clock ticks.
    pub user_ticks: u64,
    /// Time in the kernel, in clock ticks.
    pub system_ticks: u64,
    /// Page faults that needed storage.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
    /// Times that it waited, of the first thread.
    pub voluntary_switches: u64,
    /// Times that it had to make room for another, of the first thread.
    pub involuntary_switches: u64,
}

impl Counts {
    /// What was added since `before`; nothing where a count stepped back.
    pub(super) fn since(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    /// Time in programs and in the kernel.
    pub(super) fn cpu_ticks(self) -> u64 {
        self.user_ticks.saturating_add(self.system_ticks)
    }

    pub(super) fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// The larger of each: kernel counts of one process may step back a little where CPU time is scaled.
    pub(super) fn max(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            user_ticks: join(self.user_ticks, other.user_ticks),
            system_ticks: join(self.system_ticks, other.system_ticks),
            major_faults: join(self.major_faults, other.major_faults),
            minor_faults: join(self.minor_faults, other.minor_faults),
            read_bytes: join(self.read_bytes, other.read_bytes),
            written_bytes: join(self.written_bytes, other.written_bytes),
            voluntary_switches: join(self.voluntary_switches, other.voluntary_switches),
            involuntary_switches: join(self.involuntary_switches, other.involuntary_switches),
        }
    }
}

/// What a process is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// State letter.
    pub state: u8,
    /// Threads.
    pub threads: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Memory that was moved to swap.
    pub swapped_bytes: u64,
    /// Open files, and how many it may have open.
    pub open_files: Option<u64>,
    pub open_files_limit: Option<u64>,
    /// Its part of the memory that it shares with others, and all its memory, when both were measured last.
    pub proportional: Option<(u64, u64)>,
    /// Start, in clock ticks since boot.
    pub start_ticks: u64,
}

const STATES: [&str; 5] = ["Running", "Sleeping", "Waiting", "Zombie", "Other"];

const NUM_PROCS: &Metric = metric("namedprocess_namegroup_num_procs");
const CPU: &Metric = metric("namedprocess_namegroup_cpu_seconds_total");
const MEMORY: &Metric = metric("namedprocess_namegroup_memory_bytes");
const MAJOR_FAULTS: &Metric = metric("namedprocess_namegroup_major_page_faults_total");
const MINOR_FAULTS: &Metric = metric("namedprocess_namegroup_minor_page_faults_total");
const SWITCHES: &Metric = metric("namedprocess_namegroup_context_switches_total");
const OPEN_FILES: &Metric = metric("namedprocess_namegroup_open_filedesc");
const WORST_FILES: &Metric = metric("namedprocess_namegroup_worst_fd_ratio");
const READ: &Metric = metric("namedprocess_namegroup_read_bytes_total");
const WRITTEN: &Metric = metric("namedprocess_namegroup_write_bytes_total");
const THREADS: &Metric = metric("namedprocess_namegroup_num_threads");
const OLDEST: &Metric = metric("namedprocess_namegroup_oldest_start_time_seconds");
const STATE: &Metric = metric("namedprocess_namegroup_states");

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    by_name: HashMap<(String, String), usize>,
}

#[derive(Debug)]
struct Group {
    name: String,
    container: String,
    /// Whether its members are kernel threads, which are read once a window.
    kernel: bool,
    counts: Counts,
    members: Members,
    last_member: Timestamp,
    shown: Option<Shown>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Members {
    count: u64,
    threads: u64,
    resident_bytes: u64,
    virtual_bytes: u64,
    swapped_bytes: u64,
    /// Of the members whose part of shared memory was measured: that part, and all their memory.
    proportional: (u64, u64),
    /// Of the members of which it is known.
    open_files: Option<u64>,
    worst_files: f64,
    oldest_ticks: Option<u64>,
    states: [u64; STATES.len()],
}

#[derive(Debug)]
struct Shown {
    entity: u32,
    num_procs: SeriesKey,
    cpu: [SeriesKey; 2],
    memory: [SeriesKey; 3],
    counters: [SeriesKey; 6],
    threads: SeriesKey,
    oldest: SeriesKey,
    /// Made when the first process was measured.
    proportional: Option<SeriesKey>,
    files: Option<[SeriesKey; 2]>,
    /// Made when the first process is in the state.
    states: [Option<SeriesKey>; STATES.len()],
}

/// How clock ticks become times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clockwork {
    /// Clock ticks in a second.
    pub ticks_per_second: f64,
    /// When the host booted, in seconds since the epoch, if that is known.
    pub boot_seconds: Option<f64>,
}

impl Clockwork {
    /// Seconds since the epoch at which a process of this start began.
    pub(super) fn began(self, start_ticks: u64) -> Option<f64> {
        self.boot_seconds.map(|boot| boot + self.seconds(start_ticks))
    }

    /// Clock ticks as seconds.
    #[expect(clippy::cast_precision_loss, reason = "2^53 clock ticks are three million years")]
    pub(super) fn seconds(self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second
    }
}

impl Groups {
    /// The group of a command in a container, made when it is new.
    pub(super) fn of(&mut self, name: &str, container: &str, kernel: bool, now: Timestamp) -> usize {
        let mut key = (name.to_owned(), container.to_owned());
        if let Some(&known) = self.by_name.get(&key) {
            return known;
        }
        if GROUPS_MAX <= self.by_name.len() {
            key = ("other".to_owned(), String::new());
            if let Some(&other) = self.by_name.get(&key) {
                return other;
            }
        }
        let (name, container) = key.clone();
        let group = Group {
            name,
            container,
            kernel,
            counts: Counts::default(),
            members: Members::default(),
            last_member: now,
            shown: None,
        };
        let free = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[free] = Some(group);
        self.by_name.insert(key, free);
        free
    }

    /// Adds what a process of a group used.
    pub(super) fn add(&mut self, group: usize, used: Counts) {
        if let Some(Some(group)) = self.slots.get_mut(group) {
            group.counts = group.counts.add(used);
        }
    }

    /// Forgets all members; [`Self::count`] them anew.
    pub(super) fn clear(&mut self) {
        for group in self.slots.iter_mut().flatten() {
            group.members = Members::default();
        }
    }

    /// Counts a member.
    pub(super) fn count(&mut self, group: usize, level: Level, now: Timestamp) {
        let Some(Some(group)) = self.slots.get_mut(group) else { return };
        group.last_member = now;
        let members = &mut group.members;
        members.count += 1;
        members.threads += level.threads;
        members.resident_bytes += level.resident_bytes;
        members.virtual_bytes += level.virtual_bytes;
        members.swapped_bytes += level.swapped_bytes;
        let (part, whole) = level.proportional.unwrap_or_default();
        members.proportional = (members.proportional.0 + part, members.proportional.1 + whole);
        if let Some(open) = level.open_files {
            members.open_files = Some(members.open_files.unwrap_or(0) + open);
            members.worst_files = members.worst_files.max(share(open, level.open_files_limit.unwrap_or(u64::MAX)));
        }
        let oldest = members.oldest_ticks.map_or(level.start_ticks, |oldest| oldest.min(level.start_ticks));
        members.oldest_ticks = Some(oldest);
        members.states[state_index(level.state)] += 1;
    }

    /// Puts what is due. `welcome` says whether groups may become visible.
    pub(super) fn put(&mut self, samples: &mut Samples, moment: Moment, clockwork: Clockwork, welcome: bool) {
        for slot in &mut self.slots {
            let Some(group) = slot else { continue };
            if EMPTY_KEPT < moment.stamp.since(group.last_member) {
                if let Some(shown) = &group.shown {
                    samples.end_entity(shown.entity);
                }
                self.by_name.remove(&(std::mem::take(&mut group.name), std::mem::take(&mut group.container)));
                *slot = None;
                continue;
            }
            if welcome && group.shown.is_none() && 0 < group.members.count {
                group.shown = Some(Shown::new(samples, &group.name, &group.container));
            }
            group.put(samples, moment, clockwork);
        }
    }
}

impl Group {
    fn put(&mut self, samples: &mut Samples, moment: Moment, clockwork: Clockwork) {
        let (counts, members) = (self.counts, self.members);
        let Some(shown) = &mut self.shown else { return };
        samples.put_count(shown.num_procs, members.count);
        // What was not read has not stood still: a window's growth in one second would be a false peak.
        if moment.first_in_window || !self.kernel {
            for (series, ticks) in shown.cpu.into_iter().zip([counts.user_ticks, counts.system_ticks]) {
                samples.put(series, clockwork.seconds(ticks));
            }
        }
        if !moment.due(MEMORY.tier) {
            return;
        }
        for (series, bytes) in
            shown.memory.into_iter().zip([members.resident_bytes, members.virtual_bytes, members.swapped_bytes])
        {
            samples.put_count(series, bytes);
        }
        let counters = [
            counts.major_faults,
            counts.minor_faults,
            counts.read_bytes,
            counts.written_bytes,
            counts.voluntary_switches,
            counts.involuntary_switches,
        ];
        for (series, count) in shown.counters.into_iter().zip(counters) {
            samples.put_count(series, count);
        }
        samples.put_count(shown.threads, members.threads);
        if let Some(oldest) = members.oldest_ticks.and_then(|ticks| clockwork.began(ticks)) {
            samples.put(shown.oldest, oldest);
        }
        shown.put_measured(samples, members);
        for (at, count) in members.states.into_iter().enumerate() {
            if shown.states[at].is_none() && 0 < count {
                let labels = Labels::new().with("state", STATES[at]);
                shown.states[at] = Some(samples.series(shown.entity, STATE, &labels));
            }
            if let Some(series) = shown.states[at] {
                samples.put_count(series, count);
            }
        }
    }
}

impl Shown {
    fn new(samples: &mut Samples, name: &str, container: &str) -> Self {
        let labels = Labels::new().with("groupname", name).with("container", container).with("name", container);
        let entity = samples.entity(&labels);
        let mut series = |metric, label: &[(&'static str, &'static str)]| {
            samples.series(entity, metric, &label.iter().copied().collect())
        };
        Self {
            entity,
            num_procs: series(NUM_PROCS, &[]),
            cpu: ["user", "system"].map(|mode| series(CPU, &[("mode", mode)])),
            memory: ["resident", "virtual", "swapped"].map(|memtype| series(MEMORY, &[("memtype", memtype)])),
            counters: [
                series(MAJOR_FAULTS, &[]),
                series(MINOR_FAULTS, &[]),
                series(READ, &[]),
                series(WRITTEN, &[]),
                series(SWITCHES, &[("ctxswitchtype", "voluntary")]),
                series(SWITCHES, &[("ctxswitchtype", "nonvoluntary")]),
            ],
            threads: series(THREADS, &[]),
            oldest: series(OLDEST, &[]),
            proportional: None,
            files: None,
            states: [None; STATES.len()],
        }
    }

    /// Puts what is not known of every process.
    fn put_measured(&mut self, samples: &mut Samples, members: Members) {
        let entity = self.entity;
        if let Some(open) = members.open_files {
            let new = || [OPEN_FILES, WORST_FILES].map(|metric| samples.series(entity, metric, &Labels::new()));
            let [files, worst] = *self.files.get_or_insert_with(new);
            samples.put_count(files, open);
            samples.put(worst, members.worst_files);
        }
        let (part, whole) = members.proportional;
        if 0 < whole {
            let new = || samples.series(entity, MEMORY, &Labels::new().with("memtype", "proportionalResident"));
            let series = *self.proportional.get_or_insert_with(new);
            // Those that were not measured run the same program, and share as much of their memory.
            samples.put(series, (share(part, whole) * share(members.resident_bytes, 1)).round());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "of memory and files")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn state_index(state: u8) -> usize {
    match state {
        b'R' => 0,
        b'S' => 1,
        b'D' => 2,
        b'Z' => 3,
        _ => 4,
    }
}
