//! Where in a query's text the arguments of its calls stand: what is said of one names its place, as in Prometheus.

use std::cell::Cell;
use std::fmt;

use crate::query::desugar::LINE_ENDS;
use crate::query::desugar::is_word;
use crate::query::desugar::string_end;

/// A line and a column of a text, from one on; columns are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Place {
    /// That of a byte.
    pub(super) fn of(text: &str, at: usize) -> Self {
        let before = &text.as_bytes()[..at.min(text.len())];
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Self { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), column: 1 + before.len() - begin }
    }
}

/// The calls of a text, functions and aggregations, in the order in which they are written: that of the parser's tree, walked
/// from the left.
pub(super) struct Calls {
    calls: Vec<(String, Vec<Place>)>,
    taken: Cell<usize>,
    astray: Cell<bool>,
}

impl Calls {
    /// The calls of a text that the parser takes.
    pub(super) fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let closing = closing(&tokens);
        let opened = (1..tokens.len()).filter_map(|open| Some((called(&tokens, &closing, open)?, open)));
        let mut named: Vec<(usize, usize)> = opened.collect();
        named.sort_unstable();
        let lines: Vec<usize> = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let place = |at: usize| {
            let line = lines.partition_point(|begin| *begin <= at);
            Place { line, column: 1 + at - lines[line - 1] }
        };
        let call = |(name, open): (usize, usize)| {
            (
                tokens[name].text.to_ascii_lowercase(),
                arguments(&tokens, &closing, open).into_iter().map(place).collect(),
            )
        };
        Self { calls: named.into_iter().map(call).collect(), taken: Cell::new(0), astray: Cell::new(false) }
    }

    /// No calls: nothing has a place.
    pub(super) const fn unknown() -> Self {
        Self { calls: Vec::new(), taken: Cell::new(0), astray: Cell::new(false) }
    }

    /// Where the arguments of the next call stand.
    pub(super) fn take(&self, name: &str) -> Vec<Place> {
        let at = self.taken.replace(self.taken.get() + 1);
        let found = self.calls.get(at).filter(|(found, _)| found == name);
        self.astray.set(self.astray.get() || found.is_none());
        found.map_or_else(Vec::new, |(_, places)| places.clone())
    }

    /// Whether those that were taken are those that there are.
    pub(super) fn fits(&self) -> bool {
        !self.astray.get() && self.taken.get() == self.calls.len()
    }
}

/// A word, a string, or one other character.
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// Without spaces and comments.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find(LINE_ENDS).unwrap_or(rest.len()),
            '"' | '\'' | '`' => string_end(rest, first),
            _ if is_word(first) => rest.find(|char| !is_word(char)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (piece, behind) = rest.split_at(length);
        if first != '#' && !first.is_whitespace() {
            tokens.push(Token { at: text.len() - rest.len(), text: piece });
        }
        rest = behind;
    }
    tokens
}

/// Of each opening bracket the one that closes it, of all else itself.
fn closing(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut closing: Vec<usize> = (0..tokens.len()).collect();
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => open.push(at),
            ")" | "]" | "}" => open.pop().into_iter().for_each(|begin| closing[begin] = at),
            _ => {}
        }
    }
    closing
}

/// The name of what is called with the arguments that a bracket opens, if something is: `sum by (job) (`, too.
fn called(tokens: &[Token<'_>], closing: &[usize], open: usize) -> Option<usize> {
    let is_grouping = |at: usize| ["by", "without"].iter().any(|word| tokens[at].text.eq_ignore_ascii_case(word));
    let before = open.checked_sub(1).filter(|_| tokens[open].text == "(")?;
    let name = if tokens[before].text == ")" {
        let labels = (0..before).rfind(|labels| closing[*labels] == before)?;
        labels.checked_sub(2).filter(|_| is_grouping(labels - 1))?
    } else {
        before
    };
    (tokens[name].text.starts_with(is_word) && !is_grouping(name) && !is_keyword(tokens[name].text)).then_some(name)
}

/// Words before a bracket that call nothing.
fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 12] = [
        "and",
        "atan2",
        "bool",
        "end",
        "group_left",
        "group_right",
        "ignoring",
        "offset",
        "on",
        "or",
        "start",
        "unless",
    ];
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// Where the arguments behind a bracket begin, without brackets around them.
fn arguments(tokens: &[Token<'_>], closing: &[usize], open: usize) -> Vec<usize> {
    let end = closing[open];
    let mut places = Vec::new();
    let mut at = open + 1;
    while at < end {
        let mut behind = at;
        while behind < end && tokens[behind].text != "," {
            behind = closing[behind] + 1;
        }
        let (mut first, mut last) = (at, behind - 1);
        while tokens[first].text == "(" && closing[first] == last && first + 1 < last {
            (first, last) = (first + 1, last - 1);
        }
        places.push(tokens[first].at);
        at = behind + 1;
    }
    places
}
