//! Rules about the code itself that neither the compiler nor clippy can check.
#![expect(clippy::unwrap_used, reason = "a tidy test that cannot read the sources should fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each module may use those after it, never those before it.
const ORDER: &[(&str, &[&str])] = &[
    ("agent", &["uplink", "spool", "recorder", "window", "collect", "identify", "mask", "host", "config"]),
    ("aggregator", &["http", "forward", "notify", "alert", "query", "ingest", "receive", "store", "config"]),
];

/// Each heavy dependency has one home. Elsewhere its name must not appear.
const HOMES: &[(&str, &str)] = &[
    ("quinn::", "agent/src/uplink aggregator/src/ingest"),
    ("rusqlite::", "aggregator/src/store"),
    ("snap::", "aggregator/src/receive"),
    ("axum::", "aggregator/src/http"),
    ("parquet::", "aggregator/src/http/prometheus/export"),
    ("reqwest::", "aggregator/src/notify/receiver"),
    (
        "rustix::",
        "agent/src/host common/src/time.rs aggregator/src/ingest aggregator/src/query/turn.rs aggregator/src/store/disk.rs",
    ),
    ("libc::", "agent/src/host aggregator/src/store/memory.rs"),
    ("procfs::", "agent/src/host agent/src/collect"),
    ("sysinfo::", "agent/src/host"),
    ("regex_lite::", "common/src/settings"),
    ("percent_encoding::", "agent/src/config"),
    ("promql_parser::", "aggregator/src/query"),
    ("gotmpl::", "aggregator/src/notify/template aggregator/src/alert/template"),
];

/// What must not grow into the agent: it is small because these are not in it.
const NOT_IN_AGENT: &[&str] = &["rusqlite", "axum", "reqwest", "promql-parser", "regex", "zstd", "parquet"];

/// Words that have no place in sources: they mark what is unfinished, or one machine.
const UNWANTED: &[&str] = &["TODO", "FIXME", "XXX", "/home/", "#[ignore"];

/// Hard limit on a module, tests not counted.
const LINES_MAX: usize = 500;

#[test]
fn modules_point_one_way() {
    for (member, order) in ORDER {
        for file in sources(member) {
            let Some(from) = rank(order, module_of(&file)) else {
                continue;
            };
            for used in modules_used(&read(&file)) {
                if let Some(to) = rank(order, &used) {
                    assert!(from <= to, "{}: must not use crate::{used}", file.display());
                }
            }
        }
    }
}

#[test]
fn imports_are_one_per_line() {
    for file in all_sources() {
        let grouped = read(&file).lines().any(|line| line.contains("crate::{"));
        assert!(!grouped, "{}: split `use crate::{{..}}`; tidy reads it", file.display());
    }
}

#[test]
fn dependencies_stay_home() {
    for file in all_sources() {
        let text = read(&file);
        for (dependency, homes) in HOMES {
            let at_home = homes.split(' ').any(|home| file.to_string_lossy().contains(home));
            assert!(at_home || !text.contains(dependency), "{}: {dependency}", file.display());
        }
    }
}

#[test]
fn modules_are_short() {
    for file in all_sources() {
        let lines = read(&file).lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", file.display());
    }
}

#[test]
fn the_agent_stays_small() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "agent", "-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.starts_with("agent "), "cargo tree printed {tree:?}");
    for dependency in NOT_IN_AGENT {
        let found = tree.lines().any(|line| line.split(' ').next() == Some(dependency));
        assert!(!found, "{dependency} came into the agent");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for file in all_sources() {
        let text = read(&file);
        for word in UNWANTED {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn every_limit_is_documented() {
    let documented = read(&root().join("docs/LIMITS.md"));
    let undocumented: Vec<String> = all_sources()
        .flat_map(|file| limits(&read(&file)).map(ToOwned::to_owned).collect::<Vec<_>>())
        .filter(|limit| !documented.contains(&format!("`{limit}`")))
        .collect();
    assert_eq!(undocumented, Vec::<String>::new(), "not in docs/LIMITS.md");
}

#[test]
fn every_decision_is_listed() {
    let list = read(&root().join("docs/adr/README.md"));
    for entry in fs::read_dir(root().join("docs/adr")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || list.contains(&name), "{name} is not in docs/adr/README.md");
    }
}

/// Names of the constants that end in `_MAX`, tests not counted.
fn limits(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]").filter_map(|line| {
        let declared = line.trim_start().trim_start_matches("pub ").trim_start_matches("(crate) ");
        let name = declared.strip_prefix("const ")?.split(':').next()?;
        name.ends_with("_MAX").then_some(name)
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn all_sources() -> impl Iterator<Item = PathBuf> {
    ["common", "agent", "aggregator"].into_iter().flat_map(sources)
}

fn sources(member: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(member).join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn module_of(file: &Path) -> &str {
    let below_src = file.iter().skip_while(|part| *part != "src").nth(1).unwrap_or_default();
    below_src.to_str().unwrap_or_default().trim_end_matches(".rs")
}

fn modules_used(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("crate::").map(|(at, found)| {
        let rest = &text[at + found.len()..];
        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    })
}

fn rank(order: &[&str], module: &str) -> Option<usize> {
    order.iter().position(|name| *name == module)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
