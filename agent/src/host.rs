//! Runs programs. The only place of the agent that does.
//!
//! A program gets no terminal, no input, no open file of ours, the root as its folder and an environment of its own. It
//! leads a process group: past its deadline, or when the work is cancelled, the whole group is killed.
//!
//! What it starts and leaves running (a daemon) is not ours: it lives on when the program has ended, and when the agent
//! has. A daemon should redirect its output, as daemons do; what it writes to the output that it inherited is kept in
//! memory until it ends. Under systemd the agent's unit needs `KillMode=process`, or systemd ends what the agent started.
//!
//! An agent that is killed leaves the program that it was running to run on. [`Lead`] keeps such a program on a line, so
//! that the next agent ends it before it does anything else: a start that is still under way must not end after a stop.
//!
//! Invariant: no secret is in an argument or in the environment, and no output is logged; it is returned, and cut.

mod lead;
pub(crate) mod processes;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rfs_store::{Cancel, Stopped};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::config::{Hook, Program};

pub use lead::Lead;

/// How much of a program's output is kept: the end of it.
pub const OUTPUT_KEPT: u64 = 64 << 10;

/// The search path of programs: the usual folders, whatever the agent's own environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that are handed on from the agent's own environment.
const HANDED_ON: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "TZ"];

/// How long a program runs at most before a cancellation is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// What a program that has ended left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// The end of what it wrote, to both outputs in order; bytes that are not UTF-8 replaced.
    pub output: String,
    /// How long it ran.
    pub took: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started. Correct its path or its rights.
    #[error("cannot run {program}")]
    Spawn {
        /// Which program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended, and not well. Its output says why.
    #[error("{program} ended with {exit}{}", Quoted(output))]
    Failed {
        /// Which program.
        program: String,
        /// How it ended.
        exit: Exit,
        /// The end of its output.
        output: String,
    },
    /// It took too long and was killed with all that it had started.
    #[error("{program} was killed after {}{}", Seconds(*after), Quoted(output))]
    TimedOut {
        /// Which program.
        program: String,
        /// How long it had run.
        after: Duration,
        /// The end of its output.
        output: String,
    },
    /// The work that it was part of was stopped, so it was killed with all that it had started.
    #[error("{program} was killed")]
    Stopped {
        /// Which program.
        program: String,
        /// Why.
        source: Stopped,
    },
}

/// Runs the hook's program until it ends, at most until its timeout; any exit is an answer.
pub fn run(hook: &Hook, environment: &[(&str, &str)], cancel: &Cancel) -> Result<Finished, RunError> {
    run_led(hook, environment, cancel, None)
}

fn run_led(
    hook: &Hook,
    environment: &[(&str, &str)],
    cancel: &Cancel,
    lead: Option<&Lead>,
) -> Result<Finished, RunError> {
    let name = hook.program.to_string();
    let spawn_error = |source: io::Error| RunError::Spawn { program: name.clone(), source };
    let output = Output::new().map_err(spawn_error)?;
    let started = Instant::now();
    let mut held = lead.map(Lead::hold);
    let named = held.as_ref().map(lead::Held::variable);
    let mut running = Running::start(&hook.program, environment, named, &output).map_err(spawn_error)?;
    if let Some(held) = &mut held {
        held.started(running.child.id());
    }
    let ended = running.wait(hook.timeout, cancel, &output);
    drop(held);
    let took = started.elapsed();
    match ended {
        Ok(status) => Ok(Finished { exit: status.into(), output: output.end(), took }),
        Err(Killed::TimedOut) => Err(RunError::TimedOut { program: name, after: took, output: output.end() }),
        Err(Killed::Stopped(source)) => Err(RunError::Stopped { program: name, source }),
        Err(Killed::Lost(source)) => Err(RunError::Spawn { program: name, source }),
    }
}

/// Runs the hook's program, which changes something, on a lead; only an exit with 0 is an answer.
pub fn run_well(
    hook: &Hook,
    environment: &[(&str, &str)],
    cancel: &Cancel,
    lead: &Lead,
) -> Result<Finished, RunError> {
    let finished = run_led(hook, environment, cancel, Some(lead))?;
    match finished.exit {
        Exit::Code(0) => Ok(finished),
        exit => Err(RunError::Failed { program: hook.program.to_string(), exit, output: finished.output }),
    }
}

enum Killed {
    TimedOut,
    Stopped(Stopped),
    Lost(io::Error),
}

