//! What the parser does not read, in words that it does: durations that are calculated, and bytes in strings.
//!
//! `[2m*(10+5)]` becomes `[1800000ms]`, `offset -(1m+5)` becomes `offset -65000ms`, `"\xc3\xbc"` becomes `"ü"`. All else
//! stays as it is written, mistakes too: the parser has the words for them.

use std::borrow::Cow;

use crate::query::QueryError;

/// Longest duration: more than anybody keeps, and sums of a few do not overflow.
pub(super) const DURATION_MAX_MS: f64 = 1_000.0 * 365.0 * 24.0 * 3_600.0 * 1_000.0;

/// Each of them ends a comment.
pub(super) const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// Rewrites a query.
pub(super) fn desugar(text: &str) -> Result<String, QueryError> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut braces = 0_usize;
    while let Some(first) = rest.chars().next() {
        let (piece, behind) = match first {
            '"' | '\'' | '`' => {
                let (piece, behind) = rest.split_at(string_end(rest, first));
                (decoded(piece, first)?, behind)
            }
            '#' => {
                let (piece, behind) = rest.split_at(rest.find(LINE_ENDS).unwrap_or(rest.len()));
                (Cow::Borrowed(piece), behind)
            }
            '[' => range(rest)?,
            _ if is_word(first) => {
                let (word, behind) = rest.split_at(rest.find(|char| !is_word(char)).unwrap_or(rest.len()));
                match (braces, word.eq_ignore_ascii_case("offset")) {
                    (0, true) => offset(word, behind)?,
                    _ => (Cow::Borrowed(word), behind),
                }
            }
            _ => {
                braces = match first {
                    '{' => braces + 1,
                    '}' => braces.saturating_sub(1),
                    _ => braces,
                };
                let (piece, behind) = rest.split_at(first.len_utf8());
                (Cow::Borrowed(piece), behind)
            }
        };
        plain.push_str(&piece);
        rest = behind;
    }
    Ok(plain)
}

pub(super) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | ':' | '.')
}

/// Where the string that begins a text ends.
pub(super) fn string_end(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if quote != '`' => drop(chars.next()),
            char if char == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A string with its bytes (`\xc3`, `\303`) as the letters that they are.
fn decoded(string: &str, quote: char) -> Result<Cow<'_, str>, QueryError> {
    let has_bytes = string.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && matches!(pair[1], b'x' | b'0'..=b'3'));
    if quote == '`' || !has_bytes {
        return Ok(Cow::Borrowed(string));
    }
    let mut bytes = Vec::with_capacity(string.len());
    let mut rest = string;
    while let Some(first) = rest.chars().next() {
        let escaped = rest.strip_prefix('\\').and_then(byte);
        let length = match (first, escaped) {
            ('\\', Some((byte, length))) => {
                // What would end the string or begin an escape stays one.
                let needs_escape = matches!(byte, b'\\' | b'"' | b'\'');
                bytes.extend(needs_escape.then_some(b'\\'));
                bytes.push(byte);
                length
            }
            ('\\', None) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (first, _) => first.len_utf8(),
        };
        if escaped.is_none() {
            bytes.extend_from_slice(&rest.as_bytes()[..length]);
        }
        rest = &rest[length..];
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| QueryError::bad(format!("{string} is not valid UTF-8")))
}

/// The byte that an escape means, and how long the escape is with its backslash.
fn byte(behind: &str) -> Option<(u8, usize)> {
    let digits = |from: usize, to: usize, radix: u32| {
        let digits = behind.get(from..to).filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
        Some((u8::from_str_radix(digits, radix).ok()?, to + 1))
    };
    if behind.starts_with('x') { digits(1, 3, 16) } else { digits(0, 3, 8) }
}

/// `[range]` or `[range:step]`, to its closing bracket.
fn range(text: &str) -> Result<(Cow<'_, str>, &str), QueryError> {
    let Some(end) = text.find(']').filter(|end| is_calculated(&text[1..*end])) else {
        return Ok((Cow::Borrowed(&text[..1]), &text[1..]));
    };
    let parts = text[1..end].split(':').map(|part| {
        if !is_calculated(part) {
            return Ok(part.to_owned());
        }
        match Calculation::millis(part)? {
            millis if millis <= 0 => Err(QueryError::bad("duration must be greater than 0")),
            millis => Ok(format!("{millis}ms")),
        }
    });
    let parts: Vec<String> = parts.collect::<Result<_, _>>()?;
    Ok((Cow::Owned(format!("[{}]", parts.join(":"))), &text[end + 1..]))
}

