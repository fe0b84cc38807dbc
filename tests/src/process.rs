//! Real processes, ended with real signals.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// A process that the harness started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, with everything that it prints going to `log`, appended.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().append(true).create(true).open(log).expect("a log file can be opened");
        let copy = file.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id fits");
        kill_process(id, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Stops it where it is, with SIGSTOP: it stays, and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Running::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL, unless it has ended by itself, and waits for the end.
    pub fn kill_9(mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        until(&format!("{} ends", self.name), || self.child.try_wait().expect("it is our child"))
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            let from = (from..log.len()).find(|i| log.is_char_boundary(*i)).unwrap_or(0);
            eprintln!("--- the end of the log of {} ---\n{}", self.name, &log[from..]);
        }
    }
}
