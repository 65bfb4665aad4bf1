//! What is answered while the log is read again.

use tokio::task::JoinSet;

use super::*;
use crate::store::replay::Books;

const OLD: TimeRange = TimeRange { after: Timestamp::from_millis(0), through: Timestamp::from_seconds(1_001_000) };

#[tokio::test]
async fn what_lies_in_the_rest_of_the_log_is_not_denied() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(1), [1.5, 5.0])).await.unwrap();
    running.settler().step(stamp(1_000));
    running.store.commit(agent.batch(stamp(1_000), [2.5, 6.0])).await.unwrap();
    let expect = dump(&running.store, &[]);
    running.stop();

    let (store, writer) = Store::begin(Lock::take(dir.path()).unwrap(), config(), clock.clone()).unwrap();
    let found = |range| {
        answer(&store, Question { matchers: &[], range, fields: &FIELDS, latest: false, grains: Grains::default() })
    };
    let named = |range| store.series::<SelectError>(&[], range, (10, &|_| Ok(())));
    let unread = |range| {
        let errors = [found(range).map(drop), named(range).map(drop)];
        errors.into_iter().all(|answer| matches!(answer, Err(SelectError::Unread { .. })))
    };
    assert!(unread(OLD) && unread(ALL), "it is not known which series there are");
    let books = Books::read(&writer.connection, &writer.shared, clock.wall()).unwrap();
    assert_eq!((found(OLD).unwrap().len(), named(OLD).unwrap().len()), (2, 2));
    assert!(unread(ALL));
    assert_eq!(store.health(), Health::Reading);
    let (reading, read, of) = store.reading();
    assert_eq!((reading, read), (Reading::Batches(stamp(1_000)), 0));
    assert!(0 < of);
    drop(books);

    // Nothing is acknowledged before.
    let mut committed = JoinSet::new();
    let (waiting, commit) = (store.clone(), agent.batch(stamp(1_001), [3.5, 7.0]));
    committed.spawn(async move { waiting.commit(commit).await });
    tokio::task::yield_now().await;
    assert!(committed.try_join_next().is_none());
    // Whoever is told to stop meanwhile leaves everything as it was.
    store.close();
    std::thread::spawn(move || writer.run()).join().unwrap();
    assert_eq!(committed.join_next().await.unwrap().unwrap(), Err(CommitError::Closed));
    assert!(store.has_read().await.is_err(), "it was told to stop before");
    drop(store);

    let (store, writer) = Store::begin(Lock::take(dir.path()).unwrap(), config(), clock).unwrap();
    let writing = std::thread::spawn(move || writer.run());
    store.has_read().await.unwrap();
    assert_eq!((store.health(), dump(&store, &[])), (Health::Writable, expect));
    Running { store, writer: writing }.stop();
}

#[tokio::test]
async fn what_came_late_counts_as_unread_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let running = Running::start(dir.path(), &clock);
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(2), [1.5, 5.0])).await.unwrap();
    running.settler().step(stamp(1_000));
    running.store.commit(agent.batch(stamp(1), [2.5, 6.0])).await.unwrap();
    running.stop();
    let (store, writer) = Store::begin(Lock::take(dir.path()).unwrap(), config(), clock.clone()).unwrap();
    drop(Books::read(&writer.connection, &writer.shared, clock.wall()).unwrap());
    assert_eq!(store.reading().0, Reading::Batches(stamp(1)));
    drop(writer);
}
