//! Which processes did most, as the rows of the log or a block file have it.

use std::sync::Arc;

use common::batch::HostId;
use common::batch::Process;
use common::time::Timestamp;
use common::wire::codec::State;

use crate::store::ReadError;
use crate::store::Store;
use crate::store::beside;
use crate::store::head::Head;
use crate::store::log::LogRow;
use crate::store::stage::decode;

impl Store {
    /// The process table of the window that covers `at`, and the window's stamp.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn processes(&self, host: HostId, at: Timestamp) -> Result<Option<(Timestamp, Vec<Process>)>, ReadError> {
        let ids = self.shared.rows().leading_to(host, at);
        let (shared, count) = (Arc::clone(&self.shared), ids.len());
        let rows = tokio::task::spawn_blocking(move || shared.batches(&ids)).await.map_err(|_| ReadError::Closed)??;
        // Each is told by what is new beside those before it: where one went meanwhile, a block file has all.
        if rows.len() == count
            && let Some(found) = processes(&self.shared.head, host, rows)
        {
            return Ok(Some(found));
        }
        let shared = Arc::clone(&self.shared);
        let sealed = tokio::task::spawn_blocking(move || beside::processes_at(&shared.blocks, host, at)).await;
        sealed.map_err(|_| ReadError::Closed)
    }
}

/// The process table of the last row, which the rows before it lead to.
fn processes(head: &Head, host: HostId, rows: Vec<LogRow>) -> Option<(Timestamp, Vec<Process>)> {
    let mut state = State::default();
    let mut decoded = None;
    for row in rows {
        decoded = Some(decode(head, host, &row.batch, &mut state).ok().filter(|_| row.intact)?);
    }
    decoded.map(|batch| (batch.stamp, batch.processes))
}
