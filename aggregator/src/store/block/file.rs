//! One block file: an SQLite database that is written once, under another name, and read for as long as it is there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::batch::HostId;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::block::Block;
use crate::store::block::part::Part;
use crate::store::block::part::PartBuilder;
use crate::store::block::part::PartSeries;
use crate::store::chunk::Chunk;
use crate::store::chunk::Shape;

/// What a part aims at: an idle host's hour is one, and a reader of one series does not read much else.
const PART_BYTES: usize = 64 << 10;

/// Kibibytes of a reader's own cache: what is read once is not read soon again.
const CACHE_KIBIBYTES: i64 = 64;

/// `LAPW`, so that `file` and a person can tell what it is.
const APPLICATION_ID: i32 = 0x4c41_5057;

/// The only form there is.
const FORM: u32 = 2;

const TABLES: &str = "
    CREATE TABLE about (id INTEGER NOT NULL, tier INTEGER NOT NULL, after_ms INTEGER NOT NULL, through_ms INTEGER NOT NULL);
    CREATE TABLE part (key INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL);
    CREATE TABLE processes (key INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL);
    CREATE TABLE events (key INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL);
";

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum FileError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Damaged(&'static str),
}

impl FileError {
    /// Whether the file is not what was written, so that trying again is no use.
    pub(in crate::store) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            Self::Io(_) => false,
        }
    }
}

/// What lies beside the samples of a host, hour by hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Beside {
    Processes,
    Events,
}

impl Beside {
    pub(in crate::store) const ALL: [Self; 2] = [Self::Processes, Self::Events];
}

/// What a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Table {
    Part,
    Beside(Beside),
}

impl Table {
    const ALL: [Self; 3] = [Self::Part, Self::Beside(Beside::Processes), Self::Beside(Beside::Events)];

    const fn name(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Beside(Beside::Processes) => "processes",
            Self::Beside(Beside::Events) => "events",
        }
    }
}

/// A row of a file: of samples by host and first number, of what lies beside them by host and hour.
#[derive(Debug)]
pub(in crate::store) struct Row {
    pub(in crate::store) key: Key,
    pub(in crate::store) data: Vec<u8>,
}

/// A host, and a number that means something there.
pub(in crate::store) type Key = (HostId, u32);

/// A file that is being written. Hosts come in the order of their numbers, their series too.
#[derive(Debug)]
pub(in crate::store) struct FileWriter {
    block: Block,
    path: PathBuf,
    connection: Connection,
    host: HostId,
    part: PartBuilder,
}

impl FileWriter {
    /// Begins a file under a name that no reader looks for.
    pub(in crate::store) fn create(data_dir: &Path, block: Block) -> Result<Self, FileError> {
        let path = data_dir.join(block.to_string());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let unfinished = unfinished(&path);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // Process tables are nobody else's business.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let connection = Connection::open(&unfinished)?;
        // It is worth nothing until it is finished, and is made durable as a whole then.
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", FORM)?;
        connection.execute_batch("BEGIN")?;
        connection.execute_batch(TABLES)?;
        connection.execute("INSERT INTO about VALUES (?1, ?2, ?3, ?4)", about(&block))?;
        Ok(Self { block, path, connection, host: HostId::AGGREGATOR, part: PartBuilder::new(block.range.after) })
    }

    /// What it is to be.
    pub(in crate::store) const fn block(&self) -> Block {
        self.block
    }

    /// Adds a series.
    pub(in crate::store) fn put(
        &mut self,
        (host, number): (HostId, u32),
        shape: Shape,
        chunks: &[Chunk],
    ) -> Result<(), FileError> {
        if chunks.is_empty() {
            return Ok(());
        }
        if self.host != host || PART_BYTES <= self.part.bytes() {
            self.flush()?;
        }
        self.host = host;
        self.part.push(number, shape, chunks);
        Ok(())
    }

