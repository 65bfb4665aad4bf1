//! What an aggregator gives, beside a host's own configuration, which stays stronger.

use common::settings::Given;

use crate::config::Config;

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

impl Pinned {
    /// The keys that were given and are not taken, because the host's own configuration sets them.
    #[must_use]
    pub fn overrules(self, given: &Given) -> Vec<String> {
        let keys = [
            ("processes.groups", given.groups.is_some() && self.groups),
            ("processes.interval_seconds", given.interval_seconds.is_some() && self.interval_seconds),
            ("containers.labels", given.container_labels.is_some() && self.container_labels),
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

#[cfg(test)]
mod tests {
    use common::config::Layers;

    use super::*;

    /// A host's own configuration, what is given, and what of it is overruled, what is meant: rules, interval, labels.
    #[track_caller]
    fn check(own: &str, given: &str, overruled: &[&str], expect: (usize, u32, Option<usize>)) {
        let layers = Layers { file: Some(("agent.toml", own)), ..Layers::default() };
        let (config, given) = (Config::read(&layers).unwrap(), Given::read(given).unwrap());
        assert_eq!(config.pinned.overrules(&given), overruled);
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
}
