//! Windows of a host that will not come, as far as nobody else can count them: those between two processes of its agent,
//! of which the earlier died. Pure.
//!
//! What a process left on disk comes later, behind the windows of the next one: a hole is counted when that has drained.

use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::batch::WINDOW;
use common::time::Timestamp;
use common::wire::message::SpoolHeld;

use crate::ingest::obituary::How;
use crate::ingest::obituary::Obituary;
use crate::ingest::session::SPOOLS_MAX;
use crate::store::record::windows::MISSING_MAX;
use crate::store::record::windows::Span;
use crate::store::record::windows::Windows;

/// Processes of an agent whose windows are still coming: one that dies this often before its disk has drained is counted
/// as if it had.
pub(super) const SPANS_MAX: usize = 16;

/// Runs that one process numbers on.
const RUNS_OF_PROCESS: u128 = 1 << 32;

/// What is known of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes {
    settled: Timestamp,
    spans: Vec<Span>,
    /// Windows that were counted as missing.
    missing: u64,
    /// The run that greeted last.
    run: Option<RunId>,
    /// Spools of earlier processes, and where each ends: as long as there are some, windows of theirs come.
    pending: Vec<(SpoolId, Seq)>,
    /// The process before the one that greeted last, until it was told of.
    ended: Option<Obituary>,
}

/// Windows that will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// End of the last window before it.
    pub(super) after: Timestamp,
    /// End of the first window behind it.
    pub(super) until: Timestamp,
    /// How many are missing between them.
    pub(super) missing: u64,
}

impl Holes {
    /// What was recorded.
    pub(super) fn new(windows: Windows) -> Self {
        let Windows { settled, spans, missing, .. } = windows;
        Self { settled, spans, missing, ..Self::default() }
    }

    /// Windows that were counted as missing.
    pub(super) const fn missing(&self) -> u64 {
        self.missing
    }

    /// Notes windows that somebody else counted.
    pub(super) fn add(&mut self, missing: u64) {
        self.missing = self.missing.saturating_add(missing).min(MISSING_MAX);
    }

    /// A process greets: what the aggregator holds of the spools that it named, the live one first, and where each ends,
    /// if the agent says so; and how the process before ended, if this one is another.
    pub(super) fn greet(&mut self, run: RunId, held: &[SpoolHeld], ends: &[Seq], how: How) {
        if SPANS_MAX < self.spans.len() {
            self.spans.retain(came);
        }
        let earlier = held.iter().zip(ends).skip(1).filter(|(held, end)| held.next < **end);
        let pending: Vec<_> = earlier.map(|(held, end)| (held.spool, *end)).collect();
        let is_new = !self.spans.iter().any(|span| is_of(run, span.run));
        // It greeted an aggregator that ended before it could tell.
        let is_untold = self.run.is_none() && !pending.is_empty();
        let others = self.spans.iter().filter(|span| came(span) && !is_of(run, span.run));
        if let Some(before) = others.max_by_key(|span| span.last).filter(|_| is_new || is_untold) {
            let how = if is_new { how } else { How::Forgotten };
            let waits = |(held, end): (&SpoolHeld, &Seq)| end.0.saturating_sub(held.next.0);
            let left = held.iter().zip(ends).skip(1).map(waits).fold(0, u64::saturating_add);
            self.ended = Some(Obituary { how, last: before.last, back: before.last, left });
        }
        self.run = Some(run);
        self.span(run);
        self.pending = pending;
        if SPOOLS_MAX <= held.len() {
            // There may be more than could be named: they are named when these have drained.
            self.pending.push((SpoolId([0; 16]), Seq(u64::MAX)));
        }
    }

    /// A batch arrives.
    pub(super) fn arrive(&mut self, batch: &EncodedBatch) {
        self.pending.retain(|(spool, end)| *spool != batch.spool || batch.seq.next() < *end);
        if batch.stamp <= self.settled {
            return;
        }
        let stamp = batch.stamp;
        if let Some(ended) = &mut self.ended
            && self.run.is_some_and(|run| !is_of(batch.run, run))
        {
            ended.last = ended.last.max(stamp);
        }
        let span = self.span(batch.run);
        (span.first, span.last) = (span.first.min(stamp), span.last.max(stamp));
    }

    /// The process that greeted says that it goes.
    pub(super) fn excuse(&mut self) {
        if let Some(run) = self.run {
            self.span(run).excused = true;
        }
    }

    /// What is to be told of the process before, once all that it left has come and the next one's windows come.
    pub(super) fn obituary(&self) -> Option<Obituary> {
        let run = self.run.filter(|_| self.pending.is_empty())?;
        let span = self.spans.iter().find(|span| is_of(run, span.run) && came(span))?;
        Some(Obituary { back: span.first, ..self.ended? })
    }

    /// That was told.
    pub(super) const fn told(&mut self) {
        self.ended = None;
    }

