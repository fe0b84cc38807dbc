//! A server that is gone for good spoils no later checkpoint, and a checkpoint holds nobody for longer than it must.

use std::fs;
use std::time::Duration;

use rfs_tests::bed::{Bed, BedHost, Said, brief, run};
use rfs_tests::stories::side_by_side;
use rfs_tests::wait::within;
use serde_json::Value;

/// How long an agent may take to come, or to be turned away.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn nobody_waits_for_who_is_gone() {
    side_by_side(&[
        (
            "a server that is gone is named, allowed to be missing, forgotten, refused and accepted",
            a_server_that_is_gone,
        ),
        ("a checkpoint that is aborted lets its hosts go at once", an_aborted_checkpoint),
        ("a host that is quiet resumes by itself though the coordinator is dead", a_quiet_host),
    ]);
}

/// The host's part in a checkpoint: its state, and why.
fn part(checkpoint: &Value, host: &str) -> (String, String) {
    let parts = checkpoint["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let part = parts.iter().find(|part| part["host"] == host).unwrap_or(&Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&part["state"]), text(&part["failure"]["message"]))
}

#[track_caller]
fn assert_says(said: &Said, code: i32, texts: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let all = format!("{}\n{}", said.out, said.err);
    for text in texts {
        assert!(all.contains(text), "{text:?} is not said: {said:?}");
    }
}

/// The line of a host in `rfs host list`; none if it is not in it.
fn line_of(bed: &Bed, host: &str) -> Option<String> {
    let said = bed.rfs(["host", "list"]);
    said.out.lines().find(|line| line.starts_with(host)).map(str::to_owned)
}

fn a_server_that_is_gone() {
    let mut bed = Bed::new(3);
    let config = bed.path().join("coordinator.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, format!("stale_after = \"2s\"\n{text}")).expect("written");
    bed.start();
    bed.await_connected(3);
    let whole = bed.checkpoint();
    assert_says(&bed.rfs(["host", "forget", "web-3", "--yes"]), 3, &["web-3 is connected", "next: "]);

    // It dies. Nobody is told that a checkpoint without it is whole, and whoever takes one is told what to type.
    bed.hosts[2].kill_agent();
    bed.await_host("web-3", SOON, "gone", |host| host["connected"] == false);
    let said = within(SOON, "it is named as one that may be gone for good", || {
        let said = bed.rfs(["checkpoint", "create", "--timeout", "60s"]);
        assert_says(&said, 1, &["is incomplete"]);
        format!("{}{}", said.out, said.err).contains("rfs host forget web-3").then_some(said)
    });
    assert_says(&said, 1, &["web-3: not seen for "]);

    // Until somebody does, a checkpoint may go without it, and says so wherever it is shown.
    let said = bed.rfs(["checkpoint", "create", "--allow-missing", "1"]);
    assert_says(
        &said,
        0,
        &["is complete without 1 of 3 hosts", "web-3: not seen for ", "rfs host forget web-3"],
    );
    assert_says(&bed.rfs(["checkpoint", "list"]), 0, &["complete without 1 of 3 hosts"]);
    let without = bed.show_checkpoint("latest");
    assert_eq!((&without["state"], &without["missing_count"]), (&"COMPLETE".into(), &1.into()), "{without}");
    assert_eq!(part(&without, "web-3").0, "FAILED", "{without}");
    let name = without["name"].as_str().expect("a name").to_owned();
    bed.hosts[..2].iter().for_each(|host| host.release("bad", "broken"));
    let plan = bed.rfs(["rollback", "plan", "--checkpoint", &name]);
    assert_says(&plan, 0, &["left out web-3: checkpoint ", "lacks it: not seen for "]);
    let start = ["rollback", "start", "--checkpoint", &name, "--min-healthy", "300ms", "--yes"];
    assert_says(&bed.rfs(start), 0, &["it lacks web-3: not seen for "]);
    let rollback = bed.rollback();
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert!(rollback["left_out"]["web-3"].is_string(), "{rollback}");

    // It is forgotten: checkpoints are whole again.
    assert_says(&bed.rfs(["host", "forget", "web-3"]), 2, &["is to be confirmed", "rfs host show web-3"]);
    let viewer = run(&mut bed.rfs_as("viewer", ["host", "forget", "web-3", "--yes"]));
    assert_says(&viewer, 3, &["DeleteHost needs operator"]);
    assert_says(&bed.rfs(["host", "forget", "web-3", "--yes"]), 0, &["rfs host accept web-3"]);
    assert_eq!(line_of(&bed, "web-3"), None);
    let now = bed.show_checkpoint(&bed.checkpoint());
    assert_eq!((&now["host_count"], &now["missing_count"]), (&2.into(), &0.into()), "{now}");
    let older = bed.show_checkpoint(&whole);
    assert_eq!(older["state"], "COMPLETE", "of the other hosts: {older}");
    let (state, why) = part(&older, "web-3");
    assert!(state == "FAILED" && why.contains("was forgotten"), "{older}");

    // It returns, and is refused: now, and after a restart of the coordinator.
    bed.start_agent(2);
    for restart in [false, true] {
        if restart {
            bed.kill_coordinator();
            bed.start_coordinator();
            bed.await_connected(2);
        }
        within(SOON, "it is shown as refused", || {
            line_of(&bed, "web-3").filter(|line| line.contains("REFUSED"))
        });
    }
    let log = bed.hosts[2].agent.as_ref().expect("it runs").log();
    assert!(log.contains("was forgotten") && log.contains("rfs host accept web-3"), "{log}");
    assert_says(
        &bed.rfs(["host", "show", "web-3"]),
        0,
        &["REFUSED", "next: if it belongs to the fleet again"],
    );
    assert_eq!(bed.show_checkpoint(&bed.checkpoint())["host_count"], 2);

    // A person lets it in again, and it is one of the fleet as before.
    assert_says(&bed.rfs(["host", "accept", "web-3"]), 0, &["web-3 is the machine "]);
    bed.await_connected(3);
    let now = bed.show_checkpoint(&bed.checkpoint());
    assert_eq!((&now["host_count"], &now["missing_count"]), (&3.into(), &0.into()), "{now}");
    assert_eq!(part(&bed.show_checkpoint(&whole), "web-3").0, "DURABLE", "it holds what it held");
}

