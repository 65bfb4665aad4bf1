//! What one cgroup uses and may use: read as seldom as is exact, then put.
//!
//! A cgroup that used no CPU since the last tick did nothing that a counter of it could show, so only its CPU time is
//! read each second. The rest is read when that moved: once a window, or at once where a second counts. What happens to
//! a cgroup in which nothing runs is that the kernel takes or writes back its memory and that its tasks wait for a
//! device: that is read once a window, and everything but its limits once a minute.

use common::metric::Tier;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::cgroup::device::Devices;
use crate::collect::cgroup::figure::Figure;
use crate::collect::cgroup::figure::Figures;
use crate::collect::cgroup::files::Files;
use crate::collect::cgroup::files::Subject;
use crate::collect::cgroup::limits::LimitsRead;
use crate::collect::cgroup::parse;
use crate::collect::cgroup::parse::CpuTime;
use crate::collect::cgroup::parse::Io;
use crate::collect::cgroup::parse::NO_LIMIT;
use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Trees;
use crate::collect::pressure;
use crate::collect::text;
use crate::host::Host;
use crate::host::clock_ticks_per_second;

/// Growth of memory in use after which its kinds are read again within the window.
const MEMORY_MOVED_BYTES: u64 = 1 << 20;

/// Ticks for which a cgroup's limits and files may still be on their way.
const YOUNG_TICKS: u32 = 20;

/// Ticks for which limits may be on their way after their runtime wrote them down.
const CHANGING_TICKS: u32 = 20;

/// Pressure by file: time that some tasks lost waiting, and time that all did.
type Pressure = (Subject, Figure, Figure);

/// Those that only what runs can lose.
const PRESSURES: [Pressure; 2] = [
    (Subject::CpuPressure, Figure::CpuWaiting, Figure::CpuStalled),
    (Subject::MemoryPressure, Figure::MemoryWaiting, Figure::MemoryStalled),
];

const IO_PRESSURE: Pressure = (Subject::IoPressure, Figure::IoWaiting, Figure::IoStalled);

