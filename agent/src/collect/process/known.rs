//! One process: what was read of it, and what of that its group has been given.

use std::path::Path;

use common::batch::Process;

use crate::collect::cgroup::Cgroups;
use crate::collect::cgroup::Handle;
use crate::collect::process::group::Clockwork;
use crate::collect::process::group::Counts;
use crate::collect::process::group::Groups;
use crate::collect::process::group::Level;
use crate::collect::process::mask;
use crate::collect::process::stat;
use crate::collect::process::stat::Stat;
use crate::collect::process::top::Measures;
use crate::config::CommandLine;
use crate::host::Host;
use crate::host::KeptFile;
use crate::host::page_bytes;
use crate::identify::Users;

/// What is known of a process.
#[derive(Debug)]
pub(super) struct Known {
    pub stat: KeptFile,
    io: KeptFile,
    io_refused: bool,
    /// Whether it may have run since `/proc/P/io` was read.
    pub ran: bool,
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
    /// Read when it is first shown.
    pub command_line: Option<String>,
    user: Option<String>,
}

impl Known {
    pub(super) fn new(procfs: &Path, pid: u32) -> Self {
        let place = procfs.join(pid.to_string());
        Self {
            stat: KeptFile::in_one_piece(place.join("stat")),
            io: KeptFile::in_one_piece(place.join("io")),
            io_refused: false,
            ran: true,
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
            user: None,
        }
    }

    /// Takes what `/proc/P/stat` says. Returns whether it runs another program than before.
    pub(super) fn take(&mut self, stat: &Stat<'_>) -> bool {
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
    pub(super) fn begin_here(&mut self) {
        (self.counts.read_bytes, self.counts.written_bytes) = (0, 0);
        (self.given, self.opened, self.has_past) = (self.counts, self.counts, true);
    }

    pub(super) fn identify(&mut self, host: &mut Host, cgroups: &Cgroups, pid: u32) {
        let path = host.roots().procfs.join(pid.to_string()).join("cgroup");
        let cgroup = host.read_once(&path).ok().and_then(stat::parse_cgroup);
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

    /// Name of its group: its command, of a kernel thread without what it works on.
    pub(super) fn name(&self) -> String {
        let name = String::from_utf8_lossy(&self.comm);
        let name = if self.kernel { name.split('/').next().unwrap_or_default() } else { &name };
        name.to_owned()
    }

    /// Gives its group, once that is known, what it used since the last call. Returns what that was.
    pub(super) fn give(&mut self, groups: &mut Groups) -> Counts {
        let Some(group) = self.group.filter(|_| self.counts != self.given) else { return Counts::default() };
        let used = self.counts.since(std::mem::replace(&mut self.given, self.counts));
        groups.add(group, used);
        used
    }

    /// Reads what it read and wrote. What its ended children did was theirs, as far as we saw it.
    pub(super) fn read_io(&mut self, host: &mut Host) {
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
        self.ran = false;
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

    /// Reads what only a person wants to know.
    pub(super) fn look_closely(&mut self, host: &mut Host, users: &mut Users, command_line: CommandLine, pid: u32) {
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

    pub(super) fn show(&self, pid: u32, clockwork: Clockwork) -> Process {
        let used = self.counts.since(self.opened);
        Process {
            pid,
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

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "of one window"
)]
fn milliseconds(ticks: u64, clockwork: Clockwork) -> u64 {
    (ticks as f64 * 1_000.0 / clockwork.ticks_per_second) as u64
}
