//! Sessions of people: each began with a login link, which it spent.

use common::time::Timestamp;
use rusqlite::Connection;
use rusqlite::Transaction;

/// A session that begins if its link may be spent; otherwise nothing is written, which [`is_live`] tells.
#[derive(Clone, Debug)]
pub struct Session {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// SHA-256 of the secret of its link.
    pub link: [u8; 32],
    /// When it begins.
    pub created: Timestamp,
    /// Until when it lasts.
    pub expires: Timestamp,
}

impl Session {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let created_ms = self.created.as_millis();
        transaction.execute("DELETE FROM session WHERE expires_ms <= ?1", [created_ms])?;
        let sql = "DELETE FROM login_link WHERE hash = ?1 AND ?2 < expires_ms";
        if transaction.execute(sql, (self.link, created_ms))? == 0 {
            return Ok(());
        }
        let sql = "INSERT INTO session (hash, created_ms, expires_ms) VALUES (?1, ?2, ?3)";
        transaction.execute(sql, (self.hash, created_ms, self.expires.as_millis()))?;
        Ok(())
    }
}

/// Whether a session lasts.
///
/// # Errors
/// When the database cannot be read.
pub fn is_live(connection: &Connection, hash: [u8; 32], now: Timestamp) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM session WHERE hash = ?1 AND ?2 < expires_ms)";
    connection.query_row(sql, (hash, now.as_millis()), |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::links;
    use crate::store::record::links::LoginLink;

    /// Makes a link that lasts from 0 to 600 s, spends it at each of these seconds, and says which attempts got a session.
    fn check(spent_at: &[i64], expect: &[bool]) {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0005_access.sql")).unwrap();
        let transaction = connection.transaction().unwrap();
        let [created, expires] = [0, 600].map(Timestamp::from_seconds);
        LoginLink { hash: [1; 32], created, expires }.write(&transaction).unwrap();
        let attempts = (2..).zip(spent_at).map(|(secret, at)| {
            let created = Timestamp::from_seconds(*at);
            let open = links::is_open(&transaction, [1; 32], created).unwrap();
            let session =
                Session { hash: [secret; 32], link: [1; 32], created, expires: Timestamp::from_seconds(9_999) };
            session.write(&transaction).unwrap();
            let live = is_live(&transaction, [secret; 32], created).unwrap();
            assert_eq!(live, open, "what is shown as open can be spent");
            assert!(!is_live(&transaction, [secret; 32], Timestamp::from_seconds(9_999)).unwrap());
            live
        });
        assert_eq!(attempts.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_link_is_spent_once() {
        check(&[10, 10, 20], &[true, false, false]);
    }

    #[test]
    fn a_link_ends_after_its_time() {
        check(&[600], &[false]);
        check(&[599], &[true]);
    }
}
