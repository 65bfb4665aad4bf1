//! Who is written to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use common::config::ConfigError;
use common::config::Layers;
use common::config::NOT_SHOWN;
use common::config::without_user;
use regex::Regex;
use serde::Deserialize;
use serde::Serialize;

use crate::config::is_url;

/// Somebody who is written to by remote write.
#[derive(Clone, Debug)]
pub struct Forward {
    /// What people call it. What was sent is known by it.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Headers besides those of the protocol.
    pub headers: BTreeMap<String, String>,
    /// What is shown there.
    pub credential: Option<Credential>,
    /// Which series, and with which labels.
    pub relabel: Vec<Relabel>,
}

/// What is shown to somebody who is written to. Files of secrets are read at each use.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The file of a token.
    Bearer(PathBuf),
    /// A name and the file of its password.
    Basic(String, PathBuf),
}

/// One rule as Prometheus' `write_relabel_configs` has them.
#[derive(Clone, Debug)]
pub struct Relabel {
    /// Whose values are looked at …
    pub source: Vec<String>,
    /// … with this between them.
    pub separator: String,
    /// What the whole of it must match.
    pub regex: Regex,
    /// What is done then.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Writes the series that match, and no others.
    Keep,
    /// Writes the series that do not match.
    Drop,
    /// Sets a label of the series that match.
    Replace {
        /// Which.
        target: String,
        /// To what.
        replacement: String,
    },
}

/// What was written of somebody who is written to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawForward {
    name: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    bearer_file: Option<PathBuf>,
    basic_user: Option<String>,
    basic_password_file: Option<PathBuf>,
    #[serde(default)]
    relabel: Vec<RawRelabel>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRelabel {
    source_labels: Vec<String>,
    separator: String,
    regex: String,
    action: String,
    target_label: String,
    replacement: String,
}

/// Says what all of them mean.
pub(super) fn targets(layers: &Layers<'_>, written: Vec<RawForward>) -> Result<Vec<Forward>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut targets = Vec::new();
    for (at, written) in written.into_iter().enumerate() {
        if !is_name(&written.name) || !names.insert(written.name.clone()) {
            let why = "is not a name of its own for each, of letters, digits, - and _";
            return Err(layers.refuse(&format!("forward.{at}.name"), why));
        }
        let refuse =
            |(key, why): (String, String)| layers.refuse(format!("forward.{at}.{key}").trim_end_matches('.'), why);
        targets.push(written.meaning().map_err(refuse)?);
    }
    Ok(targets)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl RawForward {
    /// Hides what may be secret.
    pub(super) fn hide(&mut self) {
        self.url = without_user(&self.url);
        // Some take a key behind the question mark.
        if let Some((address, _)) = self.url.split_once('?') {
            self.url = format!("{address}?{NOT_SHOWN}");
        }
        self.headers.values_mut().for_each(|value| NOT_SHOWN.clone_into(value));
    }

    /// What is meant, or the key that is wrong and why. The address may hold a secret: it is not told.
    fn meaning(self) -> Result<Forward, (String, String)> {
        let Self { name, url, headers, bearer_file, basic_user, basic_password_file, relabel } = self;
        let refuse = |key: &str, why: &str| Err((key.to_owned(), why.to_owned()));
        if !is_url(&url) {
            return refuse("url", "is not where one writes to: https://vm.example.com/api/v1/write, say");
        }
        let credential = match (bearer_file, basic_user, basic_password_file) {
            (None, None, None) => None,
            (Some(file), None, None) => Some(Credential::Bearer(file)),
            (None, Some(user), Some(file)) => Some(Credential::Basic(user, file)),
            (Some(_), _, _) => return refuse("bearer_file", "is not for one with a name and a password"),
            (None, Some(_), None) => return refuse("basic_user", "goes together with `basic_password_file`"),
            (None, None, Some(_)) => return refuse("basic_password_file", "goes together with `basic_user`"),
        };
        let numbered = relabel.into_iter().enumerate();
        let relabel = numbered.map(|(at, rule)| {
            rule.meaning().map_err(|(key, why)| (format!("relabel.{at}.{key}").trim_end_matches('.').to_owned(), why))
        });
        Ok(Forward { name, url, headers, credential, relabel: relabel.collect::<Result<_, _>>()? })
    }
}

impl RawRelabel {
    fn meaning(self) -> Result<Relabel, (&'static str, String)> {
        let Self { source_labels: source, separator, regex, action, target_label: target, replacement } = self;
        let action = match action.as_str() {
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "replace" if target.is_empty() => {
                return Err(("", "replaces nothing: it needs a `target_label`".to_owned()));
            }
            "replace" => Action::Replace { target, replacement },
            other => return Err(("action", format!("is {other:?}: write keep, drop or replace"))),
        };
        // The whole value, as in Prometheus.
        let anchored = Regex::new(&format!("^(?s:{regex})$"));
        // The engine draws where the mistake is, over several lines: the last of them says what it is.
        let regex = anchored.map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            ("regex", format!("is `{regex}`: {why}"))
        })?;
        Ok(Relabel { source, separator, regex, action })
    }
}

impl Default for RawRelabel {
    fn default() -> Self {
        let [separator, regex, action, replacement] = [";", "(.*)", "replace", "$1"].map(str::to_owned);
        Self { source_labels: Vec::new(), separator, regex, action, target_label: String::new(), replacement }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_rule_is_named_with_its_place() {
        #[derive(Deserialize)]
        struct Raw {
            forward: Vec<RawForward>,
        }
        let check = |rule: &str, expect: &str| {
            let text = format!(
                "[[forward]]\nname = 'f'\nurl = 'http://a'\n[[forward.relabel]]\ntarget_label = 'a'\n\
                 [[forward.relabel]]\n{rule}"
            );
            let layers = Layers { file: Some(("f", &text)), ..Layers::default() };
            let read = targets(&layers, toml::from_str::<Raw>(&text).unwrap().forward);
            assert_eq!(read.map(|_| String::new()).unwrap_or_else(|error| error.to_string()), expect);
        };
        check("action = 'keep'", "");
        check("action = 'kep'", "f, line 7: `forward.0.relabel.1.action` is \"kep\": write keep, drop or replace");
        check("action = 'replace'", "f, line 6: `forward.0.relabel.1` replaces nothing: it needs a `target_label`");
        check("target_label = 'x'\nregex = '('", "f, line 8: `forward.0.relabel.1.regex` is `(`: unclosed group");
    }
}
