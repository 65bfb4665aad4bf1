//! `config.v2.json`: what Docker keeps about a container. Pure.

use std::collections::BTreeMap;

use common::metric::Labels;
use serde::Deserialize;

/// What is known of a container besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name, as people use it.
    pub name: String,
    /// The image it was made from, as it was asked for.
    pub image: String,
    /// Its labels, named as cAdvisor names them: `container_label_…`.
    pub labels: Labels,
    /// How often Docker started it again after it ended.
    pub restarts: u64,
    /// When it was last started, as RFC 3339.
    pub started: String,
}

/// Labels of a container that are kept: an orchestrator sets about twenty.
pub const CONTAINER_LABELS_MAX: usize = 64;

/// Bytes of one container label that are kept: a few tools put whole JSON documents there.
pub const CONTAINER_LABEL_BYTES_MAX: usize = 256;

/// Reads `config.v2.json`, if it has a name to give.
#[must_use]
pub(super) fn parse(json: &[u8]) -> Option<Description> {
    let file: File = serde_json::from_slice(json).ok()?;
    let labels = file.config.labels.unwrap_or_default();
    let labels = labels.iter().take(CONTAINER_LABELS_MAX).map(|(name, value)| (label_name(name), cut(value)));
    Some(Description {
        name: Some(file.name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty())?,
        image: file.config.image,
        labels: labels.collect(),
        restarts: file.restart_count,
        started: file.state.started_at,
    })
}

/// Where `/etc/docker/daemon.json` says that Docker keeps its data.
#[must_use]
pub(super) fn data_root(daemon_json: &[u8]) -> Option<String> {
    let daemon: Daemon = serde_json::from_slice(daemon_json).ok()?;
    daemon.data_root.filter(|root| root.starts_with('/'))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    name: String,
    config: Config,
    #[serde(default)]
    state: State,
    #[serde(default)]
    restart_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    started_at: String,
}

#[derive(Deserialize)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

fn label_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    std::iter::once("container_label_").flat_map(str::chars).chain(name.chars().map(legal)).collect()
}

fn cut(value: &str) -> String {
    let end = (0..=CONTAINER_LABEL_BYTES_MAX.min(value.len())).rev().find(|&end| value.is_char_boundary(end));
    value[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_wrote() {
        let recorded = include_bytes!("fixtures/config.v2.json");
        let found = parse(recorded).unwrap();
        assert_eq!((found.name.as_str(), found.image.as_str(), found.restarts), ("spin", "lapwing-test:1", 0));
        assert_eq!(found.labels.to_string(), r#"{container_label_team="birds"}"#);
        assert_eq!(found.started, "2026-11-21T13:38:06.004413369Z");
    }

    #[test]
    fn labels_have_legal_names_and_bounded_values() {
        let long = "ä".repeat(CONTAINER_LABEL_BYTES_MAX);
        let json = format!(r#"{{"Name":"/x","Config":{{"Labels":{{"com.docker/a-b":"1","big":"{long}"}}}}}}"#);
        let labels = parse(json.as_bytes()).unwrap().labels;
        assert_eq!(labels.get("container_label_com_docker_a_b"), "1");
        assert_eq!(labels.get("container_label_big").len(), CONTAINER_LABEL_BYTES_MAX);
    }

    #[test]
    fn a_file_that_says_nothing_is_no_description() {
        let whole = include_bytes!("fixtures/config.v2.json");
        for cut in [0, 1, 100, whole.len() / 2, whole.len() - 2] {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(br#"{"Name":"","Config":{"Labels":null}}"#), None);
        assert_eq!(parse(br#"{"Name":"/x","Config":{"Labels":null}}"#).unwrap().name, "x");
        assert_eq!(parse(b"[]"), None);
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    #[test]
    fn the_data_root_is_where_the_daemon_was_told() {
        let check = |json: &str, expect: Option<&str>| assert_eq!(data_root(json.as_bytes()).as_deref(), expect);
        check(r#"{"data-root": "/srv/docker", "debug": true}"#, Some("/srv/docker"));
        check(r#"{"data-root": "relative"}"#, None);
        check("{}", None);
        check("", None);
    }
}
