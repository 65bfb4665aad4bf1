//! An operator's own metrics: `*.prom` files in Prometheus' text format, as node_exporter's textfile collector reads them.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use common::catalog;
use common::catalog::Metric;
use common::catalog::metric;
use common::metric::Kind;
use common::metric::Labels;

use crate::collect::CollectError;
use crate::collect::Collector;
use crate::collect::samples::Foreign;
use crate::collect::slow::Name;
use crate::collect::slow::Slow;
use crate::collect::slow::Visit;
use crate::config::Config;
use crate::host;

const ERROR: &Metric = metric("node_textfile_scrape_error");
const WRITTEN: &Metric = metric("node_textfile_mtime_seconds");

/// Bytes of one file: ten thousand lines of a hundred.
const TEXTFILE_BYTES_MAX: usize = 1024 * 1024;

/// Files of one directory: a script has one.
const TEXTFILES_MAX: usize = 256;

/// Labels of one line, and bytes of one name or value: what a series may carry through all of the history.
const TEXTFILE_LABELS_MAX: usize = 32;
const TEXTFILE_LABEL_BYTES_MAX: usize = 1_024;

/// The operator's directories.
pub(in crate::collect) fn textfile(config: &Config) -> impl Collector + use<> {
    let on_host = |directory: &PathBuf| (directory.clone(), config.roots.on_rootfs(directory));
    let directories: Vec<(PathBuf, PathBuf)> = config.textfile_directories.iter().map(on_host).collect();
    let place: Vec<PathBuf> = directories.first().map(|(_, place)| place.clone()).into_iter().collect();
    Slow::new("textfile", move || place.clone(), move |_: &Path, is_minute| read_all(&directories, is_minute))
}

/// Each file by itself, and whether one of them failed.
fn read_all(directories: &[(PathBuf, PathBuf)], is_minute: bool) -> Vec<(PathBuf, Visit)> {
    let mut of_all = Visit::new(is_minute);
    let mut found = Vec::new();
    for (shown, place) in directories {
        let mut files = of_all.take(host::listed(place).map_err(CollectError::from)).unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "prom"));
        if TEXTFILES_MAX < files.len() {
            of_all.fail(CollectError::TooMuch("textfiles"));
        }
        for file in files.into_iter().take(TEXTFILES_MAX) {
            let mut visit = Visit::new(is_minute);
            let name = shown.join(file.file_name().unwrap_or_default());
            read_one(&file, &name, &mut visit);
            found.push((file, visit));
        }
    }
    let failed = of_all.failed.is_some() || found.iter().any(|(_, visit)| visit.failed.is_some());
    of_all.put(ERROR, &Labels::new(), f64::from(u8::from(failed)));
    found.push((PathBuf::new(), of_all));
    found
}

fn read_one(file: &Path, shown: &Path, visit: &mut Visit) {
    let read = host::read_ordinary(file, TEXTFILE_BYTES_MAX).map_err(CollectError::from);
    let Some((text, written)) = visit.take(read) else { return };
    match parse(&text) {
        Ok(samples) => {
            for Sample { metric, labels, value } in samples {
                // Two may not write one series: what the catalog has is the collectors'.
                if catalog::find(&metric.name).is_some() {
                    visit.fail(CollectError::Textfile(format!("{}: {} is taken", shown.display(), metric.name)));
                } else {
                    visit.push(Name::Foreign(metric), &labels, value);
                }
            }
            let labels = Labels::new().with("file", shown.to_string_lossy().into_owned());
            visit.put_count(WRITTEN, &labels, written);
        }
        Err(Slip { line, why }) => {
            visit.fail(CollectError::Textfile(format!("{}, line {line}: {why}", shown.display())));
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    metric: Foreign,
    labels: Labels,
    value: f64,
}

/// Why a file is refused, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    line: usize,
    why: &'static str,
}

/// The whole file or nothing of it: half of a file that is being written tells half a truth.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Sample>, Slip> {
    let text = str::from_utf8(text).map_err(|_| Slip { line: 1, why: "is not UTF-8" })?;
    let mut kinds = HashMap::new();
    let mut samples = Vec::new();
    for (line, text) in (1..).zip(text.split_inclusive('\n')) {
        let slip = |why| Slip { line, why };
        let text = text.strip_suffix('\n').ok_or_else(|| slip("is cut off"))?.trim();
        if let Some(comment) = text.strip_prefix('#') {
            if let Some((name, kind)) = parse_type(comment).map_err(slip)?
                && kinds.insert(name, kind).is_some()
            {
                return Err(slip("has a second type of one metric"));
            }
        } else if !text.is_empty() {
            let (name, labels, value) = parse_sample(text).map_err(slip)?;
            let metric = Foreign { name: name.into(), kind: kind_of(name, &kinds) };
            samples.push(Sample { metric, labels, value });
        }
    }
    Ok(samples)
}

