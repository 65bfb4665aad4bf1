//! Unacknowledged batches. Filled by the sampler, drained by the uplink.
