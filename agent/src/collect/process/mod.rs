//! Processes: in groups each second, the ones that did most each window.
//!
//! A process is known by its id and its start. `/proc/P/stat` is read only at ticks at which the process may have run:
//! its container or service used CPU, or it belongs to none; kernel threads and everything idle once a window.

mod exited;
mod group;
mod known;
mod mask;
mod stat;
mod top;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use common::batch::Process;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Tick;
use crate::collect::cgroup;
use crate::collect::cgroup::Cgroups;
use crate::collect::process::exited::Exited;
use crate::collect::process::group::Clockwork;
use crate::collect::process::group::Groups;
use crate::collect::process::known::Known;
use crate::config::CommandLine;
use crate::host::Host;
use crate::host::KeptDirectory;
use crate::host::clock_ticks_per_second;
use crate::identify::Users;

/// Processes that are followed: a descriptor each. The agent of a host with more shows the first.
const PROCESSES_MAX: usize = 20_000;

/// Processes that ended in the open window and are still shown in its table.
const ENDED_MAX: usize = 256;

/// CPU time in one window from which a process is worth its command line at once: it may end before the window does.
const BUSY_TICKS: u64 = 10;

/// How far the boot time may wander before it counts as moved: it is the difference of two clocks.
const BOOT_WANDERS_SECONDS: f64 = 1.0;

/// A process that is first seen this long after it began, the time since the last look aside, was missed before, by a limit or by an error: what it did till
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
    exited: Exited,
    users: Users,
    clockwork: Clockwork,
    round: u64,
    /// When processes were looked at last, and how long before that.
    looked: Option<Timestamp>,
    since_look: Duration,
    /// Whether processes of other users are hidden from us.
    hidden: bool,
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
            exited: Exited::default(),
            users: Users::default(),
            clockwork: Clockwork { ticks_per_second: f64::from(ticks), boot_seconds: None },
            round: 0,
            looked: None,
            since_look: Duration::ZERO,
            hidden: false,
        }
    }

    /// Reads what may have changed and puts the groups' values.
    pub(super) fn tick(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups) -> Result<(), CollectError> {
        self.round += 1;
        let (beginning, now) = (self.round == 1, tick.moment.stamp);
        let welcome = tick.moment.first_in_window || beginning;
        if welcome {
            self.note_boot(tick);
        }
        self.since_look = self.looked.replace(now).map_or(Duration::ZERO, |looked| now.since(looked));
        self.exited.look(cgroups, beginning);
        let outcome = self.visit_all(tick, cgroups);
        self.retire();
        self.count(tick, cgroups);
        match outcome {
            Ok(()) => self.exited.settle(cgroups, now),
            Err(_) => self.exited.lapse(),
        }
        self.groups.put(tick.samples, tick.moment, self.clockwork, welcome);
        self.exited.put(tick.samples, tick.moment, welcome, cgroups);
        outcome
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

    /// Visits all processes that there are. An error says why some could not be seen.
    fn visit_all(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups) -> Result<(), CollectError> {
        let Self { listing, listed, .. } = self;
        listed.clear();
        tick.host.list(listing, |entry| listed.extend(number(entry.name)))?;
        let listed = std::mem::take(&mut self.listed);
        // The first process is always there.
        self.hidden = !listed.is_empty() && !listed.contains(&1);
        for &pid in listed.iter().take(PROCESSES_MAX) {
            self.visit(tick, cgroups, pid);
        }
        let followed = listed.len() <= PROCESSES_MAX;
        self.listed = listed;
        match (self.hidden, followed) {
            (true, _) => Err(CollectError::Hidden),
            (_, false) => Err(CollectError::Malformed("process table of so many processes")),
            _ => Ok(()),
        }
    }

    fn visit(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups, pid: u32) {
        let (round, first_in_window) = (self.round, tick.moment.first_in_window);
        let first = !self.known.contains_key(&pid);
        let procfs = &tick.host.roots().procfs;
        let known = self.known.entry(pid).or_insert_with(|| Known::new(procfs, pid));
        known.round = round;
        let may_have_run = !known.kernel && known.cgroup.is_none_or(|cgroup| self.exited.may_have_run(cgroup));
        known.ran |= may_have_run;
        if !first && !first_in_window && !may_have_run {
            return;
        }
        let bytes = match tick.host.read(&mut known.stat) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.hidden |= error.is_denied();
                known.round = 0;
                return;
            }
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
        let old = OLD_SECONDS + self.since_look.as_secs_f64();
        if first && began.is_none_or(|began| began < tick.moment.stamp.as_seconds() - old) {
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
            }
            let used = known.give(&mut self.groups);
            if let Some(cgroup) = known.cgroup {
                self.exited.see(cgroup, self.clockwork.seconds(used.cpu_ticks()), known.has_past);
            }
        }
    }

    fn read_io(&mut self, host: &mut Host) {
        for known in self.known.values_mut().filter(|known| known.ran && !known.kernel) {
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
