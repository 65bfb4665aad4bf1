//! What of the host this process may see. Tried, not guessed from capabilities: a mount option, a security module or a
//! user namespace may deny what they promise.

use std::fs;
use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::Roots;
use crate::host::bus::Bus;

use crate::host::bus::SYSTEM_BUS;

/// Something that an ordinary user may not see.
#[derive(Debug)]
pub struct Sight {
    /// Its name in metrics and messages.
    pub name: &'static str,
    /// What is not shown without it.
    pub shows: &'static str,
    /// What shows it.
    pub needs: &'static str,
    is_denied: fn(&Roots) -> bool,
}

/// Denials that are enough: a process may let itself be seen by nobody, not so many.
const DENIALS: usize = 16;

/// All sights.
pub const SIGHTS: [Sight; 6] = [
    Sight {
        name: "processes",
        shows: "processes of other users",
        needs: "CAP_SYS_PTRACE, or the group that mount option gid of /proc names",
        is_denied: |roots| {
            // Where processes are hidden the first seems not to be there; in a captured tree there is no `self` either.
            let hidden = !roots.procfs.join("1").exists() && fs::symlink_metadata(roots.procfs.join("self")).is_ok();
            hidden || all_deny([roots.procfs.join("1/stat")])
        },
    },
    Sight {
        name: "process_io",
        shows: "bytes that processes of other users read and wrote",
        needs: "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        is_denied: |roots| all_deny(of_others(roots, "io")),
    },
    Sight {
        name: "process_memory",
        shows: "proportional memory of processes of other users",
        needs: "CAP_SYS_PTRACE",
        is_denied: |roots| all_deny(of_others(roots, "smaps_rollup")),
    },
    Sight {
        name: "process_descriptors",
        shows: "open files of processes of other users",
        needs: "CAP_DAC_READ_SEARCH",
        is_denied: |roots| all_deny(of_others(roots, "fd")),
    },
    Sight {
        name: "container_names",
        shows: "names, images and labels of Docker's containers",
        needs: "CAP_DAC_READ_SEARCH",
        is_denied: |roots| all_deny([roots.on_rootfs("/var/lib/docker/containers".as_ref())]),
    },
    Sight {
        name: "units",
        shows: "units of systemd that do not run, restarts of services, timers",
        needs: "a user that systemd's bus can name, as packaging/lapwing-agent.sysusers makes it",
        is_denied: |roots| Bus::refuses(&roots.rootfs.join(SYSTEM_BUS)),
    },
];

impl Sight {
    /// Whether this process is denied it. What is not there is not denied.
    #[must_use]
    pub fn is_denied(&self, roots: &Roots) -> bool {
        (self.is_denied)(roots)
    }
}

/// What this process is denied.
pub fn denied(roots: &Roots) -> impl Iterator<Item = &'static Sight> {
    SIGHTS.iter().filter(|sight| sight.is_denied(roots))
}

/// A file of processes that are not ours; to root all are.
fn of_others(roots: &Roots, file: &str) -> Vec<PathBuf> {
    let me = rustix::process::geteuid();
    let number = |entry: DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let listed = fs::read_dir(&roots.procfs).into_iter().flatten().flatten();
    let mut all: Vec<_> = listed.filter_map(number).collect();
    all.sort_unstable();
    let place = |pid: u32| roots.procfs.join(pid.to_string());
    let is_other =
        |place: &PathBuf| me.is_root() || fs::metadata(place).is_ok_and(|metadata| metadata.uid() != me.as_raw());
    all.into_iter().map(place).filter(is_other).map(|place| place.join(file)).collect()
}

/// Whether some may not be read, and none may. A thread of the kernel has no memory to show: that is no denial.
fn all_deny(places: impl IntoIterator<Item = PathBuf>) -> bool {
    let read = |place: PathBuf| match fs::metadata(&place) {
        Ok(metadata) if metadata.is_dir() => fs::read_dir(place).map(drop),
        _ => fs::read(place).map(drop),
    };
    let is_conclusive = |tried: &io::Result<()>| {
        tried.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::PermissionDenied, |()| true)
    };
    let mut tried = places.into_iter().map(read).filter(is_conclusive).take(DENIALS).peekable();
    tried.peek().is_some() && tried.all(|tried| tried.is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sight_is_documented() {
        let documented = include_str!("../../../docs/PRIVILEGES.md");
        for Sight { name, shows, needs, .. } in &SIGHTS {
            let row = documented.lines().find(|line| line.starts_with(&format!("| `{name}` | {shows}")));
            assert!(row.is_some_and(|row| row.ends_with(&format!("| {needs} |"))), "{name}: {row:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_denied() {
        let nowhere = Roots { procfs: "/nowhere".into(), rootfs: "/nowhere".into(), ..Roots::default() };
        assert_eq!(denied(&nowhere).count(), 0);
    }

    #[test]
    fn a_tree_without_its_first_process_is_one_that_hides_it() {
        let procfs = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("42", procfs.path().join("self")).unwrap();
        let roots = Roots { procfs: procfs.path().into(), rootfs: "/nowhere".into(), ..Roots::default() };
        assert_eq!(denied(&roots).map(|sight| sight.name).collect::<Vec<_>>(), ["processes"]);
        fs::create_dir(procfs.path().join("1")).unwrap();
        assert_eq!(denied(&roots).count(), 0);
    }
}
