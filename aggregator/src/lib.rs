//! The aggregator: takes batches in, keeps them, answers questions, raises alerts, tells people.

pub mod alert;
pub mod http;
pub mod ingest;
pub mod notify;
pub mod query;
pub mod store;
