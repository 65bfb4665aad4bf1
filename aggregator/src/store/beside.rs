//! What lies beside the samples of a host in a block file: process tables and events.

use std::collections::BTreeMap;

use common::batch::{Batch, Event, HostId, Process};
use common::schema::Schema;
use common::time::{TimeRange, Timestamp};
use common::wire::codec::{self, Against, State};

use crate::store::block::Tier;
use crate::store::block::file::Beside;
use crate::store::block::set::BlockFile;
use crate::store::block::set::Blocks;

/// A process table and its window's stamp.
pub(super) type Table = (Timestamp, Vec<Process>);

/// Payloads of one hour's process tables, each with its stamp, behind the number of their codec. They are coded as they
/// travel, each against the one before.
type Payloads = (u8, Vec<(Timestamp, Vec<u8>)>);

/// Memory that the lists of one host's hour may take: a lie about a length is met by it.
const BESIDE_BYTES_MAX: usize = 1 << 30;

/// Writes tables, which ascend by stamp.
pub(super) fn encode_processes(tables: Vec<Table>) -> Vec<u8> {
    let mut state = State::default();
    let payload = |(stamp, processes): Table| {
        let batch = Batch { stamp, processes, ..Batch::default() };
        (stamp, codec::encode(codec::CODEC, &batch, (&Schema::default(), 0), &mut state))
    };
    let payloads: Payloads = (codec::CODEC, tables.into_iter().map(payload).collect());
    encoded(&payloads)
}

/// Reads them until one of them is the wanted one, or all.
pub(super) fn decode_processes(bytes: &[u8], wanted: impl Fn(Timestamp) -> bool) -> Vec<Table> {
    let mut state = State::default();
    let schema = Schema::default();
    let mut tables = Vec::new();
    let (codec, payloads) = decoded::<Payloads>(bytes).unwrap_or_default();
    for (stamp, payload) in payloads {
        let against = Against { schema: &schema, version: 0, stamp };
        let Ok(batch) = codec::decode(codec, &payload, against, &mut state) else {
            break;
        };
        tables.push((stamp, batch.processes));
        if wanted(stamp) {
            break;
        }
    }
    tables
}

/// The process table of the window that covers `at`, in block files.
pub(super) fn processes_at(blocks: &Blocks, host: HostId, at: Timestamp) -> Option<Table> {
    let through = at.after(common::batch::WINDOW).before(std::time::Duration::from_millis(1));
    let covering = TimeRange { after: at.before(std::time::Duration::from_millis(1)), through };
    let files = blocks.overlapping(Tier::Raw, covering);
    let found = files.iter().rev().filter_map(|file| {
        let hours = blocks.beside(file, (Beside::Processes, host), covering);
        let last = |bytes: &Vec<u8>| decode_processes(bytes, |stamp| at <= stamp).pop();
        hours.iter().filter_map(last).find(|(stamp, _)| covering.contains(*stamp))
    });
    found.min_by_key(|(stamp, _)| *stamp)
}

/// Writes events.
pub(super) fn encode_events(events: &[Event]) -> Vec<u8> {
    encoded(&events)
}

/// Reads them.
pub(super) fn decode_events(bytes: &[u8]) -> Vec<Event> {
    decoded(bytes).unwrap_or_default()
}

/// The events of a host in a range that a file has.
pub(super) fn events(blocks: &Blocks, file: &BlockFile, (host, range): (HostId, TimeRange)) -> Vec<Event> {
    let hours = blocks.beside(file, (Beside::Events, host), range);
    hours.iter().flat_map(|bytes| decode_events(bytes)).filter(|event| range.contains(event.at)).collect()
}

/// One of what several files have beside the samples of a host in an hour, the earlier written before the later.
pub(super) fn join(what: Beside, mut written: Vec<Vec<u8>>) -> Vec<u8> {
    if let [_] = written.as_slice() {
        return written.remove(0);
    }
    match what {
        Beside::Processes => {
            let tables = written.iter().flat_map(|bytes| decode_processes(bytes, |_| false));
            encode_processes(tables.collect::<BTreeMap<_, _>>().into_iter().collect())
        }
        Beside::Events => {
            let mut events: Vec<Event> = written.iter().flat_map(|bytes| decode_events(bytes)).collect();
            events.sort_by_key(|event| event.at);
            encode_events(&events)
        }
    }
}

fn encoded(value: &impl bincode::Encode) -> Vec<u8> {
    bincode::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

fn decoded<T: bincode::Decode<()>>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<BESIDE_BYTES_MAX>();
    bincode::decode_from_slice(bytes, config).ok().map(|(value, _)| value)
}
