//! What runs on the host: containers and services, then the processes in them.
//!
//! One collector, because a process is read only at ticks at which its cgroup used CPU, and is shown with the name of
//! its container.

use common::batch::Process;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::Tick;
use crate::collect::cgroup::Cgroups;
use crate::config::CommandLine;
use crate::host::Host;

/// Containers, services, process groups, top processes.
pub(super) struct Work {
    cgroups: Cgroups,
}

impl Work {
    pub(super) fn new(_: CommandLine) -> Self {
        Self { cgroups: Cgroups::default() }
    }
}

impl Collector for Work {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        self.cgroups.tick(tick)
    }

    fn processes(&mut self, _: &mut Host) -> Vec<Process> {
        Vec::new()
    }
}
