//! The messages of RFS, and their conversion to and from the words of `rfs-model`.
//!
//! - [`v1`]: the operator API, the contract with users and their tools.
//! - [`agentlink`]: what an agent and the coordinator say to each other.
//! - [`agent`]: the agent's own API on its host.
//!
//! Invariants
//! - Fields are never renumbered and never change their meaning; a message that is read is checked here, once, and an
//!   error names the field by its path.
//! - No task, no socket, no file.

#[expect(missing_docs, clippy::all, reason = "generated; the proto files carry the docs")]
pub mod v1 {
    tonic::include_proto!("rfs.v1");
}

/// What an agent and the coordinator say to each other.
pub mod agentlink {
    #[expect(missing_docs, reason = "generated; the proto files carry the docs")]
    pub mod v1 {
        tonic::include_proto!("rfs.agentlink.v1");
    }
}

/// The agent's own API on its host.
pub mod agent {
    #[expect(missing_docs, reason = "generated; the proto files carry the docs")]
    pub mod v1 {
        tonic::include_proto!("rfs.agent.v1");
    }
}

pub mod bounds;
pub mod convert;
pub mod notes;
pub mod watch;

/// All descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
