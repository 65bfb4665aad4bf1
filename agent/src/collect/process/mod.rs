//! Processes: in groups each second, the ones that did most each window.
//!
//! A process is known by its id and its start. `/proc/P/stat` is read only at ticks at which the process may have run:
//! its container or service used CPU, or it belongs to none; kernel threads and everything idle once a window.

mod group;
mod mask;
mod stat;
mod top;

use std::collections::HashMap;
use std::path::Path;

use common::batch::Process;

use crate::collect::CollectError;
use crate::collect::Tick;
use crate::collect::cgroup;
use crate::collect::cgroup::Cgroups;
use crate::collect::cgroup::Handle;
use crate::collect::process::group::Clockwork;
use crate::collect::process::group::Counts;
use crate::collect::process::group::Groups;
use crate::collect::process::group::Level;
use crate::collect::process::stat::Stat;
use crate::collect::process::top::Measures;
use crate::config::CommandLine;
use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::KeptFile;
use crate::host::clock_ticks_per_second;
use crate::host::page_bytes;
use crate::identify::Users;

/// Processes that are followed: a descriptor each. The agent of a host with more shows the first.
const PROCESSES_MAX: usize = 20_000;

/// Processes that ended in the open window and are still shown in its table.
const ENDED_MAX: usize = 256;

/// CPU time in one window from which a process is worth its command line at once: it may end before the window does.
const BUSY_TICKS: u64 = 10;

/// How far the boot time may wander before it counts as moved: it is the difference of two clocks.
const BOOT_WANDERS_SECONDS: f64 = 1.0;

/// A process that is first seen this long after it began was missed before, by a limit or by an error: what it did till
/// then is not growth of now. A late tick misses none that are younger.
const OLD_SECONDS: f64 = 3.0;

/// All processes of the host.
pub(super) struct Processes {
    command_line: CommandLine,
    listing: KeptDirectory,
    listed: Vec<u32>,
    known: HashMap<u32, Known>,
    ended: Vec<(u32, Known)>,
    groups: Groups,
    users: Users,
    clockwork: Clockwork,
    round: u64,
}

struct Known {
    stat: KeptFile,
    io: KeptFile,
    io_refused: bool,
    round: u64,
    parent: u32,
    kernel: bool,
    comm: Vec<u8>,
    cgroup: Option<Handle>,
    container: String,
    group: Option<usize>,
    level: Level,
    counts: Counts,
    /// What its group has been given of its counts.
    given: Counts,
    /// Its counts when the window opened.
    opened: Counts,
    /// `/proc/P/io` as it was read last.
    io_bytes: (u64, u64),
    /// What its children had used when they ended: the kernel adds that to its own.
    inherited: (u64, u64),
    /// Read when it is first shown.
    command_line: Option<String>,
    user: Option<String>,
}

impl Processes {
    pub(super) fn new(procfs: &Path, command_line: CommandLine) -> Self {
        let ticks = u32::try_from(clock_ticks_per_second()).unwrap_or(100);
        Self {
            command_line,
            listing: KeptDirectory::new(procfs),
            listed: Vec::new(),
            known: HashMap::new(),
            ended: Vec::new(),
            groups: Groups::default(),
            users: Users::default(),
            clockwork: Clockwork { ticks_per_second: f64::from(ticks), boot_seconds: None },
            round: 0,
        }
    }

    /// Reads what may have changed and puts the groups' values.
    pub(super) fn tick(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups) -> Result<(), CollectError> {
        self.round += 1;
        if tick.moment.first_in_window || self.round == 1 {
            self.note_boot(tick);
        }
        let Self { listing, listed, .. } = self;
        listed.clear();
        tick.host.list(listing, |entry| listed.extend(number(entry.name)))?;
        let listed = std::mem::take(&mut self.listed);
        for &pid in listed.iter().take(PROCESSES_MAX) {
            self.visit(tick, cgroups, pid);
        }
        let followed = listed.len() <= PROCESSES_MAX;
        self.listed = listed;
        self.retire();
        self.count(tick, cgroups);
        let welcome = tick.moment.first_in_window || self.round == 1;
        self.groups.put(tick.samples, tick.moment, self.clockwork, welcome);
        if followed { Ok(()) } else { Err(CollectError::Malformed("process table of so many processes")) }
    }

