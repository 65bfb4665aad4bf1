//! Whatever hosts do, the store answers what a map of labels and stamps would.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::store::block::Block;
use crate::store::settle::delete::Deletion;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// A window with these values, so many windows after the one before.
    Window(u64, [i32; 2]),
    /// The commit before comes again.
    Again,
    /// A backlog of the agent's other spool: a window so far back.
    Late(u64, i32),
    /// The agent starts anew.
    NewRun,
    /// One of its series ends, if both live.
    End,
    /// The operator labels the host.
    Label(u8),
    /// The aggregator restarts.
    Restart,
    /// Hours are sealed, as they are so many windows later; only so many steps of it are taken, if that is said.
    Settle(u64, Option<u32>),
    /// What there is of the first series, of the second or of all is deleted from so far back on for so long; only so many
    /// steps of it are taken, if that is said.
    Delete(usize, u64, u64, Option<u32>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (prop_oneof![18 => Just(1), 2 => 1..500_u64, 1 => 1..9_000_u64], prop::array::uniform2(0..3)).prop_map(|(gap, values)| Step::Window(gap, values)),
        2 => Just(Step::Again),
        4 => (prop_oneof![0..60_u64, 0..20_000_u64], 0..3).prop_map(|(back, value)| Step::Late(back, value)),
        1 => Just(Step::NewRun),
        1 => Just(Step::End),
        1 => (0..3_u8).prop_map(Step::Label),
        1 => Just(Step::Restart),
        3 => (prop_oneof![0..400_u64, 0..8_000_u64], prop::option::of(0..40_u32)).prop_map(|(later, stop)| Step::Settle(later, stop)),
        2 => (0..3_usize, prop_oneof![0..60_u64, 0..9_000_u64], prop_oneof![0..60_u64, 0..9_000_u64], prop::option::of(0..20_u32))
            .prop_map(|(which, back, length, stop)| Step::Delete(which, back, length, stop)),
    ];
    prop::collection::vec(step, 1..150)
}

/// The store and what it should answer.
struct World {
    dir: tempfile::TempDir,
    running: Option<Running>,
    settler: Option<Settler>,
    agent: Agent,
    backlog: Agent,
    runs: u8,
    ended: bool,
    labels: Labels,
    window: u64,
    latest: Option<Commit>,
    /// Whether the agent has not told the end of its second series.
    untold: bool,
    /// Series whose end the next window marks.
    ending: Vec<String>,
    expect: BTreeMap<String, BTreeMap<u64, Option<f64>>>,
    /// The latest window that each ever had, and whether it goes on there, also when that was deleted.
    lives: BTreeMap<String, (u64, bool)>,
    /// What came late, of which series and when.
    came_late: BTreeSet<(String, u64)>,
}

