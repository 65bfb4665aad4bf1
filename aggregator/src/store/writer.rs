//! The one thread that writes `lapwing.db`.

use std::sync::mpsc::Receiver;

use rusqlite::Connection;

use crate::store::queue::Job;

/// Writes what is queued, a group at a time, until the store is closed.
pub struct Writer {
    _jobs: Receiver<Job>,
    _connection: Connection,
}

impl Writer {
    /// Ends when the store is closed or all its handles are gone, and everything queued before is durable.
    pub fn run(self) {
        todo!()
    }
}
