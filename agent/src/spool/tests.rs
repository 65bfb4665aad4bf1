//! The spool in memory, on a disk that is a map, and across restarts.

use std::collections::BTreeMap;

use common::metric::Decimals;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::Tier;
use common::schema::Column;
use common::schema::Entity;
use common::schema::SeriesIndex;
use common::time::Timestamp;
use common::window::Gauge;
use common::window::Window;
use common::wire::codec;
use common::wire::codec::Against;
use common::wire::codec::CODEC;
use common::wire::codec::State;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DISK: DiskLimits = DiskLimits { bytes_max: 1 << 20, age_max: HOUR };
const LIMITS: Limits = Limits { batches_max: 8, bytes_max: 10_000, live_batches_max: 3, disk: DISK };
const NO_DISK: Limits = Limits { disk: DiskLimits { bytes_max: 0, ..DISK }, ..LIMITS };

fn column() -> Column {
    Column {
        metric: "m".to_owned(),
        labels: Labels::new(),
        kind: Kind::Gauge,
        decimals: Decimals::new(0),
        peak: false,
        tier: Tier::Second,
    }
}

/// Two series, and one more with each further version.
fn schema(versions: u32) -> Schema {
    let mut schema = Schema::default();
    for version in 1..=versions {
        let (entities, columns) =
            if version == 1 { (vec![Entity::default()], vec![column()]) } else { (vec![], vec![]) };
        let series = vec![(0, 0); if version == 1 { 2 } else { 1 }];
        schema.apply(&SchemaChange { version, entities, columns, series, ended: vec![] }).unwrap();
    }
    schema
}

/// The window of this number: one series always there, one in every other window.
fn batch(number: i64) -> Batch {
    let value = Window::Gauge(Gauge::of(f64::from(i32::try_from(number * number).unwrap())));
    let samples = (0..2).filter(|series| *series == 0 || number % 2 == 0);
    Batch {
        stamp: Timestamp::from_seconds(7_200 + 20 + 10 * number),
        samples: samples.map(|series| (SeriesIndex(series), value)).collect(),
        ..Batch::default()
    }
}

fn push(spool: &Spool, numbers: std::ops::Range<i64>, versions: u32) {
    for number in numbers {
        spool.push(&batch(number), &schema(versions), Duration::from_secs(10 * u64::try_from(number).unwrap()));
    }
}

fn filled(batches: i64) -> Spool {
    let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), NO_DISK);
    push(&spool, 0..batches, 1);
    spool
}

/// What is to be sent, live before the backlog.
fn next(spool: &Spool) -> Option<Outgoing> {
    spool.next_live(|_| 0).or_else(|| spool.next_backlog(|_| 0))
}

/// Sends all, decodes as a receiver that holds what `held` says, and shows spool, seq and `k` for a keyframe.
#[track_caller]
fn check(spool: &Spool, held: &[SpoolHeld], state: &State, expect: &str) {
    check_from(&mut Disk::default(), spool, (held, state), expect);
}

/// The same, from disk.
#[track_caller]
fn check_from(disk: &mut Disk, spool: &Spool, (held, state): (&[SpoolHeld], &State), expect: &str) {
    spool.welcome(held, CODEC);
    let mut shown = Vec::new();
    let mut states = BTreeMap::new();
    let mut jobs = 1;
    while 0 < jobs {
        while let Some(Outgoing { changes, batch: sent }) = next(spool) {
            let state = states.entry(sent.spool).or_insert_with(|| state.clone());
            let mut schema = Schema::default();
            changes.iter().for_each(|change| schema.apply(change).unwrap());
            assert_eq!(schema.version(), sent.schema_version);
            if sent.keyframe {
                *state = State::default();
            }
            let against = Against { schema: &schema, version: sent.schema_version, stamp: sent.stamp };
            let decoded = codec::decode(sent.codec, &sent.payload, against, state).unwrap();
            let number = (decoded.stamp.as_millis() / 1_000 - 7_220) / 10;
            assert_eq!(decoded, batch(number));
            shown.push(format!("{}.{}{}", sent.spool.0[15], sent.seq.0, if sent.keyframe { "k" } else { "" }));
        }
        jobs = disk.work(spool, Duration::ZERO);
    }
    assert_eq!(shown.join(" "), expect);
}

