//! Prometheus' test script: commands, each with the lines below it.

use std::time::Duration;

use aggregator::query::Moments;
use common::time::Timestamp;
use regex::Regex;

/// One command.
pub(crate) enum Command {
    /// Forget all series.
    Clear,
    /// Add series.
    Load(Load),
    /// Evaluate a query.
    Eval(Evaluation),
}

/// Series to add.
pub(crate) struct Load {
    /// Time between two samples.
    pub(crate) step: Duration,
    /// Whether buckets become native histograms too.
    pub(crate) with_native: bool,
    /// Series in the notation of the script.
    pub(crate) series: Vec<String>,
}

/// A query, and what it must answer.
pub(crate) struct Evaluation {
    /// Where it stands, from 1.
    pub(crate) line: usize,
    /// When to evaluate.
    pub(crate) moments: Moments,
    /// The query.
    pub(crate) query: String,
    /// What must be said beside the answer, or instead of it.
    pub(crate) expects: Vec<(Expect, Said)>,
    /// What it must answer.
    pub(crate) expected: Vec<String>,
}

/// What must be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Why it fails.
    Fail,
    /// A warning.
    Warn,
    /// An info.
    Info,
    /// No warning.
    NoWarn,
    /// No info.
    NoInfo,
    /// Nothing, but the order of the answer counts.
    Ordered,
}

/// In which words.
pub(crate) enum Said {
    /// In any.
    Anyhow,
    /// In these.
    Message(String),
    /// In words that match.
    Pattern(Regex),
}

impl Said {
    /// Whether these are the words.
    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Anyhow => true,
            Self::Message(message) => message == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

impl Evaluation {
    /// What must be said of one sort.
    pub(crate) fn said(&self, wanted: Expect) -> impl Iterator<Item = &Said> {
        self.expects.iter().filter(move |(expect, _)| *expect == wanted).map(|(_, said)| said)
    }

    /// Whether something is expected.
    pub(crate) fn expects(&self, wanted: Expect) -> bool {
        self.said(wanted).next().is_some()
    }
}

/// Splits a script into its commands.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        match (word, commands.last_mut()) {
            ("clear", _) => commands.push(Command::Clear),
            ("load" | "load_with_nhcb", _) => {
                let load = Load { step: duration(rest), with_native: word != "load", series: Vec::new() };
                commands.push(Command::Load(load));
            }
            (word, _) if word.starts_with("eval") => commands.push(Command::Eval(evaluation(at + 1, word, rest))),
            (_, Some(Command::Load(load))) => load.series.push(trimmed.to_owned()),
            (word, Some(Command::Eval(evaluation))) => match word {
                "expect" => evaluation.expects.push(expect(rest)),
                "expected_fail_message" => evaluation.expects.push((Expect::Fail, Said::Message(rest.to_owned()))),
                "expected_fail_regexp" => {
                    evaluation.expects.push((Expect::Fail, Said::Pattern(Regex::new(rest).unwrap())));
                }
                _ => evaluation.expected.push(trimmed.to_owned()),
            },
            (_, _) => panic!("line {}: {trimmed}", at + 1),
        }
    }
    commands
}

/// `warn`, `fail msg: …`, `info regex: …`.
fn expect(text: &str) -> (Expect, Said) {
    let (what, how) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let expect = match what {
        "fail" => Expect::Fail,
        "warn" => Expect::Warn,
        "info" => Expect::Info,
        "no_warn" => Expect::NoWarn,
        "no_info" => Expect::NoInfo,
        "ordered" => Expect::Ordered,
        _ => panic!("expect {text}"),
    };
    let said = match how.trim().split_once(':') {
        None => Said::Anyhow,
        Some(("msg", message)) => Said::Message(message.trim().to_owned()),
        Some(("regex", pattern)) => Said::Pattern(Regex::new(pattern.trim()).unwrap()),
        Some(_) => panic!("expect {text}"),
    };
    (expect, said)
}

/// `instant at 5m query` or `range from 0 to 5m step 1m query`.
fn evaluation(line: usize, word: &str, rest: &str) -> Evaluation {
    let (mode, rest) = rest.split_once(' ').unwrap();
    let mut rest = rest.trim_start();
    let mut next = |keyword: &str| {
        let behind = rest.strip_prefix(keyword).unwrap().trim_start();
        let (moment, behind) = behind.split_once(char::is_whitespace).unwrap();
        rest = behind.trim_start();
        duration(moment)
    };
    let moment = |after: Duration| Timestamp::default().after(after);
    let moments = if mode == "instant" {
        Moments::At(moment(next("at")))
    } else {
        let (start, end) = (moment(next("from")), moment(next("to")));
        Moments::Range { start, end, step: next("step") }
    };
    let expect = match word {
        "eval_fail" => Some(Expect::Fail),
        "eval_warn" => Some(Expect::Warn),
        "eval_info" => Some(Expect::Info),
        "eval_ordered" => Some(Expect::Ordered),
        _ => None,
    };
    let expects = expect.into_iter().map(|expect| (expect, Said::Anyhow)).collect();
    Evaluation { line, moments, query: rest.to_owned(), expects, expected: Vec::new() }
}

/// `1h5m`, or seconds.
fn duration(text: &str) -> Duration {
    if let Ok(seconds) = text.parse() {
        return Duration::from_secs_f64(seconds);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap();
        let (count, behind) = rest.split_at(digits);
        let letters = behind.find(|char: char| char.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => panic!("no duration: {text}"),
        };
        total += Duration::from_millis(count.parse::<u64>().unwrap() * millis);
        rest = behind;
    }
    total
}
