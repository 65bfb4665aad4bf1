//! Two agents with one state: machines of which one is a copy of the other.

use super::trust::until;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An agent with some windows, running on a state directory.
struct Agent {
    spool: Spool,
    stop: CancellationToken,
    running: JoinSet<Result<(), UplinkError>>,
}

impl Agent {
    fn start(bench: &Bench, state: &Path, (run, windows): (u8, u32), join: Option<String>) -> Self {
        let (first_run, spool) = (RunId([run; 16]), Spool::new(RunId([run; 16]), SpoolId([run; 16])));
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let agent = Uplink { spool: spool.clone(), first_run, ..bench.uplink(state, join) };
        running.spawn(agent.run(stop.clone()));
        let agent = Self { spool, stop, running };
        agent.push(bench, windows);
        agent
    }

    fn push(&self, bench: &Bench, windows: u32) {
        let now = bench.clock.wall().align_down(10 * SECOND);
        let stamps = (0..windows).map(|back| now.before(10 * SECOND * (windows - back)));
        stamps.for_each(|stamp| self.spool.push(&batch(stamp), &schema(), bench.clock.boot()));
    }

    async fn end(self) -> Result<(), UplinkError> {
        self.stop.cancel();
        self.running.join_all().await.into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_agents_with_one_state_the_later_stays_and_nothing_is_lost() {
    let bench = Bench::with(Clock::moved(Clock::real().wall())).await;
    let [original, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let token = bench.token(1, Wanted::default()).await;
    let first = Agent::start(&bench, original.path(), (1, 3), Some(token));
    timeout(PATIENCE, first.spool.emptied()).await.unwrap();
    for entry in std::fs::read_dir(original.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let second = Agent::start(&bench, copy.path(), (2, 2), None);
    timeout(PATIENCE, second.spool.emptied()).await.unwrap();
    assert_eq!(bench.counters.replaced_total.get(), 1);

    // The first comes back again and again, and the session of the second goes on.
    first.push(&bench, 4);
    until(&bench, SECOND, || 3 <= bench.counters.copied_total.get()).await;
    second.push(&bench, 1);
    timeout(PATIENCE, second.spool.emptied()).await.unwrap();
    assert_eq!((bench.counters.replaced_total.get(), bench.counters.sessions_total.get()), (1, 2));
    assert_eq!(first.spool.figures().depth, 4, "they wait");
    assert!(bench.presence.snapshot()[0].kept_out.is_some());

    // The copy is gone.
    second.end().await.unwrap();
    until(&bench, SECOND, || first.spool.figures().depth == 0).await;
    assert_eq!(first.spool.figures().dropped_total, 0);
    assert_eq!(bench.counters.batches_total.get(), 10);
    first.end().await.unwrap();
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_which_another_said_more_drops_what_it_has_and_counts_it() {
    let bench = Bench::start().await;
    let state = tempfile::tempdir().unwrap();
    let token = bench.token(1, Wanted::default()).await;
    let first = Agent::start(&bench, state.path(), (1, 3), Some(token));
    timeout(PATIENCE, first.spool.emptied()).await.unwrap();
    let copy = Agent::start(&bench, state.path(), (1, 2), None);
    let (spool, ended) = (copy.spool.clone(), timeout(PATIENCE, copy.running.join_all()).await.unwrap());
    assert!(matches!(ended[..], [Err(UplinkError::Copied(2))]), "{ended:?}");
    assert_eq!((spool.figures().depth, spool.figures().dropped_total), (0, 2));
    assert_eq!(bench.counters.batches_total.get(), 3, "none of it was mixed with what is there");
    first.end().await.unwrap();
    drop(bench.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_waits_for_no_interval_of_what_it_sent_before() {
    // Nothing else is written meanwhile.
    let (clock, interval) = (Clock::moved(Clock::real().wall()), Duration::from_secs(3_600));
    let bench = Bench::committing(tempfile::tempdir().unwrap(), clock, interval).await;
    let state = tempfile::tempdir().unwrap();
    let token = bench.token(1, Wanted::default()).await;
    let killed = Agent::start(&bench, state.path(), (1, 3), Some(token));
    until(&bench, Duration::ZERO, || killed.spool.figures().sessions_total == 1).await;
    let again = Agent::start(&bench, state.path(), (2, 1), None);
    until(&bench, Duration::ZERO, || 0 < again.spool.figures().sessions_total).await;
    assert_eq!(bench.counters.sessions_total.get(), 2, "it is welcomed before it has enough of waiting");
    again.end().await.unwrap();
    killed.end().await.unwrap();
    drop(bench.end().await);
}
