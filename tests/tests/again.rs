//! Hosts that failed are tried again, and hosts that were left out come in line when they are back: by the command line alone,
//! and measured on the hosts' own files.

use std::time::Duration;

use rfs_tests::bed::{Bed, Said, brief, state_of};
use rfs_tests::stories::side_by_side;
use rfs_tests::tree::digest;
use rfs_tests::wait::within;
use serde_json::Value;

/// How long a host may take to come back and be brought in line.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn no_host_is_left_behind() {
    side_by_side(&[
        ("a host that failed is tried again, and the rollback goes on", a_paused_rollback),
        ("a host that failed is tried again after the end", a_rollback_that_is_over),
        ("a host that was left out comes in line, whatever checkpoint was taken meanwhile", a_host_left_out),
        ("nobody waits for a host that was left out once that is withdrawn", a_withdrawn_host),
        ("a rollback that runs is ended and undone by one command", an_undo_of_one_that_runs),
        ("an undo where no host was changed says so, and waits for nobody", an_undo_of_nothing),
        ("an undo of one that is not the last says what goes with it, and asks", an_undo_of_an_older_one),
    ]);
}

/// Three hosts with a checkpoint of what is well, then a bad release everywhere.
fn broken_fleet() -> (Bed, Vec<String>) {
    let bed = Bed::started(3);
    bed.await_connected(3);
    bed.checkpoint();
    let before = bed.hosts.iter().map(|host| digest(&host.site_files())).collect();
    bed.hosts.iter().for_each(|host| host.release("bad", "broken"));
    (bed, before)
}

fn start(bed: &Bed, more: &[&str]) -> Said {
    let fixed = ["rollback", "start", "--checkpoint", "latest", "--min-healthy", "300ms", "--yes"];
    bed.rfs(fixed.iter().chain(more))
}

#[track_caller]
fn assert_says(said: &Said, code: i32, texts: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let all = format!("{}\n{}", said.out, said.err);
    for text in texts {
        assert!(all.contains(text), "{text:?} is not said: {said:?}");
    }
}

/// Whether each host is at the checkpoint, by its own files.
fn at_checkpoint(bed: &Bed, checkpoint: &[String]) -> Vec<bool> {
    let is_there = |(host, was): (&rfs_tests::bed::BedHost, &String)| digest(&host.site_files()) == *was;
    bed.hosts.iter().zip(checkpoint).map(is_there).collect()
}

fn await_state(bed: &Bed, host: &str, state: &str) -> Value {
    within(SOON, &format!("{host} is {state}"), || {
        Some(bed.rollback()).filter(|rollback| state_of(rollback, host) == state)
    })
}

fn a_paused_rollback() {
    let (mut bed, checkpoint) = broken_fleet();
    bed.hosts[1].kill_agent();
    bed.await_host("web-2", SOON, "gone", |host| host["connected"] == false);
    let said = start(&bed, &["--wave", "1", "--unreachable-after", "1s"]);
    assert_says(
        &said,
        5,
        &[
            "is paused: a person is needed",
            "next: start rfs-agent on web-2, then: rfs rollback retry ",
            "or: rfs rollback resume ",
            "or: rfs rollback promote ",
            "or: rfs rollback abort ",
        ],
    );
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, false, false]);
    assert_says(
        &bed.rfs(["rollback", "retry", "latest", "--host", "web-1"]),
        3,
        &["cannot retry web-1: it has not failed", "next: "],
    );

    bed.start_agent(1);
    bed.await_host("web-2", SOON, "back", |host| host["connected"] == true);
    assert_says(
        &bed.rfs(["rollback", "retry", "latest"]),
        0,
        &["retry: tries web-2 again", "rfs rollback watch"],
    );
    assert_says(&bed.rfs(["rollback", "watch", "latest"]), 0, &["SUCCEEDED"]);
    let refused = bed.rfs(["rollback", "retry", "latest"]);
    assert_says(&refused, 3, &["cannot retry: "]);
    assert!(!refused.out.contains("retry:"), "what is refused has no effect: {refused:?}");
    let rollback = bed.rollback();
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, true, true]);
}

fn a_rollback_that_is_over() {
    let (mut bed, checkpoint) = broken_fleet();
    bed.hosts[1].kill_agent();
    bed.await_host("web-2", SOON, "gone", |host| host["connected"] == false);
    let said = start(&bed, &["--on-failure", "continue", "--unreachable-after", "1s"]);
    assert_says(&said, 1, &["PARTIAL", "try web-2 again: rfs rollback retry "]);
    bed.start_agent(1);
    bed.await_host("web-2", SOON, "back", |host| host["connected"] == true);
    assert_says(&bed.rfs(["rollback", "retry", "latest"]), 0, &["tries hosts again, one first"]);
    // What was decided is stored: the coordinator may die.
    bed.kill_coordinator();
    bed.start_coordinator();
    let rollback = await_state(&bed, "web-2", "PASSED");
    assert_eq!(rollback["outcome"], "PARTIAL", "an outcome stays: {}", brief(&rollback));
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, true, true]);
    bed.await_host("web-2", SOON, "free", |host| host["owner"].as_str().unwrap_or_default().is_empty());
}

