//! The operator of one host: writes its configuration, types commands, and reads what they print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rfs_tests::bed::{Said, run};
use rfs_tests::process::Running;
use rfs_tests::tools::program;
use rfs_tests::wait::until;

use crate::ground::{Ground, text};

/// How a service is started, stopped and asked: three lines for a shell.
pub(crate) struct Commands {
    pub(crate) start: String,
    pub(crate) stop: String,
    pub(crate) status: String,
}

impl Commands {
    /// Those of one script that takes `start`, `stop` and `status`.
    pub(crate) fn of(script: &Path) -> Self {
        let line = |what: &str| format!("{} {what}", script.display());
        Self { start: line("start"), stop: line("stop"), status: line("status") }
    }
}

/// A host with one service, and the operator at its shell. The service is stopped when this is dropped.
pub(crate) struct Operator {
    folder: PathBuf,
    commands: Commands,
    /// The agent of the host, where one runs.
    agent: Option<Running>,
}

/// What a restore printed.
pub(crate) struct Restored {
    /// Everything.
    pub(crate) words: String,
    /// The command that undoes it.
    pub(crate) undo: String,
    /// The command that brings one of the removed paths back, and the path.
    pub(crate) bring_back: Option<(String, PathBuf)>,
}

impl Operator {
    /// Writes the configuration of a host: one component of files with these lines, and one service.
    pub(crate) fn of(ground: &Ground, files: &str, commands: Commands, more: &str) -> Self {
        let folder = ground.path();
        let config = format!(
            r#"[host]
name = "host"
[store]
path = "{folder}/store"
reserve = "1MiB"
[[component]]
name = "files"
kind = "files"
{files}
[[component]]
name = "service"
kind = "services"
[component.commands]
start = {start:?}
stop = {stop:?}
status = {status:?}
{more}
"#,
            folder = folder.display(),
            start = commands.start,
            stop = commands.stop,
            status = commands.status,
        );
        fs::write(folder.join("agent.toml"), config).expect("the ground can be written to");
        let operator = Self { folder, commands, agent: None };
        operator.well(&["check"]);
        operator
    }

    /// The lines of a health check that asks this address five times a second.
    pub(crate) fn health(url: &str) -> String {
        format!(
            "[[health]]\nname = \"http\"\nkind = \"http\"\nurl = \"{url}\"\ninterval = \"200ms\"\ntimeout = \"2s\"\nhealthy_after = 1\nunhealthy_after = 1"
        )
    }

    /// Starts the host's agent, which measures health and does what is typed.
    pub(crate) fn start_agent(&mut self) {
        let mut command = Command::new(program("rfs-agent"));
        command.arg("run").arg("--config").arg(self.folder.join("agent.toml"));
        self.agent = Some(Running::start("the agent", command, &self.folder.join("agent.log")));
        let socket = self.folder.join("store/agent.sock");
        until("the agent listens", || socket.exists().then_some(()));
    }

    /// Stops the host's agent: from here on commands do their work themselves, and none waits until an ill release is well.
    pub(crate) fn stop_agent(&mut self) {
        let agent = self.agent.take().expect("it runs");
        assert!(agent.stop().success(), "the agent ends well");
    }

    /// Waits until the host's agent finds its health so.
    #[track_caller]
    pub(crate) fn await_health(&self, health: &str) {
        until(&format!("the health is {health}"), || {
            let status = self.type_words(&["status"]).out;
            status.lines().any(|line| line.trim() == format!("health     {health}")).then_some(())
        });
    }

    /// Types `rfs-agent …`.
    pub(crate) fn type_words(&self, words: &[&str]) -> Said {
        let mut command = Command::new(program("rfs-agent"));
        run(command.args(words).arg("--config").arg(self.folder.join("agent.toml")))
    }

