//! Series that come with their whole label set: what others write, and what the first version wrote of itself.

use super::*;
use crate::store::block::Tier;
use crate::store::catalog::series::Identity;
use crate::store::commit::Written;
use crate::store::head::lookup::When;
use crate::store::lookup::Ended;
use crate::store::record::Record;
use crate::store::record::forwards;
use crate::store::select::Levels;
use crate::store::settle::delete::Deletion;

const ORIGIN: HostId = HostId(1 << 31);
const OTHER: HostId = HostId((1 << 31) + 1);

fn labels(name: &str) -> Labels {
    Labels::new().with(NAME, name).with("instance", "web-1").with("job", "node")
}

fn series(name: &str, samples: &[(i64, Option<f64>)]) -> Written {
    let samples = samples.iter().map(|(millis, value)| (Timestamp::from_millis(*millis), *value));
    Written { labels: labels(name), samples: samples.collect() }
}

async fn write(running: &Running, origin: HostId, series: Vec<Written>) {
    let commit = Commit { appends: vec![Append::Written { origin, series }], records: Vec::new() };
    running.store.commit(commit).await.unwrap();
}

/// Stamps in milliseconds and bits of the values of the series of one name, those of each origin apart.
fn bits(store: &Store, name: &str) -> Vec<Vec<(i64, u64)>> {
    let selected = select(store, &[equal(NAME, name)], &[Field::Last]).unwrap();
    let samples = |(_, samples): &(Labels, Samples)| {
        let values = samples.columns[0].iter().map(|value| value.to_bits());
        samples.stamps.iter().map(|at| at.as_millis()).zip(values).collect()
    };
    selected.iter().map(samples).collect()
}

/// Millisecond stamps of about the clock's beginning.
const T: i64 = 1_000_000_000;

#[tokio::test]
async fn every_value_is_kept_to_the_bit_at_its_millisecond() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, 0.1, f64::from_bits(u64::MAX)];
    let payload = f64::from_bits(0x7ff8_dead_beef_0001);
    let samples: Vec<_> =
        (0..).zip(odd.into_iter().chain([payload])).map(|(at, value)| (T + at, Some(value))).collect();
    let mut expect: Vec<_> = samples.iter().map(|(at, value)| (*at, value.unwrap().to_bits())).collect();
    write(&running, ORIGIN, vec![series("odd", &samples), series("odd", &[(T + 1_000, None)])]).await;
    expect.push((T + 1_000, STALE));
    assert_eq!(bits(&running.store, "odd"), [expect.clone()]);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(bits(&again.store, "odd"), [expect]);
    again.stop();
}

#[tokio::test]
async fn series_that_ended_are_found_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut settler = running.settler();
    let mut later = |hours: i64| while settler.step(Timestamp::from_millis(T + hours * 3_600_000)) {};
    let sample = |hours: i64| [(T + hours * 3_600_000, Some(0.5))];
    write(&running, ORIGIN, vec![series("m", &sample(0)), series("n", &sample(0))]).await;
    [2, 4].into_iter().for_each(&mut later);
    assert_eq!(running.store.stats().series, 0, "both have left memory");
    write(&running, ORIGIN, vec![series("m", &sample(4))]).await;
    let expect =
        |hours: &[i64]| [hours.iter().map(|hours| (sample(*hours)[0].0, 0.5_f64.to_bits())).collect::<Vec<_>>()];
    let check = |store: &Store| {
        assert_eq!(bits(store, "m"), expect(&[0, 4]));
        assert_eq!(bits(store, "n"), expect(&[0]));
    };
    check(&running.store);
    [6, 8].into_iter().for_each(&mut later);
    check(&running.store);
    drop(settler);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    check(&again.store);
    again.stop();
}

