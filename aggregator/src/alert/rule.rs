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
use serde_saphyr::Spanned;

use crate::alert::duration;
use crate::alert::template::Template;
use crate::alert::written::RawFile;
use crate::alert::written::RawGroup;
use crate::alert::written::RawRule;
use crate::alert::written::Sieved;
use crate::alert::written::Text;
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

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where, counted from 1, if a place can be named.
    pub line: Option<u64>,
    /// In which group and which of its rules, by their names or numbers, if it is in one.
    pub within: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.within.is_empty() {
            write!(f, "{}: ", self.within)?;
        }
        f.write_str(&self.what)
    }
}

/// Most things wrong with a file that are told.
const RULE_ERRORS_MAX: usize = 100;

/// Those of them that are told in one sentence.
const RULE_ERRORS_IN_SENTENCE_MAX: usize = 5;

/// Why a file holds no rules: at least one thing for each rule that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleErrors {
    told: Vec<RuleError>,
    untold: usize,
}

impl RuleErrors {
    /// One after the other, as the file has them.
    pub fn iter(&self) -> impl Iterator<Item = &RuleError> {
        self.told.iter()
    }

    /// How many there are besides.
    #[must_use]
    pub const fn untold(&self) -> usize {
        self.untold
    }

    fn one(error: RuleError) -> Self {
        Self { told: vec![error], untold: 0 }
    }
}

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.told.iter().take(RULE_ERRORS_IN_SENTENCE_MAX).map(RuleError::to_string).collect();
        f.write_str(&shown.join("; "))?;
        match self.told.len() + self.untold - shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more, see `lapwing-aggregator rules check`"),
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
/// What is wrong, with the lines. Where the text is not YAML, or a value is of another form, only the first thing.
pub fn parse(text: &str) -> Result<RuleFile, RuleErrors> {
    if RULE_FILE_BYTES_MAX < text.len() {
        let what = format!("the file is longer than {RULE_FILE_BYTES_MAX} bytes: split it");
        return Err(RuleErrors::one(RuleError { line: None, within: String::new(), what }));
    }
    let raw: Option<Sieved<RawFile>> =
        serde_saphyr::from_str(text).map_err(|error| RuleErrors::one(not_yaml(&error)))?;
    let Sieved { known, unknown } = raw.unwrap_or_default();
    let mut errors = Errors::default();
    errors.unknown(unknown);
    let mut names = BTreeSet::new();
    let mut groups = Vec::new();
    for (at, raw) in known.groups.unwrap_or_default().into_iter().enumerate() {
        errors.within = format!("group {}", called(raw.value.known.name.as_ref(), at));
        if let Some(name) = raw.value.known.name.as_ref().filter(|name| !names.insert(name.value.clone())) {
            errors.add(name, "it is there twice");
        }
        groups.extend(group(raw, &mut errors));
    }
    errors.end(RuleFile { groups })
}

/// What is wrong so far, and where one looks.
#[derive(Default)]
struct Errors {
    found: Vec<RuleError>,
    more: usize,
    within: String,
}

impl Errors {
    fn add<T>(&mut self, place: &Spanned<T>, what: impl Into<String>) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let line = place.referenced.line();
        let error = RuleError {
            line: (line != 0).then_some(line),
            within: self.within.clone(),
            what: first_line(&what.into()),
        };
        self.found.push(error);
    }

    /// Whether what is found besides is only counted.
    const fn is_full(&self) -> bool {
        self.found.len() == RULE_ERRORS_MAX
    }

    fn unknown(&mut self, keys: Vec<Text>) {
        for key in keys {
            self.add(&key, key.value.as_str());
        }
    }

    fn duration(&mut self, written: Option<&Text>) -> Option<Duration> {
        let written = written?;
        duration::parse(&written.value).map_err(|what| self.add(written, what)).ok()
    }

    fn end<T>(mut self, good: T) -> Result<T, RuleErrors> {
        self.found.sort_by_key(|error| error.line);
        if self.found.is_empty() { Ok(good) } else { Err(RuleErrors { told: self.found, untold: self.more }) }
    }
}