/// Name and type of ` TYPE name counter`; `None` for any other comment.
fn parse_type(comment: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let mut words = comment.split_ascii_whitespace();
    if words.next() != Some("TYPE") {
        return Ok(None);
    }
    let (Some(name), Some(kind), None) = (words.next(), words.next(), words.next()) else {
        return Err("has not the form of a type");
    };
    let known = ["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind);
    if known && is_name(name) { Ok(Some((name, kind))) } else { Err("has an unknown type") }
}

/// Counters, and the counters that histograms and summaries are made of. What has no type is told by its name.
fn kind_of(name: &str, kinds: &HashMap<&str, &str>) -> Kind {
    let part = |suffix: &str| name.strip_suffix(suffix).and_then(|family| kinds.get(family)).copied();
    let is_counter = match kinds.get(name).copied() {
        Some(kind) => kind == "counter",
        None => {
            part("_bucket") == Some("histogram")
                || ["_sum", "_count"].iter().any(|suffix| matches!(part(suffix), Some("histogram" | "summary")))
                || name.ends_with("_total")
        }
    };
    if is_counter { Kind::Counter } else { Kind::Gauge }
}

/// `name{label="value"} 1.5`
fn parse_sample(line: &str) -> Result<(&str, Labels, f64), &'static str> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace()).ok_or("has no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name) || TEXTFILE_LABEL_BYTES_MAX < name.len() {
        return Err("has a name that is none");
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Labels::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("has no value")?;
    if words.next().is_some() {
        return Err("has a time, which a textfile may not");
    }
    Ok((name, labels, value))
}

/// Labels up to the closing brace, and what stands behind it.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    let mut count = 0;
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        let (name, behind) = rest.split_once('=').ok_or("has a label without a value")?;
        let name = name.trim();
        let is_label = is_name(name) && !name.contains(':') && !name.starts_with("__");
        let (value, behind) = parse_value(behind.trim_start())?;
        count += 1;
        if !is_label || TEXTFILE_LABELS_MAX < count || TEXTFILE_LABEL_BYTES_MAX < name.len().max(value.len()) {
            return Err("has a label that may not be, or too many");
        }
        // As Prometheus does with labels that it sets itself.
        let own = ["instance", "job"].contains(&name);
        labels.set(if own { format!("exported_{name}") } else { name.to_owned() }, value);
        rest = behind.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if !behind.trim_start().starts_with([',', '}']) {
            return Err("has labels that no comma parts");
        }
    }
}

