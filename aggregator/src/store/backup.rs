//! A copy of a data directory that can take its place: made while an aggregator runs there, looked through, put back.
//!
//! A running aggregator is asked for a snapshot of its database; block files are read where they are.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::backup::Backup;
use rusqlite::backup::StepResult;
use rusqlite::config::DbConfig;

use crate::store::FILE;
use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::set::names;
use crate::store::catalog;
use crate::store::database;
use crate::store::lock;
use crate::store::lock::Lock;
use crate::store::lock::LockError;
use crate::store::migration::MigrationError;
use crate::store::migration::check_known;
use crate::store::snapshot::Snapshot;
use crate::store::snapshot::locked;
use crate::store::verify::Damage;
use crate::store::verify::verify;

/// What makes an aggregator the one that agents and people know, and what it was told: files and directories of the data
/// directory beside its database, where they are there.
const BESIDE: &[&str] = &["admin.token", "ca.key", "ca.pem", "http.key", "http.pem", "alertmanager.yml", "rules"];

/// What the database has that is not in its file yet: SQLite takes it for that of whatever database lies beside it.
const LOG: &str = "lapwing.db-wal";

/// What a file is called before it is whole.
const UNFINISHED: &str = ".unfinished";

/// Times that the database is copied before it is given up: a file is merged once in a day.
const ATTEMPTS_MAX: u32 = 5;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("{0} is no data directory: it has no {FILE}")]
    Nothing(PathBuf),
    /// What is there would be mixed with the copy.
    #[error("{0} has files and is no backup: name an empty directory, or that of an earlier backup")]
    Foreign(PathBuf),
    /// The copy would lie in what is copied, or be it.
    #[error("{0} is the data directory, or in it: a copy there would be lost with it")]
    Inside(PathBuf),
    /// What is there would be lost, or be taken for a part of what is put there.
    #[error("{0} has a {1} already: move it away first, or name an empty directory with --data-dir")]
    Occupied(PathBuf, &'static str),
    /// SQLite would take what is there for a part of the copy.
    #[error("{0} has a {LOG}, so it is no backup: name an empty directory, or that of an earlier backup")]
    Unclosed(PathBuf),
    /// Another copy is being made there, or an aggregator runs there.
    #[error("{0}: try again when it is done, or name another directory")]
    Busy(LockError),
    /// A copy that cannot be used.
    #[error("the backup is damaged: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Damaged(Vec<Damage>),
    /// A copy from a newer program.
    #[error(transparent)]
    Newer(#[from] MigrationError),
    /// An aggregator runs there.
    #[error("{0}: make a backup of it, and restore that")]
    Running(LockError),
    /// The aggregator that runs there does not hand its database out.
    #[error(transparent)]
    Unanswered(anyhow::Error),
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The database cannot be read or written.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A database that nobody writes, for as long as this is kept.
pub(super) enum Source {
    /// As it lies there, which keeps aggregators from starting.
    Here(PathBuf, Option<Lock>),
    /// What the aggregator that runs there copied.
    Snapshot(Snapshot),
}

impl Source {
    pub(super) fn of(data_dir: &Path, ask: impl FnOnce() -> anyhow::Result<Snapshot>) -> Result<Self, BackupError> {
        match Lock::share(data_dir) {
            Ok(lock) => Ok(Self::Here(data_dir.join(FILE), lock)),
            Err(_held) => ask().map(Self::Snapshot).map_err(BackupError::Unanswered),
        }
    }

    /// Opens it to read, and lets go of what is not needed for that: a snapshot has no name from here on, so that nothing is
    /// left of it however this process ends.
    pub(super) fn open(self) -> rusqlite::Result<(Connection, Option<Lock>)> {
        match self {
            Self::Here(file, lock) => Ok((reading(&file)?, lock)),
            Self::Snapshot(snapshot) => Ok((reading(snapshot.file())?, None)),
        }
    }
}

/// Copies a data directory as it is at one moment. An aggregator that runs there is asked for a snapshot of its database. An
/// earlier backup in the same place is replaced file by file, each at once.
///
/// # Errors
/// When something cannot be read or written. An earlier backup stays usable.
pub fn back_up(
    data_dir: &Path,
    to: &Path,
    mut ask: impl FnMut() -> anyhow::Result<Snapshot>,
) -> Result<Copied, BackupError> {
    if !data_dir.join(FILE).exists() {
        return Err(BackupError::Nothing(data_dir.to_owned()));
    }
    if lies_in(to, data_dir).map_err(of(to))? {
        return Err(BackupError::Inside(to.to_owned()));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(of(to))?;
    let begun = unfinished(&to.join(FILE));
    if !to.join(FILE).exists() && !begun.exists() && !is_empty(to)? {
        return Err(BackupError::Foreign(to.to_owned()));
    }
    if to.join(LOG).exists() {
        return Err(BackupError::Unclosed(to.to_owned()));
    }
    let mut source = Source::of(data_dir, &mut ask)?;
    let _lock = match Lock::take(to) {
        Err(error @ (LockError::Held(..) | LockError::Read(..))) => return Err(BackupError::Busy(error)),
        // Where none can be had, nobody else has one.
        taken => taken.ok(),
    };
    // From here on the directory is ours, whatever comes between.
    database::keep_private(&begun);
    let mut copied = Copied::default();
    copy_beside(data_dir, to, &mut copied)?;
    let mut attempts = 1;
    // A file that was recorded a moment ago may be merged into another meanwhile.
    while let Err(error) = copy_database(source, data_dir, to, &mut copied) {
        let gone = matches!(&error, BackupError::File(_, why) if why.kind() == io::ErrorKind::NotFound);
        if !gone || ATTEMPTS_MAX <= attempts {
            return Err(error);
        }
        attempts += 1;
        source = Source::of(data_dir, &mut ask)?;
    }
    remove_replaced(to)?;
    sync_directory(to)?;
    Ok(copied)
}

/// Makes a data directory of a backup, which stays as it is.
///
/// # Errors
/// When the backup is damaged or from a newer program, or the directory is in use: nothing is changed then. When
/// something cannot be read or written.
pub fn restore(from: &Path, lock: &Lock) -> Result<Copied, BackupError> {
    let data_dir = lock.data_dir();
    if let Some(there) = [FILE, LOG].into_iter().find(|name| data_dir.join(name).exists()) {
        return Err(BackupError::Occupied(data_dir.to_owned(), there));
    }
    let database = from.join(FILE);
    if !database.exists() {
        return Err(BackupError::Nothing(from.to_owned()));
    }
    let lock_of_source = Lock::share(from).map_err(BackupError::Running)?;
    check_known(&reading(&database)?)?;
    let damage = verify(from);
    if !damage.is_empty() {
        return Err(BackupError::Damaged(damage));
    }
    let mut copied = Copied::default();
    copy_beside(from, data_dir, &mut copied)?;
    // The last, because it makes a directory one of ours.
    copy_database(Source::Here(database, lock_of_source), from, data_dir, &mut copied)?;
    sync_directory(data_dir)?;
    Ok(copied)
}

impl Copied {
    const fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Opens a database to read that no aggregator has open, so that nothing is written beside it: it may lie where nobody can.
fn reading(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(database, flags, c"unix-none")?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Copies all pages of a database, and the block files that are recorded there. It is kept no longer than it is read.
fn copy_database(from: Source, from_dir: &Path, to_dir: &Path, copied: &mut Copied) -> Result<(), BackupError> {
    let (source, lock) = from.open()?;
    let to = &to_dir.join(FILE);
    let unfinished = unfinished(to);
    for leftover in ["", "-journal", "-wal", "-shm"] {
        let mut path = unfinished.clone().into_os_string();
        path.push(leftover);
        remove(Path::new(&path))?;
    }
    database::keep_private(&unfinished);
    {
        let mut copy = Connection::open(&unfinished)?;
        let step = Backup::new(&source, &mut copy)?.step(-1)?;
        if step != StepResult::Done {
            return Err(locked().into());
        }
        drop((source, lock));
        // One file, without a log beside it.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy_blocks(from_dir, to_dir, &recorded(&copy)?, copied)?;
    }
    copied.count(finish(&unfinished, to)?);
    Ok(())
}

/// Copies block files. One that is there already is the same: its name is given once.
fn copy_blocks(from: &Path, to: &Path, blocks: &[(Block, u64)], copied: &mut Copied) -> Result<(), BackupError> {
    for (block, bytes) in blocks {
        let name = block.to_string();
        let (from, to) = (from.join(&name), to.join(&name));
        if fs::metadata(&to).is_ok_and(|there| there.len() == *bytes) {
            continue;
        }
        let directory = to.parent().unwrap_or(&to);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(of(directory))?;
        copied.count(copy_file(&from, &to)?);
        sync_directory(directory)?;
    }
    Ok(())
}

/// The block files of a database. One that an older program wrote knows none; it is brought up to date where it is opened.
pub(super) fn recorded(database: &Connection) -> rusqlite::Result<Vec<(Block, u64)>> {
    let knows_some = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'block')";
    if database.query_row(knows_some, [], |row| row.get(0))? { catalog::blocks(database) } else { Ok(Vec::new()) }
}

/// Removes the block files that an earlier backup had and that are merged or expired since.
fn remove_replaced(to: &Path) -> Result<(), BackupError> {
    let recorded = recorded(&reading(&to.join(FILE))?)?;
    let recorded: Vec<PathBuf> = recorded.iter().map(|(block, _)| to.join(block.to_string())).collect();
    for tier in Tier::ALL {
        for path in names(&to.join(tier.directory())) {
            if !recorded.contains(&path) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn copy_beside(from: &Path, to: &Path, copied: &mut Copied) -> Result<(), BackupError> {
    for name in BESIDE {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_dir() {
            DirBuilder::new().recursive(true).create(&to).map_err(of(&to))?;
            for entry in fs::read_dir(&from).map_err(of(&from))? {
                let entry = entry.map_err(of(&from))?;
                if entry.path().is_file() {
                    copied.count(copy_file(&entry.path(), &to.join(entry.file_name()))?);
                }
            }
            sync_directory(&to)?;
        } else if from.is_file() {
            copied.count(copy_file(&from, &to)?);
        }
    }
    Ok(())
}

/// With its permissions: some are secrets.
fn copy_file(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let unfinished = unfinished(to);
    remove(&unfinished)?;
    fs::copy(from, &unfinished).map_err(of(from))?;
    finish(&unfinished, to)
}

/// Makes what is written the file, durably and at once. Answers its bytes.
fn finish(unfinished: &Path, file: &Path) -> Result<u64, BackupError> {
    let written = File::open(unfinished).and_then(|written| {
        written.sync_all()?;
        written.metadata()
    });
    let bytes = written.map_err(of(file))?.len();
    fs::rename(unfinished, file).map_err(of(file))?;
    Ok(bytes)
}

fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

fn remove(file: &Path) -> Result<(), BackupError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of(file)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a path, which need not be there yet, leads into a directory.
fn lies_in(path: &Path, directory: &Path) -> io::Result<bool> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&absolute);
    Ok(there.canonicalize()?.starts_with(directory.canonicalize()?))
}

/// Whether there is nothing but the lock of a copy that did not begin.
fn is_empty(directory: &Path) -> Result<bool, BackupError> {
    let mut names = fs::read_dir(directory).map_err(of(directory))?;
    Ok(names.all(|entry| entry.is_ok_and(|entry| entry.file_name() == lock::NAME)))
}

fn sync_directory(directory: &Path) -> Result<(), BackupError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(of(directory))
}

fn of(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |error| BackupError::File(path, error)
}
