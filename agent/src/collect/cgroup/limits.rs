//! What a cgroup may use at most: its own limits, or those of a cgroup around it where they are tighter.

use std::collections::HashMap;

use crate::collect::cgroup::parse;
use crate::collect::cgroup::parse::Version;
use crate::collect::cgroup::tree::Controller;
use crate::collect::cgroup::tree::Trees;
use crate::host::Host;

/// Limits, as far as they can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// CPU microseconds in a period, and the period; nothing without a limit.
    pub cpu: Option<(u64, u64)>,
    /// Bytes of memory; [`parse::NO_LIMIT`] without a limit.
    pub memory: Option<u64>,
    /// Threads, likewise.
    pub threads: Option<u64>,
}

/// Limits that were read in one tick: cgroups side by side have the same around them.
#[derive(Debug, Default)]
pub(super) struct LimitsRead(HashMap<String, Limits>);

impl LimitsRead {
    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The limits that hold for a cgroup.
    pub(super) fn effective(&mut self, host: &mut Host, trees: &Trees, cgroup: &str) -> Limits {
        let own = Limits::read(host, trees, cgroup);
        let Some((above, _)) = cgroup.rsplit_once('/').filter(|(above, _)| !above.is_empty()) else { return own };
        let around = match self.0.get(above) {
            Some(known) => *known,
            None => {
                let found = self.effective(host, trees, above);
                self.0.insert(above.to_owned(), found);
                found
            }
        };
        own.or_tighter(around)
    }
}

impl Limits {
    fn read(host: &mut Host, trees: &Trees, cgroup: &str) -> Self {
        let mut read = |controller, names| read(host, trees, cgroup, (controller, names));
        Self {
            cpu: read(Controller::Cpu, ["cpu.cfs_quota_us", "cpu.max"]).and_then(|(version, quota)| match version {
                // -1 is no limit, and not a number here.
                Version::V1 => {
                    let (_, period) = read(Controller::Cpu, ["cpu.cfs_period_us", ""])?;
                    Some((parse::single(&quota)?, parse::single(&period)?))
                }
                Version::V2 => parse::cpu_max(&quota),
            }),
            memory: read(Controller::Memory, ["memory.limit_in_bytes", "memory.max"])
                .and_then(|(_, limit)| parse::limit(&limit)),
            threads: read(Controller::Tasks, ["pids.max", "pids.max"]).and_then(|(_, limit)| parse::limit(&limit)),
        }
    }

    fn or_tighter(self, other: Self) -> Self {
        let share = |(quota, period): (u64, u64)| parse::scaled(quota, parse::scaled(period.max(1), 1.0));
        Self {
            cpu: match (self.cpu, other.cpu) {
                (Some(own), Some(other)) if share(other) < share(own) => Some(other),
                (own, other) => own.or(other),
            },
            memory: least(self.memory, other.memory),
            threads: least(self.threads, other.threads),
        }
    }
}

fn least(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    left.into_iter().chain(right).min()
}

/// Reads a file of a cgroup by its names in both versions.
fn read(
    host: &mut Host,
    trees: &Trees,
    cgroup: &str,
    (controller, [v1, v2]): (Controller, [&str; 2]),
) -> Option<(Version, Vec<u8>)> {
    trees.of(controller).find_map(|(version, root)| {
        let name = if version == Version::V1 { v1 } else { v2 };
        let file = root.join(cgroup.trim_start_matches('/')).join(name);
        let bytes = if name.is_empty() { None } else { host.read_piece(&file).ok() };
        bytes.map(|bytes| (version, bytes.to_vec()))
    })
}
