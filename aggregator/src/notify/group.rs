//! Groups of alerts: who belongs together, when they are looked at, and what each receiver was told. All timers count the
//! times of evaluations.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use common::metric::Labels;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::fingerprint::Fingerprint;
use crate::notify::decide::Standing;
use crate::notify::decide::Told;
use crate::notify::message::Map;
use crate::notify::message::Member;
use crate::notify::message::Message;
use crate::notify::message::map;
use crate::notify::route::Route;
use crate::store::record::groups;

/// How long it is remembered what was told about a group without alerts, as in Alertmanager.
const TOLD_KEPT: Duration = Duration::from_secs(120 * 3_600);

/// An alert that fires, as the evaluation hands it over.
#[derive(Clone, Debug)]
pub struct Firing {
    /// Names its labels.
    pub fingerprint: Fingerprint,
    /// What it is about.
    pub labels: Labels,
    /// What to say about it.
    pub annotations: Labels,
    /// Since when it fires.
    pub fired: Timestamp,
    /// Where people can look at its rule.
    pub generator_url: String,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The route that made it.
    pub route: String,
    /// The labels that its alerts share.
    pub labels: Map,
    /// Its alerts.
    pub members: BTreeMap<Fingerprint, Member>,
    /// When it is looked at next; `None` while it has no alerts.
    pub next_flush: Option<Timestamp>,
    /// What each receiver was told last.
    pub told: BTreeMap<String, Told>,
}

/// All groups, by key.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
    /// Changed since the last commit.
    dirty: BTreeSet<String>,
}

impl Groups {
    /// The groups that were recorded. A record that cannot be understood is left out: its alerts are told again.
    #[must_use]
    pub fn restored(recorded: Vec<groups::Group>) -> Self {
        let mut restored = Self::default();
        for record in recorded {
            match record.body.as_deref().map(serde_json::from_str) {
                Some(Ok(group)) => drop(restored.groups.insert(record.key, group)),
                Some(Err(_)) | None => tracing::warn!(group = record.key, "recorded group cannot be read"),
            }
        }
        restored
    }

    /// Takes over what an evaluation found: firing alerts join the groups of their routes, all others have resolved.
    pub fn take(&mut self, root: &Route, firing: &[Firing], at: Timestamp) {
        let mut seen: BTreeMap<String, BTreeSet<Fingerprint>> = BTreeMap::new();
        for (alert, fired) in distinct(firing) {
            for route in root.matching(&alert.labels) {
                let key = self.join(route, (alert, fired), at);
                seen.entry(key).or_default().insert(alert.fingerprint);
            }
        }
        for (key, group) in &mut self.groups {
            let seen = seen.get(key);
            for (fingerprint, member) in &mut group.members {
                if member.ends_at.is_none() && !seen.is_some_and(|seen| seen.contains(fingerprint)) {
                    member.ends_at = Some(at);
                    self.dirty.insert(key.clone());
                }
            }
        }
    }

    /// The groups whose turn it is. Each is looked at again after its interval.
    pub fn due(&mut self, root: &Route, at: Timestamp) -> Vec<String> {
        let mut due = Vec::new();
        for (key, group) in &mut self.groups {
            let Some(route) = root.find(&group.route) else { continue };
            if group.next_flush.is_some_and(|flush| flush <= at) {
                group.next_flush = Some(at.after(route.group_interval));
                self.dirty.insert(key.clone());
                due.push(key.clone());
            }
        }
        due
    }

