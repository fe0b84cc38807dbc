//! The handshake: who is at the other end of a connection, and how a refusal travels.
//!
//! ```text
//! files ─▶ credentials ─▶ reload ─▶ incoming ─▶ server        identity of the peer in Request::extensions()
//!                            │          │
//!                            └─▶ client └─▶ connections       closed when the peer is no longer trusted
//!
//! Failure ◀─▶ Status (status: the one table)                  pki: an authority for fleets without one
//! ```
//!
//! Invariants
//! - No call reaches a service over the network without a peer whose certificate chains to a present root, is of
//!   the own trust domain, and names exactly one identity.
//! - TLS 1.3 is the only version, both ways; no session is resumed past a change of credentials.
//! - A change of certificate, key or roots is in use within 5 seconds; a half-written pair changes nothing.
//! - A removed root and an expired certificate also end the connections that stand.
//! - Every reason has a row in [`status`], so that a refusal has the same code, exit code and next step everywhere.
//! - No private key and no content of a credential file is ever shown or logged.

mod chain;
mod connections;
mod crowd;
mod link_error;
mod verify;

pub mod client;
pub mod credentials;
pub mod failure;
pub mod identity;
pub mod incoming;
pub mod pki;
pub mod plain;
pub mod reload;
pub mod server;
pub mod status;

pub use chain::Chain;
pub use client::{Connection, Patience, Target};
pub use connections::Guarded;
pub use credentials::{Credentials, CredentialsError};
pub use failure::{Failure, Violation};
pub use identity::{Identity, Peer, SpiffeId, TrustDomain};
pub use incoming::{LocalPeer, LocalSocket};
pub use link_error::LinkError;
pub use reload::LiveCredentials;
pub use server::Limits;
pub use status::Exit;