/// Nothing expires.
fn start(data_dir: &Path) -> Running {
    Running::start_with(data_dir, StoreConfig { retention: Retention::default(), ..config() }, &clock())
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path());
        let settler = Some(running.settler());
        Self {
            dir,
            running: Some(running),
            settler,
            agent: Agent::start(1),
            backlog: Agent::start(101),
            runs: 1,
            ended: false,
            labels: Labels::new(),
            window: 0,
            latest: None,
            untold: false,
            ending: Vec::new(),
            expect: BTreeMap::new(),
            lives: BTreeMap::new(),
            came_late: BTreeSet::new(),
        }
    }

    fn store(&self) -> &Store {
        &self.running.as_ref().unwrap().store
    }

    fn names(&self) -> [String; 2] {
        let with =
            |labels: Labels, name: &str| labels.and(&self.labels).with("job", "node").with(NAME, name).to_string();
        [
            with(Labels::new(), "node_load1"),
            with(Labels::new().with("device", "sda"), "node_disk_reads_completed_total"),
        ]
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Window(gap, values) => self.window(gap, values.map(f64::from)).await,
            Step::Again => {
                if let Some(commit) = self.latest.clone() {
                    assert_eq!(self.store().commit(commit).await.unwrap().batches[0].samples, None);
                }
            }
            Step::Late(back, value) => self.late(back, f64::from(value)).await,
            Step::NewRun => {
                self.runs += 1;
                (self.agent, self.ended) = (Agent::start(self.runs), false);
                (self.latest, self.untold) = (None, false);
            }
            Step::End if !self.ended => {
                self.agent.end(1);
                self.ended = true;
                self.untold = true;
            }
            Step::End => {}
            Step::Label(env) => self.label(env).await,
            Step::Restart => {
                self.settler = None;
                self.running.take().unwrap().stop();
                self.running = Some(start(self.dir.path()));
                self.settler = self.running.as_ref().map(Running::settler);
            }
            Step::Settle(later, stop) => self.settle(later, stop),
            Step::Delete(which, back, length, stop) => self.delete(which, (back, length), stop),
        }
    }

    async fn window(&mut self, gap: u64, values: [f64; 2]) {
        self.window += gap;
        let window = self.window;
        let [_, second] = self.names();
        self.ending.extend(std::mem::take(&mut self.untold).then_some(second));
        self.end(window);
        for (name, value) in self.names().into_iter().zip(values).take(if self.ended { 1 } else { 2 }) {
            self.note(name, window, Some(value));
        }
        let commit = self.agent.batch(stamp(window), values);
        self.store().commit(commit.clone()).await.unwrap();
        self.latest = Some(commit);
    }

    /// Marks what ends with a window.
    fn end(&mut self, window: u64) {
        for name in std::mem::take(&mut self.ending) {
            // One that was silent for an hour ended by that.
            if self.lives.get(&name).is_some_and(|(last, lives)| *lives && window < last + 360) {
                self.note(name, window, None);
            }
        }
    }

    fn note(&mut self, name: String, window: u64, value: Option<f64>) {
        let latest = self.lives.entry(name.clone()).or_insert((window, true));
        if latest.0 <= window {
            *latest = (window, value.is_some());
        }
        self.expect.entry(name).or_default().insert(window, value);
    }

    /// A window of a spool that drains behind the live one.
    async fn late(&mut self, back: u64, value: f64) {
        let window = self.window.saturating_sub(back);
        if 0 < window {
            let lives_on = |name| self.lives.get(name).is_some_and(|(last, lives)| *lives && window <= *last);
            if !self.ending.iter().any(lives_on) {
                self.end(window);
            }
            let [first, _] = self.names();
            self.came_late.insert((first.clone(), window));
            self.note(first, window, Some(value));
            let sample = (SeriesIndex(0), Window::Gauge(Gauge::of(value)));
            let batch = Batch { stamp: stamp(window), samples: vec![sample], ..Batch::default() };
            let commit = self.backlog.encode(&batch);
            self.store().commit(commit).await.unwrap();
        }
    }

    /// Seals and merges what is to be, until nothing is, or until it is stopped somewhere.
    fn settle(&mut self, later: u64, stop: Option<u32>) {
        *self.store().shared.stop.left.lock().unwrap() = stop;
        let now = stamp(self.window + later);
        while self.settler.as_mut().unwrap().step(now) {}
        *self.store().shared.stop.left.lock().unwrap() = None;
        assert_eq!(self.told(), self.expected());
    }

    /// Deletes of some series what is in a range, or nothing if that is stopped.
    fn delete(&mut self, which: usize, (back, length): (u64, u64), stop: Option<u32>) {
        let through = self.window.saturating_sub(back);
        let after = through.saturating_sub(length);
        let name = ["node_load1", "node_disk_reads_completed_total", ""][which];
        let selector = if name.is_empty() { Vec::new() } else { vec![equal(NAME, name)] };
        let range = TimeRange { after: stamp(after), through: stamp(through) };
        let deletion = Deletion { selectors: vec![selector], range };
        *self.store().shared.stop.left.lock().unwrap() = stop;
        let deleted = self.settler.as_mut().unwrap().delete(&deletion, stamp(self.window));
        *self.store().shared.stop.left.lock().unwrap() = None;
        if deleted.is_err() {
            return;
        }
        let meant = self.expect.iter_mut().filter(|(labels, _)| labels.starts_with(name));
        meant.for_each(|(_, samples)| samples.retain(|window, _| *window <= after || through < *window));
        self.expect.retain(|_, samples| !samples.is_empty());
        self.lives.retain(|name, _| self.expect.contains_key(name));
        let (known, left) = (self.known(), dump(self.store(), &[]).len());
        assert_eq!(known, left, "what nothing is left of leaves the catalog");
        let matchers = &deletion.selectors[0];
        let question = Question { matchers, range, fields: &FIELDS, latest: false, grains: Grains::default() };
        assert_eq!(answer(self.store(), question).unwrap().len(), 0, "neither samples nor marks are left");
    }

    /// How many series the catalog or the head has.
    fn known(&self) -> usize {
        let all = TimeRange { after: stamp(0).before(Duration::from_secs(1)), through: ALL.through };
        let spend = |_| Ok::<_, SelectError>(());
        self.store().series(&[], all, (usize::MAX, &spend)).unwrap().len()
    }

    /// What has expired so many windows later goes, and in the end all of it does.
    async fn expire(&mut self, later: u64) {
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        let retention = Retention { raw: hours(9), five_minutes: hours(18), one_hour: hours(40), bytes: None };
        let (now, clock) = (stamp(self.window + later), Clock::moved(stamp(self.window + later)));
        let expect = coarse::pieced(self.store(), &retention, now);
        self.settler = None;
        self.running.take().unwrap().stop();
        let config = StoreConfig { retention, ..config() };
        let running = Running::start_with(self.dir.path(), config, &clock);
        let mut settler = running.settler();
        while settler.step(now) {}
        assert_eq!(coarse::answered(&running.store), expect);
        let back = |seconds: u64| now.before(Duration::from_secs(seconds));
        let range = self.over_windows(TimeRange { after: back(30 * 3_600 + 1_234), through: back(11 * 3_600 + 1_234) });
        let expect = coarse::delete(&running.store, (&mut settler, now), range, expect);
        while settler.step(now) {}
        assert_eq!(coarse::answered(&running.store), expect);
        clock.advance(hours(80));
        while settler.step(clock.wall()) {}
        // Behind each commit it is looked whether something has expired.
        running.store.commit(Commit::default()).await.unwrap();
        running.store.held(HOST, self.agent.run, &[]).await.unwrap();
        assert!(running.store.shared.blocks.all().is_empty());
        for table in ["series", "label_set", "label_pair", "host_set"] {
            let rows = format!("SELECT count(*) FROM {table}");
            let rows = running.store.read(move |books| books.query_row(&rows, [], |row| row.get::<_, u32>(0))).await;
            assert_eq!(rows.unwrap(), 0, "{table}");
        }
        drop(settler);
        self.running = Some(running);
    }

    /// A range, to the full hour where a series ended, or began, within the hour that an end of it lies in: the store knows
    /// that it has nothing of the series, whose window stays.
    fn over_windows(&self, TimeRange { after, through }: TimeRange) -> TimeRange {
        let hour = Duration::from_secs(3_600);
        let (first, last) = (after.align_down(hour), through.align_up(hour));
        let ends = self.lives.values().any(|(window, _)| first < stamp(*window) && stamp(*window) <= after);
        let mut begins = self.expect.values().filter_map(|samples| samples.first_key_value());
        let begins = begins.any(|(window, _)| through < stamp(*window) && stamp(*window) <= last);
        TimeRange { after: if ends { first } else { after }, through: if begins { last } else { through } }
    }

    /// One file for each day that was over so many windows later, no quarter of an hour that was, and none of them damaged.
    fn assert_merged(&self, later: u64) {
        let cut = stamp(self.window + later).before(Duration::from_secs(2 * 3_600));
        let hour = Duration::from_secs(3_600);
        let mut ends = Vec::new();
        for Block { tier, range, .. } in self.store().shared.blocks.all().iter().map(|file| file.block) {
            let Some(finished) = tier.finished(range.through, cut) else {
                continue;
            };
            assert!(hour <= range.through.since(range.after), "{range:?}");
            // What comes late for an hour waits for its day.
            if hour < finished.through.since(finished.after) {
                ends.push((tier, range.through));
            }
        }
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| pair[0] != pair[1]), "{ends:?}");
        assert_eq!(verify::verify(self.dir.path()), []);
        coarse::assert_folded(self.store());
        for hours in [3, 9, 30] {
            coarse::assert_pieced(self.store(), Duration::from_secs(3_600 * hours), stamp(self.window + later));
        }
    }

    async fn label(&mut self, env: u8) {
        let labels = Labels::new().with("env", env.to_string());
        if self.labels != labels {
            self.labels = labels.clone();
            let begin = self.names();
            self.ending = self.expect.keys().filter(|name| !begin.contains(name)).cloned().collect();
        }
        self.store().set_host_labels(HOST, labels).await.unwrap();
    }

    /// Who asks for the latest alone hears the latest of all.
    fn check_latest(&self) {
        for back in [0, 1, 40, 3_000] {
            let through = stamp(self.window.saturating_sub(back));
            let ask = |latest: bool, range: TimeRange| {
                let held = answer(
                    self.store(),
                    Question { matchers: &[], range, fields: &FIELDS, latest, grains: Grains::default() },
                )
                .unwrap();
                let mut told: Vec<String> = held
                    .into_iter()
                    .map(|(labels, samples)| {
                        let values = samples.columns.iter().map(|column| column.last().unwrap().to_bits());
                        format!("{labels} {:?} {:?}", samples.stamps.last(), values.collect::<Vec<_>>())
                    })
                    .collect();
                told.sort();
                told
            };
            for length in [10, 300, 100_000] {
                let range = TimeRange { after: through.before(Duration::from_secs(length)), through };
                assert_eq!(ask(true, range), ask(false, range), "{length} s through {through:?}");
            }
        }
    }

    fn expected(&self) -> Vec<String> {
        let line = |(labels, samples): (&String, &BTreeMap<u64, Option<f64>>)| {
            let samples = samples.iter().map(|(window, value)| match value {
                Some(value) => format!(" {value}@{}", window * 10),
                None => format!(" !@{}", window * 10),
            });
            format!("{labels}{}", samples.collect::<String>())
        };
        let mut lines: Vec<String> = self.expect.iter().filter(|(_, samples)| !samples.is_empty()).map(line).collect();
        lines.sort();
        self.without_late_marks(lines)
    }

    /// What is stored. After a restart the store knows of a series that goes on only that it did when its host was sealed,
    /// and may mark it longer after its latest window than otherwise: that says what the silence says.
    fn told(&self) -> Vec<String> {
        self.without_late_marks(dump(self.store(), &[]))
    }

    /// The silence is that of the time: what came late may lie in it.
    fn without_late_marks(&self, lines: Vec<String>) -> Vec<String> {
        let second = |sample: &str| sample.rsplit_once('@').unwrap().1.parse::<u64>().unwrap();
        let lines = lines.into_iter().filter_map(|line| {
            let (labels, samples) = line.split_once("} ").unwrap();
            let name = format!("{labels}}}");
            let in_time = |sample: &&&str| !self.came_late.contains(&(name.clone(), second(sample) / 10));
            let samples: Vec<&str> = samples.split(' ').collect();
            let stays = |at: &usize| {
                let before = &samples[..*at];
                let soon = |before: &&str| second(samples[*at]) < second(before) + 3_600;
                let ends = before.last().is_some_and(soon) && before.iter().rfind(in_time).is_some_and(soon);
                ends || !samples[*at].starts_with('!')
            };
            let kept: Vec<&str> = (0..samples.len()).filter(stays).map(|at| samples[at]).collect();
            (!kept.is_empty()).then(|| format!("{name} {}", kept.join(" ")))
        });
        lines.collect()
    }
}

