//! The functions of Prometheus' templates, as the engine calls them.
//!
//! `query` and what works on its results is not among them: a rule that says more than its own expression found is
//! refused when it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::FuncMap;
use gotmpl::TemplateError;
use gotmpl::Value;
use gotmpl::ValueFunc;
use regex::Regex;

use crate::alert::duration;
use crate::alert::template::go;
use crate::alert::template::humanize;

/// Prints what an action gave. Not a name that a template can write.
pub(super) const SHOW: &str = "(show)";

/// Looks a field up. Not a name that a template can write.
pub(super) const FIELD: &str = "(field)";

/// Functions that the engine brings along and that behave as Go's.
const BUILTIN: [&str; 15] =
    ["and", "call", "eq", "ge", "gt", "html", "js", "le", "len", "lt", "ne", "not", "or", "slice", "urlquery"];

type Result = std::result::Result<Value, TemplateError>;
type Function = fn(&[Value]) -> Result;

const OURS: [(&str, Function); 26] = [
    (SHOW, show),
    (FIELD, field),
    ("args", args),
    ("externalURL", |_| text("")),
    ("graphLink", |values| text(link(string(values, 0)?, 0))),
    ("humanize", |values| text(humanize::metric(number(values, 0)?))),
    ("humanize1024", |values| text(humanize::binary(number(values, 0)?))),
    ("humanizeDuration", |values| text(humanize::duration(number(values, 0)?))),
    ("humanizePercentage", |values| text(humanize::percentage(number(values, 0)?))),
    ("humanizeTimestamp", timestamp),
    ("index", index),
    ("match", |values| Ok(Value::Bool(regex(string(values, 0)?)?.is_match(string(values, 1)?)))),
    ("parseDuration", parse_duration),
    ("pathPrefix", |_| text("")),
    ("print", |values| text(print(values))),
    ("printf", printf),
    ("println", |values| text(values.iter().map(go::print).collect::<Vec<_>>().join(" ") + "\n")),
    ("reReplaceAll", replace_all),
    ("safeHtml", |values| text(string(values, 0)?)),
    ("stripDomain", |values| text(strip_domain(string(values, 0)?))),
    ("stripPort", |values| text(strip_port(string(values, 0)?))),
    ("tableLink", |values| text(link(string(values, 0)?, 1))),
    ("title", |values| text(title(string(values, 0)?))),
    ("toLower", |values| text(string(values, 0)?.to_lowercase())),
    ("toTime", timestamp),
    ("toUpper", |values| text(string(values, 0)?.to_uppercase())),
];

/// All functions that are ours.
pub(super) fn all() -> FuncMap {
    OURS.into_iter().map(|(name, function)| (name.to_owned(), Arc::new(function) as ValueFunc)).collect()
}

/// Whether a template may call this.
pub(super) fn exists(name: &str) -> bool {
    BUILTIN.contains(&name) || OURS.iter().any(|(ours, _)| *ours == name)
}

fn show(values: &[Value]) -> Result {
    let value = value(values, 0)?;
    text(if matches!(value, Value::Nil) { "<no value>".to_owned() } else { go::print(value) })
}

/// One after the other, with a space between two of which neither is a string.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    let mut string_before = true;
    for value in values {
        let string = value.as_str().is_some();
        if !string && !string_before {
            text.push(' ');
        }
        text.push_str(&go::print(value));
        string_before = string;
    }
    text
}

/// The engine's own, but that floats look as in Go where the verb does not say how.
fn printf(values: &[Value]) -> Result {
    let (format, values) = go::prepare(string(values, 0)?, values.get(1..).unwrap_or_default());
    let names = (0..values.len()).map(|at| format!(" .v{at}")).collect::<String>();
    let named = (0..).zip(values).map(|(at, value)| (Arc::from(format!("v{at}")), value));
    let data: BTreeMap<Arc<str>, Value> = named.chain([(Arc::from("f"), Value::String(format.into()))]).collect();
    text(gotmpl::execute(&format!("{{{{printf .f{names}}}}}"), &Value::Map(Arc::new(data)))?)
}

