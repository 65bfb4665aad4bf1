//! The same samples for all, by remote write.

use std::path::Path;
use std::time::Duration;

use common::metric::Labels;
use common::metric::NAME;
use futures::future::try_join_all;

use crate::peer::Peer;
use crate::peer::message;
use crate::recorded::Recorded;
use crate::synthetic::SERIES;
use crate::synthetic::Synthetic;
use crate::synthetic::labels;

/// Between two samples of a series.
pub const STEP_MS: i64 = 10_000;

/// Between two samples of a series that is looked back at for a month.
pub const MONTH_STEP_MS: i64 = 60_000;

/// How many there are of those: what one host has.
pub const MONTH_SERIES: usize = 100;

/// What their metric is called.
pub const MONTH_METRIC: &str = "month";

/// Steps of a series in one message: senders gather some.
const STEPS: usize = 30;

/// Samples in one message: about the 10,000 that Prometheus sends at once.
const SAMPLES_IN_MESSAGE: usize = 12_000;

/// What was written.
pub struct Filled {
    /// Samples.
    pub samples: usize,
    /// Processor time of each that it was written to.
    pub used: Vec<Duration>,
}

/// Writes `steps` samples of each series, up to `end`, to all: made ones, or those of a recorded hour.
///
/// # Errors
/// When one refuses them, or the recorded ones cannot be read.
pub async fn fill(peers: &[Peer], end: i64, steps: i64, recorded: Option<&Path>) -> anyhow::Result<Filled> {
    let mut made = Synthetic::default();
    let mut recorded = recorded.map(Recorded::read).transpose()?;
    let mut values = || recorded.as_mut().map_or_else(|| made.step(), Recorded::step);
    fill_with(peers, (end, STEP_MS, steps), (SERIES, STEPS), (&labels, &mut values)).await
}

/// Writes thirty days of samples of the series that are looked back at for a month, up to `end`, to all.
///
/// # Errors
/// When one refuses them.
pub async fn fill_month(peers: &[Peer], end: i64) -> anyhow::Result<Filled> {
    const STEPS: i64 = 30 * 24 * 60;
    // Prometheus takes nothing that is an hour older than what it has seen of others.
    const STEPS_AT_ONCE: usize = 30;
    let labels = |one: usize| labels(one).with(NAME, MONTH_METRIC);
    let mut made = Synthetic::new(MONTH_SERIES);
    let size = (MONTH_SERIES, STEPS_AT_ONCE);
    fill_with(peers, (end, MONTH_STEP_MS, STEPS), size, (&labels, &mut || made.step())).await
}

async fn fill_with(
    peers: &[Peer],
    (end, step, steps): (i64, i64, i64),
    (series, steps_at_once): (usize, usize),
    (labels, values): (&dyn Fn(usize) -> Labels, &mut dyn FnMut() -> Vec<f64>),
) -> anyhow::Result<Filled> {
    let mut filled = Filled { samples: 0, used: vec![Duration::ZERO; peers.len()] };
    let in_message = (SAMPLES_IN_MESSAGE / steps_at_once).max(1);
    let mut from = end - (steps - 1) * step;
    while from <= end {
        let stamps: Vec<i64> =
            (0_i64..).map(|at| from + at * step).take(steps_at_once).take_while(|at| *at <= end).collect();
        let mut columns = vec![Vec::new(); series];
        for stamp in &stamps {
            columns.iter_mut().zip(values()).for_each(|(column, value)| column.push((*stamp, value)));
        }
        let messages = (0..series).step_by(in_message).map(|first| {
            let some = first..series.min(first + in_message);
            message(some.map(|one| (labels(one), columns[one].as_slice())))
        });
        let messages: Vec<_> = messages.collect();
        for (peer, used) in peers.iter().zip(&mut filled.used) {
            let before = peer.process.cpu()?;
            // At once, as a sender's shards do: who answers when it is durable makes them wait together.
            try_join_all(messages.iter().map(|message| peer.write(message))).await?;
            *used += peer.process.cpu()? - before;
        }
        filled.samples += stamps.len() * series;
        from += i64::try_from(steps_at_once)? * step;
    }
    Ok(filled)
}
