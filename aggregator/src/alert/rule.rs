//! Prometheus rule files: text to rules that cannot be wrong.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use common::metric::Labels;
use common::metric::NAME;
use regex::Regex;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::alert::duration;
use crate::alert::template::Template;
use crate::query;

/// Longest rule file: the largest public collection of rules is a tenth of it.
pub const RULE_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One rule file, understood.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    /// Its groups, in order.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together, in order.
#[derive(Clone, Debug)]
pub struct Group {
    /// Unique in its file.
    pub name: Arc<str>,
    /// How often; `None` leaves it to the configuration.
    pub interval: Option<Duration>,
    /// Most alerts or series that one rule may yield; 0 is no limit.
    pub limit: usize,
    /// How long before the time of evaluation the rules look.
    pub query_offset: Duration,
    /// Its rules, in order.
    pub rules: Vec<Arc<Rule>>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The alert's name, or the recorded metric's.
    pub name: Arc<str>,
    /// What it asks.
    pub expr: query::Expr,
    /// What it asks, as written.
    pub text: Arc<str>,
    /// Labels that it sets.
    pub labels: Vec<Templated>,
    /// What becomes of the answer.
    pub kind: Kind,
}

/// What becomes of a rule's answer.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Each sample is an alert.
    Alerting(Alerting),
    /// Each sample is stored under the rule's name.
    Recording,
}

/// What only alerting rules say.
#[derive(Clone, Debug)]
pub struct Alerting {
    /// How long the expression must hold.
    pub hold_for: Duration,
    /// How long the alert goes on firing when it holds no more.
    pub keep_firing_for: Duration,
    /// What to tell people.
    pub annotations: Vec<Templated>,
    /// Whether a silent host holds the rule's alerts. Not if the rule asks about silence itself.
    pub holds: bool,
}

/// A label or an annotation whose value is a template.
#[derive(Clone)]
pub struct Templated {
    /// Its name.
    pub name: Arc<str>,
    /// Its value as written.
    pub text: Arc<str>,
    /// Its value, parsed.
    pub template: Template,
}

impl fmt::Debug for Templated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.name, self.text)
    }
}

/// Why a file holds no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    /// Where, counted from 1, if a place can be named.
    pub line: Option<u64>,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Rule {
    /// The rule's labels as written.
    #[must_use]
    pub fn labels_written(&self) -> Labels {
        written(&self.labels)
    }

    /// The rule's annotations as written.
    #[must_use]
    pub fn annotations_written(&self) -> Labels {
        match &self.kind {
            Kind::Alerting(alerting) => written(&alerting.annotations),
            Kind::Recording => Labels::new(),
        }
    }
}

fn written(templated: &[Templated]) -> Labels {
    templated.iter().map(|label| (Arc::clone(&label.name), Arc::clone(&label.text))).collect()
}

