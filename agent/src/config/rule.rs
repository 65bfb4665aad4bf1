//! Rules that name groups of processes, with process-exporter's matchers and names.
//!
//! Differences: the command line that a rule sees has its secrets masked, unless it is shown in full, because what a
//! rule captures becomes a label; a rule sees 8 KiB of it; a process that no rule matches is not left out but belongs to
//! the group of its command, as one does whose command line the kernel does not give yet: groups and `(exited)` sum to
//! the cgroup at each tick.

use common::config::ConfigError;
use common::config::Layers;
use regex_lite::Regex;
use regex_lite::RegexBuilder;
use serde::Deserialize;
use serde::Serialize;

/// Rules that are looked through for each new process.
pub const GROUP_RULES_MAX: usize = 256;

/// What one compiled expression may take: a hostile command line costs its length times this.
pub const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a group's name: it is a label of some twenty series.
pub const GROUP_NAME_BYTES_MAX: usize = 256;

/// What process-exporter calls a group whose rule gives no name.
const DEFAULT_NAME: &str = "{{.ExeBase}}";

/// A rule as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    comm: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exe: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmdline: Vec<String>,
}

/// What a rule sees of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// Its command, as the kernel has it.
    pub comm: &'a str,
    /// Its arguments, the program first; none of a kernel thread.
    pub arguments: &'a [String],
    /// Name of its user.
    pub user: &'a str,
    /// Its id.
    pub pid: u32,
    /// When it began, in seconds since the epoch.
    pub began: Option<f64>,
}

/// One rule: what a process must be, and how its group is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    comm: Vec<String>,
    exe: Vec<String>,
    cmdline: Vec<Expression>,
    name: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A part of a name.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Comm,
    ExeBase,
    ExeFull,
    Username,
    Pid,
    StartTime,
    /// What an expression captured, by the capture's name.
    Match(String),
}

/// The name that the first rule gives that matches.
#[must_use]
pub fn group_name(rules: &[Rule], subject: Subject<'_>) -> Option<String> {
    rules.iter().find_map(|rule| rule.group_name(subject))
}

/// Reads the rules.
pub(super) fn rules(layers: &Layers<'_>, raw: Vec<RawRule>) -> Result<Vec<Rule>, ConfigError> {
    if GROUP_RULES_MAX < raw.len() {
        return Err(layers.refuse("processes.groups", format!("has more than {GROUP_RULES_MAX} rules")));
    }
    let numbered = raw.into_iter().enumerate();
    numbered.map(|(at, raw)| rule(raw).map_err(|(key, why)| refuse(layers, at, key, &why))).collect()
}

fn refuse(layers: &Layers<'_>, at: usize, key: &str, why: &str) -> ConfigError {
    layers.refuse(format!("processes.groups.{at}.{key}").trim_end_matches('.'), why)
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

    fn group_name(&self, subject: Subject<'_>) -> Option<String> {
        let Subject { comm, arguments, .. } = subject;
        if !self.comm.is_empty() && !self.comm.iter().any(|wanted| wanted == comm) {
            return None;
        }
        let program = arguments.first().map(String::as_str);
        if !self.exe.is_empty() && !self.exe.iter().any(|wanted| program.is_some_and(|program| is(program, wanted))) {
            return None;
        }
        let line = if self.cmdline.is_empty() { String::new() } else { arguments.join(" ") };
        let captures: Vec<_> =
            self.cmdline.iter().map(|Expression(regex)| regex.captures(&line)).collect::<Option<_>>()?;
        let mut name = String::new();
        for piece in &self.name {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Comm => name.push_str(comm),
                Piece::ExeBase => name.push_str(program.map_or(comm, base)),
                Piece::ExeFull => name.push_str(program.unwrap_or(comm)),
                Piece::Username => name.push_str(subject.user),
                Piece::Pid => name.push_str(&subject.pid.to_string()),
                Piece::StartTime => name.push_str(&subject.began.map(date).unwrap_or_default()),
                // Of a capture that several expressions have the last counts.
                Piece::Match(of) => {
                    let found = captures.iter().rev().find_map(|captures| captures.name(of));
                    name.push_str(found.map_or("", |found| found.as_str()));
                }
            }
        }
        Some(label(&name))
    }
}

/// Whether a program is the wanted one: by its whole path if that has a slash, else by what stands behind the last one.
fn is(program: &str, wanted: &str) -> bool {
    if wanted.contains('/') { program == wanted } else { base(program) == wanted }
}

fn base(program: &str) -> &str {
    program.trim_end_matches('/').rsplit('/').next().unwrap_or(program)
}