/// Files in memory, and how many bytes were written.
#[derive(Clone, Default)]
struct Disk {
    files: BTreeMap<u64, Vec<u8>>,
    refuses: bool,
}

impl Disk {
    /// Does all there is to do. Returns how many jobs that were.
    fn work(&mut self, spool: &Spool, now: Duration) -> usize {
        let mut jobs = 0;
        while let Some(job) = spool.job(now) {
            spool.done(self.run(job), now);
            jobs += 1;
        }
        jobs
    }

    fn run(&mut self, job: Job) -> Outcome {
        match job {
            Job::Append { .. } if self.refuses => Err("no space left on device".to_owned()),
            Job::Append { number, begin, bytes } => {
                assert_eq!(begin, !self.files.contains_key(&number));
                self.files.entry(number).or_default().extend(bytes);
                Ok(Vec::new())
            }
            Job::Read { number } => Ok(self.files[&number].clone()),
            Job::Remove { number } => Ok(self.files.remove(&number).unwrap_or_default()),
        }
    }

    /// A spool that was filled with this many batches, one each ten seconds, by an agent that nobody answers.
    fn outage(&mut self, batches: i64) -> Spool {
        let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), LIMITS);
        for number in 0..batches {
            push(&spool, number..number + 1, 1);
            self.work(&spool, Duration::from_secs(10 * u64::try_from(number).unwrap()));
        }
        spool
    }

    /// The agent of a later run.
    fn restarted(&self) -> Spool {
        let spool = Spool::with_limits(RunId([2; 16]), SpoolId([100; 16]), LIMITS);
        self.files.iter().for_each(|(number, file)| spool.adopt(*number, file));
        spool
    }
}

#[test]
fn live_batches_overtake_and_closed_spools_follow_in_order() {
    check(&filled(6), &[], &State::default(), "1.0k 1.1 0.0k 0.1 0.2 0.3");
    check(&filled(3), &[], &State::default(), "0.0k 0.1 0.2");
}

#[test]
fn the_oldest_is_dropped_and_counted_and_what_follows_can_be_decoded() {
    let spool = filled(10);
    assert_eq!((spool.figures().depth, spool.figures().dropped_total), (8, 2));
    check(&spool, &[], &State::default(), "2.0k 2.1 0.2k 0.3 1.0k 1.1 1.2 1.3");
}

#[test]
fn a_batch_dropped_within_a_session_makes_the_next_a_keyframe() {
    let spool = filled(1);
    spool.welcome(&[], CODEC);
    assert!(next(&spool).unwrap().batch.keyframe);
    push(&spool, 1..12, 1);
    let sent = std::iter::from_fn(|| next(&spool)).map(|sent| (sent.batch.spool.0[15], sent.batch.keyframe));
    let sent: Vec<_> = sent.collect();
    assert_eq!(sent[0], (2, true));
    let rest: Vec<_> = sent.iter().filter(|(_, keyframe)| *keyframe).collect();
    assert_eq!(rest, [&(2, true), &(1, true)], "the first closed spool is gone, the second whole");
}

#[test]
fn what_is_held_is_not_sent_again() {
    let held = |predecessor_held| [SpoolHeld { spool: SpoolId([0; 16]), next: Seq(2), predecessor_held }];
    let mut state = State::default();
    let spool = filled(3);
    spool.welcome(&[], CODEC);
    let schema = schema(1);
    for _ in 0..2 {
        let sent = next(&spool).unwrap().batch;
        let against = Against { schema: &schema, version: 1, stamp: sent.stamp };
        codec::decode(sent.codec, &sent.payload, against, &mut state).unwrap();
    }
    // Nobody told this process that they are held: they may be what a copy of it sent.
    check(&filled(3), &held(true), &State::default(), "0.2k");
    spool.ack(SpoolId([0; 16]), Seq(2));
    check(&spool, &held(true), &state, "0.2");
    check(&spool, &held(false), &State::default(), "0.2k");
    assert_eq!(spool.figures().depth, 1);
}