#[tokio::test]
async fn what_others_wrote_is_there_when_days_and_months_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let years = Duration::from_secs(3 * 365 * 24 * 3_600);
    let retention = Retention { raw: years, five_minutes: years, one_hour: years, bytes: None };
    let running = Running::start_with(dir.path(), StoreConfig { retention, ..config() }, &clock());
    let mut settler = running.settler();
    let mut later = |hours: i64| while settler.step(Timestamp::from_millis(T + hours * 3_600_000)) {};
    let mut agent = Agent::start(1);
    for hour in 0..3 {
        running.store.commit(agent.batch(stamp(360 * hour + 1), [1.0, 2.0])).await.unwrap();
        let at = T + 3_600_000 * i64::try_from(hour).unwrap();
        for origin in [ORIGIN, OTHER, HostId::AGGREGATOR] {
            write(&running, origin, vec![series("m", &[(at, Some(0.5))]), series("n", &[(at + 1, Some(0.5))])]).await;
        }
        later(i64::try_from(hour).unwrap() + 2);
    }
    let expect = dump(&running.store, &[]);
    assert_eq!(expect.len(), 2 + 3 * 2);
    for hours in [30, 24 * 40, 24 * 400] {
        later(hours);
        assert_eq!(dump(&running.store, &[]), expect);
        coarse::assert_folded(&running.store);
    }
    assert_eq!(running.store.shared.blocks.all().len(), 3, "one of each tier");
    drop(settler);
    running.stop();
}

#[tokio::test]
async fn one_that_comes_back_while_it_is_looked_for_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut settler = running.settler();
    let mut later = |minutes: i64| while settler.step(Timestamp::from_millis(T + minutes * 60_000)) {};
    let sample = |minutes: i64| [(T + minutes * 60_000, Some(0.5))];
    write(&running, ORIGIN, vec![series("m", &sample(0))]).await;
    [120, 240].into_iter().for_each(&mut later);

    let Shared { head, readers, .. } = &*running.store.shared;
    let asked = [equal(NAME, "m")];
    let candidates = head.candidates(&asked);
    let mut in_memory = 0;
    let mut give = |_: Levels<'_>| -> Result<(), SelectError> {
        in_memory += 1;
        Ok(())
    };
    let here = head.each(ORIGIN, (&candidates, When { in_memory: ALL, in_files: ALL }), &mut give).unwrap();
    // It goes on by the time that the files are asked.
    write(&running, ORIGIN, vec![series("m", &sample(240))]).await;
    later(310);
    let mut in_files = Vec::new();
    let mut give = |series: Identity| -> Result<(), SelectError> {
        in_files.push(series);
        Ok(())
    };
    Ended::new(readers, &asked, ALL).each(head, (ORIGIN, &here), &mut give).unwrap();
    assert_eq!((in_memory, in_files.len()), (0, 1));
    assert_eq!(in_files[0].life.last, None, "it goes on");
    running.stop();
}

#[tokio::test]
async fn what_comes_late_is_noted_for_those_who_were_told_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let stamp_of = |seconds: i64| Timestamp::from_millis(T + seconds * 1_000);
    let record = async |running: &Running, record: Record| {
        running.store.commit(Commit { appends: Vec::new(), records: vec![record] }).await.unwrap();
    };
    let targets = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Record::ForwardTargets(forwards::Targets { names, from: stamp_of(100) })
    };
    let found = async |running: &Running, name: &'static str| {
        let found = running.store.read(move |books| forwards::find(books, name, 10)).await.unwrap();
        let seconds = |at: Timestamp| (at.as_millis() - T) / 1_000;
        found.map(|(through, late)| {
            let late = late.iter().map(|late| (late.host, seconds(late.first), seconds(late.last)));
            (seconds(through), late.collect::<Vec<_>>())
        })
    };
    let sample = |seconds: i64| (T + seconds * 1_000, Some(0.5));
    let running = Running::start(dir.path(), &clock());
    write(&running, ORIGIN, vec![series("m", &[sample(50)])]).await;
    record(&running, targets(&["a", "b"])).await;
    running.store.forward_to(vec!["a".to_owned(), "b".to_owned()]).await.unwrap();
    running.store.forward_through("a", stamp_of(200));
    write(&running, ORIGIN, vec![series("m", &[sample(90), sample(150)]), series("n", &[sample(300)])]).await;
    write(&running, OTHER, vec![series("m", &[sample(201)])]).await;
    assert_eq!(found(&running, "a").await, Some((100, vec![(ORIGIN, 90, 200)])));
    assert_eq!(found(&running, "b").await, Some((100, vec![(ORIGIN, 90, 100)])));
    let told = |late| forwards::Forwarded { target: "a".to_owned(), through: stamp_of(200), late };
    record(&running, Record::Forwarded(told(None))).await;
    running.stop();
    // Also before anybody says again who is told.
    let running = Running::start(dir.path(), &clock());
    write(&running, ORIGIN, vec![series("m", &[sample(200)])]).await;
    assert_eq!(found(&running, "a").await, Some((200, vec![(ORIGIN, 90, 200), (ORIGIN, 200, 200)])));
    record(&running, Record::Forwarded(told(Some(1)))).await;
    record(&running, targets(&["a"])).await;
    assert_eq!(found(&running, "a").await.map(|(_, late)| late.len()), Some(1), "what came since");
    record(&running, Record::Forwarded(told(Some(i64::MAX)))).await;
    assert_eq!(found(&running, "a").await, Some((200, vec![])));
    assert_eq!(found(&running, "b").await, None);
    running.stop();
}

