//! Data directories of former versions are brought up to date, with all that lies in them.

use super::*;

/// Steps of the version whose logs had indexes, gave their numbers themselves, and of which the spools were written with
/// each batch.
const INDEXED: usize = 13;

/// What a store has in its tables, put into those of a former version in another directory.
fn former(now: &Path, before: &Path, steps: usize) {
    let mut connection = database::writing(&before.join(FILE)).unwrap();
    migration::migrate_to(&mut connection, steps).unwrap();
    connection.execute("ATTACH ?1 AS now", [now.join(FILE).to_str().unwrap()]).unwrap();
    for table in ["schema_change", "host_labels", "sealed", "spool", "origin_series", "log", "origin_log"] {
        let names = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
        let names: String = connection.query_row(&names, [], |row| row.get(0)).unwrap();
        connection.execute(&format!("INSERT INTO main.{table} ({names}) SELECT {names} FROM now.{table}"), []).unwrap();
    }
    let next =
        "INSERT OR REPLACE INTO main.spool SELECT host, spool, max(seq) + 1, 0 FROM main.log GROUP BY host, spool";
    connection.execute(next, []).unwrap();
}

/// Steps of the version that put each batch into its log.
const WITHOUT_TAIL: usize = 16;

#[tokio::test]
async fn logs_with_indexes_are_read_and_go_on() {
    check_goes_on(INDEXED).await;
}

#[tokio::test]
async fn logs_without_a_tail_are_read_and_go_on() {
    check_goes_on(WITHOUT_TAIL).await;
}

async fn check_goes_on(steps: usize) {
    let [now, dir] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let running = Running::start(now.path(), &clock());
    let mut agent = Agent::start(1);
    let own = |window: u64| Append::Own { stamp: stamp(window), samples: vec![(Labels::new().with(NAME, "up"), 1.0)] };
    let mut latest = Commit::default();
    for window in 1..=3 {
        latest = agent.batch(stamp(window), [1.5, 5.0]);
        running.store.commit(latest.clone()).await.unwrap();
        running.store.commit(Commit { appends: vec![own(window)], records: Vec::new() }).await.unwrap();
    }
    let mut expect = dump(&running.store, &[]);
    running.stop();
    former(now.path(), dir.path(), steps);
    for window in [4, 5] {
        let again = Running::start(dir.path(), &clock());
        assert_eq!(dump(&again.store, &[]), expect);
        assert_eq!(again.store.commit(latest).await.unwrap().batches[0].samples, None, "it was stored before");
        latest = agent.batch(stamp(window), [1.5, 5.0]);
        again.store.commit(latest.clone()).await.unwrap();
        again.store.commit(Commit { appends: vec![own(window)], records: Vec::new() }).await.unwrap();
        expect = dump(&again.store, &[]);
        assert!(expect.iter().all(|series| series.ends_with(&format!("@{}", 10 * window))), "{expect:?}");
        again.stop();
    }
}