/// A program that runs. Killed with its group when it is dropped before it has ended.
struct Running {
    child: Child,
    group: Option<Pid>,
    ended: OwnedFd,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the one place that runs a program")]
    fn start(
        program: &Program,
        environment: &[(&str, &str)],
        named: Option<(&str, &str)>,
        output: &Output,
    ) -> io::Result<Self> {
        let argv = program.argv();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir("/").process_group(0);
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
        command.envs(HANDED_ON.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        command.envs(environment.iter().copied()).envs(named);
        command.stdin(Stdio::null()).stdout(output.handle()?).stderr(output.handle()?);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("no process id"))?;
        // The child is not waited for yet, so its id is not another's.
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { child, group: Some(pid), ended })
    }

    /// Waits for the end of the program itself, not of what it leaves running.
    fn wait(&mut self, timeout: Duration, cancel: &Cancel, output: &Output) -> Result<ExitStatus, Killed> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let look = Timespec::try_from(left.min(LOOK)).map_err(|_| Killed::TimedOut)?;
            let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
            match poll(&mut fds, Some(&look)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let status = self.child.wait().map_err(Killed::Lost)?;
                    // What it started and left is its own affair from here on.
                    self.group = None;
                    return Ok(status);
                }
                Err(errno) => return Err(Killed::Lost(errno.into())),
            }
            output.forget_start();
            cancel.check().map_err(Killed::Stopped)?;
            if Instant::now() >= deadline {
                return Err(Killed::TimedOut);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(group) = self.group else { return };
        // An error means that nobody is left to be killed.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The output of a program: a file in memory, so that neither a full pipe nor our end of one can stop a daemon.
struct Output(File);

impl Output {
    fn new() -> io::Result<Self> {
        Ok(Self(memfd_create("rfs-output", MemfdFlags::CLOEXEC)?.into()))
    }

    fn handle(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.as_fd().try_clone_to_owned()?))
    }

    fn length(&self) -> u64 {
        self.0.metadata().map_or(0, |meta| meta.len())
    }

    /// Gives back the memory of all but the end.
    fn forget_start(&self) {
        if let Some(start) = self.length().checked_sub(OUTPUT_KEPT).filter(|start| *start > 0) {
            // It only saves memory.
            let _ = fallocate(&self.0, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, start);
        }
    }

    fn end(&self) -> String {
        let length = self.length();
        let kept = length.min(OUTPUT_KEPT);
        let mut bytes = vec![0; usize::try_from(kept).unwrap_or(0)];
        match self.0.read_exact_at(&mut bytes, length - kept) {
            Ok(()) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(_) => String::new(),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The last lines of a program's output, as part of a message.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.0.lines().rev().take(3).collect();
        if lines.is_empty() {
            return f.write_str(" and wrote nothing");
        }
        f.write_str(": ")?;
        for (i, line) in lines.iter().rev().enumerate() {
            let cut: String = line.chars().take(300).collect();
            write!(f, "{}{cut}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, timeout: Duration) -> Hook {
        Hook { program: Program::from_shell(line), timeout }
    }

    fn run_line(line: &str) -> Result<Finished, RunError> {
        run(&shell(line, Duration::from_secs(20)), &[("RFS_COMPONENT", "site")], &Cancel::new())
    }

    #[test]
    fn a_program_gets_an_environment_of_its_own_and_its_answer_is_returned() {
        let finished = run_line("echo $RFS_COMPONENT $PWD; echo bad >&2; exit 3").expect("runs");
        assert_eq!(finished.exit, Exit::Code(3));
        assert_eq!(finished.output, "site /\nbad");
        let listed = run_line("env").expect("runs").output;
        assert!(!listed.contains("CARGO"), "{listed}");
    }

    #[test]
    fn a_failure_shows_the_end_of_the_output() {
        let hook = shell("echo one; echo two; echo three; echo four; exit 7", Duration::from_secs(20));
        let folder = tempfile::tempdir().expect("a folder");
        let error = run_well(&hook, &[], &Cancel::new(), &Lead::of(folder.path())).expect_err("exit 7");
        assert!(error.to_string().ends_with("ended with exit code 7: two | three | four"), "{error}");
    }

    #[test]
    fn past_its_deadline_a_program_is_killed_with_all_that_it_started() {
        let hook = shell("sleep 600 & echo $!; wait", Duration::from_millis(300));
        let started = Instant::now();
        let RunError::TimedOut { output, .. } = run(&hook, &[], &Cancel::new()).expect_err("too long") else {
            panic!("killed by its deadline")
        };
        assert!(started.elapsed() < Duration::from_secs(10));
        let pid = Pid::from_raw(output.trim().parse().expect("a process id")).expect("a process id");
        // Killed and not yet reaped by its new parent, or gone; a kill takes effect when the kernel comes to it.
        let ended = || {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z") || stat.contains(") X")
        };
        while !ended() {
            assert!(started.elapsed() < Duration::from_secs(20), "it lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_neither_blocks_nor_dies() {
        let started = Instant::now();
        let finished = run_line("sleep 30 & echo $!").expect("runs");
        assert!(started.elapsed() < Duration::from_secs(20), "did not wait for the daemon");
        let pid = Pid::from_raw(finished.output.parse().expect("a process id")).expect("a process id");
        rustix::process::kill_process(pid, Signal::KILL).expect("the daemon lives");
    }

    #[test]
    fn cancelled_work_kills_its_program() {
        let cancel = Cancel::new();
        cancel.cancel();
        let hook = shell("sleep 600", Duration::from_secs(600));
        let error = run(&hook, &[], &cancel).expect_err("cancelled");
        assert!(matches!(error, RunError::Stopped { source: Stopped::Cancelled, .. }), "{error}");
    }

    #[test]
    fn endless_output_is_cut_to_its_end() {
        let hook = shell("yes | head -c 3000000; echo; echo end", Duration::from_secs(20));
        let finished = run(&hook, &[], &Cancel::new()).expect("runs");
        assert_eq!(finished.output.len() as u64, OUTPUT_KEPT - 1);
        assert!(finished.output.ends_with("\nend"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let program = Program::from_argv(vec!["/nowhere/app".into()]).expect("a program");
        let hook = Hook { program, timeout: Duration::from_secs(1) };
        let error = run(&hook, &[], &Cancel::new()).expect_err("not there");
        assert_eq!(error.to_string(), "cannot run /nowhere/app");
    }
}
