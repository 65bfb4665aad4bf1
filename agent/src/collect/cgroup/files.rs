//! Files of one cgroup that are read: which they are in each version, and their descriptors.

use std::path::Path;

use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Controller;
use crate::collect::cgroup::tree::Trees;
use crate::host::Host;
use crate::host::KeptFile;

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

struct Row {
    subject: Subject,
    controller: Controller,
    v1: &'static str,
    v2: &'static str,
    /// Whether it is read each second, so that its descriptor is worth its memory.
    kept: bool,
}

const fn row(subject: Subject, controller: Controller, [v1, v2]: [&'static str; 2], kept: bool) -> Row {
    Row { subject, controller, v1, v2, kept }
}

const SECOND: bool = true;
const WINDOW: bool = false;

/// One row a subject, in the order of [`Subject`].
const ROWS: [Row; Subject::IoPressure as usize + 1] = [
    row(Subject::Cpu, Controller::CpuAccounting, ["cpuacct.usage", "cpu.stat"], SECOND),
    row(Subject::CpuSplit, Controller::CpuAccounting, ["cpuacct.stat", ""], WINDOW),
    row(Subject::Throttling, Controller::Cpu, ["cpu.stat", ""], SECOND),
    row(Subject::Shares, Controller::Cpu, ["cpu.shares", "cpu.weight"], WINDOW),
    row(Subject::Memory, Controller::Memory, ["memory.usage_in_bytes", "memory.current"], SECOND),
    row(Subject::MemoryMost, Controller::Memory, ["memory.max_usage_in_bytes", "memory.peak"], WINDOW),
    row(Subject::MemoryFailures, Controller::Memory, ["memory.failcnt", ""], WINDOW),
    row(Subject::MemoryStat, Controller::Memory, ["memory.stat", "memory.stat"], WINDOW),
    row(Subject::MemoryKernel, Controller::Memory, ["memory.kmem.usage_in_bytes", ""], WINDOW),
    row(Subject::Swap, Controller::Memory, ["", "memory.swap.current"], WINDOW),
    row(Subject::Oom, Controller::Memory, ["memory.oom_control", "memory.events"], SECOND),
    row(Subject::OomLocal, Controller::Memory, ["memory.oom_control", "memory.events.local"], WINDOW),
    row(Subject::Io, Controller::Io, ["blkio.throttle.io_service_bytes_recursive", "io.stat"], SECOND),
    row(Subject::IoOperations, Controller::Io, ["blkio.throttle.io_serviced_recursive", ""], SECOND),
    row(Subject::Tasks, Controller::Tasks, ["pids.current", "pids.current"], SECOND),
    row(Subject::Processes, Controller::CpuAccounting, ["cgroup.procs", "cgroup.procs"], WINDOW),
    row(Subject::Populated, Controller::Tasks, ["", "cgroup.events"], WINDOW),
    row(Subject::CpuPressure, Controller::Cpu, ["", "cpu.pressure"], WINDOW),
    row(Subject::MemoryPressure, Controller::Memory, ["", "memory.pressure"], WINDOW),
    row(Subject::IoPressure, Controller::Io, ["", "io.pressure"], WINDOW),
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
    found: [Option<(Version, KeptFile)>; ROWS.len()],
    /// Whether the cgroup ended: the file that each has is there no more.
    pub gone: bool,
}

impl Files {
    /// Looks for those that were not there at the last look: controllers may be enabled, or come, late.
    pub(super) fn find(&mut self, host: &mut Host, trees: &Trees, cgroup: &str) {
        for (slot, row) in self.found.iter_mut().zip(&ROWS).filter(|(slot, _)| slot.is_none()) {
            *slot = trees.of(row.controller).find_map(|(version, root)| open(host, row, version, root, cgroup));
        }
    }

    /// Whether one is there.
    pub(super) fn has(&self, subject: Subject) -> bool {
        self.found[subject as usize].is_some()
    }

    /// Reads one, if it is there.
    pub(super) fn read<'a>(&mut self, host: &'a mut Host, subject: Subject) -> Option<(Version, &'a [u8])> {
        let (version, file) = self.found[subject as usize].as_mut()?;
        match host.read(file) {
            Ok(bytes) => {
                if !ROWS[subject as usize].kept {
                    file.close();
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

fn open(host: &mut Host, row: &Row, version: Version, root: &Path, cgroup: &str) -> Option<(Version, KeptFile)> {
    let name = match version {
        Version::V1 => row.v1,
        Version::V2 => row.v2,
    };
    if name.is_empty() {
        return None;
    }
    let mut file = KeptFile::in_one_piece(root.join(cgroup.trim_start_matches('/')).join(name));
    host.read(&mut file).ok()?;
    if !row.kept {
        file.close();
    }
    Some((version, file))
}
