//! `config.v2.json`: what Docker keeps about a container. Pure.

use serde::Deserialize;

use crate::identify::description::Description;
use crate::identify::description::LabelFilter;
use crate::identify::description::State;
use crate::identify::description::Words;

/// Reads `config.v2.json`, if it has a name to give.
#[must_use]
pub(super) fn parse(json: &[u8], filter: &LabelFilter) -> Option<Description> {
    let File { name, config, state, restart_count } = serde_json::from_slice(json).ok()?;
    let name = Some(name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty())?;
    let labels = config.labels.unwrap_or_default();
    let of_pod = Description::from_words(&labels);
    Some(Description {
        container: if of_pod.pod.is_empty() { name.clone() } else { of_pod.container },
        name,
        pod: of_pod.pod,
        namespace: of_pod.namespace,
        image: config.image,
        labels: filter.apply(&labels),
        is_sandbox: of_pod.is_sandbox,
        state: state.map(|state| State {
            is_running: state.running && !state.restarting,
            exit_code: state.exit_code,
            oom_killed: state.oom_killed,
            restarts: restart_count,
            health: state.health.map(|health| health.status).unwrap_or_default(),
        }),
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
    state: Option<Condition>,
    #[serde(default)]
    restart_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    labels: Option<Words>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Condition {
    running: bool,
    restarting: bool,
    exit_code: i64,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &[u8]) -> Option<Description> {
        parse(json, &LabelFilter::default())
    }

    #[test]
    fn reads_what_docker_wrote() {
        let found = read(include_bytes!("fixtures/config.v2.json")).unwrap();
        assert_eq!(
            (found.name.as_str(), found.container.as_str(), found.image.as_str()),
            ("spin", "spin", "lapwing-test:1")
        );
        assert_eq!(found.labels.to_string(), r#"{container_label_team="birds"}"#);
        assert_eq!(found.state, Some(State { is_running: true, ..State::default() }));
    }

    #[test]
    fn how_a_container_fares() {
        let check = |state: &str, expect: State| {
            let json = format!(r#"{{"Name":"/x","Config":{{}},"State":{state},"RestartCount":{}}}"#, expect.restarts);
            assert_eq!(read(json.as_bytes()).unwrap().state, Some(expect), "{state}");
        };
        check(
            r#"{"Running":false,"ExitCode":137,"OOMKilled":true,"Health":null}"#,
            State { exit_code: 137, oom_killed: true, restarts: 2, ..State::default() },
        );
        check(
            r#"{"Running":true,"Health":{"Status":"unhealthy","FailingStreak":3,"Log":[]}}"#,
            State { is_running: true, health: "unhealthy".to_owned(), ..State::default() },
        );
        check(r#"{"Running":true,"Restarting":true,"ExitCode":1}"#, State { exit_code: 1, ..State::default() });
        check("{}", State::default());
    }

    #[test]
    fn kubernetes_on_docker() {
        let json = br#"{"Name":"/k8s_app_web-0_shop_1_0","Config":{"Image":"nginx:1","Labels":{
            "io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.docker.type":"container"}}}"#;
        let found = read(json).unwrap();
        assert_eq!(
            [found.name, found.container, found.pod, found.namespace],
            ["k8s_app_web-0_shop_1_0", "app", "web-0", "shop"]
        );
        assert!(!found.is_sandbox);
        let json =
            br#"{"Name":"/k8s_POD_web-0_shop_1_0","Config":{"Labels":{"io.kubernetes.docker.type":"podsandbox"}}}"#;
        assert!(read(json).unwrap().is_sandbox);
    }

    #[test]
    fn a_file_that_says_nothing_is_no_description() {
        let whole = include_bytes!("fixtures/config.v2.json");
        for cut in [0, 1, 100, whole.len() / 2, whole.len() - 2] {
            assert_eq!(read(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(read(br#"{"Name":"","Config":{"Labels":null}}"#), None);
        assert_eq!(read(br#"{"Name":"/x","Config":{"Labels":null}}"#).unwrap().name, "x");
        assert_eq!(read(b"[]"), None);
        assert_eq!(read(b"\xff\xfe"), None);
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