/// Takes all steps, and looks at every answer on the way.
fn walk(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        for step in steps {
            let taken = format!("{step:?}");
            world.step(step).await;
            assert_eq!(world.told(), world.expected(), "after {taken}");
            world.check_latest();
        }
        world.step(Step::Restart).await;
        // Later than it was ever settled before: whatever came behind what was merged is merged.
        world.settle(9_000, None);
        world.assert_merged(9_000);
        // An hour without any of them: block files alone have them.
        world.settle(9_360, None);
        assert_eq!(world.store().stats().series, 0);
        world.check_latest();
        world.step(Step::Restart).await;
        assert_eq!(world.store().stats().series, 0);
        assert_eq!(world.told(), world.expected());
        world.expire(9_360).await;
        world.running.take().unwrap().stop();
    });
}

/// The same walks each time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` take others and more.
fn walks() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 12 };
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(walks())]
    #[test]
    fn the_store_answers_what_a_map_would(steps in steps()) {
        walk(steps);
    }
}

#[test]
fn a_seal_that_was_stopped_does_not_pass_for_one_that_had_nothing_to_write() {
    use Step::*;
    for stop in 0..8 {
        walk(vec![
            Label(1),
            Settle(3_046, None),
            Window(1, [2, 2]),
            Label(0),
            Window(1, [0, 2]),
            Settle(756, Some(stop)),
            Restart,
        ]);
    }
}

