//! `config.v2.json`: what Docker keeps about a container; what an engine answers about one has the same form. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::identify::description::CONTAINER_PORTS_MAX;
use crate::identify::description::Description;
use crate::identify::description::Exit;
use crate::identify::description::LabelFilter;
use crate::identify::description::Port;
use crate::identify::description::State;
use crate::identify::description::Words;

/// Reads `config.v2.json`, or an engine's answer, if it has a name to give.
#[must_use]
pub(super) fn parse(json: &[u8], filter: &LabelFilter) -> Option<Description> {
    let File { name, config, state, restart_count, network } = serde_json::from_slice(json).ok()?;
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
            exit: Exit { code: state.exit_code, oom_killed: state.oom_killed },
            restarts: restart_count,
            health: state.health.map(|health| health.status).unwrap_or_default(),
        }),
        ports: ports(&config.exposed_ports.unwrap_or_default(), &network.unwrap_or_default().ports.unwrap_or_default()),
    })
}

/// Ports that the host listens for, then those that are only exposed.
fn ports(exposed: &BTreeMap<String, IgnoredAny>, published: &BTreeMap<String, Option<Vec<Binding>>>) -> Vec<Port> {
    let bindings = |(inside, at): (&String, &Option<Vec<Binding>>)| {
        let port = |binding: &Binding| Port { inside: inside.clone(), outside: binding.address() };
        at.iter().flatten().map(port).collect::<Vec<_>>()
    };
    let outside: Vec<_> = published.iter().flat_map(bindings).take(CONTAINER_PORTS_MAX).collect();
    let only_inside = exposed.keys().filter(|inside| outside.iter().all(|port| port.inside != **inside));
    let only_inside = only_inside.map(|inside| Port { inside: inside.clone(), outside: String::new() });
    let room = CONTAINER_PORTS_MAX - outside.len();
    let only_inside: Vec<_> = only_inside.take(room).collect();
    outside.into_iter().chain(only_inside).collect()
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
    #[serde(rename = "NetworkSettings")]
    network: Option<Network>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    labels: Option<Words>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Binding {
    host_ip: String,
    host_port: String,
}

impl Binding {
    fn address(&self) -> String {
        let Self { host_ip, host_port } = self;
        if host_ip.contains(':') { format!("[{host_ip}]:{host_port}") } else { format!("{host_ip}:{host_port}") }
    }
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
            State { exit: Exit { code: 137, oom_killed: true }, restarts: 2, ..State::default() },
        );
        check(
            r#"{"Running":true,"Health":{"Status":"unhealthy","FailingStreak":3,"Log":[]}}"#,
            State { is_running: true, health: "unhealthy".to_owned(), ..State::default() },
        );
        let failed = Exit { code: 1, oom_killed: false };
        check(r#"{"Running":true,"Restarting":true,"ExitCode":1}"#, State { exit: failed, ..State::default() });
        check("{}", State::default());
    }

    #[test]
    fn ports() {
        let check = |exposed: &str, published: &str, expect: &[(&str, &str)]| {
            let settings = format!(r#""NetworkSettings":{{"Ports":{published}}}"#);
            let json = format!(r#"{{"Name":"/x","Config":{{"ExposedPorts":{exposed}}},{settings}}}"#);
            let found = read(json.as_bytes()).unwrap().ports;
            let found: Vec<_> = found.iter().map(|port| (port.inside.as_str(), port.outside.as_str())).collect();
            assert_eq!(found, expect, "{exposed} {published}");
        };
        let both =
            r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"53/udp":null}"#;
        let exposed = r#"{"53/udp":{},"80/tcp":{}}"#;
        let published = [("80/tcp", "0.0.0.0:8080"), ("80/tcp", "[::]:8080")];
        check(exposed, both, &[&published[..], &[("53/udp", "")]].concat());
        check("null", both, &published);
        check(exposed, "null", &[("53/udp", ""), ("80/tcp", "")]);
        check("null", "{}", &[]);
        let range: Vec<_> = (0..2 * CONTAINER_PORTS_MAX).map(|port| format!(r#""{port}/tcp":[{{}}]"#)).collect();
        let json = format!(r#"{{"Name":"/x","Config":{{}},"NetworkSettings":{{"Ports":{{{}}}}}}}"#, range.join(","));
        assert_eq!(read(json.as_bytes()).unwrap().ports.len(), CONTAINER_PORTS_MAX);
    }

    #[test]
    fn what_an_engine_answers_has_the_form_of_its_file() {
        let found = read(include_bytes!("fixtures/inspect.json")).unwrap();
        assert_eq!((found.name.as_str(), found.image.as_str()), ("sick", "lapwing-test:1"));
        let exposed = ["8080/tcp", "8081/tcp"].map(|inside| Port { inside: inside.to_owned(), outside: String::new() });
        assert_eq!(found.ports, exposed);
        assert_eq!(found.state, Some(State { is_running: true, health: "unhealthy".to_owned(), ..State::default() }));
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
