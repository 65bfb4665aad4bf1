//! Where the cgroup trees are: version 1, version 2, or both at once, chosen for each controller.

use std::path::Path;
use std::path::PathBuf;

use crate::collect::cgroup::parse::Version;
use crate::host::Host;
use crate::host::KeptDirectory;

/// Controllers whose files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// Quota and throttling.
    Cpu,
    /// CPU time; version 2 counts it without any controller.
    CpuAccounting,
    /// Memory.
    Memory,
    /// Block devices.
    Io,
    /// Tasks.
    Tasks,
}

const CONTROLLERS: [(Controller, &str); 5] = [
    (Controller::CpuAccounting, "cpuacct"),
    (Controller::Cpu, "cpu"),
    (Controller::Memory, "memory"),
    (Controller::Io, "blkio"),
    (Controller::Tasks, "pids"),
];

/// One mounted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// Where it is mounted, under the roots in use.
    pub root: PathBuf,
    version: Version,
    /// Version 1's controllers; version 2 has whatever version 1 has not.
    controllers: Vec<Controller>,
}

/// All trees that hold controllers of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trees(Vec<Tree>);

impl Trees {
    /// Finds them: by the mount table, or, where that names none below the root in use, by what stands there.
    pub(super) fn find(host: &mut Host) -> Self {
        let cgroupfs = host.roots().cgroupfs.clone();
        let mountinfo = host.roots().procfs.join("self/mountinfo");
        let mounted = host.read_once(&mountinfo).map(|table| parse_mounts(table, &cgroupfs)).unwrap_or_default();
        let mut trees: Vec<_> = mounted.into_iter().filter(|tree| is_there(host, &tree.root)).collect();
        if trees.is_empty() {
            trees = probe(host, &cgroupfs);
        }
        Self(trees)
    }

    /// Places where a file of a controller may be, version 1 before version 2: on a hybrid host a controller is in one
    /// of them, and a service without accounting only in the second.
    pub(super) fn of(&self, controller: Controller) -> impl Iterator<Item = (Version, &Path)> {
        let v1 = self.0.iter().filter(move |tree| tree.controllers.contains(&controller));
        let v2 = self.0.iter().filter(|tree| tree.version == Version::V2);
        v1.chain(v2).map(|tree| (tree.version, tree.root.as_path()))
    }

    /// Roots that together show every cgroup with something to read.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        let shows = |tree: &&Tree| {
            let wanted = [Controller::CpuAccounting, Controller::Memory];
            tree.version == Version::V2 || wanted.iter().any(|controller| tree.controllers.contains(controller))
        };
        self.0.iter().filter(shows).map(|tree| tree.root.as_path())
    }
}

fn is_there(host: &mut Host, path: &Path) -> bool {
    host.list(&mut KeptDirectory::new(path), |_| {}).is_ok()
}

/// Reads the cgroup mounts below `/sys/fs/cgroup` from a mount table.
pub(super) fn parse_mounts(mountinfo: &[u8], cgroupfs: &Path) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::new();
    for line in String::from_utf8_lossy(mountinfo).lines() {
        let Some(tree) = parse_mount(line, cgroupfs) else { continue };
        if !trees.iter().any(|known| known.root == tree.root) {
            trees.push(tree);
        }
    }
    trees
}

fn parse_mount(line: &str, cgroupfs: &Path) -> Option<Tree> {
    let (place, kind) = line.split_once(" - ")?;
    let mount_point = Path::new(place.split(' ').nth(4)?);
    let mut kind = kind.split(' ');
    let filesystem = kind.next()?;
    let options = kind.nth(1).unwrap_or_default();
    let root = cgroupfs.join(mount_point.strip_prefix("/sys/fs/cgroup").ok()?);
    match filesystem {
        "cgroup2" => Some(Tree { root, version: Version::V2, controllers: Vec::new() }),
        "cgroup" => {
            let controllers: Vec<_> = options.split(',').filter_map(controller).collect();
            (!controllers.is_empty()).then_some(Tree { root, version: Version::V1, controllers })
        }
        _ => None,
    }
}

fn probe(host: &mut Host, cgroupfs: &Path) -> Vec<Tree> {
    if host.read_once(&cgroupfs.join("cgroup.controllers")).is_ok() {
        return vec![Tree { root: cgroupfs.to_owned(), version: Version::V2, controllers: Vec::new() }];
    }
    let v1 = CONTROLLERS.iter().map(|(controller, name)| Tree {
        root: cgroupfs.join(name),
        version: Version::V1,
        controllers: vec![*controller],
    });
    v1.filter(|tree| is_there(host, &tree.root)).collect()
}

fn controller(name: &str) -> Option<Controller> {
    CONTROLLERS.iter().find(|(_, known)| *known == name).map(|(controller, _)| *controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, controller: Controller, expect: &[(Version, &str)]) {
        let trees = Trees(parse_mounts(mountinfo.as_bytes(), Path::new("/c")));
        let found: Vec<_> = trees.of(controller).map(|(version, root)| (version, root.to_str().unwrap())).collect();
        assert_eq!(found, expect);
    }

    /// Recorded from a hybrid host, Linux 6.18.
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn each_controller_is_looked_for_where_it_is() {
        check(HYBRID, Controller::Cpu, &[(Version::V1, "/c/cpu"), (Version::V2, "/c/unified")]);
        check(HYBRID, Controller::Tasks, &[(Version::V2, "/c/unified")]);
        let joined = "1 2 0:3 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
        check(joined, Controller::CpuAccounting, &[(Version::V1, "/c/cpu,cpuacct")]);
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        check(unified, Controller::Memory, &[(Version::V2, "/c/")]);
        check("30 24 0:26 / /elsewhere rw - cgroup2 cgroup2 rw\ngarbage - cgroup\n - \n", Controller::Cpu, &[]);
    }

    #[test]
    fn trees_that_show_cgroups() {
        let trees = Trees(parse_mounts(HYBRID.as_bytes(), Path::new("/c")));
        let roots: Vec<_> = trees.roots().map(|root| root.to_str().unwrap()).collect();
        assert_eq!(roots, ["/c/cpuacct", "/c/memory", "/c/unified"]);
    }
}
