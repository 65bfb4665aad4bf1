//! `/proc/P/stat`, `statm`, `io`, `cgroup`, `status`, `limits` and `smaps_rollup`. Pure.

use crate::collect::text;

/// What `/proc/P/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Name of the program, at most 15 bytes for a process of a user: any bytes, parentheses and newlines among them.
    pub comm: &'a [u8],
    /// State letter.
    pub state: u8,
    /// The process that waits for its end.
    pub parent: u32,
    /// Kernel flags.
    pub flags: u64,
    /// Page faults that needed no storage.
    pub minor_faults: u64,
    /// Page faults that needed storage.
    pub major_faults: u64,
    /// Time in programs, in clock ticks.
    pub user_ticks: u64,
    /// Time in the kernel, in clock ticks.
    pub system_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// Start, in clock ticks since boot.
    pub start_ticks: u64,
    /// Address space in bytes.
    pub virtual_bytes: u64,
    /// Resident pages, off by up to 64 for each CPU: the kernel sums per-CPU counters without asking all.
    pub resident_pages: u64,
}

impl Stat<'_> {
    /// Whether this is a thread of the kernel.
    pub(super) fn is_kernel(&self) -> bool {
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }
}

/// Reads `/proc/P/stat`.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<Stat<'_>> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let mut fields = bytes.get(close + 1..)?.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let mut next = |skipped: usize| number(fields.nth(skipped)?);
    Some(Stat {
        comm,
        state,
        parent: u32::try_from(next(0)?).ok()?,
        flags: next(4)?,
        minor_faults: next(0)?,
        major_faults: next(1)?,
        user_ticks: next(1)?,
        system_ticks: next(0)?,
        threads: next(4)?,
        start_ticks: next(1)?,
        virtual_bytes: next(0)?,
        resident_pages: next(0)?,
    })
}

/// Reads the resident pages of `/proc/P/statm`.
pub(super) fn parse_resident_pages(statm: &[u8]) -> Option<u64> {
    number(statm.split(u8::is_ascii_whitespace).nth(1)?)
}

/// Reads `read_bytes` and `write_bytes` of `/proc/P/io`: what went to and came from storage, in the process and in
/// those of its children that have ended.
pub(super) fn parse_io(bytes: &[u8]) -> Option<(u64, u64)> {
    let value = |key: &[u8]| number(bytes.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?);
    Some((value(b"read_bytes: ")?, value(b"write_bytes: ")?))
}

/// Reads the effective user of `/proc/P/status`.
pub(super) fn parse_user(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let effective = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(1)?;
    u32::try_from(number(effective)?).ok()
}

/// What `/proc/P/status` says beyond `stat`; of a process without it nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Resident memory: exact, as in `statm`.
    pub resident_bytes: Option<u64>,
    /// Memory that was moved to swap.
    pub swapped_bytes: u64,
    /// Times that the first thread waited.
    pub voluntary_switches: u64,
    /// Times that the first thread had to make room for another.
    pub involuntary_switches: u64,
}

