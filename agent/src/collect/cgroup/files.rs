//! Files of one cgroup that are read: which they are in each version, and their descriptors.

use std::path::Path;
use std::path::PathBuf;

use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Controller;
use crate::collect::cgroup::tree::Trees;
use crate::host::Host;
use crate::host::KeptDescriptor;

/// What a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// CPU time; in version 2 its split and throttling too.
    Cpu,
    /// CPU time by kind.
    CpuSplit,
    /// Throttling.
    Throttling,
    /// Shares or weight.
    Shares,
    /// Memory in use.
    Memory,
    /// The most memory that was in use.
    MemoryMost,
    /// How often a limit was met; version 2 says it with the OOM kills.
    MemoryFailures,
    /// Kinds of memory.
    MemoryStat,
    /// The kernel's own memory; version 2 says it with the kinds.
    MemoryKernel,
    /// Swap in use.
    Swap,
    /// OOM kills; in version 2 those in cgroups inside too.
    Oom,
    /// OOM kills without those in cgroups inside.
    OomLocal,
    /// Block IO: bytes; in version 2 operations too.
    Io,
    /// Block IO: operations.
    IoOperations,
    /// Threads.
    Tasks,
    /// Processes by id, a line each.
    Processes,
    /// Whether anything lives in it.
    Populated,
    /// Time lost waiting for CPU.
    CpuPressure,
    /// Time lost waiting for memory.
    MemoryPressure,
    /// Time lost waiting for block IO.
    IoPressure,
}

/// How long a descriptor is worth its memory: to open a file and close it again costs five times what it costs to read
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As long as the cgroup is there: it is read of idle ones too.
    Always,
    /// As long as something runs in the cgroup.
    Busy,
    /// No longer than it is read.
    Never,
}

struct Row {
    subject: Subject,
    controller: Controller,
    /// What the file is called in versions 1 and 2: the first that is there.
    names: [&'static [&'static str]; 2],
    kept: Kept,
}

impl Row {
    fn names(&self, version: Version) -> &'static [&'static str] {
        let [v1, v2] = self.names;
        match version {
            Version::V1 => v1,
            Version::V2 => v2,
        }
    }
}

const fn row(subject: Subject, controller: Controller, names: [&'static [&'static str]; 2], kept: Kept) -> Row {
    Row { subject, controller, names, kept }
}

/// One row a subject, in the order of [`Subject`].
const ROWS: [Row; Subject::IoPressure as usize + 1] = [
    row(Subject::Cpu, Controller::CpuAccounting, [&["cpuacct.usage"], &["cpu.stat"]], Kept::Always),
    row(Subject::CpuSplit, Controller::CpuAccounting, [&["cpuacct.stat"], &[]], Kept::Busy),
    row(Subject::Throttling, Controller::Cpu, [&["cpu.stat"], &[]], Kept::Busy),
    row(Subject::Shares, Controller::Cpu, [&["cpu.shares"], &["cpu.weight"]], Kept::Never),
    row(Subject::Memory, Controller::Memory, [&["memory.usage_in_bytes"], &["memory.current"]], Kept::Always),
    row(Subject::MemoryMost, Controller::Memory, [&["memory.max_usage_in_bytes"], &["memory.peak"]], Kept::Busy),
    row(Subject::MemoryFailures, Controller::Memory, [&["memory.failcnt"], &[]], Kept::Busy),
    row(Subject::MemoryStat, Controller::Memory, [&["memory.stat"], &["memory.stat"]], Kept::Busy),
    row(Subject::MemoryKernel, Controller::Memory, [&["memory.kmem.usage_in_bytes"], &[]], Kept::Busy),
    row(Subject::Swap, Controller::Memory, [&[], &["memory.swap.current"]], Kept::Busy),
    row(Subject::Oom, Controller::Memory, [&["memory.oom_control"], &["memory.events"]], Kept::Busy),
    row(Subject::OomLocal, Controller::Memory, [&["memory.oom_control"], &["memory.events.local"]], Kept::Busy),
    // Before 4.16 what lies inside is not told with it.
    row(
        Subject::Io,
        Controller::Io,
        [&["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"], &["io.stat"]],
        Kept::Always,
    ),
    row(
        Subject::IoOperations,
        Controller::Io,
        [&["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"], &[]],
        Kept::Busy,
    ),
    row(Subject::Tasks, Controller::Tasks, [&["pids.current"], &["pids.current"]], Kept::Busy),
    row(Subject::Processes, Controller::CpuAccounting, [&["cgroup.procs"], &["cgroup.procs"]], Kept::Never),
    row(Subject::Populated, Controller::Tasks, [&[], &["cgroup.events"]], Kept::Never),
    row(Subject::CpuPressure, Controller::Cpu, [&[], &["cpu.pressure"]], Kept::Busy),
    row(Subject::MemoryPressure, Controller::Memory, [&[], &["memory.pressure"]], Kept::Busy),
    row(Subject::IoPressure, Controller::Io, [&[], &["io.pressure"]], Kept::Always),
];

