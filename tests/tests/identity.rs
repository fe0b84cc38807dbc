//! One name is one machine: a second one with the same certificate is seen, told nothing, and counted for nothing until a person
//! says which one the name belongs to; and a machine that was set up anew is not taken for the one before.

use std::time::Duration;

use rfs_tests::bed::{Bed, BedHost, Said, StoreOfCopy, brief, hosts_of, state_of};
use rfs_tests::stories::side_by_side;
use rfs_tests::tree;
use rfs_tests::wait::within;
use serde_json::Value;

/// How long two agents may take to have met at the coordinator.
const MEETING: Duration = Duration::from_secs(45);

#[test]
fn one_name_is_one_machine() {
    side_by_side(&[
        ("a clone is refused until a person says which one it is", clone_with_a_fresh_store),
        ("a clone with a copy of the store is refused too", clone_with_a_copied_store),
        ("a machine that was set up anew is shown, and has no snapshots", set_up_anew),
        ("a host that was set up anew after it had passed is not passed", set_up_anew_in_a_rollback),
    ]);
}

fn contested(host: &Value) -> bool {
    host["contested"] == true && host["connected"] == false
}

fn create_checkpoint(bed: &Bed) -> Value {
    let said = bed.rfs(["checkpoint", "create", "--output", "json", "--timeout", "20s"]);
    said.json().unwrap_or_else(|| panic!("{said:?}"))
}

/// The part of a host in a checkpoint.
fn part_of<'c>(checkpoint: &'c Value, host: &str) -> &'c Value {
    let parts = checkpoint["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().find(|part| part["host"] == host).unwrap_or_else(|| panic!("{host} is not in {checkpoint}"))
}

fn roll_back(bed: &Bed, checkpoint: &str, more: &[&str]) -> Said {
    let usual = ["rollback", "start", "--checkpoint", checkpoint, "--min-healthy", "300ms", "--yes"];
    bed.rfs(usual.iter().chain(more))
}

/// Nothing may be told to a host that two machines speak for: not to the one, and not to the other.
#[track_caller]
fn assert_quarantined(bed: &Bed, copy: &BedHost, complete: &str) {
    let listed = bed.rfs(["host", "list"]);
    let line = listed.out.lines().find(|line| line.contains("web-1")).unwrap_or_default();
    assert!(
        line.to_uppercase().contains("CONFLICT") || line.to_uppercase().contains("CONTESTED"),
        "{listed:?}"
    );

    let before = [&bed.hosts[0], copy].map(|host| tree::digest(&host.site_files()));
    let checkpoint = create_checkpoint(bed);
    assert_eq!(checkpoint["state"], "INCOMPLETE", "{checkpoint}");
    assert_eq!(part_of(&checkpoint, "web-1")["failure"]["reason"], "HOST_CONFLICT", "{checkpoint}");

    let said = roll_back(bed, complete, &["--on-failure", "continue", "--healthy-deadline", "10s"]);
    assert_ne!(said.code, 0, "{said:?}");
    let rollback = bed.rollback();
    let failed = hosts_of(&rollback).into_iter().find(|(_, host)| host["host"] == "web-1");
    let (_, failed) = failed.unwrap_or_else(|| panic!("{}", brief(&rollback)));
    assert_eq!(failed["failure"]["reason"], "HOST_CONFLICT", "{}", brief(&rollback));
    assert_eq!(
        state_of(&rollback, "web-2"),
        "PASSED",
        "the other host is no part of it: {}",
        brief(&rollback)
    );
    let after = [&bed.hosts[0], copy].map(|host| tree::digest(&host.site_files()));
    assert_eq!(before, after, "neither of the two machines was touched");
}