    /// Counts what is certain.
    pub(super) fn settle(&mut self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let may_come = !self.pending.is_empty() && self.spans.len() <= SPANS_MAX;
        if may_come || self.spans.iter().filter(|span| came(span)).count() < 2 {
            return holes;
        }
        let Some(latest) = self.spans.iter().copied().filter(came).max_by_key(|span| span.last) else { return holes };
        self.spans.sort_by_key(|span| span.first);
        let mut before: Option<Span> = None;
        for span in self.spans.drain(..).filter(came) {
            if let Some(before) = before.filter(|before| !before.excused)
                && let gap = span.first.since(before.last)
                && WINDOW < gap
            {
                // The stamps of two processes may lie off each other's grid by less than a window.
                let missing = u64::try_from(gap.as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX).saturating_sub(1);
                holes.push(Hole { after: before.last, until: span.first, missing });
            }
            before = before.filter(|before| span.last < before.last).or(Some(span));
        }
        holes.retain(|hole| 0 < hole.missing);
        self.settled = latest.first.before(WINDOW);
        self.spans.push(latest);
        holes.iter().for_each(|hole| self.add(hole.missing));
        holes
    }

    /// As it is recorded, with what is missing since it was recorded before.
    pub(super) fn record(&self, host: HostId, holes: &[Hole]) -> Windows {
        let missing = holes.iter().map(|hole| hole.missing).sum();
        Windows { host, settled: self.settled, spans: self.spans.clone(), missing }
    }

    /// The span of the process that this run is of.
    fn span(&mut self, run: RunId) -> &mut Span {
        let at = self.spans.iter().position(|span| is_of(run, span.run)).unwrap_or_else(|| {
            let (first, last) = (Timestamp::from_millis(i64::MAX), Timestamp::from_millis(i64::MIN));
            self.spans.push(Span { run, first, last, excused: false });
            self.spans.len() - 1
        });
        &mut self.spans[at]
    }
}

/// Whether a run is of the process whose first run this is.
fn is_of(run: RunId, first: RunId) -> bool {
    let number = |run: RunId| u128::from_be_bytes(run.0);
    number(run).wrapping_sub(number(first)) < RUNS_OF_PROCESS
}

