//! What one cgroup uses and may use: read as seldom as is exact, then put.
//!
//! A cgroup that used no CPU since the last tick did nothing that a counter of it could show, so only its CPU time is
//! read each second; the rest is read when that moved, and once a window.

use std::path::Path;

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::SeriesIndex;

use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::cgroup::device::Devices;
use crate::collect::cgroup::files::Files;
use crate::collect::cgroup::files::Subject;
use crate::collect::cgroup::parse;
use crate::collect::cgroup::parse::CpuTime;
use crate::collect::cgroup::parse::Io;
use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Trees;
use crate::host::Host;
use crate::host::clock_ticks_per_second;

/// Metrics with one value a cgroup. [`Figure`] names them.
const METRICS: [&Metric; 18] = [
    metric("container_cpu_usage_seconds_total"),
    metric("container_cpu_user_seconds_total"),
    metric("container_cpu_system_seconds_total"),
    metric("container_cpu_cfs_periods_total"),
    metric("container_cpu_cfs_throttled_periods_total"),
    metric("container_cpu_cfs_throttled_seconds_total"),
    metric("container_spec_cpu_quota"),
    metric("container_spec_cpu_period"),
    metric("container_spec_cpu_shares"),
    metric("container_memory_usage_bytes"),
    metric("container_memory_working_set_bytes"),
    metric("container_memory_rss"),
    metric("container_memory_cache"),
    metric("container_memory_swap"),
    metric("container_spec_memory_limit_bytes"),
    metric("container_oom_events_total"),
    metric("container_threads"),
    metric("container_start_time_seconds"),
];

#[derive(Clone, Copy)]
enum Figure {
    Cpu,
    User,
    System,
    Periods,
    ThrottledPeriods,
    ThrottledSeconds,
    Quota,
    Period,
    Shares,
    Memory,
    WorkingSet,
    Rss,
    Cache,
    Swap,
    MemoryLimit,
    Oom,
    Threads,
    Start,
}

/// Growth of memory in use after which its kinds are read again within the window.
const MEMORY_MOVED_BYTES: u64 = 1 << 20;

/// Ticks for which a cgroup's limits and files may still be on their way.
const YOUNG_TICKS: u32 = 60;

