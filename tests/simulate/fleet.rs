//! The return of a fleet that lost all its sessions at once: the agents' real way back, as the aggregator's real core asks
//! for it, before its real door, over a network that takes its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

use agent::uplink::comeback::Comeback;
use aggregator::ingest::door::Answer;
use aggregator::ingest::door::Door;
use aggregator::ingest::door::Place;
use aggregator::ingest::session::return_within_of;

use crate::random::Random;

/// What a handshake and the first words of a session take of the aggregator's core.
const OPENING: Duration = Duration::from_micros(600);

/// When an agent sends its first packet of an attempt, and again while nobody answers; the last of them is when it tries
/// TCP, and then QUIC once more.
const SENT: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(5)];

/// How the sessions were lost, and how long the aggregator was away.
#[derive(Clone, Copy, Debug)]
struct Loss {
    hosts: usize,
    away: Duration,
    round_trip: Duration,
    /// Whether the agents do what they are asked for.
    spread: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
struct Returned {
    /// From the moment at which the aggregator was there again until the last agent was back.
    over: Duration,
    turned_away: usize,
}

/// What happens to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// It begins an attempt.
    Dials,
    /// Its first packet is there, from an address that is shown to be its own or not.
    Knocks { shown: bool },
    /// Its handshake is done.
    Enters,
}

/// A fleet on its way back.
struct Return {
    loss: Loss,
    random: Random,
    agents: Vec<Comeback>,
    coming: BinaryHeap<Reverse<(Duration, usize, Step)>>,
    door: Door,
    places: Vec<Option<Place>>,
    /// Until when the aggregator's core works.
    busy: Duration,
    returned: Returned,
}

impl Return {
    /// Agents that learn of their loss at these moments.
    fn new(loss: Loss, heard: impl Iterator<Item = Duration>, seed: u64) -> Self {
        let mut fleet = Self {
            loss,
            random: Random::new(seed),
            agents: vec![Comeback::new(); loss.hosts],
            coming: BinaryHeap::new(),
            door: Door::default(),
            places: (0..loss.hosts).map(|_| None).collect(),
            busy: Duration::ZERO,
            returned: Returned { over: Duration::ZERO, turned_away: 0 },
        };
        for (agent, heard) in heard.enumerate() {
            fleet.agents[agent].hear(loss.spread.then_some(return_within_of(loss.hosts)));
            fleet.wait(agent, heard, Comeback::next);
        }
        fleet
    }

    fn wait(&mut self, agent: usize, now: Duration, next: fn(&mut Comeback, f64) -> Duration) {
        let drawn = f64::from(u32::try_from(self.random.below(1 << 20)).unwrap()) / f64::from(1 << 20);
        let delay = next(&mut self.agents[agent], drawn);
        self.coming.push(Reverse((now + delay, agent, Step::Dials)));
    }

    fn play(mut self) -> Returned {
        let Loss { away, round_trip, .. } = self.loss;
        while let Some(Reverse((now, agent, step))) = self.coming.pop() {
            match step {
                Step::Dials => match SENT.iter().map(|sent| now + *sent).find(|sent| away <= *sent) {
                    Some(sent) => self.coming.push(Reverse((sent, agent, Step::Knocks { shown: false }))),
                    None => self.wait(agent, now + SENT[3], Comeback::next),
                },
                Step::Knocks { shown } => match self.door.knock(address(agent), shown) {
                    Answer::Enter(place) => {
                        self.places[agent] = Some(place);
                        self.busy = self.busy.max(now) + OPENING;
                        self.coming.push(Reverse((self.busy + round_trip, agent, Step::Enters)));
                    }
                    Answer::Show => {
                        self.coming.push(Reverse((now + round_trip, agent, Step::Knocks { shown: true })));
                    }
                    Answer::Leave => {
                        self.returned.turned_away += 1;
                        self.wait(agent, now, Comeback::next_turned_away);
                    }
                },
                Step::Enters => {
                    self.places[agent] = None;
                    self.returned.over = self.returned.over.max(now.saturating_sub(away));
                }
            }
        }
        self.returned
    }
}

/// Each agent has one of its own.
fn address(agent: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(agent).unwrap()))
}

/// An aggregator that says goodbye when it goes.
fn restarted(loss: Loss, seed: u64) -> Returned {
    Return::new(loss, std::iter::repeat_n(Duration::ZERO, loss.hosts), seed).play()
}

#[test]
fn a_fleet_returns_within_ten_seconds_and_hardly_anybody_is_turned_away() {
    for (seed, hosts) in (0..).zip([1, 100, 1_000, 10_000]) {
        for away in [0, 500, 1_500, 3_000].map(Duration::from_millis) {
            // Agents of a machine that is too small take as long as those at the other end of the world.
            for round_trip in [1, 50, 700].map(Duration::from_millis) {
                let loss = Loss { hosts, away, round_trip, spread: true };
                let returned = restarted(loss, seed);
                let over = Duration::from_secs(10) + 2 * round_trip;
                assert!(returned.over <= over && returned.turned_away <= hosts / 10, "{loss:?}: {returned:?}");
            }
        }
    }
}

#[test]
fn a_fleet_whose_aggregator_is_away_for_long_returns_by_its_back_off() {
    // Who has waited longest comes once in 45 seconds, after 5 without an answer. After ten seconds, nearly all are about to
    // try, and do so within two; half of them find no room, and come again soon.
    for (away, over) in [(10, 10), (60, 60), (600, 60)].map(|(away, over)| (Duration::from_secs(away), over)) {
        let loss = Loss { hosts: 10_000, away, round_trip: Duration::from_millis(50), spread: true };
        let returned = restarted(loss, 1);
        assert!(returned.over <= Duration::from_secs(over) && returned.turned_away <= 6_000, "{away:?}: {returned:?}");
    }
}

#[test]
fn agents_that_come_at_once_are_found() {
    let away = Duration::from_millis(500);
    let returned = restarted(Loss { hosts: 10_000, away, round_trip: away, spread: false }, 1);
    assert!(5_000 < returned.turned_away, "{returned:?}");
}
