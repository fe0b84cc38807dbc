//! The harness: real coordinators, agents, services and certificates on this machine, for the suites that cross a crate.
//!
//! A suite reads like a story: `Bed::new()` makes certificates and configurations under one folder,
//! `bed.start_coordinator()` and `bed.start_agents()` start the real programs, `bed.rfs([...])` types a command.
//!
//! Invariants
//! - Everything is started on loopback and free ports, under one temporary folder, and ended by its own process id.
//! - Conditions are awaited, never slept for; the limits of [`wait`] only tell a hang from slowness.
//! - A suite that cannot run here says so through [`skip`], by name and with the reason; `tests/run` prints the list.

pub mod bed;
pub mod process;
pub mod tools;
pub mod tree;
pub mod wait;

mod skip;

pub use bed::Bed;
pub use skip::skip;