    /// Adds what lies beside the samples of a host in an hour of the file, counted from its first.
    pub(in crate::store) fn put_beside(&self, what: Beside, (host, hour): Key, data: &[u8]) -> Result<(), FileError> {
        let sql = format!("INSERT INTO {} VALUES (?1, ?2, ?3)", Table::Beside(what).name());
        self.connection.prepare_cached(&sql)?.execute((key(host, hour), data, crc32fast::hash(data)))?;
        Ok(())
    }

    /// Makes it durable under its name. Answers its bytes.
    pub(in crate::store) fn finish(mut self) -> Result<u64, FileError> {
        self.flush()?;
        self.connection.execute_batch("COMMIT")?;
        self.connection.close().map_err(|(_, error)| error)?;
        let unfinished = unfinished(&self.path);
        let file = File::open(&unfinished)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
            if let Some(above) = directory.parent() {
                File::open(above)?.sync_all()?;
            }
        }
        Ok(file.metadata()?.len())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        if let Some((first, data)) = self.part.take() {
            let sql = "INSERT INTO part VALUES (?1, ?2, ?3)";
            let row = (key(self.host, first), &data, crc32fast::hash(&data));
            self.connection.prepare_cached(sql)?.execute(row)?;
        }
        Ok(())
    }
}

/// A file that is open.
#[derive(Debug)]
pub(in crate::store) struct FileReader {
    block: Block,
    connection: Connection,
}

impl FileReader {
    pub(in crate::store) fn open(data_dir: &Path, block: Block) -> Result<Self, FileError> {
        let path = data_dir.join(block.to_string());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(&path), flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        let form: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let same = "SELECT count(*) FROM about WHERE id = ?1 AND tier = ?2 AND after_ms = ?3 AND through_ms = ?4";
        let same: u32 = connection.query_row(same, about(&block), |row| row.get(0))?;
        if form != FORM || same != 1 {
            return Err(FileError::Damaged("it is not the file that was recorded"));
        }
        Ok(Self { block, connection })
    }

