//! One collection, printed: what `lapwing-agent once` shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::batch::WINDOW;
use common::catalog;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;

use crate::collect::Collectors;
use crate::collect::Moment;
use crate::collect::Samples;
use crate::collect::Tick;
use crate::config::Config;
use crate::host::Host;

/// How long `once` waits for file systems that are slow to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Collects once: labels, name among them, and value of every series, in a stable order.
#[must_use]
pub fn collect(config: &Config, clock: &Clock) -> BTreeMap<Labels, f64> {
    let mut host = Host::new(config.roots.clone());
    let mut samples = Samples::default();
    let mut collectors = Collectors::new(config, Arc::default(), clock.clone(), &mut samples);
    let (now, wall) = (clock.monotonic(), clock.wall());
    // A whole minute: series of every tier have a value in its window.
    let window = wall.align_up(6 * WINDOW);
    let moment = Moment { stamp: wall, now, wall, window, first_in_window: true, patience: PATIENCE };
    collectors.tick(&mut Tick { host: &mut host, samples: &mut samples, moment });
    samples.settle();
    let schema = samples.schema();
    samples.values().iter().filter_map(|(series, value)| Some((schema.labels(*series)?, *value))).collect()
}

/// In Prometheus' text format, with help and type from the catalog.
#[must_use]
pub fn prometheus(collected: &BTreeMap<Labels, f64>) -> String {
    let mut families: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (labels, value) in collected {
        families.entry(labels.get(NAME)).or_default().push(format!("{} {value}\n", series(labels)));
    }
    let mut text = String::new();
    for (name, lines) in families {
        if let Some(metric) = catalog::find(name) {
            let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
            let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        text.extend(lines);
    }
    text
}

/// As JSON: a list of label sets with their values.
#[must_use]
pub fn json(collected: &BTreeMap<Labels, f64>) -> String {
    let samples: Vec<_> =
        collected.iter().map(|(labels, value)| serde_json::json!({ "metric": labels, "value": value })).collect();
    format!("{:#}\n", serde_json::Value::from(samples))
}

/// `job` is left out, as exporters do: who scrapes adds it.
fn series(labels: &Labels) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let shown = labels.iter().filter(|(name, _)| ![NAME, "job"].contains(name));
    let pairs: Vec<_> = shown.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    let name = labels.get(NAME);
    if pairs.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected() -> BTreeMap<Labels, f64> {
        let load = Labels::new().with(NAME, "node_load1").with("job", "node");
        let success = Labels::new().with(NAME, "node_scrape_collector_success").with("job", "node");
        let odd = "a \"quoted\"\nname \\ with \u{fffd}";
        BTreeMap::from([(success.with("collector", odd), 1.0), (load, 0.25)])
    }

    #[test]
    fn text_has_help_and_type_and_escaped_labels() {
        let expect = r#"# HELP node_load1 1 minute load average.
# TYPE node_load1 gauge
node_load1 0.25
# HELP node_scrape_collector_success Whether a collector read all it should in the last minute.
# TYPE node_scrape_collector_success gauge
node_scrape_collector_success{collector="a \"quoted\"\nname \\ with �"} 1
"#;
        assert_eq!(prometheus(&collected()), expect);
    }

    #[test]
    fn json_gives_back_every_label() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&collected())).unwrap();
        assert_eq!(parsed[1]["metric"]["collector"], "a \"quoted\"\nname \\ with \u{fffd}");
        assert_eq!((&parsed[0]["metric"]["job"], &parsed[0]["value"]), (&"node".into(), &0.25.into()));
    }
}