/// Reads a rule file. Never panics, whatever the text.
///
/// # Errors
/// The first thing that is wrong, and its line.
pub fn parse(text: &str) -> Result<RuleFile, RuleError> {
    if RULE_FILE_BYTES_MAX < text.len() {
        let what = format!("the file is longer than {RULE_FILE_BYTES_MAX} bytes: split it");
        return Err(RuleError { line: None, what });
    }
    let raw: Option<RawFile> = serde_saphyr::from_str(text).map_err(|error| not_yaml(&error))?;
    let mut names = BTreeSet::new();
    let raw_groups = raw.and_then(|raw| raw.groups).unwrap_or_default();
    let groups = raw_groups.into_iter().map(|raw| {
        if !names.insert(raw.name.value.clone()) {
            return Err(wrong(&raw.name, format!("group {:?} is there twice", raw.name.value)));
        }
        group(raw)
    });
    Ok(RuleFile { groups: groups.collect::<Result<_, _>>()? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    groups: Option<Vec<RawGroup>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: Spanned<String>,
    interval: Option<Spanned<String>>,
    query_offset: Option<Spanned<String>>,
    #[serde(default)]
    limit: usize,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
    rules: Option<Vec<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    alert: Option<Spanned<String>>,
    record: Option<Spanned<String>>,
    expr: Spanned<String>,
    #[serde(rename = "for")]
    hold_for: Option<Spanned<String>>,
    keep_firing_for: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    annotations: BTreeMap<String, Spanned<String>>,
}

fn group(raw: RawGroup) -> Result<Group, RuleError> {
    if raw.name.value.is_empty() {
        return Err(wrong(&raw.name, "a group needs a name"));
    }
    let interval = raw.interval.map(|interval| {
        let parsed = parse_duration(&interval)?;
        if parsed.is_zero() || parsed.subsec_nanos() != 0 {
            return Err(wrong(&interval, "an interval is a whole number of seconds, at least one"));
        }
        Ok(parsed)
    });
    let mut rules = Vec::new();
    for mut rule in raw.rules.unwrap_or_default() {
        for (name, value) in &raw.labels {
            rule.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        rules.push(Arc::new(self::rule(rule)?));
    }
    Ok(Group {
        name: raw.name.value.into(),
        interval: interval.transpose()?,
        limit: raw.limit,
        query_offset: raw.query_offset.as_ref().map(parse_duration).transpose()?.unwrap_or_default(),
        rules,
    })
}

fn rule(raw: RawRule) -> Result<Rule, RuleError> {
    let alerting = raw.alert.is_some();
    let name = match (raw.alert, raw.record) {
        (Some(name), None) | (None, Some(name)) => name,
        (Some(name), Some(_)) => return Err(wrong(&name, "a rule has either `alert` or `record`, this one has both")),
        (None, None) => return Err(wrong(&raw.expr, "a rule needs a name: `alert` or `record`")),
    };
    if name.value.is_empty() || (!alerting && !METRIC_NAME.is_match(&name.value)) {
        return Err(wrong(&name, format!("{:?} is not a name that a rule can have", name.value)));
    }
    let expr =
        query::parse(&raw.expr.value).map_err(|error| wrong(&raw.expr, format!("rule {:?}: {error}", name.value)))?;
    let hold_for = raw.hold_for.as_ref().map(parse_duration).transpose()?;
    let keep_firing_for = raw.keep_firing_for.as_ref().map(parse_duration).transpose()?;
    let text: Arc<str> = raw.expr.value.trim().into();
    let labels = templates(raw.labels)?;
    if !alerting && (hold_for.is_some() || keep_firing_for.is_some() || !raw.annotations.is_empty()) {
        return Err(wrong(&name, "`for`, `keep_firing_for` and `annotations` belong to alerts, not to `record`"));
    }
    let kind = if alerting {
        Kind::Alerting(Alerting {
            hold_for: hold_for.unwrap_or_default(),
            keep_firing_for: keep_firing_for.unwrap_or_default(),
            annotations: templates(raw.annotations)?,
            holds: !asks_about_silence(&text),
        })
    } else {
        Kind::Recording
    };
    Ok(Rule { name: name.value.into(), expr, text, labels, kind })
}

fn templates(raw: BTreeMap<String, Spanned<String>>) -> Result<Vec<Templated>, RuleError> {
    let templates = raw.into_iter().map(|(name, value)| {
        if name == NAME || !LABEL_NAME.is_match(&name) {
            return Err(wrong(&value, format!("{name:?} is not a name that a label or an annotation can have")));
        }
        let template = Template::parse(&value.value).map_err(|error| wrong(&value, format!("{name:?}: {error}")))?;
        Ok(Templated { name: name.into(), text: value.value.into(), template })
    });
    templates.collect()
}

/// Whether an expression selects `up`, or asks what is absent: then that a host is silent is the answer, and no reason to
/// hold it back.
fn asks_about_silence(expr: &str) -> bool {
    static QUOTED: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|#.*"#).ok());
    let code = QUOTED.as_ref().map_or(expr.into(), |quoted| quoted.replace_all(expr, " "));
    let mut words = code.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
    words.any(|word| matches!(word, "up" | "absent" | "absent_over_time"))
}

static METRIC_NAME: LazyLock<Name> = LazyLock::new(|| Name { colons: true });
static LABEL_NAME: LazyLock<Name> = LazyLock::new(|| Name { colons: false });

/// What names look like: letters, digits and `_`, no digit first.
struct Name {
    colons: bool,
}

impl Name {
    fn is_match(&self, name: &str) -> bool {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (self.colons && byte == b':');
        !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(letter)
    }
}

fn parse_duration(raw: &Spanned<String>) -> Result<Duration, RuleError> {
    duration::parse(&raw.value).map_err(|what| wrong(raw, what))
}

fn wrong(place: &Spanned<String>, what: impl Into<String>) -> RuleError {
    let line = place.referenced.line();
    RuleError { line: (line != 0).then_some(line), what: first_line(&what.into()) }
}

/// The YAML parser ends its sentence with the place, which stands before ours.
fn not_yaml(error: &serde_saphyr::Error) -> RuleError {
    let what = first_line(&error.without_snippet().to_string());
    let Some(location) = error.location() else { return RuleError { line: None, what } };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    RuleError { line: Some(location.line()), what: what.strip_suffix(&place).unwrap_or(&what).to_owned() }
}

/// Errors of parsers draw pictures below their first line; a reply has one line.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "groups:\n- name: host\n  rules:\n";

    /// A file with this as its only rule, line 4 on.
    fn check_refused(rule: &str, line: u64, what: &str) {
        let error = parse(&format!("{HEAD}{rule}")).unwrap_err();
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.what.contains(what), "{error}");
        assert!(!error.what.contains(&format!("line {line}")), "the place stands there twice: {error}");
    }

    #[test]
    fn reads_what_prometheus_reads() {
        let text = "groups:\n- name: host\n  interval: 30s\n  limit: 5\n  query_offset: 1m\n  labels: {team: x}\n  rules:\n  \
                    - alert: HighLoad\n    expr: node_load1 > 5\n    for: 5m\n    keep_firing_for: 1m\n    labels: \
                    {severity: page, level: 1}\n    annotations:\n      summary: 'load {{ $value }}'\n  - record: a:b\n    \
                    expr: 1\n- name: empty\n  rules: []\n";
        let file = parse(text).unwrap();
        let group = &file.groups[0];
        assert_eq!((group.interval, group.limit), (Some(Duration::from_secs(30)), 5));
        assert_eq!(group.rules[0].labels_written().to_string(), r#"{level="1", severity="page", team="x"}"#);
        let Kind::Alerting(alerting) = &group.rules[0].kind else { panic!("not an alert") };
        assert_eq!(alerting.hold_for, Duration::from_secs(300));
        assert!(alerting.holds);
        assert!(matches!(group.rules[1].kind, Kind::Recording));
        for nothing in ["", "# only words\n", "groups:\n", "groups: []\n"] {
            assert!(parse(nothing).unwrap().groups.is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn an_error_names_its_line() {
        check_refused("  - alert: A\n    expr: node_load1 >\n", 5, "rule \"A\"");
        check_refused("  - alert: A\n    expr: up\n    for: soon\n", 6, "not a duration");
        check_refused("  - alert: A\n    exp: up\n", 5, "exp");
        check_refused("  - alert: A\n    record: b\n    expr: up\n", 4, "both");
        check_refused("  - expr: up\n", 4, "needs a name");
        check_refused("  - record: b\n    expr: up\n    for: 1m\n", 4, "belong to alerts");
        check_refused("  - alert: A\n    expr: up\n    labels: {a-b: c}\n", 6, "a-b");
        check_refused("  - alert: A\n    expr: up\n    annotations:\n      a: '{{ nofunc }}'\n", 7, "nofunc");
        check_refused("  - alert: A\n    expr: up\n- name: host\n  rules: []\n", 6, "twice");
        check_refused("  - alert: [\n", 4, "");
    }

    #[test]
    fn what_asks_about_silence_is_not_held_by_it() {
        let check = |expr, expect| assert_eq!(asks_about_silence(expr), expect, "{expr}");
        check("up == 0", true);
        check(r#"node_load1 > 5 and on (instance) up{job="node"} == 1"#, true);
        check(r#"absent(node_load1{instance="a"})"#, true);
        check(r#"node_load1{a="up"} > 5"#, false);
        check("speed_up > 5 and up:rate > 1", false);
        check("node_load1 > 5 # not up\n", false);
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in ["\0", "groups", "{", "- - - -", "&a [*a]", "groups: &a\n- *a", "groups: [[[[", "\u{feff}groups:\n"]
        {
            drop(parse(text));
        }
    }
}
