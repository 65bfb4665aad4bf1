//! From alerts to messages: group, decide, send, and remember why.

pub mod config;
pub mod decide;
pub mod history;
pub mod matcher;
pub mod message;
pub mod receiver;
pub mod route;