#[tokio::test]
async fn what_is_deleted_does_not_come_back_with_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let mut settler = running.settler();
    // Rows of the log hold what was written on both sides of the range.
    let samples: Vec<_> = (0..6).map(|at| (T + 1_000_000 * at, Some(0.5))).collect();
    let written = || vec![series("m", &samples), series("n", &samples)];
    write(&running, ORIGIN, written()).await;
    write(&running, OTHER, written()).await;
    let other = |store: &Store| (bits(store, "m")[1].len(), bits(store, "n")[0].len(), bits(store, "n")[1].len());
    let stamps = |store: &Store, name: &str| -> Vec<i64> {
        bits(store, name)[0].iter().map(|(at, _)| (at - T) / 1_000_000).collect()
    };
    let delete = |settler: &mut Settler, (after, through): (i64, i64)| {
        let range = TimeRange { after: Timestamp::from_millis(after), through: Timestamp::from_millis(through) };
        let selectors = vec![vec![equal(NAME, "m")]];
        settler.delete(&Deletion { selectors, range }, Timestamp::from_millis(T + 6_000_000)).unwrap();
    };
    delete(&mut settler, (T, T + 2_000_000));
    assert_eq!((stamps(&running.store, "m"), other(&running.store)), (vec![0, 3, 4, 5], (4, 6, 6)));
    drop(settler);
    running.stop();
    let running = Running::start(dir.path(), &clock());
    assert_eq!((stamps(&running.store, "m"), other(&running.store)), (vec![0, 3, 4, 5], (4, 6, 6)));
    // One that is written on goes on.
    let mut settler = running.settler();
    write(&running, ORIGIN, vec![series("m", &[(T + 1_000_000, Some(1.5))])]).await;
    delete(&mut settler, (i64::MIN, i64::MAX));
    assert_eq!(bits(&running.store, "m"), Vec::<Vec<_>>::new());
    write(&running, ORIGIN, vec![series("m", &samples[1..2])]).await;
    assert_eq!(stamps(&running.store, "m"), [1]);
    drop(settler);
    running.stop();
    let running = Running::start(dir.path(), &clock());
    assert_eq!((stamps(&running.store, "m"), bits(&running.store, "n").len()), (vec![1], 2));
    running.stop();
}

#[tokio::test]
async fn more_samples_than_a_chunk_has_are_all_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let samples: Vec<_> = (0..100_000_u32).map(|at| (T + 1 + i64::from(at), Some(f64::from(at)))).collect();
    write(&running, ORIGIN, vec![series("m", &samples)]).await;
    running.stop();
    let again = Running::start(dir.path(), &clock());
    let expect: Vec<_> = samples.iter().map(|(at, value)| (*at, value.unwrap().to_bits())).collect();
    assert!(bits(&again.store, "m") == [expect]);
    again.stop();
}

#[tokio::test]
async fn samples_may_come_in_any_order_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    let hour = 3_600_000;
    // An hour ends where the next begins; the later of two with one stamp stands.
    write(&running, ORIGIN, vec![series("m", &[(T + hour, Some(3.0)), (T, Some(1.0)), (T + 7, Some(2.0))])]).await;
    write(&running, ORIGIN, vec![series("m", &[(T + 2 * hour + 1, Some(4.0)), (T + 7, Some(2.5))])]).await;
    write(&running, ORIGIN, vec![series("m", &[(T + 7, Some(2.5))]), series("m", &[(T - 5, Some(0.0))])]).await;
    let expect = [(-5, 0.0), (0, 1.0), (7, 2.5), (hour, 3.0), (2 * hour + 1, 4.0)];
    let expect = [expect.map(|(at, value): (i64, f64)| (T + at, value.to_bits())).to_vec()];
    assert_eq!(bits(&running.store, "m"), expect);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(bits(&again.store, "m"), expect);
    again.stop();
}