/// Reads what else a process is and did from `/proc/P/status`.
pub(super) fn parse_status(status: &[u8]) -> Status {
    let mut found = Status::default();
    for line in status.split(|&byte| byte == b'\n') {
        // Of some sixty lines four are wanted.
        if !matches!(line.first(), Some(b'V' | b'v' | b'n')) {
            continue;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let value = || number(line[colon + 1..].split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?);
        match &line[..colon] {
            b"VmRSS" => found.resident_bytes = value().map(|kib| kib.saturating_mul(1_024)),
            b"VmSwap" => found.swapped_bytes = value().unwrap_or(0).saturating_mul(1_024),
            b"voluntary_ctxt_switches" => found.voluntary_switches = value().unwrap_or(0),
            b"nonvoluntary_ctxt_switches" => found.involuntary_switches = value().unwrap_or(0),
            _ => {}
        }
    }
    found
}

/// Reads how many files a process may have open from `/proc/P/limits`: the limit in force, not the one it may set.
pub(super) fn parse_open_files_limit(limits: &[u8]) -> Option<u64> {
    let line = limits.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Max open files"))?;
    number(line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?)
}

/// Reads the memory of a process from `/proc/P/smaps_rollup`, in bytes: its part of what it shares with others, and all
/// that it has.
pub(super) fn parse_proportional(rollup: &[u8]) -> Option<(u64, u64)> {
    let kib = |key: &[u8]| {
        let line = rollup.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?;
        number(line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?)
    };
    Some((kib(b"Pss:")?.saturating_mul(1_024), kib(b"Rss:")?.saturating_mul(1_024)))
}

/// Reads a process' cgroup from `/proc/P/cgroup`: where its CPU time counts on a v1 host, the one tree on a v2 host.
pub(super) fn parse_cgroup(bytes: &[u8]) -> Option<&str> {
    let lines = || bytes.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let path_of = |wanted: &str| {
        lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|controller| controller == wanted).then_some(path)
        })
    };
    ["cpuacct", "memory", ""].into_iter().filter_map(path_of).find(|path| *path != "/").or_else(|| path_of(""))
}

