//! Which batch each spool continues with, and what it takes to decode it.

use std::collections::HashMap;
use std::time::Duration;

use common::batch::{HostId, RunId, Seq, SpoolId};
use common::time::Timestamp;
use common::wire::codec::State;
use common::wire::message::SpoolHeld;

/// A spool of a host.
pub(super) type Key = (HostId, SpoolId);

/// How long the batch before is kept at hand for a spool that stands still. After that it continues with a keyframe.
pub(super) const STATE_KEPT: Duration = Duration::from_secs(3_600);

/// All spools.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    spools: HashMap<Key, Spool>,
}

/// Where one spool stands.
#[derive(Debug, Default)]
pub(super) struct Spool {
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

impl Ledger {
    /// The spool's first batch that is not stored.
    pub(super) fn next(&self, key: Key) -> Seq {
        self.spools.get(&key).map(|spool| spool.next).unwrap_or_default()
    }

    /// What `seq` is decoded against, if the batch before it is at hand. A copy: until `seq` is durable, it may come again.
    pub(super) fn state(&self, key: Key, run: RunId, seq: Seq) -> Option<State> {
        let spool = self.spools.get(&key)?;
        let before = spool.before.as_ref().filter(|before| spool.next == seq && before.run == run)?;
        Some(before.state.clone())
    }

    /// As [`Self::state`], for a batch that is durable already.
    pub(super) fn take_state(&mut self, key: Key, run: RunId, seq: Seq) -> Option<State> {
        let spool = self.spools.get_mut(&key)?;
        let before = spool.before.take_if(|before| spool.next == seq && before.run == run)?;
        Some(before.state)
    }

    /// Notes that `seq` was stored, and what the one behind it is decoded against. Returns where the spool stood.
    pub(super) fn store(&mut self, key: Key, seq: Seq, (run, state, at): (RunId, State, Timestamp)) -> Option<Spool> {
        self.spools.insert(key, Spool { next: seq.next(), before: Some(Before { run, state, at }) })
    }

    /// Lets a spool stand where it stood.
    pub(super) fn put_back(&mut self, key: Key, spool: Option<Spool>) {
        match spool {
            Some(spool) => drop(self.spools.insert(key, spool)),
            None => self.forget(key),
        }
    }

    /// Sets the first batch that is not stored; the one behind it wants a keyframe.
    pub(super) fn reset(&mut self, key: Key, next: Seq) {
        self.spools.insert(key, Spool { next, before: None });
    }

    /// The answer to an agent that named the spool.
    pub(super) fn held(&self, (host, spool): Key) -> SpoolHeld {
        let known = self.spools.get(&(host, spool));
        SpoolHeld {
            spool,
            next: known.map(|spool| spool.next).unwrap_or_default(),
            predecessor_held: known.is_some_and(|spool| spool.before.is_some()),
        }
    }

    /// Forgets a spool.
    pub(super) fn forget(&mut self, key: Key) {
        drop(self.take(key));
    }

    /// Forgets a spool. Returns where it stood.
    pub(super) fn take(&mut self, key: Key) -> Option<Spool> {
        self.spools.remove(&key)
    }

    /// Lets go of batches before that stood for [`STATE_KEPT`].
    pub(super) fn let_go(&mut self, now: Timestamp) {
        for spool in self.spools.values_mut() {
            spool.before.take_if(|before| STATE_KEPT <= now.since(before.at));
        }
    }

    /// All spools.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.spools.keys().copied()
    }
}
