//! Files of a cgroup, versions 1 and 2. Pure.

use std::str;

use crate::collect::text;

/// Which of the kernel's two interfaces a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// One tree a controller.
    V1,
    /// One tree for all.
    V2,
}

/// A limit that is none: version 1 writes the largest page count there is.
const UNLIMITED: u64 = 1 << 62;

/// The value behind a key in a file of `key value` lines.
pub(super) fn value_of(bytes: &[u8], key: &str) -> Option<u64> {
    lines(bytes).find_map(|line| number(line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?))
}

/// A file that is one number.
pub(super) fn single(bytes: &[u8]) -> Option<u64> {
    number(bytes)
}

/// A limit: [`NO_LIMIT`] where there is none.
pub(super) fn limit(bytes: &[u8]) -> Option<u64> {
    match bytes.trim_ascii() {
        b"max" => Some(NO_LIMIT),
        digits => number(digits).map(|limit| if UNLIMITED < limit { NO_LIMIT } else { limit }),
    }
}

/// A limit that can never be reached.
pub(super) const NO_LIMIT: u64 = u64::MAX;

/// CPU time by kind, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::collect) struct CpuTime {
    /// All of it.
    pub usage: f64,
    /// In programs.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// Reads version 2's `cpu.stat`: microseconds.
pub(super) fn cpu_time(bytes: &[u8]) -> Option<CpuTime> {
    let seconds = |key| value_of(bytes, key).map(|us| scaled(us, 1e6));
    Some(CpuTime { usage: seconds("usage_usec")?, user: seconds("user_usec")?, system: seconds("system_usec")? })
}

/// What the bandwidth controller did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Throttling {
    /// Periods in which something wanted to run.
    pub periods: u64,
    /// Those in which the quota ran out.
    pub throttled_periods: u64,
    /// Seconds that tasks waited for the next period, all CPUs together.
    pub throttled_seconds: f64,
}

/// Reads `cpu.stat`: version 1 gives nanoseconds, version 2 microseconds.
pub(super) fn throttling(bytes: &[u8], version: Version) -> Option<Throttling> {
    let throttled = match version {
        Version::V1 => scaled(value_of(bytes, "throttled_time")?, 1e9),
        Version::V2 => scaled(value_of(bytes, "throttled_usec")?, 1e6),
    };
    Some(Throttling {
        periods: value_of(bytes, "nr_periods")?,
        throttled_periods: value_of(bytes, "nr_throttled")?,
        throttled_seconds: throttled,
    })
}

/// Reads `cpu.max`: the quota in microseconds and its period, if there is a limit.
pub(super) fn cpu_max(bytes: &[u8]) -> Option<(u64, u64)> {
    text::array(bytes.trim_ascii()).map(|[quota, period]| (quota, period))
}

/// Version 1's shares that a version 2 weight stands for, by the formula of cAdvisor.
pub(super) fn shares(weight: u64) -> u64 {
    2 + (weight.clamp(1, 10_000) - 1) * 262_142 / 9_999
}

/// What `memory.stat` says, in bytes and in counts, all below the cgroup included. What it does not say is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryStat {
    /// Page cache.
    pub cache: Option<u64>,
    /// Anonymous memory.
    pub rss: Option<u64>,
    /// Page cache that was not used lately: what the kernel takes first.
    pub inactive_file: Option<u64>,
    /// Page cache that is mapped.
    pub mapped_file: Option<u64>,
    /// The kernel's own; only version 2 says it here, since 5.18 in one number.
    pub kernel: Option<u64>,
    /// Swapped out; only version 1 says it here.
    pub swap: Option<u64>,
    /// Page faults: all, and those that needed storage.
    pub faults: [Option<u64>; 2],
    /// Page faults without those of cgroups inside: only version 1 tells them apart.
    pub own_faults: [Option<u64>; 2],
    /// Pages that had to be fetched again soon after they were taken: of files, and anonymous ones.
    pub refaults: [Option<u64>; 2],
}