    /// The processes that did most since the last call.
    pub(super) fn take_top(&mut self, host: &mut Host) -> Vec<Process> {
        self.users.forget();
        self.read_io(host);
        let ended = std::mem::take(&mut self.ended);
        let mut all: Vec<_> = ended.into_iter().map(|(pid, known)| (pid, Some(known))).collect();
        all.extend(self.known.keys().map(|&pid| (pid, None)));
        all.sort_unstable_by_key(|(pid, _)| *pid);
        let of =
            |(pid, ended): &(u32, Option<Known>)| ended.as_ref().or_else(|| self.known.get(pid)).map(Known::measures);
        let measures: Vec<_> = all.iter().map(|process| of(process).unwrap_or_default()).collect();
        let mut shown = Vec::new();
        for at in top::top(&measures) {
            let (pid, ended) = &mut all[at];
            if let Some(known) = ended.as_mut().or_else(|| self.known.get_mut(pid)) {
                known.look_closely(host, &mut self.users, self.command_line, *pid);
                shown.push(known.show(*pid, self.clockwork));
            }
        }
        for known in self.known.values_mut() {
            known.opened = known.counts;
        }
        shown
    }

    fn visit(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups, pid: u32) {
        let round = self.round;
        let (first, first_in_window) = (!self.known.contains_key(&pid), tick.moment.first_in_window);
        let procfs = &tick.host.roots().procfs;
        let known = self.known.entry(pid).or_insert_with(|| Known::new(procfs, pid));
        known.round = round;
        if !first && !first_in_window && !known.may_have_run(cgroups) {
            return;
        }
        let Ok(bytes) = tick.host.read(&mut known.stat) else {
            known.round = 0;
            return;
        };
        let Some(stat) = stat::parse_stat(bytes) else { return };
        if !first && stat.start_ticks != known.level.start_ticks {
            // The id was given to another process since the tick before.
            known.round = 0;
            return;
        }
        let renamed = known.take(&stat);
        // Containers inside containers are found later than what runs in them.
        if first || renamed || (first_in_window && !known.kernel && known.cgroup.is_none()) {
            known.identify(tick.host, cgroups, pid);
        }
        let began = self.clockwork.began(known.level.start_ticks);
        if first && began.is_none_or(|began| began < tick.moment.stamp.as_seconds() - OLD_SECONDS) {
            known.read_io(tick.host);
            known.begin_here();
        }
        let busy = BUSY_TICKS <= known.measures().cpu_ticks;
        if busy && known.command_line.is_none() {
            known.look_closely(tick.host, &mut self.users, self.command_line, pid);
        }
    }

    /// Forgets processes that are gone; the next living ancestor inherits what they read and wrote, and had inherited.
    fn retire(&mut self) {
        let round = self.round;
        let mut left = HashMap::new();
        for (pid, known) in self.known.extract_if(|_, known| known.round != round) {
            let io_bytes = (known.io_bytes.0 + known.inherited.0, known.io_bytes.1 + known.inherited.1);
            left.insert(pid, (known.parent, io_bytes));
            if self.ended.len() < ENDED_MAX && known.measures().did_anything() {
                self.ended.push((pid, known));
            }
        }
        for &(parent, (read, written)) in left.values() {
            let mut heir = parent;
            // Parents of the dead form no circle, but what is read is not trusted to say so.
            for _ in 0..left.len() {
                let Some((parent, _)) = left.get(&heir) else { break };
                heir = *parent;
            }
            if let Some(heir) = self.known.get_mut(&heir) {
                heir.inherited.0 += read;
                heir.inherited.1 += written;
            }
        }
    }

