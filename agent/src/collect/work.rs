//! What runs on the host: containers and services, then the processes in them.
//!
//! One collector, because a process is read only at ticks at which its cgroup used CPU, and is shown with the name of
//! its container. While the agent costs too much it looks at processes more seldom; at containers it looks each second.

use common::batch::Event;
use common::batch::Process;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::HOST;
use crate::collect::Samples;
use crate::collect::SeriesKey;
use crate::collect::Tick;
use crate::collect::cgroup::Cgroups;
use crate::collect::pace::Change;
use crate::collect::pace::Pace;
use crate::collect::process::Naming;
use crate::collect::process::Processes;
use crate::config::Config;
use crate::host::Host;
use crate::host::own_cpu_time;
use crate::identify::Directory;
use crate::identify::LabelFilter;

const INTERVAL: &Metric = metric("lapwing_agent_process_interval_seconds");

/// Containers, services, process groups, top processes.
pub(super) struct Work {
    cgroups: Cgroups,
    processes: Processes,
    pace: Pace,
    interval: SeriesKey,
}

impl Work {
    pub(super) fn new(config: &Config, samples: &mut Samples) -> Self {
        let naming = Naming { command_line: config.command_line, rules: config.groups.clone() };
        let sockets = config.engine_sockets.iter().map(|socket| config.roots.on_rootfs(socket));
        let directory = Directory::new(LabelFilter::new(config.container_labels.as_deref()), sockets);
        Self {
            cgroups: Cgroups::new(directory),
            processes: Processes::new(&config.roots.procfs, naming),
            pace: Pace::new(config.cpu_limit, config.process_interval_seconds),
            interval: samples.series(HOST, INTERVAL, &Labels::new()),
        }
    }
}

impl Collector for Work {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn tick(&mut self, tick: &mut Tick<'_>) -> Result<(), CollectError> {
        if let Some(change) = self.pace.judge(tick.moment.now, own_cpu_time()) {
            report(tick, change);
        }
        if tick.moment.due(INTERVAL.tier) {
            tick.samples.put(self.interval, f64::from(self.pace.interval_seconds()));
        }
        let cgroups = self.cgroups.tick(tick);
        if !self.pace.looks(tick.moment.first_in_window) {
            return cgroups;
        }
        let processes = self.processes.tick(tick, &self.cgroups);
        cgroups.and(processes)
    }

    fn processes(&mut self, host: &mut Host) -> Vec<Process> {
        self.processes.take_top(host)
    }
}

/// Says that the agent does less than it should, or more again.
fn report(tick: &mut Tick<'_>, change: Change) {
    let Change { used, before, after } = change;
    let per_cent = used * 100.0;
    let kind = if before < after {
        tracing::warn!(per_cent, interval_seconds = after, "agent costs too much and looks at processes more seldom");
        "agent_degraded"
    } else {
        tracing::info!(per_cent, interval_seconds = after, "agent looks at processes more often again");
        "agent_recovered"
    };
    let text = format!(
        "The agent used {per_cent:.1} % of a core for a minute: it looks at processes every {after} s, before every {before} s."
    );
    tick.samples.event(Event { at: tick.moment.stamp, kind: kind.to_owned(), entity: Labels::new(), text });
}
