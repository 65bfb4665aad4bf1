//! The history of notifications: every decision, sent or not, its reason, and what became of it.

use std::collections::BTreeMap;

use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

/// Decisions kept: those of a group that changes each five minutes for a month, of ten groups for three days.
const NOTIFICATIONS_MAX: u32 = 10_000;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names the decision; what was sent carries it as `Idempotency-Key`.
    pub id: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The group it is about.
    pub group_key: String,
    /// Whom it concerns: receiver, kind and place, as `team/webhook/0`.
    pub receiver: String,
    /// What became of it.
    pub status: Status,
    /// Why, by the name of the reason.
    pub reason: String,
    /// How often delivery was tried.
    pub attempts: u32,
    /// What went wrong the last time, without secrets.
    pub error: Option<String>,
    /// What it is about.
    pub about: About,
}

/// The alerts that a decision is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// How many.
    pub total: usize,
    /// The first of them.
    pub alerts: Vec<Subject>,
}

/// One alert of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was said to fire; otherwise to be resolved.
    pub firing: bool,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was decided to send nothing.
    Skipped,
    /// It waits for its delivery.
    Pending,
    /// The receiver took it.
    Sent,
    /// The receiver refused it.
    Failed,
}

impl Status {
    const ALL: [Self; 4] = [Self::Skipped, Self::Pending, Self::Sent, Self::Failed];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }
}

impl Notification {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO notification \
                   (id, at_ms, group_key, receiver, status, reason, attempts, error, alerts) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let at_ms = self.at.as_millis();
        let said = (self.status.name(), &self.reason, self.attempts, &self.error);
        let (status, reason, attempts, error) = said;
        transaction.prepare_cached(sql)?.execute((
            &self.id,
            at_ms,
            &self.group_key,
            &self.receiver,
            status,
            reason,
            attempts,
            error,
            serde_json::to_string(&self.about).unwrap_or_default(),
        ))?;
        let sql = "DELETE FROM notification WHERE at_ms < \
                   (SELECT at_ms FROM notification ORDER BY at_ms DESC LIMIT 1 OFFSET ?1)";
        transaction.prepare_cached(sql)?.execute([NOTIFICATIONS_MAX])?;
        Ok(())
    }
}

/// The last decisions, newest first.
///
/// # Errors
/// When the database cannot be read.
pub fn recent(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Notification>> {
    let sql = "SELECT id, at_ms, group_key, receiver, status, reason, attempts, error, alerts \
               FROM notification ORDER BY at_ms DESC, id LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([limit.min(NOTIFICATIONS_MAX)], decode)?;
    rows.collect()
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let status: String = row.get(4)?;
    let about: String = row.get(8)?;
    Ok(Notification {
        id: row.get(0)?,
        at: Timestamp::from_millis(row.get(1)?),
        group_key: row.get(2)?,
        receiver: row.get(3)?,
        status: Status::ALL.into_iter().find(|known| known.name() == status).unwrap_or(Status::Failed),
        reason: row.get(5)?,
        attempts: row.get(6)?,
        error: row.get(7)?,
        about: serde_json::from_str(&about).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migration;

    #[test]
    fn a_decision_is_read_as_it_was_written_and_rewritten() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0004_notify.sql")).unwrap();
        let transaction = connection.transaction().unwrap();
        let labels = [("alertname", "A"), ("path", "/\n\"")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut decision = Notification {
            id: "1".to_owned(),
            at: Timestamp::from_seconds(10),
            group_key: "{}:{}".to_owned(),
            receiver: "team/webhook/0".to_owned(),
            status: Status::Pending,
            reason: "new_alerts".to_owned(),
            attempts: 0,
            error: None,
            about: About { total: 7, alerts: vec![Subject { labels: labels.into(), firing: true }] },
        };
        decision.write(&transaction).unwrap();
        decision.status = Status::Sent;
        decision.attempts = 2;
        decision.error = Some("refused".to_owned());
        decision.write(&transaction).unwrap();
        assert_eq!(recent(&transaction, 10).unwrap(), [decision]);
    }

    #[test]
    fn words_of_before_become_names() {
        let mut connection = Connection::open_in_memory().unwrap();
        migration::migrate_to(&mut connection, 15).unwrap();
        for (at, reason) in [(0, "new alerts"), (1, "could not be delivered for a day"), (2, "the moon is full")] {
            let sql = "INSERT INTO notification (id, at_ms, group_key, receiver, status, reason, attempts, alerts) \
                       VALUES (?1, ?1, '', '', 'sent', ?2, 1, '{}')";
            connection.execute(sql, (at, reason)).unwrap();
        }
        migration::migrate(&mut connection).unwrap();
        let reasons: Vec<_> = recent(&connection, 10).unwrap().into_iter().map(|decision| decision.reason).collect();
        assert_eq!(reasons, ["the moon is full", "too_old", "new_alerts"]);
    }
}
