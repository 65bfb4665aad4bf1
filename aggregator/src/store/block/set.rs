//! The files that are read: each opened when it is asked for, some kept open.

use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use common::batch::HostId;
use common::time::TimeRange;

use crate::store::block::Block;
use crate::store::block::Tier;
use crate::store::block::file::Beside;
use crate::store::block::file::FileError;
use crate::store::block::file::FileReader;
use crate::store::block::part::Part;
use crate::store::block::part::PartSeries;
use crate::store::catalog::Begins;

/// Files open at once: a descriptor and some tens of kilobytes each.
const FILES_OPEN_MAX: usize = 64;

/// Where damaged files are kept, below the data directory. Nothing reads them: they are an operator's.
const QUARANTINE: &str = "quarantine";

/// All files. Readers take the list as it stands, and keep what they took.
#[derive(Debug)]
pub(in crate::store) struct Blocks {
    data_dir: PathBuf,
    files: RwLock<Arc<Vec<Arc<BlockFile>>>>,
    begins: RwLock<Begins>,
    /// Counts the times that a file was asked for: who was asked last is known by it.
    asked: AtomicU64,
    /// Parts that were not what was written.
    damaged: AtomicU64,
}

/// One of them. Its name goes when nobody can ask for it any more.
#[derive(Debug)]
pub(in crate::store) struct BlockFile {
    pub(in crate::store) block: Block,
    pub(in crate::store) bytes: u64,
    path: PathBuf,
    open: Mutex<Option<FileReader>>,
    asked: AtomicU64,
    replaced: AtomicBool,
    /// Whether something in it was not what was written.
    pub(in crate::store) damaged: AtomicBool,
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Relaxed) {
            // What cannot be removed is found again at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Blocks {
    /// Those that are recorded, with their bytes. Whatever else lies in their directories was never finished, or was
    /// replaced: it goes.
    pub(in crate::store) fn open(data_dir: &Path, recorded: Vec<(Block, u64)>, begins: Begins) -> Self {
        let blocks = Self {
            data_dir: data_dir.to_owned(),
            files: RwLock::default(),
            begins: RwLock::new(begins),
            asked: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        };
        let files: Vec<Arc<BlockFile>> =
            recorded.into_iter().map(|(block, bytes)| Arc::new(blocks.file(block, bytes))).collect();
        for tier in Tier::ALL {
            for path in names(&data_dir.join(tier.directory())) {
                if files.iter().all(|file| file.path != path) {
                    remove_orphan(&path);
                }
            }
        }
        blocks.publish(files);
        blocks
    }

    /// The list as it stands, older files first.
    pub(in crate::store) fn all(&self) -> Arc<Vec<Arc<BlockFile>>> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those of a tier that overlap a range.
    pub(in crate::store) fn overlapping(&self, tier: Tier, range: TimeRange) -> Vec<Arc<BlockFile>> {
        let all = self.all();
        let wanted = all.iter().filter(|file| file.block.tier == tier && file.block.overlaps(range));
        wanted.map(Arc::clone).collect()
    }

    /// After when tiers have everything, where files of theirs went for want of room.
    pub(in crate::store) fn begins(&self) -> Begins {
        self.begins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes it.
    pub(in crate::store) fn begin(&self, begins: Begins) {
        *self.begins.write().unwrap_or_else(PoisonError::into_inner) = begins;
    }

    /// Shows files that are recorded, in place of others.
    pub(in crate::store) fn replace(&self, gone: &[i64], new: &[(Block, u64)]) {
        let all = self.all();
        let (gone, mut files): (Vec<_>, Vec<_>) =
            all.iter().map(Arc::clone).partition(|file| gone.contains(&file.block.id));
        files.extend(new.iter().map(|(block, bytes)| Arc::new(self.file(*block, *bytes))));
        self.publish(files);
        gone.iter().for_each(|file| file.replaced.store(true, Ordering::Relaxed));
    }

    /// Gives the wanted series of a host that a file has; of one that is damaged or missing, what is left of it.
    ///
    /// # Errors
    /// When it cannot be read for another reason: an answer without it would be wrong.
    pub(in crate::store) fn each(
        &self,
        file: &BlockFile,
        (host, wanted): (HostId, &[u32]),
        give: impl FnMut(&Part<'_>, PartSeries<'_>),
    ) -> Result<(), FileError> {
        self.lend_rest(file, |reader| reader.each(host, wanted, give, |error| self.note_damage(file, &error)))
    }

    /// What lies beside the samples of a host in a range; nothing if that is damaged.
    pub(in crate::store) fn beside(
        &self,
        file: &BlockFile,
        (what, host): (Beside, HostId),
        range: TimeRange,
    ) -> Vec<Vec<u8>> {
        let hours = file.block.hours(range);
        self.lend(file, |reader| reader.beside(what, host, hours)).unwrap_or_else(|error| {
            self.note_damage(file, &error);
            Vec::new()
        })
    }

    /// Says once for each file that it is damaged.
    pub(in crate::store) fn note_damage(&self, file: &BlockFile, error: &FileError) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        if !file.damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, file = %file.path.display(), "a block file is damaged: what is left of it is served");
        }
    }

    /// Keeps one that is damaged where nobody removes it, before another takes its place with what is left of it.
    pub(in crate::store) fn quarantine(&self, file: &BlockFile) -> Result<(), FileError> {
        // One that is not there has nothing to keep.
        if !file.damaged.load(Ordering::Relaxed) || !file.path.exists() {
            return Ok(());
        }
        let aside = self.data_dir.join(QUARANTINE).join(file.block.to_string());
        if let Some(directory) = aside.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        match fs::hard_link(&file.path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        tracing::warn!(file = %aside.display(), "a damaged block file is kept here; what is left of it is merged");
        Ok(())
    }

    /// Times that a part or a file was not what was written.
    pub(in crate::store) fn damaged_total(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.all().iter().map(|file| file.bytes).sum()
    }

    pub(in crate::store) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Lets somebody ask a file, which nobody else asks meanwhile.
    pub(in crate::store) fn lend<T>(
        &self,
        file: &BlockFile,
        ask: impl FnOnce(&FileReader) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        file.asked.store(self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut open = file.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = open.as_ref() {
            return ask(reader);
        }
        let reader = open.insert(FileReader::open(&self.data_dir, file.block)?);
        let answer = ask(reader);
        drop(open);
        self.close_some();
        answer
    }

    /// The same. One that is damaged or missing has nothing more to say.
    ///
    /// # Errors
    /// When it cannot be read for another reason.
    pub(in crate::store) fn lend_rest<T: Default>(
        &self,
        file: &BlockFile,
        ask: impl FnOnce(&FileReader) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        match self.lend(file, ask) {
            Err(error) if error.is_damage() || !file.path.exists() => {
                self.note_damage(file, &error);
                Ok(T::default())
            }
            answer => answer,
        }
    }

    /// Closes those that nobody asked for longest, as long as there are too many.
    fn close_some(&self) {
        let all = self.all();
        let mut idle: Vec<_> = all.iter().filter_map(|file| Some((file, file.open.try_lock().ok()?))).collect();
        idle.retain(|(_, open)| open.is_some());
        idle.sort_by_key(|(file, _)| file.asked.load(Ordering::Relaxed));
        let many = idle.len().saturating_sub(FILES_OPEN_MAX);
        idle.iter_mut().take(many).for_each(|(_, open)| **open = None);
    }

    fn publish(&self, mut files: Vec<Arc<BlockFile>>) {
        files.sort_by_key(|file| file.block.id);
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    fn file(&self, block: Block, bytes: u64) -> BlockFile {
        BlockFile {
            block,
            bytes,
            path: self.data_dir.join(block.to_string()),
            open: Mutex::new(None),
            asked: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }
}

/// What lies in a directory.
pub(in crate::store) fn names(directory: &Path) -> Vec<PathBuf> {
    // A directory that is not there has no orphans.
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn remove_orphan(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => tracing::info!(file = %path.display(), "removed a file that no record names"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, file = %path.display(), "cannot remove a file that no record names"),
    }
}
