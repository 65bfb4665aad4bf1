//! The tree of routes: which receivers are told of an alert, and with which others it is told together.

use std::collections::BTreeSet;
use std::time::Duration;

use common::metric::Labels;

use crate::notify::matcher::Matcher;
use crate::notify::message::Map;
use crate::notify::message::labels;

/// One node of the tree, with everything that it inherits.
#[derive(Clone, Debug)]
pub struct Route {
    /// Names it among all routes: its path, with a number where siblings have the same matchers (`{}/{team="x"}#2`), so
    /// that each makes groups of its own.
    pub key: String,
    /// The matchers on the way to it, as Alertmanager writes them: `{}/{team="x"}`.
    pub path: String,
    /// What an alert must fulfil.
    pub matchers: Vec<Matcher>,
    /// Whether later siblings are asked too when this one matched.
    pub continues: bool,
    /// Who is told.
    pub receiver: String,
    /// What makes a group.
    pub group_by: GroupBy,
    /// How long a new group waits for company.
    pub group_wait: Duration,
    /// How long until the next change of a group is told.
    pub group_interval: Duration,
    /// How long until what did not change is told again.
    pub repeat_interval: Duration,
    /// Asked in order; the node itself stands for none of them.
    pub routes: Vec<Route>,
}

/// The labels that alerts of one group share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// All: each alert is its own group.
    All,
    /// These.
    Labels(BTreeSet<String>),
}

impl Route {
    /// The routes that an alert takes.
    #[must_use]
    pub fn matching(&self, labels: &Labels) -> Vec<&Self> {
        if !self.matchers.iter().all(|matcher| matcher.matches(labels)) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for route in &self.routes {
            let below = route.matching(labels);
            let stop = !below.is_empty() && !route.continues;
            found.extend(below);
            if stop {
                break;
            }
        }
        if found.is_empty() { vec![self] } else { found }
    }

    /// The group that an alert belongs to on this route: its key and the labels that make it.
    #[must_use]
    pub fn group(&self, labels: &Labels) -> (String, Labels) {
        let mut group = labels.clone();
        if let GroupBy::Labels(names) = &self.group_by {
            group.retain(|name| names.contains(name));
        }
        (format!("{}:{group}", self.key), group)
    }

    /// What Alertmanager calls the group with these labels.
    #[must_use]
    pub fn group_key(&self, group_labels: &Map) -> String {
        format!("{}:{}", self.path, labels(group_labels))
    }

    /// The route with this key, here or below.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Self> {
        if self.key == key { Some(self) } else { self.routes.iter().find_map(|route| route.find(key)) }
    }
}
