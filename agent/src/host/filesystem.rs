//! How full file systems are. Asking may take for ever on a dead network mount, so it happens on threads of its own.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;
use rustix::fs::statvfs;

/// Space and inodes of one file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesystemSpace {
    /// All of it, in bytes.
    pub size_bytes: u64,
    /// Free, in bytes, including what is reserved for root.
    pub free_bytes: u64,
    /// Free for ordinary users, in bytes.
    pub available_bytes: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Mounted read-only, or made so by the kernel after an error.
    pub read_only: bool,
}

/// A mount point and what its file system said.
pub type Answer = (PathBuf, io::Result<FilesystemSpace>);

/// How a file system is asked; tests put in their own.
type Ask = fn(&Path) -> io::Result<FilesystemSpace>;

/// How long a file system may take before it is silent: what node_exporter allows.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// How often who waits looks whether the round is over.
const STEP: Duration = Duration::from_millis(2);

/// Mounts asked in a round: a host with a thousand containers has a few real ones besides the excluded overlays.
pub const MOUNTS_MAX: usize = 1_024;

/// Threads that may hang in a silent file system, one each.
pub const SILENT_MAX: usize = 64;

/// The thread asks one file system after the other and keeps nothing: a few frames suffice.
const STACK_BYTES: usize = 64 * 1024;

/// Asks file systems round by round. One that does not answer is given up, its thread with it, and is not asked again
/// before that thread returns; the others go on on a new thread.
#[derive(Debug)]
pub struct SpaceProbe {
    ask: Ask,
    answers: Receiver<Answer>,
    sender: SyncSender<Answer>,
    round: Option<Running>,
    silent: Vec<PathBuf>,
}

#[derive(Debug)]
struct Running {
    round: Arc<Round>,
    /// The place seen last, and since when.
    seen: (usize, Duration),
}

#[derive(Debug)]
struct Round {
    mounts: Vec<PathBuf>,
    /// Place of the mount that is being asked; behind the last when the round is over.
    at: AtomicUsize,
    given_up: AtomicBool,
}

impl Default for SpaceProbe {
    fn default() -> Self {
        Self::asking(space)
    }
}

impl SpaceProbe {
    fn asking(ask: Ask) -> Self {
        let (sender, answers) = sync_channel(MOUNTS_MAX + SILENT_MAX);
        Self { ask, answers, sender, round: None, silent: Vec::new() }
    }

    /// Begins a round, if the last one is over. Silent mounts are left out.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn begin(&mut self, mounts: impl Iterator<Item = PathBuf>, now: Duration) -> io::Result<()> {
        if self.round.is_some() {
            return Ok(());
        }
        self.start(mounts.filter(|mount| !self.silent.contains(mount)).take(MOUNTS_MAX).collect(), now)
    }

    /// The next answer, waiting up to `patience` for it while a round runs.
    pub fn next(&mut self, patience: Duration) -> Option<Answer> {
        let mut left = patience;
        loop {
            self.forget_finished();
            if let Ok(answer) = self.answers.try_recv() {
                self.silent.retain(|silent| *silent != answer.0);
                return Some(answer);
            }
            if self.round.is_none() || left.is_zero() {
                return None;
            }
            // In steps, because the end of a round is not an answer.
            thread::sleep(left.min(STEP));
            left = left.saturating_sub(STEP);
        }
    }

    /// Gives up the mount that is being asked for too long, and goes on with those behind it. Returns it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn give_up(&mut self, now: Duration) -> io::Result<Option<PathBuf>> {
        self.forget_finished();
        let Some(running) = &mut self.round else { return Ok(None) };
        let at = running.round.at.load(Ordering::Acquire);
        if running.seen.0 != at {
            running.seen = (at, now);
        }
        if now.saturating_sub(running.seen.1) < SILENT_AFTER {
            return Ok(None);
        }
        running.round.given_up.store(true, Ordering::Release);
        let round = Arc::clone(&running.round);
        self.round = None;
        let Some(silent) = round.mounts.get(at).cloned() else { return Ok(None) };
        self.silent.push(silent.clone());
        if self.silent.len() < SILENT_MAX {
            self.start(round.mounts[at + 1..].to_vec(), now)?;
        }
        Ok(Some(silent))
    }

    /// Mounts that do not answer.
    #[must_use]
    pub fn silent(&self) -> &[PathBuf] {
        &self.silent
    }

    fn start(&mut self, mounts: Vec<PathBuf>, now: Duration) -> io::Result<()> {
        if mounts.is_empty() || SILENT_MAX <= self.silent.len() {
            return Ok(());
        }
        let round = Arc::new(Round { mounts, at: AtomicUsize::new(0), given_up: AtomicBool::new(false) });
        let (asked, sender, ask) = (Arc::clone(&round), self.sender.clone(), self.ask);
        let thread = thread::Builder::new().name("statvfs".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || asked.run(&sender, ask))?;
        self.round = Some(Running { round, seen: (0, now) });
        Ok(())
    }

    fn forget_finished(&mut self) {
        let finished = |running: &Running| running.round.mounts.len() <= running.round.at.load(Ordering::Acquire);
        self.round.take_if(|running| finished(running));
    }
}

