//! What others see of rules and alerts: an immutable picture, made anew by each evaluation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;
use tokio::sync::watch;

use crate::alert::evaluator::Evaluator;
use crate::alert::evaluator::Keyed;
use crate::alert::evaluator::keyed;
use crate::alert::files::RuleFiles;
use crate::alert::fingerprint::Fingerprint;
use crate::alert::rule;
use crate::alert::state::State;

/// The handle that everybody else holds.
#[derive(Clone, Debug)]
pub struct Alerts(watch::Receiver<Arc<Snapshot>>);

impl Alerts {
    /// A handle, and the other end: only the stage that evaluates has it.
    #[must_use]
    pub fn new() -> (Self, watch::Sender<Arc<Snapshot>>) {
        let (sender, receiver) = watch::channel(Arc::default());
        (Self(receiver), sender)
    }

    /// The picture after the last evaluation.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for the next picture; `None` when there will be none.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        self.0.changed().await.ok()?;
        Some(Arc::clone(&self.0.borrow_and_update()))
    }
}

/// Rules and alerts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The evaluation that made it; `None` before the first.
    pub at: Option<Timestamp>,
    /// All alerts, resolved ones of the last quarter of an hour among them: by file, group, rule, then labels.
    pub alerts: Vec<Alert>,
    /// The rule files.
    pub files: Vec<File>,
    /// Other files in the directory of rules.
    pub ignored: Vec<String>,
    /// Why `alertmanager.yml` as it lies there is not in use. The last good version then is, if any.
    pub routing_error: Option<String>,
    /// Evaluations left out since the start, because there was no catching up.
    pub skipped: u64,
}

impl Snapshot {
    /// The picture after an evaluation.
    #[must_use]
    pub fn of(evaluator: &Evaluator, files: &RuleFiles, at: Option<Timestamp>, skipped: u64) -> Self {
        let mut picture = Self { at, ignored: files.ignored().to_vec(), skipped, ..Self::default() };
        for (path, loaded) in files.iter() {
            picture.files.push(File { path: Arc::clone(path), error: loaded.error.clone(), groups: Vec::new() });
        }
        for Keyed { path, group, rules } in keyed(files) {
            let mut shown =
                Group { name: Arc::clone(&group.name), interval: evaluator.interval(group), rules: Vec::new() };
            for (key, rule) in rules {
                let alerts = evaluator.alerts().of_rule(&key);
                picture.alerts.extend(alerts.map(|(fingerprint, active)| Alert {
                    fingerprint,
                    file: Arc::clone(path),
                    group: Arc::clone(&group.name),
                    rule: Arc::clone(&rule.name),
                    expr: Arc::clone(&rule.text),
                    state: active.state,
                    value: active.found.value,
                    labels: active.found.labels.clone(),
                    annotations: active.found.annotations.clone(),
                    groups: Vec::new(),
                }));
                shown.rules.push(Rule::of(evaluator, &key, rule));
            }
            if let Some(file) = picture.files.iter_mut().find(|file| file.path == *path) {
                file.groups.push(shown);
            }
        }
        picture
    }

    /// The alerts that fire. One that is held still does: people were told of it, and nothing says that it is over.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().filter(|alert| matches!(alert.state, State::Firing { .. }))
    }

    /// How many alerts fire about each host.
    #[must_use]
    pub fn firing_by_instance(&self) -> HashMap<&str, usize> {
        let mut counts = HashMap::new();
        for alert in self.firing() {
            *counts.entry(alert.labels.get("instance")).or_default() += 1;
        }
        counts
    }
}

/// One instance of an alerting rule.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Names its labels.
    pub fingerprint: Fingerprint,
    /// Where its rule stands.
    pub file: Arc<str>,
    /// The group of its rule.
    pub group: Arc<str>,
    /// Name of its rule.
    pub rule: Arc<str>,
    /// Expression of its rule.
    pub expr: Arc<str>,
    /// Pending, firing or resolved, and since when.
    pub state: State,
    /// What the expression gave when it last held.
    pub value: f64,
    /// What it is about; `alertname` among them.
    pub labels: Labels,
    /// What to say about it.
    pub annotations: Labels,
    /// Keys of the groups in which it is notified.
    pub groups: Vec<String>,
}

/// One rule file.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the directory that holds `rules`.
    pub path: Arc<str>,
    /// Why the file as it lies there is not in use. Its rules are then those of the last good version, if any.
    pub error: Option<String>,
    /// Its groups, in order.
    pub groups: Vec<Group>,
}

/// One group of rules.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// How often it is evaluated.
    pub interval: Duration,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule, alerting or recording.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The alert's name, or the recorded metric's.
    pub name: Arc<str>,
    /// Whether it raises alerts; otherwise it records.
    pub alerting: bool,
    /// Its expression.
    pub expr: Arc<str>,
    /// How long the expression must hold.
    pub hold_for: Duration,
    /// How long its alerts go on firing.
    pub keep_firing_for: Duration,
    /// As written.
    pub labels: Labels,
    /// As written.
    pub annotations: Labels,
    /// How its last evaluation went.
    pub health: Health,
    /// The last evaluation; `None` before the first.
    pub evaluated: Option<Timestamp>,
    /// Its alerts that are pending or firing.
    pub active: usize,
    /// Its alerts that fire.
    pub firing: usize,
}

impl Rule {
    fn of(evaluator: &Evaluator, key: &str, rule: &rule::Rule) -> Self {
        let outcome = evaluator.outcome(key);
        let (alerting, hold_for, keep_firing_for) = match &rule.kind {
            rule::Kind::Alerting(alerting) => (true, alerting.hold_for, alerting.keep_firing_for),
            rule::Kind::Recording => (false, Duration::ZERO, Duration::ZERO),
        };
        let states = || evaluator.alerts().of_rule(key).map(|(_, active)| active.state);
        Self {
            name: Arc::clone(&rule.name),
            alerting,
            expr: Arc::clone(&rule.text),
            hold_for,
            keep_firing_for,
            labels: rule.labels_written(),
            annotations: rule.annotations_written(),
            health: outcome.health,
            evaluated: outcome.evaluated,
            active: states().filter(|state| !matches!(state, State::Resolved { .. })).count(),
            firing: states().filter(|state| matches!(state, State::Firing { .. })).count(),
        }
    }
}

/// How the last evaluation of a rule went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    /// Well.
    Ok,
    /// Not at all, and why.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(instance: &str, state: State) -> Alert {
        Alert {
            fingerprint: Fingerprint(0),
            file: "x.yml".into(),
            group: "g".into(),
            rule: "A".into(),
            expr: "1".into(),
            state,
            value: 1.0,
            labels: Labels::new().with("instance", instance),
            annotations: Labels::new(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn what_fires_is_counted_once_whoever_asks_and_goes_on_firing_while_it_is_held() {
        let at = Timestamp::from_seconds(10);
        let firing = |held| State::Firing { since: at, fired: at, ceased: None, held };
        let alerts = vec![
            alert("a", firing(None)),
            // Another rule that says the same of the same: one series of `ALERTS`, two alerts.
            alert("a", firing(None)),
            alert("b", firing(Some(at))),
            alert("b", State::Pending { since: at, held: Some(at) }),
            alert("c", State::Pending { since: at, held: None }),
        ];
        let snapshot = Snapshot { alerts, ..Snapshot::default() };
        assert_eq!(snapshot.firing().count(), 3);
        assert_eq!(snapshot.firing_by_instance(), HashMap::from([("a", 2), ("b", 1)]));
    }
}
