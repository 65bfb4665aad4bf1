//! The unit of delivery: everything that one host says about one window.

use std::fmt;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::metric::Labels;
use crate::schema::SeriesIndex;
use crate::time::Timestamp;
use crate::window::Window;

/// Length of the windows that agents ship.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Length of a tick.
pub const TICK: Duration = Duration::from_secs(1);

/// A host, as the aggregator numbers it. Origin 0 is the aggregator itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

impl HostId {
    /// The aggregator's own series: `up`, `ALERTS`, `lapwing_aggregator_…`.
    pub const AGGREGATOR: Self = Self(0);
}

/// One process start of an agent: random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RunId(pub [u8; 16]);

/// One ordered run of batches: random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SpoolId(pub [u8; 16]);

/// A batch's place in its spool, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Seq(pub u64);

impl Seq {
    /// The place behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One window of one host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// End of the window.
    pub stamp: Timestamp,
    /// The series that have a value, in the order of their index.
    pub samples: Vec<(SeriesIndex, Window)>,
    /// The processes that did most, if the agent could look.
    pub processes: Vec<Process>,
    /// What happened.
    pub events: Vec<Event>,
}

/// What one of the top processes did in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start, in clock ticks since boot: with the pid it names a process.
    pub start_ticks: u64,
    /// Name of the user, or the number where there is no name.
    pub user: String,
    /// `comm`.
    pub command: String,
    /// Command line with secrets masked, or empty.
    pub command_line: String,
    /// Name of the container it runs in, or empty.
    pub container: String,
    /// CPU time used, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory at the window's end, in bytes.
    pub resident_bytes: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
    /// Page faults that needed storage.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
    /// Threads.
    pub threads: u32,
}

/// Something that happened on a host.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What kind of thing: `agent_started`, `clock_stepped`, `container_started`, `oom_kill`, …
    pub kind: String,
    /// What it happened to, by the labels of its series; empty for the host itself.
    pub entity: Labels,
    /// One sentence for a person.
    pub text: String,
}

/// A batch as it travels and as the store keeps it: decodable with the schema and the batch before it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EncodedBatch {
    /// The agent run whose schema it uses.
    pub run: RunId,
    /// The spool it stands in.
    pub spool: SpoolId,
    /// Its place there.
    pub seq: Seq,
    /// The version of the schema it uses.
    pub schema_version: u32,
    /// End of the window.
    pub stamp: Timestamp,
    /// Number of the codec.
    pub codec: u8,
    /// Whether it can be decoded without the batch before it.
    pub keyframe: bool,
    /// What the codec made of the [`Batch`].
    pub payload: Vec<u8>,
}

impl EncodedBatch {
    /// Whether a batch with this stamp must be a keyframe: the first window of each quarter of an hour is, so that replay never
    /// has to go back further.
    #[must_use]
    pub fn quarter_begins(stamp: Timestamp) -> bool {
        const QUARTER: Duration = Duration::from_secs(900);
        stamp.before(WINDOW).align_down(QUARTER) == stamp.before(WINDOW)
    }
}

macro_rules! hexadecimal {
    ($id:ty) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

hexadecimal!(RunId);
hexadecimal!(SpoolId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_of_a_quarter_is_a_keyframe() {
        let check =
            |seconds, expect| assert_eq!(EncodedBatch::quarter_begins(Timestamp::from_seconds(seconds)), expect);
        check(3_600, false);
        check(3_610, true);
        check(3_620, false);
        check(4_510, true);
    }
}
