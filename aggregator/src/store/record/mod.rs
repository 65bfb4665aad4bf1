//! What is kept besides samples: one noun a file. A noun writes itself into a transaction and offers the questions that
//! are asked of it as functions of a connection, for [`Store::read`](super::Store::read).

use rusqlite::Transaction;

/// A change to one noun, written in the same transaction as whatever caused it.
#[derive(Clone, Debug)]
pub enum Record {}

impl Record {
    pub(super) fn write(&self, _transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match *self {}
    }
}