#[test]
fn who_holds_more_than_was_sent_has_it_from_somebody_else() {
    let check = |sent: usize, spool: u8, next: u64, expect: bool| {
        let filled = filled(3);
        // What one session sent the next ones answer for.
        for sent in [sent, 0] {
            filled.welcome(&[], CODEC);
            assert_eq!((0..sent).filter_map(|_| filled.next_live(|_| 0)).count(), sent);
        }
        let held = SpoolHeld { spool: SpoolId([spool; 16]), next: Seq(next), predecessor_held: true };
        assert_eq!(filled.is_behind(&[held]), expect, "{next} of {spool}, {sent} sent");
    };
    check(0, 0, 0, false);
    check(0, 0, 1, true);
    check(2, 0, 2, false);
    check(2, 0, 3, true);
    check(3, 0, 3, false);
    check(3, 0, 4, true);
    check(3, 9, 4, false);
}

#[test]
fn a_process_renounces_what_it_made_and_keeps_what_was_before_it() {
    let mut disk = Disk::default();
    disk.outage(6);
    let later = disk.restarted();
    let before = later.figures().depth;
    push(&later, 10..17, 1);
    disk.work(&later, Duration::from_secs(200));
    assert_eq!((later.figures().depth, later.renounce()), (before + 7, 7));
    disk.work(&later, Duration::from_secs(200));
    assert_eq!((later.figures().depth, later.figures().dropped_total), (before, 7));
    assert_eq!(disk.restarted().figures().depth, before, "nor does a later one find it");
}

#[test]
fn the_first_window_of_a_quarter_is_a_keyframe() {
    let spool = filled(0);
    let mut shown = Vec::new();
    spool.welcome(&[], CODEC);
    for second in [4_490, 4_500, 4_510, 4_520] {
        let batch = Batch { stamp: Timestamp::from_seconds(second), ..Batch::default() };
        spool.push(&batch, &schema(1), Duration::ZERO);
        shown.push(next(&spool).unwrap().batch.keyframe);
    }
    assert_eq!(shown, [true, false, true, false]);
}

#[test]
fn nothing_is_written_while_the_aggregator_answers() {
    let mut disk = Disk::default();
    let spool = disk.outage(0);
    spool.welcome(&[], CODEC);
    for number in 0..100 {
        push(&spool, number..number + 1, 1);
        let sent = next(&spool).unwrap().batch;
        // Acknowledged a moment before it would go to disk.
        assert_eq!(disk.work(&spool, Duration::from_secs(10 * u64::try_from(number).unwrap() + 29)), 0);
        spool.ack(sent.spool, sent.seq.next());
    }
    assert_eq!((spool.figures().depth, spool.due_at()), (0, None));
}

#[test]
fn what_waits_half_a_minute_is_found_again_after_a_restart() {
    let mut disk = Disk::default();
    // Batches 0 to 7 are on disk; 8, 9 and 10 are what a killed agent loses.
    assert_eq!(disk.outage(11).figures().depth, 11);
    let later = disk.restarted();
    assert_eq!(later.figures().depth, 8);
    push(&later, 20..22, 1);
    let expect = "100.0k 100.1 0.0k 0.1 0.2 0.3 1.0k 1.1 1.2 1.3";
    check_from(&mut disk, &later, (&[], &State::default()), expect);
    assert_eq!(later.named().len(), 3);
    for (spool, next) in [(0, 4), (1, 4)] {
        later.ack(SpoolId([vec![0; 15], vec![spool]].concat().try_into().unwrap()), Seq(next));
    }
    assert_eq!((later.figures().depth, later.figures().acknowledged_total), (2, 8));
    disk.work(&later, Duration::ZERO);
    assert!(disk.files.is_empty(), "{:?}", disk.files.keys());
}

