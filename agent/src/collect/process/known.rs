//! One process: what was read of it, and what of that its group has been given.

use std::path::PathBuf;

use common::batch::Process;

use crate::collect::cgroup::Cgroups;
use crate::collect::cgroup::Handle;
use crate::collect::process::Naming;
use crate::collect::process::exited;
use crate::collect::process::group::Clockwork;
use crate::collect::process::group::Counts;
use crate::collect::process::group::Groups;
use crate::collect::process::group::Level;
use crate::collect::process::stat;
use crate::collect::process::stat::Stat;
use crate::collect::process::top::Measures;
use crate::config::CommandLine;
use crate::config::Roots;
use crate::config::Rule;
use crate::config::Subject;
use crate::config::group_name;
use crate::host::Host;
use crate::host::KeptDescriptor;
use crate::host::ReadError;
use crate::host::page_bytes;
use crate::identify::Users;
use crate::mask;

/// By what a command line is read.
pub(super) struct Reading<'a> {
    pub users: &'a mut Users,
    pub naming: &'a Naming,
    pub clockwork: Clockwork,
}

/// What is known of a process.
#[derive(Debug)]
pub(super) struct Known {
    pub pid: u32,
    stat: KeptDescriptor,
    /// Whether that is among those that are kept open.
    pub keep_open: bool,
    io_refused: bool,
    pub round: u64,
    pub parent: u32,
    pub kernel: bool,
    pub comm: Vec<u8>,
    pub cgroup: Option<Handle>,
    pub container: String,
    pub group: Option<usize>,
    pub level: Level,
    pub counts: Counts,
    /// What its group has been given of its counts.
    given: Counts,
    /// Its counts when the window opened.
    pub opened: Counts,
    /// Whether it did something that was given to no group, or to that of another container.
    pub has_past: bool,
    /// `/proc/P/io` as it was read last.
    pub io_bytes: (u64, u64),
    /// What its children had used when they ended: the kernel adds that to its own.
    pub inherited: (u64, u64),
    /// Kept from when it is first shown.
    pub command_line: Option<String>,
    /// Whether its command line was asked for and not answered yet, and whether it is to be kept.
    line_asked: bool,
    line_kept: bool,
    user: Option<String>,
    /// Name of its group, if a rule gives one.
    named: Option<String>,
    /// Whether it may have run since it was looked at last.
    pub ran: bool,
    /// Whether its memory was ever read exactly, and whether in the round of looks that goes on.
    looked_at: bool,
    looked_now: bool,
    /// Its counts when it was looked at last.
    looked: Counts,
    /// When it was asked for its part of shared memory.
    pub asked: u64,
}

