//! The history of notifications: every decision, sent or not, its reason, and what became of it.

use std::collections::BTreeMap;

use common::metric::Labels;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

/// Decisions kept: a group that changes each five minutes for a month.
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
    /// Why, in words.
    pub reason: String,
    /// How often delivery was tried.
    pub attempts: u32,
    /// What went wrong the last time, without secrets.
    pub error: Option<String>,
    /// The alerts it is about.
    pub alerts: Vec<Told>,
}

/// One alert of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its labels.
    pub labels: Labels,
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

#[derive(Serialize, Deserialize)]
struct ToldRow {
    labels: BTreeMap<String, String>,
    firing: bool,
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
            encode(&self.alerts),
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

fn encode(alerts: &[Told]) -> String {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let row = |told: &Told| ToldRow { labels: told.labels.iter().map(owned).collect(), firing: told.firing };
    let rows: Vec<ToldRow> = alerts.iter().map(row).collect();
    serde_json::to_string(&rows).unwrap_or_default()
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let status: String = row.get(4)?;
    let alerts: String = row.get(8)?;
    let alerts: Vec<ToldRow> = serde_json::from_str(&alerts).unwrap_or_default();
    Ok(Notification {
        id: row.get(0)?,
        at: Timestamp::from_millis(row.get(1)?),
        group_key: row.get(2)?,
        receiver: row.get(3)?,
        status: Status::ALL.into_iter().find(|known| known.name() == status).unwrap_or(Status::Failed),
        reason: row.get(5)?,
        attempts: row.get(6)?,
        error: row.get(7)?,
        alerts: alerts
            .into_iter()
            .map(|told| Told { labels: told.labels.into_iter().collect(), firing: told.firing })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_as_it_was_written_and_rewritten() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0004_notify.sql")).unwrap();
        let transaction = connection.transaction().unwrap();
        let labels: Labels = [("alertname", "A"), ("path", "/\n\"")].into_iter().collect();
        let mut decision = Notification {
            id: "1".to_owned(),
            at: Timestamp::from_seconds(10),
            group_key: "{}:{}".to_owned(),
            receiver: "team/webhook/0".to_owned(),
            status: Status::Pending,
            reason: "new alerts".to_owned(),
            attempts: 0,
            error: None,
            alerts: vec![Told { labels, firing: true }],
        };
        decision.write(&transaction).unwrap();
        decision.status = Status::Sent;
        decision.attempts = 2;
        decision.error = Some("refused".to_owned());
        decision.write(&transaction).unwrap();
        assert_eq!(recent(&transaction, 10).unwrap(), [decision]);
    }
}
