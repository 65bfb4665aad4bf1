//! The log, read from its beginning, makes the head and the ledger that were there when it was written.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::thread::ScopedJoinHandle;

use common::batch::HostId;
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

/// Threads that append what another one reads: a machine with more of them has a disk that is slower than that.
const HANDS_MAX: usize = 4;

/// Bytes of rows that are handed over at once: enough that each host has some of them, and the series of one host stay
/// near the processor while its rows are appended.
const STEP_BYTES: usize = 2 << 20;

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

    /// Reads the log: this thread the rows of batches, and others, each of which has hosts of its own, append them. What
    /// came with whole label sets is of others than batches are.
    fn rows(&self, connection: &Connection) -> rusqlite::Result<Ledger> {
        let count = hands();
        let mut labels = vec![HashMap::<HostId, VecDeque<(i64, Labels)>>::new(); count];
        for (after_log, host, set) in log::host_labels(connection)? {
            labels[host.0 as usize % count].entry(host).or_default().push_back((after_log, set));
        }
        thread::scope(|scope| {
            let written = scope.spawn(|| self.shared.readers.ask(|connection| self.written(connection)));
            let mut hands: Vec<_> = labels
                .into_iter()
                .map(|labels| {
                    let (give, steps) = sync_channel(1);
                    let append = |connection: &Connection| {
                        let recall = Recall { connection, head: &self.shared.head };
                        Ok(Hand { books: self, recall, labels, ledger: Ledger::default() }.run(steps))
                    };
                    Step { rows: Vec::new(), bytes: 0, give, hand: scope.spawn(|| self.shared.readers.ask(append)) }
                })
                .collect();
            log::each(connection, |row| {
                hands[row.host.0 as usize % count].push(row);
                self.shared.progress.note();
                self.shared.progress.goes_on()
            })?;
            let hands: Vec<_> = hands.into_iter().map(Step::finish).collect();
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

/// How many threads append.
fn hands() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(HANDS_MAX)
}

fn joined<T>(hand: ScopedJoinHandle<'_, T>) -> T {
    hand.join().unwrap_or_else(|panicked| resume_unwind(panicked))
}

/// Rows that wait until there are enough of them for whoever appends them.
struct Step<'scope> {
    rows: Vec<LogRow>,
    bytes: usize,
    give: SyncSender<Vec<LogRow>>,
    hand: ScopedJoinHandle<'scope, rusqlite::Result<Ledger>>,
}

impl<'scope> Step<'scope> {
    fn push(&mut self, row: LogRow) {
        self.bytes += row.batch.payload.len();
        self.rows.push(row);
        if STEP_BYTES <= self.bytes {
            self.bytes = 0;
            // Whoever ended early says why when it is joined.
            self.give.send(std::mem::take(&mut self.rows)).unwrap_or_default();
        }
    }

    /// Hands over the rest. Who appends ends then.
    fn finish(self) -> ScopedJoinHandle<'scope, rusqlite::Result<Ledger>> {
        self.give.send(self.rows).unwrap_or_default();
        self.hand
    }
}

/// Who appends the rows of some hosts.
struct Hand<'a> {
    books: &'a Books<'a>,
    recall: Recall<'a>,
    /// Labels that its hosts have from some row on.
    labels: HashMap<HostId, VecDeque<(i64, Labels)>>,
    ledger: Ledger,
}

impl Hand<'_> {
    fn run(mut self, steps: Receiver<Vec<LogRow>>) -> Ledger {
        for mut rows in steps {
            // Host after host; those of one stay in their order.
            rows.sort_by_key(|row| row.host);
            for row in rows {
                self.relabel(row.host, row.id);
                self.row(row);
            }
        }
        let hosts: Vec<HostId> = self.labels.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.relabel(host, i64::MAX));
        self.ledger
    }

    /// Gives a host the labels that it had when a row came.
    fn relabel(&mut self, host: HostId, row: i64) {
        let Some(labels) = self.labels.get_mut(&host) else {
            return;
        };
        let is_due = |(after_log, _): &(i64, Labels)| *after_log < row;
        while labels.front().is_some_and(is_due)
            && let Some((_, labels)) = labels.pop_front()
        {
            self.recall.head.set_labels(host, &labels);
        }
    }

    fn row(&mut self, LogRow { id, host, batch, intact }: LogRow) {
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
        let (run, version) = ((host, batch.run), batch.schema_version);
        if batch.stamp <= cutoff {
            return;
        }
        if self.books.is_covered(host, (id, batch.stamp)) {
            shared.head.pass(run, version, batch.stamp);
        } else {
            shared.counters.append(self.recall.append(run, version, (id, &decoded)));
        }
    }
}
