//! The harness: real coordinators, agents, services and certificates on this machine, for the suites that cross a crate.
//!
//! A suite reads like a story: `Bed::new()` makes certificates and configurations under one folder,
//! `bed.start_coordinator()` and `bed.start_agents()` start the real programs, `bed.rfs([...])` types a command.
//!
//! The programs are those that cargo built beside the suites. `RFS_TEST_PROGRAMS=folder` takes `rfs`, `rfs-agent` and
//! `site-server` from there instead, such as those of an older version, to see a suite fail on them.
//!
//! A bed can do what reality does: [`process`]es are killed and frozen, a [`relay`] holds, cuts and slows links, a
//! [`machine_clock`] is set while programs run by it, a host is cloned or made anew, the coordinator's store is put back.
//!
//! Invariants
//! - Everything is started on loopback and free ports, under one temporary folder, and ended by its own process id.
//! - Conditions are awaited, never slept for; the limits of [`wait`] only tell a hang from slowness.
//! - A suite that cannot run here says so through [`skip`], by name and with the reason; `tests/run` prints the list.

pub mod bed;
pub mod files;
pub mod lines;
pub mod machine_clock;
pub mod process;
pub mod relay;

pub mod dice;
pub mod sim;
pub mod stories;
pub mod tools;
pub mod tree;
pub mod wait;

mod skip;

pub use bed::Bed;
pub use skip::skip;
