//! Delivery under a hostile link: the agent's real spool and dialogue, the real wire, the aggregator's real session, and
//! a ledger that does of the store what delivery needs. A seed decides everything that happens.
//!
//! What must hold: nothing acknowledged is lost, nothing is stored twice, batches of one spool are stored in order and
//! to the bit, what is missing was counted, and everything drains once the faults end.
#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on should fail")]
#![expect(clippy::print_stderr, reason = "seeds are printed")]

mod ledger;
mod world;

use std::thread;

use world::Sabotage;
use world::Summary;
use world::simulate;

/// Seeds tried each time. A failure names its seed.
const SEEDS: u64 = 1_000;

#[test]
fn stored_once_in_order_or_counted() {
    let half =
        |first: u64| thread::spawn(move || (first..SEEDS).step_by(2).map(run).fold(Summary::default(), Summary::and));
    let halves = [half(0), half(1)];
    let summary = halves.into_iter().map(|half| half.join().unwrap()).fold(Summary::default(), Summary::and);
    eprintln!("seeds 0..{SEEDS}: {summary:?}");
    let Summary { produced, stored, dropped, overtakings, anew } = summary;
    assert!(0 < dropped && 0 < overtakings && 0 < anew && produced < stored * 2, "the seeds reach too little");
}

fn run(seed: u64) -> Summary {
    simulate(seed, Sabotage::None).map_err(|failure| format!("seed {seed}: {failure}")).unwrap()
}

fn caught(sabotage: Sabotage) -> Vec<String> {
    (0..50).filter_map(|seed| simulate(seed, sabotage).err()).collect()
}

#[test]
fn live_batches_first_within_one_spool_are_caught() {
    assert!(caught(Sabotage::LiveFirst).len() > 25);
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    let caught = caught(Sabotage::AckBeforeCommit);
    assert!(caught.iter().any(|failure| failure.contains("lost")), "{caught:?}");
}

#[test]
fn forgetting_what_is_stored_is_caught() {
    let caught = caught(Sabotage::ForgetNext);
    assert!(caught.iter().any(|failure| failure.contains("twice")), "{caught:?}");
}
