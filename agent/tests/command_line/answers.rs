//! What the program answers: exit codes, documents, and what to type next.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{Host, Said, until};

const START: &str = "if test -f broken; then exit 1; fi; cat site/index.html > served; touch up";

fn failed(said: &Said, code: i32, message: &str, next: &str) {
    assert_eq!(said.code, Some(code), "{said:?}");
    assert!(said.error.contains(message), "{message}: {said:?}");
    assert!(said.error.contains(&format!("next: {next}")), "{next}: {said:?}");
}

#[test]
fn a_host_is_captured_planned_restored_and_brought_back_with_and_without_the_daemon() {
    for with_daemon in [false, true] {
        let host = Host::new(START);
        let _daemon = with_daemon.then(|| host.daemon());
        let snapshot = host.capture();
        host.write("site/index.html", "v2\n");

        let planned = host.run(&["restore", &snapshot[..12], "--plan"]);
        assert_eq!(planned.code, Some(0), "{planned:?}");
        let write = format!("write {} (3 B)", host.file("site/index.html").display());
        assert_eq!(
            planned.out.lines().take(3).collect::<Vec<_>>(),
            ["stop app", write.as_str(), "start app"]
        );
        assert_eq!(host.read("site/index.html"), "v2\n", "a plan touches nothing");

        let restored = host.json(&["restore", &snapshot]);
        assert_eq!(restored["standing"], "TARGET", "{restored}");
        assert_eq!((host.read("site/index.html"), host.read("served")), ("v1\n".into(), "v1\n".into()));
        assert!(restored["downtime_seconds"].as_f64().is_some_and(|down| down < 10.0), "{restored}");
        let backup = restored["backup"].as_str().expect("a backup").to_owned();

        let said = host.run(&["restore", &backup[..12]]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.starts_with("web-1 is at target"), "{said:?}");
        assert!(said.out.contains("to undo: rfs-agent restore "), "{said:?}");
        assert_eq!(host.read("served"), "v2\n");

        let listed = host.json(&["snapshots", "list"]);
        let kinds: Vec<_> =
            listed["snapshots"].as_array().expect("a list").iter().map(|s| &s["kind"]).collect();
        assert_eq!(kinds, ["backup", "backup", "local"], "newest first");
        let status = host.json(&["status"]);
        assert_eq!(status["agent"] == "not running", !with_daemon, "{status}");
        assert!(status["last_restore"].as_str().is_some_and(|last| last.contains("at target")), "{status}");
    }
}

#[test]
fn snapshots_are_looked_at_beside_the_daemon() {
    let host = Host::new(START);
    let _daemon = host.daemon();
    let first = host.capture();
    host.write("site/index.html", "v2\n");
    host.write("site/new", "");
    let second = host.capture();
    let shown = host.run(&["snapshots", "show", &first, "--entries"]);
    assert!(shown.out.contains(&host.file("site/index.html").display().to_string()), "{shown:?}");
    for arguments in [vec!["snapshots", "diff", &first, &second], vec!["snapshots", "diff", &first]] {
        let diff = host.run(&arguments);
        assert_eq!(diff.code, Some(0), "{diff:?}");
        let path = |path: &str| host.file(path).display().to_string();
        assert!(diff.out.contains(&format!("added    site  {}\n", path("site/new"))), "{diff:?}");
        let changed = format!("changed  site  {} (content", path("site/index.html"));
        assert!(diff.out.contains(&changed), "{diff:?}");
    }
    let verified = host.json(&["snapshots", "verify"]);
    assert_eq!((&verified["snapshots"], verified["damage"].as_array().map(Vec::len)), (&2.into(), Some(0)));
}