/// Reads `memory.stat`.
pub(super) fn memory_stat(bytes: &[u8], version: Version) -> MemoryStat {
    let mut stat = MemoryStat::default();
    let mut parts = None;
    for line in lines(bytes) {
        let Some(space) = line.iter().position(|&byte| byte == b' ') else { continue };
        let (key, value) = (&line[..space], number(&line[space..]));
        let slot = match (version, key) {
            (Version::V1, b"total_cache") | (Version::V2, b"file") => &mut stat.cache,
            (Version::V1, b"total_rss") | (Version::V2, b"anon") => &mut stat.rss,
            (Version::V1, b"total_inactive_file") | (Version::V2, b"inactive_file") => &mut stat.inactive_file,
            (Version::V1, b"total_mapped_file") | (Version::V2, b"file_mapped") => &mut stat.mapped_file,
            (Version::V1, b"total_swap") => &mut stat.swap,
            (Version::V1, b"total_pgfault") | (Version::V2, b"pgfault") => &mut stat.faults[0],
            (Version::V1, b"total_pgmajfault") | (Version::V2, b"pgmajfault") => &mut stat.faults[1],
            (Version::V1, b"pgfault") => &mut stat.own_faults[0],
            (Version::V1, b"pgmajfault") => &mut stat.own_faults[1],
            // Before 5.9 only those of files are counted, under the bare name.
            (Version::V1, b"total_workingset_refault_file" | b"total_workingset_refault")
            | (Version::V2, b"workingset_refault_file" | b"workingset_refault") => &mut stat.refaults[0],
            (Version::V1, b"total_workingset_refault_anon") | (Version::V2, b"workingset_refault_anon") => {
                &mut stat.refaults[1]
            }
            (Version::V2, b"kernel") => &mut stat.kernel,
            (Version::V2, b"kernel_stack" | b"pagetables" | b"percpu" | b"slab") => {
                parts = Some(parts.unwrap_or(0_u64).saturating_add(value.unwrap_or(0)));
                continue;
            }
            _ => continue,
        };
        *slot = value;
    }
    stat.kernel = stat.kernel.or(parts);
    if version == Version::V2 {
        stat.own_faults = stat.faults;
    }
    stat
}

/// A block device's number.
pub(super) type DeviceNumber = (u32, u32);

/// What is counted of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Io {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WrittenBytes,
    /// Read operations.
    Reads,
    /// Write operations.
    Writes,
}

/// Calls `each` with every value of version 2's `io.stat`. Words and lines that kernels left broken are passed over.
pub(super) fn io_stat(bytes: &[u8], mut each: impl FnMut(DeviceNumber, Io, u64)) {
    for line in lines(bytes) {
        let mut words = line.split(|&byte| byte == b' ');
        let Some(device) = words.next().and_then(device) else { continue };
        for word in words {
            let Some(at) = word.iter().position(|&byte| byte == b'=') else { continue };
            let io = match &word[..at] {
                b"rbytes" => Io::ReadBytes,
                b"wbytes" => Io::WrittenBytes,
                b"rios" => Io::Reads,
                b"wios" => Io::Writes,
                _ => continue,
            };
            if let Some(value) = number(&word[at + 1..]) {
                each(device, io, value);
            }
        }
    }
}

/// Calls `each` with every value of a version 1 `blkio.throttle` file, which counts either bytes or operations.
pub(super) fn blkio(bytes: &[u8], [read, write]: [Io; 2], mut each: impl FnMut(DeviceNumber, Io, u64)) {
    for line in lines(bytes) {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(device), Some(what)) = (words.next().and_then(device), words.next()) else { continue };
        let Some(value) = words.next().and_then(number) else { continue };
        match what {
            b"Read" => each(device, read, value),
            b"Write" => each(device, write, value),
            _ => {}
        }
    }
}

/// A count in a unit of which `per_second` make a second, as seconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
pub(super) fn scaled(count: u64, per_second: f64) -> f64 {
    count as f64 / per_second
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n')
}

