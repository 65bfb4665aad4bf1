//! Samples as OpenMetrics text.

use std::io::Write as _;

use common::catalog;
use common::metric::Kind;
use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

use crate::http::prometheus::answer::put_number;
use crate::http::prometheus::export::ExportError;
use crate::http::prometheus::export::Format;
use crate::http::prometheus::exposition::Names;
use crate::http::prometheus::exposition::escaped;

/// Text that grows, and is taken away by pieces.
#[derive(Default)]
pub(super) struct Text {
    out: Vec<u8>,
    /// What is to stand before the first sample of a metric.
    head: String,
    /// The series whose samples come.
    series: String,
}

impl Format for Text {
    const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn new() -> Result<Self, ExportError> {
        Ok(Self::default())
    }

    fn begin(&mut self, name: &str, is_there: impl Fn(&str) -> bool) {
        let known = catalog::find(name);
        let (family, kind) = match (known.map(|metric| metric.kind), name.strip_suffix("_total")) {
            // A family that may have these samples must not share their names with others.
            (Some(Kind::Counter), Some(base)) if !is_there(base) && !is_there(&format!("{base}_created")) => {
                (base, "counter")
            }
            (Some(Kind::Gauge), _) => (name, "gauge"),
            (Some(Kind::Counter) | None, _) => (name, "unknown"),
        };
        let family = Names::Quoted.metric(family);
        let help = known.map(|metric| format!("# HELP {family} {}\n", escaped(metric.help)));
        self.head = format!("# TYPE {family} {kind}\n{}", help.unwrap_or_default());
    }

    fn series(&mut self, name: &str, labels: &Labels) {
        self.series = Names::Quoted.series(name, labels.iter().filter(|(label, _)| *label != NAME));
    }

    fn sample(&mut self, at: Timestamp, value: f64) -> Result<(), ExportError> {
        self.out.extend(std::mem::take(&mut self.head).bytes());
        self.out.extend(self.series.bytes());
        self.out.push(b' ');
        put_number(&mut self.out, value);
        let millis = at.as_millis();
        let (sign, seconds, millis) =
            (if millis < 0 { "-" } else { "" }, millis.unsigned_abs() / 1_000, millis.unsigned_abs() % 1_000);
        // Writing to memory does not fail.
        if millis == 0 {
            writeln!(self.out, " {sign}{seconds}").unwrap_or_default();
        } else {
            writeln!(self.out, " {sign}{seconds}.{millis:03}").unwrap_or_default();
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn end(mut self) -> Result<Vec<u8>, ExportError> {
        self.out.extend(b"# EOF\n");
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics with a sample each of a series, as they are written.
    fn check(names: &[&str], expect: &str) {
        let mut text = Text::default();
        for name in names {
            text.begin(name, |other| names.contains(&other));
            text.series(name, &Labels::new().with(NAME, *name).with("a", "\"\\\n"));
            text.sample(Timestamp::from_millis(1_500), 1.0).unwrap();
        }
        assert_eq!(String::from_utf8(text.end().unwrap()).unwrap(), format!("{expect}# EOF\n"));
    }

    #[test]
    fn metrics_are_said_to_be_what_the_catalog_knows() {
        let sample = r#"{a="\"\\\n"} 1 1.500"#;
        check(&[], "");
        check(&["other_total"], &format!("# TYPE other_total unknown\nother_total{sample}\n"));
        check(
            &["node_load1"],
            &format!("# TYPE node_load1 gauge\n# HELP node_load1 1 minute load average.\nnode_load1{sample}\n"),
        );
        let help = catalog::metric("node_cpu_seconds_total").help;
        let counter = format!(
            "# TYPE node_cpu_seconds counter\n# HELP node_cpu_seconds {help}\nnode_cpu_seconds_total{sample}\n"
        );
        check(&["node_cpu_seconds_total"], &counter);
        // Somebody else's metric has the name of its family.
        let unknown = format!(
            "# TYPE node_cpu_seconds_total unknown\n# HELP node_cpu_seconds_total {help}\nnode_cpu_seconds_total{sample}\n"
        );
        let other = format!("# TYPE node_cpu_seconds unknown\nnode_cpu_seconds{sample}\n");
        check(&["node_cpu_seconds", "node_cpu_seconds_total"], &format!("{other}{unknown}"));
        check(&["h\u{f6}he"], "# TYPE \"h\u{f6}he\" unknown\n{\"h\u{f6}he\",a=\"\\\"\\\\\\n\"} 1 1.500\n");
    }

    #[test]
    fn values_and_stamps_are_written_to_the_bit() {
        let check = |at: i64, value: f64, expect: &str| {
            let mut text = Text::default();
            text.series("m", &Labels::new());
            text.sample(Timestamp::from_millis(at), value).unwrap();
            assert_eq!(String::from_utf8(text.take()).unwrap(), format!("m {expect}\n"));
        };
        check(1_700_000_000_001, 0.1, "0.1 1700000000.001");
        check(1_700_000_000_000, f64::NAN, "NaN 1700000000");
        check(0, f64::INFINITY, "+Inf 0");
        check(-1, f64::NEG_INFINITY, "-Inf -0.001");
        check(1, -0.0, "-0 0.001");
        check(1, 5e-324, "5e-324 0.001");
        check(1, f64::MAX, "1.7976931348623157e+308 0.001");
    }
}
