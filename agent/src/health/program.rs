//! How a check's program is run.

use std::time::Duration;

use crate::config::Program;

/// Runs programs for checks. Waits until the program has ended, so async code calls it from a blocking thread.
pub trait RunsPrograms: Send + Sync {
    /// Runs `program`; past `timeout` it is killed with all that it started.
    fn run(&self, program: &Program, timeout: Duration) -> Ended;
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit {
        /// Its exit code.
        code: i32,
        /// The end of what it wrote.
        output: String,
    },
    /// By a signal.
    Killed {
        /// Which, in words.
        by: String,
        /// The end of what it wrote.
        output: String,
    },
    /// It did not end in time and was killed.
    TimedOut,
    /// It could not be started; nothing was measured.
    NotRun(String),
}
