//! Backups: made beside a running store, looked through, put back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::backup;
use crate::store::backup::BackupError;
use crate::store::backup::Source;
use crate::store::backup::restore;
use crate::store::snapshot::Snapshot;
use crate::store::snapshot::SnapshotError;
use crate::store::verify::verify;
use crate::store::verify::verify_beside;

fn told(data_dir: &Path) -> Vec<String> {
    verify(data_dir).iter().map(ToString::to_string).collect()
}

/// Of a store that stands.
fn back_up(data_dir: &Path, to: &Path) -> Result<backup::Copied, BackupError> {
    backup::back_up(data_dir, to, || unreachable!("nobody runs there"))
}

/// Of one that runs.
fn back_up_beside(store: &Store, to: &Path) -> backup::Copied {
    let shared = &store.shared;
    backup::back_up(shared.lock.data_dir(), to, || Ok(shared.snapshot()?)).unwrap()
}

fn told_beside(store: &Store) -> Vec<String> {
    let damage = verify_beside(store.shared.lock.data_dir(), || Ok(store.shared.snapshot()?)).unwrap();
    damage.iter().map(ToString::to_string).collect()
}

/// What lies in the directory of snapshots.
fn snapshots(data_dir: &Path) -> usize {
    fs::read_dir(data_dir.join("snapshots")).map_or(0, Iterator::count)
}

/// A store with two windows of a host and one sample of its own.
async fn some(data_dir: &Path) -> (Running, Agent) {
    let running = Running::start(data_dir, &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [0.29, 5.0])).await.unwrap();
    running.store.commit(agent.batch(stamp(2), [0.29, 7.0])).await.unwrap();
    let own = Append::Own { stamp: stamp(2), samples: vec![(Labels::new().with(NAME, "up"), 1.0)] };
    running.store.commit(Commit { appends: vec![own], records: vec![] }).await.unwrap();
    (running, agent)
}