/// What is known of one cgroup.
#[derive(Debug)]
pub(super) struct Usage {
    files: Files,
    figures: [Option<f64>; METRICS.len()],
    series: [Option<SeriesIndex>; METRICS.len()],
    devices: Devices,
    memory_bytes: u64,
    memory_bytes_at_stat: u64,
    inactive_file_bytes: u64,
    oom_kills: u64,
    age_ticks: u32,
    used_cpu_since_stat: bool,
    /// Whether anything in it ran since the tick before.
    used_cpu: bool,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            files: Files::default(),
            figures: [None; METRICS.len()],
            series: [None; METRICS.len()],
            devices: Devices::default(),
            memory_bytes: 0,
            memory_bytes_at_stat: 0,
            inactive_file_bytes: 0,
            oom_kills: 0,
            age_ticks: 0,
            used_cpu_since_stat: true,
            used_cpu: true,
        }
    }

    /// Reads what may have changed. Returns how many tasks the kernel killed for want of memory since the last call, or
    /// nothing when the cgroup is gone.
    pub(super) fn read(&mut self, host: &mut Host, trees: &Trees, cgroup: &str, moment: Moment) -> Option<u64> {
        let fresh = self.age_ticks == 0;
        let all = fresh || moment.first_in_window;
        // A runtime makes a cgroup first and sets its limits then; later they are changed by hand, and seldom.
        let limits = all && (self.age_ticks <= YOUNG_TICKS || moment.due(Tier::Minute));
        self.age_ticks = self.age_ticks.saturating_add(1);
        if limits {
            self.files.find(host, trees, cgroup);
            self.read_limits(host);
        }
        let before = self.get(Figure::Cpu);
        self.read_cpu(host);
        // A cgroup whose CPU time is nowhere counted may always have moved.
        self.used_cpu = fresh || before.is_none() || self.get(Figure::Cpu) != before;
        self.used_cpu_since_stat |= self.used_cpu;
        if all {
            self.read_split(host);
        }
        let killed = if all || self.used_cpu { self.read_moving(host) } else { 0 };
        let moved = self.memory_bytes.abs_diff(self.memory_bytes_at_stat);
        if MEMORY_MOVED_BYTES <= moved || (all && (self.used_cpu_since_stat || 0 < moved)) {
            self.read_memory_stat(host);
        }
        self.set_working_set();
        (!self.files.gone).then_some(killed)
    }

    /// Puts what is due, under the labels of `entity`.
    pub(super) fn put(&mut self, samples: &mut Samples, entity: u32, moment: Moment) {
        for (at, metric) in METRICS.iter().enumerate() {
            let Some(value) = self.figures[at].filter(|_| moment.due(metric.tier)) else { continue };
            let series = *self.series[at].get_or_insert_with(|| samples.series(entity, metric, &column(at)));
            samples.put(series, value);
        }
        self.devices.put(samples, entity, moment);
    }

    /// Lets the next [`Self::put`] make new series: the entity changed.
    pub(super) fn forget_series(&mut self) {
        self.series = [None; METRICS.len()];
        self.devices.forget_series();
    }

    /// What it used in all.
    pub(super) fn cpu_time(&self) -> Option<CpuTime> {
        let split = |figure| self.get(figure).unwrap_or_default();
        Some(CpuTime { usage: self.get(Figure::Cpu)?, user: split(Figure::User), system: split(Figure::System) })
    }

    /// Says when it began, in seconds since the epoch.
    pub(super) fn began(&mut self, seconds: f64) {
        self.set(Figure::Start, Some(seconds));
    }

    fn get(&self, figure: Figure) -> Option<f64> {
        self.figures[figure as usize]
    }

    fn set(&mut self, figure: Figure, value: Option<f64>) {
        self.figures[figure as usize] = value.or(self.figures[figure as usize]);
    }

    /// Sets a counter. The kernel scales the split of CPU time anew at each read: it may step back a little.
    fn grow(&mut self, figure: Figure, value: Option<f64>) {
        let before = self.get(figure);
        self.set(figure, value.map(|value| before.map_or(value, |before| value.max(before))));
    }

    fn read_cpu(&mut self, host: &mut Host) {
        match self.files.read(host, Subject::Cpu) {
            Some((Version::V1, bytes)) => {
                let usage = parse::single(bytes).map(|ns| parse::scaled(ns, 1e9));
                self.grow(Figure::Cpu, usage);
            }
            Some((Version::V2, bytes)) => {
                let (time, throttling) = (parse::cpu_time(bytes), parse::throttling(bytes, Version::V2));
                self.grow(Figure::Cpu, time.map(|time| time.usage));
                self.grow(Figure::User, time.map(|time| time.user));
                self.grow(Figure::System, time.map(|time| time.system));
                self.set_throttling(throttling);
            }
            None => {}
        }
    }

    fn read_split(&mut self, host: &mut Host) {
        let Some((_, bytes)) = self.files.read(host, Subject::CpuSplit) else { return };
        let ticks = parse::scaled(clock_ticks_per_second(), 1.0);
        let [user, system] = ["user", "system"].map(|key| parse::value_of(bytes, key));
        self.grow(Figure::User, user.map(|user| parse::scaled(user, ticks)));
        self.grow(Figure::System, system.map(|system| parse::scaled(system, ticks)));
    }

    fn read_limits(&mut self, host: &mut Host) {
        let (mut quota, mut period) = (None, None);
        match self.files.read(host, Subject::Quota) {
            // -1 is no limit, and not a number here.
            Some((Version::V1, bytes)) => quota = parse::single(bytes),
            Some((Version::V2, bytes)) => {
                if let Some((limit, length)) = parse::cpu_max(bytes) {
                    (quota, period) = (limit, Some(length));
                }
            }
            None => {}
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::Period) {
            period = parse::single(bytes);
        }
        self.figures[Figure::Quota as usize] = quota.map(count);
        self.set(Figure::Period, period.map(count));
        if let Some((version, bytes)) = self.files.read(host, Subject::Shares) {
            let value = parse::single(bytes);
            let shares = if version == Version::V2 { value.map(parse::shares) } else { value };
            self.set(Figure::Shares, shares.map(count));
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::MemoryLimit) {
            let limit = parse::limit(bytes);
            self.set(Figure::MemoryLimit, limit.map(count));
        }
    }

    fn read_moving(&mut self, host: &mut Host) -> u64 {
        if let Some((version, bytes)) = self.files.read(host, Subject::Throttling) {
            let throttling = parse::throttling(bytes, version);
            self.set_throttling(throttling);
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::Memory) {
            let memory = parse::single(bytes);
            self.memory_bytes = memory.unwrap_or(self.memory_bytes);
            self.set(Figure::Memory, memory.map(count));
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::Tasks) {
            let tasks = parse::single(bytes);
            self.set(Figure::Threads, tasks.map(count));
        }
        self.read_io(host);
        self.read_oom_kills(host)
    }

    fn read_oom_kills(&mut self, host: &mut Host) -> u64 {
        let Some((_, bytes)) = self.files.read(host, Subject::Oom) else { return 0 };
        let Some(kills) = parse::value_of(bytes, "oom_kill") else { return 0 };
        let killed = if self.get(Figure::Oom).is_some() { kills.saturating_sub(self.oom_kills) } else { 0 };
        self.oom_kills = kills;
        self.grow(Figure::Oom, Some(count(kills)));
        killed
    }

    fn read_io(&mut self, host: &mut Host) {
        let devices = &mut self.devices;
        match self.files.read(host, Subject::Io) {
            Some((Version::V2, bytes)) => parse::io_stat(bytes, |device, io, value| devices.set(device, io, value)),
            Some((Version::V1, bytes)) => {
                let what = [Io::ReadBytes, Io::WrittenBytes];
                parse::blkio(bytes, what, |device, io, value| devices.set(device, io, value));
            }
            None => {}
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::IoOperations) {
            parse::blkio(bytes, [Io::Reads, Io::Writes], |device, io, value| devices.set(device, io, value));
        }
        devices.name(host);
    }

    fn read_memory_stat(&mut self, host: &mut Host) {
        self.memory_bytes_at_stat = self.memory_bytes;
        self.used_cpu_since_stat = false;
        if let Some((version, bytes)) = self.files.read(host, Subject::MemoryStat)
            && let Some(stat) = parse::memory_stat(bytes, version)
        {
            self.inactive_file_bytes = stat.inactive_file;
            self.set(Figure::Rss, Some(count(stat.rss)));
            self.set(Figure::Cache, Some(count(stat.cache)));
            self.set(Figure::Swap, stat.swap.map(count));
        }
        if let Some((_, bytes)) = self.files.read(host, Subject::Swap) {
            let swap = parse::single(bytes);
            self.set(Figure::Swap, swap.map(count));
        }
    }

    /// As the kubelet computes it: what is in use without the page cache that the kernel would take first.
    fn set_working_set(&mut self) {
        let working_set = count(self.memory_bytes.saturating_sub(self.inactive_file_bytes));
        let known = self.get(Figure::Memory).is_some() && self.get(Figure::Rss).is_some();
        self.set(Figure::WorkingSet, known.then_some(working_set));
    }

    /// A cgroup without a quota has no periods; cAdvisor does not show them then.
    fn set_throttling(&mut self, throttling: Option<parse::Throttling>) {
        let throttling = throttling.filter(|it| self.get(Figure::Quota).is_some() || 0 < it.periods);
        self.grow(Figure::Periods, throttling.map(|it| count(it.periods)));
        self.grow(Figure::ThrottledPeriods, throttling.map(|it| count(it.throttled_periods)));
        self.grow(Figure::ThrottledSeconds, throttling.map(|it| it.throttled_seconds));
    }
}

