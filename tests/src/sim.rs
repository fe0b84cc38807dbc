//! A fleet of simulated agents: thousands of hosts in one process, each with its own stream to a real coordinator.
//!
//! ```text
//!  fleet ─ starts, deploys, scripts, cuts ─▶ agent: one connection, again and again ═ mutual TLS ═▶ rfs serve
//!    │                                         ⇅ messages
//!    └─ certificates: issued in memory       host: what it is, remembers and answers; reads no clock, holds no socket
//!                                              └─ checks: how well it is, as a real agent would measure and tell it
//! ```
//!
//! An agent speaks the same protocol as `rfs-agent`, with the same types over the same link, and keeps its word as a journal
//! would: a command has one report, which is sent until it is acknowledged; a repeated command is answered, an older
//! generation refused; restores are numbered; health that was measured before a restore counts for nothing after it. Only
//! the host behind it is made up: its whole state is one number, its snapshots are the numbers that it remembers.
//!
//! Invariants
//! - Nothing is written to disk, and the memory of a host is bounded: the last commands and snapshots are remembered.
//! - What a host does is scripted or follows from the seed; only the network and the machine bring chance in.
//! - A host that is silent holds its connection and neither reads nor says anything, as a process that was stopped.

mod agent;
mod certificates;
mod checks;
mod fleet;
mod host;
mod script;

pub use fleet::{Settings, SimFleet, Status};
pub use host::SimHost;
pub use script::{Health, Latencies, Rule, Script, ScriptError, Steps, duration};
