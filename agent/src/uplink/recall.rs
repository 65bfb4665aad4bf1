//! What the aggregator asks of the flight recorder in one session, and what of the answers is yet to be sent. Pure but for
//! the recorder that it reads.

use std::collections::VecDeque;
use std::time::Duration;

use common::batch::RunId;
use common::batch::TICK;
use common::time::Timestamp;
use common::wire::message::Message;
use common::wire::message::Recall;
use common::wire::message::Recorded;

use crate::recorder::Cursor;
use crate::recorder::Piece;
use crate::recorder::Recorder;

/// Questions at once: a person's and a few more.
pub const RECALLS_MAX: usize = 4;

/// How long what is recorded is sent as it is recorded, behind what was: who looks longer asks again.
pub const FOLLOWED_MAX: Duration = Duration::from_secs(600);

/// Answers are paced, so that nobody who asks costs more than a few per cent of a core or holds windows up.
const RECALLED_BYTES_PER_SECOND: u32 = 1 << 20;

/// The questions of one session.
#[derive(Debug)]
pub struct Recalls {
    recorder: Recorder,
    /// The first run of this process.
    run: RunId,
    asked: VecDeque<Asked>,
    /// Questions that are not answered: there are too many.
    refused: VecDeque<u32>,
    /// When the next piece may go.
    next_at: Duration,
}

#[derive(Debug)]
struct Asked {
    id: u32,
    to: Timestamp,
    cursor: Cursor,
}

impl Recalls {
    /// No questions to the recorder of a process whose first run is `run`.
    #[must_use]
    pub const fn new(recorder: Recorder, run: RunId) -> Self {
        Self { recorder, run, asked: VecDeque::new(), refused: VecDeque::new(), next_at: Duration::ZERO }
    }

    /// Takes a question, or takes it back.
    pub(super) fn ask(&mut self, recall: &Recall) {
        let &Recall { id, from, to, .. } = recall;
        self.asked.retain(|asked| asked.id != id);
        if to < from {
            return;
        }
        if RECALLS_MAX <= self.asked.len() {
            self.refused.push_back(id);
            self.refused.truncate(RECALLS_MAX);
            return;
        }
        let to = to.min(self.recorder.latest().after(FOLLOWED_MAX));
        self.asked.push_back(Asked { id, to, cursor: self.recorder.cursor(from) });
    }

    /// The next answer, if it is time for one. The questions are answered in turn.
    pub(super) fn next(&mut self, now: Duration) -> Option<Message> {
        if now < self.next_at {
            return None;
        }
        if let Some(id) = self.refused.pop_front() {
            return Some(self.answer(id, Piece::default(), true));
        }
        for _ in 0..self.asked.len() {
            let mut asked = self.asked.pop_front()?;
            let piece = self.recorder.next(&mut asked.cursor);
            let Asked { id, to, mut cursor } = asked;
            // What the present second brings is not waited for.
            let end = to <= self.recorder.latest().after(TICK) && self.recorder.next(&mut cursor).is_none();
            if !end {
                self.asked.push_back(asked);
            }
            if piece.is_some() || end {
                let piece = piece.unwrap_or_default();
                let bytes = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
                self.next_at = now.saturating_add(Duration::from_secs(1) * bytes / RECALLED_BYTES_PER_SECOND);
                return Some(self.answer(id, piece, end));
            }
        }
        None
    }

