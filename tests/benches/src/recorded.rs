//! Ten thousand series of an hour that was recorded on a real host, second by second: each series stands for a few, which
//! are minutes apart. The same every time.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::ensure;

use crate::synthetic::SERIES;

/// Recorded between two samples.
const TICKS: usize = 10;

/// By how much those series are apart that were one.
const APART: usize = 10 * 60;

/// All series, one step after the other; behind the hour they begin anew.
pub struct Recorded {
    series: Vec<Vec<f64>>,
    at: usize,
}

impl Recorded {
    /// Reads lines of a name, `c` or `g`, and a value each second, compressed by gzip. What was not always there is left out.
    ///
    /// # Errors
    /// When there is nothing to read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let output = Command::new("zcat").arg(path).output().context("zcat does not run")?;
        ensure!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8(output.stdout)?;
        let ticks = |line: &str| line.split('\t').skip(2).map(str::parse).collect::<Result<Vec<f64>, _>>().ok();
        let mut series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).filter_map(ticks).collect();
        let longest = series.iter().map(Vec::len).max().unwrap_or(0);
        series.retain(|ticks| ticks.len() == longest);
        ensure!(longest != 0, "{} has no series", path.display());
        Ok(Self { series, at: 0 })
    }

    /// The values of all series ten seconds later.
    pub fn step(&mut self) -> Vec<f64> {
        let value = |one: usize| {
            let ticks = &self.series[one % self.series.len()];
            ticks[(self.at + one / self.series.len() * APART) % ticks.len()]
        };
        let values = (0..SERIES).map(value).collect();
        self.at += TICKS;
        values
    }
}
