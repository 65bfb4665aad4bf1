//! Which rows the log of batches has, host by host and spool by spool: in memory, because on the disk they lie in the order
//! in which they came, and an index beside them would take a page of each host for each commit.

use std::collections::BTreeMap;
use std::collections::HashMap;

use common::batch::EncodedBatch;
use common::batch::HostId;
use common::batch::RunId;
use common::batch::Seq;
use common::batch::SpoolId;
use common::batch::WINDOW;
use common::time::Timestamp;

use crate::store::catalog::Sealed;
use crate::store::ledger::Key;

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    hosts: HashMap<HostId, BTreeMap<SpoolId, Spool>>,
}

/// Those of one spool, in the order in which they came, which is that of their places.
#[derive(Debug, Default)]
struct Spool {
    rows: Vec<Row>,
    /// Of which runs some are, or were: nearly always one.
    runs: Vec<RunId>,
}

/// What of a row says whether it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) seq: Seq,
    pub(super) stamp: Timestamp,
    pub(super) keyframe: bool,
}

impl Row {
    /// Of a batch that has become one.
    pub(super) const fn of(id: i64, batch: &EncodedBatch) -> Self {
        let EncodedBatch { seq, stamp, keyframe, .. } = *batch;
        Self { id, seq, stamp, keyframe }
    }
}

impl Rows {
    /// Adds the row behind all others.
    pub(super) fn push(&mut self, (host, spool): Key, run: RunId, row: Row) {
        let spool = self.hosts.entry(host).or_default().entry(spool).or_default();
        spool.rows.push(row);
        if !spool.runs.contains(&run) {
            spool.runs.push(run);
        }
    }

    /// How many there are, and the first stamp of those that block files do not cover.
    pub(super) fn uncovered(&self, sealed: &HashMap<HostId, Sealed>) -> (u64, Option<Timestamp>) {
        let (mut count, mut first) = (0, None);
        for (host, spools) in &self.hosts {
            let sealed = sealed.get(host).copied().unwrap_or_default();
            for row in spools.values().flat_map(|spool| &spool.rows) {
                count += 1;
                let uncovered = (!sealed.covers(row.id, row.stamp)).then_some(row.stamp);
                first = first.into_iter().chain(uncovered).min();
            }
        }
        (count, first)
    }

    /// Whose there are.
    pub(super) fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.hosts.keys().copied()
    }

    /// Those of a host, in the order in which they came.
    pub(super) fn in_order(&self, host: HostId) -> Vec<i64> {
        let mut ids: Vec<i64> = self.spools(host).flat_map(|(_, spool)| &spool.rows).map(|row| row.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those of a host through a place and a stamp, spool by spool in order.
    pub(super) fn of_host(&self, host: HostId, (row, cut): (i64, Timestamp)) -> Vec<i64> {
        let rows = self.spools(host).flat_map(|(_, spool)| &spool.rows);
        rows.filter(|of| of.id <= row && of.stamp <= cut).map(|row| row.id).collect()
    }

    /// The one whose stamp is in the window that covers `at`, and all those before it that it takes to decode it.
    pub(super) fn leading_to(&self, host: HostId, at: Timestamp) -> Vec<i64> {
        let covers = |row: &Row| at <= row.stamp && row.stamp < at.after(WINDOW);
        let found = self.spools(host).flat_map(|(_, spool)| {
            let places = spool.rows.iter().enumerate();
            places.filter(|(_, row)| covers(row)).map(move |(place, row)| (row.stamp, row.id, place, spool))
        });
        let Some((_, _, place, spool)) = found.min_by_key(|(stamp, id, ..)| (*stamp, *id)) else {
            return Vec::new();
        };
        let rows = &spool.rows[..=place];
        let first = rows.iter().rposition(|row| row.keyframe).unwrap_or(rows.len());
        rows[first..].iter().map(|row| row.id).collect()
    }

    /// Those of a host that block files cover, but those that a later row is decoded against, spool by spool. `continued`
    /// says of which spools the next batch may be.
    pub(super) fn covered(
        &self,
        (host, sealed): (HostId, &Sealed),
        continued: impl Fn(SpoolId) -> bool,
    ) -> Vec<(SpoolId, Vec<i64>)> {
        let unneeded = |(id, spool): (SpoolId, &Spool)| {
            let open = spool.rows.iter().position(|row| !sealed.covers(row.id, row.stamp));
            (id, spool.before(open.or(continued(id).then_some(spool.rows.len()))))
        };
        self.spools(host).map(unneeded).filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// Those of a spool that nothing after `cutoff` needs: those before the last keyframe at or before it, and all when none
    /// came later and what comes does not continue them.
    pub(super) fn through(&self, (host, spool): Key, cutoff: Timestamp, continues: bool) -> Vec<i64> {
        let Some(spool) = self.hosts.get(&host).and_then(|spools| spools.get(&spool)) else {
            return Vec::new();
        };
        if !continues && spool.rows.iter().all(|row| row.stamp <= cutoff) {
            return spool.before(None);
        }
        let last = spool.rows.iter().rposition(|row| row.keyframe && row.stamp <= cutoff);
        spool.before(Some(last.unwrap_or(0)))
    }

    /// Whether there are some of a spool.
    pub(super) fn has(&self, (host, spool): Key) -> bool {
        self.hosts.get(&host).is_some_and(|spools| spools.contains_key(&spool))
    }

    /// Whether there may be some of a run.
    pub(super) fn has_run(&self, host: HostId, run: RunId) -> bool {
        self.spools(host).any(|(_, spool)| spool.runs.contains(&run))
    }

    /// These are gone.
    pub(super) fn remove(&mut self, (host, spool): Key, ids: &[i64]) {
        let Some(spools) = self.hosts.get_mut(&host) else { return };
        if let Some(of) = spools.get_mut(&spool) {
            // What goes lies in front, so that it is found where it is looked for.
            let mut gone = ids.iter().peekable();
            of.rows.retain(|row| gone.next_if(|id| **id == row.id).is_none());
            if of.rows.is_empty() {
                spools.remove(&spool);
            }
        }
        if spools.is_empty() {
            self.hosts.remove(&host);
        }
    }

    /// All of a host are gone.
    pub(super) fn forget(&mut self, host: HostId) {
        self.hosts.remove(&host);
    }

    fn spools(&self, host: HostId) -> impl Iterator<Item = (SpoolId, &Spool)> {
        self.hosts.get(&host).into_iter().flatten().map(|(id, spool)| (*id, spool))
    }
}

impl Spool {
    /// Those before the last keyframe that is not behind a place; all if nothing is needed.
    fn before(&self, needed: Option<usize>) -> Vec<i64> {
        let through = |place: usize| &self.rows[..self.rows.len().min(place + 1)];
        let end =
            needed.map_or(self.rows.len(), |place| through(place).iter().rposition(|row| row.keyframe).unwrap_or(0));
        self.rows[..end].iter().map(|row| row.id).collect()
    }
}
