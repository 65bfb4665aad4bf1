//! Processes: in groups each second, the ones that did most each window.
//!
//! A process is known by its id and its start. `/proc/P/stat` is read only at ticks at which it may say something new:
//! its container or service used as much CPU as the file can show, or it belongs to none; kernel threads once a window,
//! everything idle once a minute.

mod exited;
mod group;
mod known;
mod line;
mod listing;
mod proportional;
mod stat;
mod top;
mod totals;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use common::batch::Process;
use common::metric::Tier;
use common::time::Timestamp;

use crate::collect::CollectError;
use crate::collect::Tick;
use crate::collect::cgroup;
use crate::collect::cgroup::Cgroups;
use crate::collect::process::exited::Exited;
use crate::collect::process::exited::Ran;
use crate::collect::process::group::Clockwork;
use crate::collect::process::group::Groups;
use crate::collect::process::known::Known;
use crate::collect::process::known::Reading;
use crate::collect::process::line::Lines;
use crate::collect::process::listing::Listed;
use crate::collect::process::listing::Listing;
use crate::collect::process::proportional::Proportional;
use crate::collect::process::totals::Totals;
use crate::config::CommandLine;
use crate::config::Rule;
use crate::host::Host;
use crate::host::clock_ticks_per_second;
use crate::host::descriptor_limit;
use crate::identify::Users;
use crate::mask;

/// Processes that are followed. The agent of a host with more shows the first.
const PROCESSES_MAX: usize = 20_000;

/// Processes whose `stat` is kept open: each descriptor holds 4.3 kB of kernel memory. Others are opened at each read.
const KEPT_OPEN_MAX: usize = 4_096;

/// Windows after which all of what a process has is read, also of those that did not run: memory goes to swap then too.
const ALL_EVERY_WINDOWS: u64 = 6;

/// Processes that ended in the open window and are still shown in its table.
const ENDED_MAX: usize = 256;

/// CPU time in one window from which a process is worth its command line at once: it may end before the window does.
const BUSY_TICKS: u64 = 10;

/// How far the boot time may wander before it counts as moved: it is the difference of two clocks.
const BOOT_WANDERS_SECONDS: f64 = 1.0;

/// A process that is first seen this long after it began, the time since the last look aside, was missed before, by a limit or by an error: what it did till
/// then is not growth of now. A late tick misses none that are younger.
const OLD_SECONDS: f64 = 3.0;

/// What of a command line is shown, and how it names groups.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// How much of it is shown.
    pub command_line: CommandLine,
    /// Rules that name groups.
    pub rules: Vec<Rule>,
}

/// All processes of the host.
pub(super) struct Processes {
    naming: Naming,
    listing: Listing,
    /// Each by itself: a table that grows has room for twice as many.
    known: HashMap<u32, Box<Known>>,
    /// Of those, how many are kept open, and how many may be.
    kept_open: usize,
    kept_open_max: usize,
    ended: Vec<Known>,
    groups: Groups,
    totals: Totals,
    exited: Exited,
    proportional: Proportional,
    lines: Lines,
    users: Users,
    clockwork: Clockwork,
    round: u64,
    windows: u64,
    /// When processes were looked at last, and how long before that.
    looked: Option<Timestamp>,
    since_look: Duration,
    /// Whether processes of other users are hidden from us.
    hidden: bool,
}