/// What is known of one cgroup.
#[derive(Debug)]
pub(super) struct Usage {
    files: Files,
    figures: Figures,
    devices: Devices,
    memory_bytes: u64,
    memory_bytes_at_stat: u64,
    inactive_file_bytes: u64,
    /// OOM kills as they were read last, and from which file.
    oom_read: Option<(Subject, u64)>,
    oom_kills: u64,
    /// Ticks for which limits are read each window.
    limits_move: u32,
    /// Whether anything in it ran since they were read last.
    ran_since_limits: bool,
    fresh: bool,
    /// Whether anything in it ran since the tick before, and since all of it was read last.
    used_cpu: bool,
    used_cpu_in_window: bool,
    /// Whether anything may have run between the latest two times that all of it was read; once a minute it may have.
    ran_before_window: bool,
    /// Whether containers or services of their own lie inside.
    pub holds_others: bool,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            files: Files::default(),
            figures: Figures::default(),
            devices: Devices::default(),
            memory_bytes: 0,
            memory_bytes_at_stat: 0,
            inactive_file_bytes: 0,
            oom_read: None,
            oom_kills: 0,
            limits_move: YOUNG_TICKS,
            ran_since_limits: true,
            fresh: true,
            used_cpu: true,
            used_cpu_in_window: true,
            ran_before_window: true,
            holds_others: false,
        }
    }

    /// Reads what may have changed. Returns how many tasks the kernel killed for want of memory since the last call, or
    /// nothing when the cgroup is gone.
    pub(super) fn read(
        &mut self,
        host: &mut Host,
        mut around: Around<'_>,
        cgroup: &str,
        moment: Moment,
    ) -> Option<u64> {
        let fresh = std::mem::take(&mut self.fresh);
        let all = fresh || moment.first_in_window;
        // A runtime makes a cgroup first and sets its limits then; later they change when it says so, or by hand.
        if all && (0 < self.limits_move || (moment.due(Tier::Minute) && self.ran_since_limits)) {
            self.ran_since_limits = false;
            self.files.find(host, around.trees, cgroup);
            self.read_limits(host, &mut around, cgroup);
        }
        self.limits_move = self.limits_move.saturating_sub(1);
        let before = self.figures.get(Figure::Cpu);
        self.read_cpu(host);
        // A cgroup whose CPU time is nowhere counted may always have moved.
        self.used_cpu = fresh || before.is_none() || self.figures.get(Figure::Cpu) != before;
        self.used_cpu_in_window |= self.used_cpu;
        self.ran_since_limits |= self.used_cpu;
        let killed = if all {
            self.ran_before_window = std::mem::take(&mut self.used_cpu_in_window) || moment.due(Tier::Minute);
            self.read_window(host, self.ran_before_window)
        } else if self.used_cpu {
            self.read_second(host)
        } else {
            0
        };
        if MEMORY_MOVED_BYTES <= self.memory_bytes.abs_diff(self.memory_bytes_at_stat) {
            self.read_memory_stat(host);
        }
        self.set_working_set();
        (!self.files.gone).then_some(killed)
    }

    /// Puts what is due, under the labels of `entity`.
    pub(super) fn put(&mut self, samples: &mut Samples, entity: u32, moment: Moment) {
        self.figures.put(samples, entity, moment);
        self.devices.put(samples, entity, moment);
    }

    /// Lets the next [`Self::put`] make new series: the entity changed.
    pub(super) fn forget_series(&mut self) {
        self.figures.forget_series();
        self.devices.forget_series();
    }

    /// What it used in all.
    pub(super) fn cpu_time(&self) -> Option<CpuTime> {
        let get = |figure| self.figures.get(figure);
        let split = |figure| get(figure).unwrap_or_default();
        Some(CpuTime { usage: get(Figure::Cpu)?, user: split(Figure::User), system: split(Figure::System) })
    }

    /// Whether anything in it may have run in the window before this one.
    pub(super) fn ran_before_window(&self) -> bool {
        self.ran_before_window
    }

    /// Says when it began, in seconds since the epoch.
    pub(super) fn began(&mut self, seconds: f64) {
        self.figures.set(Figure::Start, Some(seconds));
    }

    /// When it began, in seconds since the epoch.
    pub(super) fn start(&self) -> Option<f64> {
        self.figures.get(Figure::Start)
    }

    /// Says that its limits may be about to change.
    pub(super) fn expect_change(&mut self) {
        self.limits_move = self.limits_move.max(CHANGING_TICKS);
    }

    /// Adds what was killed in the cgroup that it was before: the count of an entity never falls, though a new cgroup
    /// begins at zero.
    pub(super) fn add_oom_kills(&mut self, before: u64) {
        self.oom_kills = self.oom_kills.saturating_add(before);
        if self.oom_read.is_some() {
            self.figures.grow(Figure::Oom, Some(count(self.oom_kills)));
        }
    }

    /// Whether there was an OOM kill in this instance.
    pub(super) fn saw_oom_kill(&self) -> bool {
        self.oom_read.is_some_and(|(_, kills)| 0 < kills)
    }

    /// OOM kills in this and in earlier instances.
    pub(super) fn oom_kills(&self) -> u64 {
        self.oom_kills
    }

    /// Whether any task lives in it or in a cgroup inside, if that can be told.
    pub(super) fn is_populated(&mut self, host: &mut Host) -> Option<bool> {
        if let Some(threads) = self.figures.get(Figure::Threads) {
            return Some(0.0 < threads);
        }
        let (_, events) = self.files.read(host, Subject::Populated)?;
        parse::value_of(events, "populated").map(|populated| populated != 0)
    }

    fn read_cpu(&mut self, host: &mut Host) {
        match self.files.read(host, Subject::Cpu) {
            Some((Version::V1, bytes)) => {
                let usage = parse::single(bytes).map(|ns| parse::scaled(ns, 1e9));
                self.figures.grow(Figure::Cpu, usage);
            }
            Some((Version::V2, bytes)) => {
                let (time, throttling) = (parse::cpu_time(bytes), parse::throttling(bytes, Version::V2));
                self.figures.grow(Figure::Cpu, time.map(|time| time.usage));
                self.figures.grow(Figure::User, time.map(|time| time.user));
                self.figures.grow(Figure::System, time.map(|time| time.system));
                self.set_throttling(throttling);
            }
            None => {}
        }
    }

    fn read_split(&mut self, host: &mut Host) {
        let Some((_, bytes)) = self.files.read(host, Subject::CpuSplit) else { return };
        let ticks = parse::scaled(clock_ticks_per_second(), 1.0);
        let [user, system] = ["user", "system"].map(|key| parse::value_of(bytes, key));
        self.figures.grow(Figure::User, user.map(|user| parse::scaled(user, ticks)));
        self.figures.grow(Figure::System, system.map(|system| parse::scaled(system, ticks)));
    }

    fn read_pressure(&mut self, host: &mut Host, (subject, some, full): Pressure) {
        if let Some(totals) = self.files.read(host, subject).and_then(|(_, bytes)| pressure::parse(bytes)) {
            let seconds = |total: Option<u64>| total.map(|us| parse::scaled(us, 1e6));
            self.figures.grow(some, seconds(totals.some));
            self.figures.grow(full, seconds(totals.full));
        }
    }

    fn read_limits(&mut self, host: &mut Host, around: &mut Around<'_>, cgroup: &str) {
        let limits = around.limits.effective(host, around.trees, cgroup);
        match limits.cpu {
            Some((quota, period)) => {
                self.figures.set(Figure::Quota, Some(count(quota)));
                self.figures.set(Figure::Period, Some(count(period)));
            }
            None => self.figures.clear(Figure::Quota),
        }
        // Without a limit cAdvisor says 0.
        let shown = |limit: Option<u64>| limit.map(|limit| if limit == NO_LIMIT { 0.0 } else { count(limit) });
        self.figures.set(Figure::MemoryLimit, shown(limits.memory));
        self.figures.set(Figure::ThreadsMax, shown(limits.threads));
        if let Some((version, bytes)) = self.files.read(host, Subject::Shares) {
            let value = parse::single(bytes);
            let shares = if version == Version::V2 { value.map(parse::shares) } else { value };
            self.figures.set(Figure::Shares, shares.map(count));
        }
    }

    /// Reads what is read at the first tick of a window; `ran` says whether anything in it did since the last one.
    fn read_window(&mut self, host: &mut Host, ran: bool) -> u64 {
        self.read_pressure(host, IO_PRESSURE);
        if !ran {
            self.read_memory(host);
            self.read_io(host, false);
            if self.memory_bytes != self.memory_bytes_at_stat {
                self.read_memory_stat(host);
            }
            self.files.rest();
            return 0;
        }
        self.read_split(host);
        PRESSURES.into_iter().for_each(|pressure| self.read_pressure(host, pressure));
        self.read_throttling(host);
        let killed = self.read_second(host);
        self.read_processes(host);
        self.read_io(host, true);
        self.read_memory_stat(host);
        killed
    }

    /// Reads what a second counts for. Without a quota nothing is throttled.
    fn read_second(&mut self, host: &mut Host) -> u64 {
        if self.figures.get(Figure::Quota).is_some() {
            self.read_throttling(host);
        }
        self.read_memory(host);
        self.read_single(host, Subject::Tasks, Figure::Threads);
        self.read_io(host, false);
        self.read_oom_kills(host)
    }

    fn read_throttling(&mut self, host: &mut Host) {
        if let Some((version, bytes)) = self.files.read(host, Subject::Throttling) {
            let throttling = parse::throttling(bytes, version);
            self.set_throttling(throttling);
        }
    }

    fn read_memory(&mut self, host: &mut Host) {
        if let Some((_, bytes)) = self.files.read(host, Subject::Memory) {
            let memory = parse::single(bytes);
            self.memory_bytes = memory.unwrap_or(self.memory_bytes);
            self.figures.set(Figure::Memory, memory.map(count));
        }
    }

    /// Counts kills of its own tasks: those in cgroups inside are its own too, unless they are others' containers.
    fn read_oom_kills(&mut self, host: &mut Host) -> u64 {
        let local = self.holds_others && self.files.has(Subject::OomLocal);
        let subject = if local { Subject::OomLocal } else { Subject::Oom };
        let Some((version, bytes)) = self.files.read(host, subject) else { return 0 };
        let Some(kills) = parse::value_of(bytes, "oom_kill") else { return 0 };
        let failures = if version == Version::V2 { parse::value_of(bytes, "max") } else { None };
        self.figures.grow(Figure::MemoryFailures, failures.map(count));
        let before = self.oom_read.replace((subject, kills));
        let killed = match before {
            Some((known, before)) if known == subject => kills.saturating_sub(before),
            Some(_) => 0,
            // What was killed before it was first seen is told in its count and in no event.
            None => {
                self.oom_kills = self.oom_kills.saturating_add(kills);
                0
            }
        };
        self.oom_kills = self.oom_kills.saturating_add(killed);
        self.figures.grow(Figure::Oom, Some(count(self.oom_kills)));
        killed
    }

    /// As cAdvisor counts them, without those in cgroups inside; of one that keeps all of them there nothing is told.
    fn read_processes(&mut self, host: &mut Host) {
        let Some((_, bytes)) = self.files.read(host, Subject::Processes) else { return };
        let processes = text::lines(bytes).count();
        if processes == 0 && self.figures.get(Figure::Threads).is_some_and(|threads| 0.0 < threads) {
            self.figures.clear(Figure::Processes);
        } else {
            self.figures.set(Figure::Processes, Some(count(processes as u64)));
        }
    }

    /// Operations are read when bytes moved, or `all`: hardly any move none.
    fn read_io(&mut self, host: &mut Host, all: bool) {
        let devices = &mut self.devices;
        let mut moved = all;
        match self.files.read(host, Subject::Io) {
            Some((Version::V2, bytes)) => parse::io_stat(bytes, |device, io, value| {
                devices.set(device, io, value);
            }),
            Some((Version::V1, bytes)) => {
                let what = [Io::ReadBytes, Io::WrittenBytes];
                parse::blkio(bytes, what, |device, io, value| moved |= devices.set(device, io, value));
            }
            None => {}
        }
        if moved && let Some((_, bytes)) = self.files.read(host, Subject::IoOperations) {
            parse::blkio(bytes, [Io::Reads, Io::Writes], |device, io, value| {
                devices.set(device, io, value);
            });
        }
        devices.name(host);
    }

    fn read_memory_stat(&mut self, host: &mut Host) {
        self.memory_bytes_at_stat = self.memory_bytes;
        if let Some((version, bytes)) = self.files.read(host, Subject::MemoryStat) {
            let stat = parse::memory_stat(bytes, version);
            self.inactive_file_bytes = stat.inactive_file.unwrap_or(self.inactive_file_bytes);
            let gauges = [
                (Figure::Rss, stat.rss),
                (Figure::Cache, stat.cache),
                (Figure::MappedFile, stat.mapped_file),
                (Figure::Kernel, stat.kernel),
                (Figure::Swap, stat.swap),
            ];
            let counters = [
                (Figure::Faults, stat.own_faults[0]),
                (Figure::MajorFaults, stat.own_faults[1]),
                (Figure::FaultsOfAll, stat.faults[0]),
                (Figure::MajorFaultsOfAll, stat.faults[1]),
                (Figure::RefaultsFile, stat.refaults[0]),
                (Figure::RefaultsAnon, stat.refaults[1]),
            ];
            gauges.into_iter().for_each(|(figure, value)| self.figures.set(figure, value.map(count)));
            counters.into_iter().for_each(|(figure, value)| self.figures.grow(figure, value.map(count)));
        }
        self.read_single(host, Subject::Swap, Figure::Swap);
        self.read_single(host, Subject::MemoryKernel, Figure::Kernel);
        self.read_single(host, Subject::MemoryMost, Figure::MemoryMost);
        self.read_single(host, Subject::MemoryFailures, Figure::MemoryFailures);
    }

    fn read_single(&mut self, host: &mut Host, subject: Subject, figure: Figure) {
        let value = self.files.read(host, subject).and_then(|(_, bytes)| parse::single(bytes));
        self.figures.set(figure, value.map(count));
    }

    /// As the kubelet computes it: what is in use without the page cache that the kernel would take first.
    fn set_working_set(&mut self) {
        let working_set = count(self.memory_bytes.saturating_sub(self.inactive_file_bytes));
        let known = self.figures.get(Figure::Memory).is_some() && self.figures.get(Figure::Rss).is_some();
        self.figures.set(Figure::WorkingSet, known.then_some(working_set));
    }

    /// A cgroup without a quota has no periods; cAdvisor does not show them then.
    fn set_throttling(&mut self, throttling: Option<parse::Throttling>) {
        let throttling = throttling.filter(|it| self.figures.get(Figure::Quota).is_some() || 0 < it.periods);
        self.figures.grow(Figure::Periods, throttling.map(|it| count(it.periods)));
        self.figures.grow(Figure::ThrottledPeriods, throttling.map(|it| count(it.throttled_periods)));
        self.figures.grow(Figure::ThrottledSeconds, throttling.map(|it| it.throttled_seconds));
    }
}

/// What is known of the cgroups around one.
pub(super) struct Around<'a> {
    pub trees: &'a Trees,
    pub limits: &'a mut LimitsRead,
}

fn count(value: u64) -> f64 {
    parse::scaled(value, 1.0)
}
