//! PromQL over a [`source::Source`].

pub mod source;
