//! What has expired goes: from the log and the head, and then from the books beside them.

use std::time::Duration;

use common::time::Timestamp;
use rusqlite::Connection;

use crate::store::Shared;
use crate::store::catalog::series;
use crate::store::ledger::Key;
use crate::store::ledger::Ledger;
use crate::store::log;
use crate::store::origin;

/// How long a spool that no agent names is remembered: agents that were away longer may send batches again.
const SPOOLS_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How long after its last batch the schema of a run is kept, at least: an agent that comes back sends it again.
const RUNS_KEPT: Duration = Duration::from_secs(26 * 3_600);

/// How long samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// As they came.
    pub raw: Duration,
    /// Their windows of five minutes.
    pub five_minutes: Duration,
    /// Those of an hour.
    pub one_hour: Duration,
    /// Bytes of all block files, after which the finest and oldest go whatever their age.
    pub bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
        Self { raw: days(15), five_minutes: days(90), one_hour: days(730), bytes: None }
    }
}

impl Retention {
    /// The longest that anything of a series is kept.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.raw.max(self.five_minutes).max(self.one_hour)
    }
}

/// Removes what is older than the configuration says. A row of the log that a later one is decoded against stays.
pub(super) fn expire(
    connection: &mut Connection,
    shared: &Shared,
    ledger: &Ledger,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let retention = &shared.config.retention;
    let cutoff = now.before(retention.raw);
    let ended = now.before(retention.longest());
    let head = &shared.head;
    head.drop_through(cutoff, ended);
    let transaction = connection.transaction()?;
    let rows = shared.rows();
    let old = ledger.keys().map(|key| (key, rows.through(key, cutoff, ledger.continues(key))));
    let old: Vec<(Key, Vec<i64>)> = old.filter(|(_, ids)| !ids.is_empty()).collect();
    drop(rows);
    for (key, ids) in &old {
        log::set_next(&transaction, *key, (ledger.next(*key), cutoff))?;
        log::remove(&transaction, ids)?;
    }
    let mut gone: Vec<i64> = old.iter().flat_map(|(_, ids)| ids).copied().collect();
    gone.sort_unstable();
    let plan = shared.tail().remove(&gone)?;
    plan.write(&transaction)?;
    log::remove_labels(&transaction, shared.tail().first_batch())?;
    log::remove_events(&transaction, cutoff)?;
    series::remove_ended(&transaction, &head.ids(), ended)?;
    origin::remove_through(&transaction, cutoff, |origin, labels| head.has(origin, labels))?;
    transaction.commit()?;
    shared.tail().apply(plan);
    old.into_iter().for_each(|(key, ids)| shared.rows().remove(key, &ids));
    Ok(())
}

/// Forgets how agents continue that did not for long: what the next batch is decoded against, spools, schemas of runs.
pub(super) fn forget(
    connection: &mut Connection,
    shared: &Shared,
    ledger: &mut Ledger,
    now: Timestamp,
) -> rusqlite::Result<()> {
    ledger.let_go(now);
    let transaction = connection.transaction()?;
    let forgotten = log::remove_spools(&transaction, now.before(SPOOLS_KEPT), |key| shared.rows().has(key))?;
    let head = &shared.head;
    let unused = head.runs_unused_since(now.before(RUNS_KEPT));
    let mut removed = Vec::new();
    for (host, run) in unused {
        if !shared.rows().has_run(host, run) {
            log::remove_schema(&transaction, host, run)?;
            removed.push((host, run));
        }
    }
    transaction.commit()?;
    forgotten.into_iter().for_each(|key| ledger.forget(key));
    removed.into_iter().for_each(|(host, run)| head.forget_run(host, run));
    Ok(())
}
