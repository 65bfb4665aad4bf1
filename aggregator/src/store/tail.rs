//! The newest rows of both logs, as the bytes of one row of the database that are written over in place: a commit of a few
//! batches changes the page or two that its record lies on, where rows of the logs would be pages added, and those that tell
//! of them. Most rows are in block files before there is no room for them. What is left then become rows of the logs.
//!
//! Records lie one behind the other; an empty one is the end, whatever lies behind it. What is to be written is planned first
//! and takes effect when it is durable.

use bincode::Decode;
use bincode::Encode;
use common::batch::EncodedBatch;
use common::batch::HostId;
use rusqlite::Connection;
use rusqlite::MAIN_DB;
use rusqlite::OptionalExtension as _;

use crate::store::log;
use crate::store::log::LogRow;
use crate::store::log::encoded;
use crate::store::origin;
use crate::store::origin::OriginRow;

/// Bytes that records have: three hosts of 300 series fill them in half an hour, and what is in block files goes each quarter.
const BYTES: usize = 512 << 10;

/// Bytes of a commit's rows that lie here. The pages that more of them add to the logs are full, and it would be written twice.
const RECORD_BYTES_MAX: usize = 8 << 10;

/// What a row takes beside its payload, at most.
const ROW_BYTES: usize = 96;

/// Length of the payload, checksum of that and of the payload.
const HEADER_BYTES: usize = 8;

/// The first byte of a payload: how the rest is written, which is as batches are. Who changes those counts on.
const FORM: u8 = 1;

/// The only row of the table.
const ID: i64 = 1;

/// The newest rows.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In the order of their places.
    rows: Vec<Row>,
    /// Where the next record begins.
    end: usize,
}

/// A row of one of the logs.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) enum Row {
    /// A batch of a host, at a place.
    Batch(i64, HostId, EncodedBatch),
    /// What is not a batch.
    Origin(OriginRow),
}

/// What a commit appends.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    rows: Vec<Row>,
    /// Hosts of which nothing before that stays.
    forgotten: Vec<HostId>,
}

/// What changes in one commit.
#[derive(Debug, Default, Encode, Decode)]
struct Record {
    /// The first and how many behind each other of those before it that are gone.
    gone: Vec<(i64, u64)>,
    rows: Vec<Row>,
}

/// What is to be written, and what is here then.
#[derive(Debug)]
pub(super) struct Plan {
    /// These become rows of the logs.
    moved: Vec<Row>,
    /// Where bytes are written over.
    bytes: (usize, Vec<u8>),
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// What was here and what a record changes, up to a new end.
    Continued(Record, usize),
    /// Only this.
    Replaced(Tail),
}

impl Row {
    pub(super) const fn place(&self) -> i64 {
        match self {
            Self::Batch(place, ..) => *place,
            Self::Origin(row) => row.id,
        }
    }

    fn bytes(&self) -> usize {
        let (Self::Batch(_, _, EncodedBatch { payload, .. }) | Self::Origin(OriginRow { payload, .. })) = self;
        ROW_BYTES + payload.len()
    }

    fn is_of(&self, hosts: &[HostId]) -> bool {
        matches!(self, Self::Batch(_, host, _) if hosts.contains(host))
    }

    fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Batch(place, host, batch) => log::insert(connection, (*place, *host), batch),
            Self::Origin(row) => origin::insert(connection, row),
        }
    }
}

impl Fresh {
    /// Adds a row behind all others.
    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// No batch of a host stays.
    pub(super) fn forget(&mut self, host: HostId) {
        self.rows.retain(|row| !row.is_of(&[host]));
        self.forgotten.push(host);
    }

    /// Adds what was appended after this.
    pub(super) fn join(&mut self, later: Self) {
        self.rows.retain(|row| !row.is_of(&later.forgotten));
        self.rows.extend(later.rows);
        self.forgotten.extend(later.forgotten);
    }
}

impl Tail {
    /// The batches at some places, as far as they are here: in the order of the places asked for.
    pub(super) fn batches(&self, places: &[i64]) -> Vec<LogRow> {
        let at = |place: &i64| self.rows.binary_search_by_key(place, Row::place).ok().map(|at| &self.rows[at]);
        let batch = |row: &Row| match row {
            Row::Batch(id, host, batch) => Some(LogRow { id: *id, host: *host, batch: batch.clone(), intact: true }),
            Row::Origin(_) => None,
        };
        places.iter().filter_map(at).filter_map(batch).collect()
    }

    /// Those that are no batches.
    pub(super) fn origins(&self) -> impl Iterator<Item = &OriginRow> {
        self.rows.iter().filter_map(|row| if let Row::Origin(row) = row { Some(row) } else { None })
    }

    /// The place of the first batch.
    pub(super) fn first_batch(&self) -> Option<i64> {
        self.rows.iter().find(|row| matches!(row, Row::Batch(..))).map(Row::place)
    }