fn number(digits: &[u8]) -> Option<u64> {
    text::number(digits.strip_suffix(b"\n").unwrap_or(digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str =
        " S 1 2 3 0 -1 4194560 101 102 103 104 105 106 107 108 20 0 7 0 4711 8192000 300 18446744073709551615 1 1 0";

    #[test]
    fn any_name_is_read_whole() {
        let check = |comm: &[u8]| {
            let line = [b"17 (".as_slice(), comm, b")", LINE.as_bytes()].concat();
            let stat = parse_stat(&line).unwrap();
            assert_eq!(stat.comm, comm);
            assert_eq!((stat.state, stat.parent, stat.flags, stat.is_kernel()), (b'S', 1, 4_194_560, false));
            assert_eq!((stat.minor_faults, stat.major_faults), (101, 103));
            assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads), (105, 106, 7));
            assert_eq!((stat.start_ticks, stat.virtual_bytes, stat.resident_pages), (4711, 8_192_000, 300));
        };
        check(b"bash");
        check(b"tmux: server");
        check(b"a) R 9 (b");
        check(b"two\nlines");
        check(b"\xff\xfe)");
        check(b"");
    }

    #[test]
    fn cgroup_of_a_process() {
        let check = |text: &str, expect| assert_eq!(parse_cgroup(text.as_bytes()), expect, "{text}");
        check("0::/system.slice/ssh.service\n", Some("/system.slice/ssh.service"));
        check("4:memory:/docker/a\n2:cpu,cpuacct:/docker/b\n0::/\n", Some("/docker/b"));
        check("9:name=systemd:/x\n4:memory:/m\n2:cpuacct:/\n0::/\n", Some("/m"));
        check("2:cpuacct:/\n0::/unified\n", Some("/unified"));
        check("2:cpuacct:/\n0::/\n", Some("/"));
        check("0::/with:colons\n", Some("/with:colons"));
        check("", None);
        check("nonsense", None);
    }

    #[test]
    fn the_effective_user_counts() {
        assert_eq!(parse_user(b"Name:\tx\nUid:\t1000\t33\t0\t0\nGid:\t1\t1\t1\t1\n"), Some(33));
        assert_eq!(parse_user(b"Uid:\t1000\n"), None);
    }

    #[test]
    fn swap_and_switches() {
        let text = b"Name:\tVmSwap: 9\nVmRSS:\t 8 kB\nVmSwap:\t      12 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        let expect = Status {
            resident_bytes: Some(8_192),
            swapped_bytes: 12_288,
            voluntary_switches: 7,
            involuntary_switches: 3,
        };
        assert_eq!(parse_status(text), expect);
        assert_eq!(parse_status(b"VmRSS: x\nVmSwap:\nvoluntary_ctxt_switches: -1\n:\n"), Status::default());
    }

    #[test]
    fn how_many_files_may_be_open() {
        let check = |line: &str, expect| {
            let text = format!("Limit  Soft Limit  Hard Limit  Units\nMax processes  9 9 processes\n{line}\n");
            assert_eq!(parse_open_files_limit(text.as_bytes()), expect);
        };
        check("Max open files            1024                 524288               files     ", Some(1_024));
        check("Max open files            unlimited            unlimited            files     ", None);
        check("Max open files", None);
    }

    #[test]
    fn shared_memory_counts_in_part() {
        let text = b"5581-7ffd ---p 00000000 00:00 0  [rollup]\nRss:    1024 kB\nPss:     512 kB\nPss_Dirty:  1 kB\n";
        assert_eq!(parse_proportional(text), Some((512 << 10, 1_024 << 10)));
        assert_eq!(parse_proportional(b"Rss: 1 kB\nPss_Dirty: 1 kB\n"), None);
    }

    #[test]
    fn a_missing_field_is_no_value() {
        assert_eq!(parse_io(b"rchar: 1\nread_bytes: 5\ncancelled_write_bytes: 1\n"), None);
        assert_eq!(parse_io(b"rchar: 1\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 1\n"), Some((5, 6)));
        assert_eq!(parse_resident_pages(b"1 \n"), None);
        assert_eq!(parse_resident_pages(b"9 5 1 0 0 0 0\n"), Some(5));
        assert_eq!(number(b"18446744073709551616"), None);
    }

    #[test]
    fn agrees_with_the_procfs_crate() {
        let myself = procfs::process::Process::myself().unwrap();
        let read = |file: &str| std::fs::read(format!("/proc/self/{file}")).unwrap();
        let (bytes, theirs) = (read("stat"), myself.stat().unwrap());
        let ours = parse_stat(&bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(ours.comm), theirs.comm);
        assert_eq!(ours.start_ticks, theirs.starttime);
        assert_eq!(ours.parent, u32::try_from(theirs.ppid).unwrap());
        assert_eq!(ours.flags, u64::from(theirs.flags));
        assert!(ours.minor_faults <= theirs.minflt && ours.user_ticks <= theirs.utime);
        assert!(ours.virtual_bytes.abs_diff(theirs.vsize) < 1 << 28);
        assert!(parse_resident_pages(&read("statm")).unwrap().abs_diff(myself.statm().unwrap().resident) < 1 << 16);
        let (bytes, theirs) = (read("status"), myself.status().unwrap());
        assert_eq!(parse_user(&bytes), Some(theirs.euid));
        assert_eq!(parse_status(&bytes).swapped_bytes, theirs.vmswap.unwrap() * 1_024);
        assert!(parse_status(&bytes).voluntary_switches <= theirs.voluntary_ctxt_switches.unwrap());
        let limit = match myself.limits().unwrap().max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        };
        assert_eq!(parse_open_files_limit(&read("limits")), limit);
        let (ours, theirs) = (parse_io(&read("io")).unwrap(), myself.io().unwrap());
        assert!(ours.0 <= theirs.read_bytes && ours.1 <= theirs.write_bytes);
        assert_eq!(parse_cgroup(&read("cgroup")).map(|path| path.starts_with('/')), Some(true));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, cut in 0..200_usize) {
            let whole = format!("17 (x){LINE}");
            let cut = &whole.as_bytes()[..cut.min(whole.len())];
            for bytes in [bytes.as_slice(), cut] {
                let _parsed = (parse_stat(bytes), parse_io(bytes), parse_user(bytes));
                let _parsed = (parse_cgroup(bytes), parse_resident_pages(bytes), parse_status(bytes));
                let _parsed = (parse_open_files_limit(bytes), parse_proportional(bytes));
            }
        }
    }
}