#[test]
fn a_stop_leaves_everything_on_disk() {
    let mut disk = Disk::default();
    let spool = disk.outage(10);
    spool.leave();
    disk.work(&spool, Duration::from_secs(91));
    let expect = "0.0k 0.1 0.2 0.3 1.0k 1.1 1.2 1.3 2.0k 2.1";
    check_from(&mut disk.clone(), &disk.restarted(), (&[], &State::default()), expect);
}

#[test]
fn a_spool_of_disk_goes_on_with_a_keyframe_behind_what_is_held() {
    let mut disk = Disk::default();
    disk.outage(7);
    for predecessor_held in [false, true] {
        let later = disk.restarted();
        let held = [SpoolHeld { spool: SpoolId([0; 16]), next: Seq(2), predecessor_held }];
        check_from(&mut disk.clone(), &later, (&held, &State::default()), "0.2k 0.3");
    }
}

#[test]
fn closed_spools_leave_the_memory_for_the_disk_and_come_back_from_it() {
    let mut disk = Disk::default();
    let spool = disk.outage(100);
    let Figures { depth, in_memory, dropped_total, .. } = spool.figures();
    assert_eq!((depth, dropped_total), (100, 0));
    assert!(in_memory <= LIMITS.batches_max, "{in_memory}");
    spool.welcome(&[], CODEC);
    let mut acked = 0;
    loop {
        let jobs = disk.work(&spool, Duration::from_secs(1_000));
        let Some(sent) = next(&spool) else {
            assert!(0 < jobs, "nothing is to be done, and nothing to be sent");
            continue;
        };
        acked += 1;
        spool.ack(sent.batch.spool, sent.batch.seq.next());
        if spool.figures().depth == 0 {
            break;
        }
    }
    disk.work(&spool, Duration::from_secs(1_000));
    assert_eq!((acked, disk.files.len(), spool.figures().disk_bytes), (100, 0, 0));
}

#[test]
fn a_spool_that_was_recoded_for_its_receiver_stays_whole_on_disk() {
    let mut disk = Disk::default();
    let spool = disk.outage(4);
    // The receiver has not 1 at hand: 2 is coded anew in memory, when it is on disk as it was. What comes is coded
    // against each as it stands there.
    let held = [SpoolHeld { spool: SpoolId([0; 16]), next: Seq(2), predecessor_held: false }];
    spool.welcome(&held, CODEC);
    assert!(next(&spool).unwrap().batch.keyframe);
    push(&spool, 4..5, 1);
    spool.leave();
    disk.work(&spool, Duration::from_secs(41));
    check_from(&mut disk.clone(), &disk.restarted(), (&[], &State::default()), "0.0k 0.1 0.2 0.3 0.4");
}

#[test]
fn a_disk_that_refuses_leaves_all_in_memory_and_is_tried_again() {
    let mut disk = Disk { refuses: true, ..Disk::default() };
    let spool = disk.outage(8);
    assert_eq!(spool.trouble().as_deref(), Some("no space left on device"));
    assert_eq!((spool.figures().depth, spool.figures().dropped_total), (8, 0));
    disk.refuses = false;
    disk.work(&spool, Duration::from_secs(200));
    assert_eq!((spool.trouble(), spool.figures().in_memory), (None, 4));
    let expect = "0.0k 0.1 0.2 0.3 1.0k 1.1 1.2 1.3";
    check_from(&mut disk.clone(), &disk.restarted(), (&[], &State::default()), expect);
}