    /// Appends rows behind all others.
    pub(super) fn append(&self, Fresh { mut rows, forgotten }: Fresh) -> rusqlite::Result<Plan> {
        let bytes: usize = rows.iter().map(Row::bytes).sum();
        let moved = if RECORD_BYTES_MAX < bytes { std::mem::take(&mut rows) } else { Vec::new() };
        let gone = self.rows.iter().filter(|row| row.is_of(&forgotten)).map(Row::place);
        self.change(moved, Record { gone: runs(gone), rows })
    }

    /// Removes the rows at some places, in their order.
    pub(super) fn remove(&self, places: &[i64]) -> rusqlite::Result<Plan> {
        let gone = self.rows.iter().map(Row::place).filter(|place| places.binary_search(place).is_ok());
        self.change(Vec::new(), Record { gone: runs(gone), rows: Vec::new() })
    }

    /// Makes rows of the logs of all.
    pub(super) fn empty(&self) -> rusqlite::Result<Plan> {
        self.replace(self.rows.clone(), Vec::new())
    }

    /// What was planned is durable.
    pub(super) fn apply(&mut self, plan: Plan) {
        match plan.then {
            Then::Continued(record, end) => self.go_on(record, end),
            Then::Replaced(tail) => *self = tail,
        }
    }

    fn go_on(&mut self, record: Record, end: usize) {
        self.rows.retain(|row| !record.removes(row));
        self.rows.extend(record.rows);
        self.end = end;
    }

    fn change(&self, mut moved: Vec<Row>, record: Record) -> rusqlite::Result<Plan> {
        if record.gone.is_empty() && record.rows.is_empty() {
            return Ok(Plan { moved, bytes: (self.end, Vec::new()), then: Then::Continued(record, self.end) });
        }
        let payload = payload(&record)?;
        let end = self.end + HEADER_BYTES + payload.len();
        // There is least to keep where some have gone.
        let room = if record.rows.is_empty() { BYTES / 2 } else { BYTES };
        if end + HEADER_BYTES <= room {
            let bytes = [with_header(&payload), with_header(&[])].concat();
            return Ok(Plan { moved, bytes: (self.end, bytes), then: Then::Continued(record, end) });
        }
        let mut kept: Vec<Row> = self.rows.iter().filter(|row| !record.removes(row)).cloned().collect();
        // Else it would be full again soon.
        if BYTES / 2 < encoded(&kept)?.len() {
            moved.append(&mut kept);
        }
        kept.extend(record.rows);
        self.replace(moved, kept)
    }

    /// Begins from the front, with rows that have room.
    fn replace(&self, moved: Vec<Row>, rows: Vec<Row>) -> rusqlite::Result<Plan> {
        let record = Record { gone: Vec::new(), rows };
        let mut bytes = Vec::new();
        if !record.rows.is_empty() {
            bytes = with_header(&payload(&record)?);
        }
        let end = bytes.len();
        bytes.extend(with_header(&[]));
        Ok(Plan { moved, bytes: (0, bytes), then: Then::Replaced(Self { rows: record.rows, end }) })
    }
}

impl Record {
    fn removes(&self, row: &Row) -> bool {
        let behind = self.gone.partition_point(|(first, _)| *first <= row.place());
        let run = behind.checked_sub(1).map(|run| self.gone[run]);
        run.is_some_and(|(first, count)| row.place().abs_diff(first) < count)
    }
}

/// Places that ascend, as the first and how many of those that lie behind each other.
fn runs(places: impl Iterator<Item = i64>) -> Vec<(i64, u64)> {
    let mut runs: Vec<(i64, u64)> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((first, count)) if place.abs_diff(*first) == *count => *count += 1,
            _ => runs.push((place, 1)),
        }
    }
    runs
}

impl Plan {
    /// Writes it.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (at, bytes) = &self.bytes;
        if !bytes.is_empty() {
            connection.blob_open(MAIN_DB, "tail", "records", ID, false)?.write_at(bytes, *at)?;
        }
        self.moved.iter().try_for_each(|row| row.insert(connection))
    }
}

/// Makes rows of the logs of what the tail has. Answers the tail, and how many of its records could not be read.
pub(super) fn open(connection: &mut Connection) -> rusqlite::Result<(Tail, u64)> {
    let transaction = connection.transaction()?;
    let (read, damaged) = parsed(&read(&transaction)?);
    // What is read is in the logs then, and room of another length goes.
    let sql = format!(
        "INSERT INTO tail (id, records) VALUES (?1, zeroblob({BYTES})) ON CONFLICT (id) \
         DO UPDATE SET records = excluded.records WHERE length(records) <> {BYTES}"
    );
    transaction.execute(&sql, [ID])?;
    let plan = read.empty()?;
    plan.write(&transaction)?;
    transaction.commit()?;
    let mut tail = Tail::default();
    tail.apply(plan);
    Ok((tail, damaged))
}

