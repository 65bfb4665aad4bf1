//! The QUIC client.
