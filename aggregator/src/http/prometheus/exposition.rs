//! How series are named where samples are written as text.

/// How names that are not of letters, digits and `_` are written.
#[derive(Clone, Copy)]
pub(super) enum Names {
    Quoted,
    Underscored,
}

impl Names {
    pub(super) const fn escaping(self) -> &'static str {
        match self {
            Self::Quoted => "allow-utf-8",
            Self::Underscored => "underscores",
        }
    }

    /// The name of a metric.
    pub(super) fn metric(self, name: &str) -> String {
        self.name(name, is_plain)
    }

    /// A metric and its labels: `name{label="value"}`, or `{"name","label"="value"}`.
    pub(super) fn series<'a>(self, metric: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        // Only the names of metrics may have colons.
        let name = |name: &str| self.name(name, |char| is_plain(char) && char != ':');
        let pairs = labels.map(|(label, value)| format!("{}={}", name(label), quoted(value)));
        let metric = self.metric(metric);
        let is_quoted = metric.starts_with('"');
        let inside: Vec<String> = is_quoted.then(|| metric.clone()).into_iter().chain(pairs).collect();
        let before = if is_quoted { "" } else { &metric };
        if inside.is_empty() { metric } else { format!("{before}{{{}}}", inside.join(",")) }
    }

    fn name(self, name: &str, is_plain: impl Fn(char) -> bool) -> String {
        if name.chars().all(&is_plain) && !name.starts_with(|char: char| char.is_ascii_digit()) {
            return name.to_owned();
        }
        match self {
            Self::Quoted => quoted(name),
            Self::Underscored => {
                let replaced: String = name.chars().map(|char| if is_plain(char) { char } else { '_' }).collect();
                if replaced.starts_with(|char: char| char.is_ascii_digit()) { format!("_{replaced}") } else { replaced }
            }
        }
    }
}

const fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Without what would end it, or the line.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_plain_are_quoted_or_replaced() {
        let check = |metric: &str, label: &str, quoted: &str, underscored: &str| {
            let told = |names: Names| names.series(metric, [(label, "v")].into_iter());
            assert_eq!((told(Names::Quoted).as_str(), told(Names::Underscored).as_str()), (quoted, underscored));
        };
        check("up", "a", r#"up{a="v"}"#, r#"up{a="v"}"#);
        check("job:up:sum", "a:b", r#"job:up:sum{"a:b"="v"}"#, r#"job:up:sum{a_b="v"}"#);
        check("h\u{f6}he", "1\"", "{\"h\u{f6}he\",\"1\\\"\"=\"v\"}", r#"h_he{_1_="v"}"#);
        assert_eq!(Names::Quoted.series("up", [].into_iter()), "up");
        assert_eq!(Names::Quoted.series("a.b", [].into_iter()), r#"{"a.b"}"#);
    }
}
