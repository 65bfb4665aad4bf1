//! Remote write: what other programs push to us, from bytes to series; and series to the bytes that others are written. Pure;
//! its door is `http::prometheus::write`.

mod labels;
pub mod message;
pub mod protobuf;
pub mod remote_write;

pub use crate::receive::labels::LABEL_NAME_BYTES_MAX;
pub use crate::receive::labels::LABEL_VALUE_BYTES_MAX;
pub use crate::receive::labels::SERIES_LABELS_MAX;
