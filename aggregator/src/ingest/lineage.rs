//! Which process of a host's agent is in session, and whether another one that holds the same comes back after it. Pure.
//!
//! An agent names each session by chance and says which one it had before. Whoever comes back behind a session that is not
//! the latest of its host was not there for that one: another process was, with the same key. A process that begins has no
//! session before, and takes over: that is a restart, or a copy that begins; the two cannot be told apart until the process
//! before it comes back.

use std::net::SocketAddr;
use std::time::Duration;

use common::batch::RunId;
use common::time::Timestamp;
use common::wire::message::Copied;
use common::wire::message::Hello;
use common::wire::message::SessionName;
use common::wire::message::read_lineage;

/// Sessions in a row of which none is known to have been welcomed.
const NAMES_MAX: usize = 16;

/// How long the process that was let in may be away before the other one is: longer than it takes to notice that a link is
/// dead and to come back.
const AWAY_MIN: Duration = Duration::from_secs(90);

/// How long it is told of somebody who was kept out.
const TOLD_FOR: Duration = Duration::from_secs(3_600);

/// Somebody who was kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOut {
    /// The latest time.
    pub at: Timestamp,
    /// Where it came from.
    pub from: SocketAddr,
}

/// What is known of the processes of one host's agent.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// The latest session that was welcomed for certain, and those after it: which of them the agent knows of cannot be
    /// known. By their numbers.
    sessions: Vec<(u64, SessionName)>,
    /// The run of the latest process.
    run: Option<RunId>,
    kept_out: Option<KeptOut>,
}

impl Lineage {
    /// Whether somebody who greets is not the process that is in session, or was until `left`, nor one that begins: what
    /// of it there is twice.
    #[must_use]
    pub fn judge(&self, hello: &Hello, left: Option<Timestamp>, now: Timestamp) -> Option<Copied> {
        let before = read_lineage(&hello.ext)?.before?;
        if self.sessions.is_empty() || self.sessions.iter().any(|(_, name)| *name == before) {
            return None;
        }
        if self.run == Some(hello.run) {
            return Some(Copied::Process);
        }
        let away = left.map(|left| now.since(left));
        away.is_none_or(|away| away < AWAY_MIN).then_some(Copied::State)
    }

    /// Somebody is let in.
    pub fn greet(&mut self, hello: &Hello, number: u64) {
        let Some(lineage) = read_lineage(&hello.ext) else {
            *self = Self { kept_out: self.kept_out, ..Self::default() };
            return;
        };
        let follows = |before| self.sessions.iter().any(|(_, name)| *name == before);
        if !lineage.before.is_some_and(follows) {
            // It comes behind the same one again if it hears no welcome.
            self.sessions = lineage.before.map(|before| (0, before)).into_iter().collect();
        }
        if NAMES_MAX <= self.sessions.len() {
            self.sessions.remove(1);
        }
        self.sessions.push((number, lineage.session));
        self.run = Some(hello.run);
    }

    /// Something came in a session: its agent was welcomed.
    pub fn welcomed(&mut self, number: u64) {
        if self.sessions.iter().any(|(known, _)| *known == number) {
            self.sessions.retain(|(known, _)| number <= *known);
        }
    }

    /// Somebody was kept out. Whether that is to be told: not each time that it tries.
    pub fn keep_out(&mut self, from: SocketAddr, now: Timestamp) -> bool {
        let before = self.kept_out.replace(KeptOut { at: now, from });
        before.is_none_or(|before| TOLD_FOR < now.since(before.at))
    }

    /// Who was kept out last.
    #[must_use]
    pub const fn kept_out(&self) -> Option<KeptOut> {
        self.kept_out
    }
}

#[cfg(test)]
mod tests {
    use common::metric::Labels;
    use common::wire::message;

    use super::*;

    fn hello(run: u8, session: u8, before: u8) -> Hello {
        let before = (before != 0).then_some([before; 16]);
        Hello {
            agent_version: String::new(),
            run: RunId([run; 16]),
            schema_version: 0,
            spools: Vec::new(),
            codec_max: 1,
            boot_id: [0; 16],
            hostname: String::new(),
            labels: Labels::new(),
            wall: Timestamp::default(),
            ext: vec![message::lineage(message::Lineage { session: [session; 16], before })],
        }
    }

