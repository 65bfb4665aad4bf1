//! Hosts: who may send, under which name, with which labels.

use std::collections::BTreeMap;
use std::time::Duration;

use common::batch::HostId;
use common::batch::RunId;
use common::metric::Labels;
use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::Transaction;
use rusqlite::types::Type;

/// A host that was enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// SHA-256 of its public key info.
    pub key_hash: [u8; 32],
    /// Its `instance` label: unique.
    pub instance: String,
    /// What it calls itself.
    pub hostname: String,
    /// Labels from the join token.
    pub token_labels: Labels,
    /// Labels from the agent's configuration.
    pub agent_labels: Labels,
    /// Labels that an operator gave it here.
    pub operator_labels: Labels,
    /// How long after it was last seen it is forgotten, if it is ephemeral.
    pub ephemeral: Option<Duration>,
    /// Until when its certificate is valid.
    pub certificate_expires: Timestamp,
    /// When it was enrolled.
    pub created: Timestamp,
    /// Whether it may not come back.
    pub revoked: bool,
    /// Version of its agent; empty before its first session.
    pub agent_version: String,
    /// The kernel's boot id of its latest session.
    pub boot_id: Option<[u8; 16]>,
    /// The agent run of its latest session.
    pub run: Option<RunId>,
    /// The latest moment at which it was connected.
    pub last_seen: Timestamp,
    /// The reason with which its latest session ended, if it gave one.
    pub goodbye: Option<u16>,
}

impl Host {
    /// Labels that all its series share. The aggregator's name for it wins, then the operator's labels, then the token's.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let labels = self.agent_labels.clone().and(&self.token_labels).and(&self.operator_labels);
        labels.with("instance", self.instance.as_str())
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO host (id, key_hash, instance, hostname, token_labels, agent_labels, ephemeral_s, \
                   certificate_expires_ms, created_ms, revoked, agent_version, boot_id, run, last_seen_ms, goodbye, \
                   operator_labels) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
                   ON CONFLICT (id) DO UPDATE SET instance = ?3, hostname = ?4, token_labels = ?5, agent_labels = ?6, \
                   ephemeral_s = ?7, certificate_expires_ms = ?8, revoked = ?10, agent_version = ?11, boot_id = ?12, \
                   run = ?13, last_seen_ms = ?14, goodbye = ?15, operator_labels = ?16";
        transaction.execute(
            sql,
            rusqlite::params![
                self.id.0,
                self.key_hash,
                self.instance,
                self.hostname,
                labels_to_json(&self.token_labels),
                labels_to_json(&self.agent_labels),
                self.ephemeral.and_then(|ephemeral| i64::try_from(ephemeral.as_secs()).ok()),
                self.certificate_expires.as_millis(),
                self.created.as_millis(),
                self.revoked,
                self.agent_version,
                self.boot_id,
                self.run.map(|run| run.0),
                self.last_seen.as_millis(),
                self.goodbye,
                labels_to_json(&self.operator_labels),
            ],
        )?;
        Ok(())
    }
}

/// All hosts, by their number.
///
/// # Errors
/// When the database cannot be read.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Host>> {
    connection.prepare("SELECT * FROM host ORDER BY id")?.query_map([], from_row)?.collect()
}

/// The highest number that a host ever had. The labels of a host outlive it, so that its number is not given again.
///
/// # Errors
/// When the database cannot be read.
pub fn last_number(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT coalesce(max(host), 0) FROM host_labels", [], |row| row.get(0))
}

pub(super) fn forget(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM host WHERE id = ?1", [host.0])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Host> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(Host {
        id: HostId(row.get("id")?),
        key_hash: row.get("key_hash")?,
        instance: row.get("instance")?,
        hostname: row.get("hostname")?,
        token_labels: labels_from_json(&row.get::<_, String>("token_labels")?)?,
        agent_labels: labels_from_json(&row.get::<_, String>("agent_labels")?)?,
        operator_labels: labels_from_json(&row.get::<_, String>("operator_labels")?)?,
        ephemeral: row.get::<_, Option<i64>>("ephemeral_s")?.map(seconds),
        certificate_expires: Timestamp::from_millis(row.get("certificate_expires_ms")?),
        created: Timestamp::from_millis(row.get("created_ms")?),
        revoked: row.get("revoked")?,
        agent_version: row.get("agent_version")?,
        boot_id: row.get("boot_id")?,
        run: row.get::<_, Option<[u8; 16]>>("run")?.map(RunId),
        last_seen: Timestamp::from_millis(row.get("last_seen_ms")?),
        goodbye: row.get("goodbye")?,
    })
}

pub(super) fn labels_to_json(labels: &Labels) -> String {
    let map: BTreeMap<&str, &str> = labels.iter().collect();
    // A map of strings is always JSON.
    serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned())
}

pub(super) fn labels_from_json(text: &str) -> rusqlite::Result<Labels> {
    let map: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
    Ok(map.into_iter().collect())
}
