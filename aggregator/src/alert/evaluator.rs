//! Rules over a query engine: what they find becomes alerts, their states and their series.
//!
//! The evaluator owns the state of all alerts. It is asked for one evaluation at a time, in order, and gives back what
//! is to be committed; nothing in it waits or reads a clock.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

use crate::alert::active::Alerts;
use crate::alert::active::Found;
use crate::alert::active::Missing;
use crate::alert::files::RuleFiles;
use crate::alert::fingerprint::Fingerprint;
use crate::alert::rule::Alerting;
use crate::alert::rule::Group;
use crate::alert::rule::Kind;
use crate::alert::rule::Rule;
use crate::alert::snapshot::Health;
use crate::alert::state::Patience;
use crate::alert::template::Data;
use crate::query::Engine;
use crate::query::Turn;
use crate::query::Value;
use crate::store::commit::Append;
use crate::store::record::Record;
use crate::store::record::alerts;

/// What the configuration says about evaluations.
#[derive(Clone, Debug)]
pub struct EvaluatorConfig {
    /// How often groups are evaluated that do not say it.
    pub interval: Duration,
    /// How long a silent host holds its alerts.
    pub hold_silent: Duration,
    /// Where people reach the aggregator; templates may say it.
    pub external_url: Arc<str>,
}

/// Owns the state of all alerts.
pub struct Evaluator {
    config: EvaluatorConfig,
    engine: Engine,
    turn: Turn,
    alerts: Alerts,
    outcomes: BTreeMap<Arc<str>, Outcome>,
}

/// How the last evaluation of a rule went, and the series that it recorded.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Well or not.
    pub health: Health,
    /// When it was.
    pub evaluated: Option<Timestamp>,
    recorded: BTreeSet<Labels>,
}

impl Evaluator {
    /// An evaluator that continues with the alerts recorded.
    #[must_use]
    pub fn new(config: EvaluatorConfig, engine: Engine, recorded: Vec<alerts::Alert>) -> Self {
        let alerts = Alerts::restored(recorded);
        Self { config, engine, turn: Turn::default(), alerts, outcomes: BTreeMap::new() }
    }

    /// Evaluates the groups whose turn `at` is. Gives the series to append.
    pub fn evaluate(&mut self, files: &RuleFiles, missing: Missing<'_>, at: Timestamp) -> Vec<Append> {
        let before = self.alerts.series();
        let mut samples = Vec::new();
        let mut stale = Vec::new();
        let mut known = BTreeSet::new();
        for Keyed { path, group, rules } in keyed(files) {
            for (key, rule) in rules {
                known.insert(Arc::clone(&key));
                if !self.is_due(group, at) {
                    continue;
                }
                let outcome = self.outcomes.entry(Arc::clone(&key)).or_default();
                let recorded = std::mem::take(&mut outcome.recorded);
                let mut series = Vec::new();
                let health = match self.rule(&key, group, rule, (missing, at)) {
                    Ok(found) => {
                        series = found;
                        Health::Ok
                    }
                    Err(error) => {
                        tracing::debug!(file = &**path, rule = &*rule.name, error, "rule failed");
                        Health::Error(error)
                    }
                };
                let now: BTreeSet<Labels> = series.iter().map(|(labels, _)| labels.clone()).collect();
                stale.extend(recorded.difference(&now).cloned());
                samples.extend(series);
                self.outcomes.insert(key, Outcome { health, evaluated: Some(at), recorded: now });
            }
        }
        self.outcomes.retain(|key, _| known.contains(key));
        self.alerts.forget(|key| !known.contains(key) && !files.is_unread(file_of(key)));
        let after = self.alerts.series();
        stale.extend(before.keys().filter(|series| !after.contains_key(*series)).cloned());
        samples.extend(after);
        let mut appends = vec![Append::Own { stamp: at, samples }, Append::Stale { stamp: at, series: stale }];
        appends.retain(|append| !matches!(append, Append::Own { samples, .. } if samples.is_empty()));
        appends.retain(|append| !matches!(append, Append::Stale { series, .. } if series.is_empty()));
        appends
    }

    /// The instances whose hosts are silent at this moment: all their `up` are 0.
    #[must_use]
    pub fn silent(&self, at: Timestamp) -> BTreeSet<String> {
        const SILENT: &str = "max by (instance) (up) == 0";
        let found = self.engine.instant(SILENT, at);
        let Ok(Value::Vector(found)) = found else {
            return BTreeSet::new();
        };
        found.into_iter().map(|(labels, _, _)| labels.get("instance").to_owned()).collect()
    }

