//! Whose turn it is. Queries run on threads of their own, below the rest of the program, so that what is measured goes
//! before what is asked; and a query that turns out long makes room, so that short ones never wait behind it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;

use crate::query::QueryError;

/// Queries that run at once and have not run long: what a dashboard asks together.
const SHORT_MAX: usize = 8;

/// A query is long once it has run for so long: few that a person waits for do.
const LONG_AFTER: Duration = Duration::from_secs(1);

/// Long queries that go on at once.
const LONG_MAX: usize = 2;

/// Long queries that wait to go on: each keeps a thread, and what it has read so far.
const LONG_WAITING_MAX: usize = 16;

/// Queries that wait to begin.
const WAITING_MAX: usize = 256;

/// How much the rest of the program goes before queries where processors are short (`nice`): three to one.
const NICE: i32 = 5;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// How often one that waits looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Runs queries. Clones share the threads.
#[derive(Clone, Default)]
pub struct Turns(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Queries that nobody waited for any more before they were answered.
    canceled: AtomicU64,
}

/// A query that waits to begin.
struct Job {
    canceled: Arc<AtomicBool>,
    run: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    short: usize,
    long: usize,
    long_waiting: usize,
}

/// Whether one query may go on. By default it may for ever. Clones share it.
#[derive(Clone, Default)]
pub struct Turn {
    canceled: Arc<AtomicBool>,
    place: Option<Arc<Place>>,
}

/// Among those that run at once; given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    long: AtomicBool,
}

/// Waits for an answer. When it goes without one, the query ends, or never begins.
struct Asker {
    canceled: Arc<AtomicBool>,
    shared: Arc<Shared>,
    answered: bool,
}

impl Drop for Asker {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.canceled.store(true, Ordering::Relaxed);
        self.shared.canceled.fetch_add(1, Ordering::Relaxed);
        let mut state = self.shared.lock();
        let waiting = state.jobs.iter().position(|job| Arc::ptr_eq(&job.canceled, &self.canceled));
        let job = waiting.and_then(|at| state.jobs.remove(at));
        // What it holds goes when others may go on.
        drop(state);
        drop(job);
    }
}

impl Turns {
    /// How many have begun and not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        let state = self.0.lock();
        state.short + state.long + state.long_waiting
    }

    /// How many ended, or never began, because nobody waited for the answer any more.
    #[must_use]
    pub fn canceled(&self) -> u64 {
        self.0.canceled.load(Ordering::Relaxed)
    }

    /// Runs a query when it is its turn. When this future is dropped, the query ends.
    ///
    /// # Errors
    /// When too many wait already, and those of the query.
    pub async fn run<T, F>(&self, query: F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: FnOnce(&Turn) -> Result<T, QueryError> + Send + 'static,
    {
        let canceled = Arc::new(AtomicBool::new(false));
        let turn = Turn { canceled: Arc::clone(&canceled), place: None };
        let (reply, answer) = oneshot::channel();
        let shared = Arc::clone(&self.0);
        let run = move || {
            let turn = Turn { place: Some(Arc::new(Place { shared, long: AtomicBool::new(false) })), ..turn };
            let answer = if turn.is_canceled() { Err(QueryError::Canceled) } else { query(&turn) };
            drop(turn);
            // Nobody may wait any more.
            drop(reply.send(answer));
        };
        self.0.push(Job { canceled: Arc::clone(&canceled), run: Box::new(run) })?;
        let mut asker = Asker { canceled, shared: Arc::clone(&self.0), answered: false };
        let answer = answer.await.unwrap_or_else(|_| Err(QueryError::execution("the query's thread ended early")));
        asker.answered = true;
        answer
    }
}

impl Turn {
    /// Ends the query.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Relaxed)
    }

    /// Asked now and then by a query that has run for `elapsed()`. One that has run long waits here for its turn.
    pub(super) fn go_on(&self, elapsed: &dyn Fn() -> Duration, deadline: Duration) -> Result<(), QueryError> {
        if self.is_canceled() {
            return Err(QueryError::Canceled);
        }
        let ran = elapsed();
        if deadline <= ran {
            return Err(QueryError::Timeout { deadline });
        }
        let Some(place) = self.place.as_ref().filter(|_| LONG_AFTER <= ran) else {
            return Ok(());
        };
        if place.long.load(Ordering::Relaxed) {
            return Ok(());
        }
        place.wait_long(&|| {
            if self.is_canceled() {
                return Err(QueryError::Canceled);
            }
            if deadline <= elapsed() { Err(QueryError::Timeout { deadline }) } else { Ok(()) }
        })
    }
}

