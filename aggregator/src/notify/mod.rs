//! From alerts to messages: group, decide, send, and remember why.

pub mod history;
