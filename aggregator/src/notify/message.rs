//! What a receiver is told: how one group stands.

use std::collections::BTreeMap;

use common::metric::Labels;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One notification, before a receiver gives it its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Names the group.
    pub group_key: String,
    /// What made the group.
    pub group_labels: Map,
    /// Its alerts, by job, instance and labels.
    pub alerts: Vec<Member>,
}

/// An alert as a group knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it is about.
    pub labels: Map,
    /// What to say about it.
    pub annotations: Map,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it resolved, if it did.
    pub ends_at: Option<Timestamp>,
    /// Where people can look at its rule.
    pub generator_url: String,
}

/// Labels as they are recorded and sent.
pub type Map = BTreeMap<String, String>;

impl Message {
    /// Whether any of its alerts fires.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|alert| alert.ends_at.is_none())
    }

    /// What all of these have in common.
    #[must_use]
    pub fn common<'a>(mut maps: impl Iterator<Item = &'a Map>) -> Map {
        let mut common = maps.next().cloned().unwrap_or_default();
        maps.for_each(|map| common.retain(|name, value| map.get(name) == Some(value)));
        common
    }
}

impl Member {
    /// Where it stands in a message: Alertmanager sorts by job, instance, then all labels.
    #[must_use]
    pub fn order(&self) -> (&str, &str, &Map) {
        let get = |name: &str| self.labels.get(name).map_or("", String::as_str);
        (get("job"), get("instance"), &self.labels)
    }
}

/// Labels as they are recorded and sent.
#[must_use]
pub fn map(labels: &Labels) -> Map {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Labels as rules know them.
#[must_use]
pub fn labels(map: &Map) -> Labels {
    map.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
