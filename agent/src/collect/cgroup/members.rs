//! Who is in a cgroup.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use crate::collect::cgroup::parse;
use crate::collect::cgroup::tree::Trees;
use crate::collect::text;
use crate::host::DirectoryEntry;
use crate::host::Host;
use crate::host::KeptDirectory;

/// Processes and cgroups of one cgroup that are looked at: the oldest stands among the first.
const MEMBERS_MAX: usize = 16;

/// How deep a cgroup's processes may lie: a runtime or a system manager puts them one or two cgroups below.
const DEPTH_MAX: usize = 3;

/// The first processes of a cgroup, or of the first cgroup in it that has any; and the file that names them.
pub(super) fn first(host: &mut Host, trees: &Trees, cgroup: &str) -> Option<(PathBuf, Vec<u64>)> {
    let roots: Vec<PathBuf> = trees.roots().map(|root| root.join(cgroup.trim_start_matches('/'))).collect();
    roots.iter().find_map(|root| search(host, root, DEPTH_MAX))
}

/// The processes that a file names.
pub(super) fn listed(host: &mut Host, file: &Path) -> Vec<u64> {
    let Ok(bytes) = host.read_piece(file) else { return Vec::new() };
    // Of another pid namespace the kernel names none but 0.
    text::lines(bytes).filter_map(text::number).filter(|pid| 0 < *pid).take(MEMBERS_MAX).collect()
}

fn search(host: &mut Host, directory: &Path, depth: usize) -> Option<(PathBuf, Vec<u64>)> {
    let file = directory.join("cgroup.procs");
    let members = listed(host, &file);
    if !members.is_empty() {
        return Some((file, members));
    }
    let mut below = Vec::new();
    let list = |entry: DirectoryEntry<'_>| {
        if entry.is_directory && below.len() < MEMBERS_MAX {
            below.push(directory.join(OsStr::from_bytes(entry.name)));
        }
    };
    if 0 < depth {
        host.list(&mut KeptDirectory::new(directory), list).ok()?;
    }
    below.iter().find_map(|directory| search(host, directory, depth - 1))
}

/// When the oldest of some processes began, in clock ticks since boot.
pub(super) fn oldest_start_ticks(host: &mut Host, members: &[u64]) -> Option<u64> {
    members.iter().filter_map(|pid| start_ticks(host, *pid)).min()
}

/// The command of a process.
pub(super) fn command(host: &mut Host, pid: u64) -> Option<Vec<u8>> {
    let path = host.roots().procfs.join(pid.to_string()).join("comm");
    host.read_once(&path).ok().map(|comm| comm.trim_ascii().to_vec())
}

fn start_ticks(host: &mut Host, pid: u64) -> Option<u64> {
    let path = host.roots().procfs.join(pid.to_string()).join("stat");
    let stat = host.read_once(&path).ok()?;
    let behind_name = stat.iter().rposition(|&byte| byte == b')')?;
    let field = stat[behind_name..].split(|&byte| byte == b' ').nth(20)?;
    parse::single(field)
}
