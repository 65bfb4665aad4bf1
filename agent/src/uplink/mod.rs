//! The QUIC client: connect, greet, send, take acknowledgements, back off.

pub mod dialogue;
