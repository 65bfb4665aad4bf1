//! Questions to the flight recorders of agents: on their way to a session, and the answers on their way back.

use common::time::Timestamp;
use common::wire::message::Message;
use common::wire::message::Recall;
use common::wire::message::Recorded;
use tokio::sync::mpsc;

/// Questions that wait for a session that is busy.
const ASKS_MAX: usize = 4;

/// Questions of one session that are being answered: as many as an agent answers.
const RECALLS_MAX: usize = 4;

/// Pieces that a reader may fall behind, about 2 MiB; one who falls further behind is left.
const PIECES_MAX: usize = 16;

/// A question.
#[derive(Debug)]
pub(super) struct Ask {
    from: Timestamp,
    to: Timestamp,
    answer: mpsc::Sender<Recorded>,
}

/// Where questions to one session are put.
#[derive(Clone, Debug)]
pub(super) struct Asks(mpsc::Sender<Ask>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRecalled {
    /// The host is not connected.
    Away,
    /// Its agent is of a version that does not answer.
    Unable,
    /// Too many ask already.
    Busy,
}

/// The questions of one session.
#[derive(Debug)]
pub(super) struct Recalls {
    asks: mpsc::Receiver<Ask>,
    next: u32,
    open: Vec<(u32, mpsc::Sender<Recorded>)>,
}

/// Both ends of the way to a session.
pub(super) fn channel() -> (Asks, Recalls) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    (Asks(sender), Recalls { asks, next: 0, open: Vec::new() })
}

impl Asks {
    /// Asks for what is recorded between two moments, the later of which may be to come.
    pub(super) fn ask(&self, from: Timestamp, to: Timestamp) -> Result<mpsc::Receiver<Recorded>, NotRecalled> {
        let (answer, answers) = mpsc::channel(PIECES_MAX);
        self.0.try_send(Ask { from, to, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotRecalled::Busy,
            mpsc::error::TrySendError::Closed(_) => NotRecalled::Away,
        })?;
        Ok(answers)
    }
}

impl Recalls {
    /// The next question, as it is put to the agent.
    pub(super) async fn asked(&mut self) -> Message {
        loop {
            let Some(Ask { from, to, answer }) = self.asks.recv().await else {
                // The book has let go of the session: it is about to end.
                return std::future::pending().await;
            };
            self.open.retain(|(_, answer)| !answer.is_closed());
            if self.open.len() < RECALLS_MAX {
                let id = self.next;
                self.next = id.wrapping_add(1);
                self.open.push((id, answer));
                return recall(id, from, to);
            }
        }
    }

    /// Hands on an answer. What is said to the agent when nobody waits for it any more.
    pub(super) fn hear(&mut self, recorded: Recorded) -> Option<Message> {
        let (id, end) = (recorded.id, recorded.end);
        let at = self.open.iter().position(|(open, _)| *open == id);
        let taken = at.is_some_and(|at| self.open[at].1.try_send(recorded).is_ok());
        if taken && !end {
            return None;
        }
        if let Some(at) = at {
            self.open.swap_remove(at);
        }
        (!end).then(|| recall(id, Timestamp::from_millis(1), Timestamp::default()))
    }
}

fn recall(id: u32, from: Timestamp, to: Timestamp) -> Message {
    Message::Recall(Recall { id, from, to, ext: Vec::new() })
}

#[cfg(test)]
mod tests {
    use common::batch::RunId;
    use futures::FutureExt as _;

    use super::*;

    fn recorded(id: u32, end: bool) -> Recorded {
        let run = RunId([1; 16]);
        Recorded { id, run, begin: true, decimals: Vec::new(), bytes: vec![1], end, ext: Vec::new() }
    }

    fn ask(asks: &Asks, recalls: &mut Recalls) -> (Option<u32>, mpsc::Receiver<Recorded>) {
        let answers = asks.ask(Timestamp::from_seconds(1), Timestamp::from_seconds(2)).unwrap();
        let id = recalls.asked().now_or_never().map(|message| {
            let Message::Recall(Recall { id, from, to, .. }) = message else { panic!("{message:?}") };
            assert!(from < to);
            id
        });
        (id, answers)
    }

    #[test]
    fn answers_go_to_who_asked() {
        let (asks, mut recalls) = channel();
        let (first, mut to_first) = ask(&asks, &mut recalls);
        let (second, mut to_second) = ask(&asks, &mut recalls);
        assert_eq!(recalls.hear(recorded(second.unwrap(), false)), None);
        assert_eq!(recalls.hear(recorded(first.unwrap(), true)), None);
        assert!(to_first.try_recv().unwrap().end);
        assert!(to_first.try_recv().is_err() && recalls.open.len() == 1);
        assert!(!to_second.try_recv().unwrap().end);
    }

    #[test]
    fn what_nobody_waits_for_is_taken_back() {
        let takes_back = |message: Option<Message>, id: u32| {
            assert!(matches!(message, Some(Message::Recall(recall)) if recall.id == id && recall.to < recall.from));
        };
        let (asks, mut recalls) = channel();
        let (id, answers) = ask(&asks, &mut recalls);
        drop(answers);
        takes_back(recalls.hear(recorded(id.unwrap(), false)), 0);
        takes_back(recalls.hear(recorded(99, false)), 99);
        assert_eq!(recalls.hear(recorded(99, true)), None);
        // A reader that does not read is left.
        let (id, _answers) = ask(&asks, &mut recalls);
        for _ in 0..PIECES_MAX {
            assert_eq!(recalls.hear(recorded(id.unwrap(), false)), None);
        }
        takes_back(recalls.hear(recorded(id.unwrap(), false)), 1);
    }

    #[test]
    fn too_many_are_refused() {
        let (asks, mut recalls) = channel();
        let open: Vec<_> = (0..RECALLS_MAX).map(|_| ask(&asks, &mut recalls)).collect();
        let (id, mut answers) = ask(&asks, &mut recalls);
        assert_eq!((id, answers.try_recv()), (None, Err(mpsc::error::TryRecvError::Disconnected)));
        let waiting: Vec<_> = (0..ASKS_MAX).map(|_| asks.ask(Timestamp::default(), Timestamp::default())).collect();
        assert!(waiting.iter().all(Result::is_ok));
        assert_eq!(asks.ask(Timestamp::default(), Timestamp::default()).unwrap_err(), NotRecalled::Busy);
        drop((open, recalls));
        assert_eq!(asks.ask(Timestamp::default(), Timestamp::default()).unwrap_err(), NotRecalled::Away);
    }
}
