//! Which batch each spool continues with, and what it takes to decode it.

use std::collections::HashMap;
use std::time::Duration;

use common::batch::{EncodedBatch, HostId, RunId, Seq, SpoolId};
use common::time::Timestamp;
use common::wire::codec::State;
use common::wire::message::SpoolHeld;

use crate::store::recent::Recent;

/// A spool of a host.
pub type Key = (HostId, SpoolId);

/// How long the batch before is kept at hand for a spool that stands still. After that it continues with a keyframe.
pub const STATE_KEPT: Duration = Duration::from_secs(3_600);

/// All spools.
#[derive(Debug, Default)]
pub struct Ledger {
    spools: HashMap<Key, Spool>,
    /// The last place in the logs that was given.
    last_place: i64,
    recent: Recent,
}

/// Where one spool stands.
#[derive(Debug, Default)]
pub struct Spool {
    next: Seq,
    before: Option<Before>,
}

/// The batch before the next one.
#[derive(Debug)]
struct Before {
    run: RunId,
    state: State,
    at: Timestamp,
}

/// What a batch is to the store.
#[derive(Debug)]
pub enum Admission {
    /// It is stored already.
    Stored,
    /// It is to be stored: what it is decoded against, and how many batches before it never came.
    New(State, u64),
}

/// Why a batch cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No spool is so long.
    #[error("batch has the impossible place {0}")]
    Place(u64),
    /// It is coded against one that is not at hand.
    #[error("the batch before is not at hand, and this is no keyframe")]
    Predecessor,
}

impl Ledger {
    /// What a batch of a host is, before anything is done with it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn admit(&self, host: HostId, batch: &EncodedBatch) -> Result<Admission, Refusal> {
        let key = (host, batch.spool);
        let next = self.next(key);
        if batch.seq < next {
            return Ok(Admission::Stored);
        }
        if i64::try_from(batch.seq.0).is_err() {
            return Err(Refusal::Place(batch.seq.0));
        }
        let state = if batch.keyframe { Some(State::default()) } else { self.state(key, batch.run, batch.seq) };
        state.map(|state| Admission::New(state, batch.seq.0 - next.0)).ok_or(Refusal::Predecessor)
    }

    /// Gives no place up to this one.
    pub const fn begin_behind(&mut self, place: i64) {
        self.last_place = place;
    }

    /// The last place in the logs that was given.
    #[must_use]
    pub const fn last_place(&self) -> i64 {
        self.last_place
    }

    /// A place in the logs behind all others. It may stay empty.
    pub const fn place(&mut self) -> i64 {
        self.last_place += 1;
        self.last_place
    }

    /// Notes what was recorded durably.
    pub(super) fn note(&mut self, recent: Recent) {
        self.recent.join(recent);
    }

    /// What was recorded since the start and may be in no table.
    pub(super) const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The spool's first batch that is not stored.
    pub fn next(&self, key: Key) -> Seq {
        self.spools.get(&key).map(|spool| spool.next).unwrap_or_default()
    }

    /// What `seq` is decoded against, if the batch before it is at hand. A copy: until `seq` is durable, it may come again.
    fn state(&self, key: Key, run: RunId, seq: Seq) -> Option<State> {
        let spool = self.spools.get(&key)?;
        let before = spool.before.as_ref().filter(|before| spool.next == seq && before.run == run)?;
        Some(before.state.clone())
    }

    /// What `seq` is decoded against, for a batch that is durable already.
    pub fn take_state(&mut self, key: Key, run: RunId, seq: Seq) -> Option<State> {
        let spool = self.spools.get_mut(&key)?;
        let before = spool.before.take_if(|before| spool.next == seq && before.run == run)?;
        Some(before.state)
    }

    /// Notes that `seq` was stored, and what the one behind it is decoded against. Returns where the spool stood.
    pub fn store(&mut self, key: Key, seq: Seq, (run, state, at): (RunId, State, Timestamp)) -> Option<Spool> {
        self.spools.insert(key, Spool { next: seq.next(), before: Some(Before { run, state, at }) })
    }

    /// Lets a spool stand where it stood.
    pub fn put_back(&mut self, key: Key, spool: Option<Spool>) {
        match spool {
            Some(spool) => drop(self.spools.insert(key, spool)),
            None => self.forget(key),
        }
    }

    /// Sets the first batch that is not stored; the one behind it wants a keyframe.
    pub fn reset(&mut self, key: Key, next: Seq) {
        self.spools.insert(key, Spool { next, before: None });
    }

    /// The answer to an agent that named the spool.
    pub fn held(&self, (host, spool): Key) -> SpoolHeld {
        let known = self.spools.get(&(host, spool));
        SpoolHeld {
            spool,
            next: known.map(|spool| spool.next).unwrap_or_default(),
            predecessor_held: known.is_some_and(|spool| spool.before.is_some()),
        }
    }

    /// Whether the next batch of a spool may be coded against the one before it.
    #[must_use]
    pub fn continues(&self, key: Key) -> bool {
        self.spools.get(&key).is_some_and(|spool| spool.before.is_some())
    }

    /// Takes in spools that somebody else read.
    pub fn join(&mut self, other: Self) {
        self.spools.extend(other.spools);
    }

    /// Forgets a spool.
    pub fn forget(&mut self, key: Key) {
        drop(self.take(key));
    }

    /// Forgets a spool. Returns where it stood.
    pub fn take(&mut self, key: Key) -> Option<Spool> {
        self.spools.remove(&key)
    }

    /// Lets go of batches before that stood for [`STATE_KEPT`].
    pub fn let_go(&mut self, now: Timestamp) {
        for spool in self.spools.values_mut() {
            spool.before.take_if(|before| STATE_KEPT <= now.since(before.at));
        }
    }

    /// All spools.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.spools.keys().copied()
    }
}
