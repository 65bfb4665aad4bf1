//! Rules about the code itself that neither the compiler nor clippy can check.
#![expect(clippy::unwrap_used, reason = "a tidy test that cannot read the sources should fail")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module may use those after it, never those before it.
const ORDER: &[(&str, &[&str])] = &[
    ("agent", &["uplink", "spool", "recorder", "window", "collect", "identify", "host", "config"]),
    ("aggregator", &["http", "notify", "alert", "query", "ingest", "store", "config"]),
];

/// Each heavy dependency has one home. Elsewhere its name must not appear.
const HOMES: &[(&str, &str)] = &[
    ("quinn::", "agent/src/uplink aggregator/src/ingest"),
    ("rusqlite::", "aggregator/src/store"),
    ("axum::", "aggregator/src/http"),
    ("rustix::", "agent/src/host aggregator/src/ingest"),
];

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
