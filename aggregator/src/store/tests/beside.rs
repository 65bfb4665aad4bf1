//! Process tables and events, from the log and from block files.

use super::*;
use crate::store::block::Tier;

#[tokio::test]
async fn the_process_table_of_a_moment_is_that_of_the_window_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { retention: Retention::default(), ..config() };
    let running = Running::start_with(dir.path(), config, &clock());
    let mut agent = Agent::start(1);
    for window in 1..5 {
        let process = Process { pid: 7, command: "nginx".to_owned(), cpu_ms: window, ..Process::default() };
        let batch = Batch { stamp: stamp(window), processes: vec![process], ..Batch::default() };
        running.store.commit(agent.encode(&batch)).await.unwrap();
    }
    let check = async |millis: i64, expect: Option<u64>| {
        let at = Timestamp::from_millis(stamp(0).as_millis() + millis);
        let found = running.store.processes(HOST, at).await.unwrap();
        assert_eq!(found.map(|(_, processes)| processes[0].cpu_ms), expect, "{millis} ms");
    };
    check(0, None).await;
    check(1, Some(1)).await;
    check(10_000, Some(1)).await;
    check(10_001, Some(2)).await;
    check(40_000, Some(4)).await;
    check(40_001, None).await;
    let mut settler = running.settler();
    let mut settled = |window| while settler.step(stamp(window)) {};
    // Sealed; merged; with something late beside it; merged with that.
    for window in [1_000, 10_000, 10_400, 14_000] {
        settled(window);
        check(0, None).await;
        check(10_000, Some(1)).await;
        check(10_001, Some(2)).await;
        check(40_000, Some(4)).await;
        check(40_001, None).await;
        let process = Process { pid: 7, command: "nginx".to_owned(), cpu_ms: 3, ..Process::default() };
        let batch = Batch { stamp: stamp(3), processes: vec![process], ..Batch::default() };
        running.store.commit(agent.encode(&batch)).await.unwrap();
    }
    assert_eq!(running.store.shared.blocks.overlapping(Tier::Raw, ALL).len(), 1);
    running.stop();
}

#[tokio::test]
async fn events_of_agents_and_of_the_aggregator_stand_together() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let event = |window, kind: &str| Event {
        at: stamp(window),
        kind: kind.to_owned(),
        entity: Labels::new(),
        text: String::new(),
    };
    let mut agent = Agent::start(1);
    let batch = Batch { stamp: stamp(2), events: vec![event(2, "oom_kill")], ..Batch::default() };
    let noticed = Append::Event { host: HOST, event: event(1, "host_renamed") };
    running.store.commit(agent.encode(&batch)).await.unwrap();
    running.store.commit(Commit { appends: vec![noticed], records: vec![] }).await.unwrap();
    let kinds = |store: &Store| store.events(None, ALL).into_iter().map(|(_, event)| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&running.store), ["host_renamed", "oom_kill"]);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(kinds(&again.store), ["host_renamed", "oom_kill"]);
    again.settler().step(stamp(1_000));
    assert_eq!(kinds(&again.store), ["host_renamed", "oom_kill"]);
    again.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(kinds(&again.store), ["host_renamed", "oom_kill"]);
    assert_eq!(again.store.events(Some(HostId(2)), ALL), []);
    again.stop();
}

#[tokio::test]
async fn a_backup_has_the_block_files_and_a_damaged_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.5, 5.0])).await.unwrap();
    running.settler().step(stamp(1_000));
    running.store.commit(agent.batch(stamp(1_000), [2.5, 6.0])).await.unwrap();
    let expect = dump(&running.store, &[]);
    let file = dir.path().join(running.store.shared.blocks.all()[0].block.to_string());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "process tables are in it");
    let (backup, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    crate::store::backup::back_up(dir.path(), backup.path(), || Ok(running.store.shared.snapshot()?)).unwrap();
    running.stop();
    crate::store::backup::restore(backup.path(), &Lock::take(restored.path()).unwrap()).unwrap();
    let again = Running::start(restored.path(), &clock());
    assert_eq!(dump(&again.store, &[]), expect);
    again.stop();

    damage(&file);
    let damage = verify::verify(dir.path());
    assert!(damage.iter().all(|damage| damage.file.starts_with("raw/")) && !damage.is_empty(), "{damage:?}");
    let rest = Running::start(dir.path(), &clock());
    assert_eq!(dump(&rest.store, &[]).concat().matches('@').count(), 2, "what is not in the damaged file is served");
    rest.stop();

    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let rest = Running::start(dir.path(), &clock());
    let answer = select(&rest.store, &[], &[Field::Last]);
    assert!(matches!(answer, Err(SelectError::Unreadable(_))), "what cannot be read now is not left out: {answer:?}");
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(dump(&rest.store, &[]).concat().matches('@').count(), 2, "what is gone is left out");
    rest.stop();
}

/// Turns a byte of a file's samples round.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let part = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    let part = Connection::open(file).unwrap().query_row("SELECT data FROM part", [], part).unwrap();
    let at = bytes.windows(part.len()).position(|bytes| bytes == part).unwrap();
    bytes[at + 1] ^= 0xff;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_kept_aside_when_what_is_left_of_it_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    for window in [1, 400] {
        running.store.commit(agent.batch(stamp(window), [1.5, 5.0])).await.unwrap();
        running.settler().step(stamp(window + 400));
    }
    let name = running.store.shared.blocks.all()[0].block.to_string();
    damage(&dir.path().join(&name));
    let damaged = std::fs::read(dir.path().join(&name)).unwrap();
    running.stop();

    let again = Running::start(dir.path(), &clock());
    let mut settler = again.settler();
    while settler.step(stamp(24 * 360 + 800)) {}
    let all = again.store.shared.blocks.all();
    assert!(all.iter().all(|file| file.block.to_string() != name), "{all:?}");
    assert_eq!(dump(&again.store, &[]).concat().matches('@').count(), 2, "what was not damaged");
    assert_eq!(std::fs::read(dir.path().join("quarantine").join(&name)).unwrap(), damaged);
    assert_eq!(std::fs::read_dir(dir.path().join("quarantine/raw")).unwrap().count(), 1, "the good one is not");
    drop((settler, all));
    again.stop();
    let later = Running::start(dir.path(), &clock());
    assert!(dir.path().join("quarantine").join(&name).exists());
    later.stop();
}
