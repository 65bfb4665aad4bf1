//! What an aggregator may set of an agent's configuration: how processes are grouped and how often they are looked at, and
//! which labels of containers are shown. It names no file and no program, and what this host's own configuration says of
//! a key stays.

use common::config::ConfigError;
use common::config::Layers;
use serde::Deserialize;

use crate::config::Config;
use crate::config::rule;
use crate::config::rule::RawRule;
use crate::config::rule::Rule;

/// Seconds that may lie between two looks at processes. Each divides a window, so that every window has values.
pub const INTERVALS: [u32; 4] = [1, 2, 5, 10];

/// Labels of containers that a list may name.
pub const SHOWN_LABELS_MAX: usize = 256;

/// What the place of an error is called.
const NAME: &str = "settings";

/// What was given; a key that was not is the host's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    groups: Option<Vec<Rule>>,
    interval_seconds: Option<u32>,
    container_labels: Option<Vec<String>>,
}

/// Keys that the host's own configuration sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// `processes.groups`.
    pub groups: bool,
    /// `processes.interval_seconds`.
    pub interval_seconds: bool,
    /// `containers.labels`.
    pub container_labels: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawGiven {
    processes: RawProcesses,
    containers: RawContainers,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawProcesses {
    groups: Option<Vec<RawRule>>,
    interval_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawContainers {
    labels: Option<Vec<String>>,
}

impl Given {
    /// Reads what an aggregator wrote.
    ///
    /// # Errors
    /// The first key that may not be set, or whose value does not fit.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let layers = Layers { file: Some((NAME, text)), ..Layers::default() };
        let RawGiven { processes, containers } = layers.read()?;
        let groups = processes.groups.map(|groups| rule::rules(&layers, groups)).transpose()?;
        let interval_seconds = processes.interval_seconds.map(|seconds| interval(&layers, seconds)).transpose()?;
        if containers.labels.as_ref().is_some_and(|labels| SHOWN_LABELS_MAX < labels.len()) {
            return Err(layers.refuse("containers.labels", format!("names more than {SHOWN_LABELS_MAX} labels")));
        }
        Ok(Self { groups, interval_seconds, container_labels: containers.labels })
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that were given and are not taken, because the host's own configuration sets them.
    #[must_use]
    pub fn overruled(&self, pinned: Pinned) -> Vec<String> {
        let keys = [
            ("processes.groups", self.groups.is_some() && pinned.groups),
            ("processes.interval_seconds", self.interval_seconds.is_some() && pinned.interval_seconds),
            ("containers.labels", self.container_labels.is_some() && pinned.container_labels),
        ];
        keys.into_iter().filter(|(_, is)| *is).map(|(key, _)| key.to_owned()).collect()
    }
}

impl Config {
    /// This configuration where it says something, else what was given, else what is meant without either.
    #[must_use]
    pub fn and(&self, given: &Given) -> Self {
        let Pinned { groups, interval_seconds, container_labels } = self.pinned;
        let mut both = self.clone();
        if let Some(given) = given.groups.as_ref().filter(|_| !groups) {
            both.groups.clone_from(given);
        }
        if let Some(given) = given.interval_seconds.filter(|_| !interval_seconds) {
            both.process_interval_seconds = given;
        }
        if let Some(given) = given.container_labels.as_ref().filter(|_| !container_labels) {
            both.container_labels = Some(given.clone());
        }
        both
    }
}

/// Checks how often processes are to be looked at.
pub(super) fn interval(layers: &Layers<'_>, seconds: u32) -> Result<u32, ConfigError> {
    if INTERVALS.contains(&seconds) {
        return Ok(seconds);
    }
    Err(layers.refuse("processes.interval_seconds", format!("is {seconds}, which is none of 1, 2, 5, 10")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host's own configuration, what is given, and what of it is overruled, what is meant: rules, interval, labels.
    #[track_caller]
    fn check(own: &str, given: &str, overruled: &[&str], expect: (usize, u32, Option<usize>)) {
        let layers = Layers { file: Some(("agent.toml", own)), ..Layers::default() };
        let (config, given) = (Config::read(&layers).unwrap(), Given::read(given).unwrap());
        assert_eq!(given.overruled(config.pinned), overruled);
        let both = config.and(&given);
        let labels = both.container_labels.as_ref().map(Vec::len);
        assert_eq!((both.groups.len(), both.process_interval_seconds, labels), expect, "{own} {given:?}");
        assert_eq!(Config { groups: config.groups.clone(), ..both.clone() }.uplink, config.uplink);
    }

    const ALL: &str =
        "[processes]\ninterval_seconds = 5\n[[processes.groups]]\ncomm = ['a']\n[containers]\nlabels = ['b', 'c']";

    #[test]
    fn what_the_host_says_stays_and_what_it_does_not_say_is_given() {
        check("", "", &[], (0, 1, None));
        check("", ALL, &[], (1, 5, Some(2)));
        check("[processes]\ninterval_seconds = 1", ALL, &["processes.interval_seconds"], (1, 1, Some(2)));
        let rules = "[[processes.groups]]\ncomm = ['x']\n[[processes.groups]]\ncomm = ['y']";
        check(rules, ALL, &["processes.groups"], (2, 5, Some(2)));
        check("[containers]\nlabels = []", ALL, &["containers.labels"], (1, 5, Some(0)));
        check(rules, "[processes]\ninterval_seconds = 10", &[], (2, 10, None));
    }

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
