//! Sessions with agents: accept, authenticate, enrol, take batches in, notice who is silent.
