//! What the operator sets of the configuration of agents, by the labels of their hosts. Pure.

use std::sync::Arc;

use common::metric::Labels;
use common::wire::message::Message;
use common::wire::message::Settings;
use common::wire::message::Settled;
use tokio::sync::watch;

use crate::config::Policy;

/// Bytes of what an agent says of its settings: a line with its reason.
const WHY_BYTES_MAX: usize = 1_024;

/// Keys that an agent may name as its own: there are not as many.
const OVERRULED_MAX: usize = 16;

/// What became of the settings of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Settlement {
    /// It has not said so far, or cannot.
    #[default]
    Unknown,
    /// They are in force but for these keys, which the host's own configuration sets.
    Applied(Vec<String>),
    /// They are not.
    Refused(String),
}

/// What is set of the agent of a host with these labels: what the first policy says that means it.
pub(super) fn settings(policies: &[Policy], labels: &Labels) -> Arc<str> {
    let has = |(name, value): (&String, &String)| labels.get(name) == value.as_str();
    let means = |policy: &&Policy| policy.hosts.iter().all(has);
    policies.iter().find(means).map_or_else(|| Arc::from(""), |policy| Arc::clone(&policy.text))
}

/// What it is told of that.
pub(super) fn message(settings: &watch::Ref<'_, Arc<str>>) -> Message {
    Message::Settings(Settings { text: settings.to_string(), ext: Vec::new() })
}

/// What it says became of it.
pub(super) fn settled(settled: Settled) -> Settlement {
    let Settled { refused, overruled, .. } = settled;
    let cut = |text: String| text.chars().filter(|c| !c.is_control()).take(WHY_BYTES_MAX / 4).collect::<String>();
    if refused.is_empty() {
        Settlement::Applied(overruled.into_iter().take(OVERRULED_MAX).map(cut).collect())
    } else {
        Settlement::Refused(cut(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_means_a_host_counts() {
        let policy = |hosts: &[(&str, &str)], text: &str| Policy {
            hosts: hosts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            text: Arc::from(text),
        };
        let policies = [
            policy(&[("env", "prod"), ("team", "a")], "both"),
            policy(&[("env", "prod")], "prod"),
            policy(&[("team", "")], "no team"),
            policy(&[("instance", "web")], "web"),
        ];
        let check = |labels: &[(&str, &str)], expect: &str| {
            let labels = labels.iter().fold(Labels::new(), |labels, (name, value)| labels.with(*name, *value));
            assert_eq!(&*settings(&policies, &labels), expect, "{labels}");
        };
        check(&[("env", "prod"), ("team", "a")], "both");
        check(&[("env", "prod"), ("team", "b")], "prod");
        check(&[("env", "test")], "no team");
        check(&[("team", "b"), ("instance", "web")], "web");
        check(&[("team", "b"), ("instance", "db")], "");
    }

    #[test]
    fn what_an_agent_says_is_cut() {
        let said = |refused: &str, overruled: usize| Settled {
            refused: refused.to_owned(),
            overruled: vec!["k".repeat(5_000); overruled],
            ext: Vec::new(),
        };
        assert_eq!(settled(said("no\u{1b}[0m", 3)), Settlement::Refused("no[0m".to_owned()));
        assert_eq!(settled(said("", 0)), Settlement::Applied(Vec::new()));
        let Settlement::Applied(keys) = settled(said("", 100)) else { panic!("refused") };
        assert_eq!((keys.len(), keys[0].len()), (16, 256));
    }
}
