//! The log, read from its beginning, makes the head and the ledger that were there when it was written.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::ScopedJoinHandle;

use common::batch::Batch;
use common::batch::HostId;
use common::batch::RunId;
use common::metric::Labels;
use common::time::Timestamp;
use common::wire::codec::State;
use rusqlite::Connection;

use crate::store::Reading;
use crate::store::Shared;
use crate::store::catalog;
use crate::store::catalog::Sealed;
use crate::store::catalog::series;
use crate::store::ledger::Ledger;
use crate::store::log;
use crate::store::log::LogRow;
use crate::store::origin;
use crate::store::recall::Recall;
use crate::store::stage::decode;

/// Threads that read and append: a machine with more of them has a disk that is slower than that.
const HANDS_MAX: usize = 8;

/// Rows of a host that are appended at once, series after series: a series is looked for once and not once for each of
/// them, and as many make a chunk.
const ROWS_AT_ONCE: usize = 60;

/// Samples that wait to be appended: of a host of many series fewer rows are at once.
const SAMPLES_WAITING_MAX: usize = 1 << 18;

/// Rebuilds the head and answers the ledger. Rows that cannot be read are counted and passed over; of those that block
/// files cover only is taken what later ones are decoded against.
/// Nothing if the store was closed before the end.
pub(super) fn replay(connection: &Connection, shared: &Shared, now: Timestamp) -> rusqlite::Result<Option<Ledger>> {
    Books::read(connection, shared, now)?.replay(connection)
}

/// What is known before the first row is read.
pub(super) struct Books<'a> {
    shared: &'a Shared,
    sealed: HashMap<HostId, Sealed>,
    cutoff: Timestamp,
    now: Timestamp,
}

impl<'a> Books<'a> {
    /// Reads which series there are. Then what came before the first row that files do not cover can be answered.
    pub(super) fn read(connection: &Connection, shared: &'a Shared, now: Timestamp) -> rusqlite::Result<Self> {
        let sealed = catalog::sealed(connection)?;
        series::remove_unsealed(connection)?;
        let mut hosts: BTreeSet<HostId> = sealed.keys().copied().collect();
        hosts.extend(log::hosts_with_schemas(connection)?);
        let hosts: Vec<HostId> = hosts.into_iter().collect();
        let books = Self { shared, sealed, cutoff: now.before(shared.config.retention.raw), now };
        let next = AtomicUsize::new(0);
        let read_books = |connection: &Connection| {
            while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                books.of_host(connection, *host)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let hands: Vec<_> = (0..hands()).map(|_| scope.spawn(|| shared.readers.ask(read_books))).collect();
            hands.into_iter().try_for_each(joined)
        })?;
        let rows = log::rows(connection)?;
        let ((batches, first), (written, first_written)) =
            (rows.uncovered(&books.sealed), origin::uncovered(connection)?);
        *shared.rows() = rows;
        shared.progress.expect(batches + written);
        let unknown = first.into_iter().chain(first_written).min();
        shared.progress.set(Reading::Batches(unknown.unwrap_or(Timestamp::from_millis(i64::MAX))));
        Ok(books)
    }

    /// Reads the log, and answers the ledger.
    pub(super) fn replay(self, connection: &Connection) -> rusqlite::Result<Option<Ledger>> {
        let mut ledger = self.rows(connection)?;
        if !self.shared.progress.goes_on() {
            return Ok(None);
        }
        ledger.begin_behind(log::last_place(connection)?);
        // Those of which rows lie in the log have gone on since this was written.
        for (key, next) in log::spools(connection)? {
            if ledger.next(key) < next {
                ledger.reset(key, next);
            }
        }
        for (host, event) in log::events(connection)? {
            self.shared.head.push_event(host, event);
        }
        Ok(Some(ledger))
    }

    /// Reads what the books have of a host: its series that go on, and the schemas of its runs.
    fn of_host(&self, connection: &Connection, host: HostId) -> rusqlite::Result<()> {
        let head = &self.shared.head;
        if let Some(sealed) = self.sealed.get(&host) {
            head.resume(host, sealed);
            series::each_living(connection, host, |identity| head.recall(host, identity, sealed.latest()))?;
        }
        log::each_schema(connection, host, |run, change| {
            if let Err(error) = head.apply((host, run), &change, self.now) {
                tracing::warn!(%error, host = host.0, "a stored schema does not fit");
            }
        })
    }

    /// Reads the log of batches, host after host. What came with whole label sets is of others than batches are.
    fn rows(&self, connection: &Connection) -> rusqlite::Result<Ledger> {
        let mut labels = HashMap::<HostId, Vec<(i64, Labels)>>::new();
        for (after_log, host, set) in log::host_labels(connection)? {
            labels.entry(host).or_default().push((after_log, set));
        }
        let hosts: BTreeSet<HostId> = self.shared.rows().hosts().chain(labels.keys().copied()).collect();
        let hosts: Vec<HostId> = hosts.into_iter().collect();
        let next = AtomicUsize::new(0);
        let append = |connection: &Connection| {
            let recall = Recall { connection, head: &self.shared.head };
            let mut hand = Hand { books: self, recall, ledger: Ledger::default() };
            while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                hand.host(*host, labels.get(host).map_or(&[], Vec::as_slice))?;
            }
            Ok(hand.ledger)
        };
        thread::scope(|scope| {
            let written = scope.spawn(|| self.shared.readers.ask(|connection| self.written(connection)));
            let hands: Vec<_> = (0..hands()).map(|_| scope.spawn(|| self.shared.readers.ask(append))).collect();
            let mut ledger = Ledger::default();
            hands.into_iter().try_for_each(|hand| joined(hand).map(|read| ledger.join(read)))?;
            joined(written)?;
            Ok(ledger)
        })
    }

    /// Reads the log of series that come with their whole label sets.
    fn written(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { shared, cutoff, .. } = *self;
        let recall = Recall { connection, head: &shared.head };
        let unreadable = origin::each(connection, |origin, row, mut series| {
            shared.progress.note();
            if self.is_covered(origin, row) {
                return shared.progress.goes_on();
            }
            // A row may have samples on both sides of what files cover.
            let is_wanted = |stamp| cutoff < stamp && !self.is_covered(origin, (row.0, stamp));
            series.iter_mut().for_each(|written| written.samples.retain(|(stamp, _)| is_wanted(*stamp)));
            shared.counters.append(recall.append_written(origin, (row.0, &series)));
            shared.progress.goes_on()
        })?;
        shared.counters.unreadable(unreadable);
        Ok(())
    }

    fn is_covered(&self, host: HostId, (row, stamp): (i64, Timestamp)) -> bool {
        self.sealed.get(&host).is_some_and(|sealed| sealed.covers(row, stamp))
    }
}

