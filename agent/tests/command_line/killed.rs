//! The program is killed while it runs another.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{Host, until};

#[test]
fn a_start_that_is_under_way_when_the_agent_is_killed_does_not_end_after_its_recovery() {
    // A release is read when the start begins; the old one then takes its time.
    let host = Host::new(
        "read release < site/index.html; case $release in v1) touch starting; sleep 2;; esac; \
         echo $release > served; touch up",
    );
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");

    let mut restore = host.agent(&["restore", &snapshot]).stdout(Stdio::null()).spawn().expect("it runs");
    until("the service starts", || host.file("starting").exists());
    restore.kill().expect("it runs");
    restore.wait().expect("it is ours");
    assert!(!host.file("up").exists(), "it has not started yet");

    let status = host.json(&["status"]);
    assert_eq!(status["recovered"]["standing"], "BEFORE", "{status}");
    assert_eq!((host.read("served").as_str(), host.file("up").exists()), ("v2\n", true));
    // Longer than the first start would have taken: that nothing comes of it is what is shown.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(host.read("served"), "v2\n", "the start that was under way is over");
}

#[test]
fn a_capture_without_a_daemon_that_is_interrupted_leaves_nothing_quiet() {
    let host = Host::new("touch up");
    let root = host.path().display();
    let config = host.read("agent.toml");
    let hooks = format!(
        "quiesce = \"touch {root}/quiet; until test -e {root}/go; do sleep 0.02; done\"\nresume = \"rm {root}/quiet\"\n"
    );
    let paths = format!("paths = [\"{root}/site\"]\n");
    assert!(config.contains(&paths));
    host.write("agent.toml", &config.replace(&paths, &format!("{paths}{hooks}")));

    let capture = host.agent(&["capture"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let capture = capture.expect("it runs");
    until("it becomes quiet", || host.file("quiet").exists());
    let pid = i32::try_from(capture.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it is ours");
    let said = capture.wait_with_output().expect("it ends");
    assert!(!said.status.success() && said.status.code().is_some(), "{said:?}");
    assert!(!host.file("quiet").exists(), "it has resumed");
    assert_eq!(host.json(&["snapshots", "list"])["snapshots"].as_array().map(Vec::len), Some(0));
}
