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
        &["is paused: a person is needed", "web-2", "rfs rollback retry, resume, promote or abort"],
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
    assert_says(&said, 1, &["PARTIAL", "left out", "web-2"]);
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
