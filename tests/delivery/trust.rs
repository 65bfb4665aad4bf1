//! Certificates over weeks, and hosts that an operator does not want any more.

use aggregator::ingest::presence::HostChange;
use common::batch::HostId;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Real time between two looks at what the network does in real time.
const GLANCE: Duration = Duration::from_millis(10);

/// Lets the clock of both sides go on until something is so.
pub(crate) async fn until(bench: &Bench, step: Duration, mut so: impl FnMut() -> bool) {
    let waited = async {
        while !so() {
            bench.clock.advance(step);
            tokio::time::sleep(GLANCE).await;
        }
    };
    timeout(PATIENCE, waited).await.unwrap();
}

fn expires(bench: &Bench) -> Timestamp {
    bench.presence.with_hosts(|hosts| hosts[0].certificate_expires)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_beside_the_session_and_after_their_end() {
    let bench = Bench::with(Clock::moved(Clock::real().wall())).await;
    let state = tempfile::tempdir().unwrap();
    let kept = || std::fs::read(state.path().join("certificate.pem")).unwrap_or_default();
    let uplink = bench.uplink(state.path(), Some(bench.token(1, Wanted::default()).await));
    let (stop, began) = (CancellationToken::new(), bench.clock.wall());
    uplink.spool.push(&batch(began), &schema(), bench.clock.boot());
    let (mut running, spool) = (JoinSet::new(), uplink.spool.clone());
    running.spawn(uplink.run(stop.clone()));
    // It has been welcomed then, and knows when to renew: days that pass before that would not count.
    timeout(PATIENCE, spool.emptied()).await.unwrap();
    let (first, first_expires) = (kept(), expires(&bench));
    assert_eq!(first_expires.since(began), 30 * DAY);

    bench.clock.advance(19 * DAY);
    tokio::time::sleep(10 * GLANCE).await;
    assert_eq!(kept(), first, "not before two thirds of its time");
    // Also while the key is lost there: the process has it.
    let [key, aside] = ["key.pem", "aside"].map(|name| state.path().join(name));
    std::fs::rename(&key, &aside).unwrap();
    bench.clock.advance(DAY + DAY / 24);
    until(&bench, Duration::ZERO, || kept() != first).await;
    assert!(!key.exists(), "no other one is made");
    std::fs::rename(&aside, &key).unwrap();
    assert_eq!(expires(&bench).since(first_expires), 20 * DAY + DAY / 24);
    assert_eq!(bench.counters.sessions_total.get(), 1, "the session goes on");
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);

    // Off for five weeks.
    bench.clock.advance(35 * DAY);
    let (second, stop) = (kept(), CancellationToken::new());
    assert!(expires(&bench) < bench.clock.wall());
    let mut running = JoinSet::new();
    let again = Uplink { spool: Spool::new(RunId([4; 16]), SpoolId([5; 16])), ..bench.uplink(state.path(), None) };
    running.spawn(again.run(stop.clone()));
    until(&bench, Duration::from_secs(1), || bench.counters.sessions_total.get() == 2).await;
    assert_ne!(kept(), second);
    assert!(bench.clock.wall() < expires(&bench));
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_host_is_out_at_once_and_for_good() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let several = Wanted { uses: 5, ..Wanted::default() };
    let token = bench.token(1, several).await;
    let mut running = JoinSet::new();
    running.spawn(bench.uplink(state.path(), Some(token.clone())).run(CancellationToken::new()));
    until(&bench, Duration::ZERO, || bench.counters.sessions_total.get() == 1).await;
    let revoke = HostChange { revoke: true, ..HostChange::default() };
    let (commit, _) = bench.presence.change(HostId(1), &revoke, bench.clock.wall()).unwrap();
    bench.store.commit(commit).await.unwrap();
    let ended = timeout(PATIENCE, running.join_next()).await.unwrap().unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("was revoked"));
    assert_eq!(bench.presence.snapshot()[0].state, State::Revoked);

    // Neither with its certificate nor with a token that still lets others in.
    let refused = bench.refused(bench.uplink(state.path(), None)).await;
    assert!(refused.contains("was revoked"), "{refused}");
    std::fs::remove_file(state.path().join("certificate.pem")).unwrap();
    let refused = bench.refused(bench.uplink(state.path(), Some(token.clone()))).await;
    assert!(refused.contains("was revoked"), "{refused}");
    let stored = bench.store.read(record::hosts::all).await.unwrap();
    assert!(stored[0].revoked, "also after a restart");
    drop(bench.end().await);
}

/// Agents and tokens that know the authority before are let in, learn the new one when they renew, and remember the old
/// one: a token of it that is still written in their configuration is no other aggregator's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_can_be_rotated_under_agents_that_know_the_one_before() {
    let bench = Bench::with(Clock::moved(Clock::real().wall())).await;
    let [early, late] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let known = |state: &TempDir| std::fs::read_to_string(state.path().join("ca.pem")).unwrap_or_default();
    let token = bench.token(1, Wanted { uses: 2, ..Wanted::default() }).await;
    let join = |bench: &Bench, state: &TempDir, token: Option<String>| {
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(bench.uplink(state.path(), token).run(stop.clone()));
        (stop, running)
    };
    let (stop, running) = join(&bench, &early, Some(token.clone()));
    until(&bench, Duration::ZERO, || bench.counters.sessions_total.get() == 1).await;
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);
    let before = known(&early);

    let clock = bench.clock.clone();
    let data = bench.end().await;
    Authority::rotate(data.path(), clock.wall(), false).unwrap();
    let bench = Bench::over(data, clock).await;
    let (stop, running) = join(&bench, &early, None);
    let (stop_late, running_late) = join(&bench, &late, Some(token.clone()));
    until(&bench, Duration::ZERO, || bench.counters.sessions_total.get() == 2).await;
    assert_eq!(known(&early), before, "it learns of the new one with its next certificate");
    let after = known(&late);
    assert!(!after.contains(&before), "who comes later knows the new one alone");
    bench.clock.advance(20 * DAY + DAY / 24);
    until(&bench, Duration::ZERO, || known(&early) == format!("{after}{before}")).await;
    for (stop, running) in [(stop, running), (stop_late, running_late)] {
        stop.cancel();
        running.join_all().await.into_iter().for_each(Result::unwrap);
    }

    // The token has long expired: it is not asked for.
    let (stop, running) = join(&bench, &early, Some(token));
    until(&bench, Duration::ZERO, || bench.counters.sessions_total.get() == 3).await;
    stop.cancel();
    running.join_all().await.into_iter().for_each(Result::unwrap);
    drop(bench.end().await);
}
