//! What the shared engine tests do not say: budgets, errors, windows, and that a range is its instants.

mod cached;
mod property;
mod tiers;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use common::metric::Labels;
use common::metric::NAME;
use common::time::Clock;
use common::time::Timestamp;

use crate::query::Engine;
use crate::query::EngineConfig;
use crate::query::Moments;
use crate::query::QueryError;
use crate::query::Turn;
use crate::query::Value;
use crate::query::format;
use crate::query::parse;
use crate::query::source::Memory;
use crate::query::tree;

fn labels(name: &str, pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().chain([(NAME, name)]).collect()
}

fn engine(memory: Memory) -> Engine {
    engine_with(memory, EngineConfig::default())
}

fn engine_with(memory: Memory, config: EngineConfig) -> Engine {
    Engine::new(Arc::new(memory), Clock::moved(Timestamp::default()), config)
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Three hosts with a sample a second, a minute long: 1 2 3 … times the host's number.
fn three_hosts() -> Memory {
    let memory = Memory::default();
    for host in 1_u8..=3 {
        let labels = labels("work_total", &[("instance", &format!("host-{host}")), ("env", "test")]);
        for second in 0_u8..=60 {
            memory.append_sample(&labels, at(second.into()), f64::from(host) * f64::from(second));
        }
    }
    memory
}

fn answer(engine: &Engine, query: &str) -> String {
    match engine.instant(query, at(60)) {
        Ok(Value::Scalar(value)) => value.to_string(),
        Ok(Value::String(text)) => text,
        Ok(Value::Vector(samples)) => {
            let samples: Vec<_> = samples.into_iter().map(|(labels, _, value)| format!("{labels} {value}")).collect();
            samples.join(", ")
        }
        Ok(Value::Matrix(series)) => {
            let series: Vec<_> =
                series.into_iter().map(|(labels, samples)| format!("{labels} x{}", samples.len())).collect();
            series.join(", ")
        }
        Err(error) => format!("{}: {error}", error.error_type()),
    }
}

#[test]
fn answers_as_prometheus_prints_them() {
    let engine = engine(three_hosts());
    let check = |query, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    check("1 + 1", "2");
    check("\"text\"", "text");
    check("sum(work_total)", "{} 360");
    check("topk(1, work_total)", r#"work_total{env="test", instance="host-3"} 180"#);
    check("max by (env) (rate(work_total[30s]))", r#"{env="test"} 3"#);
    check("absent(nothing{a=\"b\"})", r#"{a="b"} 1"#);
    check("count(work_total{instance!~\"host-(1|2)\"})", "{} 1");
    check("work_total{instance=\"host-2\"}[10s]", r#"work_total{env="test", instance="host-2"} x10"#);
    check("rate(work_total{instance=\"host-2\"}[20s])[30s:10s]", r#"{env="test", instance="host-2"} x3"#);
}

#[test]
fn says_what_is_wrong_with_a_query() {
    let engine = engine(three_hosts());
    let check = |query: &str, expect: &str| {
        let answer = answer(&engine, query);
        assert!(answer.starts_with(expect), "{query}: {answer}");
    };
    check("", "bad_data: ");
    check("sum(", "bad_data: 1:4: parse error: unclosed left parenthesis");
    check("nonsense(up)", "bad_data: 1:1: parse error: unknown function with name 'nonsense'");
    check("rate(up)", "bad_data: expected type");
    check("up[1e30]", "bad_data: ");
    check("up[0s]", "bad_data: ");
    check("up[2000y]", "bad_data: duration out of range");
    check("{job=~\".*\"}", "bad_data: vector selector must contain at least one non-empty matcher");
    check("{job=~\".*\"}[5m]", "bad_data: vector selector must contain at least one non-empty matcher");
    check("up{job=~\"(\"}", "bad_data: ");
    check("peak_rate(rate(up[1m])[5m:])", "bad_data: peak_rate takes a selector");
    check("work_total + on (env) work_total", "execution: found duplicate series for the match group {env=\"test\"}");
    check("sum by (env) (work_total) + on (env) group_right work_total", "{env=\"test\", instance=\"host-1\"} 420, ");
    check("label_replace(work_total, \"instance\", \"one\", \"\", \"\")", "execution: vector cannot contain metrics");
}

#[test]
fn a_query_too_deep_too_long_or_too_wide_is_refused() {
    let engine = engine(three_hosts());
    let check = |query: String, expect: &str| {
        let answer = answer(&engine, &query);
        assert!(answer.contains(expect), "{}…: {answer}", &query[..20]);
    };
    let nested = |depth: usize| format!("{}work_total{}", "abs(".repeat(depth), ")".repeat(depth));
    check(nested(90), "host-3");
    check(nested(101), "nests deeper than 100");
    check(nested(499), "nests deeper than 100");
    check(nested(501), "more than 500 operators");
    check("-".repeat(100_000) + "1", "longer than 65536 bytes");
    check("-".repeat(60_000) + "1", "more than 500 operators");
    check(format!("1{}", " + 1".repeat(10_000)), "more than 500 operators");
    // A line ends with either, and the comment with it.
    check(format!("#\r{}1{}", "(".repeat(501), ")".repeat(501)), "more than 500 operators");
    check(format!("up{}", " or up".repeat(10_000)), "more than 500 operators");
    check(format!("count({{instance=~\"{}\"}})", "(host-1)|(host-2)|".repeat(1_000) + "host-3"), "{} 3");
}

#[test]
fn each_budget_says_which_it_is() {
    let config = EngineConfig { samples_max: 1_000, ..EngineConfig::default() };
    let check = |config, query: &str, expect: &str| {
        let answer = answer(&engine_with(three_hosts(), config), query);
        assert!(answer.contains(expect), "{query}: {answer}");
    };
    check(config, "sum(work_total)", "{} 360");
    check(config, "rate(work_total[10s:1ms])", "[query] samples_max");
    check(config, "vector(1)[1y:1ms]", "[query] samples_max");
    check(config, "sum(rate(work_total[1m])) + sum(rate(work_total[1m])) + sum(rate(work_total[1m]))", "{} 18");
    // Aggregated series by series: what is selected is not held.
    check(config, &format!("0{}", " + sum(rate(work_total[1m]))".repeat(6)), "{} 36");
    check(config, "sum(count_over_time(work_total[1m:100ms]))", "[query] samples_max");
    // Neither are those that others pushed out from among the first.
    let memory = Memory::default();
    (0_u16..500).for_each(|one| memory.append_sample(&labels("m", &[("at", &one.to_string())]), at(60), one.into()));
    let hundred = EngineConfig { samples_max: 100, ..EngineConfig::default() };
    let picked = answer(&engine_with(memory, hundred), "topk(2, m)");
    assert_eq!(picked, r#"m{at="499"} 499, m{at="498"} 498"#);
    let no_time = EngineConfig { deadline: Duration::ZERO, ..EngineConfig::default() };
    check(no_time, "sum(work_total)", "timeout: the query took longer than 0ns");
}

#[test]
fn a_range_has_limits() {
    let engine = engine(three_hosts());
    let check = |(start, end, step): (i64, i64, u64), expect: Result<usize, &str>| {
        let answer = engine.range("vector(1)", at(start), at(end), Duration::from_secs(step));
        let points = answer.map(|answer| if let Value::Matrix(series) = answer { series[0].1.len() } else { 0 });
        match (points, expect) {
            (Ok(points), Ok(expect)) => assert_eq!(points, expect),
            (Err(QueryError::BadData(message)), Err(expect)) => assert!(message.contains(expect), "{message}"),
            (got, expect) => panic!("{got:?} where {expect:?} is expected"),
        }
    };
    check((0, 10_999, 1), Ok(11_000));
    check((0, 11_000, 1), Ok(11_001));
    check((0, 11_001, 1), Err("maximum resolution of 11,000 points"));
    check((0, 59, 60), Ok(1));
    check((0, 60, 60), Ok(2));
    check((60, 0, 60), Err("end timestamp"));
    check((0, 60, 0), Err("positive step"));
    check((i64::MIN, i64::MAX, 60), Err("timestamp out of range"));
    let text = engine.range("\"text\"", at(0), at(1), Duration::from_secs(1));
    assert!(matches!(text, Err(QueryError::BadData(_))));
}

#[test]
fn a_canceled_query_ends() {
    let turn = Turn::default();
    let query = parse("sum(work_total)").unwrap();
    let engine = engine(three_hosts());
    assert!(engine.evaluate(&query, at(60), &turn).is_ok());
    turn.clone().cancel();
    assert_eq!(engine.evaluate(&query, at(60), &turn), Err(QueryError::Canceled));
}

#[test]
fn queries_share_what_they_may_hold() {
    let config = EngineConfig { memory_max: 16 * 500, ..EngineConfig::default() };
    let engine = engine_with(three_hosts(), config);
    let check = |query: &str, fits: bool| {
        let answer = engine.instant(query, at(60));
        let told = answer.as_ref().map_err(ToString::to_string);
        assert_eq!(answer.is_ok(), fits, "{query}: {told:?}");
        assert!(fits || told.unwrap_err().contains("[query] memory_max"));
    };
    check("work_total", true);
    // 183 samples each: they fit one by one, not together.
    check("work_total[2m]", true);
    check("sum_over_time(work_total[2m:1s]) + sum_over_time(work_total[2m:1s])", false);
    check("work_total[2m]", true);
}

#[test]
fn an_answer_counts_until_it_is_sent() {
    let config = EngineConfig { memory_max: 16 * 500, ..EngineConfig::default() };
    let engine = engine_with(three_hosts(), config);
    let ask = || engine.reply(&parse("work_total[2m]").unwrap(), Moments::At(at(60)), &Turn::default());
    // 183 samples each: two of them fit.
    let held = [ask().unwrap(), ask().unwrap()];
    assert!(ask().unwrap_err().to_string().contains("[query] memory_max"));
    drop(held);
    assert!(ask().is_ok());
}

#[test]
fn slow_queries_are_kept_with_what_they_took() {
    let config = EngineConfig { slow: Duration::ZERO, ..EngineConfig::default() };
    let engine = engine_with(three_hosts(), config);
    engine.instant("sum(work_total)", at(60)).unwrap();
    engine.instant("work_total + on () work_total", at(60)).unwrap_err();
    let slow = engine.log().slow();
    let told: Vec<_> = slow.iter().map(|asked| (asked.query.as_str(), asked.stats.series_selected())).collect();
    assert_eq!(told, [("sum(work_total)", 3), ("work_total + on () work_total", 6)]);
    assert!(slow[0].error.is_none() && slow[1].error.is_some());
    let asking = engine.log().asking();
    assert_eq!((asking.queries, asking.failed), (2, 1));
    let kept_less = engine_with(three_hosts(), EngineConfig::default());
    kept_less.instant("sum(work_total)", at(60)).unwrap();
    assert_eq!(kept_less.log().slow(), []);
}

#[test]
fn a_dot_matches_the_end_of_a_line() {
    let memory = Memory::default();
    memory.append_sample(&labels("text", &[("value", "two\nlines")]), at(60), 1.0);
    assert_eq!(answer(&engine(memory), "count(text{value=~\"two.lines\"})"), "{} 1");
}

/// What is said beside an answer at 60 s.
fn said(query: &str) -> Vec<String> {
    let reply = engine(three_hosts()).reply(&parse(query).unwrap(), Moments::At(at(60)), &Turn::default()).unwrap();
    [reply.annotations.warnings(), reply.annotations.infos()].concat()
}

#[test]
fn what_is_strange_is_said_beside_the_answer() {
    let check = |query: &str, expect: &[&str]| assert_eq!(said(query), expect, "{query}");
    check("rate(work_total[1m])", &[]);
    check("rate({__name__=~\"nothing\"}[1m])", &[]);
    let no_counter =
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"load\"";
    check(
        "rate(label_replace(work_total, \"__name__\", \"load\", \"\", \"\")[1m:1s])",
        &[&format!("{no_counter} (1:6)")],
    );
    check("quantile(2, work_total)", &["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]);
    check(
        "quantile_over_time(-1, work_total[1m])",
        &["PromQL warning: quantile value should be between 0 and 1, got -1 (1:20)"],
    );
    check("quantile_over_time(-1, nothing[1m])", &[]);
    check(
        "limit_ratio(1.5, work_total)",
        &["PromQL warning: ratio value should be between -1 and 1, got 1.5, capping to 1 (1:13)"],
    );
    check(
        "histogram_quantile(0.5, work_total)",
        &[
            "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"\" for metric name \"work_total\" (1:25)",
        ],
    );
}

#[test]
fn what_is_said_names_its_place_in_the_text_as_it_was_written() {
    // Where the share stands, which is none.
    let check = |query: &str, expect: &str| {
        let warned = format!("PromQL warning: quantile value should be between 0 and 1, got 2 ({expect})");
        assert_eq!(said(query), [warned], "{query}");
    };
    check("quantile by (env) (2, work_total)", "1:20");
    check("quantile(2, work_total) by (env)", "1:10");
    check("  QUANTILE ( ( (2)), work_total)", "1:17");
    check("1 +\n# quantile(3, a)\n  sum(quantile\n(2, work_total))", "4:2");
    check("quantile((1) + (1), work_total)", "1:10");
    check("sum without (quantile) (abs(work_total)) or on (rate) quantile(2, work_total)", "1:64");
    check("vector(1) + on () group_left () quantile(2, work_total)", "1:42");
    check("label_replace(quantile(2, work_total), \"a(\", '(b', `c(`, \"\u{fc}\\\"[(]\")", "1:24");
    check("count({a!=\"\u{fc}(\", env=\"test\"}) + on () quantile(2, work_total)", "1:48");
    check("quantile_over_time(2, work_total{env=\"test\"}[1m+5s] offset (1s + 2s))", "1:20");
    check("max_over_time(quantile(2, work_total)[10s:2s+3s])", "1:24");
    // Said twice: the place is the last one's.
    check("quantile(2, work_total) + quantile(2, work_total)", "1:36");
    check("# quantile(3, a)\rquantile(2, work_total offset (1s + 2s))", "1:27");
}

#[test]
fn a_ratio_and_its_complement_make_the_whole() {
    let engine = engine(three_hosts());
    for ratio in ["0.1", "0.5", "0.9"] {
        let check = |query: String, expect: &str| assert_eq!(answer(&engine, &query), expect, "{query}");
        let (kept, rest) =
            (format!("limit_ratio({ratio}, work_total)"), format!("limit_ratio({ratio} - 1, work_total)"));
        check(format!("count({kept} or {rest})"), "{} 3");
        check(format!("count({kept} and {rest})"), "");
    }
}

#[test]
fn info_gives_the_labels_of_what_a_series_belongs_to() {
    let memory = three_hosts();
    let info = |name: &str, host: &str, pairs: &[(&str, &str)], stamp| {
        let pairs: Vec<_> = pairs.iter().copied().chain([("instance", host)]).collect();
        memory.append_sample(&labels(name, &pairs), at(stamp), 1.0);
    };
    info("target_info", "host-1", &[("env", "prod"), ("version", "1")], 50);
    info("target_info", "host-1", &[("version", "2")], 55);
    info("build_info", "host-2", &[("rev", "x")], 50);
    info("target_info", "host-3", &[("version", "3")], 50);
    info("target_info", "host-3", &[("version", "4")], 50);
    let engine = engine(memory);
    let check = |query: &str, expect: &str| assert_eq!(answer(&engine, query), expect, "{query}");
    let of = |host: u8, more: &str| {
        format!(r#"work_total{{env="test", instance="host-{host}"{more}}} {}"#, 60 * i32::from(host))
    };
    check("info(work_total{instance=\"host-1\"})", &of(1, ", version=\"2\""));
    check("info(work_total{instance=\"host-1\"}, {version=~\".+\"})", &of(1, ", version=\"2\""));
    check("info(work_total{instance=\"host-1\"}, {version=\"9\"})", "");
    check("info(work_total{instance=\"host-2\"})", &of(2, ""));
    check("info(work_total{instance=\"host-2\"}, {__name__=~\".+_info\"})", &of(2, ", rev=\"x\""));
    check("info(work_total{instance=\"host-2\"}, {__name__=\"build_info\", rev=\"y\"})", "");
    check("info(work_total{instance=\"host-3\"})", "execution: found duplicate series for info metric target_info");
    check(
        "info({__name__=\"target_info\", version=\"1\"})",
        r#"target_info{env="prod", instance="host-1", version="1"} 1"#,
    );
}

#[test]
fn a_query_is_a_tree_as_prometheus_draws_it() {
    let check = |query: &str, expect: serde_json::Value| assert_eq!(tree(query).unwrap(), expect, "{query}");
    let selector = |matchers: serde_json::Value| {
        serde_json::json!({
            "type": "vectorSelector", "name": "up", "offset": 0, "matchers": matchers, "timestamp": null, "startOrEnd": null,
        })
    };
    let name = serde_json::json!({"name": "__name__", "type": "=", "value": "up"});
    check("up", selector(serde_json::json!([name])));
    check("up{a!=\"b\"}", selector(serde_json::json!([name, {"name": "a", "type": "!=", "value": "b"}])));
    check("(1)", serde_json::json!({"type": "parenExpr", "expr": {"type": "numberLiteral", "val": "1"}}));
    assert!(tree("sum(").is_err() && tree("up[0s]").is_err());
    assert_eq!(format("sum by(a)(rate(up[1m+1m]))").unwrap(), "sum by (a) (rate(up[2m]))");
}
