//! How a session is ended from outside: by the host's next session, or by an operator.

use std::sync::Arc;
use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::ingest::session::End;

/// A handle that the session and whoever may end it share.
#[derive(Clone, Debug, Default)]
pub struct Dismissal {
    end: Arc<OnceLock<End>>,
    given: CancellationToken,
}

impl Dismissal {
    /// Ends the session. The first reason counts.
    pub(super) fn give(&self, end: End) {
        self.end.get_or_init(|| end);
        self.given.cancel();
    }

    /// Waits until the session is to end.
    pub(super) async fn given(&self) -> End {
        self.given.cancelled().await;
        // It is given only with an end.
        self.end.get().cloned().unwrap_or_else(End::replaced)
    }
}
