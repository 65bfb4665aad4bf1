//! What the flight recorder takes for a real host: `cargo test -p agent --test recorder_size -- --nocapture`.
#![expect(clippy::print_stderr, reason = "what is measured is printed")]
#![expect(clippy::disallowed_methods, reason = "where the data lies is the caller's to say")]

use std::path::PathBuf;
use std::process::Command;

use agent::recorder::Recorder;
use common::metric::Decimals;
use common::metric::Tier;
use common::schema::SeriesIndex;
use common::time::TimeRange;
use common::time::Timestamp;

/// Bytes a value when each series is due each second: ten minutes of 2,240 are then half a megabyte.
const BYTES_PER_VALUE_MAX: f64 = 0.35;

/// One host's `/proc` at 1 s for an hour: the decimals of each series, and its values.
fn recorded() -> Option<Vec<(Decimals, Vec<f64>)>> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let directory = std::env::var("LAPWING_TEST_DATA").map_or(beside, PathBuf::from);
    let output = Command::new("gzip").arg("-dc").arg(directory.join("proc_1h.tsv.gz")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|text| !text.is_empty())?;
    let series = text.lines().skip(1).map(|line| {
        let values: Vec<f64> = line.split('\t').skip(2).map_while(|field| field.parse().ok()).collect();
        let exact = |digits: &u8| values.iter().all(|value| Decimals::new(*digits).mantissa(*value).is_some());
        (Decimals::new((0..=9).find(exact).unwrap_or(255)), values)
    });
    Some(series.filter(|(_, values)| 3_600 <= values.len()).collect())
}

#[test]
fn ten_minutes_of_a_real_host_take_little() {
    let Some(recorded) = recorded() else {
        eprintln!("left out: proc_1h.tsv.gz is not there");
        return;
    };
    let recorder = Recorder::default();
    for at in 0..3_600 {
        let stamp = Timestamp::from_seconds(1_000_000 + i64::try_from(at).unwrap());
        let values: Vec<_> =
            (0..).zip(&recorded).map(|(series, (_, values))| (SeriesIndex(series), values[at])).collect();
        recorder.record(stamp, Tier::Second, &values, |series| recorded[series.0 as usize].0);
    }
    let ever = TimeRange { after: Timestamp::default(), through: Timestamp::from_seconds(2_000_000) };
    let (bytes, ticks) = (recorder.bytes(), recorder.read(ever).count());
    let values = ticks * recorded.len();
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let per_value = bytes as f64 / values as f64;
    eprintln!("{} series, {ticks} ticks: {bytes} bytes, {per_value:.3} a value", recorded.len());
    assert!(600 <= ticks);
    assert!(per_value <= BYTES_PER_VALUE_MAX, "{per_value:.3}");
}