    fn count(&mut self, tick: &Tick<'_>, cgroups: &Cgroups) {
        self.groups.clear();
        let now = tick.moment.stamp;
        for known in self.known.values_mut() {
            if known.group.is_none() && known.join(cgroups) {
                known.group = Some(self.groups.of(&known.name(), &known.container, known.kernel, now));
            }
            if let Some(group) = known.group {
                self.groups.count(group, known.level, now);
                known.give(&mut self.groups, group);
            }
        }
    }

    fn read_io(&mut self, host: &mut Host) {
        for known in self.known.values_mut().filter(|known| !known.kernel) {
            known.read_io(host);
        }
    }

    fn note_boot(&mut self, tick: &mut Tick<'_>) {
        let Some(boot) = cgroup::boot_seconds(tick.host, tick.moment.stamp) else { return };
        let moved = self.clockwork.boot_seconds.is_none_or(|known| BOOT_WANDERS_SECONDS < (known - boot).abs());
        if moved {
            self.clockwork.boot_seconds = Some(boot);
        }
    }
}

impl Known {
    fn new(procfs: &Path, pid: u32) -> Self {
        let place = procfs.join(pid.to_string());
        Self {
            stat: KeptFile::in_one_piece(place.join("stat")),
            io: KeptFile::in_one_piece(place.join("io")),
            io_refused: false,
            round: 0,
            parent: 0,
            kernel: false,
            comm: Vec::new(),
            cgroup: None,
            container: String::new(),
            group: None,
            level: Level::default(),
            counts: Counts::default(),
            given: Counts::default(),
            opened: Counts::default(),
            io_bytes: (0, 0),
            inherited: (0, 0),
            command_line: None,
            user: None,
        }
    }

    fn may_have_run(&self, cgroups: &Cgroups) -> bool {
        !self.kernel && self.cgroup.is_none_or(|cgroup| cgroups.used_cpu(cgroup))
    }

    /// Takes what `/proc/P/stat` says. Returns whether it runs another program than before.
    fn take(&mut self, stat: &Stat<'_>) -> bool {
        self.parent = stat.parent;
        self.kernel = stat.is_kernel();
        self.level = Level {
            state: stat.state,
            threads: stat.threads,
            resident_bytes: stat.resident_pages.saturating_mul(page_bytes()),
            virtual_bytes: stat.virtual_bytes,
            start_ticks: stat.start_ticks,
        };
        self.counts = self.counts.max(Counts {
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            major_faults: stat.major_faults,
            minor_faults: stat.minor_faults,
            read_bytes: 0,
            written_bytes: 0,
        });
        let renamed = self.comm != stat.comm;
        if renamed {
            self.comm = stat.comm.to_vec();
            (self.group, self.command_line, self.user) = (None, None, None);
        }
        renamed
    }

    /// What it did before it was first seen is not ours to tell: the agent began after it.
    fn begin_here(&mut self) {
        (self.counts.read_bytes, self.counts.written_bytes) = (0, 0);
        (self.given, self.opened) = (self.counts, self.counts);
    }

    fn identify(&mut self, host: &mut Host, cgroups: &Cgroups, pid: u32) {
        let path = host.roots().procfs.join(pid.to_string()).join("cgroup");
        let cgroup = host.read_once(&path).ok().and_then(stat::parse_cgroup);
        let found = cgroup.and_then(|path| cgroups.find(path));
        if found != self.cgroup {
            (self.cgroup, self.group) = (found, None);
        }
    }

    /// Whether it is known which container it is in; if so, it is noted.
    fn join(&mut self, cgroups: &Cgroups) -> bool {
        let container = self.cgroup.map_or(Some(""), |cgroup| cgroups.name(cgroup));
        if let Some(container) = container {
            container.clone_into(&mut self.container);
        }
        container.is_some()
    }

