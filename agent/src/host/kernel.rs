//! Facts that come from system calls instead of files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::PROC_SUPER_MAGIC;
use rustix::fs::statfs;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getpid;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::process::test_kill_process;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// What the kernel calls itself and the host. Bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uname {
    /// `Linux`.
    pub sysname: String,
    /// Name and number of the kernel's release.
    pub release: String,
    /// The kernel's build.
    pub version: String,
    /// Architecture.
    pub machine: String,
    /// Host name.
    pub nodename: String,
    /// NIS domain name, `(none)` where there is none.
    pub domainname: String,
}

/// Asks the kernel for its name.
#[must_use]
pub fn uname() -> Uname {
    let uname = rustix::system::uname();
    Uname {
        sysname: uname.sysname().to_string_lossy().into_owned(),
        release: uname.release().to_string_lossy().into_owned(),
        version: uname.version().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        nodename: uname.nodename().to_string_lossy().into_owned(),
        domainname: uname.domainname().to_string_lossy().into_owned(),
    }
}

/// `USER_HZ`: the unit of CPU times in `/proc`.
#[must_use]
pub fn clock_ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Size of a page of memory: the unit of `statm`.
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// CPU time that this process has used, all threads together.
#[must_use]
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Allows this process as many descriptors as it may have without privilege: each process and each cgroup takes a few
/// kept ones. Returns how many that are.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
    allowed.unwrap_or(u64::MAX)
}

/// How many descriptors this process may have open at once.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether a directory is the kernel's tree of processes, not a copy of one.
pub(super) fn is_procfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

/// Whether it is that of the namespace in which this process itself has its id.
pub(super) fn is_own_procfs(path: &Path) -> bool {
    let myself = getpid().as_raw_nonzero().to_string();
    fs::read_link(path.join("self")).is_ok_and(|shown| shown == Path::new(&myself))
}

/// Whether there is a process of this id in the namespace of this one. No signal is sent.
pub(super) fn is_process(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Whether an error number says that what the file belonged to is gone: kernfs answers `ENODEV` for a removed cgroup,
/// procfs `ESRCH` for an ended process; or that the kernel was told to go without it: pressure then answers `EOPNOTSUPP`.
pub(super) fn is_gone(errno: i32) -> bool {
    [Errno::NODEV, Errno::SRCH, Errno::OPNOTSUPP].iter().any(|gone| gone.raw_os_error() == errno)
}