/// A field of a structure must be there; a label need not: a missing one is empty.
fn field(values: &[Value]) -> Result {
    let (base, name) = (value(values, 0)?, string(values, 1)?);
    let Value::Map(map) = base else {
        return Err(complaint(format!("can't evaluate field {name} in {}", base.type_name())));
    };
    match map.get(name) {
        Some(value) => Ok(value.clone()),
        None if map.contains_key("Value") => Err(complaint(format!("can't evaluate field {name}"))),
        None if map.contains_key("arg0") => Ok(Value::Nil),
        None => text(""),
    }
}

fn index(values: &[Value]) -> Result {
    let (base, keys) = values.split_first().ok_or_else(|| complaint("index of nothing"))?;
    keys.iter().try_fold(base.clone(), |base, key| match (&base, key) {
        (Value::Map(_), Value::String(_)) => field(&[base.clone(), key.clone()]),
        _ => base.index(key),
    })
}

fn args(values: &[Value]) -> Result {
    let named = (0..).zip(values).map(|(at, value)| (Arc::from(format!("arg{at}")), value.clone()));
    Ok(Value::Map(Arc::new(named.collect::<BTreeMap<Arc<str>, Value>>())))
}

fn timestamp(values: &[Value]) -> Result {
    text(humanize::timestamp(number(values, 0)?).map_err(complaint)?)
}

fn parse_duration(values: &[Value]) -> Result {
    let duration = duration::parse(string(values, 0)?).map_err(complaint)?;
    Ok(Value::Float(duration.as_secs_f64()))
}

fn replace_all(values: &[Value]) -> Result {
    let (pattern, replacement, haystack) = (string(values, 0)?, string(values, 1)?, string(values, 2)?);
    text(regex(pattern)?.replace_all(haystack, replacement))
}

/// Capitals at the beginning of words; what follows stays as it is.
fn title(words: &str) -> String {
    let mut beginning = true;
    let capital = |letter: char| {
        let capital = std::mem::replace(&mut beginning, letter.is_whitespace()) && letter.is_lowercase();
        if capital { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    words.chars().map(capital).collect()
}

/// The host of `host:port`; everything else stays as it is.
fn strip_port(address: &str) -> &str {
    let Some((host, _port)) = address.rsplit_once(':') else { return address };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host,
        None if host.contains([':', '[', ']']) => address,
        None => host,
    }
}

/// `web.example.com:80` becomes `web:80`; an address of numbers stays as it is.
fn strip_domain(address: &str) -> String {
    let host = strip_port(address);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return address.to_owned();
    }
    let port = address.strip_prefix(host).unwrap_or("");
    format!("{}{port}", host.split('.').next().unwrap_or(host))
}

fn link(expr: &str, tab: u8) -> String {
    let escaped = gotmpl::url_encode(expr);
    format!("/graph?g0.expr={escaped}&g0.tab={tab}")
}

fn regex(pattern: &str) -> std::result::Result<Regex, TemplateError> {
    Regex::new(pattern).map_err(|error| complaint(format!("not a regular expression: {error}")))
}

fn value(values: &[Value], at: usize) -> std::result::Result<&Value, TemplateError> {
    values.get(at).ok_or_else(|| complaint(format!("argument {} is missing", at + 1)))
}

fn string(values: &[Value], at: usize) -> std::result::Result<&str, TemplateError> {
    let value = value(values, at)?;
    value.as_str().ok_or_else(|| complaint(format!("argument {} is {}, not string", at + 1, value.type_name())))
}

#[expect(clippy::cast_precision_loss, reason = "people read four digits of it")]
fn number(values: &[Value], at: usize) -> std::result::Result<f64, TemplateError> {
    let number = match value(values, at)? {
        Value::Float(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::String(number) => number.parse().ok(),
        Value::Nil | Value::Bool(_) | Value::List(_) | Value::Map(_) | Value::Function(_) => None,
    };
    number.ok_or_else(|| complaint(format!("argument {} is not a number", at + 1)))
}

fn text(text: impl AsRef<str>) -> Result {
    Ok(Value::String(text.as_ref().into()))
}

fn complaint(what: impl Into<String>) -> TemplateError {
    TemplateError::Exec(what.into())
}
