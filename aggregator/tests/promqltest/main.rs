//! Runs Prometheus' own engine tests against ours, and asks both the same.
//!
//! They are looked for in `LAPWING_TEST_DATA` or beside the repository; without them nothing is judged, and the output
//! says so. An evaluation is left out if it meets a native histogram, counted, and printed; all else must pass.
//! As in Prometheus' runner each instant evaluation is repeated with `@` at other moments, and as a range query.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a script that cannot be read should fail")]
#![expect(clippy::print_stderr, reason = "says how many evaluations ran, and what was left out")]
#![expect(clippy::disallowed_methods, reason = "the one variable that says where the test data lies")]

mod api;
mod door;
mod expect;
mod over_http;
mod peer;
mod pin;
mod questions;
mod script;
mod series;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregator::query::Moments;
use aggregator::query::Value;
use common::time::Timestamp;

use crate::door::Door;
use crate::door::InProcess;
use crate::door::Reply;
use crate::expect::differences;
use crate::over_http::Aggregator;
use crate::peer::Prometheus;
use crate::questions::Chance;
use crate::script::Command;
use crate::script::Evaluation;
use crate::script::Expect;
use crate::series::Loaded;

/// Evaluations that pass: a floor, so that what is left out cannot grow unseen.
const PASSED_MIN: usize = 857;

/// A failure whose words are ours: `count_values("a\xc5z", …)`, which our parser refuses before it knows what the text is
/// for.
const OWN_WORDS: &str = r#"count_values("a\xc5z", version)"#;

#[test]
fn prometheus_engine_tests_pass() {
    let mut tally = Tally::default();
    for (name, text) in files() {
        run_file(&name, &text, &mut tally);
    }
    tally.judge();
}

#[test]
fn prometheus_engine_tests_pass_over_http() {
    let files = Mutex::new(files().into_iter());
    let run_some = || {
        let mut tally = Tally::default();
        let next = || files.lock().unwrap().next();
        while let Some((name, text)) = next() {
            run_file_over_http(&name, &text, &mut tally);
        }
        tally
    };
    // An aggregator that starts waits for the disk most of the time.
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(run_some));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    tallies.into_iter().fold(Tally::default(), Tally::and).judge();
}

/// Queries by chance that both are asked, each at a moment and over a range.
const QUESTIONS: usize = 800;

