//! Samples and queries by chance, from a seed.
//!
//! Debian's Prometheus is 2.42. Where it differs from 3, nothing is asked:
//! - a window holds its left end there: no sample lies where a window ends (samples on 5 ms of ten, moments on 2, steps
//!   of subqueries on 0);
//! - a counter that was reset is extrapolated in another way after a gap: counters have none;
//! - names are dropped early there: nothing is grouped by name, and where two names become one it fails;
//! - sums of an aggregation lose what rounding loses: all values are positive, of one magnitude;
//! - `predict_linear` of a selector with `@` loses steps there;
//! - it does not know the functions that came since.
//!
//! Nor is asked what rounding decides: the deviation or the changes of values that may be equal, the first among equals.

use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;

/// Series and their samples.
pub(crate) type Samples = Vec<(Labels, Vec<(Timestamp, f64)>)>;

/// When the samples begin, and how long they go on.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;
pub(crate) const LENGTH_MS: i64 = 3_600_000;

/// Chance.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a limit.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        // Steele, Lea, Flood: SplitMix.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let limit = u32::try_from(choices.len()).unwrap();
        choices[self.below(limit) as usize]
    }

    /// A moment within the samples, or a little beside them: never where a sample lies.
    pub(crate) fn moment(&mut self) -> Timestamp {
        let ten_ms = i64::from(self.below(400_000)) - 20_000;
        Timestamp::from_millis(BEGIN_MS + ten_ms * 10 + 2)
    }
}

/// Gauges, counters that are reset, and a histogram, each of a few hosts, at irregular stamps with gaps.
pub(crate) fn samples(chance: &mut Chance) -> Samples {
    let mut samples = Vec::new();
    for host in ["a", "b", "c", "d"] {
        for name in ["heat", "load", "work_total", "tick_total"] {
            for disk in ["x", "y"] {
                let labels = Labels::new().with(NAME, name).with("host", host).with("disk", disk);
                let labels = labels.with("odd", if host == "a" || host == "c" { "1" } else { "0" });
                samples.push((labels, walk(chance, name.ends_with("_total"))));
            }
        }
        let labels = Labels::new().with(NAME, "about").with("host", host).with("rev", &*format!("r{host}"));
        samples.push((labels, walk(chance, false).into_iter().map(|(stamp, _)| (stamp, 1.0)).collect()));
        let stamps: Vec<_> = walk(chance, false).into_iter().map(|(stamp, _)| stamp).collect();
        let mut counts = [1_000.0; 5];
        let mut buckets = vec![Vec::new(); 5];
        for stamp in stamps {
            let mut below = 0.0;
            for (at, count) in counts.iter_mut().enumerate() {
                below += f64::from(chance.below(20));
                *count += below;
                buckets[at].push((stamp, *count));
            }
        }
        for (le, points) in ["0.1", "0.5", "1", "5", "+Inf"].into_iter().zip(buckets) {
            let labels = Labels::new().with(NAME, "took_seconds_bucket").with("host", host).with("le", le);
            samples.push((labels, points));
        }
    }
    samples
}

fn walk(chance: &mut Chance, counter: bool) -> Vec<(Timestamp, f64)> {
    let mut points = Vec::new();
    let mut at = BEGIN_MS + 125 + 250 * i64::from(chance.below(120));
    let start = 1e6;
    let mut value = start + f64::from(chance.below(1_000));
    while at < BEGIN_MS + LENGTH_MS {
        let step = f64::from(chance.below(10_000)) / 16.0;
        value = match (counter, chance.below(60)) {
            (true, 0) => start + step,
            (true, _) => value + step,
            (false, _) => start + step * 1_000.0,
        };
        points.push((Timestamp::from_millis(at), value));
        // A stamp is exact in a float of seconds: promtool reads one.
        at += if !counter && chance.below(50) == 0 { 400_000 } else { 8_000 + 250 * i64::from(chance.below(40)) };
    }
    points
}

/// A query that answers an instant vector.
pub(crate) fn vector(chance: &mut Chance, depth: u32) -> String {
    let Some(deeper) = depth.checked_sub(1) else {
        return if chance.below(2) == 0 { selector(chance) } else { over_time(chance) };
    };
    match chance.below(12) {
        0 | 1 => selector(chance),
        2 | 3 => over_time(chance),
        4 => aggregation(chance, deeper),
        5 => {
            // Of samples as they are: no two are equal, and among equals each picks its own.
            let (of, op) = (chance.of(&["heat", "load", "work_total"]), chance.of(&["topk", "bottomk"]));
            format!("{op} {} (3, {of})", grouping(chance))
        }
        6 => format!("{} {} {}", vector(chance, deeper), chance.of(WITH_SCALAR), 1 + chance.below(1_000_000)),
        7 => binary(chance, deeper, JOINS, MATCHINGS),
        8 => binary(chance, deeper, &["and", "or", "unless"], &["", "on (host)", "ignoring (odd)"]),
        9 => {
            let (share, range) = (chance.below(100), duration(chance, 300));
            format!("histogram_quantile(0.{share:02}, sum by (le, host) (rate(took_seconds_bucket[{range}])))")
        }
        10 => {
            let (call, of) = (chance.of(OF_SUBQUERIES), vector(chance, deeper));
            let (range, step) = (duration(chance, 600), duration(chance, 90));
            format!("{call}(({of})[{range}:{step}]{})", shift(chance))
        }
        _ => chance.of(CALLS).replace('V', &vector(chance, deeper)),
    }
}