    /// The first evaluation after `last`: the next multiple of the interval of any group.
    #[must_use]
    pub fn next(&self, files: &RuleFiles, last: Timestamp) -> Timestamp {
        let groups = files.groups().map(|(_, group)| self.interval(group));
        let next = |interval: Duration| last.after(Duration::from_millis(1)).align_up(interval);
        groups.map(next).fold(next(self.config.interval), Timestamp::min)
    }

    /// The clock was set back to `now`: nothing waits for times that were.
    pub fn set_back(&mut self, now: Timestamp) {
        self.alerts.set_back(now);
    }

    /// The state of all alerts.
    #[must_use]
    pub const fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// What changed since the last commit, to be recorded with what it caused.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.alerts.records().map(Record::Alert).collect()
    }

    /// The records were committed.
    pub fn committed(&mut self) {
        self.alerts.committed();
    }

    /// How the last evaluation of a rule went.
    #[must_use]
    pub fn outcome(&self, key: &str) -> Outcome {
        self.outcomes.get(key).cloned().unwrap_or_default()
    }

    /// How often a group is evaluated.
    #[must_use]
    pub fn interval(&self, group: &Group) -> Duration {
        group.interval.unwrap_or(self.config.interval)
    }

    fn is_due(&self, group: &Group, at: Timestamp) -> bool {
        at.align_down(self.interval(group)) == at
    }

    /// Evaluates one rule: an alerting one moves its alerts on, a recording one gives its samples.
    fn rule(
        &mut self,
        key: &Arc<str>,
        group: &Group,
        rule: &Rule,
        (missing, at): (Missing<'_>, Timestamp),
    ) -> Result<Vec<(Labels, f64)>, String> {
        let answer = self.engine.evaluate(&rule.expr, at.before(group.query_offset), &self.turn);
        let samples: Vec<(Labels, f64)> = match answer.map_err(|error| error.to_string())? {
            Value::Vector(samples) => samples.into_iter().map(|(labels, _, value)| (labels, value)).collect(),
            Value::Scalar(value) => vec![(Labels::new(), value)],
            Value::String(_) | Value::Matrix(_) => {
                return Err("the expression gives no vector and no number".to_owned());
            }
        };
        if group.limit != 0 && group.limit < samples.len() {
            self.alerts.drop_rule(key);
            return Err(format!("exceeded limit of {} with {} results", group.limit, samples.len()));
        }
        match &rule.kind {
            Kind::Recording => record(rule, samples, &self.config),
            Kind::Alerting(alerting) => {
                let found = raise(rule, alerting, samples, &self.config)?;
                let patience = Patience {
                    hold_for: alerting.hold_for,
                    keep_firing_for: alerting.keep_firing_for,
                    hold_silent: self.config.hold_silent,
                };
                let none = BTreeSet::new();
                let silent = if alerting.holds { missing.silent } else { &none };
                self.alerts.step(key, found, patience, (Missing { silent, ..missing }, at));
                Ok(Vec::new())
            }
        }
    }
}

/// A group of a file, and its rules with the key that names each from one start to the next.
#[derive(Debug)]
pub struct Keyed<'a> {
    /// The file.
    pub path: &'a Arc<str>,
    /// The group.
    pub group: &'a Group,
    /// Its rules.
    pub rules: Vec<(Arc<str>, &'a Arc<Rule>)>,
}

/// All groups of all files.
pub fn keyed(files: &RuleFiles) -> impl Iterator<Item = Keyed<'_>> {
    files.groups().map(|(path, group)| {
        let mut same: BTreeMap<String, usize> = BTreeMap::new();
        let keys = group.rules.iter().map(|rule| {
            let name = format!("{path};{};{}{}", group.name, rule.name, rule.labels_written());
            let nth = same.entry(name.clone()).or_default();
            *nth += 1;
            (Arc::from(format!("{name};{nth}")), rule)
        });
        Keyed { path, group, rules: keys.collect() }
    })
}

fn file_of(key: &str) -> &str {
    key.split(';').next().unwrap_or_default()
}

