//! Work on a thread of its own: for what may hang, or takes longer than the sampling thread has.

use std::io;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an errand may take before it is silent: what node_exporter allows a mount.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// How often who waits looks whether it is done.
const STEP: Duration = Duration::from_millis(2);

/// It reads files into a buffer and keeps nothing: a few frames suffice.
const STACK_BYTES: usize = 128 * 1024;

/// One piece of work at a time, and what it found. Its thread lives no longer than the work: between two rounds there is
/// none.
#[derive(Debug)]
pub struct Errand<T>(Option<Running<T>>);

#[derive(Debug)]
struct Running<T> {
    thread: JoinHandle<T>,
    since: Duration,
}

impl<T> Default for Errand<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Errand<T> {
    /// Begins the work, unless the last one is under way still: what hangs holds one thread, not one a round.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn begin(&mut self, now: Duration, work: impl FnOnce() -> T + Send + 'static) -> io::Result<()> {
        if self.0.is_none() {
            let thread = thread::Builder::new().name("errand".to_owned()).stack_size(STACK_BYTES).spawn(work)?;
            self.0 = Some(Running { thread, since: now });
        }
        Ok(())
    }

    /// What was found, once; waits up to `patience` for it.
    pub fn found(&mut self, patience: Duration) -> Option<T> {
        let mut left = patience;
        while !self.0.as_ref()?.thread.is_finished() {
            if left.is_zero() {
                return None;
            }
            thread::sleep(left.min(STEP));
            left = left.saturating_sub(STEP);
        }
        self.0.take()?.thread.join().ok()
    }

    /// Whether the work does not come to an end.
    #[must_use]
    pub fn is_silent(&self, now: Duration) -> bool {
        self.0.as_ref().is_some_and(|running| SILENT_AFTER <= now.saturating_sub(running.since))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn what_hangs_holds_one_thread_and_is_silent_until_it_comes_back() {
        let (sender, receiver) = channel();
        let mut errand = Errand::default();
        let second = Duration::from_secs(1);
        assert_eq!(errand.found(PATIENCE), None);
        errand.begin(second, move || receiver.recv()).unwrap();
        errand.begin(2 * second, || Ok("another")).unwrap();
        assert_eq!(errand.found(Duration::ZERO), None);
        assert_eq!([5, 6].map(|seconds| errand.is_silent(seconds * second)), [false, true]);
        sender.send("back").unwrap();
        assert_eq!(errand.found(PATIENCE), Some(Ok("back")));
        assert_eq!((errand.found(PATIENCE), errand.is_silent(9 * second)), (None, false));
        errand.begin(9 * second, || Ok("another")).unwrap();
        assert_eq!(errand.found(PATIENCE), Some(Ok("another")));
    }
}
