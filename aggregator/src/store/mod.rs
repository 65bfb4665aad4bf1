//! Everything that is kept. One writer thread; readers share the head.

pub mod select;
