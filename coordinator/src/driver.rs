//! Runs fleet operations: one short task each, around the pure functions of `rfs-rollout`.

pub mod fleet;
