//! The return of a fleet that lost all its sessions at once: the agents' real way back, as the aggregator's real core asks
//! for it, before a door that lets in so many at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;

use agent::uplink::comeback::Comeback;
use aggregator::ingest::session::return_within_of;

use crate::random::Random;

/// What a handshake and the first words of a session take of the aggregator's core.
const OPENING: Duration = Duration::from_micros(600);

/// Handshakes that the door lets in at once; whoever comes behind them is turned away.
const AT_ONCE: usize = 64;

/// How long an agent waits for an aggregator that is not there.
const UNANSWERED: Duration = Duration::from_secs(5);

/// How the sessions were lost, and how long the aggregator was away.
#[derive(Clone, Copy, Debug)]
struct Loss {
    hosts: usize,
    away: Duration,
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

fn play(loss: Loss, seed: u64) -> Returned {
    let mut random = Random::new(seed);
    let mut draw = move || f64::from(u32::try_from(random.below(1 << 20)).unwrap()) / f64::from(1 << 20);
    let within = return_within_of(loss.hosts);
    let mut agents = vec![Comeback::new(); loss.hosts];
    let mut coming: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    for (agent, comeback) in agents.iter_mut().enumerate() {
        comeback.hear(loss.spread.then_some(within));
        coming.push(Reverse((comeback.next(draw()), agent)));
    }
    // When each of those that were let in has its session.
    let mut opening: VecDeque<Duration> = VecDeque::new();
    let mut returned = Returned { over: Duration::ZERO, turned_away: 0 };
    while let Some(Reverse((now, agent))) = coming.pop() {
        opening.retain(|done| now < *done);
        let again = if now < loss.away {
            UNANSWERED
        } else if AT_ONCE <= opening.len() {
            returned.turned_away += 1;
            Duration::ZERO
        } else {
            let done = opening.back().map_or(now, |last| *last) + OPENING;
            opening.push_back(done);
            returned.over = returned.over.max(done.saturating_sub(loss.away));
            continue;
        };
        coming.push(Reverse((now + again + agents[agent].next(draw()), agent)));
    }
    returned
}

#[test]
fn a_fleet_returns_within_ten_seconds_and_hardly_anybody_is_turned_away() {
    for (seed, hosts) in (0..).zip([1, 100, 1_000, 10_000]) {
        for away in [0, 500, 1_500].map(Duration::from_millis) {
            let loss = Loss { hosts, away, spread: true };
            let returned = play(loss, seed);
            assert!(
                returned.over <= Duration::from_secs(10) && returned.turned_away <= hosts / 50,
                "{loss:?}: {returned:?}"
            );
        }
    }
}

#[test]
fn a_fleet_whose_aggregator_is_away_for_long_returns_by_its_back_off() {
    for away in [10, 60, 600].map(Duration::from_secs) {
        let returned = play(Loss { hosts: 10_000, away, spread: true }, 1);
        // Who has waited longest comes once in 45 seconds, after 5 without an answer.
        assert!(returned.over <= Duration::from_secs(60) && returned.turned_away < 1_000, "{away:?}: {returned:?}");
    }
}

#[test]
fn agents_that_come_at_once_are_found() {
    let returned = play(Loss { hosts: 10_000, away: Duration::from_millis(500), spread: false }, 1);
    assert!(5_000 < returned.turned_away && Duration::from_secs(10) < returned.over, "{returned:?}");
}
