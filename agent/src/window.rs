//! Samples into closed, aligned windows. Pure.
