//! What is stored becomes messages: read on a thread that may block, as fast as they are taken.

use common::batch::HostId;
use common::time::TimeRange;
use tokio::sync::mpsc;

use crate::config::Relabel;
use crate::forward::relabel::relabel;
use crate::receive::message::Message;
use crate::store::Store;
use crate::store::select::Field;
use crate::store::select::Grains;
use crate::store::select::Question;
use crate::store::select::SelectError;
use crate::store::select::Selected;

/// Samples of one message: what Prometheus sends at once, twice over, and a fraction of what receivers take.
pub(super) const SAMPLES_MAX: u64 = 5_000;

/// Bytes of one before it is compressed: labels may be long.
const BYTES_MAX: usize = 4 << 20;

/// Messages that wait while one is sent.
pub(super) const MESSAGES_MAX: usize = 2;

/// Samples as one message, and how many.
pub(super) type Sent = (Vec<u8>, u64);

/// Stored samples of one host or of all in a range.
pub(super) type Piece = (Option<HostId>, TimeRange);

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Nobody takes more messages.
    #[error("it was stopped")]
    Stopped,
}

/// Reads pieces, and hands messages on.
pub(super) fn read(
    store: &Store,
    pieces: &[Piece],
    rules: &[Relabel],
    messages: &mpsc::Sender<Sent>,
) -> Result<(), ReadingError> {
    let mut message = Message::default();
    let send = |message: &mut Message| {
        let samples = message.samples();
        messages.blocking_send((message.take(), samples)).map_err(|_| ReadingError::Stopped)
    };
    for (host, range) in pieces {
        let question =
            Question { matchers: &[], range: *range, fields: &[Field::Last], latest: false, grains: Grains::default() };
        store.select_of(*host, question, &mut |selected: Selected<'_>| {
            let Some(labels) = relabel(rules, selected.labels.whole()) else {
                return Ok(());
            };
            let samples = selected.samples.stamps.iter().zip(&selected.samples.columns[0]);
            let mut samples = samples.map(|(stamp, value)| (*stamp, *value)).peekable();
            while samples.peek().is_some() {
                let room = usize::try_from(SAMPLES_MAX - message.samples()).unwrap_or_default();
                message.push(&labels, samples.by_ref().take(room));
                if SAMPLES_MAX <= message.samples() || BYTES_MAX <= message.bytes() {
                    send(&mut message)?;
                }
            }
            Ok::<_, ReadingError>(())
        })?;
    }
    if 0 < message.samples() { send(&mut message) } else { Ok(()) }
}