/// How many threads read and append.
fn hands() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(HANDS_MAX)
}

fn joined<T>(hand: ScopedJoinHandle<'_, T>) -> T {
    hand.join().unwrap_or_else(|panicked| resume_unwind(panicked))
}

/// Who reads and appends the rows of some hosts.
struct Hand<'a> {
    books: &'a Books<'a>,
    recall: Recall<'a>,
    ledger: Ledger,
}

/// Rows of one host that wait to be appended together: of one run, and one version of its schema.
struct Waiting {
    host: HostId,
    run: RunId,
    version: u32,
    rows: Vec<(i64, Batch)>,
    samples: usize,
}

impl Hand<'_> {
    /// Reads the rows of a host, which had labels behind some of them.
    fn host(&mut self, host: HostId, mut labels: &[(i64, Labels)]) -> rusqlite::Result<()> {
        let progress = &self.books.shared.progress;
        let ids = self.books.shared.rows().in_order(host);
        let mut waiting = Waiting { host, run: RunId([0; 16]), version: 0, rows: Vec::new(), samples: 0 };
        for ids in ids.chunks(ROWS_AT_ONCE) {
            for row in log::at(self.recall.connection, ids)? {
                self.relabel(&mut labels, row.id, &mut waiting);
                self.row(row, &mut waiting);
                progress.note();
                if !progress.goes_on() {
                    return Ok(());
                }
            }
        }
        self.append(&mut waiting);
        self.relabel(&mut labels, i64::MAX, &mut waiting);
        Ok(())
    }

    /// Gives a host the labels that it had when a row came.
    fn relabel(&self, labels: &mut &[(i64, Labels)], row: i64, waiting: &mut Waiting) {
        while let Some(((_, next), behind)) = labels.split_first().filter(|((after_log, _), _)| *after_log < row) {
            self.append(waiting);
            self.recall.head.set_labels(waiting.host, next);
            *labels = behind;
        }
    }

    fn row(&mut self, LogRow { id, host, batch, intact }: LogRow, waiting: &mut Waiting) {
        let Books { shared, cutoff, now, .. } = *self.books;
        let key = (host, batch.spool);
        if !intact {
            shared.counters.unreadable(1);
            // Its own place may be what is damaged: it is the one behind the row before.
            let next = self.ledger.next(key).next();
            self.ledger.reset(key, next);
            return;
        }
        let state =
            if batch.keyframe { Some(State::default()) } else { self.ledger.take_state(key, batch.run, batch.seq) };
        let decoded = state.and_then(|mut state| {
            let decoded = decode(&shared.head, host, &batch, &mut state).ok()?;
            Some((decoded, state))
        });
        let Some((decoded, state)) = decoded else {
            shared.counters.unreadable(1);
            self.ledger.reset(key, batch.seq.next());
            return;
        };
        self.ledger.store(key, batch.seq, (batch.run, state, now));
        let (run, version) = (batch.run, batch.schema_version);
        if batch.stamp <= cutoff {
            return;
        }
        if self.books.is_covered(host, (id, batch.stamp)) {
            self.append(waiting);
            self.recall.pass((host, run), version, batch.stamp);
            return;
        }
        let is_full = ROWS_AT_ONCE <= waiting.rows.len() || SAMPLES_WAITING_MAX <= waiting.samples;
        if is_full || (waiting.run, waiting.version) != (run, version) {
            self.append(waiting);
            (waiting.run, waiting.version) = (run, version);
        }
        waiting.samples += decoded.samples.len();
        // Which processes did most is asked of the rows themselves.
        waiting.rows.push((id, Batch { processes: Vec::new(), ..decoded }));
    }

    /// Appends what waits.
    fn append(&self, waiting: &mut Waiting) {
        if !waiting.rows.is_empty() {
            let appended = self.recall.append((waiting.host, waiting.run), waiting.version, &waiting.rows);
            self.books.shared.counters.append(appended);
        }
        waiting.rows.clear();
        waiting.samples = 0;
    }
}
