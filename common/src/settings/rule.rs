//! Rules that name groups of processes, as process-exporter writes them.

use crate::config::ConfigError;
use crate::config::Layers;
use regex_lite::Regex;
use regex_lite::RegexBuilder;
use serde::Deserialize;
use serde::Serialize;

/// Rules that are looked through for each new process.
pub const GROUP_RULES_MAX: usize = 256;

/// What one compiled expression may take: a hostile command line costs its length times this.
pub const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

/// What process-exporter calls a group whose rule gives no name.
const DEFAULT_NAME: &str = "{{.ExeBase}}";

/// A rule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRule {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    comm: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exe: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmdline: Vec<String>,
}

/// One rule: what a process must be, and how its group is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its command is one of these.
    pub comm: Vec<String>,
    /// Its program is one of these.
    pub exe: Vec<String>,
    /// Its command line has all of these.
    pub cmdline: Vec<Expression>,
    /// How its group is called.
    pub name: Vec<Piece>,
}

/// An expression over a command line.
#[derive(Clone, Debug)]
pub struct Expression(pub Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A part of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// As it stands there.
    Text(String),
    /// The command.
    Comm,
    /// The program without its path.
    ExeBase,
    /// The program.
    ExeFull,
    /// The user.
    Username,
    /// The process.
    Pid,
    /// When it began.
    StartTime,
    /// What an expression captured, by the capture's name.
    Match(String),
}

/// Reads the rules that stand at a key.
///
/// # Errors
/// The first of them that is wrong.
pub fn rules(layers: &Layers<'_>, key: &str, raw: Vec<RawRule>) -> Result<Vec<Rule>, ConfigError> {
    if GROUP_RULES_MAX < raw.len() {
        return Err(layers.refuse(key, format!("has more than {GROUP_RULES_MAX} rules")));
    }
    let refuse =
        |at: usize, (of, why): (&str, String)| layers.refuse(format!("{key}.{at}.{of}").trim_end_matches('.'), why);
    raw.into_iter().enumerate().map(|(at, raw)| rule(raw).map_err(|wrong| refuse(at, wrong))).collect()
}

/// A rule that cannot be wrong, or the key that is and why.
fn rule(raw: RawRule) -> Result<Rule, (&'static str, String)> {
    let RawRule { name, comm, exe, cmdline } = raw;
    if comm.is_empty() && exe.is_empty() && cmdline.is_empty() {
        return Err(("", "matches nothing: give it `comm`, `exe` or `cmdline`".to_owned()));
    }
    let expression = |text: &String| {
        let built = RegexBuilder::new(text).size_limit(EXPRESSION_BYTES_MAX).build();
        built.map(Expression).map_err(|error| ("cmdline", format!("has `{text}`: {error}")))
    };
    let cmdline: Vec<_> = cmdline.iter().map(expression).collect::<Result<_, _>>()?;
    let captured: Vec<_> = cmdline.iter().flat_map(|Expression(regex)| regex.capture_names().flatten()).collect();
    let name = pieces(if name.is_empty() { DEFAULT_NAME } else { &name }, &captured).map_err(|why| ("name", why))?;
    Ok(Rule { comm, exe, cmdline, name })
}

/// Takes a name apart: plain text, and what stands in double braces.
fn pieces(name: &str, captured: &[&str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while let Some((text, behind)) = rest.split_once("{{") {
        let Some((value, behind)) = behind.split_once("}}") else {
            return Err(format!("is `{name}`, which has `{{{{` without `}}}}`"));
        };
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(piece(value.trim(), captured)?);
        rest = behind;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

fn piece(value: &str, captured: &[&str]) -> Result<Piece, String> {
    match (value, value.strip_prefix(".Matches.")) {
        (".Comm", _) => Ok(Piece::Comm),
        (".ExeBase", _) => Ok(Piece::ExeBase),
        (".ExeFull", _) => Ok(Piece::ExeFull),
        (".Username", _) => Ok(Piece::Username),
        (".PID", _) => Ok(Piece::Pid),
        (".StartTime", _) => Ok(Piece::StartTime),
        (_, Some(name)) if captured.contains(&name) => Ok(Piece::Match(name.to_owned())),
        (_, Some(name)) => Err(format!("asks for `{name}`, but no `cmdline` of the rule has `(?P<{name}>…)`")),
        _ => Err(format!(
            "asks for `{value}`; known are .Comm .ExeBase .ExeFull .Username .PID .StartTime .Matches.NAME"
        )),
    }
}

impl Rule {
    /// Whether a name has the user in it.
    #[must_use]
    pub fn asks_for_user(&self) -> bool {
        self.name.contains(&Piece::Username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Vec<Rule>, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            processes: Processes,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Processes {
            groups: Vec<RawRule>,
        }
        let layers = Layers { file: Some(("agent.toml", toml)), ..Layers::default() };
        let raw: Raw = layers.read().map_err(|error| error.to_string())?;
        rules(&layers, "processes.groups", raw.processes.groups).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_rule_is_named_with_file_line_and_key() {
        let check = |rule: &str, expect: &str| {
            let text = format!("[processes]\n[[processes.groups]]\ncomm = ['a']\n\n[[processes.groups]]\n{rule}");
            assert_eq!(read(&text).unwrap_err(), expect);
        };
        check(
            "name = 'x'",
            "agent.toml, line 5: `processes.groups.1` matches nothing: give it `comm`, `exe` or `cmdline`",
        );
        check(
            "name = '{{.Exe}}'\ncomm = ['x']",
            "agent.toml, line 6: `processes.groups.1.name` asks for `.Exe`; known are .Comm .ExeBase .ExeFull .Username \
             .PID .StartTime .Matches.NAME",
        );
        check(
            "comm = ['x']\nname = '{{.Comm'",
            "agent.toml, line 7: `processes.groups.1.name` is `{{.Comm`, which has `{{` without `}}`",
        );
        check(
            "cmdline = ['(?P<Path>.)']\nname = '{{.Matches.path}}'",
            "agent.toml, line 7: `processes.groups.1.name` asks for `path`, but no `cmdline` of the rule has \
             `(?P<path>…)`",
        );
        check("command = ['x']", "agent.toml, line 6: unknown key `command`, did you mean `comm`?");
        let error = |rule: &str| read(&format!("\n[[processes.groups]]\n{rule}")).unwrap_err();
        assert!(error("cmdline = ['(']").starts_with("agent.toml, line 3: `processes.groups.0.cmdline` has `(`: "));
        assert!(error("cmdline = ['((a{9}){99}){99}']").contains("size limit"));
        let many = "[[processes.groups]]\ncomm = ['x']\n".repeat(GROUP_RULES_MAX + 1);
        assert!(read(&many).unwrap_err().ends_with("`processes.groups` has more than 256 rules"));
    }
}
