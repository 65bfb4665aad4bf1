//! Matchers as Alertmanager's file writes them: `severity="page"`, `team=~"x|y"`.

use std::fmt;

use common::metric::Labels;
use regex::Regex;

/// One condition on a label. A missing label is an empty one.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    value: String,
    op: Op,
    /// For the two that ask for a pattern; anchored at both ends.
    pattern: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Op {
    Equal,
    NotEqual,
    Match,
    NoMatch,
}

/// Longer operators first: `=` begins `=~`.
const OPS: [(&str, Op); 4] = [("=~", Op::Match), ("!~", Op::NoMatch), ("!=", Op::NotEqual), ("=", Op::Equal)];

impl Matcher {
    /// `name = value`, as `match` writes it.
    #[must_use]
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned(), op: Op::Equal, pattern: None }
    }

    /// `name =~ pattern`, as `match_re` writes it.
    ///
    /// # Errors
    /// When the pattern is none.
    pub fn pattern(name: &str, pattern: &str) -> Result<Self, String> {
        Self::new(name, Op::Match, pattern.to_owned())
    }

    /// Reads one or more matchers, separated by commas, with or without braces around them.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
        split(inner).into_iter().filter(|part| !part.trim().is_empty()).map(parse).collect()
    }

    /// Whether these labels fulfil it.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name);
        let fits = self.pattern.as_ref().map_or(value == self.value, |pattern| pattern.is_match(value));
        fits == matches!(self.op, Op::Equal | Op::Match)
    }

    fn new(name: &str, op: Op, value: String) -> Result<Self, String> {
        let pattern = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Match | Op::NoMatch => Some(Regex::new(&format!("^(?:{value})$")).map_err(|error| {
                let last = error.to_string();
                format!("{value:?} is not a regular expression: {}", last.lines().last().unwrap_or_default())
            })?),
        };
        Ok(Self { name: name.to_owned(), value, op, pattern })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = OPS.iter().find(|(_, op)| *op == self.op).map_or("=", |(text, _)| text);
        let value = self.value.replace('\\', r"\\").replace('\n', r"\n").replace('"', r#"\""#);
        write!(f, "{}{op}\"{value}\"", self.name)
    }
}

/// Matchers in the order in which Alertmanager prints them, in braces.
#[must_use]
pub fn canonical(matchers: &[Matcher]) -> String {
    let mut sorted: Vec<&Matcher> = matchers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
    let shown: Vec<String> = sorted.into_iter().map(ToString::to_string).collect();
    format!("{{{}}}", shown.join(","))
}

fn parse(text: &str) -> Result<Matcher, String> {
    let complaint = || format!("{text:?} is not a matcher such as severity=\"page\" or team=~\"a|b\"");
    let at = text.find(['=', '!']).ok_or_else(complaint)?;
    let (name, rest) = (text[..at].trim(), &text[at..]);
    let (symbol, op) = OPS.iter().find(|(symbol, _)| rest.starts_with(symbol)).ok_or_else(complaint)?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(letters) {
        return Err(complaint());
    }
    let value = rest[symbol.len()..].trim();
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    if unquoted.is_none() && value.contains('"') {
        return Err(complaint());
    }
    Matcher::new(name, *op, unescape(unquoted.unwrap_or(value)))
}

/// Splits at commas outside quotes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.push(&text[from..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, false) => out.push(letter),
            (_, true) => match letters.next() {
                Some('n') => out.push('\n'),
                Some(known @ ('"' | '\\')) => out.push(known),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_alertmanager_does() {
        let labels: Labels = [("severity", "page"), ("team", "x")].into_iter().collect();
        let check = |text: &str, expect: bool| {
            let matchers = Matcher::parse_all(text).unwrap();
            assert_eq!(matchers.iter().all(|matcher| matcher.matches(&labels)), expect, "{text}");
        };
        check("severity=page", true);
        check(r#"severity = "page""#, true);
        check(r#"{severity="page", team=~"x|y"}"#, true);
        check(r#"team=~"""#, false);
        check(r#"team=~"xx?""#, true);
        check(r#"team!~"x.*""#, false);
        check(r#"severity!="page""#, false);
        check(r#"nope="""#, true);
        check(r#"nope=~".+""#, false);
        check("", true);
    }

    #[test]
    fn prints_as_alertmanager_does() {
        let check = |text: &str, expect: &str| assert_eq!(canonical(&Matcher::parse_all(text).unwrap()), expect);
        check(r#"team=~"x|y", severity=page"#, r#"{severity="page",team=~"x|y"}"#);
        check(r#"a="q\"u,o\\te""#, r#"{a="q\"u,o\\te"}"#);
        check("", "{}");
    }

    #[test]
    fn refuses_what_is_no_matcher() {
        for text in ["severity", "=page", r#"a="b"#, "a=~(", "a-b=c", "a!b"] {
            assert!(Matcher::parse_all(text).is_err(), "{text}");
        }
    }
}