    /// Greetings by run, session and the session before, and what becomes of each: `+` is let in and heard of, `-` is let
    /// in and hears no welcome, `S` and `P` are kept out. Ten seconds lie between them; all are in session meanwhile, or
    /// none for the seconds given.
    #[track_caller]
    fn check(greetings: &[(u8, u8, u8)], away: Option<i64>, expect: &str) {
        let mut lineage = Lineage::default();
        let mut number = 0;
        for ((run, session, before), expect) in greetings.iter().zip(expect.chars()) {
            number += 1;
            let now = Timestamp::from_seconds(10_000);
            let left = away.map(|away| Timestamp::from_seconds(10_000 - away));
            let hello = hello(*run, *session, *before);
            let judged = lineage.judge(&hello, left, now);
            match judged {
                None => lineage.greet(&hello, number),
                Some(_) => drop(lineage.keep_out(SocketAddr::from(([127, 0, 0, 1], 1)), now)),
            }
            if expect == '+' {
                lineage.welcomed(number);
            }
            let expected = match expect {
                'S' => Some(Copied::State),
                'P' => Some(Copied::Process),
                _ => None,
            };
            assert_eq!(judged, expected, "session {session}");
        }
    }

    #[test]
    fn one_process_comes_back_behind_any_session_that_it_may_know_of() {
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 2)], None, "+++");
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 1), (1, 4, 3)], None, "+--+");
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 4, 2)], None, "+---");
        // The aggregator began behind session 7.
        check(&[(1, 8, 7), (1, 9, 8)], None, "++");
        check(&[(1, 8, 7), (1, 9, 7), (1, 10, 9), (1, 11, 7)], None, "-++P");
        let lost: Vec<_> = (2..100).map(|session| (1, session, 1)).collect();
        check(&[&[(1, 1, 0)], &lost[..], &[(1, 100, 99)]].concat(), None, &format!("+{}+", "-".repeat(98)));
    }

    #[test]
    fn a_restart_takes_over_and_who_was_taken_over_from_is_kept_out() {
        check(&[(1, 1, 0), (2, 2, 0), (2, 3, 2)], None, "+++");
        check(&[(1, 1, 0), (2, 2, 0), (1, 3, 1), (1, 4, 1), (2, 5, 2)], None, "++SS+");
        check(&[(1, 1, 0), (2, 2, 0), (1, 3, 1)], Some(89), "++S");
        check(&[(1, 1, 0), (2, 2, 0), (1, 3, 1), (2, 4, 2)], Some(90), "++++");
        check(&[(1, 1, 0), (2, 2, 0), (1, 3, 1), (1, 4, 1), (1, 5, 4)], Some(90), "++-++");
    }

    #[test]
    fn a_process_that_was_copied_with_its_memory_is_kept_out_for_good() {
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 1), (1, 4, 1)], None, "++PP");
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 1)], Some(1_000), "++P");
        // It began anew.
        check(&[(1, 1, 0), (1, 2, 1), (1, 3, 1), (5, 4, 0), (1, 5, 2)], None, "++P+S");
    }

    #[test]
    fn agents_that_do_not_say_are_let_in() {
        let mut lineage = Lineage::default();
        lineage.greet(&hello(1, 1, 0), 1);
        let old = Hello { ext: Vec::new(), ..hello(1, 1, 0) };
        assert_eq!(lineage.judge(&old, None, Timestamp::default()), None);
        lineage.greet(&old, 2);
        assert_eq!(lineage.judge(&hello(3, 2, 9), None, Timestamp::default()), None);
    }

    #[test]
    fn it_is_told_once_an_hour() {
        let mut lineage = Lineage::default();
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let at = Timestamp::from_seconds;
        let told: Vec<_> = [0, 60, 3_000, 6_600, 10_201].map(|second| lineage.keep_out(from, at(second))).into();
        assert_eq!(told, [true, false, false, false, true]);
        assert_eq!(lineage.kept_out(), Some(KeptOut { at: at(10_201), from }));
    }
}
