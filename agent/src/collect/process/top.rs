//! Which processes did most. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Processes shown by each measure: one screen of a person's attention.
pub(super) const TOP_PROCESSES_MAX: usize = 15;

/// What processes are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measures {
    /// Clock ticks of CPU time.
    pub cpu_ticks: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Bytes read from and written to storage.
    pub io_bytes: u64,
    /// Page faults, those that needed storage counted a hundredfold: a disk is that much slower, and more.
    pub faults: u64,
}

impl Measures {
    /// Whether it did anything, besides being there.
    pub(super) fn did_anything(&self) -> bool {
        0 < self.cpu_ticks || 0 < self.io_bytes
    }
}

/// The places of those that are among the first by any measure, in order. What did nothing by a measure is not among
/// its first.
pub(super) fn top(processes: &[Measures]) -> BTreeSet<usize> {
    let measures: [fn(&Measures) -> u64; 4] =
        [|it| it.cpu_ticks, |it| it.resident_bytes, |it| it.io_bytes, |it| it.faults];
    let mut chosen = BTreeSet::new();
    for measure in measures {
        let mut ranked: Vec<usize> = (0..processes.len()).filter(|&at| 0 < measure(&processes[at])).collect();
        ranked.sort_unstable_by_key(|&at| (Reverse(measure(&processes[at])), at));
        chosen.extend(ranked.into_iter().take(TOP_PROCESSES_MAX));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_any_measure_and_no_idle_ones() {
        let idle = Measures::default();
        let mut processes = vec![idle; 100];
        assert_eq!(top(&processes), BTreeSet::new());
        for (at, process) in processes.iter_mut().enumerate() {
            process.resident_bytes = 1_000 - at as u64;
        }
        processes[90].cpu_ticks = 1;
        processes[91].io_bytes = 1;
        processes[92].faults = 1;
        let expect: Vec<usize> = (0..TOP_PROCESSES_MAX).chain([90, 91, 92]).collect();
        assert_eq!(top(&processes).into_iter().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn of_equals_the_first_is_chosen() {
        let busy = Measures { cpu_ticks: 1, ..Measures::default() };
        let expect: Vec<usize> = (0..TOP_PROCESSES_MAX).collect();
        assert_eq!(top(&[busy; 40]).into_iter().collect::<Vec<_>>(), expect);
    }
}
