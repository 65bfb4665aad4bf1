//! The same samples for all, by remote write.

use std::time::Duration;

use futures::future::try_join_all;

use crate::peer::Peer;
use crate::peer::message;
use crate::synthetic::SERIES;
use crate::synthetic::Synthetic;
use crate::synthetic::labels;

/// Between two samples of a series.
pub const STEP_MS: i64 = 10_000;

/// Steps of a series in one message: senders gather some.
const STEPS: usize = 30;

/// Series in one message: about the 10,000 samples that Prometheus sends at once.
const SERIES_IN_MESSAGE: usize = 400;

/// What was written.
pub struct Filled {
    /// Samples.
    pub samples: usize,
    /// Processor time of each that it was written to.
    pub used: Vec<Duration>,
}

/// Writes `steps` samples of each series, up to `end`, to all.
///
/// # Errors
/// When one refuses them.
pub async fn fill(peers: &[Peer], end: i64, steps: i64) -> anyhow::Result<Filled> {
    let mut synthetic = Synthetic::default();
    let mut filled = Filled { samples: 0, used: vec![Duration::ZERO; peers.len()] };
    let mut from = end - (steps - 1) * STEP_MS;
    while from <= end {
        let stamps: Vec<i64> =
            (0_i64..).map(|at| from + at * STEP_MS).take(STEPS).take_while(|at| *at <= end).collect();
        let mut columns = vec![Vec::new(); SERIES];
        for stamp in &stamps {
            columns.iter_mut().zip(synthetic.step()).for_each(|(column, value)| column.push((*stamp, value)));
        }
        let messages = (0..SERIES).step_by(SERIES_IN_MESSAGE).map(|first| {
            let some = first..SERIES.min(first + SERIES_IN_MESSAGE);
            message(some.map(|one| (labels(one), columns[one].as_slice())))
        });
        let messages: Vec<_> = messages.collect();
        for (peer, used) in peers.iter().zip(&mut filled.used) {
            let before = peer.process.cpu()?;
            // At once, as a sender's shards do: who answers when it is durable makes them wait together.
            try_join_all(messages.iter().map(|message| peer.write(message))).await?;
            *used += peer.process.cpu()? - before;
        }
        filled.samples += stamps.len() * SERIES;
        from += i64::try_from(STEPS)? * STEP_MS;
    }
    Ok(filled)
}
