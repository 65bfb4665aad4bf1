//! Runs Prometheus' own engine tests against ours.
//!
//! They are looked for in `LAPWING_TEST_DATA` or beside the repository; without them nothing is judged, and the output
//! says so. What is left out is left out by a rule below, counted, and printed; all else must pass.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a script that cannot be read should fail")]
#![expect(clippy::print_stderr, reason = "says how many evaluations ran, and what was left out")]
#![expect(clippy::disallowed_methods, reason = "the one variable that says where the test data lies")]

mod expect;
mod script;
mod series;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aggregator::query::Engine;
use aggregator::query::EngineConfig;
use aggregator::query::Value;
use aggregator::query::parse;
use aggregator::query::source::Memory;
use common::time::Clock;
use common::time::Timestamp;

use crate::expect::differences;
use crate::script::Command;
use crate::script::Evaluation;
use crate::script::Moments;

/// Evaluations that pass: a floor, so that the rules that leave some out cannot grow unseen.
const PASSED_MIN: usize = 788;

/// Files that are left out as a whole.
const FILES_LEFT_OUT: &[(&str, &str)] = &[
    ("native_histograms.test", "native histograms"),
    ("type_and_unit.test", "labels __type__ and __unit__, an option that Prometheus has off"),
];

/// Evaluations whose text holds one of these are left out.
const QUERIES_LEFT_OUT: &[(&str, &str)] =
    &[("data(_histogram)?", "native histograms"), (r#""\xff""#, "text that is not UTF-8, which labels cannot be")];

#[test]
fn prometheus_engine_tests_pass() {
    let Some(folder) = folder() else {
        eprintln!("promqltest: left out: no ../shared/data/promqltest and no LAPWING_TEST_DATA");
        return;
    };
    let mut tally = Tally::default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        run_file(file, &mut tally);
    }
    eprintln!("promqltest: {} passed, {} failed", tally.passed, tally.failures.len());
    tally.left_out.iter().for_each(|(why, count)| eprintln!("promqltest: {count} left out: {why}"));
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    assert!(PASSED_MIN <= tally.passed, "only {} evaluations passed, expected {PASSED_MIN}", tally.passed);
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
    left_out: BTreeMap<&'static str, usize>,
}

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var("LAPWING_TEST_DATA").map_or(beside, PathBuf::from);
    Some(data.join("promqltest")).filter(|folder| folder.is_dir())
}

fn run_file(path: &Path, tally: &mut Tally) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let file_left_out = FILES_LEFT_OUT.iter().find(|(file, _)| *file == name).map(|(_, why)| *why);
    let mut memory = Arc::new(Memory::default());
    let mut histograms: Vec<String> = Vec::new();
    for command in script::commands(&std::fs::read_to_string(path).unwrap()) {
        match command {
            Command::Clear => {
                memory = Arc::new(Memory::default());
                histograms.clear();
            }
            Command::Load(load) => histograms.extend(series::load(&load, &memory)),
            Command::Eval(evaluation) => {
                if let Some(why) = file_left_out.or_else(|| left_out(&evaluation, &histograms)) {
                    *tally.left_out.entry(why).or_default() += 1;
                } else {
                    match run(&evaluation, &memory) {
                        Ok(()) => tally.passed += 1,
                        Err(difference) => {
                            tally
                                .failures
                                .push(format!("{name}:{}: {}\n    {difference}", evaluation.line, evaluation.query));
                        }
                    }
                }
            }
        }
    }
}

fn left_out(evaluation: &Evaluation, histograms: &[String]) -> Option<&'static str> {
    let words = || evaluation.query.split(|char: char| !char.is_alphanumeric() && char != '_' && char != ':');
    if parse(&evaluation.query).is_err() && has_arithmetic_in_duration(&evaluation.query) {
        return Some("arithmetic in durations, an option that Prometheus has off");
    }
    if evaluation.expected.iter().any(|line| line.contains("{{"))
        || words().any(|word| histograms.iter().any(|name| name == word))
    {
        return Some("native histograms");
    }
    QUERIES_LEFT_OUT.iter().find(|(text, _)| evaluation.query.contains(text)).map(|(_, why)| *why)
}

/// `[26m+4m]`, `[5m:(1m)]`, `offset (100 + 2)`: an operator or a bracket behind what opens a duration.
fn has_arithmetic_in_duration(query: &str) -> bool {
    let behind = |opening: &str| query.split_once(opening).map_or("", |(_, behind)| behind).to_owned();
    let inside = behind("[").split(']').next().unwrap_or_default().to_owned() + &behind("offset");
    inside.contains(['+', '-', '*', '/', '%', '^', '('])
}

fn run(evaluation: &Evaluation, memory: &Arc<Memory>) -> Result<(), String> {
    let source: Arc<Memory> = Arc::clone(memory);
    let engine = Engine::new(source, Clock::moved(Timestamp::default()), EngineConfig::default());
    let query = &evaluation.query;
    let answer = match evaluation.moments {
        Moments::At(at) => engine.instant(query, at),
        Moments::Range { start, end, step } => engine.range(query, start, end, step),
    };
    let answer = match (answer, evaluation.fails) {
        (Err(_), true) => return Ok(()),
        (Ok(answer), true) => return Err(format!("should fail, answers {answer:?}")),
        (Err(error), false) => return Err(format!("{}: {error}", error.error_type())),
        (Ok(answer), false) => answer,
    };
    differences(evaluation, &answer)?;
    match evaluation.moments {
        Moments::At(at) => in_range_mode(evaluation, &engine, at, &answer),
        Moments::Range { .. } => Ok(()),
    }
}

/// The middle step of a range query must say what the instant query said.
fn in_range_mode(evaluation: &Evaluation, engine: &Engine, at: Timestamp, instant: &Value) -> Result<(), String> {
    const MINUTE: Duration = Duration::from_secs(60);
    let Value::Vector(samples) = instant else { return Ok(()) };
    if evaluation.query.contains("start()") || evaluation.query.contains("end()") {
        return Ok(());
    }
    let range = engine.range(&evaluation.query, at.before(MINUTE), at.after(MINUTE), MINUTE);
    let Value::Matrix(series) = range.map_err(|error| format!("in range mode: {error}"))? else {
        return Err("in range mode: no matrix".to_owned());
    };
    let middle: Vec<_> = series
        .into_iter()
        .filter_map(|(labels, samples)| {
            samples.into_iter().find(|(stamp, _)| *stamp == at).map(|(stamp, value)| (labels, stamp, value))
        })
        .collect();
    let mut samples = samples.clone();
    samples.sort_by(|left, right| left.0.cmp(&right.0));
    let same = samples.len() == middle.len()
        && samples.iter().zip(&middle).all(|(left, right)| left.0 == right.0 && expect::close(left.2, right.2));
    if same { Ok(()) } else { Err(format!("in range mode: {middle:?} where the instant says {samples:?}")) }
}