#[tokio::test]
async fn a_backlog_does_not_wait_in_memory_for_the_hour_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), StoreConfig { late_max: 3, ..config() }, &clock());
    let mut settler = running.settler();
    let now = Timestamp::from_millis(T + 10 * 3_600_000);
    let mut held = async |samples: &[(i64, Option<f64>)]| {
        write(&running, ORIGIN, vec![series("m", samples)]).await;
        while settler.step(now) {}
        running.store.stats().head_bytes
    };
    assert_eq!(held(&[(T + 1_000, Some(1.0))]).await, 0, "the first hours are sealed at the start");
    assert_ne!(held(&[(T + 2_000, Some(2.0)), (T + 3_000, Some(3.0))]).await, 0);
    assert_ne!(held(&[(now.as_millis(), Some(5.0))]).await, 0, "what comes in time is no backlog");
    assert_ne!(held(&[(now.as_millis() + 1, Some(6.0))]).await, 0);
    let blocks = || running.store.stats().block_bytes;
    let before = blocks();
    held(&[(T + 4_000, Some(4.0))]).await;
    assert_ne!(blocks(), before, "the third late one is too many");
    let stamps: Vec<i64> = bits(&running.store, "m")[0].iter().map(|(at, _)| at - T).collect();
    assert_eq!(stamps, [1_000, 2_000, 3_000, 4_000, 36_000_000, 36_000_001]);
    running.stop();
}

#[tokio::test]
async fn origins_are_apart_and_hosts_that_go_take_nothing_of_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), &clock());
    write(&running, HostId::AGGREGATOR, vec![series("up", &[(T, Some(0.0))])]).await;
    write(&running, ORIGIN, vec![series("up", &[(T, Some(1.0))])]).await;
    write(&running, OTHER, vec![series("up", &[(T, Some(2.0))])]).await;
    let forget = vec![Append::Forget { host: HOST, instance: "web-1".to_owned() }];
    running.store.commit(Commit { appends: forget, records: vec![] }).await.unwrap();
    let expect = [1.0_f64, 2.0].map(|value| vec![(T, value.to_bits())]);
    assert_eq!(bits(&running.store, "up"), expect);
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(bits(&again.store, "up"), expect);
    again.stop();
}

#[tokio::test]
async fn what_was_written_before_there_were_chunks_in_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let before = Running::start(dir.path(), &clock());
    write(&before, ORIGIN, vec![series("m", &[(T, Some(0.5))])]).await;
    before.stop();
    let samples = vec![(1_i64, vec![(20_u64, 1.5_f64.to_bits().swap_bytes()), (0, STALE.swap_bytes())])];
    let payload = log::encoded(&samples).unwrap();
    let connection = database::writing(&dir.path().join(FILE)).unwrap();
    let sql = "INSERT INTO origin_log (origin, form, stamp_ms, payload, checksum) VALUES (?1, 2, ?2, ?3, ?4)";
    connection.execute(sql, (ORIGIN.0, T + 30, &payload, crc32fast::hash(&payload))).unwrap();
    drop(connection);
    let running = Running::start(dir.path(), &clock());
    assert_eq!(bits(&running.store, "m"), [[(T, 0.5_f64.to_bits()), (T + 10, 1.5_f64.to_bits()), (T + 30, STALE)]]);
    running.stop();
}