    /// Gives those of the wanted series of a host, ascending, that the file has. A damaged part is told, and passed over.
    pub(in crate::store) fn each(
        &self,
        host: HostId,
        wanted: &[u32],
        mut give: impl FnMut(&Part<'_>, PartSeries<'_>),
        mut damaged: impl FnMut(FileError),
    ) -> Result<(), FileError> {
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
            return Ok(());
        };
        let keys = self.keys(key(host, *first), key(host, *last), host)?;
        let mut rest = wanted;
        for (at, part) in keys.iter().enumerate() {
            let end =
                keys.get(at + 1).map_or(rest.len(), |next| rest.partition_point(|number| key(host, *number) < *next));
            let (here, behind) = rest.split_at(end);
            rest = behind;
            if here.is_empty() {
                continue;
            }
            match self.with_part(*part, |part| pick(part, here, &mut give)) {
                Ok(()) => {}
                Err(error @ FileError::Damaged(_)) => damaged(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether every checksum holds.
    pub(in crate::store) fn check(&self) -> Result<(), FileError> {
        for table in Table::ALL {
            let sql = format!("SELECT data, checksum FROM {}", table.name());
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                checked(row, 0)?;
            }
        }
        Ok(())
    }

    /// What lies beside the samples of a host in some hours.
    pub(in crate::store) fn beside(
        &self,
        what: Beside,
        host: HostId,
        (first, last): (u32, u32),
    ) -> Result<Vec<Vec<u8>>, FileError> {
        let sql = format!(
            "SELECT data, checksum FROM {} WHERE ?1 <= key AND key <= ?2 ORDER BY key",
            Table::Beside(what).name()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((key(host, first), key(host, last)))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(checked(row, 0)?.to_vec());
        }
        Ok(found)
    }

    /// The row that follows a key, or the first one, in the order of hosts. Damaged ones are told, and passed over.
    pub(in crate::store) fn next_row(
        &self,
        table: Table,
        after: Option<Key>,
        mut damaged: impl FnMut(FileError),
    ) -> Result<Option<Row>, FileError> {
        let sql =
            format!("SELECT key, data, checksum FROM {} WHERE ?1 <= key AND key <= ?2 ORDER BY key", table.name());
        let mut statement = self.connection.prepare_cached(&sql)?;
        for (first, last) in behind(after.map(|(host, number)| key(host, number))) {
            let mut rows = statement.query((first, last))?;
            while let Some(row) = rows.next()? {
                match checked(row, 1) {
                    Ok(data) => return Ok(Some(Row { key: unkey(row.get(0)?), data: data.to_vec() })),
                    Err(error @ FileError::Damaged(_)) => damaged(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The parts of a host that may have series from `first` through `last`.
    fn keys(&self, first: i64, last: i64, host: HostId) -> Result<Vec<i64>, FileError> {
        let sql = "SELECT key FROM part WHERE key <= ?2 AND
                   coalesce((SELECT max(key) FROM part WHERE ?3 <= key AND key <= ?1), ?1) <= key ORDER BY key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let keys = statement.query_map((first, last, key(host, 0)), |row| row.get(0))?.collect::<Result<_, _>>();
        Ok(keys?)
    }

    fn with_part<T>(&self, key: i64, look: impl FnOnce(&Part<'_>) -> T) -> Result<T, FileError> {
        let mut statement = self.connection.prepare_cached("SELECT data, checksum FROM part WHERE key = ?1")?;
        let mut rows = statement.query([key])?;
        let row = rows.next()?.ok_or(FileError::Damaged("a part is missing"))?;
        let data = checked(row, 0)?;
        let (_, first) = unkey(key);
        Ok(look(&Part::read((first, self.block.range.after), data)))
    }
}

/// The bytes in a column of a row, if they have the checksum in the column behind it.
fn checked<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a [u8], FileError> {
    let data = row.get_ref(column)?.as_blob().map_err(|_| FileError::Damaged("a part is no blob"))?;
    let holds = crc32fast::hash(data) == row.get::<_, u32>(column + 1)?;
    if holds { Ok(data) } else { Err(FileError::Damaged("a checksum does not hold")) }
}

/// Gives the wanted ones.
fn pick(part: &Part<'_>, wanted: &[u32], give: &mut impl FnMut(&Part<'_>, PartSeries<'_>)) {
    let mut wanted = wanted.iter().peekable();
    for series in part.series() {
        while wanted.next_if(|number| **number < series.number).is_some() {}
        if wanted.next_if(|number| **number == series.number).is_some() {
            give(part, *series);
        }
    }
}

const fn key(host: HostId, number: u32) -> i64 {
    ((host.0 as i64) << 32) | number as i64
}

fn unkey(key: i64) -> (HostId, u32) {
    let halves = key.to_le_bytes();
    let half = |at: usize| u32::from_le_bytes([halves[at], halves[at + 1], halves[at + 2], halves[at + 3]]);
    (HostId(half(4)), half(0))
}

/// The stretches of keys that come behind one, in the order of hosts: those who write have such high numbers that their keys
/// are negative.
fn behind(key: Option<i64>) -> Vec<(i64, i64)> {
    let origins = (i64::MIN, -1);
    match key {
        None => vec![(0, i64::MAX), origins],
        Some(i64::MAX) => vec![origins],
        Some(key) if key < 0 => vec![(key + 1, -1)],
        Some(key) => vec![(key + 1, i64::MAX), origins],
    }
}

const fn about(block: &Block) -> (i64, u8, i64, i64) {
    (block.id, block.tier.number(), block.range.after.as_millis(), block.range.through.as_millis())
}

/// Where a file lies until it is finished.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn uri(path: &Path) -> String {
    let path = path.to_string_lossy();
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?immutable=1")
}