fn device(word: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = str::from_utf8(word).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number(digits: &[u8]) -> Option<u64> {
    text::number(digits.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Recorded from a container of Docker 20.10 with `--cpus 0.3 --memory 64m` on Linux 6.18, version 1 trees.
    const V1_CPU_STAT: &[u8] =
        b"nr_periods 24\nnr_throttled 22\nthrottled_time 1440444202\nnr_bursts 0\nburst_time 0\n";
    const V1_MEMORY_STAT: &[u8] = include_bytes!("fixtures/v1/memory.stat");
    /// Recorded from the same container in the version 2 tree of the same hybrid host, where no controller is enabled.
    const V2_CPU_STAT: &[u8] = b"usage_usec 718026\nuser_usec 679313\nsystem_usec 38713\nnice_usec 0\n";
    /// Made from the kernel's documentation of version 2.
    const V2_THROTTLED: &[u8] =
        b"usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 24\nnr_throttled 22\nthrottled_usec 1440444\n";
    const V2_MEMORY_STAT: &[u8] = b"anon 61440\nfile 8192\nkernel 4096\ninactive_anon 0\ninactive_file 4096\n";

    #[test]
    fn cpu() {
        assert_eq!(cpu_time(V2_CPU_STAT), Some(CpuTime { usage: 0.718_026, user: 0.679_313, system: 0.038_713 }));
        assert_eq!(cpu_time(V1_CPU_STAT), None);
        let v1 = throttling(V1_CPU_STAT, Version::V1).unwrap();
        assert_eq!(v1, Throttling { periods: 24, throttled_periods: 22, throttled_seconds: 1.440_444_202 });
        assert_eq!(throttling(V2_THROTTLED, Version::V2).map(|it| it.throttled_seconds), Some(1.440_444));
        assert_eq!(throttling(V2_CPU_STAT, Version::V2), None);
        let check = |text: &str, expect| assert_eq!(cpu_max(text.as_bytes()), expect, "{text}");
        check("max 100000\n", None);
        check("30000 100000\n", Some((30_000, 100_000)));
        check("30000", None);
        check("", None);
        assert_eq!([1, 100, 10_000, 0, u64::MAX].map(shares), [2, 2_597, 262_144, 2, 262_144]);
    }

    #[test]
    fn memory() {
        let v1 = MemoryStat {
            cache: Some(0),
            rss: Some(61_440),
            inactive_file: Some(0),
            mapped_file: Some(0),
            swap: Some(0),
            faults: [Some(1_115), Some(0)],
            own_faults: [Some(1_115), Some(0)],
            refaults: [Some(0), Some(0)],
            kernel: None,
        };
        assert_eq!(memory_stat(V1_MEMORY_STAT, Version::V1), v1);
        let v2 = MemoryStat {
            cache: Some(8_192),
            rss: Some(61_440),
            inactive_file: Some(4_096),
            kernel: Some(4_096),
            ..MemoryStat::default()
        };
        assert_eq!(memory_stat(V2_MEMORY_STAT, Version::V2), v2);
        let old = b"anon 1\nkernel_stack 16\nslab 32\nworkingset_refault 7\npgfault 3\npgmajfault\n";
        let old = memory_stat(old, Version::V2);
        assert_eq!((old.kernel, old.refaults, old.faults), (Some(48), [Some(7), None], [Some(3), None]));
        assert_eq!(old.own_faults, old.faults);
        let check = |text: &str, expect| assert_eq!(limit(text.as_bytes()), expect, "{text}");
        check("max\n", Some(NO_LIMIT));
        check("67108864\n", Some(67_108_864));
        check("9223372036854771712\n", Some(NO_LIMIT));
        check("-1\n", None);
        check("", None);
    }

    #[test]
    fn a_key_is_a_whole_word() {
        assert_eq!(value_of(b"oom_kill_disable 1\nunder_oom 2\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(value_of(b"oom 1\noom_kill 3", "oom_kill"), Some(3));
        assert_eq!(value_of(b"oom_kill x\n", "oom_kill"), None);
        assert_eq!(value_of(b"oom_kill", "oom_kill"), None);
    }

    #[test]
    fn devices() {
        let check = |text: &str, expect: &[(DeviceNumber, Io, u64)]| {
            let mut found = Vec::new();
            io_stat(text.as_bytes(), |device, io, value| found.push((device, io, value)));
            assert_eq!(found, expect, "{text}");
        };
        let sda = (8, 0);
        let all = [(sda, Io::ReadBytes, 1), (sda, Io::WrittenBytes, 2), (sda, Io::Reads, 3), (sda, Io::Writes, 4)];
        check("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n", &all);
        check("8:0 \n259:1 rbytes=7 cost.usage=9 broken wbytes=\n", &[((259, 1), Io::ReadBytes, 7)]);
        check("8:0\n(unknown) rbytes=1\n:1 rbytes=1\n", &[]);
        let mut found = Vec::new();
        let text = b"8:0 Read 123\n8:0 Write 456\n8:0 Sync 1\n8:0 Total 579\nTotal 579\n8:1 Read\n";
        blkio(text, [Io::Reads, Io::Writes], |device, io, value| found.push((device, io, value)));
        assert_eq!(found, [(sda, Io::Reads, 123), (sda, Io::Writes, 456)]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage: Vec<u8>, cut in 0..800_usize) {
            let cut = &V1_MEMORY_STAT[..cut.min(V1_MEMORY_STAT.len())];
            for bytes in [garbage.as_slice(), cut] {
                let _parsed = (single(bytes), limit(bytes), cpu_time(bytes), cpu_max(bytes));
                for version in [Version::V1, Version::V2] {
                    let _parsed = (throttling(bytes, version), memory_stat(bytes, version));
                }
                io_stat(bytes, |_, _, _| {});
                blkio(bytes, [Io::Reads, Io::Writes], |_, _, _| {});
            }
        }
    }
}
