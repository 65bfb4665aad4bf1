//! Finished quarters of an hour leave the head: into files of a quarter, or of an hour or a day where that is long over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use common::batch::{Event, HostId};
use common::time::{TimeRange, Timestamp};
use common::wire::codec::State;

use crate::store::Shared;
use crate::store::beside;
use crate::store::beside::Table;
use crate::store::block;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::file::Beside;
use crate::store::block::file::FileWriter;
use crate::store::catalog;
use crate::store::catalog::Sealed;
use crate::store::catalog::series;
use crate::store::catalog::series::Identity;
use crate::store::catalog::series::Life;
use crate::store::chunk::Chunk;
use crate::store::chunk::Entry;
use crate::store::chunk::Shape;
use crate::store::database;
use crate::store::head::host::Frozen;
use crate::store::ledger::Key;
use crate::store::log;
use crate::store::log::LogRow;
use crate::store::origin;
use crate::store::origin::FORM_RECENT;
use crate::store::origin::OriginRow;
use crate::store::recent;
use crate::store::settle::SettleError;
use crate::store::settle::Settler;
use crate::store::stage::decode;

/// Series that are put into the catalog by one commit: a few tens of milliseconds of the writer.
const IDENTITIES_IN_CHANGE: usize = 5_000;

/// Hosts of whose spools one commit writes where they continue, for the same reason.
const HOSTS_IN_CHANGE: usize = 500;

/// Entries that make a chunk of a block file, and windows that differ from the one before: an hour of either.
pub(super) const ENTRIES_IN_CHUNK: usize = 360;

/// Free bytes of `lapwing.db` that the next rows find: a small house writes an hour into as many, and is spared moving pages.
const FREE_BYTES_KEPT: u64 = 4 << 20;

/// Bytes that one commit gives back to the disk: a few milliseconds of the writer.
const BYTES_IN_CHANGE: u32 = 1 << 20;

/// Series that wait for the commit that puts them into the catalog.
#[derive(Default)]
struct Waiting(Vec<(HostId, Vec<Identity>)>, usize);

/// What one host's part of the new files changes in the books.
#[derive(Clone)]
struct Change {
    host: HostId,
    sealed: Sealed,
    /// The last row of the table of events that the files have.
    event: i64,
    lives: Vec<(u32, Life)>,
}

impl Settler {
    /// Puts everything that hosts have and that is not after their cuts into block files.
    pub(super) fn seal(&mut self, cuts: Vec<(HostId, Timestamp)>) -> Result<(), SettleError> {
        self.seal += 1;
        let mut files = BTreeMap::new();
        let mut waiting = Waiting::default();
        let mut changes = Vec::new();
        for (host, cut) in cuts {
            self.shared.stop.go_on()?;
            let before = self.sealed.get(&host).copied().unwrap_or_default();
            // Where the clock was set back, what is covered stays covered.
            let cut = cut.max(before.cut);
            let mut frozen = self.shared.head.freeze(host, cut);
            waiting.push(host, std::mem::take(&mut frozen.new));
            if IDENTITIES_IN_CHANGE <= waiting.1 {
                self.record(std::mem::take(&mut waiting))?;
            }
            let tables = self.tables(host, &before, (frozen.applied.row, cut))?;
            let row = frozen.applied.row.max(before.row);
            let (next_number, last_stamp) = (frozen.next_number, frozen.last_stamp.max(before.last_stamp));
            let sealed = Sealed { row, cut, seal: self.seal, next_number, last_stamp };
            changes.push(Change {
                host,
                sealed,
                event: frozen.applied.event,
                lives: std::mem::take(&mut frozen.lives),
            });
            self.write(&mut files, (host, cut), frozen, tables)?;
        }
        self.record(waiting)?;
        let new = self.finish(files)?;
        self.publish(&new, changes)?;
        // Where they are appended to, so that none goes between being looked for and being appended to.
        let shared = Arc::clone(&self.shared);
        self.change(move |_, _| {
            shared.head.let_go();
            Ok(())
        })?;
        self.trim()
    }

