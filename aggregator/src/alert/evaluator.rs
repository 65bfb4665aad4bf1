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
use crate::alert::files::RuleFiles;
use crate::alert::fingerprint::Fingerprint;
use crate::alert::rule::Alerting;
use crate::alert::rule::Group;
use crate::alert::rule::Kind;
use crate::alert::rule::Rule;
use crate::alert::snapshot::Health;
use crate::alert::state::Patience;
use crate::alert::template::Data;
use crate::query::Cancel;
use crate::query::Engine;
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
    cancel: Cancel,
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
        Self { config, engine, cancel: Cancel::default(), alerts, outcomes: BTreeMap::new() }
    }

    /// Evaluates the groups whose turn `at` is. `silent` names the instances whose hosts are silent. Gives the series to
    /// append.
    pub fn evaluate(&mut self, files: &RuleFiles, silent: &BTreeSet<String>, at: Timestamp) -> Vec<Append> {
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
                let health = match self.rule(&key, group, rule, (silent, at)) {
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
        (silent, at): (&BTreeSet<String>, Timestamp),
    ) -> Result<Vec<(Labels, f64)>, String> {
        let answer = self.engine.evaluate(&rule.expr, at.before(group.query_offset), &self.cancel);
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
                let silent = if alerting.holds { silent } else { &none };
                self.alerts.step(key, found, patience, (silent, at));
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
