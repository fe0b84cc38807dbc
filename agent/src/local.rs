//! The host's own door: a unix socket for administrators, and what they may ask through it.
//!
//! ```text
//! rfs-agent status|snapshots|capture|restore ─▶ client ─▶ agent.sock ─▶ service ─▶ Administration (the engine)
//! rfs-agent …, no daemon ────────────────────────────────────────────────────────▶ Administration (the engine)
//! ```
//!
//! Only root and the agent's own user get in: the kernel says who connects. A client that goes away stops nothing
//! that it started.
//!
//! Tools get in, too, with reflection and health. HTTP/2 wants the name of a host where they would send a path, so they
//! are told one: `grpcurl -plaintext -unix -authority localhost /var/lib/rfs/agent.sock list`.

mod client;
mod contract;
mod service;

pub use client::LocalClient;
pub use contract::{
    Administration, CollectView, DrillView, PlanLine, PlanPart, PlanView, Progress, RepairView, RestoreOrder,
    RestoreView, SnapshotKind, SnapshotView,
};
pub use service::{LocalError, LocalHost, LocalServer};