fn column(at: usize) -> Labels {
    let labels = Labels::new();
    if at == Figure::Cpu as usize { labels.with("cpu", "total") } else { labels }
}

fn count(value: u64) -> f64 {
    parse::scaled(value, 1.0)
}

/// When the oldest process of a cgroup began, in clock ticks since boot.
pub(super) fn oldest_start_ticks(host: &mut Host, trees: &Trees, cgroup: &str) -> Option<u64> {
    /// The oldest process stands among the first.
    const LOOKED_AT: usize = 16;
    let root = trees.roots().next()?;
    let listed = host.read_once(&root.join(cgroup.trim_start_matches('/')).join("cgroup.procs")).ok()?;
    let members: Vec<_> = String::from_utf8_lossy(listed).lines().take(LOOKED_AT).map(str::to_owned).collect();
    let start = |member: &String| start_ticks(host, Path::new(member));
    members.iter().filter_map(start).min()
}

fn start_ticks(host: &mut Host, process: &Path) -> Option<u64> {
    let path = host.roots().procfs.join(process).join("stat");
    let stat = host.read_once(&path).ok()?;
    let behind_name = stat.iter().rposition(|&byte| byte == b')')?;
    let field = stat[behind_name..].split(|&byte| byte == b' ').nth(20)?;
    parse::single(field)
}
