//! Keeps hold of the one program that changes something, beyond the death of the agent that runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A file that names the program that is running; the engine runs one at a time.
#[derive(Debug, Clone)]
pub struct Lead(PathBuf);

/// Lets go when it is dropped.
pub(super) struct Held<'a>(&'a Lead);

/// How long a killed program may take to be gone.
const GONE: Duration = Duration::from_secs(5);

impl Lead {
    /// The lead of the agent whose store this is.
    pub fn of(store: &Path) -> Self {
        Self(store.join("program"))
    }

    /// Holds the program from now on. It need not survive a power cut: neither does the program.
    pub(super) fn hold(&self, id: u32) -> Held<'_> {
        if let Some(birth) = birth(id)
            && let Err(error) = fs::write(&self.0, format!("{id} {birth}\n"))
        {
            tracing::warn!(%error, "a program could not be written down; if the agent is killed, it will run on");
        }
        Held(self)
    }

    /// Ends the program that an agent which was killed left running, with all that it has started so far.
    ///
    /// One that has ended by itself is let be: what it left running is a service.
    pub fn end(&self) {
        let Ok(text) = fs::read_to_string(&self.0) else { return };
        let mut words = text.split_whitespace();
        if let (Some(id), Some(born)) = (words.next().and_then(|id| id.parse().ok()), words.next())
            && birth(id).as_deref() == Some(born)
            && let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw)
        {
            tracing::warn!(program = id, "ends what an earlier agent was running when it was killed");
            // An error means that it is gone.
            let _ = kill_process_group(group, Signal::KILL);
            let begun = Instant::now();
            while birth(id).as_deref() == Some(born) && begun.elapsed() < GONE {
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

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.let_go();
    }
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
    use super::*;

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