impl Place {
    /// Lets a short query have this place, and waits for one among the long ones, as long as that is `wanted`.
    fn wait_long(&self, wanted: &dyn Fn() -> Result<(), QueryError>) -> Result<(), QueryError> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if LONG_WAITING_MAX <= state.long_waiting {
            return Err(QueryError::Busy);
        }
        state.short -= 1;
        state.long_waiting += 1;
        shared.changed.notify_all();
        let mut answer = Ok(());
        while LONG_MAX <= state.long && answer.is_ok() {
            state = shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            answer = wanted();
        }
        state.long_waiting -= 1;
        // It counts among the long ones from here on, for a moment even when it is given up.
        state.long += 1;
        self.long.store(true, Ordering::Relaxed);
        answer
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.long.load(Ordering::Relaxed) {
            state.long -= 1;
        } else {
            state.short -= 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, job: Job) -> Result<(), QueryError> {
        let mut state = self.lock();
        if WAITING_MAX <= state.jobs.len() {
            return Err(QueryError::Busy);
        }
        state.jobs.push_back(job);
        if state.idle < state.jobs.len() && state.threads < SHORT_MAX + LONG_MAX + LONG_WAITING_MAX {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("query".to_owned()).spawn(move || shared.work());
            if let Err(error) = thread {
                tracing::warn!(%error, "no thread for a query");
                if state.threads == 0 {
                    state.jobs.clear();
                    return Err(QueryError::Busy);
                }
            } else {
                state.threads += 1;
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Does what waits until nothing has for a while.
    fn work(&self) {
        // Where it is not allowed, queries are as important as the rest.
        setpriority_process(Some(gettid()), NICE).unwrap_or_default();
        let _counted = Counted(self);
        while let Some(job) = self.next() {
            (job.run)();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let mut waited = false;
        let job = loop {
            if state.short < SHORT_MAX
                && let Some(job) = state.jobs.pop_front()
            {
                state.short += 1;
                break Some(job);
            }
            if waited && state.jobs.is_empty() {
                break None;
            }
            let (woken, timeout) = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            waited = timeout.timed_out();
        };
        state.idle -= 1;
        job
    }
}

/// A thread that is there.
struct Counted<'a>(&'a Shared);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Turns")
            .field("waiting", &state.jobs.len())
            .field("short", &state.short)
            .field("long", &state.long)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("canceled", &self.is_canceled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;
    use tokio::task::JoinSet;

    use super::*;

    const FOREVER: Duration = Duration::MAX;

    /// A query that says when it runs, and ends when it is let go.
    fn held(
        turns: &Turns,
        ran: Duration,
    ) -> (JoinSet<Result<(), QueryError>>, oneshot::Receiver<()>, mpsc::Sender<()>) {
        let (started, starts) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let turns = turns.clone();
        let query = move |turn: &Turn| {
            turn.go_on(&|| ran, FOREVER)?;
            started.send(()).unwrap_or_default();
            released.recv().unwrap_or_default();
            Ok(())
        };
        let mut asker = JoinSet::new();
        asker.spawn(async move { turns.run(query).await });
        (asker, starts, release)
    }

    #[tokio::test]
    async fn short_queries_do_not_wait_behind_long_ones() {
        let turns = Turns::default();
        let long: Vec<_> = (0..SHORT_MAX + LONG_MAX).map(|_| held(&turns, LONG_AFTER)).collect();
        for number in 0..2 * SHORT_MAX {
            assert_eq!(turns.run(move |_| Ok(number)).await, Ok(number));
        }
        assert!(turns.0.lock().long <= LONG_MAX);
        let queries: Vec<_> = long.into_iter().map(|(query, ..)| query).collect();
        for mut query in queries {
            assert_eq!(query.join_next().await.unwrap().unwrap(), Ok(()));
        }
        let state = turns.0.lock();
        assert_eq!((state.short, state.long, state.long_waiting), (0, 0, 0));
    }

    /// All places are taken, until what is answered goes.
    async fn full(turns: &Turns) -> Vec<impl Sized> {
        let mut running = Vec::new();
        for _ in 0..SHORT_MAX {
            let (query, starts, release) = held(turns, Duration::ZERO);
            starts.await.unwrap();
            running.push((query, release));
        }
        running
    }

    #[tokio::test]
    async fn only_so_many_wait_to_begin() {
        let turns = Turns::default();
        let running = full(&turns).await;
        let waiting = futures::future::join_all((0..WAITING_MAX).map(|_| turns.run(|_| Ok(()))));
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(turns.run(|_| Ok(())).await, Err(QueryError::Busy));
        drop(running);
        assert_eq!(waiting.await, vec![Ok(()); WAITING_MAX]);
    }

    #[tokio::test]
    async fn one_that_waits_to_begin_leaves_the_queue_when_its_asker_goes() {
        let turns = Turns::default();
        let running = full(&turns).await;
        let ask = || Box::pin(turns.run(|_| Ok(())));
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| ask()).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(ask().await, Err(QueryError::Busy));
        assert_eq!(turns.canceled(), 0, "one that was turned away did not go by itself");
        drop(waiting.remove(100));
        assert_eq!((turns.0.lock().jobs.len(), turns.canceled()), (WAITING_MAX - 1, 1));
        waiting.push(ask());
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()), "there is room for another one");
        drop(running);
        assert_eq!(futures::future::join_all(waiting).await, vec![Ok(()); WAITING_MAX]);
        let gone = usize::try_from(turns.canceled()).unwrap();
        assert_eq!(
            gone,
            1 + SHORT_MAX,
            "those that ran are counted when their askers go, those that were answered not"
        );
    }

    #[tokio::test]
    async fn a_query_keeps_its_place_until_its_thread_is_done() {
        let turns = Turns::default();
        let (mut query, starts, release) = held(&turns, Duration::ZERO);
        starts.await.unwrap();
        query.shutdown().await;
        assert_eq!(turns.0.lock().short, 1, "the asker has gone, the thread has not");
        drop(release);
        while turns.0.lock().short != 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_waits_to_go_on_ends_when_its_asker_goes() {
        let turns = Turns::default();
        let mut running = Vec::new();
        for _ in 0..LONG_MAX {
            let (query, starts, release) = held(&turns, LONG_AFTER);
            starts.await.unwrap();
            running.push((query, release));
        }
        let (asked, asks) = oneshot::channel();
        let (told, tells) = oneshot::channel();
        let waiting = turns.run(move |turn: &Turn| {
            asked.send(()).unwrap_or_default();
            let answer = turn.go_on(&|| LONG_AFTER, FOREVER);
            told.send(answer.clone()).unwrap();
            answer
        });
        tokio::select! {
            answer = waiting => panic!("it answers before it may: {answer:?}"),
            asks = asks => asks.unwrap(),
        }
        assert_eq!(tells.await.unwrap(), Err(QueryError::Canceled));
        drop(running);
    }
}
