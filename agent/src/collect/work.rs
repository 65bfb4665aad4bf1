//! What runs on the host: containers and services, then the processes in them.
//!
//! One collector, because a process is read only at ticks at which its cgroup used CPU, and is shown with the name of
//! its container.

use common::batch::Process;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Tick;
use crate::collect::cgroup::Cgroups;
use crate::collect::process::Processes;
use crate::config::CommandLine;
use crate::config::Roots;
use crate::host::Host;

/// Containers, services, process groups, top processes.
pub(super) struct Work {
    cgroups: Cgroups,
    processes: Processes,
}

impl Work {
    pub(super) fn new(roots: &Roots, command_line: CommandLine) -> Self {
        Self { cgroups: Cgroups::default(), processes: Processes::new(&roots.procfs, command_line) }
    }
}

impl Collector for Work {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        let cgroups = self.cgroups.tick(tick);
        let processes = self.processes.tick(tick, &self.cgroups);
        cgroups.and(processes)
    }

    fn processes(&mut self, host: &mut Host) -> Vec<Process> {
        self.processes.take_top(host)
    }
}
