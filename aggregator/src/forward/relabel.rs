//! Which series are written to others, and with which labels: `keep`, `drop` and `replace` of Prometheus' relabelling.

use common::metric::Labels;

use crate::config::Action;
use crate::config::Relabel;

/// The labels of a series as rules, in their order, have it written; nothing if it is not.
pub(super) fn relabel(rules: &[Relabel], mut labels: Labels) -> Option<Labels> {
    for Relabel { source, separator, regex, action } in rules {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::CommandLine;
    use crate::config::Config;

    fn configured(rules: &str) -> Vec<Relabel> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aggregator.toml");
        fs::write(&path, format!("[[forward]]\nname = 'f'\nurl = 'http://a'\n{rules}")).unwrap();
        let config = Config::read(CommandLine { config: Some(path), values: Vec::new() }).unwrap();
        config.forward.into_iter().flat_map(|target| target.relabel).collect()
    }

    /// What becomes of `{__name__="m", a="x", b="y-1"}`.
    fn check(rules: &str, expect: &str) {
        let labels = Labels::new().with("__name__", "m").with("a", "x").with("b", "y-1");
        let told = relabel(&configured(rules), labels);
        let told = told.map_or_else(|| "dropped".to_owned(), |labels| labels.to_string());
        assert!(told.starts_with(expect), "{rules}: {told}");
    }

    #[test]
    fn rules_are_prometheus_rules() {
        check("", "m{a=\"x\", b=\"y-1\"}");
        let rule = |rule: &str| format!("[[forward.relabel]]\n{rule}");
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
    }
}
