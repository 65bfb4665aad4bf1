//! Where in a query's text the mistake is for which the parser refuses it: the parser does not say. It is asked of the
//! beginnings of the text instead: the mistake is what stands behind the longest that could go on to be a query.

use crate::query::place::Place;
use crate::query::place::Token;
use crate::query::place::tokens;

/// What the parser says of all that its grammar does not have.
const NOT_IN_GRAMMAR: &str = "invalid promql query";

/// Longest query in which a mistake is looked for: each look parses some hundred texts.
const MISTAKE_QUERY_BYTES_MAX: usize = 2 * 1024;

/// What may follow a beginning before its last bracket closes, …
const INNER: [&str; 12] = ["", "x", "5m", "1", "x}", "=\"x\"", "\"x\"", "(x)", "(x) x", "(x)(x)", "(1) x", "()"];

/// … and what behind that bracket.
const OUTER: [&str; 3] = ["", "(x)", " x"];

/// The parser's complaint with the place of what it is about, where that is found.
pub(super) fn located(text: &str, complaint: &str, parse: impl Fn(&str) -> Option<String>) -> String {
    let found = (text.len() <= MISTAKE_QUERY_BYTES_MAX).then(|| find(text, complaint, parse)).flatten();
    match found {
        Some((at, what)) => format!("{}: parse error: {what}", Place::of(text, at)),
        None => complaint.to_owned(),
    }
}

fn find(text: &str, complaint: &str, parse: impl Fn(&str) -> Option<String>) -> Option<(usize, String)> {
    let tokens = lexemes(text);
    if complaint.starts_with("unclosed") || complaint.starts_with("unexpected end of input inside") {
        return Some((tokens[*open(&tokens).last()?].at, complaint.to_owned()));
    }
    if let Some(name) = complaint.strip_prefix("unknown function with name '").and_then(|name| name.strip_suffix('\''))
    {
        let called = tokens.windows(2).find(|pair| pair[0].text == name && pair[1].text == "(")?;
        return Some((called[0].at, complaint.to_owned()));
    }
    let beginning = |count: usize| {
        let end = tokens[..count].last().map_or(0, |last| last.at + last.text.len());
        &text[..end]
    };
    if complaint.starts_with("unexpected end of input") {
        return Some((text.trim_end().len(), complaint.to_owned()));
    }
    let counts: Vec<usize> = (1..=tokens.len()).collect();
    if is_of_lexer(complaint) {
        let before = counts.partition_point(|count| parse(beginning(*count)).as_deref() != Some(complaint));
        return Some((tokens.get(before)?.at, complaint.to_owned()));
    }
    if complaint != NOT_IN_GRAMMAR {
        return None;
    }
    let goes_on = |count: usize| may_go_on(beginning(count), &tokens[..count], &parse);
    let longest = counts.partition_point(|count| goes_on(*count));
    Some(match tokens.get(longest) {
        Some(token) => (token.at, format!("unexpected {:?}", token.text)),
        None => (text.trim_end().len(), "unexpected end of input".to_owned()),
    })
}

/// Whether a beginning could be a query's.
fn may_go_on(beginning: &str, tokens: &[Token<'_>], parse: impl Fn(&str) -> Option<String>) -> bool {
    let closers: Vec<&str> = open(tokens).into_iter().rev().map(|at| closer(tokens[at].text)).collect();
    let (first, rest) = closers.split_first().map_or(("", String::new()), |(first, rest)| (*first, rest.concat()));
    INNER.iter().any(|inner| {
        OUTER.iter().any(|outer| {
            let whole = format!("{beginning} {inner}{first}{outer}{rest}");
            parse(&whole).is_none_or(|complaint| complaint != NOT_IN_GRAMMAR && !is_of_lexer(&complaint))
        })
    })
}

/// Whether the parser did not come so far as to look at the grammar.
fn is_of_lexer(complaint: &str) -> bool {
    [
        "unclosed",
        "unexpected character",
        "unexpected left",
        "unexpected right",
        "unexpected end",
        "unterminated",
        "bad ",
    ]
    .iter()
    .any(|begin| complaint.starts_with(begin))
}

fn closer(open: &str) -> &'static str {
    match open {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

/// The brackets that nothing closes.
fn open(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => open.push(at),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    open
}

/// Tokens, with operators of two characters as one.
fn lexemes(text: &str) -> Vec<Token<'_>> {
    let mut lexemes: Vec<Token<'_>> = Vec::new();
    for token in tokens(text) {
        let joined = lexemes.last().filter(|last| last.at + last.text.len() == token.at && last.text.len() == 1);
        let joined = joined.map(|last| (last.at, &text[last.at..token.at + token.text.len()]));
        match joined.filter(|(_, both)| ["==", "!=", "<=", ">=", "=~", "!~"].contains(both)) {
            Some((at, text)) => drop(lexemes.pop().map(|_| lexemes.push(Token { at, text }))),
            None => lexemes.push(token),
        }
    }
    lexemes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    fn check(text: &str, expect: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expect, "{text}");
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        check("up ==", "1:6: parse error: unexpected end of input");
        check("sum(rate(x[5m]) by (job))", "1:17: parse error: unexpected \"by\"");
        check("up{job=\"a\"} up", "1:13: parse error: unexpected \"up\"");
        check("a +\n  * b", "2:3: parse error: unexpected \"*\"");
        check("sum by job (up)", "1:8: parse error: unexpected \"job\"");
        check("rate(x[5m)", "1:10: parse error: unexpected character inside brackets: ')'");
        check("up) + 1", "1:3: parse error: unexpected right parenthesis ')'");
        check("(a)\n + $b", "2:4: parse error: unexpected character: '$'");
        check("x > 5z", "1:5: parse error: bad number or duration syntax: 5z");
        check("up{a=\"b}", "1:6: parse error: unterminated quoted string \"");
        check("up offset", "1:10: parse error: unexpected end of input in offset, expected duration");
        check("a and on(b) > c", "1:13: parse error: unexpected \">\"");
        check("up = 0", "1:4: parse error: unexpected \"=\"");
        check("sum(\n  up", "1:4: parse error: unclosed left parenthesis");
        check("1 + rat(x[5m])", "1:5: parse error: unknown function with name 'rat'");
        check("# ü\nup up", "2:4: parse error: unexpected \"up\"");
    }

    /// Each beginning of a query could go on: else mistakes would be told where there are none.
    #[test]
    fn no_beginning_of_a_query_is_a_mistake() {
        let queries = include_str!("../../../tests/query/expressions").lines();
        let ours = [
            "sum by (a, b) (rate(x{a=\"b\", c!~\"d\"}[5m] offset 1m)) / on (a) group_left (c) y",
            "topk(5, sum without (a) (x)) > bool 5 and x @ 1 or x @ start() unless x offset -5m",
            "max_over_time(x[5m:1m] @ end()) + -y ^ 2 % 3 atan2 4 == inf",
            "count_values(\"v\", {__name__=~\"a|b\",}) + ignoring (x) group_right () b",
            "sum(x) by (a) <= quantile(0.5, x) without (b)",
        ];
        for query in queries.chain(ours).filter(|query| parse(query).is_ok()) {
            let tokens = lexemes(query);
            for count in 1..=tokens.len() {
                let end = tokens[count - 1].at + tokens[count - 1].text.len();
                let may = may_go_on(&query[..end], &tokens[..count], parse::complaint);
                assert!(may, "{:?}", &query[..end]);
            }
        }
    }
}