const WITH_SCALAR: &[&str] = &["+", "-", "*", "/", "%", ">", "<=", "!= bool", "< bool"];

const JOINS: &[&str] = &["+", "*", "/", ">", "<", "== bool"];

#[rustfmt::skip]
const MATCHINGS: &[&str] = &[
    "", "on (host, disk)", "ignoring (disk)", "on (host) group_left", "ignoring (le) group_right",
    "on (host) group_right (rev)",
];

#[rustfmt::skip]
const OF_SUBQUERIES: &[&str] = &[
    "max_over_time", "min_over_time", "avg_over_time", "sum_over_time", "last_over_time", "count_over_time", "delta",
];

#[rustfmt::skip]
const OVER_TIME: &[&str] = &[
    "delta(V)", "irate(V)", "idelta(V)", "avg_over_time(V)", "min_over_time(V)", "max_over_time(V)", "sum_over_time(V)",
    "count_over_time(V)", "last_over_time(V)", "present_over_time(V)", "stddev_over_time(V)", "stdvar_over_time(V)",
    "quantile_over_time(0.3, V)", "changes(V)", "resets(V)", "deriv(V)", "absent_over_time(V)",
];

#[rustfmt::skip]
const CALLS: &[&str] = &[
    "abs(V)", "ceil(V)", "floor(V)", "sqrt(V)", "ln(V)", "log2(V)", "log10(V)", "sgn(V)", "round(V)", "timestamp(V)",
    "day_of_week(V)", "hour(V)", "minute(V)", "deg(V)", "rad(V)", "absent(V)", "sort(V)", "sort_desc(V)", "-(V)",
    "clamp(V, 1000000, 1500000)", "clamp_min(V, 1200000)", "label_join(V, \"both\", \"-\", \"host\", \"disk\")",
    "label_replace(V, \"host\", \"$1-$1\", \"host\", \"(.)\")",
];

fn aggregation(chance: &mut Chance, deeper: u32) -> String {
    let (of, grouping) = (vector(chance, deeper), grouping(chance));
    match chance.below(10) {
        0 => format!("quantile {grouping} (0.7, {of})"),
        1 => format!("count_values {grouping} (\"value\", round({of}, 100000))"),
        _ => {
            let op = chance.of(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
            format!("{op} {grouping} ({of})")
        }
    }
}

fn binary(chance: &mut Chance, deeper: u32, ops: &[&str], matchings: &[&str]) -> String {
    let (left, right) = (vector(chance, deeper), vector(chance, deeper));
    format!("({left}) {} {} ({right})", chance.of(ops), chance.of(matchings))
}

fn over_time(chance: &mut Chance) -> String {
    let (of, shift) = (plain(chance), shift(chance));
    let range = duration(chance, 900);
    if chance.below(8) == 0 {
        let (call, of) =
            (chance.of(&["rate", "increase"]), chance.of(&["work_total", "tick_total", "took_seconds_bucket"]));
        return format!("{call}({of}[{range}]{shift})");
    }
    if chance.below(20) == 0 {
        // Without `@`: with it, 2.42 loses steps.
        return format!("predict_linear({of}[{range}], 60)");
    }
    let call = chance.of(OVER_TIME);
    call.replace('V', &format!("{of}[{range}]{shift}"))
}

fn selector(chance: &mut Chance) -> String {
    plain(chance) + &shift(chance)
}

fn plain(chance: &mut Chance) -> String {
    let name = chance.of(&["heat", "load", "work_total", "tick_total", "about", "took_seconds_bucket"]);
    let matchers = chance.of(&[
        "",
        "{host=\"a\"}",
        "{host!=\"a\"}",
        "{host=~\"a|c\"}",
        "{host!~\"[ab]\", disk=\"x\"}",
        "{odd=\"1\"}",
        "{host=\"nobody\"}",
    ]);
    format!("{name}{matchers}")
}

fn shift(chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => format!(" offset {}", duration(chance, 900)),
        1 => format!(" offset -{}", duration(chance, 900)),
        2 => format!(" @ {:.3}", chance.moment().as_seconds()),
        3 => chance.of(&[" @ start()", " @ end()"]).to_owned(),
        _ => String::new(),
    }
}

fn grouping(chance: &mut Chance) -> &'static str {
    chance.of(&["", "by (host)", "by (host, disk)", "by (le)", "without (host)", "without (disk, odd)", "by (odd)"])
}

/// A multiple of ten milliseconds.
fn duration(chance: &mut Chance, seconds_max: u32) -> String {
    format!("{}ms", 1_000 + 10 * chance.below(seconds_max * 100))
}
