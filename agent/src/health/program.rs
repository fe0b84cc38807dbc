//! How a check's program is run.

use std::time::Duration;

use rfs_store::Cancel;

use crate::config::{Hook, Program};
use crate::host::{self, RunError};

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

/// Runs them on this host, until it is told to stop.
#[derive(Clone, Default)]
pub struct HostPrograms {
    cancel: Cancel,
}

impl HostPrograms {
    /// Kills what runs, and runs nothing more.
    pub fn stop(&self) {
        self.cancel.cancel();
    }
}

impl RunsPrograms for HostPrograms {
    fn run(&self, program: &Program, timeout: Duration) -> Ended {
        let hook = Hook { program: program.clone(), timeout };
        match host::run(&hook, &[], &self.cancel) {
            Ok(host::Finished { exit: host::Exit::Code(code), output, .. }) => Ended::Exit { code, output },
            Ok(host::Finished { exit: exit @ host::Exit::Signal(_), output, .. }) => {
                Ended::Killed { by: exit.to_string(), output }
            }
            Err(RunError::TimedOut { .. }) => Ended::TimedOut,
            Err(error @ (RunError::Spawn { .. } | RunError::Failed { .. } | RunError::Stopped { .. })) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Ended::NotRun(cause.unwrap_or_else(|| error.to_string()))
            }
        }
    }
}
