//! A host in a temporary folder, and the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Host {
    folder: TempDir,
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Host {
    /// A host at release v1 whose service is up; `start` is a shell line in its folder.
    pub(crate) fn new(start: &str) -> Self {
        let host = Self { folder: tempfile::tempdir().expect("a folder can be made") };
        let root = host.path().display();
        let config = format!(
            "[host]\nname = \"web-1\"\n[store]\npath = \"{root}/store\"\n\
             [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [\"{root}/site\"]\n\
             [[component]]\nname = \"app\"\nkind = \"services\"\n[component.commands]\n\
             start = \"cd {root} && {{ {start}; }}\"\nstop = \"rm -f {root}/up\"\nstatus = \"test -f {root}/up\"\n\
             [retention]\nkeep_last = 2\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nautomatic = false\n"
        );
        host.write("agent.toml", &config);
        fs::create_dir(host.path().join("site")).expect("writable");
        host.write("site/index.html", "v1\n");
        host.write("up", "");
        host
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.file(path), text).expect("writable");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.file(path)).unwrap_or_default()
    }

    /// The program, about to be run on this host.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.file("agent.toml")).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.agent(arguments).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Said { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
    }

    /// Runs it for a program, which must get one document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// Captures, and returns the snapshot's id.
    pub(crate) fn capture(&self) -> String {
        self.json(&["capture"])["snapshot"]["id"].as_str().expect("an id").to_owned()
    }

    /// Starts the daemon, and waits until it answers.
    pub(crate) fn daemon(&self) -> Daemon {
        let log = fs::File::create(self.file("daemon.log")).expect("writable");
        let child = self.agent(&["run"]).stdout(Stdio::null()).stderr(log).spawn().expect("the program runs");
        let daemon = Daemon(child);
        until("the daemon answers", || self.file("store/agent.sock").exists());
        daemon
    }
}

/// The program, about to be run.
#[expect(clippy::disallowed_methods, reason = "a test runs the program that it tests")]
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rfs-agent"))
}

/// A daemon, killed when it is dropped.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

/// Asks until it is so; a condition that does not come true is a hang.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