    /// When there may be an answer without anything else happening, in time since boot.
    pub(super) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        let waiting = !self.asked.is_empty() || !self.refused.is_empty();
        (waiting && now < self.next_at).then_some(self.next_at)
    }

    /// Waits until more was recorded; for ever while nobody asks.
    pub(super) async fn recorded(&self) {
        if self.asked.is_empty() {
            return std::future::pending().await;
        }
        self.recorder.recorded().await;
    }

    fn answer(&self, id: u32, piece: Piece, end: bool) -> Message {
        let Piece { run, begin, decimals, bytes } = piece;
        let run = u128::from_be_bytes(self.run.0).wrapping_add(run.into());
        Message::Recorded(Recorded { id, run: RunId(run.to_be_bytes()), begin, decimals, bytes, end, ext: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use common::metric::Decimals;
    use common::metric::Tier;
    use common::schema::SeriesIndex;
    use common::wire::recording::Track;

    use super::*;

    const RUN: RunId = RunId([1; 16]);

    fn second(at: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + at)
    }

    fn record(recorder: &Recorder, seconds: std::ops::Range<i64>) {
        for at in seconds {
            let value = f64::from(u32::try_from(at).unwrap());
            recorder.record(second(at), Tier::Second, &[(SeriesIndex(0), value)], |_| Decimals::new(0));
        }
    }

    fn recall(id: u32, from: i64, to: i64) -> Recall {
        Recall { id, from: second(from), to: second(to), ext: Vec::new() }
    }

    /// The seconds that come in answer until there is no more, and whether that is the end.
    fn heard(recalls: &mut Recalls, id: u32, (track, decimals): (&mut Track, &mut Vec<Decimals>)) -> (Vec<i64>, bool) {
        let (mut seconds, mut now) = (Vec::new(), Duration::from_secs(10));
        while let Some(message) = recalls.next(now) {
            now = recalls.wakes_at(now).unwrap_or(now);
            let Message::Recorded(recorded) = message else { panic!("{message:?}") };
            assert_eq!((recorded.id, recorded.run), (id, RUN));
            if recorded.begin {
                (*track, *decimals) = (Track::default(), Vec::new());
            }
            decimals.extend(recorded.decimals);
            let mut at = 0;
            while let Some(tick) = track.next(decimals, &recorded.bytes, &mut at) {
                seconds.push(tick.stamp.since(second(0)).as_secs().cast_signed());
            }
            assert_eq!(at, recorded.bytes.len(), "whole ticks");
            recalls.next_at = Duration::ZERO;
            if recorded.end {
                return (seconds, true);
            }
        }
        (seconds, false)
    }

    #[test]
    fn what_is_held_is_sent_and_then_what_comes() {
        let recorder = Recorder::default();
        record(&recorder, 0..300);
        let mut recalls = Recalls::new(recorder.clone(), RUN);
        let (mut track, mut decimals) = (Track::default(), Vec::new());
        let mut check = |recalls: &mut Recalls, expect: std::ops::Range<i64>, end| {
            assert_eq!(heard(recalls, 7, (&mut track, &mut decimals)), (expect.collect(), end));
        };
        recalls.ask(&recall(7, 250, 299));
        check(&mut recalls, 240..300, true);
        recalls.ask(&recall(7, 130, 366));
        check(&mut recalls, 120..300, false);
        check(&mut recalls, 0..0, false);
        record(&recorder, 300..303);
        check(&mut recalls, 300..303, false);
        record(&recorder, 303..366);
        check(&mut recalls, 303..366, true);
        check(&mut recalls, 0..0, false);
    }

    #[test]
    fn questions_are_taken_back_and_too_many_are_refused() {
        let recorder = Recorder::default();
        record(&recorder, 0..3);
        let mut recalls = Recalls::new(recorder, RUN);
        for id in 0..8 {
            recalls.ask(&recall(id, 0, 1_000));
        }
        let refused: Vec<_> = (0..RECALLS_MAX).filter_map(|_| recalls.next(Duration::ZERO)).collect();
        assert!(refused.iter().all(|message| matches!(message, Message::Recorded(recorded) if recorded.end)));
        for id in 0..8 {
            recalls.ask(&recall(id, 1, 0));
        }
        assert_eq!((recalls.next(Duration::MAX), recalls.wakes_at(Duration::ZERO)), (None, None));
    }

    #[test]
    fn nobody_is_followed_for_ever() {
        let recorder = Recorder::default();
        record(&recorder, 0..10);
        let mut recalls = Recalls::new(recorder.clone(), RUN);
        recalls.ask(&recall(1, 0, 1 << 40));
        record(&recorder, 10..10 + FOLLOWED_MAX.as_secs().cast_signed());
        let (mut track, mut decimals) = (Track::default(), Vec::new());
        assert!(heard(&mut recalls, 1, (&mut track, &mut decimals)).1);
    }
}
