//! The alerts that are pending, firing or lately resolved: moved on by evaluations, recorded, restored.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::fingerprint::Fingerprint;
use crate::alert::state;
use crate::alert::state::Patience;
use crate::alert::state::State;
use crate::alert::state::Verdict;
use crate::ingest::hearing::Unheard;
use crate::store::record::alerts;

/// The annotation with which a rule asks not to be held when a host is silent, and its value.
const NOT_HELD: (&str, &str) = ("lapwing_silent", "resolve");

/// What a rule found about one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is about.
    pub labels: Labels,
    /// What to say about it.
    pub annotations: Labels,
    /// What the expression gave.
    pub value: f64,
}

/// Of whom too little is known to judge their alerts.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    /// The instances whose hosts are silent.
    pub silent: &'a BTreeSet<String>,
    /// Those that the aggregator could not hear.
    pub unheard: &'a Unheard,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// Where it stands.
    pub state: State,
    /// What the rule found when the condition last held.
    pub found: Found,
}

/// All alerts, by rule and labels.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    rules: BTreeMap<Arc<str>, BTreeMap<Fingerprint, Active>>,
    /// Changed since the last commit.
    dirty: BTreeSet<(Arc<str>, Fingerprint)>,
}

impl Alerts {
    /// The alerts that were recorded. A record that cannot be understood is left out: the alert begins anew.
    #[must_use]
    pub fn restored(recorded: Vec<alerts::Alert>) -> Self {
        let mut alerts = Self::default();
        for record in recorded {
            let body = record.body.as_deref().and_then(|body| serde_json::from_str::<Body>(body).ok());
            let (Some(body), Ok(fingerprint)) = (body, record.fingerprint.parse()) else {
                tracing::warn!(rule = record.rule, "recorded alert cannot be read");
                continue;
            };
            alerts.rules.entry(record.rule.into()).or_default().insert(fingerprint, body.into());
        }
        alerts
    }

    /// Moves the alerts of one rule on.
    pub fn step(
        &mut self,
        rule: &Arc<str>,
        mut found: BTreeMap<Fingerprint, Found>,
        patience: Patience,
        (missing, at): (Missing<'_>, Timestamp),
    ) {
        let before = self.rules.remove(rule).unwrap_or_default();
        let keys: BTreeSet<Fingerprint> = before.keys().chain(found.keys()).copied().collect();
        let mut after = BTreeMap::new();
        for key in keys {
            let (was, is) = (before.get(&key), found.remove(&key));
            let Some(latest) = is.as_ref().or(was.map(|was| &was.found)) else { continue };
            let heard = if is.is_some() { Verdict::Holds } else { Verdict::Ceased };
            let verdict = missing.judge(latest).unwrap_or(heard);
            let state = state::step(was.map(|was| was.state), verdict, patience, at);
            if state != was.map(|was| was.state) {
                self.dirty.insert((Arc::clone(rule), key));
            }
            if let Some(state) = state {
                after.insert(key, Active { state, found: latest.clone() });
            }
        }
        if !after.is_empty() {
            self.rules.insert(Arc::clone(rule), after);
        }
    }

    /// The clock was set back to `now`.
    pub fn set_back(&mut self, now: Timestamp) {
        for (rule, alerts) in &mut self.rules {
            for (key, alert) in alerts {
                let state = alert.state.set_back(now);
                if state != alert.state {
                    alert.state = state;
                    self.dirty.insert((Arc::clone(rule), *key));
                }
            }
        }
    }

    /// Drops all alerts of a rule.
    pub fn drop_rule(&mut self, rule: &str) {
        if let Some((rule, alerts)) = self.rules.remove_entry(rule) {
            self.dirty.extend(alerts.into_keys().map(|fingerprint| (Arc::clone(&rule), fingerprint)));
        }
    }

    /// Drops the alerts of rules that are gone.
    pub fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        let gone: Vec<Arc<str>> = self.rules.keys().filter(|rule| is_gone(rule)).cloned().collect();
        gone.iter().for_each(|rule| self.drop_rule(rule));
    }

    /// All alerts, by rule and labels.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Fingerprint, &Active)> {
        self.rules.iter().flat_map(|(rule, alerts)| alerts.iter().map(move |(key, alert)| (rule, *key, alert)))
    }

    /// The alerts of one rule.
    pub fn of_rule(&self, rule: &str) -> impl Iterator<Item = (Fingerprint, &Active)> {
        self.rules.get(rule).into_iter().flatten().map(|(key, alert)| (*key, alert))
    }

    /// The series that say which alerts are pending and firing, with their values.
    #[must_use]
    pub fn series(&self) -> BTreeMap<Labels, f64> {
        let active = self.iter().filter(|(_, _, alert)| !matches!(alert.state, State::Resolved { .. }));
        let series = active.flat_map(|(_, _, Active { state, found })| {
            let shown = found.labels.clone().with(NAME, "ALERTS").with("alertstate", state.name());
            let since = found.labels.clone().with(NAME, "ALERTS_FOR_STATE");
            [(shown, 1.0), (since, state.since().as_seconds().floor())]
        });
        series.collect()
    }

    /// What changed since the last commit.
    pub fn records(&self) -> impl Iterator<Item = alerts::Alert> {
        self.dirty.iter().map(|(rule, fingerprint)| {
            let alert = self.rules.get(rule).and_then(|alerts| alerts.get(fingerprint));
            let body = alert.map(|alert| serde_json::to_string(&Body::from(alert)).unwrap_or_default());
            alerts::Alert { rule: rule.to_string(), fingerprint: fingerprint.to_string(), body }
        })
    }

    /// The records were committed.
    pub fn committed(&mut self) {
        self.dirty.clear();
    }
}

impl Missing<'_> {
    /// The verdict about an alert whose condition cannot be judged.
    fn judge(self, found: &Found) -> Option<Verdict> {
        let instance = found.labels.get("instance");
        let (annotation, opts_out) = NOT_HELD;
        if self.unheard.hides(instance) {
            Some(Verdict::Unheard)
        } else if self.silent.contains(instance) && found.annotations.get(annotation) != opts_out {
            Some(Verdict::Silent)
        } else {
            None
        }
    }
}

/// An alert as it is recorded.
#[derive(Serialize, Deserialize)]
struct Body {
    state: State,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// As text: JSON knows no NaN.
    value: String,
}

impl From<&Active> for Body {
    fn from(alert: &Active) -> Self {
        let owned = |labels: &Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self {
            state: alert.state,
            labels: owned(&alert.found.labels),
            annotations: owned(&alert.found.annotations),
            value: alert.found.value.to_string(),
        }
    }
}

impl From<Body> for Active {
    fn from(body: Body) -> Self {
        let found = Found {
            labels: body.labels.into_iter().collect(),
            annotations: body.annotations.into_iter().collect(),
            value: body.value.parse().unwrap_or(f64::NAN),
        };
        Self { state: body.state, found }
    }
}
