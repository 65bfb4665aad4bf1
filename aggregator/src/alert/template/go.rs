//! Numbers and values in the words of Go's fmt package.

use gotmpl::Value;

/// `%v` of a float64: the fewest digits that mean it; an exponent below 0.0001 and from a million on.
#[must_use]
pub fn float(value: f64) -> String {
    const EXPONENT_FROM: i32 = 6;
    general(value, &format!("{value:e}"), EXPONENT_FROM)
}

/// `%.4g` of a float64: four significant digits, without trailing zeros.
#[must_use]
pub fn four_digits(value: f64) -> String {
    general(value, &format!("{value:.3e}"), 4)
}

/// `%v` of a value: maps are `map[a:1 b:2]` by key, lists `[1 2]`.
#[must_use]
pub fn print(value: &Value) -> String {
    match value {
        Value::Float(value) => float(*value),
        Value::List(values) => format!("[{}]", spaced(values.iter().map(print))),
        Value::Map(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}:{}", print(value)));
            format!("map[{}]", spaced(pairs))
        }
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_) | Value::Function(_) => {
            value.to_string()
        }
    }
}

/// A format and its arguments, with the floats that `%v`, `%s` and `%d` are to print turned into text: for these verbs
/// the engine has its own idea. Formats that index their arguments stay as they are.
pub(super) fn prepare(format: &str, values: &[Value]) -> (String, Vec<Value>) {
    let mut values = values.to_vec();
    let mut prepared = String::with_capacity(format.len());
    let mut rest = format;
    let mut next = 0;
    while let Some((before, behind)) = rest.split_once('%') {
        let flags = behind.bytes().take_while(|byte| b"+-# 0123456789.".contains(byte)).count();
        let (flags, behind) = behind.split_at(flags);
        let mut letters = behind.chars();
        let Some(verb) = letters.next() else { break };
        if verb == '[' || verb == '*' {
            return (format.to_owned(), values);
        }
        rest = letters.as_str();
        prepared.push_str(before);
        let shown = values.get(next).and_then(|value| shown(verb, value));
        prepared.push_str(&format!("%{flags}{}", if shown.is_some() { 's' } else { verb }));
        if let Some(shown) = shown {
            values[next] = Value::String(shown.into());
        }
        next += usize::from(verb != '%');
    }
    prepared.push_str(rest);
    (prepared, values)
}

fn shown(verb: char, value: &Value) -> Option<String> {
    match (verb, value) {
        ('v', Value::Float(_) | Value::Map(_) | Value::List(_)) => Some(print(value)),
        ('s' | 'd', Value::Float(value)) => Some(format!("%!{verb}(float64={})", float(*value))),
        _ => None,
    }
}

fn spaced(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// `%g` from digits with an exponent, as Rust writes them: `-1.25e-7`.
fn general(value: f64, scientific: &str, exponent_from: i32) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "NaN" } else { "+Inf" };
        return if value < 0.0 { "-Inf".to_owned() } else { name.to_owned() };
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let trimmed = digits.trim_end_matches('0');
    let digits = if trimmed.is_empty() { "0" } else { trimmed };
    let mut text = sign.to_owned();
    if exponent < -4 || exponent_from <= exponent {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        text.push_str(&format!("{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs()));
    } else {
        text.push_str(&positional(digits, exponent));
    }
    text
}

/// Digits with a decimal point where the exponent says.
fn positional(digits: &str, exponent: i32) -> String {
    let Ok(whole) = usize::try_from(exponent + 1) else {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return format!("0.{}{digits}", "0".repeat(zeros));
    };
    match whole {
        0 => format!("0.{digits}"),
        _ if digits.len() <= whole => format!("{digits}{}", "0".repeat(whole - digits.len())),
        _ => format!("{}.{}", &digits[..whole], &digits[whole..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_go() {
        let check = |value: f64, shortest: &str, four: &str| {
            assert_eq!((float(value).as_str(), four_digits(value).as_str()), (shortest, four), "{value:?}");
        };
        check(0.0, "0", "0");
        check(-0.0, "-0", "-0");
        check(1.0, "1", "1");
        check(100_000.0, "100000", "1e+05");
        check(999_999.0, "999999", "1e+06");
        check(1_234_567.0, "1.234567e+06", "1.235e+06");
        check(0.0001, "0.0001", "0.0001");
        check(0.000_012_34, "1.234e-05", "1.234e-05");
        check(12.5, "12.5", "12.5");
        check(1e100, "1e+100", "1e+100");
        check(f64::NAN, "NaN", "NaN");
        check(f64::INFINITY, "+Inf", "+Inf");
        check(f64::NEG_INFINITY, "-Inf", "-Inf");
    }
}
