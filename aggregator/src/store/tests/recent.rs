//! What is recorded anew with each window is there after any start, and takes few pages.

use super::*;
use crate::store::record::Record;
use crate::store::record::alerts;
use crate::store::record::alerts::Evaluated;
use crate::store::record::windows;
use crate::store::record::windows::Span;
use crate::store::record::windows::Windows;

fn of(host: HostId, window: u64, missing: u64) -> Windows {
    let span = Span { run: RunId([3; 16]), first: stamp(0), last: stamp(window), excused: false };
    Windows { host, settled: stamp(window), spans: vec![span], missing }
}

/// What comes with a window besides batches.
fn with(window: u64, hosts: &[u32]) -> Commit {
    let came = hosts.iter().map(|host| Record::Windows(of(HostId(*host), window, 1)));
    let evaluated = Record::Evaluated(Evaluated { through: stamp(window) });
    Commit { appends: Vec::new(), records: came.chain([evaluated]).collect() }
}

async fn kept(store: &Store) -> (Vec<Windows>, Option<Timestamp>) {
    store.read(|connection| Ok((windows::all(connection)?, alerts::evaluated_through(connection)?))).await.unwrap()
}

#[tokio::test]
async fn what_was_recorded_last_is_there_whether_its_rows_went_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(1);
    let running = Running::start(dir.path(), &clock());
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    for window in 1..=2 {
        running.store.commit(with(window, &[1, 2, 9])).await.unwrap();
    }
    // Its rows go with those of the hour; what comes behind them is again in rows.
    running.settler().step(stamp(1_000));
    let rows = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM origin_log", [], |row| row.get::<_, u32>(0))
    };
    assert_eq!(running.store.read(rows).await.unwrap(), 0);
    let sealed = [1, 2, 9].map(|host| of(HostId(host), 2, 2));
    assert_eq!(kept(&running.store).await, (sealed.to_vec(), Some(stamp(2))));
    running.store.commit(with(3, &[1])).await.unwrap();
    let forgotten = Commit { appends: Vec::new(), records: vec![Record::HostForgotten(HostId(9))] };
    running.store.commit(forgotten).await.unwrap();
    running.stop();
    for _ in 0..2 {
        let again = Running::start(dir.path(), &clock());
        let expect = vec![of(HostId(1), 3, 3), of(HostId(2), 2, 2)];
        assert_eq!(kept(&again.store).await, (expect, Some(stamp(3))));
        again.settler().step(stamp(1_000));
        again.stop();
    }
}

#[tokio::test]
async fn a_commit_of_a_small_house_changes_few_pages() {
    const WINDOWS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agents = [1, 2, 3].map(Agent::start);
    let written = || std::fs::metadata(dir.path().join("lapwing.db-wal")).unwrap().len();
    let mut before = 0;
    for window in 1..=WINDOWS {
        let mut all = with(window, &[1, 2, 3]);
        all.appends.extend(agents.iter_mut().flat_map(|agent| agent.batch(stamp(window), [1.5, 5.0]).appends));
        all.appends.push(Append::Own { stamp: stamp(window), samples: vec![(Labels::new().with(NAME, "up"), 1.0)] });
        running.store.commit(all).await.unwrap();
        if window == WINDOWS - 100 {
            before = written();
        }
    }
    // The page that its record begins on, now and then the next, and that of what is missing.
    let pages = (written() - before) / 1_024;
    assert!(pages < 280, "{pages} pages in a hundred commits");
    running.stop();
}
