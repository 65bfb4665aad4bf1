//! Bytes and messages: frames, control messages, codecs. Decoding never panics and never allocates more than it was
//! promised.

pub mod bytes;
pub mod codec;
pub mod frame;
pub mod message;
pub mod recording;
