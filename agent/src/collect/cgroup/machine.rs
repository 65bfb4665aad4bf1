//! What the host has to share out among its containers.

use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Labels;

use crate::collect::HOST;
use crate::collect::Tick;
use crate::collect::text;

const CORES: &Metric = metric("machine_cpu_cores");
const MEMORY: &Metric = metric("machine_memory_bytes");

/// Puts how many CPUs are online and how much memory there is.
pub(super) fn put(tick: &mut Tick<'_>) {
    if !tick.moment.due(CORES.tier) {
        return;
    }
    let procfs = tick.host.roots().procfs.clone();
    let cores = tick.host.read_once(&procfs.join("stat")).ok().and_then(cores);
    let memory = tick.host.read_once(&procfs.join("meminfo")).ok().and_then(memory_bytes);
    for (metric, value) in [(CORES, cores), (MEMORY, memory)] {
        if let Some(value) = value {
            let series = tick.samples.series(HOST, metric, &Labels::new());
            tick.samples.put_count(series, value);
        }
    }
}

pub(super) fn cores(stat: &[u8]) -> Option<u64> {
    let mut lines = text::lines(stat);
    // The line of all of them stands first; some other line follows, or the file was cut off among them.
    lines.next().filter(|line| line.starts_with(b"cpu "))?;
    let cores = lines.by_ref().take_while(|line| line.starts_with(b"cpu")).count() as u64;
    let is_whole = text::lines(stat).any(|line| !line.starts_with(b"cpu"));
    Some(cores).filter(|cores| is_whole && 0 < *cores)
}

pub(super) fn memory_bytes(meminfo: &[u8]) -> Option<u64> {
    let total = text::lines(meminfo).find_map(|line| line.strip_prefix(b"MemTotal:"))?;
    text::numbers(total).next()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_cores_and_memory() {
        let check = |stat: &str, expect| assert_eq!(cores(stat.as_bytes()), expect, "{stat}");
        check("cpu  1 2\ncpu0 1\ncpu2 1\ncpu10 1\nintr 5\n", Some(3));
        check("cpu  1 2\nintr 5\n", None);
        check("cpu  1 2\ncpu0 1\ncpu1 1\n", None);
        check("", None);
        let check = |meminfo: &str, expect| assert_eq!(memory_bytes(meminfo.as_bytes()), expect, "{meminfo}");
        check("MemTotal:        2048 kB\nMemFree: 1 kB\n", Some(2_097_152));
        check("MemTotal:        18446744073709551615 kB\n", None);
        check("MemTotal: x kB\n", None);
        check("", None);
    }
}
