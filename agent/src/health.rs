//! Says whether this host is well: good, bad, or not known, with what was seen.
//!
//! ```text
//! probe (HTTP, TCP, command) ─▶ measurement ─▶ verdict (thresholds) ─▶ monitor ─▶ session, status
//!                                                                         └─▶ engine: wait until good
//! ```
//!
//! A service that refuses, fails or does not answer in time was measured, and is bad. A check that could not be made
//! (the program cannot be started, say) measured nothing, and is unknown. The host is as well as the worst of its
//! required checks; without any it is unknown.
//!
//! Invariants
//! - Every measurement ends within its timeout; a program that does not is killed with all that it started.
//! - Nothing runs between two measurements: each check is one task that sleeps.
//! - Nothing that was measured before the last restore on this host ended is known any more.
//! - Time is measured by a clock that never steps, and told as how long ago.

mod background;
mod known;
mod monitor;
mod probe;
mod program;
mod verdict;

pub use background::Background;
pub use known::{CheckHealth, HostHealth, Measured};
pub use monitor::Monitor;
pub use probe::{Measurement, Prober};
pub use program::{Ended, HostPrograms, RunsPrograms};

#[cfg(test)]
mod tests;
