//! Delivery in a hostile world: the agent's real spool with its disk, its real dialogue, the real wire, the aggregator's
//! real session and ledger. A seed decides everything that happens: links that break, agents that are killed or lose
//! their power at any write, disks that are full, torn or damaged, stores that are full or lose their log, clocks that
//! jump, frames that nobody knows.
//!
//! What must hold: nothing acknowledged is lost, nothing is stored twice, each window is what was pushed, to the bit;
//! what is missing was counted or died with an agent within half a minute of its end; memory and disk stay within their
//! limits; and everything drains once the faults end.
//!
//! `fleet` plays the return of many agents that lost their sessions at once, `clones` two processes with one state.
//!
//! `make simulate SEED=17` plays one seed, `make simulate SEEDS=100000` many.
#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on should fail")]
#![expect(clippy::print_stderr, reason = "seeds are printed")]

mod clones;
mod disk;
mod fleet;
mod ledger;
mod random;
mod world;

use std::ops::Range;
use std::thread;

use world::Sabotage;
use world::Summary;
use world::simulate;

/// Seeds tried each time. A failure names its seed.
const SEEDS: u64 = 2_000;

/// Seeds among which each broken rule must be found.
const SEEDS_BROKEN: u64 = 300;

#[test]
fn stored_once_in_order_or_counted() {
    let seeds = asked(SEEDS);
    let summary = all(&seeds);
    eprintln!("seeds {seeds:?}: {summary:?}");
    if SEEDS <= seeds.end - seeds.start {
        let Summary { stored, dropped, overtakings, anew, written, replayed, damaged, .. } = summary;
        assert!([dropped, overtakings, anew, written, replayed, damaged].iter().all(|times| SEEDS / 4 < *times));
        assert!(summary.produced < stored * 2, "the seeds reach too little");
    }
}

/// The seeds that the environment names, or so many.
fn asked(seeds: u64) -> Range<u64> {
    let asked = |name| std::env::var_os(name)?.to_str()?.parse::<u64>().ok();
    match (asked("SEED"), asked("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, asked) => 0..asked.unwrap_or(seeds),
    }
}

fn all(seeds: &Range<u64>) -> Summary {
    let half = |first: u64| {
        let seeds = first..seeds.end;
        thread::spawn(move || seeds.step_by(2).map(run).fold(Summary::default(), Summary::and))
    };
    let halves = [half(seeds.start), half(seeds.start + 1)];
    halves.into_iter().map(|half| half.join().unwrap()).fold(Summary::default(), Summary::and)
}

fn run(seed: u64) -> Summary {
    simulate(seed, Sabotage::None).map_err(|failure| format!("seed {seed}: {failure}")).unwrap()
}

/// A rule that is broken on purpose is found, more than once, as what it breaks.
#[track_caller]
fn check(sabotage: Sabotage, expect: &str) {
    let found = (0..SEEDS_BROKEN).filter_map(|seed| simulate(seed, sabotage).err());
    let named = found.filter(|failure| failure.contains(expect)).take(2).count();
    assert_eq!(named, 2, "{sabotage:?}");
}

#[test]
fn each_broken_rule_is_found() {
    check(Sabotage::LiveFirst, "not at hand");
    check(Sabotage::AckBeforeCommit, "lost");
    check(Sabotage::AckTooMuch, "lost");
    check(Sabotage::ForgetNext, "twice");
    check(Sabotage::AlwaysHeld, "not at hand");
    check(Sabotage::SkipSchema, "schema");
    check(Sabotage::WriteNothing, "lost");
    check(Sabotage::AdoptNotAll, "lost");
    check(Sabotage::NeverRemove, "files are left");
    check(Sabotage::NeverRead, "do not drain");
    check(Sabotage::WriteLate, "waited");
    check(Sabotage::NoLimit, "in memory");
}

/// A seed takes several times as long as with one agent.
const SEEDS_CLONES: u64 = 500;

#[test]
fn what_two_with_one_state_have_is_stored_once_or_given_up_and_told() {
    let seeds = asked(SEEDS_CLONES);
    let play =
        |seed| clones::simulate(seed, clones::Sabotage::None).map_err(|failure| format!("seed {seed}: {failure}"));
    let summary = seeds.clone().map(|seed| play(seed).unwrap()).fold(clones::Summary::default(), clones::Summary::and);
    eprintln!("seeds {seeds:?}: {summary:?}");
    if SEEDS_CLONES <= seeds.end - seeds.start {
        let clones::Summary { stored, told, given_up } = summary;
        assert!([told, given_up].iter().all(|times| SEEDS_CLONES < *times) && given_up < stored / 10);
    }
}

#[test]
fn each_broken_rule_about_copies_is_found() {
    for (sabotage, expect) in [
        (clones::Sabotage::LetIn, "they take turns"),
        (clones::Sabotage::HideHeld, "not what was pushed"),
        (clones::Sabotage::ForgetNext, "twice"),
    ] {
        let found = (0..SEEDS_BROKEN).filter_map(|seed| clones::simulate(seed, sabotage).err());
        let named = found.filter(|failure| failure.contains(expect)).take(2).count();
        assert_eq!(named, 2, "{sabotage:?}");
    }
}
