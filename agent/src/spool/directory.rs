//! The spool's files, and the loop that does to them what the spool asks for.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use common::time::Clock;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::spool::Spool;
use crate::spool::shelf::Job;
use crate::spool::shelf::Outcome;

/// Longest file that is read: a megabyte of batches behind the largest schema takes a third of it.
const SPOOL_FILE_BYTES_MAX: u64 = 32 << 20;

const EXTENSION: &str = "spool";

/// Where the files are. It is made when the first is written.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A directory that may not exist.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Hands out what is there, in the order of their numbers. A file that cannot be read stays, and is left out.
    pub fn each(&self, mut give: impl FnMut(u64, &[u8])) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> = entries.filter_map(|entry| number(&entry.path())).collect();
        numbers.sort_unstable();
        for number in numbers {
            match self.read(number) {
                Ok(file) => give(number, &file),
                Err(error) => tracing::warn!(%error, number, "cannot read a file of the spool"),
            }
        }
    }

    /// Does a job. A write that fails leaves nothing of it behind.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn run(&self, job: &Job) -> io::Result<Vec<u8>> {
        match job {
            Job::Append { number, begin, bytes } => self.append(*number, *begin, bytes).map(|()| Vec::new()),
            Job::Read { number } => self.read(*number),
            Job::Remove { number } => fs::remove_file(self.path(*number)).map(|()| Vec::new()),
        }
    }

    fn append(&self, number: u64, begin: bool, bytes: &[u8]) -> io::Result<()> {
        if begin {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        }
        let path = self.path(number);
        let mut file = fs::OpenOptions::new().append(true).create_new(begin).mode(0o600).open(&path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            // What stays behind is cut when it is read.
            drop(if begin { fs::remove_file(&path) } else { file.set_len(before) });
        }
        // The name must last as well as the bytes.
        written.and_then(|()| if begin { File::open(&self.0)?.sync_all() } else { Ok(()) })
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut file = Vec::new();
        File::open(self.path(number))?.take(SPOOL_FILE_BYTES_MAX).read_to_end(&mut file)?;
        Ok(file)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:016x}.{EXTENSION}"))
    }
}

fn number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let ours = path.extension()? == EXTENSION && stem.len() == 16;
    u64::from_str_radix(stem, 16).ok().filter(|_| ours)
}

/// Does what the spool asks for until `stop`, and then what is left to do. The disk may be slow: nobody waits for it.
pub async fn keep(spool: Spool, directory: Directory, clock: Clock, stop: CancellationToken) {
    let directory = Arc::new(directory);
    let mut trouble: Option<String> = None;
    loop {
        let stopped = stop.is_cancelled();
        if stopped {
            spool.leave();
        }
        while let Some(job) = spool.job(clock.boot()) {
            let directory = Arc::clone(&directory);
            let done = spawn_blocking(move || directory.run(&job)).await;
            let outcome: Outcome = done.map_err(io::Error::other).flatten().map_err(|error| error.to_string());
            spool.done(outcome, clock.boot());
            let before = std::mem::replace(&mut trouble, spool.trouble());
            report(before.as_deref(), trouble.as_deref());
        }
        if stopped {
            return;
        }
        let due_at = spool.due_at();
        tokio::select! {
            () = stop.cancelled() => {}
            () = spool.due() => {}
            () = clock.sleep_until_boot(due_at.unwrap_or_default()), if due_at.is_some() => {}
        }
    }
}

fn report(before: Option<&str>, trouble: Option<&str>) {
    match (before, trouble) {
        (None, Some(why)) => tracing::warn!(why, "the disk does not take the spool: it stays in memory"),
        (Some(_), None) => tracing::info!("the disk takes the spool again"),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_appended_to_handed_out_in_order_and_private() {
        use std::os::unix::fs::PermissionsExt;

        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path().join("spool"));
        directory.each(|_, _| panic!("there is nothing"));
        let append = |number, begin, bytes: &[u8]| {
            directory.run(&Job::Append { number, begin, bytes: bytes.to_vec() }).map(|_| ())
        };
        append(17, true, b"ab").unwrap();
        append(3, true, b"x").unwrap();
        append(17, false, b"cd").unwrap();
        assert!(append(17, true, b"no").is_err(), "it is there already");
        assert!(append(18, false, b"no").is_err(), "it is not there");
        fs::write(parent.path().join("spool/other.txt"), "not ours").unwrap();
        let mut found = Vec::new();
        directory.each(|number, file| found.push((number, file.to_vec())));
        assert_eq!(found, [(3, b"x".to_vec()), (17, b"abcd".to_vec())]);
        let mode = |path: &str| fs::metadata(parent.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("spool"), mode("spool/0000000000000011.spool")), (0o700, 0o600));
        assert_eq!(directory.run(&Job::Read { number: 17 }).unwrap(), b"abcd");
        directory.run(&Job::Remove { number: 3 }).unwrap();
        assert!(directory.run(&Job::Read { number: 3 }).is_err());
    }
}
