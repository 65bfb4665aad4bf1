//! What is set of the agents of some hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::config::ConfigError;
use common::config::Layers;
use common::settings::Written;
use common::settings::WrittenContainers;
use common::settings::WrittenProcesses;
use common::wire::message::SETTINGS_BYTES_MAX;
use serde::Deserialize;
use serde::Serialize;

/// Groups of hosts of whose agents something is set: each host is looked up among them at each greeting.
const AGENTS_MAX: usize = 256;

/// Hosts and what is set of their agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Labels that a host has, `instance` among them; without any, every host.
    pub hosts: BTreeMap<String, String>,
    /// What is set, as the agent reads it.
    pub text: Arc<str>,
}

/// The same as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Agents {
    hosts: BTreeMap<String, String>,
    processes: WrittenProcesses,
    containers: WrittenContainers,
}

/// Checks all groups of hosts as their agents will.
pub(super) fn policies(layers: &Layers<'_>, groups: Vec<Agents>) -> Result<Vec<Policy>, ConfigError> {
    if AGENTS_MAX < groups.len() {
        let why = format!("has more than {AGENTS_MAX} groups of hosts: give hosts a label that several share");
        return Err(layers.refuse("agents", why));
    }
    groups.into_iter().enumerate().map(|(at, group)| group.policy(layers, &format!("agents.{at}"))).collect()
}

impl Agents {
    fn policy(self, layers: &Layers<'_>, key: &str) -> Result<Policy, ConfigError> {
        let Self { hosts, processes, containers } = self;
        let written = Written { processes, containers };
        let text = toml::to_string(&written).map_err(|error| layers.refuse(key, error.to_string()))?;
        if SETTINGS_BYTES_MAX < text.len() {
            let kib = SETTINGS_BYTES_MAX >> 10;
            return Err(layers.refuse(key, format!("says more than {kib} KiB, the most that an agent is told")));
        }
        written.meaning(layers, &format!("{key}."))?;
        Ok(Policy { hosts, text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Policy>, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            agents: Vec<Agents>,
        }
        let layers = Layers { file: Some(("aggregator.toml", text)), ..Layers::default() };
        let raw: Raw = layers.read().map_err(|error| error.to_string())?;
        policies(&layers, raw.agents).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_set_of_agents_is_handed_on_as_it_is_written() {
        let text = "[[agents]]\nhosts = { env = 'prod' }\nprocesses.interval_seconds = 5\ncontainers.labels = ['team']\n\
                    [[agents.processes.groups]]\ncomm = ['a']\n[[agents]]\ncontainers.labels = []\n[[agents]]";
        let agents = read(text).unwrap();
        assert_eq!(agents[0].hosts, BTreeMap::from([("env".to_owned(), "prod".to_owned())]));
        let wanted = "[processes]\ninterval_seconds = 5\ngroups = [{ comm = ['a'] }]\n[containers]\nlabels = ['team']";
        assert_eq!(agents[0].text.parse::<toml::Table>(), wanted.parse::<toml::Table>());
        assert_eq!(agents[1].text.parse::<toml::Table>(), "containers.labels = []".parse::<toml::Table>());
        assert_eq!((agents[2].hosts.len(), &*agents[2].text), (0, ""));
        let long = format!("[[agents]]\ncontainers.labels = ['{}']", "x".repeat(SETTINGS_BYTES_MAX));
        assert!(read(&long).unwrap_err().contains("line 1: `agents.0` says more than 64 KiB"));
        assert!(read(&"[[agents]]\n".repeat(AGENTS_MAX + 1)).unwrap_err().contains("`agents` has more than 256"));
    }

    #[test]
    fn what_an_agent_would_refuse_is_refused_with_its_place() {
        let check = |text: &str, expect: &str| {
            let refused = read(&format!("[[agents]]\n\n[[agents]]\n{text}")).unwrap_err();
            assert!(refused.starts_with(&format!("aggregator.toml, line {expect}")), "{refused}");
        };
        check("process.interval_seconds = 5", "4: unknown key `process`, did you mean `processes`?");
        check("processes.interval = 5", "4: unknown key `interval`, ");
        check("processes.interval_seconds = 3", "4: `agents.1.processes.interval_seconds` is 3, which is none of");
        check("processes.interval_seconds = 'x'", "4: invalid type: string \"x\", expected u32");
        check("containers.sockets = ['/run/docker.sock']", "4: unknown key `sockets`");
        let groups = "[[agents.processes.groups]]\ncomm = ['a']\n[[agents.processes.groups]]\n";
        let check = |rule: &str, expect: &str| check(&format!("{groups}{rule}"), expect);
        check("cmdline = ['(']", "7: `agents.1.processes.groups.1.cmdline` has `(`: ");
        check("cmd = ['a']", "7: unknown key `cmd`");
        check("", "6: `agents.1.processes.groups.1` matches nothing");
        check("comm = ['a']\nname = '{{.Exe}}'", "8: `agents.1.processes.groups.1.name` asks for `.Exe`");
    }
}
