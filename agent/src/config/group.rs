//! How rules name groups of processes, with process-exporter's matchers and names.
//!
//! Differences: the command line that a rule sees has its secrets masked, unless it is shown in full, because what a
//! rule captures becomes a label; a rule sees 8 KiB of it; a process that no rule matches is not left out but belongs to
//! the group of its command, as one does whose command line the kernel does not give yet: groups and `(exited)` sum to
//! the cgroup at each tick.

use common::settings::rule::Expression;
use common::settings::rule::Piece;
use common::settings::rule::Rule;

/// Bytes of a group's name: it is a label of some twenty series.
const GROUP_NAME_BYTES_MAX: usize = 256;

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

/// The name that the first rule gives that matches.
#[must_use]
pub fn group_name(rules: &[Rule], subject: Subject<'_>) -> Option<String> {
    rules.iter().find_map(|rule| name_by(rule, subject))
}

fn name_by(rule: &Rule, subject: Subject<'_>) -> Option<String> {
    let Subject { comm, arguments, .. } = subject;
    if !rule.comm.is_empty() && !rule.comm.iter().any(|wanted| wanted == comm) {
        return None;
    }
    let program = arguments.first().map(String::as_str);
    if !rule.exe.is_empty() && !rule.exe.iter().any(|wanted| program.is_some_and(|program| is(program, wanted))) {
        return None;
    }
    let line = if rule.cmdline.is_empty() { String::new() } else { arguments.join(" ") };
    let captures: Vec<_> = rule.cmdline.iter().map(|Expression(regex)| regex.captures(&line)).collect::<Option<_>>()?;
    let mut name = String::new();
    for piece in &rule.name {
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
    use common::settings::Given;
    use proptest::prelude::*;

    use super::*;

    /// Rules as an aggregator gives them.
    fn read(toml: &str) -> Vec<Rule> {
        Given::read(toml).unwrap().groups.unwrap()
    }

    /// `comm` and, parted by `|`, the arguments.
    #[track_caller]
    fn check(rule: &str, process: (&str, &str), expect: Option<&str>) {
        let rules = read(&format!("[[processes.groups]]\n{rule}"));
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

    proptest! {
        #[test]
        fn no_name_and_no_process_is_too_odd(name: String, argument: String, began: f64) {
            let cmdline = vec!["(?P<a>x?).*".to_owned()];
            let written = toml::toml! { processes = { groups = [{ name = (name), cmdline = (cmdline) }] } };
            if let Ok(given) = Given::read(&written.to_string()) {
                let arguments = [argument];
                let subject = Subject { comm: &arguments[0], arguments: &arguments, user: "", pid: 1, began: Some(began) };
                drop(group_name(&given.groups.unwrap(), subject));
            }
        }
    }
}
