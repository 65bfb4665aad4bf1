//! What other programs push to us, by remote write or as text, from bytes to series; and series to the bytes that others are
//! written. Pure; its doors are `http::prometheus::write` and `import`.

mod labels;
pub mod message;
pub mod openmetrics;
pub mod protobuf;
pub mod received;
pub mod remote_write;

pub use crate::receive::labels::LABEL_NAME_BYTES_MAX;
pub use crate::receive::labels::LABEL_VALUE_BYTES_MAX;
pub use crate::receive::labels::SERIES_LABELS_MAX;