    /// Writes what a host has into the files of its quarters.
    fn write(
        &mut self,
        files: &mut BTreeMap<Timestamp, FileWriter>,
        (host, cut): (HostId, Timestamp),
        frozen: Frozen,
        tables: Vec<Table>,
    ) -> Result<(), SettleError> {
        for series in &frozen.series {
            let entries = series.chunks.iter().flat_map(|chunk| chunk.decode(series.shape));
            for (range, entries) in by_span(entries, |entry: &Entry| span(entry.stamp, cut)) {
                let chunks = chunked(series.shape, &entries);
                self.file(files, range)?.put((host, series.number), series.shape, &chunks)?;
            }
        }
        for (hour, tables) in by_span(tables.into_iter(), |(stamp, _)| hour(*stamp, cut)) {
            let file = self.file(files, span(hour.through, cut))?;
            let (hour, _) = file.block().hours(hour);
            file.put_beside(Beside::Processes, (host, hour), &beside::encode_processes(tables))?;
        }
        let mut events = frozen.events;
        events.sort_by_key(|event| event.at);
        for (hour, events) in by_span(events.into_iter(), |event: &Event| hour(event.at, cut)) {
            let file = self.file(files, span(hour.through, cut))?;
            let (hour, _) = file.block().hours(hour);
            file.put_beside(Beside::Events, (host, hour), &beside::encode_events(&events))?;
        }
        Ok(())
    }

    fn file<'a>(
        &mut self,
        files: &'a mut BTreeMap<Timestamp, FileWriter>,
        range: TimeRange,
    ) -> Result<&'a mut FileWriter, SettleError> {
        match files.entry(range.through) {
            std::collections::btree_map::Entry::Occupied(file) => Ok(file.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let block = Block { id: self.next_block, tier: Tier::Raw, range };
                let file = FileWriter::create(self.shared.blocks.data_dir(), block)?;
                self.next_block += 1;
                Ok(place.insert(file))
            }
        }
    }

    /// Makes files durable.
    fn finish(&self, files: BTreeMap<Timestamp, FileWriter>) -> Result<Vec<(Block, u64)>, SettleError> {
        let finish = |file: FileWriter| {
            self.shared.stop.go_on()?;
            Ok((file.block(), file.finish()?))
        };
        files.into_values().map(finish).collect()
    }

    /// Records files and how far they go, and shows them in place of what the head set aside.
    fn publish(&mut self, new: &[(Block, u64)], changes: Vec<Change>) -> Result<(), SettleError> {
        let (shared, files, hosts) = (Arc::clone(&self.shared), new.to_vec(), changes.clone());
        self.change(move |transaction, _| {
            files.iter().try_for_each(|(block, bytes)| catalog::put_block(transaction, block, *bytes))?;
            // A host that was forgotten meanwhile stays forgotten.
            for Change { host, sealed, event, lives } in hosts.iter().filter(|of| shared.head.knows(of.host)) {
                catalog::put_sealed(transaction, *host, sealed)?;
                series::put_lives(transaction, *host, lives)?;
                log::remove_sealed_events(transaction, *host, (*event, sealed.cut))?;
            }
            Ok(())
        })?;
        let mut sealed_now = Vec::with_capacity(changes.len());
        for Change { host, sealed, lives, .. } in changes {
            self.sealed.insert(host, sealed);
            self.shared.head.note_recorded(host, lives.into_iter());
            sealed_now.push(host);
        }
        self.shared.blocks.replace(&[], new);
        sealed_now.into_iter().for_each(|host| self.shared.head.release(host));
        Ok(())
    }

    /// Removes the rows that files cover. They count no more; this only makes room. Those that lie beside each other go
    /// together, whosever they are: each page that they lie on is written once.
    fn trim(&self) -> Result<(), SettleError> {
        let covered = self.covered()?;
        let mut rows: Vec<i64> = covered.iter().flat_map(|(_, ids)| ids).copied().collect();
        rows.sort_unstable();
        self.remove_rows(&rows, log::remove)?;
        covered.iter().for_each(|(key, ids)| self.shared.rows().remove(*key, ids));
        let is_covered = |row: &OriginRow| self.sealed.get(&row.origin).is_some_and(|of| of.covers(row.id, row.stamp));
        let here = |row: &&OriginRow| row.form == FORM_RECENT || is_covered(row);
        let mut written: Vec<i64> = self.shared.tail().origins().filter(here).map(|row| row.id).collect();
        self.shared.readers.ask(|connection| {
            written.extend(recent::rows(connection)?);
            written.extend(origin::covered(connection)?);
            Ok(())
        })?;
        written.sort_unstable();
        self.change(|transaction, ledger| ledger.recent().write(transaction))?;
        self.remove_rows(&written, origin::remove)?;
        self.give_back()
    }

    /// The rows of each spool that files cover and nothing needs. Where it continues is written, as it follows from the last
    /// of them.
    fn covered(&self) -> Result<Vec<(Key, Vec<i64>)>, SettleError> {
        let sealed: Vec<(HostId, Sealed)> = self.sealed.iter().map(|(host, sealed)| (*host, *sealed)).collect();
        let covered = Arc::new(Mutex::new(Vec::new()));
        for some in sealed.chunks(HOSTS_IN_CHANGE) {
            let (some, shared, found) = (some.to_vec(), Arc::clone(&self.shared), Arc::clone(&covered));
            let now = self.shared.clock.wall();
            self.change(move |transaction, ledger| {
                for (host, sealed) in some {
                    let continued = |spool| ledger.continues((host, spool));
                    let of_host = shared.rows().covered((host, &sealed), continued);
                    for (spool, ids) in of_host {
                        let key = (host, spool);
                        log::set_next(transaction, key, (ledger.next(key), now))?;
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((key, ids));
                    }
                }
                Ok(())
            })?;
        }
        let covered = std::mem::take(&mut *covered.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(covered)
    }

    /// Gives what a backlog left empty back to the disk.
    fn give_back(&self) -> Result<(), SettleError> {
        let free = || self.shared.readers.ask(database::free_bytes);
        let mut before = u64::MAX;
        let mut left = free()?;
        if left <= FREE_BYTES_KEPT {
            return Ok(());
        }
        while FREE_BYTES_KEPT < left && left < before {
            self.change(|transaction, _| database::give_back(transaction, BYTES_IN_CHANGE))?;
            (before, left) = (left, free()?);
        }
        // Where little comes behind it, it would be hours until the disk had it.
        Ok(database::checkpoint(self.shared.readers.file())?)
    }

    /// Puts series into the catalog, so that files can name them.
    fn record(&self, Waiting(new, _): Waiting) -> Result<(), SettleError> {
        if new.is_empty() {
            return Ok(());
        }
        let (shared, wanted, seal) = (Arc::clone(&self.shared), new.clone(), self.seal);
        self.change(move |transaction, _| {
            for (host, mut new) in wanted {
                shared.head.retain_known(host, &mut new);
                series::put(transaction, (host, seal), &new)?;
            }
            Ok(())
        })?;
        for (host, new) in new {
            self.shared.head.note_recorded(host, new.iter().map(|series| (series.number, series.life)));
        }
        Ok(())
    }

    /// The process tables of a host that rows of the log have which files are to cover.
    fn tables(&self, host: HostId, before: &Sealed, through: (i64, Timestamp)) -> Result<Vec<Table>, SettleError> {
        let ids = self.shared.rows().of_host(host, through);
        let rows = self.shared.batches(&ids)?;
        Ok(tables(&self.shared, host, before, rows))
    }
}

