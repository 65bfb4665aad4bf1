//! Host labels that stand in files: `KEY=VALUE` lines, as `/etc/os-release` has them, and what cloud-init knows of the
//! machine (`/run/cloud-init/instance-data.json`).

use std::path::Path;

use common::config::ConfigError;
use common::config::Layers;
use common::metric::Labels;
use serde_json::Value;

use crate::config::Config;
use crate::config::HOST_LABELS_MAX;
use crate::config::no_host_label;
use crate::host;

/// Bytes of one such file: cloud-init's holds what the cloud told it.
const LABEL_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one value: it is part of every series.
const LABEL_BYTES_MAX: usize = 256;

/// Of what cloud-init knows under `v1`, by the same names.
const OF_CLOUD: &[&str] = &["availability_zone", "cloud_name", "instance_id", "region"];

/// Adds the labels of the files that the configuration names: a later file wins over an earlier one, and the
/// configuration's own labels win over all. A file that is not there is passed over: a fleet has one configuration.
///
/// # Errors
/// The first file that cannot be read or has a slip.
pub fn read(mut config: Config, layers: &Layers<'_>) -> Result<Config, ConfigError> {
    let mut labels = Labels::new();
    for path in &config.labels_from {
        let refuse = |why: String| layers.refuse("host.labels_from", format!("names {}: {why}", path.display()));
        let read = host::read_bounded(&config.roots.on_rootfs(path), LABEL_FILE_BYTES_MAX);
        match read.map_err(|error| refuse(error.to_string()))? {
            Some(text) => labels = labels.and(&parse(path, &text).map_err(refuse)?),
            None => tracing::warn!(path = %path.display(), "there is no such file of labels"),
        }
    }
    config.labels = labels.and(&config.labels);
    if HOST_LABELS_MAX < config.labels.len() {
        return Err(layers.refuse("host.labels_from", format!("gives more than {HOST_LABELS_MAX} labels")));
    }
    Ok(config)
}

fn parse(path: &Path, text: &[u8]) -> Result<Labels, String> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return of_cloud(text).ok_or_else(|| "has not the form of cloud-init's instance-data.json".to_owned());
    }
    let text = str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())?;
    let mut labels = Labels::new();
    for (line, text) in (1..).zip(text.lines()).map(|(line, text)| (line, text.trim())) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = text.split_once('=').ok_or_else(|| format!("line {line} is not KEY=VALUE"))?;
        let (name, value) = (name.trim_end(), unquote(value.trim_start()));
        if let Some(why) = no_host_label(name) {
            return Err(format!("line {line}: `{name}` {why}"));
        }
        if LABEL_BYTES_MAX < value.len() {
            return Err(format!("line {line}: `{name}` has more than {LABEL_BYTES_MAX} bytes"));
        }
        labels.set(name, value);
    }
    Ok(labels)
}

/// Any bytes as a file of either form, for fuzzing: what is taken has the bytes that a label may have.
pub fn parse_anything(bytes: &[u8]) {
    for name in ["labels", "instance-data.json"] {
        let labels = parse(Path::new(name), bytes).unwrap_or_default();
        assert!(labels.iter().all(|(_, value)| value.len() <= LABEL_BYTES_MAX), "a label that is too long");
    }
}

/// The text between quotes, if it stands between two of a kind.
fn unquote(value: &str) -> &str {
    let between = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(value)
}

fn of_cloud(text: &[u8]) -> Option<Labels> {
    let known: Value = serde_json::from_slice(text).ok()?;
    let known = known.get("v1")?.as_object()?;
    let label = |name: &&'static str| {
        let value = known.get(*name)?.as_str()?;
        (value.len() <= LABEL_BYTES_MAX && value != "unknown").then_some((*name, value))
    };
    Some(OF_CLOUD.iter().filter_map(label).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_file_is_lines_or_what_cloud_init_knows() {
        let check = |name: &str, text: &str, expect: &str| {
            let labels = parse(Path::new(name), text.as_bytes());
            assert_eq!(labels.map_or_else(|why| why, |labels| labels.to_string()), expect, "{text}");
        };
        check("labels", "# a rack\nrack=12\n\n env = \"test\"\nteam='a=b'\n", r#"{env="test", rack="12", team="a=b"}"#);
        check("labels", "rack=1\nrack=2\nempty=\n", r#"{rack="2"}"#);
        check("labels", "odd=\"", "{odd=\"\\\"\"}");
        check("labels", "rack\n", "line 1 is not KEY=VALUE");
        check("labels", "a=1\njob=x\n", "line 2: `job` is a label that Lapwing sets; `host.instance` renames a host");
        check("labels", &format!("a={}", "x".repeat(257)), "line 1: `a` has more than 256 bytes");
        let cloud = r#"{"ds": {}, "v1": {"cloud_name": "aws", "region": "eu-1", "availability_zone": null,
            "instance_id": "i-1", "platform": "ec2"}}"#;
        check("instance-data.json", cloud, r#"{cloud_name="aws", instance_id="i-1", region="eu-1"}"#);
        check("instance-data.json", r#"{"v1": {"region": "unknown"}}"#, "{}");
        check("instance-data.json", "{\"v1\": ", "has not the form of cloud-init's instance-data.json");
    }

    #[test]
    fn later_files_win_and_the_configuration_over_all() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("first"), "a=1\nb=1\nc=1\n").unwrap();
        fs::write(directory.path().join("second"), "b=2\nc=2\n").unwrap();
        let check = |files: &str, expect: Result<&str, &str>| {
            let text = format!("[host]\nlabels = {{ c = '3' }}\nlabels_from = {files}");
            let layers = Layers { file: Some(("agent.toml", &text)), ..Layers::default() };
            let mut config = Config::read(&layers).unwrap();
            config.roots.rootfs = PathBuf::from(directory.path());
            let labels = read(config, &layers).map(|config| config.labels.to_string());
            assert_eq!(labels.map_err(|error| error.to_string()), expect.map(str::to_owned).map_err(str::to_owned));
        };
        check("['/first', '/no', '/second']", Ok(r#"{a="1", b="2", c="3"}"#));
        fs::write(directory.path().join("second"), "b\n").unwrap();
        check("['/second']", Err("agent.toml, line 3: `host.labels_from` names /second: line 1 is not KEY=VALUE"));
    }
}