const _: () = {
    let mut at = 0;
    while at < ROWS.len() {
        assert!(ROWS[at].subject as usize == at, "rows stand in the order of subjects");
        at += 1;
    }
};

/// The files of one cgroup.
#[derive(Debug, Default)]
pub(super) struct Files {
    found: [Option<Found>; ROWS.len()],
    /// Where they are: one directory in each tree, which most of them share.
    directories: Vec<Box<Path>>,
    /// Whether the cgroup ended: the file that each has is there no more.
    pub gone: bool,
}

/// A file that is there.
#[derive(Debug)]
struct Found {
    version: Version,
    /// Which of its names it has, and in which of the directories.
    name: u8,
    directory: u8,
    descriptor: KeptDescriptor,
}

impl Files {
    /// Looks for those that were not there at the last look: controllers may be enabled, or come, late.
    pub(super) fn find(&mut self, host: &mut Host, trees: &Trees, cgroup: &str) {
        for (at, row) in ROWS.iter().enumerate() {
            if self.found[at].is_none() {
                let mut places = trees.of(row.controller);
                self.found[at] = places.find_map(|(version, root)| {
                    self.open(host, row, version, root.join(cgroup.trim_start_matches('/')))
                });
            }
        }
    }

    fn open(&mut self, host: &mut Host, row: &Row, version: Version, directory: PathBuf) -> Option<Found> {
        let mut descriptor = KeptDescriptor::default();
        let mut names = row.names(version).iter();
        let name = names.position(|name| host.read_kept(&mut descriptor, |_| directory.join(name)).is_ok())?;
        if row.kept != Kept::Always {
            descriptor.close();
        }
        let known = self.directories.iter().position(|known| **known == *directory);
        let directory = known.unwrap_or_else(|| {
            self.directories.push(directory.into());
            self.directories.len() - 1
        });
        Some(Found { version, name: u8::try_from(name).ok()?, directory: u8::try_from(directory).ok()?, descriptor })
    }

    /// Whether one is there.
    pub(super) fn has(&self, subject: Subject) -> bool {
        self.found[subject as usize].is_some()
    }

    /// Gives back the descriptors that are not worth their memory while nothing runs in the cgroup.
    pub(super) fn rest(&mut self) {
        let worth_nothing = self.found.iter_mut().zip(&ROWS).filter(|(_, row)| row.kept != Kept::Always);
        worth_nothing.flat_map(|(found, _)| found).for_each(|found| found.descriptor.close());
    }

    /// Reads one, if it is there.
    pub(super) fn read<'a>(&mut self, host: &'a mut Host, subject: Subject) -> Option<(Version, &'a [u8])> {
        let row = &ROWS[subject as usize];
        let Self { found, directories, .. } = self;
        let Found { version, name, directory, descriptor } = found[subject as usize].as_mut()?;
        let name = row.names(*version)[usize::from(*name)];
        match host.read_kept(descriptor, |_| directories[usize::from(*directory)].join(name)) {
            Ok(bytes) => {
                if row.kept == Kept::Never {
                    descriptor.close();
                }
                Some((*version, bytes))
            }
            Err(error) => {
                if error.is_missing() {
                    // Controllers are switched off under the living, too; then only their files go.
                    self.found[subject as usize] = None;
                    self.gone |= subject == Subject::Cpu || self.found.iter().all(Option::is_none);
                }
                None
            }
        }
    }
}
