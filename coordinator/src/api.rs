//! The operator API over the wire.

pub mod authz;
