//! Directories in which something came or went, as the kernel tells it: one read a tick instead of a listing of each.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;
use rustix::fs::inotify::CreateFlags;
use rustix::fs::inotify::ReadFlags;
use rustix::fs::inotify::Reader;
use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;

/// Names a watched directory for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// What the kernel tells of.
#[derive(Debug)]
pub struct Watcher(Option<OwnedFd>);

/// What happened since the last question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stirred {
    /// In which directories something came or went.
    pub directories: Vec<WatchId>,
    /// Whether more happened than the kernel remembers.
    pub lost: bool,
}

impl Default for Watcher {
    /// Watches nothing where the kernel has no room for one more that does.
    fn default() -> Self {
        Self(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok())
    }
}

impl Watcher {
    /// Never watches anything.
    #[must_use]
    pub const fn blind() -> Self {
        Self(None)
    }

    /// Begins to watch a directory; nothing where that cannot be done: it is not there, or the user watches too much.
    pub fn watch(&mut self, directory: &Path) -> Option<WatchId> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        inotify::add_watch(self.0.as_ref()?, directory, flags).ok().map(WatchId)
    }

    /// What happened since the last call.
    pub(super) fn stirred(&mut self, buffer: &mut Vec<u8>) -> Stirred {
        let mut stirred = Stirred::default();
        let Some(kernel) = &self.0 else { return stirred };
        let mut events = Reader::new(kernel, buffer.spare_capacity_mut());
        loop {
            match events.next() {
                Ok(event) => {
                    stirred.lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    let directory = WatchId(event.wd());
                    if stirred.directories.last() != Some(&directory) {
                        stirred.directories.push(directory);
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    stirred.lost |= error != Errno::AGAIN;
                    return stirred;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_comes_and_goes_stirs_its_directory() {
        let base = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::default();
        let check = |watcher: &mut Watcher, expect: &[WatchId]| {
            let stirred = watcher.stirred(&mut Vec::with_capacity(4_096));
            assert_eq!(stirred, Stirred { directories: expect.to_vec(), lost: false });
        };
        let outer = watcher.watch(base.path()).unwrap();
        check(&mut watcher, &[]);
        fs::create_dir(base.path().join("a")).unwrap();
        let inner = watcher.watch(&base.path().join("a")).unwrap();
        fs::create_dir(base.path().join("a/b")).unwrap();
        fs::create_dir(base.path().join("a/c")).unwrap();
        check(&mut watcher, &[outer, inner]);
        fs::remove_dir(base.path().join("a/b")).unwrap();
        check(&mut watcher, &[inner]);
        assert_eq!(watcher.watch(&base.path().join("nowhere")), None);
        assert_eq!(Watcher::blind().watch(base.path()), None);
    }

    #[test]
    fn more_than_the_kernel_remembers_is_said() {
        let base = tempfile::tempdir().unwrap();
        let remembered = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let mut watcher = Watcher::default();
        watcher.watch(base.path()).unwrap();
        for file in 0..=remembered.trim().parse::<usize>().unwrap() {
            fs::write(base.path().join(file.to_string()), "").unwrap();
        }
        let mut buffer = Vec::with_capacity(4_096);
        assert!(watcher.stirred(&mut buffer).lost);
        assert!(!watcher.stirred(&mut buffer).lost);
    }
}
