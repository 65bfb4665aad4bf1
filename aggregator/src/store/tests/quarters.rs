//! Quarters of an hour leave the head, and become hours and days.

use super::*;
use crate::store::commit::Written;

/// The ranges of all files, as they are named.
fn files(store: &Store) -> Vec<String> {
    let file = |block: String| block.rsplitn(3, '.').last().map(str::to_owned);
    let mut files: Vec<String> = store.shared.blocks.all().iter().filter_map(|of| file(of.block.to_string())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn quarters_become_hours_once_and_hours_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { retention: Retention::default(), ..config() };
    let running = Running::start_with(dir.path(), config, &clock());
    let mut agent = Agent::start(1);
    // From 13:46:50 on, each minute, for two hours.
    for minute in 0..120_u64 {
        let at = stamp(1 + 6 * minute);
        let event = Event { at, kind: minute.to_string(), entity: Labels::new(), text: String::new() };
        let process = Process { pid: 7, cpu_ms: minute, ..Process::default() };
        let sample = (SeriesIndex(0), Window::Gauge(Gauge::of(f64::from(u32::try_from(minute).unwrap()))));
        let batch = Batch { stamp: at, samples: vec![sample], events: vec![event], processes: vec![process] };
        running.store.commit(agent.encode(&batch)).await.unwrap();
    }
    let mut settler = running.settler();
    let told = |store: &Store| {
        let events: Vec<_> = store.events(Some(HOST), ALL).into_iter().map(|(_, event)| event.kind).collect();
        (dump(store, &[]), events)
    };
    let expect = told(&running.store);
    assert_eq!((expect.0[0].matches('@').count(), expect.1.len()), (120, 120));
    let mut check = async |seconds: i64, expected: &[&str]| {
        while settler.step(Timestamp::from_seconds(seconds)) {}
        assert_eq!(files(&running.store), expected, "at {seconds}");
        assert_eq!(told(&running.store), expect);
        for minute in [0, 13, 14, 44, 74, 119] {
            let found = running.store.processes(HOST, stamp(1 + 6 * minute)).await.unwrap();
            assert_eq!(found.unwrap().1[0].cpu_ms, minute);
        }
    };
    let day = 1_000_000 - 1_000_000 % 86_400;
    let at = |hour: i64, minute: i64| day + 3_600 * hour + 60 * minute;
    let quarters = ["raw/1970-01-12T1400", "raw/1970-01-12T1415", "raw/1970-01-12T1430", "raw/1970-01-12T1445"];
    // An hour that was over for an hour is sealed as one; one that was not is in quarters.
    check(at(15, 19), &[&["raw/1970-01-12T13"], &quarters[..]].concat()).await;
    check(at(15, 20), &[&["raw/1970-01-12T13"], &quarters[..], &["raw/1970-01-12T1500"]].concat()).await;
    let hours = ["raw/1970-01-12T13", "raw/1970-01-12T14", "raw/1970-01-12T1500", "raw/1970-01-12T1515"];
    check(at(16, 5), &[&hours[..], &["raw/1970-01-12T1530", "raw/1970-01-12T1545"]].concat()).await;
    // What comes late for an hour that is merged waits for its day.
    let sample = (SeriesIndex(0), Window::Gauge(Gauge::of(15.0)));
    let late = Batch { stamp: stamp(1 + 6 * 15), samples: vec![sample], ..Batch::default() };
    running.store.commit(agent.encode(&late)).await.unwrap();
    let hours = ["raw/1970-01-12T13", "raw/1970-01-12T14", "raw/1970-01-12T14", "raw/1970-01-12T15"];
    check(at(24, 50), &hours).await;
    check(at(25, 5), &["1h/1970-01-12", "5m/1970-01-12", "raw/1970-01-12"]).await;
    running.stop();
}

#[tokio::test]
async fn a_series_that_is_seldom_sampled_leaves_memory_when_it_was_silent_for_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut agent = Agent::start(1);
    running.store.commit(agent.batch(stamp(80), [1.0, 2.0])).await.unwrap();
    let mut settler = running.settler();
    // It is sealed at 14:05, in whose quarter it lies at its end.
    let mut series = |minute: i64| {
        while settler.step(stamp(80).after(Duration::from_secs(60 * minute.unsigned_abs()))) {}
        running.store.stats().series
    };
    assert_eq!([5, 20, 35, 50, 64].map(&mut series), [2; 5]);
    assert_eq!(series(65), 0);
    assert_eq!(dump(&running.store, &[]).len(), 2);
    running.store.commit(agent.batch(stamp(500), [1.0, 2.0])).await.unwrap();
    assert_eq!(running.store.stats().series, 2);
    running.stop();
}

#[tokio::test]
async fn what_files_have_of_a_row_does_not_come_again_with_the_rest_of_it() {
    const ORIGIN: HostId = HostId(1 << 31);
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    // No hour ends there, as rows do.
    let quarter = stamp(170);
    let write = async |samples: &[(i64, f64)]| {
        let at = |seconds: i64| Timestamp::from_millis(quarter.as_millis() + 1_000 * seconds);
        let samples = samples.iter().map(|(seconds, value)| (at(*seconds), Some(*value))).collect();
        let series = vec![Written { labels: Labels::new().with(NAME, "m"), samples }];
        let commit = Commit { appends: vec![Append::Written { origin: ORIGIN, series }], records: Vec::new() };
        running.store.commit(commit).await.unwrap();
    };
    // One row with samples on both sides of the quarter's end, and another that says better what stands before it.
    write(&[(-10, 1.0), (10, 1.0)]).await;
    write(&[(-10, 2.0)]).await;
    let expect = ["m{} 2@1690 1@1710"];
    assert_eq!(dump(&running.store, &[]), expect);
    running.settler().step(quarter.after(Duration::from_secs(300)));
    assert_eq!(dump(&running.store, &[]), expect);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(dump(&again.store, &[]), expect);
    assert_eq!(again.store.stats().samples_total, 1);
    again.stop();
}
