//! The agent of one host: it captures and restores local state, and answers to a coordinator.
//!
//! ```text
//! session (tokio) ─▶ commander ─▶ engine ─▶ component ─▶ rfs-store, host
//! cli ──────────────────────────▶ engine
//! ```
//!
//! Invariants
//! - Nothing is changed on the host before a backup of it is durable.
//! - Every step of a change is journalled before it is taken; after a crash the host is brought to the target or to
//!   what it was before, and says which.
//! - Programs are run by [`host`] alone. A time of day comes from a [`rfs_model::Clock`] alone, and decides nothing: what
//!   must happen in time happens by an [`std::time::Instant`], which no step of the machine's clock moves.
//! - The engine, the components and the commander are plain synchronous code; only what speaks gRPC is not.

pub mod config;
pub mod host;

pub mod component;
pub mod engine;

pub mod commander;

pub mod administration;
pub mod local;

pub mod health;

pub mod session;
mod wire;

pub mod cli;
pub mod run;