fn clone_with_a_fresh_store() {
    let mut bed = Bed::started(2);
    let complete = bed.checkpoint();
    let mut copy = bed.hosts[0].copied(StoreOfCopy::Fresh);
    let first = bed.host("web-1")["instance"].as_str().unwrap_or_default().to_owned();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    copy.release("of the copy", "ok");
    copy.start_agent();
    let host = bed.await_host("web-1", MEETING, "shown as contested", contested);
    let ids: Vec<_> =
        host["instances"].as_array().into_iter().flatten().map(|one| one["id"].clone()).collect();
    assert_eq!(ids.len(), 2, "both machines are named: {host}");
    let shown = bed.rfs(["host", "show", "web-1"]);
    for id in &ids {
        assert!(shown.out.contains(id.as_str().unwrap_or_default()), "{}", shown.out);
    }
    assert_quarantined(&bed, &copy, &complete);

    // It survives a restart of the coordinator: a quarantine ends by a person's word alone.
    bed.kill_coordinator();
    bed.start_coordinator();
    bed.await_host("web-2", Duration::from_secs(15), "connected", |host| host["connected"] == true);
    assert!(contested(&bed.host("web-1")), "{}", bed.host("web-1"));
    let nobody = bed.rfs(["host", "accept", "web-1", "--instance", "0193b5a0-0000-4000-8000-000000000001"]);
    assert_eq!(nobody.code, 2, "a machine that never spoke for it: {nobody:?}");

    let said = bed.rfs(["host", "accept", "web-1", "--instance", &first]);
    assert_eq!(said.code, 0, "{said:?}");
    bed.await_host("web-1", Duration::from_secs(30), "the accepted machine", |host| {
        host["connected"] == true && host["contested"] == false && host["instance"] == first.as_str()
    });
    let of_copy = tree::digest(&copy.site_files());
    let said = roll_back(&bed, &complete, &[]);
    assert_eq!(said.code, 0, "{said:?} {}", brief(&bed.rollback()));
    assert_eq!(bed.hosts[0].ask("/").map(|(_, body)| body), Some("<h1>v1 of web-1</h1>\n".to_owned()));
    assert_eq!(tree::digest(&copy.site_files()), of_copy, "the copy was told nothing");
    bed.checkpoint();
    // The copy is still there, and still refused.
    let log = || copy.agent.as_ref().expect("it runs").log();
    let seen = log().len();
    within(Duration::from_secs(30), "the copy is refused, and says why", || {
        log()[seen..].contains("as a person has said").then_some(())
    });
    assert_eq!(bed.host("web-1")["contested"], false);
}

fn clone_with_a_copied_store() {
    let mut bed = Bed::started(2);
    let complete = bed.checkpoint();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    // A whole disk was copied: the same store, the same instance.
    bed.hosts[0].kill_agent();
    let mut copy = bed.hosts[0].copied(StoreOfCopy::Copied);
    bed.start_agent(0);
    bed.await_connected(2);
    let instance = bed.host("web-1")["instance"].as_str().unwrap_or_default().to_owned();
    copy.start_agent();
    bed.await_host("web-1", MEETING, "shown as contested", contested);
    assert_quarantined(&bed, &copy, &complete);

    // They cannot be told apart, so one has to go before a person's word means one machine.
    copy.kill_agent();
    let said = bed.rfs(["host", "accept", "web-1", "--instance", &instance]);
    assert_eq!(said.code, 0, "{said:?}");
    bed.await_host("web-1", Duration::from_secs(30), "connected", |host| {
        host["connected"] == true && host["contested"] == false
    });
    bed.checkpoint();
}

fn set_up_anew() {
    let mut bed = Bed::started(2);
    let complete = bed.checkpoint();
    let first = bed.host("web-1")["instance"].clone();
    bed.hosts[0].kill_agent();
    bed.hosts[0].lose_store();
    bed.start_agent(0);
    let host = bed.await_host("web-1", Duration::from_secs(30), "connected as another machine", |host| {
        host["connected"] == true && host["instance"] != first
    });
    assert!(!host["replaced_time"].is_null(), "it is shown: {host}");
    assert_eq!(host["contested"], false, "the machine before is gone: {host}");

    let lost = within(Duration::from_secs(15), "the checkpoint is no longer complete", || {
        Some(bed.show_checkpoint(&complete)).filter(|checkpoint| checkpoint["state"] == "INCOMPLETE")
    });
    let part = part_of(&lost, "web-1");
    assert_eq!(part["failure"]["reason"], "SNAPSHOT_NOT_FOUND", "{part}");
    let said = roll_back(&bed, &complete, &[]);
    assert_eq!(said.code, 3, "it is no target: {said:?}");
    assert!(said.err.contains("web-1"), "{said:?}");
    bed.checkpoint();
}

fn set_up_anew_in_a_rollback() {
    let mut bed = Bed::started(2);
    bed.checkpoint();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    let said = bed.rfs([
        "rollback",
        "start",
        "--checkpoint",
        "latest",
        "--canary",
        "web-1",
        "--min-healthy",
        "4s",
        "--healthy-deadline",
        "20s",
        "--yes",
        "--no-wait",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    bed.await_host_in_rollback("web-1", &["PASSED"]);
    bed.hosts[0].kill_agent();
    bed.hosts[0].lose_store();
    // The new machine has what its installer gave it.
    bed.hosts[0].release("v0", "ok");
    bed.start_agent(0);
    let rollback = within(Duration::from_secs(60), "it has an end, or a person is asked", || {
        let rollback = bed.rollback();
        (rollback["state"] == "FINISHED" || rollback["state"] == "PAUSED").then_some(rollback)
    });
    assert_ne!(rollback["outcome"], "SUCCEEDED", "web-1 is at v0: {}", brief(&rollback));
    assert_ne!(state_of(&rollback, "web-1"), "PASSED", "{}", brief(&rollback));
    assert!(rollback.to_string().contains("HOST_REPLACED"), "it says why: {}", brief(&rollback));
}
