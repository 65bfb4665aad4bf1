//! Which series are written to others, and with which labels: `keep`, `drop` and `replace` of Prometheus' relabelling.

use common::metric::Labels;
use regex::Regex;

use crate::config;

/// Rules, in their order.
#[derive(Clone, Debug)]
pub(super) struct Relabeling(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    source: Vec<String>,
    separator: String,
    regex: Regex,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Keep,
    Drop,
    Replace { target: String, replacement: String },
}

/// Why a rule makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadRelabel {
    /// Its expression is none.
    #[error("{0}")]
    Regex(#[from] regex::Error),
    /// There is no such action.
    #[error("{0:?} is no action: write keep, drop or replace")]
    Action(String),
    /// It does not say what to replace.
    #[error("replace needs a target_label")]
    Target,
}

impl Relabeling {
    pub(super) fn new(rules: &[config::Relabel]) -> Result<Self, BadRelabel> {
        rules.iter().map(Rule::new).collect::<Result<_, _>>().map(Self)
    }

    /// The labels of a series as it is written; nothing if it is not.
    pub(super) fn apply(&self, mut labels: Labels) -> Option<Labels> {
        for Rule { source, separator, regex, action } in &self.0 {
            let value = source.iter().map(|name| labels.get(name)).collect::<Vec<_>>().join(separator);
            match (action, regex.captures(&value)) {
                (Action::Keep, None) | (Action::Drop, Some(_)) => return None,
                (Action::Replace { target, replacement }, Some(groups)) => {
                    let expand = |template: &str| {
                        let mut text = String::new();
                        groups.expand(template, &mut text);
                        text
                    };
                    let (name, value) = (expand(target), expand(replacement));
                    labels.retain(|label| label != name);
                    labels = if value.is_empty() { labels } else { labels.with(&*name, &*value) };
                }
                (Action::Keep, Some(_)) | (Action::Drop | Action::Replace { .. }, None) => {}
            }
        }
        let count = labels.iter().len();
        (0 < count).then_some(labels)
    }
}

impl Rule {
    fn new(written: &config::Relabel) -> Result<Self, BadRelabel> {
        let config::Relabel { source_labels, separator, regex, action, target_label, replacement } = written;
        let action = match action.as_str() {
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "replace" if target_label.is_empty() => return Err(BadRelabel::Target),
            "replace" => Action::Replace { target: target_label.clone(), replacement: replacement.clone() },
            other => return Err(BadRelabel::Action(other.to_owned())),
        };
        // The whole value, as in Prometheus.
        let regex = Regex::new(&format!("^(?s:{regex})$"))?;
        Ok(Self { source: source_labels.clone(), separator: separator.clone(), regex, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `{__name__="m", a="x", b="y-1"}`.
    fn check(rules: &str, expect: &str) {
        #[derive(serde::Deserialize)]
        struct Rules {
            #[serde(default)]
            relabel: Vec<config::Relabel>,
        }
        let Rules { relabel } = toml::from_str(rules).unwrap();
        let labels = Labels::new().with("__name__", "m").with("a", "x").with("b", "y-1");
        let told = match Relabeling::new(&relabel) {
            Ok(rules) => rules.apply(labels).map_or_else(|| "dropped".to_owned(), |labels| labels.to_string()),
            Err(error) => error.to_string(),
        };
        assert!(told.starts_with(expect), "{rules}: {told}");
    }

    #[test]
    fn rules_are_prometheus_rules() {
        check("", "m{a=\"x\", b=\"y-1\"}");
        let rule = |rule: &str| format!("[[relabel]]\n{rule}");
        check(&rule("source_labels = [\"a\"]\nregex = \"x\"\naction = \"keep\""), "m{a");
        check(&rule("source_labels = [\"b\"]\nregex = \"y\"\naction = \"keep\""), "dropped");
        check(&rule("source_labels = [\"a\", \"b\"]\nregex = \"x;y.*\"\naction = \"drop\""), "dropped");
        check(&rule("source_labels = [\"none\"]\nregex = \".+\"\naction = \"drop\""), "m{a");
        check(
            &rule("source_labels = [\"b\"]\nregex = \"(.)-(.)\"\ntarget_label = \"c\"\nreplacement = \"${2}$1\""),
            "m{a=\"x\", b=\"y-1\", c=\"1y\"}",
        );
        check(
            &rule("source_labels = [\"b\"]\nregex = \"z\"\ntarget_label = \"c\"\nreplacement = \"1\""),
            "m{a=\"x\", b=\"y-1\"}",
        );
        check(&rule("target_label = \"dc\"\nreplacement = \"eu\""), "m{a=\"x\", b=\"y-1\", dc=\"eu\"}");
        check(&rule("target_label = \"a\"\nreplacement = \"\""), "m{b=\"y-1\"}");
        check(&rule("source_labels = [\"a\"]\ntarget_label = \"b\""), "m{a=\"x\", b=\"x\"}");
        check(&rule("action = \"replace\""), "replace needs a target_label");
        check(&rule("action = \"hashmod\""), "\"hashmod\" is no action");
        check(&rule("regex = \"(\"\naction = \"keep\""), "regex parse error");
    }
}