/// What a group or a rule is called in errors: by its name, or its number.
fn called(name: Option<&Text>, at: usize) -> String {
    name.filter(|name| !name.value.is_empty()).map_or_else(|| (at + 1).to_string(), |name| format!("{:?}", name.value))
}

fn group(raw: Spanned<Sieved<RawGroup>>, errors: &mut Errors) -> Option<Group> {
    let name = raw.value.known.name.clone().filter(|name| !name.value.is_empty());
    if name.is_none() {
        errors.add(&raw, "a group needs a name");
    }
    let Sieved { known: raw, unknown } = raw.value;
    errors.unknown(unknown);
    let interval = errors.duration(raw.interval.as_ref());
    if let Some((written, interval)) = raw.interval.as_ref().zip(interval)
        && (interval.is_zero() || interval.subsec_nanos() != 0)
    {
        errors.add(written, "an interval is a whole number of seconds, at least one");
    }
    let query_offset = errors.duration(raw.query_offset.as_ref()).unwrap_or_default();
    let within = errors.within.clone();
    let mut rules = Vec::new();
    for (at, mut rule) in raw.rules.unwrap_or_default().into_iter().enumerate() {
        let known = &mut rule.value.known;
        for (name, value) in &raw.labels {
            known.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        errors.within = format!("{within}, rule {}", called(known.alert.as_ref().or(known.record.as_ref()), at));
        rules.extend(self::rule(rule, errors).map(Arc::new));
    }
    Some(Group { name: name?.value.into(), interval, limit: raw.limit, query_offset, rules })
}

fn rule(raw: Spanned<Sieved<RawRule>>, errors: &mut Errors) -> Option<Rule> {
    for (key, is_missing) in [
        ("a name: `alert` or `record`", raw.value.known.alert.is_none() && raw.value.known.record.is_none()),
        ("`expr`", raw.value.known.expr.is_none()),
    ] {
        if is_missing {
            errors.add(&raw, format!("a rule needs {key}"));
        }
    }
    let Sieved { known: raw, unknown } = raw.value;
    errors.unknown(unknown);
    let alerting = raw.alert.is_some();
    let name = raw.alert.as_ref().or(raw.record.as_ref());
    if let Some(name) = name {
        if alerting && raw.record.is_some() {
            errors.add(name, "a rule has either `alert` or `record`, this one has both");
        }
        if name.value.is_empty() || (!alerting && !METRIC_NAME.is_match(&name.value)) {
            errors.add(name, format!("{:?} is not a name that a rule can have", name.value));
        }
        let of_alerts = raw.hold_for.is_some() || raw.keep_firing_for.is_some() || !raw.annotations.is_empty();
        if !alerting && of_alerts {
            errors.add(name, "`for`, `keep_firing_for` and `annotations` belong to alerts, not to `record`");
        }
    }
    let expr = raw.expr.as_ref().and_then(|written| {
        if errors.is_full() && !query::is_query(&written.value) {
            errors.add(written, "");
            return None;
        }
        let parsed = query::parse(&written.value);
        parsed.map_err(|error| errors.add(written, error.to_string())).ok()
    });
    let hold_for = errors.duration(raw.hold_for.as_ref()).unwrap_or_default();
    let keep_firing_for = errors.duration(raw.keep_firing_for.as_ref()).unwrap_or_default();
    let labels = templates(raw.labels, errors);
    let annotations = templates(raw.annotations, errors);
    let text: Arc<str> = raw.expr?.value.trim().into();
    let holds = !asks_about_silence(&text);
    let alert = Alerting { hold_for, keep_firing_for, annotations, holds };
    let kind = if alerting { Kind::Alerting(alert) } else { Kind::Recording };
    Some(Rule { name: name?.value.as_str().into(), expr: expr?, text, labels, kind })
}

fn templates(raw: BTreeMap<String, Text>, errors: &mut Errors) -> Vec<Templated> {
    let mut templates = Vec::new();
    for (name, value) in raw {
        if name == NAME || !LABEL_NAME.is_match(&name) {
            errors.add(&value, format!("{name:?} is not a name that a label or an annotation can have"));
            continue;
        }
        match Template::parse(&value.value) {
            Ok(template) => templates.push(Templated { name: name.into(), text: value.value.into(), template }),
            Err(error) => errors.add(&value, format!("{name:?}: {error}")),
        }
    }
    templates
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

/// The YAML parser ends its sentence with the place, which stands before ours.
fn not_yaml(error: &serde_saphyr::Error) -> RuleError {
    let what = first_line(&error.without_snippet().to_string());
    let within = String::new();
    let Some(location) = error.location() else { return RuleError { line: None, within, what } };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    RuleError { line: Some(location.line()), within, what: what.strip_suffix(&place).unwrap_or(&what).to_owned() }
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
        let errors = parse(&format!("{HEAD}{rule}")).unwrap_err();
        let error = errors.iter().find(|error| error.line == Some(line)).expect("an error there");
        assert!(error.to_string().contains(what), "{error}");
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
    fn a_rule_may_share_what_another_says() {
        let shared = "  - &a\n    alert: A\n    expr: up\n    labels: {b: c}\n  - <<: *a\n    alert: B\n";
        let file = parse(&format!("{HEAD}{shared}")).unwrap();
        let rules = file.groups[0].rules.iter();
        let told: Vec<_> = rules.map(|rule| format!("{} {}", rule.name, rule.labels_written())).collect();
        assert_eq!(told, [r#"A {b="c"}"#, r#"B {b="c"}"#]);
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
    fn all_that_is_wrong_is_told() {
        let text = "groups:\n- name: g\n  interval: 1ms\n  rules:\n  - alert: A\n    exp: up\n    for: soon\n  \
                    - alert: B\n    expr: up ==\n    labels: {a-b: c}\n    annotations: {a: '{{ nofunc }}'}\n  - expr: up\n  \
                    - alert: C\n    expr: up\n- interval: 1m\n  rules:\n  - record: a b\n    expr: sum(\n    \
                    annotation:\n      a: b\nrule: []\n";
        let errors = parse(text).unwrap_err();
        let told: Vec<_> = errors.iter().map(|error| error.to_string()).collect();
        let expect = [
            "line 3: group \"g\": an interval is a whole number of seconds",
            "line 5: group \"g\", rule \"A\": a rule needs `expr`",
            "line 6: group \"g\", rule \"A\": unknown key `exp`, did you mean `expr`?",
            "line 7: group \"g\", rule \"A\": \"soon\" is not a duration",
            "line 9: group \"g\", rule \"B\": ",
            "line 10: group \"g\", rule \"B\": \"a-b\" is not a name",
            "line 11: group \"g\", rule \"B\": \"a\": ",
            "line 12: group \"g\", rule 3: a rule needs a name",
            "line 15: group 2: a group needs a name",
            "line 17: group 2, rule \"a b\": \"a b\" is not a name",
            "line 18: group 2, rule \"a b\": ",
            "line 19: group 2, rule \"a b\": unknown key `annotation`, did you mean `annotations`?",
            "line 21: unknown key `rule`, known are groups",
        ];
        assert_eq!(told.len(), expect.len(), "{told:#?}");
        for (told, expect) in told.iter().zip(expect) {
            assert!(told.starts_with(expect), "{told}");
        }
        let sentence = errors.to_string();
        assert!(sentence.ends_with("; and 8 more, see `lapwing-aggregator rules check`"), "{sentence}");
        assert_eq!(sentence.lines().count(), 1);
    }

    #[test]
    fn what_is_told_has_an_end() {
        for rule in ["  - expr: up\n", "  - alert: A\n    expr: up up\n"] {
            let errors = parse(&format!("{HEAD}{}", rule.repeat(RULE_ERRORS_MAX + 2))).unwrap_err();
            assert_eq!((errors.iter().count(), errors.untold()), (RULE_ERRORS_MAX, 2));
        }
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