#[tokio::test]
async fn what_the_first_version_wrote_of_itself_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let values = [(7_i64, Some(0.5_f64.to_bits())), (9, None)];
    let payload = log::encoded(&values.to_vec()).unwrap();
    {
        let mut connection = database::writing(&dir.path().join(FILE)).unwrap();
        migration::migrate_to(&mut connection, 6).unwrap();
        for (number, name) in [(7, "a"), (9, "b"), (12, "gone")] {
            let labels = log::encoded(&labels(name)).unwrap();
            connection.execute("INSERT INTO own_series (id, labels) VALUES (?1, ?2)", (number, labels)).unwrap();
        }
        connection.execute("DELETE FROM own_series WHERE id = 12", []).unwrap();
        let sql = "INSERT INTO own_log (stamp_ms, payload, checksum) VALUES (?1, ?2, ?3)";
        connection.execute(sql, (T, &payload, crc32fast::hash(&payload))).unwrap();
    }
    let running = Running::start(dir.path(), &clock());
    assert_eq!(bits(&running.store, "a"), [[(T, 0.5_f64.to_bits())]]);
    assert_eq!(bits(&running.store, "b"), [[(T, STALE)]]);
    write(&running, HostId::AGGREGATOR, vec![series("a", &[(T + 1, Some(1.0))]), series("c", &[(T, Some(2.0))])]).await;
    let number = |connection: &Connection| {
        connection.query_row("SELECT max(id) FROM origin_series", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(running.store.read(number).await.unwrap(), 13, "12 was given once");
    running.stop();
    let again = Running::start(dir.path(), &clock());
    assert_eq!(bits(&again.store, "a"), [[(T, 0.5_f64.to_bits()), (T + 1, 1.0_f64.to_bits())]]);
    assert_eq!(bits(&again.store, "c"), [[(T, 2.0_f64.to_bits())]]);
    again.stop();
}

#[tokio::test]
async fn what_comes_for_a_day_whose_samples_went_takes_nothing_of_its_long_windows() {
    let dir = tempfile::tempdir().unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let retention = Retention { raw: hours(24), five_minutes: hours(9_000), one_hour: hours(9_000), bytes: None };
    let running = Running::start_with(dir.path(), StoreConfig { retention, ..config() }, &clock());
    let mut settler = running.settler();
    let mut later = |hours: i64| while settler.step(Timestamp::from_millis(T + hours * 3_600_000)) {};
    write(&running, ORIGIN, vec![series("m", &[(T, Some(0.5))])]).await;
    [2, 12, 40].into_iter().for_each(&mut later);
    assert!(running.store.shared.blocks.all().iter().all(|file| file.block.tier != Tier::Raw), "its day has gone");
    let long = |store: &Store| Tier::COARSE.map(|tier| coarse::read(store, vec![(tier, ALL)]));
    let expect = long(&running.store);
    assert_eq!(expect.each_ref().map(|series| series.len()), [1, 1]);
    write(&running, ORIGIN, vec![series("n", &[(T + 1, Some(0.5))])]).await;
    [42, 60, 80, 120].into_iter().for_each(&mut later);
    assert_eq!(long(&running.store), expect);
    assert!(
        running.store.shared.blocks.all().iter().all(|file| file.block.tier != Tier::Raw),
        "it is no file that stays"
    );
    running.stop();
}

#[tokio::test]
async fn samples_of_a_series_that_come_newest_first_are_kept_like_others() {
    let kept = async |name: &str, order: &mut dyn Iterator<Item = i64>| {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(dir.path(), &clock());
        // Of two with one stamp the last counts.
        let samples: Vec<_> = order.flat_map(|at| [(T + at, Some(0.5)), (T + at, Some(1.5))]).collect();
        write(&running, ORIGIN, vec![series(name, &samples)]).await;
        let kept = (bits(&running.store, name), running.store.stats().head_bytes);
        running.stop();
        kept
    };
    let ascending = kept("m", &mut (0..1_000)).await;
    assert_eq!(ascending.0[0].len(), 1_000);
    assert_eq!(kept("m", &mut (0..1_000).rev()).await, ascending, "not a chunk for each");
}

#[tokio::test]
async fn samples_that_went_for_want_of_room_are_not_said_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let hours = |hours: i64| Timestamp::from_millis(T + hours * 3_600_000);
    let age = Duration::from_secs(100 * 3_600);
    let check = async |bytes: Option<u64>, expect: Timestamp| {
        let retention = Retention { raw: age, five_minutes: age, one_hour: age, bytes };
        let dir = dir.path().join(format!("{bytes:?}"));
        let running = Running::start_with(&dir, StoreConfig { retention, ..config() }, &clock());
        let mut settler = running.settler();
        write(&running, ORIGIN, vec![series("m", &[(T, Some(0.5))])]).await;
        [2, 12, 40].map(hours).into_iter().for_each(|now| while settler.step(now) {});
        assert_eq!(running.store.samples_after(hours(40)), expect, "{bytes:?} bytes");
        running.stop();
    };
    check(None, hours(40).before(age)).await;
    check(Some(1), hours(1).align_down(Duration::from_secs(3_600))).await;
}
