//! The templates of rule files: Go's text/template with Prometheus' variables and functions.
//!
//! The engine is gotmpl. Where it differs from Go the parsed tree is rewritten: what an action prints passes through
//! our printer, and a field is looked up by a function that knows that a missing label is an empty one.

pub mod go;

mod function;
mod humanize;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::metric::Labels;
use gotmpl::Value;
use gotmpl::parse::Node;
use gotmpl::parse::Parser;

/// What Prometheus puts before every template.
const PREAMBLE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                        {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// What we put behind every template: the parser takes a stray `{{end}}` for the end, and this is then not found.
const POSTAMBLE: &str = "{{break}}";

/// Name of the outermost template inside the engine.
const MAIN: &str = "template";

/// Most rounds that the loops of one template may take: alerts have tens of labels.
const RANGE_ROUNDS_MAX: u64 = 10_000;

/// A template that parses.
#[derive(Clone)]
pub struct Template(Parsed);

#[derive(Clone)]
enum Parsed {
    /// Without an action: most labels are.
    Text(Arc<str>),
    Program(Arc<gotmpl::Template>),
}

/// What a template can talk about.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Labels of the sample, its name among them.
    pub labels: Labels,
    /// What the expression gave.
    pub value: f64,
    /// Where people reach the aggregator.
    pub external_url: Arc<str>,
}

impl Template {
    /// Parses and checks a template.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("{{") {
            return Ok(Self(Parsed::Text(text.into())));
        }
        let source = format!("{PREAMBLE}{text}{POSTAMBLE}");
        let parser = Parser::with_name(Some(MAIN), &source, "{{", "}}").map_err(|error| error.to_string())?;
        let (mut main, defines) = parser.parse().map_err(|error| error.to_string())?;
        if !matches!(main.nodes.pop(), Some(Node::Break(_))) {
            return Err("template: unexpected {{end}}".to_owned());
        }
        let mut program = gotmpl::Template::new(MAIN).funcs(function::all()).max_range_iters(RANGE_ROUNDS_MAX);
        program = program.add_parse_tree(MAIN, rewrite::body(main)?);
        for define in defines {
            program = program.add_parse_tree(&define.name, rewrite::body(define.body)?);
        }
        Ok(Self(Parsed::Program(Arc::new(program))))
    }

    /// Fills the template in. An error becomes part of the text, as in Prometheus: better an odd message than none.
    #[must_use]
    pub fn expand(&self, data: &Data) -> String {
        match &self.0 {
            Parsed::Text(text) => text.to_string(),
            Parsed::Program(program) => program
                .execute_template_to_string(MAIN, &root(data))
                .unwrap_or_else(|error| format!("<error expanding template: {error}>")),
        }
    }
}

fn root(data: &Data) -> Value {
    let labels = |labels: &Labels| -> Value {
        let map = labels.iter().map(|(name, value)| (Arc::from(name), Value::String(value.into())));
        Value::Map(Arc::new(map.collect::<BTreeMap<Arc<str>, Value>>()))
    };
    let fields: [(Arc<str>, Value); 4] = [
        ("Labels".into(), labels(&data.labels)),
        ("ExternalLabels".into(), labels(&Labels::new())),
        ("ExternalURL".into(), Value::String(Arc::clone(&data.external_url))),
        ("Value".into(), Value::Float(data.value)),
    ];
    Value::Map(Arc::new(fields.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What promtool 2.42 made of these templates for the series `m{instance="h1",job="a"}`: value, template and
    /// expansion, separated by tabs. Of an error only the beginning is compared: the wording is Go's.
    const CAPTURED: &str = include_str!("../../../../tests/fixtures/alert/templates.tsv");

    #[test]
    fn expands_as_prometheus_does() {
        let labels: Labels = [("__name__", "m"), ("instance", "h1"), ("job", "a")].into_iter().collect();
        let mut differing = Vec::new();
        for line in CAPTURED.lines() {
            let [value, template, expect] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not a case: {line}")
            };
            let data = Data { labels: labels.clone(), value: value.parse().unwrap(), ..Data::default() };
            let text = Template::parse(template).map_or_else(|error| error, |template| template.expand(&data));
            let error = "<error expanding template: ";
            let same = text == expect || (text.starts_with(error) && expect.starts_with(error));
            if !same {
                differing.push(format!("{value} {template}\n  expect {expect}\n  got    {text}"));
            }
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in ["{{ nofunc }}", "{{ $value", "{{ $nope }}", "{{ if }}x{{ end }}", "{{ end }}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_without_an_end_ends() {
        let text = Template::parse("{{ range 1000000000 }}x{{ end }}").unwrap().expand(&Data::default());
        assert!(text.starts_with("<error expanding template: "), "{text}");
        let text = Template::parse(r#"{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}"#).unwrap();
        assert!(text.expand(&Data::default()).starts_with("<error expanding template: "));
    }
}
