//! What came last, while it is in no row of the logs, is what any other row is: read, kept, removed and looked through.

use rusqlite::MAIN_DB;

use super::*;
use crate::store::backup::back_up;
use crate::store::verify::verify;

/// Rows of the log of batches.
async fn rows_of_log(store: &Store) -> u32 {
    store.read(|connection| connection.query_row("SELECT count(*) FROM log", [], |row| row.get(0))).await.unwrap()
}

/// A data directory as it is when the power goes.
fn crashed(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let raw = copy.path().join("raw");
    std::fs::create_dir(&raw).unwrap();
    for file in std::fs::read_dir(data.join("raw")).into_iter().flatten().flatten() {
        std::fs::copy(file.path(), raw.join(file.file_name())).unwrap();
    }
    for file in [FILE, "lapwing.db-wal"] {
        std::fs::copy(data.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[tokio::test]
async fn more_than_has_room_becomes_rows_of_the_log() {
    const WINDOWS: u64 = 8_000;
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    for window in 1..=WINDOWS {
        running.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    let moved = u64::from(rows_of_log(&running.store).await);
    assert!((WINDOWS / 2..WINDOWS).contains(&moved), "{moved} of {WINDOWS}");
    let expect = dump(&running.store, &[]);
    assert_eq!(expect[0].matches('@').count() as u64, WINDOWS);
    let crashed = crashed(dir.path());
    assert!(verify(crashed.path()).is_empty());
    let again = Running::start(crashed.path(), &clock);
    assert_eq!((dump(&again.store, &[]), again.store.stats().unreadable_total), (expect, 0));
    assert_eq!(u64::from(rows_of_log(&again.store).await), WINDOWS);
    again.stop();
    running.stop();
}

#[tokio::test]
async fn a_large_commit_is_written_into_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    // Each is small, and together they would not have room.
    let mut agent = Agent::start(1);
    let mut all = Commit::default();
    (1..=4_000).for_each(|window| all.join(agent.batch(stamp(window), [1.0, 5.0])));
    for commit in [all, agent.batch(stamp(4_001), [1.0, 5.0])] {
        running.store.commit(commit).await.unwrap();
        assert_eq!(rows_of_log(&running.store).await, 4_000);
    }
    let expect = dump(&running.store, &[]);
    let crashed = crashed(dir.path());
    let again = Running::start(crashed.path(), &clock());
    assert_eq!((dump(&again.store, &[]), again.store.stats().unreadable_total), (expect, 0));
    again.stop();
    running.stop();
}

#[tokio::test]
async fn labels_stay_as_long_as_what_came_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    for (window, env) in [(1, "test"), (2, "live")] {
        running.store.set_host_labels(HOST, Labels::new().with("env", env)).await.unwrap();
        running.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    let expect = dump(&running.store, &[equal(NAME, "node_load1")]);
    assert_eq!(expect.len(), 2, "{expect:?}");
    // What another host commits lets the writer look for what has expired.
    clock.advance(Duration::from_secs(600));
    running.store.set_host_labels(HostId(2), Labels::new().with("env", "test")).await.unwrap();
    running.store.set_host_labels(HostId(2), Labels::new().with("env", "live")).await.unwrap();
    let again = crashed(dir.path());
    let again = Running::start(again.path(), &clock);
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), expect);
    again.stop();
    running.stop();
}

#[tokio::test]
async fn a_host_that_is_forgotten_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let (mut before, mut after) = (Agent::start(1), Agent::start(2));
    running.store.commit(before.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    // In one commit: what came before goes, and what comes behind stays.
    let mut all = before.batch(stamp(2), [1.0, 5.0]);
    all.appends.push(Append::Forget { host: HOST, instance: "web".to_owned() });
    all.join(after.batch(stamp(3), [2.0, 6.0]));
    running.store.commit(all).await.unwrap();
    let again = crashed(dir.path());
    let again = Running::start(again.path(), &clock());
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), [r#"node_load1{job="node"} 2@30"#]);
    assert_eq!(again.store.stats().unreadable_total, 0);
    again.stop();
    running.stop();
}

#[tokio::test]
async fn what_block_files_have_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    for window in 1..=200 {
        running.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    running.settler().step(stamp(150));
    let expect = dump(&running.store, &[]);
    assert_eq!(rows_of_log(&running.store).await, 0);
    let crashed = crashed(dir.path());
    let again = Running::start(crashed.path(), &clock);
    assert_eq!((dump(&again.store, &[]), again.store.stats().unreadable_total), (expect, 0));
    let left = rows_of_log(&again.store).await;
    assert!((50..150).contains(&left), "{left} of 200 rows");
    again.stop();
    running.stop();
}

#[tokio::test]
async fn damage_of_what_came_last_is_named_and_counted() {
    let [data, backup] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let running = Running::start(data.path(), &clock());
    // What is behind the damage is coded against nothing in it.
    for (window, run) in [(1, 1), (2, 2), (3, 3)] {
        running.store.commit(Agent::start(run).batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    back_up(data.path(), backup.path(), || Ok(running.store.shared.snapshot()?)).unwrap();
    running.stop();
    assert!(verify(backup.path()).is_empty());
    let damage = |at: usize| {
        let database = Connection::open(backup.path().join(FILE)).unwrap();
        database.blob_open(MAIN_DB, "tail", "records", 1, false).unwrap().write_at(&[0xff; 20], at).unwrap();
    };
    // The second record of three.
    let bytes: Vec<u8> = {
        let database = Connection::open(backup.path().join(FILE)).unwrap();
        database.query_row("SELECT records FROM tail", [], |row| row.get(0)).unwrap()
    };
    let first = 8 + usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    damage(first + 30);
    let told: Vec<String> = verify(backup.path()).iter().map(ToString::to_string).collect();
    let expect = "lapwing.db: the end of its logs: 1 of its records cannot be read: a checksum is wrong";
    assert_eq!(told, [expect]);
    let again = Running::start(backup.path(), &clock());
    assert_eq!(again.store.stats().unreadable_total, 1);
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")]), [r#"node_load1{job="node"} 1@10 1@30"#]);
    again.stop();
    assert!(verify(backup.path()).is_empty(), "what is read is in the log");
}

#[tokio::test]
async fn room_of_another_length_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.0, 5.0])).await.unwrap();
    running.stop();
    let database = Connection::open(dir.path().join(FILE)).unwrap();
    database.execute("UPDATE tail SET records = substr(records, 1, 100)", []).unwrap();
    drop(database);
    let again = Running::start(dir.path(), &clock());
    for window in 2..=9 {
        again.store.commit(agent.batch(stamp(window), [1.0, 5.0])).await.unwrap();
    }
    assert_eq!(dump(&again.store, &[equal(NAME, "node_load1")])[0].matches('@').count(), 9);
    again.stop();
}
