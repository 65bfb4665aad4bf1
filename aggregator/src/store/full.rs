//! A disk that is full, or stands still, until a test lets it go on.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;

use rusqlite::Connection;
use rusqlite::Transaction;

use crate::store::Store;
use crate::store::Writer;
use crate::store::ledger::Ledger;
use crate::store::queue::Change;
use crate::store::reserve::Reserve;

/// Pages that the database may grow by: what is to fit while there is room fits.
const ROOM_PAGES: i64 = 1_024;

/// Pages left when it is full, so that filling it always succeeds itself.
const LEFT_PAGES: i64 = 4;

/// More bytes than fit into what a full disk has left.
pub(crate) const TOO_MANY_BYTES: usize = 64 << 10;

/// The disk under a writer's database.
pub(crate) struct Disk {
    filler: Connection,
    pages: i64,
}

impl Disk {
    /// Bounds the disk under a writer that does not run yet.
    pub(crate) fn under(writer: &Writer, data_dir: &Path) -> Self {
        let filler = Connection::open(data_dir.join("lapwing.db")).unwrap();
        filler.execute_batch("CREATE TABLE IF NOT EXISTS filler (bytes BLOB)").unwrap();
        let pages = asked(&filler, "page_count") + ROOM_PAGES;
        writer.connection.pragma_update(None, "max_page_count", pages).unwrap();
        Self { filler, pages }
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let left = self.pages - asked(&self.filler, "page_count") + asked(&self.filler, "freelist_count");
        let bytes = (left - LEFT_PAGES) * asked(&self.filler, "page_size");
        self.filler.execute("INSERT INTO filler VALUES (zeroblob(?1))", [bytes]).unwrap();
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        self.filler.execute("DELETE FROM filler", []).unwrap();
    }
}

/// Leaves no room under a writer for what appends, and some for what is little.
pub(crate) fn crowd(writer: &mut Writer, data_dir: &Path) {
    writer.reserve = Reserve::of_bytes(data_dir, 1 << 60);
}

fn asked(connection: &Connection, what: &str) -> i64 {
    connection.query_row(&format!("PRAGMA {what}"), [], |row| row.get(0)).unwrap()
}

/// Nothing is written from here on until what this answers is dropped.
pub(crate) fn stall(store: &Store) -> SyncSender<()> {
    let (stalled, until) = sync_channel(0);
    let (begun, beginning) = sync_channel(0);
    let changes = store.queue.changes();
    thread::spawn(move || {
        let make = Box::new(move |_: &Transaction<'_>, _: &Ledger| {
            begun.send(()).unwrap();
            until.recv().unwrap_err();
            Ok(())
        });
        changes.make(Change { make, gone: Vec::new(), then: Box::new(|| {}) })
    });
    beginning.recv().unwrap();
    stalled
}
