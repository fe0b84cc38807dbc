//! The handshake: who is at the other end of a connection, and how a refusal travels.
pub mod failure;
pub mod identity;
pub mod status;

pub use failure::{Failure, Violation};
pub use identity::{Identity, Peer, SpiffeId, TrustDomain};
pub use status::Exit;