    /// One group.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Group> {
        self.groups.get(key)
    }

    /// A receiver was told how the group stood, or did not want to hear it.
    pub fn told(&mut self, key: &str, receiver: &str, told: Told) {
        if let Some(group) = self.groups.get_mut(key) {
            group.told.insert(receiver.to_owned(), told);
            self.dirty.insert(key.to_owned());
        }
    }

    /// Nobody is left to be told: resolved alerts leave the group. `known` are those that everybody was told of.
    pub fn settle(&mut self, key: &str, known: &BTreeSet<Fingerprint>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let before = group.members.len();
        group.members.retain(|fingerprint, member| member.ends_at.is_none() || !known.contains(fingerprint));
        if group.members.is_empty() {
            group.next_flush = None;
        }
        if group.members.len() != before {
            self.dirty.insert(key.to_owned());
        }
    }

    /// Forgets groups of routes that are gone, and groups that have been empty for long.
    pub fn forget(&mut self, root: &Route, at: Timestamp) {
        let dirty = &mut self.dirty;
        self.groups.retain(|key, group| {
            let told_long_ago = || group.told.values().all(|told| TOLD_KEPT <= at.since(told.at));
            let kept = root.find(&group.route).is_some() && (!group.members.is_empty() || !told_long_ago());
            if !kept {
                dirty.insert(key.clone());
            }
            kept
        });
    }

    /// The clock was set back to `now`.
    pub fn set_back(&mut self, now: Timestamp) {
        for (key, group) in &mut self.groups {
            group.next_flush = group.next_flush.map(|flush| flush.min(now));
            group.told.values_mut().for_each(|told| told.at = told.at.min(now));
            self.dirty.insert(key.clone());
        }
    }

    /// What changed since the last commit.
    pub fn records(&self) -> impl Iterator<Item = groups::Group> {
        self.dirty.iter().map(|key| {
            let body = self.groups.get(key).map(|group| serde_json::to_string(group).unwrap_or_default());
            groups::Group { key: key.clone(), body }
        })
    }

    /// The records were committed.
    pub fn committed(&mut self) {
        self.dirty.clear();
    }

    /// Puts an alert into its group on this route, and gives the group's key.
    fn join(&mut self, route: &Route, (alert, fired): (&Firing, Timestamp), at: Timestamp) -> String {
        let (key, labels) = route.group(&alert.labels);
        let mut member = Member {
            labels: map(&alert.labels),
            annotations: map(&alert.annotations),
            starts_at: fired,
            ends_at: None,
            generator_url: alert.generator_url.clone(),
        };
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
            route: route.key.clone(),
            labels: map(&labels),
            members: BTreeMap::new(),
            next_flush: None,
            told: BTreeMap::new(),
        });
        if group.next_flush.is_none() {
            // An alert that has waited elsewhere, before a restart or a change of routes, waits for no company.
            let waited = route.group_wait <= at.since(fired);
            group.next_flush = Some(if waited { at } else { at.after(route.group_wait) });
        }
        // One that fires already began when it did, whichever rule it is of by now: receivers know it by its beginning.
        let before = group.members.get(&alert.fingerprint);
        if let Some(firing) = before.filter(|before| before.ends_at.is_none()) {
            member.starts_at = member.starts_at.min(firing.starts_at);
        }
        if before != Some(&member) {
            group.members.insert(alert.fingerprint, member);
            self.dirty.insert(key.clone());
        }
        key
    }
}

/// Each alert once, by its labels, and since when it fires: several rules may raise it. The last of them says what to say.
fn distinct(firing: &[Firing]) -> impl Iterator<Item = (&Firing, Timestamp)> {
    let mut distinct: BTreeMap<Fingerprint, (&Firing, Timestamp)> = BTreeMap::new();
    for alert in firing {
        let (last, fired) = distinct.entry(alert.fingerprint).or_insert((alert, alert.fired));
        (*last, *fired) = (alert, alert.fired.min(*fired));
    }
    distinct.into_values()
}

impl Group {
    /// Which of its alerts fire and which resolved.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (mut firing, mut resolved) = (BTreeSet::new(), BTreeSet::new());
        for (fingerprint, member) in &self.members {
            if member.ends_at.is_none() {
                firing.insert(*fingerprint)
            } else {
                resolved.insert(*fingerprint)
            };
        }
        Standing { firing, resolved }
    }

    /// How it stands, for a receiver.
    #[must_use]
    pub fn message(&self, route: &Route, send_resolved: bool) -> Message {
        let wanted = |member: &&Member| send_resolved || member.ends_at.is_none();
        let mut alerts: Vec<Member> = self.members.values().filter(wanted).cloned().collect();
        alerts.sort_by(|a, b| a.order().cmp(&b.order()));
        Message { group_key: route.group_key(&self.labels), group_labels: self.labels.clone(), alerts }
    }
}