fn left_out() -> (Bed, Vec<String>) {
    let (mut bed, checkpoint) = broken_fleet();
    bed.hosts[1].kill_agent();
    bed.await_host("web-2", SOON, "gone", |host| host["connected"] == false);
    let said = start(&bed, &["--on-unreachable", "skip", "--unreachable-after", "1s"]);
    assert_says(
        &said,
        1,
        &["PARTIAL", "start rfs-agent on web-2: what was left out comes in line by itself, until "],
    );
    (bed, checkpoint)
}

fn a_host_left_out() {
    let (mut bed, checkpoint) = left_out();
    assert_says(
        &bed.rfs(["checkpoint", "create", "--allow-missing", "1"]),
        0,
        &["is complete without 1 of 3"],
    );
    bed.start_agent(1);
    await_state(&bed, "web-2", "PASSED");
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, true, true]);
}

fn a_withdrawn_host() {
    let (mut bed, checkpoint) = left_out();
    assert_says(&bed.rfs(["rollback", "abort", "latest"]), 0, &["not waited for", "web-2"]);
    bed.start_agent(1);
    bed.await_connected_in_any_health(3);
    // Whoever comes in line is told so as soon as it is back; a checkpoint comes after that.
    bed.checkpoint();
    assert_eq!(state_of(&bed.rollback(), "web-2"), "SUPERSEDED");
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, false, true]);
}

fn an_undo_of_one_that_runs() {
    let (bed, checkpoint) = broken_fleet();
    let slow = ["--wave", "1", "--healthy-deadline", "1h", "--no-wait", "--max-pause", "2h"];
    let started = bed.rfs(
        ["rollback", "start", "--checkpoint", "latest", "--min-healthy", "30m", "--yes"].iter().chain(&slow),
    );
    assert_says(&started, 0, &["has started"]);
    await_state(&bed, "web-1", "APPLIED");
    let first = bed.rollback()["name"].as_str().expect("a name").to_owned();
    let first = first.strip_prefix("rollbacks/").unwrap_or(&first);
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, false, false]);
    assert_says(&bed.rfs(["rollback", "pause", first]), 0, &["ends by itself after 2h00"]);
    assert_says(&bed.rfs(["rollback", "resume", first]), 0, &["goes on"]);
    // It is said before what it does, and nobody who does not answer has said yes.
    assert_says(&bed.rfs(["rollback", "undo", first]), 2, &["nobody to ask", "--plan"]);
    assert_says(
        &bed.rfs(["rollback", "undo", first, "--plan"]),
        0,
        &["first; does not start web-2, web-3; brings web-1 back", "wave 1  1 host: web-1"],
    );
    let undo = ["rollback", "undo", first, "--yes", "--ignore-health"];
    assert_says(&bed.rfs(undo), 0, &["undo: ends rollbacks/", "does not start web-2, web-3", "SUCCEEDED"]);
    assert_eq!(at_checkpoint(&bed, &checkpoint), [false, false, false]);
    let undone = bed.rfs(["rollback", "show", first, "--output", "json"]).json().expect("a document");
    assert_eq!(undone["outcome"], "ABORTED", "{}", brief(&undone));
}

fn an_undo_of_nothing() {
    let (mut bed, checkpoint) = broken_fleet();
    for (index, host) in ["web-1", "web-2", "web-3"].iter().enumerate() {
        bed.hosts[index].kill_agent();
        bed.await_host(host, SOON, "gone", |host| host["connected"] == false);
    }
    let skip = ["--strategy", "immediate", "--on-unreachable", "skip", "--unreachable-after", "1s"];
    assert_says(&start(&bed, &skip), 1, &["PARTIAL", "left out", "web-1, web-2, web-3"]);
    assert_says(
        &bed.rfs(["rollback", "undo", "latest", "--yes"]),
        0,
        &["no longer waits for web-1, web-2, web-3", "no host is to be brought back", "not waited for"],
    );
    (0..3).for_each(|index| bed.start_agent(index));
    bed.await_connected_in_any_health(3);
    bed.checkpoint();
    assert_eq!(state_of(&bed.rollback(), "web-2"), "SUPERSEDED");
    assert_eq!(at_checkpoint(&bed, &checkpoint), [false, false, false]);
}

fn an_undo_of_an_older_one() {
    let (bed, checkpoint) = broken_fleet();
    assert_says(&start(&bed, &[]), 0, &["SUCCEEDED"]);
    let first = bed.rollback()["name"].as_str().expect("a name").to_owned();
    let first = first.strip_prefix("rollbacks/").unwrap_or(&first);
    bed.hosts.iter().for_each(|host| host.release("worse", "broken"));
    assert_says(&start(&bed, &["--host", "web-1,web-3"]), 0, &["SUCCEEDED"]);
    let second = bed.rollback()["name"].as_str().expect("a name").to_owned();
    let says = format!("{second} changed web-1, web-3 later; the undo takes that away as well");
    assert_says(
        &bed.rfs(["rollback", "undo", first, "--plan"]),
        0,
        &[&says, "to undo only that: rfs rollback undo "],
    );
    assert_eq!(at_checkpoint(&bed, &checkpoint), [true, false, true], "a plan changes nothing");
    let undo = ["rollback", "undo", first, "--yes", "--ignore-health"];
    assert_says(&bed.rfs(undo), 0, &["goes on, although", "changed web-1, web-3", "SUCCEEDED"]);
    assert_eq!(at_checkpoint(&bed, &checkpoint), [false, false, false]);
}
