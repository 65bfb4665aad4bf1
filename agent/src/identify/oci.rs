//! What containerd, CRI-O and Podman keep about a container. Pure.

use serde::Deserialize;

use crate::identify::description::Description;
use crate::identify::description::Words;

/// Reads the annotations of an OCI runtime's `config.json`.
#[must_use]
pub(super) fn parse_config(json: &[u8]) -> Option<Description> {
    let config: Config = serde_json::from_slice(json).ok()?;
    Some(Description::from_words(&config.annotations)).filter(Description::is_known)
}

/// Finds a container in `containers.json` of containers-storage, which CRI-O and Podman share.
#[must_use]
pub(super) fn parse_storage(json: &[u8], id: &str) -> Option<Description> {
    let containers: Vec<Stored> = serde_json::from_slice(json).ok()?;
    let stored = containers.into_iter().find(|stored| stored.id == id)?;
    let metadata: Metadata = serde_json::from_str(&stored.metadata).unwrap_or_default();
    let name = stored.names.into_iter().next().or(metadata.name).filter(|name| !name.is_empty())?;
    Some(Description { container: name.clone(), name, image: metadata.image_name, ..Description::default() })
}

/// Where `storage.conf` says that containers-storage keeps its data.
#[must_use]
pub(super) fn storage_root(storage_conf: &[u8]) -> Option<String> {
    let conf: StorageConf = toml::from_str(std::str::from_utf8(storage_conf).ok()?).ok()?;
    conf.storage.graphroot.filter(|root| root.starts_with('/'))
}

/// Reads the name of a log below `/var/log/containers`: `<pod>_<namespace>_<container>-<id>.log`.
#[must_use]
pub(super) fn parse_log_name(name: &str, id: &str) -> Option<Description> {
    let names = name.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
    let mut parts = names.split('_').map(str::to_owned);
    let names = [parts.next()?, parts.next()?, parts.next()?];
    (parts.next().is_none() && names.iter().all(|name| !name.is_empty())).then(|| Description::of_pod(names))
}

/// Reads the name of a guest from its configuration at Proxmox: `name: web` of a machine, `hostname: web` of a container.
#[must_use]
pub(super) fn parse_guest(conf: &[u8]) -> Option<Description> {
    let conf = String::from_utf8_lossy(conf);
    // Snapshots follow in sections of their own.
    let of_itself = conf.lines().take_while(|line| !line.starts_with('['));
    let name = of_itself.filter_map(|line| line.split_once(':')).find(|(key, _)| ["name", "hostname"].contains(key));
    let name = name.map(|(_, name)| name.trim().to_owned()).filter(|name| !name.is_empty())?;
    Some(Description { container: name.clone(), name, ..Description::default() })
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: Words,
}

#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    metadata: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    image_name: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct StorageConf {
    storage: Storage,
}

#[derive(Deserialize)]
struct Storage {
    graphroot: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_of_a_runtime() {
        let check = |json: &str, expect: Option<(&str, bool)>| {
            let found = parse_config(json.as_bytes()).map(|found| (found.name, found.is_sandbox));
            assert_eq!(found, expect.map(|(name, sandbox)| (name.to_owned(), sandbox)), "{json}");
        };
        check(
            r#"{"ociVersion":"1.0","annotations":{"io.kubernetes.cri.container-name":"app",
                "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"}}"#,
            Some(("shop/web-0/app", false)),
        );
        check(r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#, Some(("", true)));
        check(r#"{"annotations":{}}"#, None);
        check(r#"{"ociVersion":"1.0"}"#, None);
        check(r#"{"annotations":{"nerdctl/name":"#, None);
        check("", None);
    }

    #[test]
    fn what_containers_storage_knows() {
        let json = br#"[{"id":"aa","names":["web"],"image":"9f","metadata":"{\"image-name\":\"docker.io/library/nginx:1\",\"name\":\"web\"}"},
            {"id":"bb","metadata":"not json","names":["other"]},{"id":"cc","metadata":"{\"name\":\"third\"}"},{"id":"dd"}]"#;
        let check = |id: &str, expect: Option<(&str, &str)>| {
            let found = parse_storage(json, id).map(|found| (found.name, found.image));
            assert_eq!(found, expect.map(|(name, image)| (name.to_owned(), image.to_owned())), "{id}");
        };
        check("aa", Some(("web", "docker.io/library/nginx:1")));
        check("bb", Some(("other", "")));
        check("cc", Some(("third", "")));
        check("dd", None);
        check("ee", None);
        assert_eq!(parse_storage(&json[..60], "aa"), None);
    }

    #[test]
    fn the_storage_root_is_where_the_configuration_says() {
        let check = |conf: &str, expect: Option<&str>| assert_eq!(storage_root(conf.as_bytes()).as_deref(), expect);
        check(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/containers\"\n[storage.options]\nsize = \"\"",
            Some("/srv/containers"),
        );
        check("[storage]\ngraphroot = \"$HOME/x\"", None);
        check("[storage]", None);
        check("", None);
    }

    #[test]
    fn names_of_logs() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(parse_log_name(name, "0a1b").map(|found| found.name).as_deref(), expect, "{name}");
        };
        check("web-0_shop_app-0a1b.log", Some("shop/web-0/app"));
        check("web-0_shop_my-app-0a1b.log", Some("shop/web-0/my-app"));
        check("web-0_shop_app-0a1c.log", None);
        check("web-0_shop-0a1b.log", None);
        check("a_b_c_d-0a1b.log", None);
        check("_shop_app-0a1b.log", None);
        check("", None);
    }

    #[test]
    fn guests_of_proxmox() {
        let check = |conf: &str, expect: Option<&str>| {
            assert_eq!(parse_guest(conf.as_bytes()).map(|found| found.name).as_deref(), expect, "{conf}");
        };
        check("cores: 2\nname: web\n[before]\nname: old\n", Some("web"));
        check("arch: amd64\nhostname: box\n", Some("box"));
        check("[before]\nname: old\n", None);
        check("name:\n", None);
        check("", None);
    }
}
