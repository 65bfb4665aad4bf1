//! Which processes the kernel killed for want of memory: its log says so, where it may be read.

use std::collections::VecDeque;
use std::path::Path;

use crate::host::Host;
use crate::host::KernelLog;
use crate::identify::identify;

/// Killed processes that nobody has asked for: those of the host, or of cgroups that are neither container nor service.
const VICTIMS_MAX: usize = 64;

/// Processes that were killed lately.
#[derive(Debug, Default)]
pub(super) struct Victims {
    log: KernelLog,
    lately: VecDeque<Victim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Victim {
    cgroup: String,
    /// `tail (pid 4711)`
    named: String,
}

impl Victims {
    /// Begins to listen to the kernel's log.
    pub(super) fn new(host: &Host) -> Self {
        let log = KernelLog::open(&host.roots().on_rootfs(Path::new("/dev/kmsg")));
        Self { log, lately: VecDeque::new() }
    }

    /// Names those that were killed in a container or service since the last call, behind a colon; nothing where the log
    /// does not say.
    pub(super) fn take(&mut self, root: &str) -> String {
        let Self { log, lately } = self;
        log.read(|record| {
            if let Some(victim) = parse(record) {
                if lately.len() == VICTIMS_MAX {
                    lately.pop_front();
                }
                lately.push_back(victim);
            }
        });
        let is_here = |victim: &Victim| identify(&victim.cgroup).is_some_and(|identity| identity.root == root);
        let (here, elsewhere): (VecDeque<_>, VecDeque<_>) = lately.drain(..).partition(is_here);
        *lately = elsewhere;
        let named: Vec<_> = here.into_iter().map(|victim| victim.named).collect();
        if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) }
    }
}

/// Since Linux 4.19: `6,3412,…,-;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/docker/…,task=tail,pid=4711,uid=0`. The
/// command may hold anything, the path of a cgroup nearly.
fn parse(record: &[u8]) -> Option<Victim> {
    let line = std::str::from_utf8(record).ok()?.lines().next()?;
    let (_, line) = line.split_once(";oom-kill:")?;
    let (line, _) = line.rsplit_once(",uid=")?;
    let (line, pid) = line.rsplit_once(",pid=")?;
    let pid: u32 = pid.parse().ok()?;
    let (_, line) = line.split_once(",task_memcg=")?;
    let (cgroup, command) = line.split_once(",task=")?;
    Some(Victim { cgroup: cgroup.to_owned(), named: format!("{command} (pid {pid})") })
}

/// Any bytes as a record.
pub(super) fn parse_anything(bytes: &[u8]) {
    parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "91a1a1f01a5ed31b6460eda81aa65ce36f7aa3901f29321666ee6323fa42f546";

    fn check(record: &str, expect: Option<(&str, &str)>) {
        let found = parse(record.replace('@', ID).as_bytes());
        let found = found.map(|victim| (victim.cgroup.replace(ID, "@"), victim.named));
        assert_eq!(found, expect.map(|(cgroup, named)| (cgroup.to_owned(), named.to_owned())), "{record}");
    }

    #[test]
    fn records_of_kills() {
        // Recorded from Linux 6.18.
        check(
            "6,3412,27269353620,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=@,mems_allowed=0,\
             oom_memcg=/docker/@,task_memcg=/docker/@,task=busybox,pid=19553,uid=0\n",
            Some(("/docker/@", "busybox (pid 19553)")),
        );
        check(
            "6,1,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
             task_memcg=/system.slice/a.service,task=x,pid=1,y,pid=7,uid=0\n SUBSYSTEM=x\n",
            Some(("/system.slice/a.service", "x,pid=1,y (pid 7)")),
        );
        check("3,3413,1,-;Memory cgroup out of memory: Killed process 19553 (busybox) total-vm:18184kB", None);
        check("6,1,1,-;oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/,task=x,pid=,uid=0", None);
        check("6,1,1,-;oom-kill:task=x,pid=1,uid=0", None);
        check("oom-kill:", None);
        check("", None);
    }

    #[test]
    fn each_container_has_its_own() {
        let of = |cgroup: &str, pid: u32| Victim { cgroup: cgroup.replace('@', ID), named: format!("x (pid {pid})") };
        let inner = format!("/docker/@/docker/{}", ID.replace('9', "8"));
        let lately = VecDeque::from([of("/docker/@", 1), of(&inner, 2), of("/docker/@/worker", 3), of("/", 4)]);
        let mut victims = Victims { log: KernelLog::default(), lately };
        let outer = format!("/docker/{ID}");
        assert_eq!(victims.take(&outer), ": x (pid 1), x (pid 3)");
        assert_eq!(victims.take(&outer), "");
        assert_eq!(victims.take(&inner.replace('@', ID)), ": x (pid 2)");
        assert_eq!(victims.lately, [of("/", 4)]);
    }
}