/// What stands behind `offset`, if it is in brackets.
fn offset<'a>(word: &'a str, behind: &'a str) -> Result<(Cow<'a, str>, &'a str), QueryError> {
    let trimmed = behind.trim_start();
    let bracket = trimmed.trim_start_matches(['+', '-']).trim_start();
    let signs = &trimmed[..trimmed.len() - bracket.len()];
    if !bracket.starts_with('(') || 1 < signs.trim_end().len() {
        return Ok((Cow::Borrowed(word), behind));
    }
    let mut depth = 0_usize;
    let end = bracket.char_indices().find(|(_, char)| {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some((end, _)) = end else { return Ok((Cow::Borrowed(word), behind)) };
    let millis = Calculation::millis(&bracket[..=end])?;
    let millis = if signs.starts_with('-') { -millis } else { millis };
    Ok((Cow::Owned(format!("{word} {millis}ms")), &bracket[end + 1..]))
}

fn is_calculated(text: &str) -> bool {
    text.contains(['+', '-', '*', '/', '%', '^', '('])
}

/// A calculation with durations, in seconds. The query's limit of operators bounds how deep it goes.
struct Calculation<'a> {
    rest: &'a str,
}

impl<'a> Calculation<'a> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to lie inside")]
    fn millis(text: &'a str) -> Result<i64, QueryError> {
        let mut calculation = Self { rest: text };
        let seconds = calculation.sum()?;
        if !calculation.rest.trim().is_empty() {
            return Err(calculation.unexpected());
        }
        let millis = seconds * 1_000.0;
        if millis.is_nan() || DURATION_MAX_MS < millis.abs() {
            return Err(QueryError::bad("duration out of range"));
        }
        Ok(millis as i64)
    }

    fn sum(&mut self) -> Result<f64, QueryError> {
        let mut left = self.product()?;
        while let Some(operator) = self.operator(&['+', '-']) {
            let right = self.product()?;
            left = if operator == '+' { left + right } else { left - right };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<f64, QueryError> {
        let mut left = self.signed()?;
        while let Some(operator) = self.operator(&['*', '/', '%']) {
            let right = self.signed()?;
            left = match operator {
                '*' => left * right,
                '/' if right == 0.0 => return Err(QueryError::bad("division by zero")),
                '/' => left / right,
                _ if right == 0.0 => return Err(QueryError::bad("modulo by zero")),
                _ => left % right,
            };
        }
        Ok(left)
    }

    /// A sign binds less than a power: `-2 ^ 2` is -4.
    fn signed(&mut self) -> Result<f64, QueryError> {
        match self.operator(&['+', '-']) {
            Some('-') => self.signed().map(|value| -value),
            Some(_) => self.signed(),
            None => self.power(),
        }
    }

    fn power(&mut self) -> Result<f64, QueryError> {
        let base = self.operand()?;
        if self.operator(&['^']).is_some() { Ok(base.powf(self.signed()?)) } else { Ok(base) }
    }

    fn operand(&mut self) -> Result<f64, QueryError> {
        if self.operator(&['(']).is_some() {
            let value = self.sum()?;
            return self.operator(&[')']).map(|_| value).ok_or_else(|| self.unexpected());
        }
        let text = self.rest.trim_start();
        let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '.').unwrap_or(text.len());
        let (literal, behind) = text.split_at(end);
        let value = seconds(literal).ok_or_else(|| self.unexpected())?;
        self.rest = behind;
        Ok(value)
    }

    fn operator(&mut self, wanted: &[char]) -> Option<char> {
        let text = self.rest.trim_start();
        let first = text.chars().next().filter(|first| wanted.contains(first))?;
        self.rest = &text[1..];
        Some(first)
    }

    fn unexpected(&self) -> QueryError {
        QueryError::bad(format!("unexpected {:?} in a duration", self.rest.trim()))
    }
}

