//! Columns and bytes: a batch coded against the batch before it in the same spool.
//!
//! A payload is a list of sections: type, length, content. Sections of unknown type are skipped, so an old reader takes
//! what it knows of a newer writer's batch. A payload coded with a fresh [`State`] is a keyframe.

mod processes;
mod samples;
mod spread;

use bincode::config;

use self::processes::Known;
pub use self::processes::PROCESS_ROWS_MAX;
pub use self::processes::PROCESS_TEXT_BYTES_MAX;
use self::samples::Previous;
use crate::batch::Batch;
use crate::batch::Event;
use crate::schema::Schema;
use crate::schema::SeriesIndex;
use crate::time::Timestamp;
use crate::wire::bytes::Reader;
use crate::wire::bytes::put_sized;

/// The newest codec: numbers coded by their spread. `Hello` and `Welcome` agree on one; the older ones are read for ever.
pub const CODEC: u8 = 2;

/// The first codec: numbers as varints.
pub const CODEC_VARINTS: u8 = 1;

/// Whether this program can read and write a codec.
#[must_use]
pub const fn is_known(codec: u8) -> bool {
    CODEC_VARINTS <= codec && codec <= CODEC
}

/// The window's values.
const SAMPLES: u8 = 1;
/// The top processes.
const PROCESSES: u8 = 2;
/// What happened.
const EVENTS: u8 = 3;

/// What an [`Event`] list may take when decoded: far more than a frame can hold, so only a lie about a length meets it.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// What both sides remember of the batch before. Fresh, it stands before a keyframe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    series: Vec<Previous>,
    processes: Known,
}

impl State {
    /// The value at which a series stood in the latest batch that had it.
    #[must_use]
    pub fn last(&self, series: SeriesIndex) -> Option<f64> {
        self.series.get(series.0 as usize).map(|previous| previous.last)
    }

    /// Series that there is room for: what the state costs in memory.
    #[must_use]
    pub const fn series_count(&self) -> usize {
        self.series.len()
    }
}

/// Why a payload cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A codec that this program does not know.
    #[error("batch has the unknown codec {0}")]
    Unknown(u8),
    /// It ends too early.
    #[error("batch ends too early")]
    Truncated,
    /// It says something impossible.
    #[error("batch is malformed: {0}")]
    Malformed(&'static str),
    /// It uses a schema version that is not held.
    #[error("batch needs schema version {needed}, held is {held}")]
    Schema {
        /// What the batch needs.
        needed: u32,
        /// What is held.
        held: u32,
    },
}

/// Encodes a batch against the batch before it and makes it the one before the next, by a codec that [`is_known`]. Samples of series that do not
/// live in `version`, of the other kind than their column's, or without a tick are left out, as are processes beyond
/// [`PROCESS_ROWS_MAX`]; process texts are cut at [`PROCESS_TEXT_BYTES_MAX`]. A counter whose column keeps no peak loses it.
#[must_use]
pub fn encode(codec: u8, batch: &Batch, (schema, version): (&Schema, u32), state: &mut State) -> Vec<u8> {
    let against = Against { schema, version, stamp: batch.stamp };
    let mut payload = Vec::new();
    let mut section = |kind: u8, content: &[u8]| {
        payload.push(kind);
        put_sized(&mut payload, content);
    };
    section(SAMPLES, &samples::encode(codec, batch, against, &mut state.series));
    if !batch.processes.is_empty() {
        section(PROCESSES, &processes::encode(&batch.processes, &mut state.processes));
    }
    if !batch.events.is_empty() {
        section(EVENTS, &bincode::encode_to_vec(&batch.events, config::standard()).unwrap_or_default());
    }
    payload
}

/// Decodes a batch against the batch before it and makes it the one before the next. On an error the state stays.
///
/// # Errors
/// When the payload is not one that [`encode`] could have written for this schema and state.
pub fn decode(codec: u8, payload: &[u8], against: Against<'_>, state: &mut State) -> Result<Batch, CodecError> {
    if !is_known(codec) {
        return Err(CodecError::Unknown(codec));
    }
    if against.schema.version() < against.version {
        return Err(CodecError::Schema { needed: against.version, held: against.schema.version() });
    }
    let mut batch = Batch { stamp: against.stamp, ..Batch::default() };
    let mut codings = Vec::new();
    let mut reader = Reader::new(payload);
    let mut before = 0;
    while !reader.is_empty() {
        let kind = reader.byte()?;
        let content = reader.sized()?;
        if kind <= before {
            return Err(CodecError::Malformed("sections out of order"));
        }
        before = kind;
        match kind {
            SAMPLES => (batch.samples, codings) = samples::decode(codec, content, against, &state.series)?,
            PROCESSES => batch.processes = processes::decode(content, &state.processes)?,
            EVENTS => batch.events = decode_events(content)?,
            _ => {}
        }
    }
    samples::remember(&mut state.series, &batch.samples, &codings);
    if !batch.processes.is_empty() {
        state.processes.remember(&batch.processes);
    }
    Ok(batch)
}

/// What travels beside a payload and is needed to decode it.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// The schema of the batch's run.
    pub schema: &'a Schema,
    /// The version of it that the batch uses.
    pub version: u32,
    /// The batch's stamp.
    pub stamp: Timestamp,
}

fn decode_events(content: &[u8]) -> Result<Vec<Event>, CodecError> {
    let config = config::standard().with_limit::<EVENT_BYTES_MAX>();
    match bincode::decode_from_slice(content, config) {
        Ok((events, used)) if used == content.len() => Ok(events),
        _ => Err(CodecError::Malformed("events")),
    }
}

#[cfg(test)]
mod tests;
