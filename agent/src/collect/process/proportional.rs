//! Memory shared with other processes, counted in part: what programs forked from one really take.
//!
//! The kernel walks all pages of a process for it, 10 to 50 ms a GiB, and holds up the process meanwhile; a process that hangs
//! in the kernel holds up whoever asks. So it is asked aside, with the devices, of a few processes a minute: by turns of
//! those whose memory changed most and of those asked longest ago.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use crate::collect::Moment;
use crate::collect::process::known::Known;
use crate::collect::process::pid_of;
use crate::collect::process::stat;
use crate::host::Host;
use crate::host::Inquiry;
use crate::host::read_bounded;

/// Memory whose pages may be walked each minute: 5 ms of CPU time where pages are shared, 1 ms where they are not.
const BUDGET_BYTES: u64 = 128 << 20;

/// Processes asked each minute, however small: 45 µs each.
const ASKED_MAX: usize = 64;

/// Bytes of `smaps_rollup`: the kernel writes about thirty lines.
const ROLLUP_BYTES: usize = 4096;

/// What is measured, and what was.
#[derive(Debug, Default)]
pub(super) struct Proportional {
    inquiry: Inquiry<Option<(u64, u64)>>,
    round: u64,
    /// Pages walked beyond the budget, which later minutes make up for.
    debt_bytes: u64,
}

/// A process that may be asked.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    pid: u32,
    resident_bytes: u64,
    /// Its memory when it was asked last.
    asked_bytes: u64,
    /// When it was asked last.
    asked: u64,
}

impl Proportional {
    /// Begins a minute's measurements.
    pub(super) fn begin(&mut self, host: &mut Host, moment: Moment, known: &mut HashMap<u32, Box<Known>>) {
        self.round += 1;
        let candidates = known.values().filter(|known| 0 < known.level.resident_bytes).map(|known| Candidate {
            pid: known.pid,
            resident_bytes: known.level.resident_bytes,
            asked_bytes: known.level.proportional.map_or(0, |(_, whole)| whole),
            asked: known.asked,
        });
        let chosen = self.choose(candidates.collect());
        for candidate in &chosen {
            if let Some(known) = known.get_mut(&candidate.pid) {
                known.asked = self.round;
            }
        }
        let procfs = host.roots().procfs.clone();
        let rollups = chosen.into_iter().map(|it| procfs.join(it.pid.to_string()).join("smaps_rollup"));
        // Without a thread nothing is measured; the next minute tries again.
        let _begun = self.inquiry.begin(&mut host.devices, rollups, &measure, moment.now);
    }

    /// Notes what was measured. A process that has the id of one that was asked was not asked itself.
    pub(super) fn note(&mut self, host: &mut Host, moment: Moment, known: &mut HashMap<u32, Box<Known>>) {
        while let Ok(Some((rollup, bytes))) = self.inquiry.next(&mut host.devices, moment.now, moment.patience) {
            let known = pid_of(&rollup).and_then(|pid| known.get_mut(&pid)).filter(|known| 0 < known.asked);
            if let Some(known) = known {
                known.level.proportional = bytes.or(known.level.proportional);
            }
        }
    }

    fn choose(&mut self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        self.debt_bytes = self.debt_bytes.saturating_sub(BUDGET_BYTES);
        if self.round % 2 == 1 {
            candidates
                .sort_unstable_by_key(|it| (Reverse(it.resident_bytes.abs_diff(it.asked_bytes)), it.asked, it.pid));
        } else {
            candidates.sort_unstable_by_key(|it| (it.asked, Reverse(it.resident_bytes), it.pid));
        }
        let mut chosen = Vec::new();
        for candidate in candidates.into_iter().take(ASKED_MAX) {
            if BUDGET_BYTES <= self.debt_bytes {
                break;
            }
            self.debt_bytes += candidate.resident_bytes;
            chosen.push(candidate);
        }
        chosen
    }
}

fn measure(rollup: &Path) -> Option<(u64, u64)> {
    stat::parse_proportional(&read_bounded(rollup, ROLLUP_BYTES).ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Processes by MiB now, MiB when asked last, and when that was; which are chosen in the rounds that follow.
    #[track_caller]
    fn check(processes: &[(u64, u64, u64)], expect: &[&[u32]]) {
        let mut proportional = Proportional::default();
        let mut candidates: Vec<_> = (1..)
            .zip(processes)
            .map(|(pid, &(now, then, asked))| Candidate {
                pid,
                resident_bytes: now * MIB,
                asked_bytes: then * MIB,
                asked,
            })
            .collect();
        for expect in expect {
            proportional.round += 1;
            let chosen: Vec<_> = proportional.choose(candidates.clone()).iter().map(|it| it.pid).collect();
            assert_eq!(chosen, *expect, "round {}", proportional.round);
            for candidate in candidates.iter_mut().filter(|it| chosen.contains(&it.pid)) {
                (candidate.asked, candidate.asked_bytes) = (10 + proportional.round, candidate.resident_bytes);
            }
        }
    }

    #[test]
    fn by_turns_what_changed_and_what_was_not_asked() {
        check(&[(75, 74, 3), (75, 25, 3), (75, 73, 2), (75, 75, 1)], &[&[2, 3], &[4, 1], &[2, 3]]);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_paid_off() {
        check(&[(512, 0, 0), (1, 0, 0)], &[&[1], &[], &[], &[], &[2, 1], &[]]);
    }

    #[test]
    fn few_at_once_however_small() {
        let mut proportional = Proportional { round: 1, ..Proportional::default() };
        let small = Candidate { pid: 1, resident_bytes: 1, asked_bytes: 0, asked: 0 };
        assert_eq!(proportional.choose(vec![small; 1_000]).len(), ASKED_MAX);
    }
}
