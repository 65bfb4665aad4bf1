//! How both programs read their configuration: command line over environment over file over default. Pure: text in,
//! the value or an error that names the place out.
//!
//! The type that a configuration is read into has a default for every key and refuses unknown ones
//! (`#[serde(default, deny_unknown_fields)]` on each of its structs).

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Table;
use toml::Value;
use toml::de::DeTable;

/// What the names of environment variables begin with: `LAPWING__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "LAPWING__";

/// What stands for a secret where a configuration is printed.
pub const NOT_SHOWN: &str = "(not shown)";

/// Where values come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// Name and text of the file, if there is one.
    pub file: Option<(&'a str, &'a str)>,
    /// Names and values of environment variables; those with other names are not looked at.
    pub environment: Vec<(String, String)>,
    /// What the command line sets: dotted key and value.
    pub command_line: Vec<(&'static str, Value)>,
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    place: Place,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File { name: String, line: usize },
    Environment(String),
    CommandLine(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}, line {line}"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::CommandLine(key) => write!(f, "command line, {key}"),
        }
    }
}

impl Layers<'_> {
    /// Puts the layers over each other.
    ///
    /// # Errors
    /// The first key that is unknown or whose value does not fit, with the place where it is written.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut merged = self.file::<T>()?;
        for (variable, text) in &self.environment {
            if let Some(path) = variable.strip_prefix(ENVIRONMENT_PREFIX) {
                let path = path.to_lowercase();
                let keys: Vec<&str> = path.split("__").collect();
                let table = environment_value::<T>(&keys, text)
                    .map_err(|message| ConfigError { place: Place::Environment(variable.clone()), message })?;
                merge(&mut merged, table);
            }
        }
        for (key, value) in &self.command_line {
            let keys: Vec<&str> = key.split('.').collect();
            let table = nest(&keys, value.clone());
            fits::<T>(table.clone())
                .map_err(|error| ConfigError { place: Place::CommandLine(key), message: explain(&error) })?;
            merge(&mut merged, table);
        }
        // Each layer fits by itself and every key has a default, so together they fit too.
        merged.try_into().map_err(|error| ConfigError { place: self.whole(), message: explain(&error) })
    }

    /// The error that says that a value, which has the right form, means nothing: `key` is dotted, `uplink.aggregator`, and counts items of a list from 0,
    /// `processes.groups.0.name`.
    #[must_use]
    pub fn refuse(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let line = self.command_line.iter().find(|(set, _)| *set == key).map(|(set, _)| Place::CommandLine(set));
        let place = line.or_else(|| self.environment_place(key)).unwrap_or_else(|| self.file_place(key));
        ConfigError { place, message: format!("`{key}` {}", message.into()) }
    }

    fn environment_place(&self, key: &str) -> Option<Place> {
        let wanted = key.to_lowercase().replace('.', "__");
        let named = |variable: &str| variable.strip_prefix(ENVIRONMENT_PREFIX).map(str::to_lowercase);
        let (variable, _) = self.environment.iter().find(|(variable, _)| named(variable).as_ref() == Some(&wanted))?;
        Some(Place::Environment(variable.clone()))
    }

    fn file_place(&self, key: &str) -> Place {
        let (name, text) = self.file.unwrap_or(("default", ""));
        // Where the key is not written, its section is.
        let offset = DeTable::parse(text).ok().and_then(|table| {
            let mut keys = key.split('.');
            let (at, mut value) = table.get_ref().get_key_value(keys.next()?)?;
            let mut offset = at.span().start;
            for key in keys {
                let (within, item) = (value.get_ref(), key.parse::<usize>().ok());
                let found = match item.zip(within.as_array()) {
                    Some((item, items)) => items.get(item).map(|it| (it.span().start, it)),
                    None => within
                        .as_table()
                        .and_then(|table| table.get_key_value(key))
                        .map(|(at, it)| (at.span().start, it)),
                };
                let Some((at, item)) = found else { break };
                (offset, value) = (at, item);
            }
            Some(offset)
        });
        Place::File { name: name.to_owned(), line: line(text, offset.unwrap_or(0)) }
    }

    fn file<T: DeserializeOwned>(&self) -> Result<Table, ConfigError> {
        let Some((name, text)) = self.file else {
            return Ok(Table::new());
        };
        let fail = |error: toml::de::Error| ConfigError {
            place: Place::File { name: name.to_owned(), line: line(text, error.span().map_or(0, |span| span.start)) },
            message: explain(&error),
        };
        toml::from_str::<T>(text).map_err(fail)?;
        toml::from_str(text).map_err(fail)
    }

    fn whole(&self) -> Place {
        Place::File { name: self.file.map_or("configuration", |(name, _)| name).to_owned(), line: 1 }
    }
}

