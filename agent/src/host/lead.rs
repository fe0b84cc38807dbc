//! Keeps hold of the one program that changes something, beyond the death of the agent that runs it.
//!
//! ```text
//! name, written down ─▶ program starts, with the name in its environment ─▶ its id and birth, written down ─▶ it ends
//! ```
//! An agent that is killed between the start and the id leaves the name: the program is then found by its environment. By
//! then it has one, for the store's lock, which its start copies, is free only once it runs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use uuid::Uuid;

/// A file that names the program that is running; the engine runs one at a time.
#[derive(Debug, Clone)]
pub struct Lead(PathBuf);

/// A program that is about to run, or runs. Lets go when it is dropped.
pub(super) struct Held<'a> {
    lead: &'a Lead,
    name: String,
    written: io::Result<File>,
}

/// The variable by which a program is known that is not written down yet.
const VARIABLE: &str = "RFS_PROGRAM";

/// How long a killed program may take to be gone.
const GONE: Duration = Duration::from_secs(5);

impl Lead {
    /// The lead of the agent whose store this is.
    pub fn of(store: &Path) -> Self {
        Self(store.join("program"))
    }

    /// Holds the program that starts next. It need not survive a power cut: neither does the program.
    pub(super) fn hold(&self) -> Held<'_> {
        let name = Uuid::now_v7().to_string();
        let write = || -> io::Result<File> {
            let mut file = File::create(&self.0)?;
            file.write_all(format!("{name}\n").as_bytes())?;
            Ok(file)
        };
        let written = write();
        Held { lead: self, name, written }
    }

    /// Ends the program that an agent which was killed left running, with all that it has started so far.
    ///
    /// One that has ended by itself is let be: what it left running is a service.
    pub fn end(&self) {
        let Ok(text) = fs::read_to_string(&self.0) else { return };
        for (id, born) in led(&text) {
            let Some(group) = pid(id).and_then(|id| getpgid(Some(id)).ok()) else { continue };
            if birth(id).as_deref() != Some(&born) {
                continue;
            }
            tracing::warn!(program = id, "ends what an earlier agent was running when it was killed");
            // An error means that it is gone.
            let _ = kill_process_group(group, Signal::KILL);
            let begun = Instant::now();
            while birth(id).as_deref() == Some(&born) && begun.elapsed() < GONE {
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.let_go();
    }

    fn let_go(&self) {
        // A file that stays names a program that is gone.
        let _ = fs::remove_file(&self.0);
    }
}

impl Held<'_> {
    /// What the program's environment must have.
    pub(super) fn variable(&self) -> (&str, &str) {
        (VARIABLE, &self.name)
    }

    /// The program runs, with this id.
    pub(super) fn started(&mut self, id: u32) {
        let Some(birth) = birth(id) else { return };
        let written = self.written.as_mut().map_err(|error| io::Error::from(error.kind()));
        if let Err(error) = written.and_then(|file| file.write_all(format!("{id} {birth}\n").as_bytes())) {
            tracing::warn!(%error, "a program could not be written down; if the agent is killed, it may run on");
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lead.let_go();
    }
}

/// The programs that the file is about, each with its birth.
fn led(text: &str) -> Vec<(u32, String)> {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let Some(first) = lines.next() else { return Vec::new() };
    let known = |line: &str| {
        let (id, born) = line.split_once(' ')?;
        Some((id.parse().ok()?, born.to_owned()))
    };
    // Earlier versions wrote no name.
    match known(first).or_else(|| lines.next().and_then(known)) {
        Some(program) => vec![program],
        None => named(first),
    }
}

/// The processes that have this name in their environment.
fn named(name: &str) -> Vec<(u32, String)> {
    let variable = format!("{VARIABLE}={name}");
    let has_it = |id: &u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(has_it).filter_map(|id| Some((id, birth(id)?))).collect()
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// When the process began, in the kernel's ticks: with its id, that is a process and no later one. None if it is gone, or
/// dead and not yet buried.
fn birth(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let birth = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| birth.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Exit, Output, Running};
    use super::*;
    use crate::config::Program;

    #[test]
    fn a_process_is_known_by_its_birth() {
        let me = std::process::id();
        let born = birth(me).expect("it lives");
        assert_eq!(birth(me), Some(born.clone()));
        assert!(born.parse::<u64>().is_ok_and(|ticks| ticks > 0), "{born}");
        assert_ne!(birth(1), Some(born));
        assert_eq!(birth(u32::MAX), None);
    }

    #[test]
    fn a_program_is_ended_whether_its_agent_came_to_write_its_id_down_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let lead = Lead::of(folder.path());
        for has_id in [true, false] {
            let mut held = lead.hold();
            let program = Program::from_shell("sleep 600 & wait");
            let output = Output::new().expect("an output");
            let mut running = Running::start(&program, &[], Some(held.variable()), &output).expect("it runs");
            if has_id {
                held.started(running.child.id());
            }
            // The agent is killed: nobody lets go.
            std::mem::forget(held);
            lead.end();
            let status = running.child.wait().expect("it is ours");
            assert_eq!(Exit::from(status), Exit::Signal(9), "with its id: {has_id}");
            assert!(!folder.path().join("program").exists());
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_understood() {
        assert_eq!(led("12 345\n"), [(12, "345".to_owned())]);
        assert_eq!(led("a-name\n12 345\n"), [(12, "345".to_owned())]);
        assert_eq!(led("a-name-that-nobody-has\n"), []);
        assert_eq!(led("cut sho"), []);
        assert_eq!(led(""), []);
    }

    #[test]
    fn a_lead_to_a_program_that_is_gone_ends_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let lead = Lead::of(folder.path());
        lead.end();
        // This process lives, but it is not the one that was written down.
        fs::write(folder.path().join("program"), format!("{} 1\n", std::process::id())).expect("writable");
        lead.end();
        assert!(!folder.path().join("program").exists());
    }
}
