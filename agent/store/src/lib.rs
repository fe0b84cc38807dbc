//! The host's snapshots: objects, manifests, journal, retention, verify.

pub mod tree;