impl Known {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            stat: KeptDescriptor::default(),
            keep_open: false,
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
            has_past: false,
            io_bytes: (0, 0),
            inherited: (0, 0),
            command_line: None,
            line_asked: false,
            line_kept: false,
            user: None,
            named: None,
            ran: true,
            looked_at: false,
            looked_now: false,
            looked: Counts::default(),
            asked: 0,
        }
    }

    /// Reads its `stat`; whether the descriptor is given back then is for [`Self::rest`].
    pub(super) fn read_stat<'a>(&mut self, host: &'a mut Host) -> Result<&'a [u8], ReadError> {
        let pid = self.pid;
        host.read_kept(&mut self.stat, |roots| place(roots, pid).join("stat"))
    }

    /// Gives its descriptor back, unless it is one of those that are kept.
    pub(super) fn rest(&mut self) {
        if !self.keep_open {
            self.stat.close();
        }
    }

    /// Takes what `/proc/P/stat` says. Returns whether it runs another program than before.
    pub(super) fn take(&mut self, stat: &Stat<'_>) -> bool {
        self.parent = stat.parent;
        self.kernel = stat.is_kernel();
        // `status` is exact; until it was read, this is better than nothing.
        let resident_bytes = stat.resident_pages.saturating_mul(page_bytes());
        let resident_bytes = if self.looked_at { self.level.resident_bytes } else { resident_bytes };
        self.level = Level {
            state: stat.state,
            threads: stat.threads,
            resident_bytes,
            virtual_bytes: stat.virtual_bytes,
            start_ticks: stat.start_ticks,
            ..self.level
        };
        let before = self.counts;
        self.counts = before.max(Counts {
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            major_faults: stat.major_faults,
            minor_faults: stat.minor_faults,
            ..Counts::default()
        });
        self.ran |= self.kernel && self.counts != before;
        let renamed = self.comm != stat.comm;
        if renamed {
            self.comm = stat.comm.to_vec();
            (self.group, self.named, self.command_line, self.user) = (None, None, None, None);
            self.line_asked = false;
        }
        renamed
    }

    /// What it did before it was first seen is not ours to tell: the agent began after it.
    pub(super) fn begin_here(&mut self) {
        (self.counts.read_bytes, self.counts.written_bytes) = (0, 0);
        (self.given, self.opened, self.has_past) = (self.counts, self.counts, true);
    }

    pub(super) fn identify(&mut self, host: &mut Host, cgroups: &Cgroups) {
        let cgroup = host.read_piece(&self.place(host).join("cgroup")).ok().and_then(stat::parse_cgroup);
        let found = cgroup.and_then(|path| cgroups.find(path));
        if found != self.cgroup {
            self.has_past |= self.given != Counts::default();
            (self.cgroup, self.group) = (found, None);
        }
    }

    /// Whether it is known which container it is in; if so, it is noted.
    pub(super) fn join(&mut self, cgroups: &Cgroups) -> bool {
        let container = self.cgroup.map_or(Some(""), |cgroup| cgroups.name(cgroup));
        if let Some(container) = container {
            container.clone_into(&mut self.container);
        }
        container.is_some()
    }

    /// Leaves its group if its container has another name by now.
    pub(super) fn note_name(&mut self, cgroups: &Cgroups) {
        let name = self.cgroup.and_then(|cgroup| cgroups.name(cgroup));
        if name.is_some_and(|name| name != self.container) {
            self.group = None;
        }
    }

    /// Whether its command line is to be asked for, because a rule may name its group by it. Until that is known its group
    /// is that of its command.
    pub(super) fn awaits_name(&mut self, naming: &Naming) -> bool {
        !naming.rules.is_empty() && !std::mem::replace(&mut self.line_asked, true)
    }

    /// Takes its command line, if it was asked for and there is one.
    pub(super) fn take_line(&mut self, host: &mut Host, by: &mut Reading<'_>, line: Option<&[u8]>) {
        if !std::mem::take(&mut self.line_asked) {
            return;
        }
        if self.line_kept {
            let shown = |line: &[u8]| match by.naming.command_line {
                CommandLine::Masked => mask::masked(line),
                CommandLine::Full => mask::full(line),
                CommandLine::Off => String::new(),
            };
            self.command_line = line.map(shown);
        }
        if !by.naming.rules.is_empty() {
            let named = self.ask_rules(host, by, line.unwrap_or_default());
            if named != self.named {
                (self.named, self.group) = (named, None);
            }
        }
    }

    /// Asks the rules for the name of its group.
    fn ask_rules(&mut self, host: &mut Host, by: &mut Reading<'_>, line: &[u8]) -> Option<String> {
        let Reading { users, naming, clockwork } = by;
        let arguments = match naming.command_line {
            CommandLine::Full => mask::arguments,
            // What a rule captures leaves the host.
            CommandLine::Masked | CommandLine::Off => mask::masked_arguments,
        };
        let mut arguments = arguments(line);
        arguments.truncate(arguments.iter().rposition(|it| !it.is_empty()).map_or(0, |last| last + 1));
        if naming.rules.iter().any(Rule::asks_for_user) {
            self.read_user(host, users);
        }
        group_name(
            &naming.rules,
            Subject {
                comm: &String::from_utf8_lossy(&self.comm),
                arguments: &arguments,
                user: self.user.as_deref().unwrap_or_default(),
                pid: self.pid,
                began: clockwork.began(self.level.start_ticks),
            },
        )
    }

    /// Name of its group: what a rule says, else its command, of a kernel thread without what it works on. That of ended
    /// processes is not for the living.
    pub(super) fn name(&self) -> String {
        let comm = String::from_utf8_lossy(&self.comm);
        let comm = if self.kernel { comm.split('/').next().unwrap_or_default() } else { &comm };
        let name = self.named.as_deref().unwrap_or(comm);
        if name == exited::NAME { name.trim_matches(['(', ')']) } else { name }.to_owned()
    }

    /// Gives its group, once that is known, what it used since the last call. Returns what that was.
    pub(super) fn give(&mut self, groups: &mut Groups) -> Counts {
        let Some(group) = self.group.filter(|_| self.counts != self.given) else { return Counts::default() };
        let used = self.counts.since(std::mem::replace(&mut self.given, self.counts));
        groups.add(group, used);
        used
    }

    /// Reads what it read and wrote. What its ended children did was theirs, as far as we saw it.
    fn read_io(&mut self, host: &mut Host) {
        if self.io_refused {
            return;
        }
        let read = host.read_piece(&self.place(host).join("io")).map(stat::parse_io);
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
    }

    pub(super) fn measures(&self) -> Measures {
        let used = self.counts.since(self.opened);
        Measures {
            cpu_ticks: used.cpu_ticks(),
            resident_bytes: self.level.resident_bytes,
            io_bytes: used.read_bytes.saturating_add(used.written_bytes),
            faults: used.minor_faults.saturating_add(used.major_faults.saturating_mul(100)),
        }
    }

    /// Reads what takes a file each: once a window, and only if it may have run. `all` reads the memory of the others
    /// too, which the kernel may take from them.
    ///
    /// A process of one thread that neither waited nor made room since the last look did not run.
    pub(super) fn look(&mut self, host: &mut Host, all: bool) {
        let may_have_run = std::mem::take(&mut self.ran);
        self.looked_now = may_have_run || all;
        if !self.looked_now {
            return;
        }
        let place = self.place(host);
        let status = host.read_piece(&place.join("status")).map(stat::parse_status).unwrap_or_default();
        self.level.swapped_bytes = status.swapped_bytes;
        self.counts = self.counts.max(Counts {
            voluntary_switches: status.voluntary_switches,
            involuntary_switches: status.involuntary_switches,
            ..Counts::default()
        });
        if self.kernel {
            return;
        }
        if let Some(bytes) = status.resident_bytes {
            (self.level.resident_bytes, self.looked_at) = (bytes, true);
        } else {
            self.looked_at |= self.read_resident(host);
        }
        let ran = may_have_run && (self.counts != self.looked || self.level.threads != 1);
        if ran {
            self.read_io(host);
            self.level.open_files = host.count_open_files(&place.join("fd")).ok();
        }
        self.looked = self.counts;
        if (ran && all) || (self.level.open_files.is_some() && self.level.open_files_limit.is_none()) {
            let limit = host.read_piece(&place.join("limits")).ok().and_then(stat::parse_open_files_limit);
            self.level.open_files_limit = limit;
        }
    }

    fn read_resident(&mut self, host: &mut Host) -> bool {
        let pages = host.read_piece(&self.place(host).join("statm")).ok().and_then(stat::parse_resident_pages);
        self.level.resident_bytes = pages.map_or(self.level.resident_bytes, |it| it.saturating_mul(page_bytes()));
        pages.is_some()
    }

    fn read_user(&mut self, host: &mut Host, users: &mut Users) {
        if self.user.is_none() {
            let number = host.read_piece(&self.place(host).join("status")).ok().and_then(stat::parse_user);
            self.user = number.map(|number| users.name(host, number));
        }
    }

    fn place(&self, host: &Host) -> PathBuf {
        place(host.roots(), self.pid)
    }

    /// Reads what only a person wants to know. Returns whether its command line is to be asked for.
    pub(super) fn look_closely(&mut self, host: &mut Host, users: &mut Users, command_line: CommandLine) -> bool {
        if !self.looked_now {
            self.read_resident(host);
        }
        self.read_user(host, users);
        self.line_kept = true;
        if self.kernel || command_line == CommandLine::Off {
            self.command_line = Some(String::new());
        }
        self.command_line.is_none() && !std::mem::replace(&mut self.line_asked, true)
    }

    pub(super) fn show(&self, clockwork: Clockwork) -> Process {
        let used = self.counts.since(self.opened);
        Process {
            pid: self.pid,
            start_ticks: self.level.start_ticks,
            user: self.user.clone().unwrap_or_default(),
            command: String::from_utf8_lossy(&self.comm).into_owned(),
            command_line: self.command_line.clone().unwrap_or_default(),
            container: self.container.clone(),
            cpu_ms: milliseconds(used.cpu_ticks(), clockwork),
            resident_bytes: self.level.resident_bytes,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
            major_faults: used.major_faults,
            minor_faults: used.minor_faults,
            threads: u32::try_from(self.level.threads).unwrap_or(u32::MAX),
        }
    }
}

fn place(roots: &Roots, pid: u32) -> PathBuf {
    roots.procfs.join(pid.to_string())
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
