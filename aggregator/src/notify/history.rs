//! Every decision that was taken, for people who ask why they were told, or were not.

use crate::store::ReadError;
use crate::store::Store;
use crate::store::record::notifications;
use crate::store::record::notifications::Notification;

/// The last decisions, newest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn recent(store: &Store, limit: u32) -> Result<Vec<Notification>, ReadError> {
    store.read(move |connection| notifications::recent(connection, limit)).await
}