/// How many records cannot be read.
pub(super) fn damaged(connection: &Connection) -> rusqlite::Result<u64> {
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'tail')";
    // One that an older program wrote has none.
    let there: bool = connection.query_row(there, [], |row| row.get(0))?;
    Ok(if there { parsed(&read(connection)?).1 } else { 0 })
}

/// The bytes of all records; those of none where nothing was ever written.
fn read(connection: &Connection) -> rusqlite::Result<Vec<u8>> {
    let sql = "SELECT records FROM tail WHERE id = ?1";
    let bytes = connection.query_row(sql, [ID], |row| row.get(0)).optional()?;
    Ok(bytes.unwrap_or_else(|| with_header(&[])))
}

/// What is there, and how many records cannot be read. One that is damaged is passed over where another one or the end lies
/// behind it; else nobody knows where the next one begins.
fn parsed(bytes: &[u8]) -> (Tail, u64) {
    let (mut tail, mut damaged) = (Tail::default(), 0);
    let mut rest = bytes;
    while let Some((payload, behind)) = laid(rest) {
        let is_sound = is_sound(rest);
        if is_sound && payload.is_empty() {
            return (tail, damaged);
        }
        match is_sound.then(|| record(payload)).flatten() {
            Some(record) => tail.go_on(record, bytes.len() - behind.len()),
            None if self::is_sound(behind) => damaged += 1,
            None => break,
        }
        rest = behind;
    }
    (tail, damaged + 1)
}

fn record(payload: &[u8]) -> Option<Record> {
    let (&FORM, payload) = payload.split_first()? else { return None };
    let (record, read) = log::decoded_from(payload).ok()?;
    (read == payload.len()).then_some(record)
}

/// Whether bytes begin with a record as it was written, or with the end.
fn is_sound(bytes: &[u8]) -> bool {
    laid(bytes).is_some_and(|(payload, _)| bytes.starts_with(&header(payload)))
}

/// The payload of the record that bytes begin with, and what is behind it.
fn laid(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_le_bytes(*header.first_chunk()?);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

fn payload(record: &Record) -> rusqlite::Result<Vec<u8>> {
    Ok([&[FORM][..], &encoded(record)?].concat())
}

fn with_header(payload: &[u8]) -> Vec<u8> {
    [&header(payload), payload].concat()
}

fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // A record is shorter than all of them.
    header[..4].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&header[..4]);
    checksum.update(payload);
    header[4..].copy_from_slice(&checksum.finalize().to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn row(id: i64, bytes: usize) -> Row {
        let payload = vec![7; bytes];
        Row::Origin(OriginRow { id, origin: HostId(1), form: 1, stamp: Timestamp::from_seconds(id), payload })
    }

    #[test]
    fn what_is_damaged_is_not_decoded() {
        let record = |row| with_header(&payload(&Record { gone: Vec::new(), rows: vec![row] }).unwrap());
        let mut bytes = [record(row(1, 7)), record(row(2, 22)), with_header(&[])].concat();
        // How many rows there are, behind the form and how many are gone: what follows is that number.
        bytes[HEADER_BYTES + 2] = 253;
        let (tail, damaged) = parsed(&bytes);
        assert_eq!((tail.rows, damaged), (vec![row(2, 22)], 1));
    }

    proptest! {
        #[test]
        fn what_is_damaged_takes_no_other_record_with_it(
            sizes in prop::collection::vec(0..300_usize, 1..9),
            at in any::<prop::sample::Index>(),
            damage in 1..=u8::MAX,
        ) {
            let rows: Vec<Row> = (1..).zip(&sizes).map(|(id, bytes)| row(id, *bytes)).collect();
            let record = |row: &Row| with_header(&payload(&Record { gone: Vec::new(), rows: vec![row.clone()] }).unwrap());
            let records: Vec<Vec<u8>> = rows.iter().map(record).chain([with_header(&[])]).collect();
            // What lay there before has no meaning.
            let mut bytes = [&records.concat()[..], &[0xaa; 40]].concat();
            prop_assert_eq!((parsed(&bytes).0.rows, parsed(&bytes).1), (rows.clone(), 0));
            let ends: Vec<usize> = records.iter().scan(0, |end, record| { *end += record.len(); Some(*end) }).collect();
            let at = at.index(ends[ends.len() - 1]);
            bytes[at] ^= damage;
            let hit = ends.partition_point(|end| *end <= at);
            let (tail, damaged) = parsed(&bytes);
            let is_of_length = at - (ends[hit] - records[hit].len()) < 4;
            let expect: Vec<Row> = if is_of_length || hit == rows.len() {
                rows[..hit].to_vec()
            } else {
                rows.iter().enumerate().filter(|(one, _)| *one != hit).map(|(_, row)| row.clone()).collect()
            };
            prop_assert_eq!((tail.rows, damaged), (expect, 1));
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (tail, damaged) = parsed(&bytes);
            prop_assert!(tail.rows.is_empty() && damaged != 0);
        }
    }
}
