//! Work that may take long, or for ever: done aside, one piece after the other, on a thread of its own. A piece that does
//! not end is given up, its thread with it, and the others go on on a new thread.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long a piece of work may take before it is given up: what node_exporter allows a file system.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// How often who waits looks whether an answer came.
const STEP: Duration = Duration::from_millis(2);

/// Mounts or devices that wait for the thread: a host with a thousand containers has as many interfaces, cores, and a few
/// real mounts besides the excluded overlays.
const WORK_WAITING_MAX: usize = 2_048;

/// Threads that may hang in a silent file system or device, one each.
const SILENT_MAX: usize = 64;

/// The thread reads small files and keeps nothing on its stack: a few frames suffice.
const STACK_BYTES: usize = 128 * 1024;

/// A thread and the work that waits for it. The thread begins with the first piece of work.
#[derive(Debug)]
pub struct Aside {
    /// Holds no more than `waiting` does; a channel with a limit of its own takes memory for all of it at once.
    queue: Sender<Work>,
    taken: Arc<Mutex<Receiver<Work>>>,
    /// What is not done yet, oldest first: the first is under way.
    waiting: VecDeque<Arc<Fate>>,
    /// Since when the first is.
    since: Duration,
    has_thread: bool,
    /// What was given up and has not ended yet.
    silent: Vec<Arc<Fate>>,
}

struct Work {
    run: Box<dyn FnOnce() + Send>,
    fate: Arc<Fate>,
}

/// What became of a piece of work.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

impl Fate {
    const WAITING: u8 = 0;
    const DONE: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Acquire) == state
    }

    /// Whether it was still waiting, and so is `state` from here on.
    fn decide(&self, state: u8) -> bool {
        self.0.compare_exchange(Self::WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Default for Aside {
    fn default() -> Self {
        let (queue, taken) = channel();
        Self {
            queue,
            taken: Arc::new(Mutex::new(taken)),
            waiting: VecDeque::new(),
            since: Duration::ZERO,
            has_thread: false,
            silent: Vec::new(),
        }
    }
}

impl Aside {
    /// Gives up what takes too long; what waits behind it goes on.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn look(&mut self, now: Duration) -> io::Result<()> {
        self.silent.retain(|fate| !fate.is(Fate::DONE));
        while pop_if(&mut self.waiting, |fate| fate.is(Fate::DONE)).is_some() {
            self.since = now;
        }
        let too_long = self.since + SILENT_AFTER <= now;
        if self.has_thread && too_long && self.waiting.front().is_some_and(|fate| fate.decide(Fate::GIVEN_UP)) {
            self.silent.extend(self.waiting.pop_front());
            self.has_thread = false;
        }
        if self.has_thread || self.waiting.is_empty() || SILENT_MAX <= self.silent.len() {
            return Ok(());
        }
        self.since = now;
        let taken = Arc::clone(&self.taken);
        thread::Builder::new().name("aside".to_owned()).stack_size(STACK_BYTES).spawn(move || work(&taken))?;
        self.has_thread = true;
        Ok(())
    }

    /// Hands work in; `None` where too much waits already.
    fn hand_in(&mut self, now: Duration, run: impl FnOnce() + Send + 'static) -> Option<Arc<Fate>> {
        if WORK_WAITING_MAX <= self.waiting.len() {
            return None;
        }
        let fate = Arc::<Fate>::default();
        self.queue.send(Work { run: Box::new(run), fate: Arc::clone(&fate) }).ok()?;
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.waiting.push_back(Arc::clone(&fate));
        Some(fate)
    }
}

fn pop_if<T>(queue: &mut VecDeque<T>, pops: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(pops) { queue.pop_front() } else { None }
}

/// Does what waits until nobody hands in work any more, or until it was given up itself.
fn work(taken: &Mutex<Receiver<Work>>) {
    loop {
        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Work { run, fate }) = next else { return };
        run();
        if !fate.decide(Fate::DONE) {
            fate.0.store(Fate::DONE, Ordering::Release);
            return;
        }
    }
}

/// One question about many things, asked aside in rounds. What does not answer is not asked again until it does.
#[derive(Debug)]
pub struct Inquiry<A> {
    asked: VecDeque<Asked<A>>,
    silent: Vec<Asked<A>>,
}

#[derive(Debug)]
struct Asked<A> {
    about: PathBuf,
    fate: Arc<Fate>,
    answer: Arc<Mutex<Option<A>>>,
}

impl<A> Default for Inquiry<A> {
    fn default() -> Self {
        Self { asked: VecDeque::new(), silent: Vec::new() }
    }
}