impl Waiting {
    fn push(&mut self, host: HostId, new: Vec<Identity>) {
        self.1 += new.len();
        if !new.is_empty() {
            self.0.push((host, new));
        }
    }
}

fn tables(shared: &Shared, host: HostId, before: &Sealed, rows: Vec<LogRow>) -> Vec<Table> {
    let mut tables = BTreeMap::new();
    let mut state = State::default();
    for LogRow { id, batch, intact, .. } in rows {
        if batch.keyframe {
            state = State::default();
        }
        let decoded = if intact { decode(&shared.head, host, &batch, &mut state).ok() } else { None };
        let processes = decoded.map(|batch| batch.processes).unwrap_or_default();
        if !processes.is_empty() && !before.covers(id, batch.stamp) {
            tables.insert(batch.stamp, processes);
        }
    }
    tables.into_iter().collect()
}

/// The quarter of a stamp; its hour or its day, when that is over.
fn span(stamp: Timestamp, cut: Timestamp) -> TimeRange {
    Tier::Raw.finished(stamp, cut).unwrap_or_else(|| block::quarter(stamp))
}

/// The hour of a stamp, or what its file has of that.
fn hour(stamp: Timestamp, cut: Timestamp) -> TimeRange {
    let (hour, span) = (block::hour(stamp), span(stamp, cut));
    TimeRange { after: hour.after.max(span.after), through: hour.through.min(span.through) }
}

/// What ascends, cut where the span changes.
fn by_span<T>(items: impl Iterator<Item = T>, span: impl Fn(&T) -> TimeRange) -> Vec<(TimeRange, Vec<T>)> {
    let mut spans: Vec<(TimeRange, Vec<T>)> = Vec::new();
    for item in items {
        let range = span(&item);
        match spans.last_mut() {
            Some((same, items)) if *same == range => items.push(item),
            _ => spans.push((range, vec![item])),
        }
    }
    spans
}

/// Entries as chunks of a block file.
pub(super) fn chunked(shape: Shape, entries: &[Entry]) -> Vec<Chunk> {
    entries.chunks(ENTRIES_IN_CHUNK).map(|entries| Chunk::encode(shape, entries)).collect()
}