#[tokio::test]
async fn a_backup_of_a_running_store_takes_its_place() {
    let [data, copy, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (running, mut agent) = some(data.path()).await;
    fs::write(data.path().join("ca.key"), "secret").unwrap();
    fs::set_permissions(data.path().join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(data.path().join("rules")).unwrap();
    fs::write(data.path().join("rules/a.yml"), "groups: []").unwrap();
    let then = dump(&running.store, &[]);
    let copied = back_up_beside(&running.store, copy.path());
    assert_eq!(copied.files, 3);
    running.store.commit(agent.batch(stamp(3), [0.3, 8.0])).await.unwrap();
    assert_eq!(told(copy.path()), Vec::<String>::new());
    assert_eq!(told_beside(&running.store), Vec::<String>::new());
    assert_eq!(snapshots(data.path()), 0);

    restore(copy.path(), &Lock::take(other.path()).unwrap()).unwrap();
    assert_eq!(fs::metadata(other.path().join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(other.path().join("rules/a.yml")).unwrap(), "groups: []");
    let restored = Running::start(other.path(), &clock());
    assert_eq!(dump(&restored.store, &[]), then);
    restored.stop();

    // The same place again is brought up to date; a store that stands can be copied too.
    let now = dump(&running.store, &[]);
    running.stop();
    back_up(data.path(), copy.path()).unwrap();
    let again = Running::start(copy.path(), &clock());
    assert_eq!(dump(&again.store, &[]), now);
    again.stop();
}

#[tokio::test]
async fn what_was_merged_since_is_not_kept_twice() {
    let [data, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, mut agent) = some(data.path()).await;
    let mut settler = running.settler();
    for window in [1_000, 5_000] {
        running.store.commit(agent.batch(stamp(window), [0.5, 9.0])).await.unwrap();
        while settler.step(stamp(window + 500)) {}
        back_up_beside(&running.store, copy.path());
        assert_eq!(told(copy.path()), Vec::<String>::new());
    }
    let names = |data_dir: &Path| {
        let names = fs::read_dir(data_dir.join("raw")).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(names(copy.path()), names(data.path()));
    assert_eq!(names(copy.path()).len(), 2, "the day that is over, and an hour");
    running.stop();
}

#[tokio::test]
async fn a_copy_is_whole_while_somebody_writes() {
    let [data, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, mut agent) = some(data.path()).await;
    let (store, to) = (running.store.clone(), copy.path().to_owned());
    let copying = std::thread::spawn(move || {
        for _ in 0..20 {
            back_up_beside(&store, &to);
            assert_eq!(told(&to), Vec::<String>::new());
        }
    });
    let mut window = 3;
    while !copying.is_finished() {
        running.store.commit(agent.batch(stamp(window), [0.5, 9.0])).await.unwrap();
        window += 1;
    }
    copying.join().unwrap();
    running.stop();
}

#[tokio::test]
async fn nothing_is_mixed_or_overwritten() {
    let [data, foreign] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, _) = some(data.path()).await;
    running.stop();
    fs::write(foreign.path().join("letter"), "dear").unwrap();
    let check = |outcome: Result<_, BackupError>, expect: &str| {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(back_up(data.path(), foreign.path()), "is no backup");
    check(back_up(data.path(), data.path()), "or in it");
    check(back_up(data.path(), &data.path().join("backup")), "or in it");
    assert!(!data.path().join("backup").exists());
    check(back_up(foreign.path(), data.path()), "is no data directory");
    let other = tempfile::tempdir().unwrap();
    let lock = Lock::take(other.path()).unwrap();
    check(back_up(data.path(), other.path()), "try again when it is done");
    drop(lock);
    back_up(data.path(), other.path()).unwrap();
    // SQLite reads what is called so as a part of whatever database lies beside it.
    fs::write(other.path().join("lapwing.db-wal"), "of another one").unwrap();
    check(back_up(data.path(), other.path()), "has a lapwing.db-wal");
    fs::remove_file(other.path().join(FILE)).unwrap();
    check(restore(data.path(), &Lock::take(other.path()).unwrap()), "has a lapwing.db-wal already");
    let lock = Lock::take(data.path()).unwrap();
    check(restore(foreign.path(), &lock), "already");
    let empty = tempfile::tempdir().unwrap();
    check(restore(data.path(), &Lock::take(empty.path()).unwrap()), "make a backup of it");
    drop(lock);
    let empty = tempfile::tempdir().unwrap();
    let lock = Lock::take(empty.path()).unwrap();
    check(restore(foreign.path(), &lock), "is no data directory");
    let newer = Connection::open(data.path().join(FILE)).unwrap();
    newer.pragma_update(None, "user_version", 1_000).unwrap();
    check(restore(data.path(), &lock), "newer");
    assert!(!empty.path().join(FILE).exists());
}

#[tokio::test]
async fn what_is_damaged_is_named() {
    let [data, empty] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, _) = some(data.path()).await;
    running.stop();
    let database = Connection::open(data.path().join(FILE)).unwrap();
    database.execute("UPDATE log SET payload = zeroblob(length(payload)) WHERE id = 2", []).unwrap();
    database.execute("UPDATE origin_log SET payload = zeroblob(length(payload))", []).unwrap();
    let expect = [
        "lapwing.db: row 2 of the log, of host 1: its checksum is wrong",
        "lapwing.db: row 3 of the log of origin 0: its checksum is wrong",
    ];
    assert_eq!(told(data.path()), expect);
    let lock = Lock::take(empty.path()).unwrap();
    let refused = restore(data.path(), &lock).unwrap_err().to_string();
    assert!(refused.contains("row 2 of the log"), "{refused}");
    drop(database);

    // A page of zeros, half a file, no database, nothing.
    let path = data.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let mut holed = whole.clone();
    let page = holed.len() / 4096 / 2 * 4096;
    holed[page..page + 4_096].fill(0);
    for bytes in [&holed[..], &whole[..whole.len() / 2], b"no database", b""] {
        fs::write(&path, bytes).unwrap();
        assert_ne!(told(data.path()), Vec::<String>::new(), "{} bytes", bytes.len());
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(told(data.path()), ["lapwing.db: it is missing"]);
}

#[tokio::test]
async fn what_is_no_longer_known_to_be_there_is_not_passed_over() {
    let data = tempfile::tempdir().unwrap();
    let (running, mut agent) = some(data.path()).await;
    running.store.commit(agent.batch(stamp(1_000), [0.5, 9.0])).await.unwrap();
    let mut settler = running.settler();
    while settler.step(stamp(1_000)) {}
    // The aggregator ends when it is asked a second time.
    let block = running.store.shared.blocks.all()[0].block.to_string();
    fs::rename(data.path().join(&block), data.path().join("away")).unwrap();
    let mut snapshot = Some(running.store.shared.snapshot().unwrap());
    let damage = verify_beside(data.path(), || snapshot.take().ok_or_else(|| anyhow::anyhow!("nobody answers")));
    let damage = damage.unwrap();
    assert!(damage.len() == 1 && damage[0].to_string().contains("nobody answers"), "{damage:?}");
    running.stop();
    fs::rename(data.path().join("away"), data.path().join(&block)).unwrap();
    let database = Connection::open(data.path().join(FILE)).unwrap();
    database.execute("UPDATE block SET tier = 99", []).unwrap();
    drop(database);
    let damage = told(data.path());
    assert!(damage.len() == 1 && damage[0].starts_with("lapwing.db: "), "{damage:?}");
}

#[tokio::test]
async fn a_link_in_place_of_the_database_leads_nowhere() {
    let [data, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let elsewhere = other.path().join("a.db");
    Connection::open(&elsewhere).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    let before = fs::read(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, data.path().join(FILE)).unwrap();
    Store::open(Lock::take(data.path()).unwrap(), config(), clock()).map(drop).unwrap_err();
    assert!(fs::read(&elsewhere).unwrap() == before, "it was written");
    // The directory itself may be one.
    let link = other.path().join("data");
    fs::remove_file(data.path().join(FILE)).unwrap();
    std::os::unix::fs::symlink(data.path(), &link).unwrap();
    Running::start(&link, &clock()).stop();
}

#[tokio::test]
async fn nobody_else_reads_what_is_stored_wherever_it_lies() {
    let [dir, backup] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    [&dir, &backup].into_iter().for_each(|dir| open(dir.path(), 0o755));
    let file = dir.path().join("lapwing.db");
    for _ in 0..2 {
        let running = Running::start(dir.path(), &clock());
        running.store.commit(Agent::start(1).batch(stamp(1), [1.0, 5.0])).await.unwrap();
        let beside = ["", "-wal"].map(|beside| mode(&dir.path().join(format!("lapwing.db{beside}"))));
        assert_eq!(beside, [0o600; 2]);
        let snapshot = running.store.snapshot().await.unwrap();
        assert_eq!(mode(snapshot.file()), 0o600);
        assert_eq!(mode(snapshot.file().parent().unwrap()), 0o700);
        back_up_beside(&running.store, backup.path());
        assert_eq!(mode(&backup.path().join("lapwing.db")), 0o600);
        running.stop();
        // As versions before made it.
        open(&file, 0o644);
    }
}

#[tokio::test]
async fn the_index_of_the_log_is_not_on_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let shm = data.path().join("lapwing.db-shm");
    // As a version before left it when it was killed.
    fs::write(&shm, [0xff; 65_536]).unwrap();
    let (running, mut agent) = some(data.path()).await;
    database::checkpoint(&data.path().join(FILE)).unwrap();
    running.store.commit(agent.batch(stamp(3), [0.3, 8.0])).await.unwrap();
    assert_eq!(dump(&running.store, &[]).len(), 3);
    assert!(!shm.exists(), "the kernel writes it every half minute");
    running.stop();
    assert_eq!(told(data.path()), Vec::<String>::new());
}

#[tokio::test]
async fn two_copies_at_once_are_one_moment_each() {
    let data = tempfile::tempdir().unwrap();
    let (running, mut agent) = some(data.path()).await;
    let first = running.store.snapshot().await.unwrap();
    running.store.commit(agent.batch(stamp(3), [0.3, 8.0])).await.unwrap();
    let second = running.store.snapshot().await.unwrap();
    let content = |file: &Path| fs::read(file).unwrap();
    assert_ne!(content(first.file()), content(second.file()));
    assert_eq!(snapshots(data.path()), 2);
    drop((first, second));
    assert_eq!(snapshots(data.path()), 0);
    running.stop();
}

#[tokio::test]
async fn what_commands_that_were_killed_left_is_bounded_and_goes_at_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = some(data.path()).await;
    let mut numbers = Vec::new();
    while let Ok(snapshot) = running.store.snapshot().await {
        numbers.push(snapshot.hand_over());
    }
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert!(matches!(running.store.snapshot().await, Err(SnapshotError::TooMany(_))));
    // The next one that is taken from there makes room.
    drop(Snapshot::numbered(data.path(), 3));
    drop(running.store.snapshot().await.unwrap());
    running.stop();
    Running::start(data.path(), &clock()).stop();
    assert_eq!(snapshots(data.path()), 0);
}

#[tokio::test]
async fn a_copy_that_is_not_finished_leaves_nothing() {
    let [data, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, mut agent) = some(data.path()).await;
    back_up_beside(&running.store, copy.path());
    // The store is told to stop while it copies.
    *running.store.shared.stop.left.lock().unwrap() = Some(0);
    let refused = backup::back_up(data.path(), copy.path(), || Ok(running.store.shared.snapshot()?)).unwrap_err();
    assert_eq!(refused.to_string(), "the aggregator is stopping");
    let refused = verify_beside(data.path(), || Ok(running.store.shared.snapshot()?)).unwrap_err();
    assert_eq!(refused.to_string(), "the aggregator is stopping", "that is no damage");
    assert_eq!(told(copy.path()), Vec::<String>::new(), "the backup before is there");
    assert_eq!(snapshots(data.path()), 0);
    *running.store.shared.stop.left.lock().unwrap() = None;
    running.store.commit(agent.batch(stamp(3), [0.3, 8.0])).await.unwrap();
    running.stop();
}

#[tokio::test]
async fn a_snapshot_that_is_read_leaves_nothing_whoever_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let (running, _) = some(data.path()).await;
    let source = Source::Snapshot(running.store.snapshot().await.unwrap());
    let (connection, _) = source.open().unwrap();
    assert_eq!(snapshots(data.path()), 0);
    assert_eq!(connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)), Ok("ok".to_owned()));
    running.stop();
}