fn label(name: &str) -> String {
    let end = (0..=GROUP_NAME_BYTES_MAX.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name[..end.unwrap_or(0)].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Seconds since the epoch as Go prints a time, to the second: the moment of boot is not known more exactly.
#[expect(clippy::cast_possible_truncation, reason = "a year that does not fit is not one")]
fn date(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 253_402_300_799.0) as i64;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The years of this calendar begin in March, so that the leap day is the last.
    let era_day = days + 719_468;
    let (era, day) = (era_day / 146_097, era_day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400 + i64::from(10 <= month), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        rules(&layers, raw.processes.groups).map_err(|error| error.to_string())
    }

    /// `comm` and, parted by `|`, the arguments.
    #[track_caller]
    fn check(rule: &str, process: (&str, &str), expect: Option<&str>) {
        let rules = read(&format!("[[processes.groups]]\n{rule}")).unwrap();
        let (comm, arguments) = process;
        let arguments: Vec<_> = arguments.split('|').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        let began = Some(1_508_453_571.19);
        let subject = Subject { comm, arguments: &arguments, user: "www", pid: 23, began };
        assert_eq!(group_name(&rules, subject).as_deref(), expect, "{rule}");
    }

    #[test]
    fn a_command_is_matched_whole() {
        check("comm = ['sh', 'bash']", ("bash", "-bash"), Some("-bash"));
        check("comm = ['bas']", ("bash", "bash"), None);
        check("comm = ['kthreadd']", ("kthreadd", ""), Some("kthreadd"));
    }

    #[test]
    fn a_program_is_matched_by_its_path_if_the_rule_has_one() {
        check("exe = ['bash']", ("bash", "/bin/bash"), Some("bash"));
        check("exe = ['sh']", ("sh", "sh"), Some("sh"));
        check("exe = ['/bin/ksh']", ("ksh", "/bin/ksh"), Some("ksh"));
        check("exe = ['/bin/ksh']", ("ksh", "ksh"), None);
        check("exe = ['sh']", ("bash", "/bin/bash"), None);
        check("exe = ['sh']", ("sh", ""), None);
        check("exe = ['sh', 'bash']", ("bash", "/bin/bash/"), Some("bash"));
    }

    #[test]
    fn all_expressions_and_all_kinds_must_match() {
        check("cmdline = ['-a', '-b']", ("x", "x|-b|-a"), Some("x"));
        check("cmdline = ['-a', '-b']", ("x", "x|-a"), None);
        check("cmdline = ['^x -a$']", ("x", "x|-a"), Some("x"));
        check("comm = ['x']\ncmdline = ['-a']", ("y", "x|-a"), None);
        check("comm = ['x']\nexe = ['y']", ("x", "y"), Some("y"));
        check("comm = ['x']\nexe = ['y']", ("x", "x"), None);
    }

    #[test]
    fn names_are_put_together() {
        let postgres = r"exe = ['postmaster']
            cmdline = ['-D\s+.+?(?P<Path>[^/]+)(?:$|\s)']
            name = '{{.ExeBase}}:{{.Matches.Path}}'";
        check(postgres, ("postmaster", "/usr/bin/postmaster|-D|/data/pg"), Some("postmaster:pg"));
        check("exe = ['x']\nname = '{{.ExeFull}}:{{.PID}}'", ("x", "/bin/x"), Some("/bin/x:23"));
        check("comm = ['x']\nname = '{{ .StartTime }}'", ("x", "x"), Some("2017-10-19 22:52:51 +0000 UTC"));
        check("comm = ['x']\nname = '{{.Comm}} of {{.Username}}}'", ("x", "y"), Some("x of www}"));
        check("cmdline = ['(?P<A>a)|(?P<B>b)']\nname = '<{{.Matches.A}}{{.Matches.B}}>'", ("x", "b"), Some("<b>"));
        check("cmdline = ['(?P<A>.+)']\nname = '{{.Matches.A}}'", ("x", "a\nb\u{1b}"), Some("a"));
        check("comm = ['x']\nname = '{{.ExeFull}}'", ("x", "a\nb\u{1b}"), Some("a b "));
        let long = "é".repeat(GROUP_NAME_BYTES_MAX);
        check("comm = ['x']", ("x", &long), Some(&long[..GROUP_NAME_BYTES_MAX]));
    }

    #[test]
    fn the_first_rule_that_matches_names_the_group() {
        let rules =
            read("[[processes.groups]]\ncomm = ['a']\nname = '1'\n[[processes.groups]]\ncomm = ['a', 'b']\nname = '2'");
        let rules = rules.unwrap();
        let name = |comm| group_name(&rules, Subject { comm, ..Subject::default() });
        assert_eq!(["a", "b", "c"].map(name), [Some("1".to_owned()), Some("2".to_owned()), None]);
    }

    #[test]
    fn dates() {
        let check = |seconds: f64, expect: &str| assert_eq!(date(seconds), format!("{expect} +0000 UTC"));
        check(0.0, "1970-01-01 00:00:00");
        check(951_782_399.9, "2000-02-28 23:59:59");
        check(951_782_400.0, "2000-02-29 00:00:00");
        check(1_709_251_199.0, "2024-02-29 23:59:59");
        check(1_709_251_200.0, "2024-03-01 00:00:00");
        check(4_107_542_400.0, "2100-03-01 00:00:00");
        check(1_798_761_599.0, "2026-12-31 23:59:59");
        check(f64::NAN, "1970-01-01 00:00:00");
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

    proptest! {
        #[test]
        fn no_name_and_no_process_is_too_odd(name: String, argument: String, began: f64) {
            let raw = RawRule { name, cmdline: vec!["(?P<a>x?).*".to_owned()], ..RawRule::default() };
            if let Ok(rule) = rule(raw) {
                let arguments = [argument];
                let subject = Subject { comm: &arguments[0], arguments: &arguments, user: "", pid: 1, began: Some(began) };
                rule.group_name(subject);
            }
        }
    }
}
