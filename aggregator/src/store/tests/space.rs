//! What the database takes on the disk.

use super::*;

#[tokio::test]
async fn what_a_backlog_left_empty_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let event = |window| Event {
        at: stamp(window),
        kind: "host_silent".to_owned(),
        entity: Labels::new(),
        text: "x".repeat(1 << 16),
    };
    for window in 1..=200 {
        let append = Append::Event { host: HOST, event: event(window) };
        running.store.commit(Commit { appends: vec![append], records: vec![] }).await.unwrap();
    }
    let bytes = async |running: &Running| {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let count = |connection: &Connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        running.store.read(count).await.unwrap()
    };
    assert!(200 << 16 <= bytes(&running).await);
    running.settler().step(stamp(1_000));
    // Some are kept for the next rows.
    let left = bytes(&running).await;
    assert!(left < 5 << 20, "{left}");
    // The disk has it back, too, though nothing is written behind it.
    let on_disk = std::fs::metadata(dir.path().join("lapwing.db")).unwrap().len();
    assert!(on_disk < 5 << 20, "{on_disk}");
    assert_eq!(running.store.events(None, ALL).len(), 200);
    running.stop();
}
