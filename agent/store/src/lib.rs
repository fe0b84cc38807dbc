//! The host's snapshots: objects, manifests, journal, retention, verify.

pub mod journal;
pub mod restore;
pub mod text;
pub mod tree;
