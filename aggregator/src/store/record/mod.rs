//! What is kept besides samples: one noun a file. A noun writes itself into a transaction and offers the questions that
//! are asked of it as functions of a connection, for [`Store::read`](super::Store::read).

pub mod links;
pub mod sessions;

use rusqlite::Transaction;

use crate::store::record::links::LoginLink;
use crate::store::record::sessions::Session;

/// A change to one noun, written in the same transaction as whatever caused it.
#[derive(Clone, Debug)]
pub enum Record {
    /// A login link was made.
    LoginLink(LoginLink),
    /// Somebody came in through a login link.
    Session(Session),
}

impl Record {
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::LoginLink(link) => link.write(transaction),
            Self::Session(session) => session.write(transaction),
        }
    }
}
