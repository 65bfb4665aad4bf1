//! What is known of a container besides its id, and the words in which runtimes write it down. Pure.

use std::collections::BTreeMap;

use common::metric::Labels;

use crate::mask;

/// What is known of a container besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name, as people use it.
    pub name: String,
    /// Its name within its pod; the same as [`Self::name`] where there is no pod.
    pub container: String,
    /// The pod it belongs to.
    pub pod: String,
    /// The namespace of the pod.
    pub namespace: String,
    /// The image it was made from, as it was asked for.
    pub image: String,
    /// Its labels, named as cAdvisor names them: `container_label_…`.
    pub labels: Labels,
    /// Whether it only holds the network of a pod.
    pub is_sandbox: bool,
    /// How it fares, where its runtime says so.
    pub state: Option<State>,
    /// The ports that it listens on, as far as its image and who started it say.
    pub ports: Vec<Port>,
}

/// How a container fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether it runs, as far as its runtime knows.
    pub is_running: bool,
    /// How it ended last.
    pub exit: Exit,
    /// How often its runtime started it again after it ended by itself.
    pub restarts: u64,
    /// What its health check says: `healthy`, `unhealthy`, `starting`; empty without one.
    pub health: String,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// What its first process returned.
    pub code: i64,
    /// Whether the kernel killed in it for want of memory.
    pub oom_killed: bool,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its number inside, and the protocol: `80/tcp`.
    pub inside: String,
    /// Where the host listens for it: `0.0.0.0:8080`; empty where it does not.
    pub outside: String,
}

/// Ports of one container that are kept: a range of ports may be thousands.
pub const CONTAINER_PORTS_MAX: usize = 64;

/// Labels of a container that are kept: an orchestrator sets about twenty.
pub const CONTAINER_LABELS_MAX: usize = 64;

/// Bytes of one container label, and letters of its name, that are kept: a few tools put whole JSON documents there.
pub const CONTAINER_LABEL_BYTES_MAX: usize = 256;

/// Which labels of containers are kept.
#[derive(Clone, Debug, Default)]
pub struct LabelFilter(Option<Vec<String>>);

impl LabelFilter {
    /// Keeps labels of these names; one that ends with `*` stands for all that begin so. Without a list it keeps all.
    #[must_use]
    pub fn new(wanted: Option<&[String]>) -> Self {
        Self(wanted.map(<[String]>::to_vec))
    }

    fn keeps(&self, name: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == wanted,
        };
        self.0.as_ref().is_none_or(|wanted| wanted.iter().any(fits))
    }

    /// A container's labels as those of its series.
    pub(super) fn apply(&self, labels: &Words) -> Labels {
        let kept = labels.iter().filter(|(name, _)| self.keeps(name)).take(CONTAINER_LABELS_MAX);
        kept.map(|(name, value)| (label_name(name), cut(&mask::masked_value(name, value)))).collect()
    }
}

/// Labels or annotations of a container.
pub(super) type Words = BTreeMap<String, String>;

const CONTAINER: &[&str] = &["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"];
const POD: &[&str] = &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const NAMESPACE: &[&str] = &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
const IMAGE: &[&str] = &["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"];
const KIND: &[&str] = &[
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.docker.type",
    "io.cri-containerd.kind",
    // Amazon's agent names the container so that holds the network of a task.
    "com.amazonaws.ecs.container-name",
];

impl Description {
    /// What containerd, CRI-O, Podman, nerdctl and Kubernetes on Docker write into labels or annotations.
    pub(super) fn from_words(words: &Words) -> Self {
        let get = |keys: &[&str]| keys.iter().find_map(|key| words.get(*key)).cloned().unwrap_or_default();
        let is_sandbox = matches!(get(KIND).as_str(), "sandbox" | "podsandbox" | "~internal~ecs~pause");
        Self::of_pod([get(POD), get(NAMESPACE), get(CONTAINER)]).with(get(IMAGE), is_sandbox)
    }

    /// A container of a pod: names of the pod, its namespace and the container.
    pub(super) fn of_pod([pod, namespace, container]: [String; 3]) -> Self {
        let name = if pod.is_empty() { container.clone() } else { format!("{namespace}/{pod}/{container}") };
        Self { name, container, pod, namespace, ..Self::default() }
    }

