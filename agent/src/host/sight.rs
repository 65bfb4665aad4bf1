//! What of the host this process may see. Tried, not guessed from capabilities: a mount option, a security module or a
//! user namespace may deny what they promise.

use std::fs;
use std::io;

use crate::config::Roots;

/// Something that an ordinary user may not see.
#[derive(Debug)]
pub struct Sight {
    /// Its name in metrics and messages.
    pub name: &'static str,
    /// What is not shown without it.
    pub shows: &'static str,
    /// What shows it.
    pub needs: &'static str,
    look: fn(&Roots) -> io::Result<()>,
}

/// Tried at the first process, which belongs to root where it is the host's.
pub const SIGHTS: [Sight; 5] = [
    Sight {
        name: "processes",
        shows: "processes of other users",
        needs: "CAP_SYS_PTRACE, or the group that mount option gid of /proc names",
        look: |roots| match fs::metadata(roots.procfs.join("1")) {
            // hidepid=2 denies that it exists; a captured tree has none, and no `self` either.
            Err(_) if fs::symlink_metadata(roots.procfs.join("self")).is_ok() => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => fs::read(roots.procfs.join("1/stat")).map(drop),
        },
    },
    Sight {
        name: "process_io",
        shows: "bytes that processes of other users read and wrote",
        needs: "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        look: |roots| fs::read(roots.procfs.join("1/io")).map(drop),
    },
    Sight {
        name: "process_memory",
        shows: "proportional memory of processes of other users",
        needs: "CAP_SYS_PTRACE",
        look: |roots| fs::read(roots.procfs.join("1/smaps_rollup")).map(drop),
    },
    Sight {
        name: "process_descriptors",
        shows: "open files of processes of other users",
        needs: "CAP_DAC_READ_SEARCH",
        look: |roots| fs::read_dir(roots.procfs.join("1/fd")).map(drop),
    },
    Sight {
        name: "container_names",
        shows: "names, images and labels of Docker's containers",
        needs: "CAP_DAC_READ_SEARCH",
        look: |roots| fs::read_dir(roots.on_rootfs("/var/lib/docker/containers".as_ref())).map(drop),
    },
];

impl Sight {
    /// Whether this process is denied it. What is not there is not denied.
    #[must_use]
    pub fn is_denied(&self, roots: &Roots) -> bool {
        (self.look)(roots).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// What this process is denied.
pub fn denied(roots: &Roots) -> impl Iterator<Item = &'static Sight> {
    SIGHTS.iter().filter(|sight| sight.is_denied(roots))
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