impl Processes {
    pub(super) fn new(procfs: &Path, naming: Naming) -> Self {
        let ticks = u32::try_from(clock_ticks_per_second()).unwrap_or(100);
        // The rest of them is for cgroups, spool and uplink.
        let allowed = usize::try_from(descriptor_limit() / 2).unwrap_or(KEPT_OPEN_MAX);
        Self {
            naming,
            listing: Listing::new(procfs),
            known: HashMap::new(),
            kept_open: 0,
            kept_open_max: allowed.min(KEPT_OPEN_MAX),
            ended: Vec::new(),
            groups: Groups::default(),
            totals: Totals::new(procfs),
            exited: Exited::default(),
            proportional: Proportional::default(),
            lines: Lines::default(),
            users: Users::default(),
            clockwork: Clockwork { ticks_per_second: f64::from(ticks), boot_seconds: None },
            round: 0,
            windows: 0,
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
        self.exited.look(cgroups, self.clockwork, tick.moment.first_in_window, beginning);
        self.lines.begin_tick(tick.moment, beginning);
        let outcome = self.visit_all(tick, cgroups);
        self.retire();
        self.take_lines(tick.host);
        if tick.moment.due(Tier::Minute) || beginning {
            self.proportional.begin(tick.host, tick.moment, &mut self.known);
        }
        self.proportional.note(tick.host, tick.moment, &mut self.known);
        self.count(tick, cgroups);
        match outcome {
            Ok(()) => self.exited.settle(cgroups, now),
            Err(_) => self.exited.lapse(),
        }
        self.groups.put(tick.samples, tick.moment, self.clockwork, welcome);
        self.exited.put(tick.samples, tick.moment, welcome, cgroups);
        let levels = outcome.is_ok().then(|| self.known.values().map(|known| known.level));
        let totals = self.totals.put(tick, levels);
        outcome.and(totals).and(if tick.moment.first_in_window { self.lines.outcome() } else { Ok(()) })
    }

    /// The processes that did most since the last call.
    pub(super) fn take_top(&mut self, host: &mut Host) -> Vec<Process> {
        self.users.forget();
        self.windows += 1;
        let all = self.windows.is_multiple_of(ALL_EVERY_WINDOWS);
        for known in self.known.values_mut() {
            known.look(host, all);
        }
        let mut candidates: Vec<_> = self.ended.iter_mut().chain(self.known.values_mut().map(AsMut::as_mut)).collect();
        candidates.sort_unstable_by_key(|known| known.pid);
        let measures: Vec<_> = candidates.iter().map(|known| known.measures()).collect();
        let top = top::top(&measures);
        for &at in &top {
            let known = &mut candidates[at];
            if known.look_closely(host, &mut self.users, self.naming.command_line) {
                self.lines.want(known.pid);
            }
        }
        let mut by = Reading { users: &mut self.users, naming: &self.naming, clockwork: self.clockwork };
        self.lines.look(host, |host, pid, line| {
            if let Ok(at) = candidates.binary_search_by_key(&pid, |known| known.pid) {
                candidates[at].take_line(host, &mut by, line);
            }
        });
        let shown = top.into_iter().map(|at| candidates[at].show(self.clockwork)).collect();
        self.ended.clear();
        for known in self.known.values_mut() {
            known.opened = known.counts;
        }
        shown
    }

    /// Takes the command lines that were asked for.
    fn take_lines(&mut self, host: &mut Host) {
        let Self { lines, known, users, naming, clockwork, .. } = self;
        let mut by = Reading { users, naming, clockwork: *clockwork };
        lines.look(host, |host, pid, line| {
            if let Some(known) = known.get_mut(&pid) {
                known.take_line(host, &mut by, line);
            }
        });
    }

    /// Visits all processes that there are. An error says why some could not be seen.
    fn visit_all(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups) -> Result<(), CollectError> {
        let all = tick.moment.first_in_window || PROCESSES_MAX <= self.known.len();
        let listed = self.listing.look(tick.host, all)?;
        let mut pids = std::mem::take(&mut self.listing.pids);
        let room = match listed {
            Listed::All => {
                // The first process is always there.
                self.hidden = !pids.is_empty() && !pids.contains(&1);
                PROCESSES_MAX
            }
            Listed::Newcomers => {
                pids.retain(|pid| !self.known.contains_key(pid));
                PROCESSES_MAX.saturating_sub(self.known.len())
            }
        };
        let followed = pids.len() <= room;
        pids.truncate(room);
        if listed == Listed::Newcomers {
            self.revisit(tick.host, &mut pids);
        }
        for &pid in &pids {
            self.visit(tick, cgroups, pid);
        }
        self.listing.pids = pids;
        match (self.hidden, followed) {
            (true, _) => Err(CollectError::Hidden),
            (_, false) => Err(CollectError::Malformed("process table of so many processes")),
            _ => Ok(()),
        }
    }

    /// Adds those of the known processes that are to be visited. The others are there still: nothing ran where they are,
    /// and to end takes CPU time, or the kernel says so.
    fn revisit(&mut self, host: &Host, pids: &mut Vec<u32>) {
        for known in self.known.values_mut() {
            let ran = known.cgroup.map_or(Ran::Maybe, |cgroup| self.exited.ran(cgroup));
            if ran == Ran::Maybe && !known.kernel {
                pids.push(known.pid);
            } else if (ran == Ran::No && !known.kernel) || host.is_process(known.pid) == Some(true) {
                known.round = self.round;
                known.ran |= !known.kernel && ran == Ran::Little;
            }
        }
    }

    fn visit(&mut self, tick: &mut Tick<'_>, cgroups: &Cgroups, pid: u32) {
        let (round, first_in_window) = (self.round, tick.moment.first_in_window);
        let first = !self.known.contains_key(&pid);
        let known = self.known.entry(pid).or_insert_with(|| Box::new(Known::new(pid)));
        known.round = round;
        let ran = known.cgroup.map_or(Ran::Maybe, |cgroup| self.exited.ran(cgroup));
        known.ran |= !known.kernel && Ran::No < ran;
        let wanted = if known.kernel { first_in_window } else { ran == Ran::Maybe || tick.moment.due(Tier::Minute) };
        if !first && !wanted {
            return;
        }
        let read = known.read_stat(tick.host);
        let bytes = match read {
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
        if first && self.kept_open < self.kept_open_max {
            known.keep_open = true;
            self.kept_open += 1;
        }
        known.rest();
        // Containers inside containers are found later than what runs in them.
        if first || renamed || (first_in_window && !known.kernel && known.cgroup.is_none()) {
            known.identify(tick.host, cgroups);
        }
        if (first || renamed) && known.awaits_name(&self.naming) {
            self.lines.want(pid);
        }
        let began = self.clockwork.began(known.level.start_ticks);
        let young = OLD_SECONDS + self.since_look.as_secs_f64();
        let missed = began.is_none_or(|began| began < tick.moment.stamp.as_seconds() - young);
        if first && (missed || round == 1) {
            known.look(tick.host, true);
        }
        if first && missed {
            known.begin_here();
        }
        let busy = BUSY_TICKS <= known.measures().cpu_ticks;
        if busy
            && known.command_line.is_none()
            && known.look_closely(tick.host, &mut self.users, self.naming.command_line)
        {
            self.lines.want(pid);
        }
    }

    /// Forgets processes that are gone; the next living ancestor inherits what they read and wrote, and had inherited.
    fn retire(&mut self) {
        let round = self.round;
        let mut left = HashMap::new();
        for (pid, known) in self.known.extract_if(|_, known| known.round != round) {
            self.kept_open -= usize::from(known.keep_open);
            let io_bytes = (known.io_bytes.0 + known.inherited.0, known.io_bytes.1 + known.inherited.1);
            left.insert(pid, (known.parent, io_bytes));
            if known.measures().did_anything() {
                self.ended.push(*known);
            }
        }
        if ENDED_MAX < self.ended.len() {
            self.ended.sort_unstable_by_key(|known| Reverse(known.measures().cpu_ticks));
            self.ended.truncate(ENDED_MAX);
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
            if tick.moment.first_in_window {
                known.note_name(cgroups);
            }
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

    fn note_boot(&mut self, tick: &mut Tick<'_>) {
        let Some(boot) = cgroup::boot_seconds(tick.host, tick.moment.stamp) else { return };
        let moved = self.clockwork.boot_seconds.is_none_or(|known| BOOT_WANDERS_SECONDS < (known - boot).abs());
        if moved {
            self.clockwork.boot_seconds = Some(boot);
        }
    }
}

/// Whose file in `/proc` it is.
fn pid_of(file: &Path) -> Option<u32> {
    number(file.parent()?.file_name()?.as_encoded_bytes())
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
    stat::parse_status(bytes);
    stat::parse_open_files_limit(bytes);
    stat::parse_proportional(bytes);
    drop([mask::masked(bytes), mask::full(bytes)]);
    number(bytes);
}

#[cfg(test)]
mod tests;
