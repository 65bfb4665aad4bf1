//! What an aggregator may set of an agent's configuration: how processes are grouped and how often they are looked at, and
//! which labels of containers are shown. It names no file and no program. The aggregator checks what it is configured to
//! hand out, and the agent what it is handed.

pub mod rule;

use crate::config::ConfigError;
use crate::config::Layers;
use serde::Deserialize;
use serde::Serialize;

use crate::settings::rule::RawRule;
use crate::settings::rule::Rule;

/// Seconds that may lie between two looks at processes. Each divides a window, so that every window has values.
pub const INTERVALS: [u32; 4] = [1, 2, 5, 10];

/// Labels of containers that a list may name.
pub const SHOWN_LABELS_MAX: usize = 256;

/// What the place of an error is called.
const NAME: &str = "settings";

/// What was given; a key that was not is the host's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// How groups of processes are called.
    pub groups: Option<Vec<Rule>>,
    /// Seconds between two looks at processes.
    pub interval_seconds: Option<u32>,
    /// Labels of containers that are shown.
    pub container_labels: Option<Vec<String>>,
}

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Written {
    /// Of processes.
    #[serde(skip_serializing_if = "WrittenProcesses::is_empty")]
    pub processes: WrittenProcesses,
    /// Of containers.
    #[serde(skip_serializing_if = "WrittenContainers::is_empty")]
    pub containers: WrittenContainers,
}

/// What is written of processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenProcesses {
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<RawRule>>,
}

/// What is written of containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenContainers {
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
}

impl Given {
    /// Reads what an aggregator wrote.
    ///
    /// # Errors
    /// The first key that may not be set, or whose value does not fit.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let layers = Layers { file: Some((NAME, text)), ..Layers::default() };
        layers.read::<Written>()?.meaning(&layers, "")
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Written {
    /// What is meant. `below` stands before its keys, with a dot at its end, where it is a part of something larger.
    ///
    /// # Errors
    /// The first value that does not fit.
    pub fn meaning(self, layers: &Layers<'_>, below: &str) -> Result<Given, ConfigError> {
        let Self { processes, containers } = self;
        let key = |key: &str| format!("{below}{key}");
        let groups =
            processes.groups.map(|groups| rule::rules(layers, &key("processes.groups"), groups)).transpose()?;
        let interval_seconds = processes.interval_seconds;
        let interval_seconds = interval_seconds
            .map(|seconds| interval(layers, &key("processes.interval_seconds"), seconds))
            .transpose()?;
        if containers.labels.as_ref().is_some_and(|labels| SHOWN_LABELS_MAX < labels.len()) {
            let why = format!("names more than {SHOWN_LABELS_MAX} labels");
            return Err(layers.refuse(&key("containers.labels"), why));
        }
        Ok(Given { groups, interval_seconds, container_labels: containers.labels })
    }
}

impl WrittenProcesses {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl WrittenContainers {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks how often processes are to be looked at.
///
/// # Errors
/// When it is none of [`INTERVALS`].
pub fn interval(layers: &Layers<'_>, key: &str, seconds: u32) -> Result<u32, ConfigError> {
    if INTERVALS.contains(&seconds) {
        return Ok(seconds);
    }
    Err(layers.refuse(key, format!("is {seconds}, which is none of 1, 2, 5, 10")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_can_be_set_and_nothing_that_does_not_fit() {
        let check = |text: &str, expect: &str| {
            let refused = Given::read(text).unwrap_err().to_string();
            assert!(refused.starts_with("settings, line ") && refused.contains(expect), "{refused}");
        };
        check("[host]\ninstance = 'x'", "host");
        check("[uplink]\naggregator = 'evil:1'", "uplink");
        check("[collect]\ntextfile_directories = ['/etc']", "collect");
        check("[processes]\ncommand_line = 'full'", "command_line");
        check("[containers]\nsockets = ['/run/docker.sock']", "sockets");
        check("[host]\nlabels_from = ['/etc/shadow']", "host");
        check("[processes]\ninterval_seconds = 3", "is 3, which is none of 1, 2, 5, 10");
        check("[[processes.groups]]\ncmdline = ['(']", "`processes.groups.0.cmdline` has `(`");
        check(&format!("containers.labels = [{}]", "'x',".repeat(257)), "more than 256 labels");
        check("processes = 1", "");
        check("\u{0}", "");
    }
}
