//! Figures of hosts and containers, asked of the query engine in expressions that anyone could ask.

use std::collections::HashMap;

use common::metric::Labels;
use common::time::Timestamp;

use crate::query;
use crate::query::Engine;
use crate::query::QueryError;
use crate::query::Turn;
use crate::query::Value;

/// The answers to a table of expressions, by the value of one label.
pub struct Figures {
    columns: HashMap<&'static str, HashMap<String, (Labels, f64)>>,
}

impl Figures {
    /// Asks each expression of `table` (name, expression) at `at`. In an expression `$host` stands for a matcher that
    /// narrows it to one `instance`, or for nothing. Where several series share a `key`, the last one stands.
    ///
    /// # Errors
    /// When a query runs out of its budget.
    pub fn ask(
        (engine, turn): (&Engine, &Turn),
        table: &[(&'static str, &str)],
        key: &str,
        host: Option<&str>,
        at: Timestamp,
    ) -> Result<Self, QueryError> {
        let matcher = host.map(|instance| format!(",instance={}", quoted(instance))).unwrap_or_default();
        let mut columns = HashMap::new();
        for (name, expression) in table {
            let answer = engine.evaluate(&query::parse(&expression.replace("$host", &matcher))?, at, turn)?;
            let Value::Vector(samples) = answer else { continue };
            let rows = samples.into_iter().map(|(labels, _, value)| (labels.get(key).to_owned(), (labels, value)));
            columns.insert(*name, rows.collect());
        }
        Ok(Self { columns })
    }

    /// The figure `name` of `key`, if there is one that can be written as JSON.
    pub fn get(&self, name: &str, key: &str) -> Option<f64> {
        self.row(name, key).map(|(_, value)| *value).filter(|value| value.is_finite())
    }

    /// A figure that counts something whole.
    #[expect(clippy::cast_possible_truncation, reason = "figures are far below 2^63, and a cast saturates")]
    pub fn whole(&self, name: &str, key: &str) -> Option<i64> {
        self.get(name, key).map(|value| value.round() as i64)
    }

    /// The label `label` of the series that gave the figure.
    pub fn label(&self, name: &str, key: &str, label: &str) -> Option<String> {
        let (labels, _) = self.row(name, key)?;
        Some(labels.get(label)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// All keys that the figure `name` has, sorted.
    pub fn keys(&self, name: &str) -> Vec<&str> {
        let mut keys: Vec<_> = self.columns.get(name).into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys
    }

    fn row(&self, name: &str, key: &str) -> Option<&(Labels, f64)> {
        self.columns.get(name)?.get(key)
    }
}

/// A text as PromQL writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_a_matcher() {
        assert_eq!(quoted(r#"a"} or vector(1) #\"#), r#""a\"} or vector(1) #\\""#);
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
    }
}