/// A quoted value, and what stands behind it.
fn parse_value(quoted: &str) -> Result<(String, &str), &'static str> {
    let inside = quoted.strip_prefix('"').ok_or("has a value without quotes")?;
    let mut value = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &inside[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                _ => return Err("has an unknown escape"),
            }),
            plain => value.push(plain),
        }
    }
    Err("has a value without an end")
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    name.bytes().all(allowed) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let show = |Sample { metric, labels, value }| format!("{}{labels} {value} {:?}", metric.name, metric.kind);
        let samples = parse(text.as_bytes()).map_err(|slip| format!("{}: {}", slip.line, slip.why))?;
        Ok(samples.into_iter().map(show).collect())
    }

    #[test]
    fn a_file_is_what_prometheus_text_format_says() {
        let check = |text: &str, expect: &[&str]| assert_eq!(shown(text).unwrap(), expect, "{text}");
        check("testmetric1_1{foo=\"bar\"} 10\n", &[r#"testmetric1_1{foo="bar"} 10 Gauge"#]);
        check("", &[]);
        check("# any text\n\n  # HELP a b\n", &[]);
        check("# TYPE a counter\na 1\nb 2\nb_total 3\n", &["a{} 1 Counter", "b{} 2 Gauge", "b_total{} 3 Counter"]);
        check("# TYPE a_total gauge\na_total 1\n", &["a_total{} 1 Gauge"]);
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 2.5\nh_count 1\n",
            &[r#"h_bucket{le="+Inf"} 1 Counter"#, "h_sum{} 2.5 Counter", "h_count{} 1 Counter"],
        );
        check(
            "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 3\nx_count 3\n",
            &[r#"s{quantile="0.5"} 1 Gauge"#, "s_count{} 3 Counter", "x_count{} 3 Gauge"],
        );
        check("a { b = \"1\" , c=\"x\\\\\\\"\\n\", }\t-1e3\n", &[r#"a{b="1", c="x\\\"\n"} -1000 Gauge"#]);
        check("a{b=\"}\"} 1\n", &[r#"a{b="}"} 1 Gauge"#]);
        check("a NaN\nb +Inf\n", &["a{} NaN Gauge", "b{} inf Gauge"]);
        check("a{job=\"x\",instance=\"y\"} 1\n", &[r#"a{exported_instance="y", exported_job="x"} 1 Gauge"#]);
    }

    #[test]
    fn a_file_with_a_slip_is_refused_whole() {
        let check = |text: &str, expect: &str| assert_eq!(shown(text).unwrap_err(), expect, "{text}");
        check("a 1\nb 2", "2: is cut off");
        check("a 1\nb\n", "2: has no value");
        check("a x\n", "1: has no value");
        check("a 1 1700000000000\n", "1: has a time, which a textfile may not");
        check("1a 1\n", "1: has a name that is none");
        check("a{b} 1\n", "1: has a label without a value");
        check("a{b=c} 1\n", "1: has a value without quotes");
        check("a{b=\"c} 1\n", "1: has a value without an end");
        check("a{b=\"c\" d=\"e\"} 1\n", "1: has labels that no comma parts");
        check("a{b=\"\\t\"} 1\n", "1: has an unknown escape");
        check("a{__name__=\"b\"} 1\n", "1: has a label that may not be, or too many");
        check("# TYPE a counter\n# TYPE a gauge\n", "2: has a second type of one metric");
        check("# TYPE a number\n", "1: has an unknown type");
        check("# TYPE a\n", "1: has not the form of a type");
        check(&format!("a{{b=\"{}\"}} 1\n", "x".repeat(1_025)), "1: has a label that may not be, or too many");
        assert_eq!(parse(b"a{b=\"\xff\"} 1\n").unwrap_err().why, "is not UTF-8");
    }

    #[test]
    fn a_hostile_file_loses_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::write(place("good.prom"), "good 1\n").unwrap();
        fs::write(place("half.prom"), "good 1\nhalf").unwrap();
        fs::write(place("taken.prom"), "node_load1 7\nmine 2\n").unwrap();
        fs::write(place("huge.prom"), vec![b'\n'; TEXTFILE_BYTES_MAX + 1]).unwrap();
        fs::write(place("other.txt"), "other 1\n").unwrap();
        fs::create_dir(place("directory.prom")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(place("fifo.prom")).status().unwrap().success());
        let found =
            read_all(&[("/shown".into(), directory.path().to_owned()), ("/no".into(), "/no/such".into())], true);
        let said: Vec<String> = found
            .iter()
            .flat_map(|(_, visit)| visit.shown())
            .map(|line| line.split_once("} 1").map_or(line.clone(), |(name, _)| format!("{name}}} 1…")))
            .collect();
        let expect = [
            "good{} 1…",
            r#"node_textfile_mtime_seconds{file="/shown/good.prom"} 1…"#,
            "mine{} 2",
            r#"node_textfile_mtime_seconds{file="/shown/taken.prom"} 1…"#,
            "node_textfile_scrape_error{} 1…",
        ];
        assert_eq!(said, expect);
        let failed: Vec<_> = found
            .iter()
            .filter(|(_, visit)| visit.failed.is_some())
            .map(|(file, _)| file.file_stem().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(failed, ["directory", "fifo", "half", "huge", "taken"]);
    }
}