/// An address as it may be shown: without the name and the password that may stand before its host.
#[must_use]
pub fn without_user(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    // A password may have a slash in it, though it should not: all before the last `@` goes.
    let host = url[begin..].rfind('@').map_or(begin, |at| begin + at + 1);
    format!("{}{}", &url[..begin], &url[host..])
}

/// The value as TOML where that fits (`8`, `true`, `["a"]`), otherwise as the plain text that it is.
fn environment_value<T: DeserializeOwned>(keys: &[&str], text: &str) -> Result<Table, String> {
    let literal = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    if let Some(value) = literal {
        let table = nest(keys, value);
        if fits::<T>(table.clone()).is_ok() {
            return Ok(table);
        }
    }
    let table = nest(keys, Value::String(text.to_owned()));
    fits::<T>(table.clone()).map_err(|error| explain(&error))?;
    Ok(table)
}

fn nest(keys: &[&str], value: Value) -> Table {
    let mut value = value;
    for key in keys.iter().skip(1).rev() {
        value = Value::Table(Table::from_iter([((*key).to_owned(), value)]));
    }
    Table::from_iter([(keys.first().copied().unwrap_or_default().to_owned(), value)])
}

fn fits<T: DeserializeOwned>(table: Table) -> Result<(), toml::de::Error> {
    table.try_into::<T>().map(drop)
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// What serde says, and for an unknown key the known one that was probably meant.
fn explain(error: &toml::de::Error) -> String {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((key, known)) if message.starts_with("unknown field") => unknown_key(key, known),
        Some((value, known)) if message.starts_with("unknown variant") => {
            format!("unknown value `{value}`{}", meant(value, known))
        }
        _ => message.to_owned(),
    }
}

/// What to say of a key that is none of the known ones.
#[must_use]
pub fn unknown_key(key: &str, known: &[&str]) -> String {
    format!("unknown key `{key}`{}", meant(key, known))
}

fn meant(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(meant) => format!(", did you mean `{meant}`?"),
        None if known.is_empty() => String::new(),
        None => format!(", known are {}", known.join(", ")),
    }
}

/// The known word that takes the fewest edits to reach, if those are few enough for a slip of the fingers.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, meant) = known.iter().map(|known| (edits(word, known), *known)).min()?;
    (edits <= word.chars().count().div_ceil(3)).then_some(meant)
}

/// Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (at, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        uplink: Uplink,
        labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Uplink {
        aggregator: String,
        retries: u32,
        mode: Mode,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Full,
        Masked,
    }

    fn read(
        file: Option<&str>,
        environment: &[(&str, &str)],
        line: Vec<(&'static str, Value)>,
    ) -> Result<Config, String> {
        let layers = Layers {
            file: file.map(|text| ("agent.toml", text)),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            command_line: line,
        };
        layers.read().map_err(|error| error.to_string())
    }

    #[test]
    fn the_stronger_layer_wins_key_by_key() {
        let file = "[uplink]\naggregator = 'file'\nretries = 1\n[labels]\nenv = 'test'";
        let environment = [("LAPWING__UPLINK__RETRIES", "2"), ("LAPWING__LABELS__TEAM", "7"), ("PATH", "/bin")];
        let line = vec![("uplink.aggregator", Value::from("line"))];
        let config = read(Some(file), &environment, line).unwrap();
        let labels = [("env", "test"), ("team", "7")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let uplink = Uplink { aggregator: "line".to_owned(), retries: 2, mode: Mode::Full };
        assert_eq!(config, Config { uplink, labels: labels.into() });
        assert_eq!(read(None, &[], vec![]).unwrap(), Config::default());
    }

    #[test]
    fn an_address_is_shown_without_its_user() {
        let check = |url, expect| assert_eq!(without_user(url), expect);
        check("http://a:1", "http://a:1");
        check("http://u:p@a:1/x", "http://a:1/x");
        check("http://u:p@ss@a:1", "http://a:1");
        check("http://u:p/ss@a:1", "http://a:1");
        check("https://a/x?mail=b@c", "https://c");
        check("u:p@a", "a");
        check("", "");
    }

    #[test]
    fn a_refused_value_is_named_where_it_was_set() {
        let mut layers =
            Layers { file: Some(("agent.toml", "[uplink]\nretries = 1\n\naggregator = ''")), ..Layers::default() };
        let check = |layers: &Layers<'_>, expect: &str| {
            assert_eq!(layers.refuse("uplink.aggregator", "is empty").to_string(), expect);
        };
        check(&layers, "agent.toml, line 4: `uplink.aggregator` is empty");
        assert_eq!(layers.refuse("uplink.mode", "is").to_string(), "agent.toml, line 1: `uplink.mode` is");
        layers.environment.push(("LAPWING__UPLINK__AGGREGATOR".to_owned(), String::new()));
        check(&layers, "environment variable LAPWING__UPLINK__AGGREGATOR: `uplink.aggregator` is empty");
        layers.command_line.push(("uplink.aggregator", Value::from("")));
        check(&layers, "command line, uplink.aggregator: `uplink.aggregator` is empty");
    }

    #[test]
    fn an_error_names_its_place_and_what_was_meant() {
        let file = |text: &str, expect: &str| assert_eq!(read(Some(text), &[], vec![]).unwrap_err(), expect);
        file("\n[uplink]\nretrys = 1", "agent.toml, line 3: unknown key `retrys`, did you mean `retries`?");
        file("[uplnk]\n", "agent.toml, line 1: unknown key `uplnk`, did you mean `uplink`?");
        file("[colour]\n", "agent.toml, line 1: unknown key `colour`, known are uplink, labels");
        file("[uplink]\n\nmode = 'mask'", "agent.toml, line 3: unknown value `mask`, did you mean `masked`?");
        file("[uplink]\nretries = -1", "agent.toml, line 2: invalid value: integer `-1`, expected u32");
        file("[uplink\n", "agent.toml, line 1: unclosed table, expected `]`");
        let environment = |name: &str, value: &str, expect: &str| {
            assert_eq!(read(None, &[(name, value)], vec![]).unwrap_err(), expect);
        };
        environment(
            "LAPWING__UPLINK__RETRIS",
            "1",
            "environment variable LAPWING__UPLINK__RETRIS: unknown key `retris`, did you mean `retries`?",
        );
        environment(
            "LAPWING__UPLINK__RETRIES",
            "many",
            "environment variable LAPWING__UPLINK__RETRIES: invalid type: string \"many\", expected u32",
        );
        environment(
            "LAPWING__UPLINK",
            "x",
            "environment variable LAPWING__UPLINK: invalid type: string \"x\", expected struct Uplink",
        );
        let line = read(None, &[], vec![("uplink.retries", Value::from("x"))]).unwrap_err();
        assert_eq!(line, "command line, uplink.retries: invalid type: string \"x\", expected u32");
    }
}