fn came(span: &Span) -> bool {
    span.first <= span.last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spool of a process, by its first run.
    fn batch(run: u8, later: u8, seq: u64, stamp: i64) -> EncodedBatch {
        EncodedBatch {
            run: RunId([vec![run; 15], vec![later]].concat().try_into().unwrap()),
            spool: SpoolId([run; 16]),
            seq: Seq(seq),
            schema_version: 1,
            stamp: Timestamp::from_seconds(1_000_000 + stamp),
            codec: 1,
            keyframe: true,
            payload: Vec::new(),
        }
    }

    /// A host, and what was counted as missing so far: it is written down and read again behind each step.
    struct Bench {
        holes: Holes,
        recorded: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self { holes: Holes::default(), recorded: 0 }
        }

        /// Process `run` greets; of the `left` spools, each is stored up to its first number and ends at its second.
        fn greets(&mut self, run: u8, left: &[(u8, u64, u64)]) -> &mut Self {
            let held = |(spool, next): (u8, u64)| SpoolHeld {
                spool: SpoolId([spool; 16]),
                next: Seq(next),
                predecessor_held: false,
            };
            let named: Vec<_> =
                [(run, 0)].into_iter().chain(left.iter().map(|(spool, next, _)| (*spool, *next))).map(held).collect();
            let ends: Vec<_> = [Seq(0)].into_iter().chain(left.iter().map(|(.., end)| Seq(*end))).collect();
            self.holes.greet(batch(run, 0, 0, 0).run, &named, &ends, How::Killed);
            self
        }

        fn goes(&mut self) -> &mut Self {
            self.holes.excuse();
            self
        }

        /// Windows come, from one stamp through another.
        fn sends(&mut self, run: u8, seq: u64, stamps: std::ops::RangeInclusive<i64>) -> &mut Self {
            for (seq, stamp) in (seq..).zip(stamps.step_by(10)) {
                self.holes.arrive(&batch(run, 0, seq, stamp));
                let found = self.holes.settle();
                let Windows { missing, .. } = self.holes.record(HostId(1), &found);
                self.recorded += missing;
            }
            self
        }

        /// The aggregator begins anew with what it recorded.
        fn restart(&mut self) -> &mut Self {
            let missing = self.recorded;
            self.holes = Holes::new(Windows { missing, ..self.holes.record(HostId(1), &[]) });
            self
        }

        #[track_caller]
        fn check(&mut self, expect: u64) -> &mut Self {
            assert_eq!((self.holes.missing(), self.recorded), (expect, expect));
            self
        }
    }

    #[test]
    fn an_end_is_told_of_once_when_all_that_was_left_has_come() {
        let at = |second: i64| Timestamp::from_seconds(1_000_000 + second);
        let told = |last, back, left| Some(Obituary { how: How::Killed, last: at(last), back: at(back), left });
        let mut bench = Bench::new();
        bench.greets(1, &[]).sends(1, 0, 10..=100);
        assert_eq!(bench.holes.obituary(), None, "the first process follows nobody");
        bench.greets(1, &[]).sends(1, 10, 110..=110);
        assert_eq!(bench.holes.obituary(), None, "a process that comes again did not end");
        bench.greets(2, &[(1, 11, 14)]).sends(2, 0, 200..=210);
        assert_eq!(bench.holes.obituary(), None, "something is left to come");
        bench.sends(1, 11, 120..=140);
        assert_eq!(bench.holes.obituary(), told(140, 200, 3));
        bench.holes.told();
        bench.greets(2, &[]).sends(2, 2, 220..=220);
        assert_eq!(bench.holes.obituary(), None);
        bench.restart().greets(3, &[]);
        assert_eq!(bench.holes.obituary(), None, "nothing of it has come");
        bench.sends(3, 0, 300..=300);
        assert_eq!(bench.holes.obituary(), told(220, 300, 0));
    }

    #[test]
    fn an_end_is_told_of_also_behind_a_restart_of_the_aggregator() {
        let mut bench = Bench::new();
        bench.greets(1, &[]).sends(1, 0, 10..=100).greets(2, &[(1, 10, 13)]).sends(2, 0, 200..=210);
        bench.sends(1, 10, 110..=110).restart().greets(2, &[(1, 11, 13)]);
        assert_eq!(bench.holes.obituary(), None, "something is left to come");
        bench.sends(1, 11, 120..=130);
        let at = |second: i64| Timestamp::from_seconds(1_000_000 + second);
        let expect = Obituary { how: How::Forgotten, last: at(130), back: at(200), left: 2 };
        assert_eq!(bench.holes.obituary(), Some(expect));
        bench.holes.told();
        bench.restart().greets(2, &[]).sends(2, 2, 220..=220);
        assert_eq!(bench.holes.obituary(), None);
    }

    #[test]
    fn what_is_between_two_processes_is_missing_once() {
        Bench::new().greets(1, &[]).sends(1, 0, 10..=100).greets(2, &[]).sends(2, 0, 150..=200).check(4);
        Bench::new().greets(1, &[]).sends(1, 0, 10..=100).greets(2, &[]).sends(2, 0, 110..=200).check(0);
        Bench::new().sends(1, 0, 10..=20).sends(2, 0, 50..=60).restart().sends(3, 0, 100..=110).restart().check(5);
    }

    #[test]
    fn one_that_said_that_it_goes_misses_nothing() {
        Bench::new()
            .greets(1, &[])
            .sends(1, 0, 10..=100)
            .goes()
            .restart()
            .greets(2, &[])
            .sends(2, 0, 150..=200)
            .check(0);
        // It said so before anything of it had come; what it left is found on disk.
        let mut bench = Bench::new();
        bench.greets(1, &[]).sends(1, 0, 10..=100).greets(2, &[]).goes().restart();
        bench.greets(3, &[(2, 0, 3)]).sends(3, 0, 300..=300).check(0).sends(2, 0, 130..=150).check(2);
    }

    #[test]
    fn what_waits_on_disk_is_not_missing() {
        let mut bench = Bench::new();
        bench.greets(1, &[]).sends(1, 0, 10..=100).greets(2, &[(1, 10, 15)]);
        bench.sends(2, 0, 200..=230).check(0).restart().greets(2, &[(1, 10, 15)]);
        bench.sends(1, 10, 110..=140).check(0).sends(1, 14, 150..=150).check(4).sends(2, 4, 240..=300).check(4);
    }

    #[test]
    fn several_processes_that_died_are_told_apart() {
        let mut bench = Bench::new();
        bench.greets(1, &[]).sends(1, 0, 10..=50).greets(2, &[(1, 5, 6)]).sends(2, 0, 100..=110);
        bench.greets(3, &[(1, 5, 6), (2, 2, 3)]).sends(3, 0, 200..=200).check(0);
        bench.sends(2, 2, 120..=120).check(0).sends(1, 5, 60..=60).check(3 + 7);
        // A spool that comes again after all was counted counts for nothing.
        bench.sends(1, 6, 70..=90).sends(3, 1, 210..=300).check(10);
    }

    #[test]
    fn a_run_that_is_numbered_on_is_the_same_process() {
        let mut holes = Holes::default();
        for (seq, (later, stamp)) in (0..).zip([(0, 10), (1, 20), (2, 200)]) {
            holes.arrive(&batch(1, later, seq, stamp));
            assert_eq!(holes.settle(), []);
        }
        assert_eq!(holes.spans.len(), 1);
    }

    #[test]
    fn processes_without_end_take_no_memory() {
        let mut holes = Holes::default();
        for run in 0..=u8::MAX {
            let held = SpoolHeld { spool: SpoolId([99; 16]), next: Seq(0), predecessor_held: false };
            holes.greet(RunId([run; 16]), &[held, held], &[Seq(0), Seq(9)], How::Killed);
            if run % 2 == 0 {
                holes.arrive(&batch(run, 0, 0, 1_000 * i64::from(run)));
            }
            holes.settle();
            assert!(holes.spans.len() <= SPANS_MAX + 2, "{}", holes.spans.len());
        }
        assert!(0 < holes.missing());
    }
}