/// What the hooks of a host have done.
fn hooks(host: &BedHost) -> Vec<String> {
    let log = fs::read_to_string(host.path().join("hooks.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// A fleet of two whose hosts are made quiet. The agent of web-2 holds still: it takes commands, and never answers.
fn with_hooks() -> Bed {
    let mut bed = Bed::new(2);
    for host in &bed.hosts {
        let config = host.path().join("agent.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let log = host.path().join("hooks.log");
        let hook = |what: &str| format!("{what} = \"echo {what} >> {}\"\n", log.display());
        let keys = format!("kind = \"files\"\n{}{}", hook("quiesce"), hook("resume"));
        fs::write(&config, text.replacen("kind = \"files\"\n", &keys, 1)).expect("written");
    }
    bed.start();
    bed.await_connected(2);
    bed.checkpoint();
    bed.hosts.iter().for_each(|host| fs::remove_file(host.path().join("hooks.log")).expect("it was quiet"));
    bed.hosts[1].agent.as_ref().expect("it runs").freeze();
    bed
}

fn an_aborted_checkpoint() {
    let bed = with_hooks();
    let create = ["checkpoint", "create", "--no-wait", "--output", "json", "--timeout", "50m"];
    let said = bed.rfs(create.iter().chain(&["--quiesce-timeout", "40m"]));
    let begun = said.json().unwrap_or_else(|| panic!("{said:?}"));
    let name = begun["name"].as_str().expect("a name").to_owned();
    within(SOON, "web-1 is quiet", || (hooks(&bed.hosts[0]) == ["quiesce"]).then_some(()));
    let roll_back = || {
        let start = ["rollback", "start", "--checkpoint", "latest", "--host", "web-1", "--yes"];
        bed.rfs(start.iter().chain(&["--min-healthy", "300ms"]))
    };
    assert_says(&roll_back(), 3, &["host web-1 is owned by checkpoint", "or end it: rfs checkpoint abort "]);

    let viewer = run(&mut bed.rfs_as("viewer", ["checkpoint", "abort", &name]));
    assert_says(&viewer, 3, &["AbortCheckpoint needs deployer"]);
    assert_says(&bed.rfs(["checkpoint", "abort", &name]), 0, &["is aborted", "its hosts are free"]);
    assert_says(&roll_back(), 0, &[]);
    within(SOON, "web-1 resumes", || (hooks(&bed.hosts[0]) == ["quiesce", "resume"]).then_some(()));
    // Once more is no mistake; and it stays what it is.
    assert_says(&bed.rfs(["checkpoint", "abort", &name]), 0, &["is aborted"]);
    assert_eq!(bed.show_checkpoint(&name)["state"], "ABORTED");
    let onto = bed.rfs(["rollback", "start", "--checkpoint", &name, "--yes"]);
    assert_says(&onto, 3, &["was aborted, so it is no target"]);
    bed.hosts[1].agent.as_ref().expect("it runs").thaw();
    bed.await_connected(2);
    bed.checkpoint();
    let done = bed.show_checkpoint("latest")["name"].as_str().expect("a name").to_owned();
    assert_says(
        &bed.rfs(["checkpoint", "abort", &done]),
        3,
        &["it is over (COMPLETE)", "rfs checkpoint show"],
    );
}

fn a_quiet_host() {
    let mut bed = with_hooks();
    let create = ["checkpoint", "create", "--no-wait", "--timeout", "50m", "--quiesce-timeout", "3s"];
    assert_says(&bed.rfs(create), 0, &["is being taken"]);
    within(SOON, "web-1 is quiet", || (hooks(&bed.hosts[0]) == ["quiesce"]).then_some(()));
    bed.kill_coordinator();
    within(Duration::from_secs(10), "it resumes, and hears of nobody", || {
        (hooks(&bed.hosts[0]) == ["quiesce", "resume"]).then_some(())
    });
    // Everybody is back, and the checkpoint does not call what it has a whole.
    bed.start_coordinator();
    bed.hosts[1].agent.as_ref().expect("it runs").thaw();
    let ended = within(Duration::from_secs(60), "the checkpoint ends", || {
        let listed = bed.rfs(["checkpoint", "list", "--output", "json"]).json()?;
        let newest = listed["checkpoints"][0]["name"].as_str()?.to_owned();
        Some(bed.show_checkpoint(&newest)).filter(|shown| shown["state"] != "CREATING")
    });
    assert_eq!(ended["state"], "INCOMPLETE", "{ended}");
    let (state, why) = part(&ended, "web-1");
    assert!(state == "FAILED" && why.contains("resumed by itself after 3s of quiet"), "{ended}");
    bed.await_connected(2);
    bed.checkpoint();
}