/// `90`, `1.5`, `0x10`, `1h30m`: seconds.
fn seconds(literal: &str) -> Option<f64> {
    if !literal.starts_with(|char: char| char.is_ascii_digit() || char == '.') {
        return None;
    }
    if let Some(digits) = literal.strip_prefix("0x").or_else(|| literal.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok().map(f64::from);
    }
    if let Ok(number) = literal.parse::<f64>() {
        return Some(number);
    }
    const UNITS: [(&str, f64); 7] = [
        ("y", 31_536_000.0),
        ("w", 604_800.0),
        ("d", 86_400.0),
        ("h", 3_600.0),
        ("m", 60.0),
        ("s", 1.0),
        ("ms", 0.001),
    ];
    let (mut total, mut rest, mut next) = (0.0, literal, 0);
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|char: char| !char.is_ascii_digit())?);
        let (unit, behind) = behind.split_at(behind.find(|char: char| char.is_ascii_digit()).unwrap_or(behind.len()));
        let at = UNITS.iter().position(|(name, _)| *name == unit).filter(|at| next <= *at)?;
        total += digits.parse::<f64>().ok()? * UNITS[at].1;
        (rest, next) = (behind, at + 1);
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        match (desugar(text), expect) {
            (Ok(plain), Ok(expect)) => assert_eq!(plain, expect, "{text}"),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn durations_are_calculated() {
        check("up[5m]", Ok("up[5m]"));
        check("up[2m*(10+5)]", Ok("up[1800000ms]"));
        check("up[-5m+35m]", Ok("up[1800000ms]"));
        check("up[30m1s-30m1s % 1m:5s+5s] offset 1m", Ok("up[1800000ms:10000ms] offset 1m"));
        check("up[1h:((((8 - 2) / 3) * 7s) % 4) + 8000ms]", Ok("up[1h:10000ms]"));
        check("up[5m:]", Ok("up[5m:]"));
        check("up[1m+1m:]", Ok("up[120000ms:]"));
        check("up offset (100 + 2)", Ok("up offset 102000ms"));
        check("up offset 100 + 2", Ok("up offset 100 + 2"));
        check("up OFFSET -(20*1.5s)", Err("unexpected \"1.5s)\" in a duration"));
        check("up OFFSET - (20*1s) + 1", Ok("up OFFSET -20000ms + 1"));
        check("up offset (-2 ^ 2)", Ok("up offset -4000ms"));
        check("up offset (2 ^ -1 ^ 2)", Ok("up offset 500ms"));
        check("up[0x10*1]", Ok("up[16000ms]"));
    }

    #[test]
    fn what_is_no_duration_is_refused_or_left_to_the_parser() {
        check("up[1m-1m]", Err("greater than 0"));
        check("up[1/0]", Err("division by zero"));
        check("up[1%0]", Err("modulo by zero"));
        check("up[1m*1e30]", Err("out of range"));
        check("up[1m+]", Err("unexpected"));
        check("up[1s1h+1]", Err("unexpected"));
        check("up[(1]", Err("unexpected"));
        check("up[1+1", Ok("up[1+1"));
        check("up offset (1+", Ok("up offset (1+"));
        check("up offset )(", Ok("up offset )("));
        check("up{offset=\"(1+1)\", a=\"[1+1]\"} # [1+1]", Ok("up{offset=\"(1+1)\", a=\"[1+1]\"} # [1+1]"));
    }

    #[test]
    fn bytes_are_letters() {
        check(r#"up{a="\xc3\xbc", b='\303\274'}"#, Ok("up{a=\"\u{fc}\", b='\u{fc}'}"));
        check(r#"up{a="\x22\x5c\n"}"#, Ok(r#"up{a="\"\\\n"}"#));
        check(r#"up{a=`\xff`}"#, Ok(r#"up{a=`\xff`}"#));
        check(r#"up{a="\\xff"}"#, Ok(r#"up{a="\\xff"}"#));
        check(r#"up{a="\xff"}"#, Err("not valid UTF-8"));
        check(r#"up{a="\x"}"#, Ok(r#"up{a="\x"}"#));
        check("up{a=\"\\x\u{fc}", Ok("up{a=\"\\x\u{fc}"));
    }
}