#[test]
fn prometheus_answers_the_same() {
    let mut chance = Chance::new(7);
    let samples = questions::samples(&mut chance);
    let Some(prometheus) = Prometheus::start(&samples) else {
        eprintln!("differential: SKIPPED: prometheus and promtool are not installed (Debian: package prometheus)");
        return;
    };
    let ours = InProcess::over(&Arc::new(Loaded::of(&samples)));
    let (mut answered, mut failed, mut dropped, mut differences) = (0, 0, 0, Vec::new());
    for _ in 0..QUESTIONS {
        let query = questions::vector(&mut chance, 3);
        let start = chance.moment();
        let step = Duration::from_millis(10 * u64::from(100 + chance.below(20_000)));
        let range = Moments::Range { start, end: start.after(step * chance.below(20)), step };
        for moments in [Moments::At(start), range] {
            match (ours.ask(&query, moments), prometheus.ask(&query, moments)) {
                (Ok(ours), Ok(theirs)) => {
                    answered += 1;
                    if let Err(difference) = expect::nearly(&ours.value, &theirs.value) {
                        differences.push(format!("{query} at {moments:?}\n    {difference}"));
                    }
                }
                (Err(_), Err(_)) => failed += 1,
                (Ok(_), Err(error)) if error.contains("same labelset") => dropped += 1,
                (ours, theirs) => differences.push(format!(
                    "{query} at {moments:?}\n    ours {:?}, theirs {:?}",
                    ours.map(|reply| reply.value),
                    theirs.map(|reply| reply.value)
                )),
            }
        }
    }
    eprintln!("differential: {answered} answers are the same, {failed} fail on both sides, {dropped} there alone");
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// The scripts, by name; none where they are missing.
fn files() -> Vec<(String, String)> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var("LAPWING_TEST_DATA").map_or(beside, PathBuf::from).join("promqltest");
    let Ok(entries) = std::fs::read_dir(data) else {
        eprintln!("promqltest: SKIPPED: no test data beside the repository or in LAPWING_TEST_DATA");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let file = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(file).collect()
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
    native: usize,
    native_passed: usize,
}

impl Tally {
    fn count(&mut self, file: &str, evaluation: &Evaluation, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(difference) => {
                let Evaluation { line, query, .. } = evaluation;
                self.failures.push(format!("{file}:{line}: {query}\n    {difference}"));
            }
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.native += other.native;
        self.native_passed += other.native_passed;
        self
    }

    fn judge(self) {
        eprintln!("promqltest: {} passed, {} failed", self.passed, self.failures.len());
        let Self { native, native_passed, .. } = self;
        eprintln!("promqltest: {native} left out: they meet native histograms ({native_passed} of them pass without)");
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        let all = self.passed + self.native;
        assert!(all == 0 || PASSED_MIN <= self.passed, "only {} of {all} passed, expected {PASSED_MIN}", self.passed);
    }
}

fn run_file(file: &str, text: &str, tally: &mut Tally) {
    let mut loaded = Arc::new(Loaded::default());
    for command in script::commands(text) {
        match command {
            Command::Clear => loaded = Arc::new(Loaded::default()),
            Command::Load(load) => drop(loaded.load(&load)),
            Command::Eval(evaluation) => {
                let door = InProcess::over(&loaded);
                drop(door.ask(&evaluation.query, evaluation.moments));
                let is_native = loaded.has_met_histograms();
                let outcome = run(&evaluation, &door);
                if is_native {
                    tally.native += 1;
                    tally.native_passed += usize::from(outcome.is_ok());
                } else {
                    tally.count(file, &evaluation, outcome);
                }
                loaded.has_met_histograms();
            }
        }
    }
}

/// As [`run_file`], asking an aggregator that is started anew whenever something was loaded.
fn run_file_over_http(file: &str, text: &str, tally: &mut Tally) {
    let mut loaded = Arc::new(Loaded::default());
    let (mut new, mut aggregator) = (Vec::new(), None);
    for command in script::commands(text) {
        match command {
            Command::Clear => {
                (loaded, new) = (Arc::new(Loaded::default()), Vec::new());
                drop(aggregator.take().map(Aggregator::stop));
            }
            Command::Load(load) => new.extend(loaded.load(&load)),
            Command::Eval(evaluation) => {
                drop(InProcess::over(&loaded).ask(&evaluation.query, evaluation.moments));
                if loaded.has_met_histograms() {
                    tally.native += 1;
                    continue;
                }
                if aggregator.is_none() || !new.is_empty() {
                    let dir = aggregator.take().map_or_else(|| tempfile::tempdir().unwrap(), Aggregator::stop);
                    aggregator = Some(Aggregator::start(dir, std::mem::take(&mut new)));
                }
                tally.count(file, &evaluation, run(&evaluation, aggregator.as_ref().unwrap()));
            }
        }
    }
    drop(aggregator.map(Aggregator::stop));
}

fn run(evaluation: &Evaluation, door: &dyn Door) -> Result<(), String> {
    let query = &evaluation.query;
    judge(evaluation, door.ask(query, evaluation.moments))?;
    let Moments::At(at) = evaluation.moments else { return Ok(()) };
    if evaluation.expects(Expect::Fail) {
        return Ok(());
    }
    in_range_mode(evaluation, door, query, at)?;
    let Some(pinned) = pin::pinned(query, at) else { return Ok(()) };
    for moment in pin::moments(at) {
        let named = |difference| format!("{pinned} at {}: {difference}", moment.as_seconds());
        judge(evaluation, door.ask(&pinned, Moments::At(moment))).map_err(named)?;
        in_range_mode(evaluation, door, &pinned, moment).map_err(named)?;
    }
    Ok(())
}

fn judge(evaluation: &Evaluation, reply: Result<Reply, String>) -> Result<(), String> {
    match (reply, evaluation.expects(Expect::Fail)) {
        (Ok(reply), false) => differences(evaluation, &reply),
        (Ok(reply), true) => Err(format!("should fail, answers {:?}", reply.value)),
        (Err(error), false) => Err(error),
        (Err(error), true) => {
            let expected = evaluation.said(Expect::Fail).all(|words| words.is(&error));
            let own = evaluation.query == OWN_WORDS;
            if expected || own { Ok(()) } else { Err(format!("should fail in other words than {error:?}")) }
        }
    }
}

/// The middle step of a range query must say what the instant query says.
fn in_range_mode(evaluation: &Evaluation, door: &dyn Door, query: &str, at: Timestamp) -> Result<(), String> {
    const MINUTE: Duration = Duration::from_secs(60);
    if evaluation.expects(Expect::Ordered) {
        return Ok(());
    }
    let is_scalar = matches!(door.ask(query, Moments::At(at))?.value, Value::Scalar(_));
    let moments = Moments::Range { start: at.before(MINUTE), end: at.after(MINUTE), step: MINUTE };
    let reply = door.ask(query, moments).map_err(|error| format!("in range mode: {error}"))?;
    let Value::Matrix(series) = reply.value else { return Err("in range mode: no matrix".to_owned()) };
    if series.windows(2).any(|pair| pair[1].0 <= pair[0].0) {
        return Err("in range mode: not sorted".to_owned());
    }
    let middle = series.into_iter().filter_map(|(labels, samples)| {
        samples.into_iter().find(|(stamp, _)| *stamp == at).map(|(stamp, value)| (labels, stamp, value))
    });
    let middle: Vec<_> = middle.collect();
    let value = if is_scalar { Value::Scalar(middle[0].2) } else { Value::Vector(middle) };
    expect::answers(evaluation, &value).map_err(|difference| format!("in range mode: {difference}"))
}