impl Round {
    fn run(&self, sender: &SyncSender<Answer>, ask: Ask) {
        for mount in &self.mounts {
            // The channel has room for a round; what does not fit is asked again in the next.
            drop(sender.try_send((mount.clone(), ask(mount))));
            if self.given_up.load(Ordering::Acquire) {
                return;
            }
            self.at.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn space(path: &Path) -> io::Result<FilesystemSpace> {
    let stat = statvfs(path)?;
    Ok(FilesystemSpace {
        size_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bfree.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: stat.f_files,
        files_free: stat.f_ffree,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Held by the test: whoever asks a path under `/dead` waits for it.
    static DEAD: Mutex<()> = Mutex::new(());

    fn ask(path: &Path) -> io::Result<FilesystemSpace> {
        if path.starts_with("/dead") {
            drop(DEAD.lock());
        }
        Ok(FilesystemSpace::default())
    }

    fn paths(names: &str) -> impl Iterator<Item = PathBuf> {
        names.split_whitespace().map(PathBuf::from).collect::<Vec<_>>().into_iter()
    }

    fn answered(probe: &mut SpaceProbe, count: usize) -> Vec<String> {
        (0..count).filter_map(|_| probe.next(PATIENCE)).map(|(mount, _)| mount.display().to_string()).collect()
    }

    #[test]
    fn a_mount_that_hangs_holds_no_other_up_and_comes_back() {
        let held = DEAD.lock();
        let mut probe = SpaceProbe::asking(ask);
        let second = Duration::from_secs(1);
        probe.begin(paths("/ /dead /home"), second).unwrap();
        assert_eq!(answered(&mut probe, 1), ["/"]);
        while probe.round.as_ref().is_some_and(|running| running.round.at.load(Ordering::Acquire) == 0) {
            thread::yield_now();
        }
        assert_eq!(probe.give_up(2 * second).unwrap(), None);
        assert_eq!(probe.give_up(6 * second).unwrap(), None);
        assert_eq!(probe.give_up(7 * second).unwrap(), Some("/dead".into()));
        assert_eq!(answered(&mut probe, 1), ["/home"]);
        while probe.round.is_some() {
            probe.forget_finished();
            thread::yield_now();
        }
        probe.begin(paths("/ /dead /home"), 11 * second).unwrap();
        assert_eq!(answered(&mut probe, 2), ["/", "/home"]);
        assert_eq!(probe.silent(), [PathBuf::from("/dead")]);
        drop(held);
        while !probe.silent().is_empty() {
            probe.next(Duration::ZERO);
            thread::yield_now();
        }
    }

    #[test]
    fn a_real_file_system_has_space_and_a_missing_one_an_error() {
        let mut probe = SpaceProbe::default();
        probe.begin(paths("/ /no/such/mount"), Duration::ZERO).unwrap();
        let (_, root) = probe.next(PATIENCE).unwrap();
        let root = root.unwrap();
        assert!(0 < root.size_bytes && root.available_bytes <= root.free_bytes && root.free_bytes <= root.size_bytes);
        let (_, missing) = probe.next(PATIENCE).unwrap();
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