#[test]
fn what_is_too_much_or_too_old_for_the_disk_goes_and_is_counted() {
    let check = |limits, expect: (u64, u64)| {
        let mut disk = Disk::default();
        let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), Limits { disk: limits, ..LIMITS });
        for number in 0..100 {
            push(&spool, number..number + 1, 1);
            disk.work(&spool, Duration::from_secs(10 * u64::try_from(number).unwrap()));
            let size: usize = disk.files.values().map(Vec::len).sum();
            assert!(size as u64 <= limits.bytes_max + 500, "{size}");
        }
        let Figures { depth, dropped_total, .. } = spool.figures();
        assert_eq!((depth, dropped_total), expect);
    };
    check(DiskLimits { age_max: Duration::from_secs(200), ..DISK }, (24, 76));
    check(DiskLimits { bytes_max: 5_000, ..DISK }, (68, 32));
}

#[test]
fn a_torn_tail_is_cut_and_a_corrupt_file_ends_where_it_is() {
    let mut disk = Disk::default();
    disk.outage(8);
    let whole = disk.files[&0].clone();
    let check = |file: Vec<u8>, expect: (u64, u64)| {
        let mut disk = Disk::default();
        disk.files.insert(0, file);
        let found = disk.restarted();
        assert_eq!((found.figures().depth, found.figures().corrupt_total), expect);
        let expect: Vec<_> = (0..expect.0).map(|seq| format!("0.{seq}{}", if seq == 0 { "k" } else { "" })).collect();
        check_from(&mut disk, &found, (&[], &State::default()), &expect.join(" "));
    };
    check(whole.clone(), (4, 0));
    for cut in 0..whole.len() {
        let mut disk = Disk::default();
        disk.files.insert(0, whole[..cut].to_vec());
        let Figures { depth, corrupt_total, .. } = disk.restarted().figures();
        assert!(depth < 4 && corrupt_total == 0, "cut at {cut}");
        // Where blocks of the write are missing there are zeros.
        let zeros = [&whole[..cut], &vec![0; whole.len() - cut]].concat();
        disk.files.insert(0, zeros);
        assert!(disk.restarted().figures().depth < 4 || whole[cut..].iter().all(|byte| *byte == 0), "zeros at {cut}");
    }
    check(whole[..whole.len() - 1].to_vec(), (3, 0));
    for flipped in 0..whole.len() - 60 {
        let mut file = whole.clone();
        file[flipped] ^= 1;
        let mut disk = Disk::default();
        disk.files.insert(0, file);
        let Figures { depth, corrupt_total, .. } = disk.restarted().figures();
        assert!(depth < 4 && corrupt_total <= 1, "flipped at {flipped}");
    }
    check(b"not a spool".to_vec(), (0, 1));
    check(Vec::new(), (0, 0));
}

#[test]
fn the_schema_travels_with_what_uses_it() {
    let mut disk = Disk::default();
    let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), LIMITS);
    for number in 0..3 {
        push(&spool, number..number + 1, 1 + u32::try_from(number).unwrap());
    }
    spool.leave();
    disk.work(&spool, Duration::ZERO);
    check_from(&mut disk.clone(), &disk.restarted(), (&[], &State::default()), "0.0k 0.1 0.2");
}

#[test]
fn the_schema_of_a_run_goes_with_the_last_of_its_batches() {
    let check = |limits: Limits, leave: &dyn Fn(&Spool)| {
        let spool = Spool::with_limits(RunId([1; 16]), SpoolId([0; 16]), limits);
        push(&spool, 0..2, 1);
        spool.renew();
        push(&spool, 2..3, 1);
        assert_eq!(spool.lock().runs_held(), 2);
        leave(&spool);
        assert_eq!(spool.lock().runs_held(), 1);
    };
    check(NO_DISK, &|spool| spool.ack(SpoolId([0; 16]), Seq(2)));
    check(Limits { batches_max: 3, ..NO_DISK }, &|spool| push(spool, 3..5, 1));
    check(LIMITS, &|spool| {
        spool.leave();
        Disk::default().work(spool, Duration::ZERO);
    });
}