#[tokio::test]
async fn one_that_did_not_begin_leaves_its_place_and_one_that_did_not_end_is_gone_on_with() {
    let [data, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, _) = some(data.path()).await;
    fs::write(data.path().join("ca.key"), "secret").unwrap();
    let back_up = |ask: &mut dyn FnMut() -> anyhow::Result<Snapshot>| backup::back_up(data.path(), copy.path(), ask);
    let refused = back_up(&mut || anyhow::bail!("nobody answers")).unwrap_err();
    assert_eq!(refused.to_string(), "nobody answers");
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0);
    // What was handed over is gone: the copy of the database fails.
    let gone = Snapshot::numbered(data.path(), 7);
    let mut gone = Some(gone);
    back_up(&mut || Ok(gone.take().unwrap())).unwrap_err();
    assert!(copy.path().join("ca.key").exists() && !copy.path().join(FILE).exists());
    back_up(&mut || Ok(running.store.shared.snapshot()?)).unwrap();
    assert_eq!(told(copy.path()), Vec::<String>::new());
    running.stop();
}

#[tokio::test]
async fn what_is_merged_while_it_is_looked_through_is_no_damage() {
    let data = tempfile::tempdir().unwrap();
    let (running, mut agent) = some(data.path()).await;
    let mut settler = running.settler();
    running.store.commit(agent.batch(stamp(1_000), [0.5, 9.0])).await.unwrap();
    while settler.step(stamp(1_000)) {}
    let mut asked = 0;
    let damage = verify_beside(data.path(), || {
        asked += 1;
        let snapshot = running.store.shared.snapshot()?;
        while settler.step(stamp(8_000)) {}
        Ok(snapshot)
    });
    assert_eq!((damage.unwrap(), asked), (Vec::new(), 2));
    let merged = running.store.shared.blocks.all()[0].block.to_string();
    fs::remove_file(data.path().join(&merged)).unwrap();
    let damage = told_beside(&running.store);
    assert!(damage.len() == 1 && damage[0].starts_with(&merged), "{damage:?}");
    running.stop();
}

#[tokio::test]
async fn a_copy_of_a_running_directory_is_read_as_it_lies() {
    let [data, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (running, _) = some(data.path()).await;
    for name in [FILE, "lapwing.db-wal"] {
        fs::copy(data.path().join(name), copy.path().join(name)).unwrap();
    }
    running.stop();
    let content = |name: &str| fs::read(copy.path().join(name)).unwrap();
    let before = [FILE, "lapwing.db-wal"].map(content);
    // Nothing can be made beside it: SQLite follows no link there.
    std::os::unix::fs::symlink("nowhere", copy.path().join("lapwing.db-shm")).unwrap();
    assert_eq!(told(copy.path()), Vec::<String>::new());
    assert!([FILE, "lapwing.db-wal"].map(content) == before, "it was written");
}