    fn with(self, image: String, is_sandbox: bool) -> Self {
        Self { image, is_sandbox, ..self }
    }

    /// Whether it says what the container is.
    pub(super) fn is_known(&self) -> bool {
        self.is_sandbox || !self.name.is_empty()
    }
}

fn label_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    std::iter::once("container_label_")
        .flat_map(str::chars)
        .chain(name.chars().take(CONTAINER_LABEL_BYTES_MAX).map(legal))
        .collect()
}

fn cut(value: &str) -> String {
    let end = (0..=CONTAINER_LABEL_BYTES_MAX.min(value.len())).rev().find(|&end| value.is_char_boundary(end));
    value[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[(&str, &str)]) -> Words {
        words.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_runtime_has_its_words() {
        let check = |said: &[(&str, &str)], name: &str, image: &str, sandbox: bool| {
            let found = Description::from_words(&words(said));
            assert_eq!(
                (found.name.as_str(), found.image.as_str(), found.is_sandbox),
                (name, image, sandbox),
                "{said:?}"
            );
        };
        let pod = [("io.kubernetes.cri.sandbox-name", "web-0"), ("io.kubernetes.cri.sandbox-namespace", "shop")];
        let kind = |kind| [("io.kubernetes.cri.container-type", kind)];
        let inside = [("io.kubernetes.cri.container-name", "app"), ("io.kubernetes.cri.image-name", "nginx:1")];
        check(&[&pod[..], &kind("container"), &inside].concat(), "shop/web-0/app", "nginx:1", false);
        check(&[&pod[..], &kind("sandbox")].concat(), "shop/web-0/", "", true);
        let crio = [("io.kubernetes.pod.name", "web-0"), ("io.kubernetes.pod.namespace", "shop")];
        let inside = [("io.kubernetes.container.name", "app"), ("io.kubernetes.cri-o.ImageName", "nginx:1")];
        check(&[&crio[..], &inside].concat(), "shop/web-0/app", "nginx:1", false);
        check(&[("io.kubernetes.cri-o.ContainerType", "sandbox")], "", "", true);
        check(&[("io.kubernetes.docker.type", "podsandbox")], "", "", true);
        check(&[("com.amazonaws.ecs.container-name", "~internal~ecs~pause")], "", "", true);
        check(&[("com.amazonaws.ecs.container-name", "web")], "", "", false);
        check(&[("nerdctl/name", "web"), ("nerdctl/namespace", "default")], "web", "", false);
        check(&[("other", "x")], "", "", false);
    }

    #[test]
    fn labels_have_legal_names_and_bounded_values_and_may_be_chosen() {
        let long = "ä".repeat(CONTAINER_LABEL_BYTES_MAX);
        let all = words(&[("com.docker/a-b", "1"), ("big", &long), ("bigger", "2")]);
        let labels = LabelFilter::default().apply(&all);
        assert_eq!(labels.get("container_label_com_docker_a_b"), "1");
        assert_eq!(labels.get("container_label_big").len(), CONTAINER_LABEL_BYTES_MAX);
        let secret = LabelFilter::default().apply(&words(&[("db.password", "hunter2"), (&long, "long")]));
        assert_eq!(secret.get("container_label_db_password"), "***");
        assert!(secret.iter().all(|(name, _)| name.len() <= "container_label_".len() + CONTAINER_LABEL_BYTES_MAX));
        let check = |wanted: &[&str], expect: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
            let kept = LabelFilter::new(Some(&wanted)).apply(&all);
            assert_eq!(kept.iter().map(|(name, _)| name).collect::<Vec<_>>(), expect);
        };
        check(&["big"], &["container_label_big"]);
        check(
            &["big*", "com.docker/*"],
            &["container_label_big", "container_label_bigger", "container_label_com_docker_a_b"],
        );
        check(&[], &[]);
        let many: Words = (0..2 * CONTAINER_LABELS_MAX).map(|at| (at.to_string(), "x".to_owned())).collect();
        assert_eq!(LabelFilter::default().apply(&many).len(), CONTAINER_LABELS_MAX);
    }
}