#[test]
fn a_coarse_file_made_anew_takes_the_place_of_what_was_made_before() {
    use Step::*;
    walk(vec![Window(1, [0, 0]), Settle(4_069, None), End, Window(1, [0, 0])]);
}

#[test]
fn of_a_coarse_window_that_is_deleted_in_part_stays_what_raw_ones_still_have() {
    use Step::*;
    walk(vec![Window(12_321, [0, 0]), Window(1, [0, 0]), Window(1_563, [0, 0])]);
}

#[test]
fn what_was_merged_does_not_stand_before_what_came_later_where_the_clock_was_set_back() {
    use Step::*;
    let windows = vec![Window(1, [0, 0]); 4];
    let set_back = [Delete(0, 4, 0, None), Settle(4_066, Some(2))];
    walk([&windows[..], &set_back, &windows, &[Late(4, 1), Settle(463, None)]].concat());
}

#[test]
fn what_comes_late_behind_an_end_that_is_sealed_does_not_mark_it_again() {
    use Step::*;
    let silent = [Window(1, [0, 0]), Label(1), Window(400, [0, 0]), Settle(100, None), Settle(400, None)];
    walk([&silent[..], &[Late(395, 1), Restart, Window(1, [0, 0])]].concat());
}

#[test]
fn what_comes_late_behind_new_labels_and_is_sealed_ends_nothing() {
    use Step::*;
    for silence in [10, 368, 370, 800] {
        for label in [vec![Label(2), Restart], vec![Restart, Label(0)]] {
            let settle = [Settle(10, None), Settle(silence, None), Restart, Restart];
            let next = [&settle[..], &[Window(1, [1, 1]), Late(40, 1), Window(1, [1, 1])]].concat();
            let first = [Window(47, [0, 0]), Label(1), Late(9, 0), Late(0, 0)];
            walk([&first[..], &next, &label, &[Late(3, 1)], &next].concat());
        }
    }
}