    /// Name of its group: its command, of a kernel thread without what it works on.
    fn name(&self) -> String {
        let name = String::from_utf8_lossy(&self.comm);
        let name = if self.kernel { name.split('/').next().unwrap_or_default() } else { &name };
        name.to_owned()
    }

    fn give(&mut self, groups: &mut Groups, group: usize) {
        if self.counts != self.given {
            groups.add(group, self.counts.since(self.given));
            self.given = self.counts;
        }
    }

    /// Reads what it read and wrote. What its ended children did was theirs, as far as we saw it.
    fn read_io(&mut self, host: &mut Host) {
        if self.io_refused {
            return;
        }
        let read = host.read(&mut self.io).map(stat::parse_io);
        match read {
            Ok(Some((read, written))) => {
                let own = |now: u64, before: u64, inherited: u64| now.saturating_sub(before).saturating_sub(inherited);
                self.counts.read_bytes += own(read, self.io_bytes.0, self.inherited.0);
                self.counts.written_bytes += own(written, self.io_bytes.1, self.inherited.1);
                (self.io_bytes, self.inherited) = ((read, written), (0, 0));
            }
            Ok(None) => {}
            Err(error) => self.io_refused = error.is_denied(),
        }
        self.io.close();
    }

    fn measures(&self) -> Measures {
        let used = self.counts.since(self.opened);
        Measures {
            cpu_ticks: used.user_ticks + used.system_ticks,
            resident_bytes: self.level.resident_bytes,
            io_bytes: used.read_bytes.saturating_add(used.written_bytes),
            faults: used.minor_faults.saturating_add(used.major_faults.saturating_mul(100)),
        }
    }

    /// Reads what only a person wants to know.
    fn look_closely(&mut self, host: &mut Host, users: &mut Users, command_line: CommandLine, pid: u32) {
        let place = host.roots().procfs.join(pid.to_string());
        if let Some(pages) = host.read_once(&place.join("statm")).ok().and_then(stat::parse_resident_pages) {
            self.level.resident_bytes = pages.saturating_mul(page_bytes());
        }
        if self.user.is_none() {
            let number = host.read_once(&place.join("status")).ok().and_then(stat::parse_user);
            self.user = number.map(|number| users.name(host, number));
        }
        if self.command_line.is_none() {
            let shown = |cmdline: &[u8]| match command_line {
                CommandLine::Masked => mask::masked(cmdline),
                CommandLine::Full => mask::full(cmdline),
                CommandLine::Off => String::new(),
            };
            self.command_line = host.read_once(&place.join("cmdline")).ok().map(shown);
        }
    }

    fn show(&self, pid: u32, clockwork: Clockwork) -> Process {
        let used = self.counts.since(self.opened);
        Process {
            pid,
            start_ticks: self.level.start_ticks,
            user: self.user.clone().unwrap_or_default(),
            command: String::from_utf8_lossy(&self.comm).into_owned(),
            command_line: self.command_line.clone().unwrap_or_default(),
            container: self.container.clone(),
            cpu_ms: milliseconds(used.user_ticks + used.system_ticks, clockwork),
            resident_bytes: self.level.resident_bytes,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
            major_faults: used.major_faults,
            minor_faults: used.minor_faults,
            threads: u32::try_from(self.level.threads).unwrap_or(u32::MAX),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "of one window"
)]
fn milliseconds(ticks: u64, clockwork: Clockwork) -> u64 {
    (ticks as f64 * 1_000.0 / clockwork.ticks_per_second) as u64
}

/// A process id, if the name of a directory in `/proc` is one.
fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok().filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))?.parse().ok()
}

/// Gives any bytes to all parsers of a process' files.
pub(super) fn parse_anything(bytes: &[u8]) {
    stat::parse_stat(bytes);
    stat::parse_resident_pages(bytes);
    stat::parse_io(bytes);
    stat::parse_user(bytes);
    stat::parse_cgroup(bytes);
    drop([mask::masked(bytes), mask::full(bytes)]);
    number(bytes);
}

#[cfg(test)]
mod tests;
