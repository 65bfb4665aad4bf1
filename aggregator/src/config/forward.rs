//! Who is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::config::NOT_SHOWN;
use common::config::without_user;
use serde::Deserialize;
use serde::Serialize;

/// Somebody who is written to by remote write.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// What people call it. What was sent is known by it.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Headers besides those of the protocol.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The file of a token.
    pub bearer_file: Option<PathBuf>,
    /// A name …
    pub basic_user: Option<String>,
    /// … and the file of its password.
    pub basic_password_file: Option<PathBuf>,
    /// Which series, and with which labels: rules as Prometheus' `write_relabel_configs`.
    #[serde(default)]
    pub relabel: Vec<Relabel>,
}

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relabel {
    /// Whose values are looked at …
    pub source_labels: Vec<String>,
    /// … with this between them.
    pub separator: String,
    /// What the whole of it must match.
    pub regex: String,
    /// `keep`, `drop` or `replace`.
    pub action: String,
    /// What `replace` sets …
    pub target_label: String,
    /// … to this.
    pub replacement: String,
}

impl Forward {
    /// Hides what may be secret.
    pub(super) fn hide(&mut self) {
        self.url = without_user(&self.url);
        // Some take a key behind the question mark.
        if let Some((address, _)) = self.url.split_once('?') {
            self.url = format!("{address}?{NOT_SHOWN}");
        }
        self.headers.values_mut().for_each(|value| NOT_SHOWN.clone_into(value));
    }
}

impl Default for Relabel {
    fn default() -> Self {
        let [separator, regex, action, replacement] = [";", "(.*)", "replace", "$1"].map(str::to_owned);
        Self { source_labels: Vec::new(), separator, regex, action, target_label: String::new(), replacement }
    }
}

/// What is wrong with them: the key, and why.
pub(super) fn refusal(targets: &[Forward]) -> Option<(&'static str, &'static str)> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let names: BTreeSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    if names.len() < targets.len() || !names.into_iter().all(is_name) {
        return Some(("forward.name", "is not a name of its own for each, of letters, digits, - and _"));
    }
    if targets.iter().any(|target| target.bearer_file.is_some() && target.basic_user.is_some()) {
        return Some((
            "forward.bearer_file",
            "stands beside `basic_user`: it is either a token or a name with a password",
        ));
    }
    if targets.iter().any(|target| target.basic_user.is_some() != target.basic_password_file.is_some()) {
        return Some(("forward.basic_user", "goes together with `basic_password_file`"));
    }
    None
}