    /// Types a line that a command printed, which begins with `rfs-agent`.
    #[track_caller]
    pub(crate) fn type_line(&self, line: &str) -> Said {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"rfs-agent"), "no command: {line}");
        self.type_words(&words[1..])
    }

    /// Types `rfs-agent …`, which must do what it says, and returns what it printed.
    #[track_caller]
    fn well(&self, words: &[&str]) -> String {
        let said = self.type_words(words);
        assert_eq!(said.code, 0, "rfs-agent {words:?}: {}{}", said.out, said.err);
        said.out
    }

    /// Captures, and returns what was printed.
    #[track_caller]
    pub(crate) fn capture(&self) -> String {
        self.well(&["capture"])
    }

    /// The id of the newest snapshot that is no backup.
    #[track_caller]
    pub(crate) fn newest(&self) -> String {
        let listed = self.well(&["snapshots", "list"]);
        let line = listed.lines().skip(1).find(|line| !line.contains(" backup "));
        let id = line.and_then(|line| line.split_whitespace().next());
        id.unwrap_or_else(|| panic!("no snapshot: {listed}")).to_owned()
    }

    /// What would be done.
    #[track_caller]
    pub(crate) fn plan(&self, snapshot: &str) -> String {
        self.well(&["restore", snapshot, "--plan"])
    }

    /// Restores a snapshot.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str) -> Restored {
        self.restore_by(&format!("rfs-agent restore {snapshot}"))
    }

    /// Restores with a command as it was printed.
    #[track_caller]
    pub(crate) fn restore_by(&self, line: &str) -> Restored {
        let said = self.type_line(line);
        assert_eq!(said.code, 0, "{line}: {}{}", said.out, said.err);
        let words = said.out;
        assert!(words.starts_with("host is at target"), "{line}: {words}");
        let undo = words.lines().find_map(|line| Some(line.split_once(", to undo: ")?.1.to_owned()));
        let undo = undo.unwrap_or_else(|| panic!("it does not say how it is undone: {words}"));
        let back = words.lines().find_map(|line| line.trim().strip_prefix("bring back "));
        let bring_back = back.map(|line| {
            let path = line.split_once(" --path ").unwrap_or_else(|| panic!("no path: {line}")).1;
            (line.to_owned(), PathBuf::from(path))
        });
        Restored { words, undo, bring_back }
    }

    /// Brings the service up or down with its own command.
    #[track_caller]
    pub(crate) fn service(&self, what: &str) {
        let line = if what == "start" { &self.commands.start } else { &self.commands.stop };
        let said = run(shell(line).current_dir("/"));
        assert_eq!(said.code, 0, "{line}: {said:?}");
    }

    /// Whether the service says that it runs.
    pub(crate) fn is_running(&self) -> bool {
        run(&mut shell(&self.commands.status)).code == 0
    }
}

/// A command of a service, which ends in any case.
fn shell(line: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120", "sh", "-c", line]);
    command
}

impl Restored {
    /// What was removed is named with the backup that keeps it, and what the printed command brings back is there again.
    #[track_caller]
    pub(crate) fn bring_one_back(&self, operator: &Operator, removed: &[&Path]) {
        for path in removed {
            assert!(self.words.contains(&text(path)), "{} is not named: {}", path.display(), self.words);
        }
        let (line, path) = self.way_back();
        assert!(!path.exists(), "{} was not removed", path.display());
        operator.restore_by(line);
        assert!(path.exists(), "{line} does not bring it back");
    }

    /// The printed command brings back any other path, too.
    #[track_caller]
    pub(crate) fn bring_back(&self, operator: &Operator, path: &Path) {
        let (line, first) = self.way_back();
        let line = line.replace(&text(first), &text(path));
        operator.restore_by(&line);
        assert!(path.exists(), "{line} does not bring it back");
    }

    #[track_caller]
    fn way_back(&self) -> (&str, &Path) {
        let backup = self.undo.rsplit(' ').next().unwrap_or_default();
        assert!(self.words.contains(&format!("in backup {backup}")), "{}", self.words);
        let back = self.bring_back.as_ref();
        back.map(|(line, path)| (line.as_str(), path.as_path())).unwrap_or_else(|| panic!("{}", self.words))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // The agent first: it may be about to start the service.
        drop(self.agent.take());
        if self.is_running() {
            let _ = run(&mut shell(&self.commands.stop));
        }
    }
}