impl<A: Send + 'static> Inquiry<A> {
    /// Begins a round, if the last one is over. Whether there was room for all that is to be asked.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn begin<Q>(
        &mut self,
        aside: &mut Aside,
        about: impl Iterator<Item = PathBuf>,
        question: &Q,
        now: Duration,
    ) -> io::Result<bool>
    where
        Q: Fn(&Path) -> A + Clone + Send + 'static,
    {
        if !self.asked.is_empty() {
            return Ok(true);
        }
        let mut has_room = true;
        for about in about.filter(|about| self.silent.iter().all(|silent| silent.about != *about)) {
            let answer = Arc::new(Mutex::new(None));
            let (asked, to, question) = (about.clone(), Arc::clone(&answer), question.clone());
            let handed_in = aside.hand_in(now, move || {
                let said = question(&asked);
                *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
            });
            let Some(fate) = handed_in else {
                has_room = false;
                break;
            };
            self.asked.push_back(Asked { about, fate, answer });
        }
        aside.look(now)?;
        Ok(has_room)
    }

    /// The next answer, waiting up to `patience` for it while a round runs.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn next(&mut self, aside: &mut Aside, now: Duration, patience: Duration) -> io::Result<Option<(PathBuf, A)>> {
        let mut left = patience;
        loop {
            aside.look(now)?;
            while let Some(given_up) = pop_if(&mut self.asked, |asked| asked.fate.is(Fate::GIVEN_UP)) {
                self.silent.push(given_up);
            }
            let late = self.silent.iter().position(|silent| silent.fate.is(Fate::DONE));
            let answered = pop_if(&mut self.asked, |asked| asked.fate.is(Fate::DONE));
            if let Some(Asked { about, answer, .. }) = answered.or_else(|| Some(self.silent.swap_remove(late?))) {
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Ok(answer.map(|answer| (about, answer)));
            }
            if self.asked.is_empty() || left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(STEP));
            left = left.saturating_sub(STEP);
        }
    }

    /// Whether all that was asked has been answered or given up: the next round may begin.
    pub fn is_over(&self) -> bool {
        self.asked.is_empty()
    }

    /// Waits until all of the round has an answer, at most `patience`. Returns what is left of that.
    pub fn wait(&self, patience: Duration) -> Duration {
        let mut left = patience;
        while !left.is_zero() && self.asked.back().is_some_and(|last| last.fate.is(Fate::WAITING)) {
            thread::sleep(left.min(STEP));
            left = left.saturating_sub(STEP);
        }
        left
    }

    /// What does not answer.
    pub fn silent(&self) -> impl Iterator<Item = &Path> {
        self.silent.iter().map(|silent| &*silent.about)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        aside: Aside,
        inquiry: Inquiry<io::Result<Vec<u8>>>,
        directory: tempfile::TempDir,
    }

    impl Bench {
        /// A directory with the files `a` and `c`, and between them one that never answers.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            for name in ["a", "c"] {
                std::fs::write(directory.path().join(name), name).unwrap();
            }
            let fifo = directory.path().join("b");
            let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
            assert!(made.success());
            Self { aside: Aside::default(), inquiry: Inquiry::default(), directory }
        }

        fn begin(&mut self, names: &str, now: Duration) {
            let paths: Vec<_> = names.split(' ').map(|name| self.directory.path().join(name)).collect();
            let read = |path: &Path| std::fs::read(path);
            self.inquiry.begin(&mut self.aside, paths.into_iter(), &read, now).unwrap();
        }

        fn next(&mut self, now: Duration, patience: Duration) -> Option<String> {
            let (_, answer) = self.inquiry.next(&mut self.aside, now, patience).unwrap()?;
            Some(answer.map_or_else(|error| error.kind().to_string(), |text| String::from_utf8(text).unwrap()))
        }

        fn silent(&self) -> Vec<&str> {
            self.inquiry.silent().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
        }
    }

    #[test]
    fn a_file_that_never_answers_holds_no_other_up_and_comes_back() {
        let mut bench = Bench::new();
        bench.begin("a b c", SECOND);
        assert_eq!(bench.next(SECOND, PATIENCE).as_deref(), Some("a"));
        for early in [2, 5] {
            assert_eq!(bench.next(early * SECOND, Duration::ZERO), None);
            assert_eq!(bench.silent(), [""; 0]);
        }
        assert_eq!(bench.next(6 * SECOND, PATIENCE).as_deref(), Some("c"));
        assert_eq!(bench.silent(), ["b"]);
        bench.begin("a b c", 11 * SECOND);
        for expect in [Some("a"), Some("c"), None] {
            assert_eq!(bench.next(11 * SECOND, PATIENCE).as_deref(), expect);
        }
        assert_eq!(bench.silent(), ["b"]);
        let mut options = OpenOptions::new();
        drop(options.write(true).open(bench.directory.path().join("b")).unwrap());
        let mut answer = None;
        while answer.is_none() {
            answer = bench.next(12 * SECOND, Duration::ZERO);
            thread::yield_now();
        }
        assert_eq!((answer.as_deref(), bench.silent().len()), (Some(""), 0));
    }

    #[test]
    fn a_missing_file_is_an_answer_and_a_round_under_way_is_not_begun_again() {
        let mut bench = Bench::new();
        bench.begin("no a", SECOND);
        bench.begin("c c c", SECOND);
        for expect in [Some("entity not found"), Some("a"), None] {
            assert_eq!(bench.next(SECOND, PATIENCE).as_deref(), expect);
        }
    }
}