fn raise(
    rule: &Rule,
    alerting: &Alerting,
    samples: Vec<(Labels, f64)>,
    config: &EvaluatorConfig,
) -> Result<BTreeMap<Fingerprint, Found>, String> {
    let mut found = BTreeMap::new();
    for (sample, value) in samples {
        let data = Data { labels: sample, value, external_url: Arc::clone(&config.external_url) };
        let mut labels = data.labels.clone().with(NAME, "");
        for label in &rule.labels {
            labels.set(Arc::clone(&label.name), label.template.expand(&data));
        }
        labels.set("alertname", Arc::clone(&rule.name));
        let annotations = alerting
            .annotations
            .iter()
            .map(|annotation| (Arc::clone(&annotation.name), annotation.template.expand(&data)))
            .collect();
        let alert = Found { labels, annotations, value };
        if found.insert(Fingerprint::of(&alert.labels), alert).is_some() {
            return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
        }
    }
    Ok(found)
}

fn record(rule: &Rule, samples: Vec<(Labels, f64)>, config: &EvaluatorConfig) -> Result<Vec<(Labels, f64)>, String> {
    let mut recorded = BTreeMap::new();
    for (sample, value) in samples {
        let data = Data { labels: sample, value, external_url: Arc::clone(&config.external_url) };
        let mut labels = data.labels.clone().with(NAME, Arc::clone(&rule.name));
        for label in &rule.labels {
            labels.set(Arc::clone(&label.name), Arc::clone(&label.text));
        }
        if recorded.insert(labels, value).is_some() {
            return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
        }
    }
    Ok(recorded.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use common::time::Clock;

    use super::*;
    use crate::alert::active::Active;
    use crate::alert::state::State;
    use crate::ingest::hearing::Unheard;
    use crate::query::EngineConfig;
    use crate::query::source::Memory;

    /// One evaluation each 10 s of one rule over the series `load` of two hosts, of which the second may be silent. For
    /// each evaluation a word: the values of `load` on `a` and `b` (a digit, `.` for none, `?` for none from a silent
    /// host, `!` for one that could not be heard), and what is expected of the two alerts (`-`, `p`, `F`, `r`, `H` for
    /// held); one without `instance` stands for that of `a`. Gives how the last one went.
    fn check(rule: &str, evaluations: &[(&str, &str)]) -> Health {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rules")).unwrap();
        let text = format!("groups:\n- name: g\n  rules:\n  - {rule}\n");
        fs::write(directory.path().join("rules/x.yml"), text).unwrap();
        let mut files = RuleFiles::new(directory.path());
        files.look(false);
        let memory = Arc::new(Memory::default());
        let engine = Engine::new(Arc::<Memory>::clone(&memory), Clock::real(), EngineConfig::default());
        let mut evaluator = Evaluator::new(config(), engine, Vec::new());
        for (round, (loads, expect)) in (1..).zip(evaluations) {
            let at = Timestamp::from_seconds(10 * round);
            let mut unheard = BTreeSet::new();
            for (instance, load) in ["a", "b"].into_iter().zip(loads.chars()) {
                let series = |name| Labels::new().with(NAME, name).with("instance", instance);
                match load {
                    '!' => {
                        unheard.insert(instance.to_owned());
                        memory.mark_stale(&series("up"), at);
                    }
                    _ => memory.append_sample(&series("up"), at, if load == '?' { 0.0 } else { 1.0 }),
                }
                match load.to_digit(10) {
                    Some(load) => memory.append_sample(&series("load"), at, f64::from(load)),
                    None => memory.mark_stale(&series("load"), at),
                }
            }
            let silent = evaluator.silent(at);
            let unheard = Unheard::Instances(unheard);
            evaluator.evaluate(&files, Missing { silent: &silent, unheard: &unheard }, at);
            let of = |instances: &[&str]| {
                let mut alerts = evaluator.alerts().iter();
                let about = |alert: &Active| instances.contains(&alert.found.labels.get("instance"));
                alerts.find(|(_, _, alert)| about(alert)).map(|found| found.2.state)
            };
            let got: String = [["a", ""], ["b", "b"]].map(|instances| letter(of(&instances))).into_iter().collect();
            assert_eq!(got, *expect, "evaluation {round} of {rule}");
        }
        evaluator.outcomes.into_values().next().unwrap().health
    }

    fn letter(state: Option<State>) -> char {
        match state {
            None => '-',
            Some(state) if state.held().is_some() => 'H',
            Some(State::Pending { .. }) => 'p',
            Some(State::Firing { .. }) => 'F',
            Some(State::Resolved { .. }) => 'r',
        }
    }

    fn config() -> EvaluatorConfig {
        EvaluatorConfig {
            interval: Duration::from_secs(10),
            hold_silent: Duration::from_secs(30),
            external_url: "".into(),
        }
    }

    #[test]
    fn each_sample_is_an_alert_of_its_own() {
        check("{alert: A, expr: load > 5}", &[("91", "F-"), ("99", "FF"), ("19", "rF"), ("99", "FF")]);
        check("{alert: A, expr: load > 5, for: 10s}", &[("99", "pp"), ("91", "F-"), ("99", "Fp"), ("99", "FF")]);
    }

    #[test]
    fn a_silent_host_holds_its_alerts_for_a_while() {
        let held = [("99", "FF"), ("9?", "FH"), ("1?", "rH"), ("1?", "rH"), ("1?", "rr")];
        check("{alert: A, expr: load > 5}", &held);
        check("{alert: A, expr: load > 5}", &[("99", "FF"), ("9?", "FH"), ("99", "FF")]);
        check("{alert: A, expr: load > 5, annotations: {lapwing_silent: resolve}}", &[("99", "FF"), ("9?", "Fr")]);
    }

    #[test]
    fn a_rule_about_silence_fires_for_a_silent_host() {
        check("{alert: A, expr: up == 0, for: 10s}", &[("99", "--"), ("9?", "-p"), ("9?", "-F"), ("99", "-r")]);
    }

    #[test]
    fn what_could_not_be_heard_is_held_whatever_the_rule_says() {
        check("{alert: A, expr: load > 5}", &[("99", "FF"), ("9!", "FH"), ("91", "Fr")]);
        check("{alert: A, expr: up == 0}", &[("9?", "-F"), ("9!", "-H"), ("9?", "-F"), ("99", "-r")]);
        check("{alert: A, expr: sum(load) > 9}", &[("99", "F-"), ("9!", "H-"), ("9!", "H-"), ("91", "F-")]);
        let absent =
            "{alert: A, expr: 'absent(load{instance=\"b\"})', for: 10s, annotations: {lapwing_silent: resolve}}";
        check(absent, &[("99", "--"), ("9!", "--"), ("9!", "--"), ("9?", "-p"), ("9?", "-F")]);
    }

    #[test]
    fn one_label_set_twice_and_too_many_alerts_are_errors() {
        let same = |evaluations| check("{alert: A, expr: load > 5, labels: {instance: same}}", evaluations);
        assert_eq!(same(&[("91", "--")]), Health::Ok);
        let expect = "vector contains metrics with the same labelset after applying alert labels";
        assert_eq!(same(&[("91", "--"), ("99", "--")]), Health::Error(expect.to_owned()));
        let limited = "{alert: A, expr: load > 5}\n  limit: 1";
        check(limited, &[("91", "F-"), ("99", "--"), ("91", "F-")]);
    }

    #[test]
    fn series_say_what_is_active_and_end() {
        let nothing = Missing { silent: &BTreeSet::new(), unheard: &Unheard::Instances(BTreeSet::new()) };
        let firing = |value| Found {
            labels: [("alertname", "A"), ("instance", "a")].into_iter().collect(),
            annotations: Labels::new(),
            value,
        };
        let patience = |seconds| Patience {
            hold_for: Duration::from_secs(seconds),
            keep_firing_for: Duration::ZERO,
            hold_silent: Duration::ZERO,
        };
        let rule: Arc<str> = "x.yml;g;A{};1".into();
        let mut alerts = Alerts::default();
        let shown = |alerts: &Alerts| {
            let series = alerts.series();
            series.into_iter().map(|(labels, value)| format!("{labels} {value}")).collect::<Vec<_>>()
        };
        for (at, expect) in [(10, "pending"), (20, "firing")] {
            let found = [(Fingerprint(1), firing(f64::NAN))].into_iter().collect();
            alerts.step(&rule, found, patience(10), (nothing, Timestamp::from_seconds(at)));
            let active = format!(r#"ALERTS{{alertname="A", alertstate="{expect}", instance="a"}} 1"#);
            assert_eq!(shown(&alerts), [active, r#"ALERTS_FOR_STATE{alertname="A", instance="a"} 10"#.to_owned()]);
        }
        let restored = Alerts::restored(alerts.records().collect());
        assert_eq!(shown(&restored), shown(&alerts));
        alerts.step(&rule, BTreeMap::new(), patience(10), (nothing, Timestamp::from_seconds(30)));
        assert!(shown(&alerts).is_empty());
    }

    /// What fires of rules that are there without being written, and of one file, when these samples came each 10 s for so
    /// many minutes; what is available falls by so much a minute.
    fn fired(file: &str, minutes: i32, falls: f64, samples: &[(Labels, f64)]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rules")).unwrap();
        fs::write(directory.path().join("rules/x.yml"), file).unwrap();
        let mut files = RuleFiles::new(directory.path()).with_built_in();
        files.look(false);
        assert!(files.iter().all(|(_, file)| file.error.is_none()));
        let memory = Arc::new(Memory::default());
        let engine = Engine::new(Arc::<Memory>::clone(&memory), Clock::real(), EngineConfig::default());
        let mut evaluator = Evaluator::new(config(), engine, Vec::new());
        for round in 1..=6 * minutes {
            let (at, fallen) = (Timestamp::from_seconds(i64::from(10 * round)), falls * f64::from(round) / 6.0);
            for (labels, value) in samples {
                let falls = labels.get(NAME) == "node_filesystem_avail_bytes";
                memory.append_sample(labels, at, if falls { value - fallen } else { *value });
            }
            let (silent, unheard) = (BTreeSet::new(), Unheard::Instances(BTreeSet::new()));
            evaluator.evaluate(&files, Missing { silent: &silent, unheard: &unheard }, at);
        }
        assert!(evaluator.outcomes.values().all(|outcome| outcome.health == Health::Ok));
        let firing = evaluator.alerts().iter().filter(|(_, _, alert)| matches!(alert.state, State::Firing { .. }));
        firing.map(|(_, _, alert)| alert.found.annotations.get("summary").to_owned()).collect()
    }

    #[test]
    fn the_aggregators_own_disk_is_watched_without_a_rule() {
        let of = |name: &str, value| (Labels::new().with(NAME, format!("lapwing_aggregator_disk_{name}_bytes")), value);
        assert_eq!(fired("", 1, 0.0, &[of("available", 50.0), of("size", 1_000.0)]), [""; 0]);
        let scraped = |(labels, value): (Labels, f64)| {
            [("a", value), ("b", value)]
                .map(|(instance, value)| (labels.clone().with("instance", instance).with("job", "lapwing"), value))
        };
        let own = [of("available", 49.0), of("size", 1_000.0)];
        let all: Vec<_> = own.clone().into_iter().chain(own.into_iter().flat_map(scraped)).collect();
        assert_eq!(fired("", 1, 0.0, &all), ["The disk of the aggregator has 4.9% left."]);
    }

    #[test]
    fn the_rules_to_begin_with_are_about_disks_that_can_fill() {
        let file = include_str!("../../../packaging/rules/hosts.yml");
        let disk = |of: &'static str, [available, files_free, readonly]: [f64; 3]| {
            [
                ("avail_bytes", available),
                ("free_bytes", available),
                ("size_bytes", 1_000.0),
                ("files", 1_000.0),
                ("files_free", files_free),
                ("readonly", readonly),
            ]
            .map(|(name, value)| {
                let labels = Labels::new().with(NAME, format!("node_filesystem_{name}")).with("instance", "a");
                (labels.with("mountpoint", of).with("fstype", if of == "/run" { "tmpfs" } else { "ext4" }), value)
            })
        };
        let disks = [
            disk("/", [51.0, 51.0, 0.0]),
            disk("/full", [49.0, 500.0, 0.0]),
            disk("/files", [500.0, 49.0, 0.0]),
            disk("/cd", [0.0, 0.0, 1.0]),
            disk("/run", [0.0, 0.0, 0.0]),
        ]
        .concat();
        let expect = ["/full of a has 4.9% left.", "/files of a has room for 4.9% of the files that it can hold."];
        assert_eq!(fired(file, 6, 0.0, &disks), expect);
        assert_eq!(fired(file, 4, 0.0, &disks), [""; 0], "not at once");
        let of = |name: &str, value| (Labels::new().with(NAME, name).with("instance", "a").with("job", "node"), value);
        let told = fired(file, 6, 0.0, &[of("up", 0.0), of("lapwing_agent_spool_disk_failing", 1.0)]);
        assert_eq!(told.len(), 2, "{told:?}");
        let of = |name: &str| Labels::new().with(NAME, format!("node_filesystem_{name}")).with("mountpoint", "/");
        let size =
            [(of("size_bytes"), 1_000.0), (of("free_bytes"), 0.0), (of("avail_bytes"), 240.0), (of("readonly"), 0.0)];
        assert_eq!(fired(file, 62, 0.05, &size), [""; 0], "not within a day");
        let told = fired(file, 62, 1.0, &size);
        assert!(told.len() == 1 && told[0].contains("is full within a day"), "{told:?}");
    }
}
