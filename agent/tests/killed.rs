//! The real program, killed while it runs another.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The real agent on a host in `root`.
#[expect(clippy::disallowed_methods, reason = "a test runs the program that it tests")]
fn agent(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfs-agent"));
    command.args(arguments).arg("--config").arg(root.join("agent.toml")).stdin(Stdio::null());
    command
}

fn run(root: &Path, arguments: &[&str]) -> Output {
    agent(root, arguments).output().expect("the agent runs")
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_start_that_is_under_way_when_the_agent_is_killed_does_not_end_after_its_recovery() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("site")).expect("writable");
    let shown = root.display();
    // A release is read when the start begins; the old one then takes its time.
    let start = "read release < site/index.html; case $release in v1) touch starting; sleep 2;; esac; \
                 echo $release > served; touch up";
    let config = format!(
        "[host]\nname = \"web-1\"\n[store]\npath = \"{shown}/store\"\n\
         [[component]]\nname = \"site\"\nkind = \"files\"\npaths = [\"{shown}/site\"]\n\
         [[component]]\nname = \"app\"\nkind = \"services\"\n[component.commands]\n\
         start = \"cd {shown} && {{ {start}; }}\"\nstop = \"rm -f {shown}/up\"\nstatus = \"test -f {shown}/up\"\n"
    );
    fs::write(root.join("agent.toml"), config).expect("writable");
    fs::write(root.join("site/index.html"), "v1\n").expect("writable");
    fs::write(root.join("up"), "").expect("writable");
    let captured = run(root, &["capture", "--output", "json"]);
    assert!(captured.status.success(), "{captured:?}");
    let captured: serde_json::Value = serde_json::from_slice(&captured.stdout).expect("json");
    let snapshot = captured["snapshot"]["id"].as_str().expect("an id").to_owned();
    fs::write(root.join("site/index.html"), "v2\n").expect("writable");

    let mut restore =
        agent(root, &["restore", &snapshot]).stdout(Stdio::null()).spawn().expect("the agent runs");
    until("the service starts", || root.join("starting").exists());
    restore.kill().expect("it runs");
    restore.wait().expect("it is ours");
    assert!(!root.join("up").exists(), "it has not started yet");

    let status = run(root, &["status", "--output", "json"]);
    assert!(status.status.success(), "{status:?}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("json");
    assert_eq!(status["recovered"]["standing"], "BEFORE", "{status}");
    let served = || fs::read_to_string(root.join("served")).unwrap_or_default();
    assert_eq!((served().as_str(), root.join("up").exists()), ("v2\n", true));
    // Longer than the first start would have taken: its absence is what is shown.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(served(), "v2\n", "the start that was under way is over");
}