#[test]
fn every_failure_has_its_code_and_says_what_to_type_next() {
    let host = Host::new(START);
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");

    failed(
        &host.run(&["restore", "abcdef"]),
        3,
        "no snapshot abcdef",
        "see which there are with: rfs-agent snapshots list",
    );
    failed(&host.run(&["restore", &snapshot, "--component", "db"]), 3, "component db is not configured", "");
    failed(
        &host.run(&["restore", &snapshot, "--path", "/etc/passwd"]),
        2,
        "/etc/passwd lies in none",
        "name a path",
    );
    assert_eq!(host.run(&["restore"]).code, Some(2));
    assert_eq!(host.run(&["restore", &snapshot, "--plan", "--force"]).code, Some(2));
    assert_eq!(host.run(&["restore", &snapshot, "--timeout", "soon"]).code, Some(2));

    let failure = host.run(&["restore", "abcdef", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&failure.error).expect("a document");
    assert_eq!(document["failure"]["reason"], "SNAPSHOT_NOT_FOUND");

    let config = host.read("agent.toml");
    host.write("agent.toml", &config.replace("kind = \"files\"", "kind = \"file\""));
    failed(&host.run(&["status"]), 2, "kind = \"file\"\n    |        ^^^^^^", "correct it");
    host.write("agent.toml", &config);
    std::fs::rename(host.file("agent.toml"), host.file("elsewhere")).expect("renames");
    failed(&host.run(&["status"]), 2, "cannot read", "name the configuration with --config");
}

#[test]
fn a_restore_that_fails_ends_with_1_and_one_that_needs_a_person_with_5() {
    let host = Host::new("grep -q v2 site/index.html && touch up");
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");
    let said = host.run(&["restore", &snapshot]);
    failed(&said, 1, "app could not be started", "run the named command");
    assert!(said.out.starts_with("web-1 is as before"), "{said:?}");
    assert_eq!((host.read("site/index.html"), host.file("up").exists()), ("v2\n".into(), true));

    let host = Host::new("exit 1");
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");
    let said = host.run(&["restore", &snapshot]);
    failed(&said, 5, "the host could not be put back", "repair what the message names");
    assert!(said.out.starts_with("web-1 is INCONSISTENT"), "{said:?}");
    assert_eq!(host.run(&["status"]).code, Some(5));
    failed(&host.run(&["restore", &snapshot]), 5, "is inconsistent since", "repair what the message names");
    let config = host.read("agent.toml");
    host.write("agent.toml", &config.replace("exit 1;", "touch up;"));
    let said = host.run(&["restore", &snapshot, "--force"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(host.run(&["status"]).code, Some(0));
}

#[test]
fn a_store_that_another_program_holds_is_left_alone() {
    let host = Host::new("touch starting; while ! test -f go; do sleep 0.05; done; touch up");
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");
    let mut first = host.agent(&["restore", &snapshot]).stdout(Stdio::null()).spawn().expect("it runs");
    until("the first is at work", || host.file("starting").exists());
    failed(
        &host.run(&["capture"]),
        3,
        "is held by another process",
        "the agent is starting or stopping, or another",
    );
    host.write("go", "");
    assert!(first.wait().expect("it is ours").success());
    host.capture();
}

#[test]
fn an_interrupted_restore_goes_back() {
    let host = Host::new("case $(cat site/index.html) in v1) touch starting; sleep 20;; esac; touch up");
    let snapshot = host.capture();
    host.write("site/index.html", "v2\n");
    let restore = host.agent(&["restore", &snapshot, "--output", "json"]).stdout(Stdio::piped()).spawn();
    let restore = restore.expect("it runs");
    until("the service starts", || host.file("starting").exists());
    let id = i32::try_from(restore.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(id, Signal::INT).expect("it runs");
    let ended = restore.wait_with_output().expect("it is ours");
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("a document");
    assert_eq!(ended.status.code(), Some(1), "{document}");
    assert_eq!(
        (&document["standing"], &document["failure"]["reason"]),
        (&"BEFORE".into(), &"CANCELLED".into())
    );
    assert_eq!((host.read("site/index.html"), host.file("up").exists()), ("v2\n".into(), true));
}
