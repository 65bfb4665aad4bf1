//! How much room there is where everything is kept.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::store::Store;

/// A file system as `df` counts it: what only root may use is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that may still be written.
    pub available_bytes: u64,
    /// Bytes that could be, were it empty.
    pub size_bytes: u64,
}

impl Disk {
    /// The file system of a directory; nothing if it does not answer.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        // Some that do not know their size say that it is nothing.
        let told = rustix::fs::statvfs(directory).ok().filter(|told| told.f_blocks != 0)?;
        let used = told.f_blocks.saturating_sub(told.f_bfree);
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Self { available_bytes: bytes(told.f_bavail), size_bytes: bytes(used.saturating_add(told.f_bavail)) })
    }

    /// Its figures, by name.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats")]
    pub const fn figures(self) -> [(&'static str, f64); 2] {
        [("disk_available_bytes", self.available_bytes as f64), ("disk_size_bytes", self.size_bytes as f64)]
    }
}

/// Opening a link fails: whoever may write a directory could have another user, who opens a file there, write elsewhere.
pub(super) const NO_FOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// Gives a file room of its own, of which nothing is written. A file system that cannot has none to give.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Store {
    /// The file system of the data directory, as it was seen last.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        *self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at it now. A file system that does not answer holds up the thread that asks it, and who waits for that.
    pub async fn look_at_disk(&self) -> Option<Disk> {
        let store = self.clone();
        let look = move || {
            let seen = Disk::of(store.shared.lock.data_dir());
            *store.shared.disk.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            seen
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_counted_as_df_counts_it() {
        let directory = tempfile::tempdir().unwrap();
        let df = std::process::Command::new("df").args(["--output=avail,used", "-B1"]).arg(directory.path()).output();
        let df = String::from_utf8(df.unwrap().stdout).unwrap();
        let told: Vec<f64> = df.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let seen = Disk::of(directory.path()).unwrap();
        let [available, size] = seen.figures().map(|(_, bytes)| bytes);
        // Others write meanwhile.
        let is_near = |seen: f64, told: f64| (seen - told).abs() <= 0.01 * (told + 1e9);
        assert!(is_near(available, told[0]) && is_near(size, told[0] + told[1]), "{seen:?} {df}");
        assert_eq!(Disk::of(Path::new("/no/such/directory")), None);
        assert_eq!(Disk::of(Path::new("/proc")), None, "of no size");
    }
}
