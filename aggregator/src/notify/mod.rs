//! From alerts to messages: group, decide, send, and remember why.

pub mod config;
pub mod decide;
pub mod group;
pub mod history;
pub mod matcher;
pub mod message;
pub mod notifier;
pub mod outbox;
pub mod receiver;
pub mod route;
pub mod stage;

mod core;
