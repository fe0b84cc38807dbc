//! A fleet is checkpointed, broken by a release, and brought back host by host.

use std::fs;
use std::path::PathBuf;

use rfs_tests::bed::{Bed, hosts_of};
use rfs_tests::{skip, tree};
use serde_json::Value;

/// What makes a rollback of a bed quick and still gradual.
const QUICK: [&str; 12] = [
    "--checkpoint",
    "latest",
    "--canary",
    "web-1",
    "--wave",
    "2",
    "--min-healthy",
    "300ms",
    "--healthy-deadline",
    "20s",
    "--yes",
    "--output=json",
];

fn start(bed: &Bed, more: &[&str]) -> rfs_tests::bed::Said {
    bed.rfs(["rollback", "start"].iter().chain(&QUICK).chain(more))
}

/// Keeps a copy of each host's files to compare with later.
fn keep(bed: &Bed) -> Vec<PathBuf> {
    let copy = |host: &rfs_tests::bed::BedHost| {
        let kept = host.path().join("kept");
        let _ = fs::remove_dir_all(&kept);
        tree::copy(&host.site_files(), &kept);
        kept
    };
    bed.hosts.iter().map(copy).collect()
}

#[track_caller]
fn assert_equal(test: &str, bed: &Bed, kept: &[PathBuf]) {
    for (host, kept) in bed.hosts.iter().zip(kept) {
        match tree::difference(kept, &host.site_files()) {
            None => {
                return skip(test, "rsync is not installed, so nothing independent can compare the trees");
            }
            Some(difference) => assert_eq!(difference, "", "{} is not as it was kept", host.name),
        }
    }
}

/// Every host gets the bad release, and its service is restarted as a deploy does.
fn deploy_to_all(bed: &Bed, version: &str, health: &str) {
    for host in &bed.hosts {
        host.deploy(version, health);
        let _ = fs::remove_file(host.site_files().join("assets/v1.css"));
        assert_eq!((host.site("stop"), host.site("start")), (0, 0));
    }
}

fn states(rollback: &Value) -> Vec<(u64, String)> {
    hosts_of(rollback).into_iter().map(|(wave, host)| (wave, host["state"].to_string())).collect()
}

#[test]
fn a_bad_release_is_rolled_back_wave_by_wave_and_undone_again() {
    let bed = Bed::started(5);
    let before = keep(&bed);
    bed.checkpoint();
    deploy_to_all(&bed, "v2", "broken");
    let broken: Vec<PathBuf> = bed
        .hosts
        .iter()
        .map(|host| {
            let kept = host.path().join("broken");
            tree::copy(&host.site_files(), &kept);
            kept
        })
        .collect();

    let planned = bed.rfs(["rollback", "plan", "--checkpoint", "latest", "--canary", "web-1", "--wave", "2"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.out.contains("index.html"), "the plan names the steps: {planned:?}");
    assert_equal("fleet plan", &bed, &broken);

    let said = start(&bed, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let rollback = bed.rollback();
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{rollback}");
    assert_eq!(rollback["waves"].as_array().map(Vec::len), Some(3), "canary, two, two: {rollback}");
    assert_equal("fleet rollback", &bed, &before);
    let log = bed.coordinator.as_ref().expect("it runs").log();
    let logged = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        logged(&["checkpoint begun", "operator/alice"]) && logged(&["checkpoint ended", "COMPLETE"]),
        "{log}"
    );
    let name = rollback["name"].as_str().and_then(|name| name.split('/').next_back()).expect("a name");
    assert!(logged(&["rollback begun", name, "operator/alice"]), "{log}");
    assert!(logged(&["rollback ended", name, "operator/alice", "SUCCEEDED"]), "{log}");
    for (_, host) in hosts_of(&rollback) {
        assert!(host["steps"].as_u64().is_some_and(|steps| steps > 0), "{host}");
        assert!(!host["backup"].as_str().unwrap_or_default().is_empty(), "{host}");
    }
    bed.await_connected(5);

    let undone = bed.rfs(["rollback", "undo", "latest", "--yes", "--no-wait"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    // The backups are of a broken release: the undo waits at its first gate, and a person says that this is what they want.
    for _ in 0..3 {
        let promoted = bed.rfs(["rollback", "promote", "latest"]);
        if promoted.code != 0 {
            break;
        }
        rfs_tests::wait::until("the next wave has started or it is over", || {
            let rollback = bed.rollback();
            let moving = hosts_of(&rollback).iter().any(|(_, host)| host["state"] == "APPLYING");
            (!moving).then_some(())
        });
    }
    let rollback = bed.await_rollback("FINISHED");
    assert_equal("fleet undo", &bed, &broken);
    // Every host is where it was to go, and answers 503: the outcome says so.
    assert_eq!(rollback["outcome"], "PARTIAL", "{rollback}");
    let cause = rollback["cause"]["message"].as_str().unwrap_or_default();
    assert!(cause.contains("at its target, health bad") && cause.contains("503"), "{rollback}");
}

#[test]
fn a_wave_that_stays_unhealthy_does_what_the_policy_says_and_later_waves_are_not_touched() {
    let bed = Bed::started(5);
    // The checkpoint itself is of a broken state, so that whoever goes back to it stays unhealthy.
    for host in &bed.hosts {
        host.deploy("v1", "broken at the checkpoint");
    }
    bed.checkpoint();
    deploy_to_all(&bed, "v2", "ok");
    bed.await_connected(5);
    let after_deploy = keep(&bed);
    let untouched = |rollback: &Value| {
        for (wave, state) in states(rollback) {
            assert_eq!(wave > 1, state.contains("UNTOUCHED"), "wave {wave}: {state}: {rollback}");
        }
    };
    let short = ["--healthy-deadline", "1s"];

    // Pause: a person is needed, and until then nothing moves.
    let said = bed.rfs(
        [
            "rollback",
            "start",
            "--checkpoint",
            "latest",
            "--canary",
            "web-1",
            "--wave",
            "2",
            "--yes",
            "--no-wait",
        ]
        .iter()
        .chain(&["--min-healthy", "300ms"])
        .chain(&short),
    );
    assert_eq!(said.code, 0, "{said:?}");
    let rollback = bed.await_rollback("PAUSED");
    assert_eq!(rollback["cause"]["reason"], "UNHEALTHY", "{rollback}");
    untouched(&rollback);
    for (host, kept) in bed.hosts.iter().zip(&after_deploy).skip(1) {
        assert_eq!(tree::listing(kept), tree::listing(&host.site_files()), "{} was touched", host.name);
    }
    assert_eq!(bed.rfs(["rollback", "abort", "latest"]).code, 0);
    let rollback = bed.await_rollback("FINISHED");
    assert_eq!(rollback["outcome"], "ABORTED", "{rollback}");
    untouched(&rollback);

    // Revert: the canary is back at what the deploy had made of it.
    bed.hosts[0].deploy("v2", "ok");
    let _ = fs::remove_file(bed.hosts[0].site_files().join("assets/v1.css"));
    bed.await_connected(5);
    let after_deploy = keep(&bed);
    let said = bed.rfs(
        ["rollback", "start", "--checkpoint", "latest", "--canary", "web-1", "--wave", "2", "--yes"]
            .iter()
            .chain(&["--min-healthy", "300ms", "--on-failure", "revert"])
            .chain(&short),
    );
    assert_eq!(said.code, 1, "{said:?}");
    let rollback = bed.rollback();
    assert_eq!(rollback["outcome"], "REVERTED", "{rollback}");
    assert_equal("fleet revert", &bed, &after_deploy);

    // Continue: every host goes, each unhealthy, and the outcome does not hide it.
    bed.await_connected(5);
    let said = bed.rfs(
        ["rollback", "start", "--checkpoint", "latest", "--canary", "web-1", "--wave", "2", "--yes"]
            .iter()
            .chain(&["--min-healthy", "300ms", "--on-failure", "continue"])
            .chain(&short),
    );
    assert_eq!(said.code, 1, "{said:?}");
    let rollback = bed.rollback();
    assert_eq!(rollback["outcome"], "PARTIAL", "{rollback}");
    assert!(states(&rollback).iter().all(|(_, state)| state.contains("UNHEALTHY")), "{rollback}");
}

#[test]
fn bad_requests_get_one_clear_message_with_the_next_thing_to_do_and_change_nothing() {
    let bed = Bed::started(1);
    bed.checkpoint();
    let check = |arguments: &[&str], code: i32, text: &str| {
        let said = bed.rfs(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.err.contains(text), "{arguments:?} says {:?}, not {text:?}", said.err);
        assert!(said.err.contains("next:") || code == 2, "{arguments:?} does not say what is next: {said:?}");
    };
    let nobody = "0193b5a0-0000-7000-8000-000000000001";
    check(&["checkpoint", "create", "--selector", "role=nobody"], 3, "role=nobody");
    check(&["rollback", "start", "--checkpoint", nobody, "--yes"], 3, nobody);
    let order = ["--order", "role=web,role=db", "--order", "role=db,role=web"];
    check(
        &[&["rollback", "plan", "--checkpoint", "latest"], &order[..]].concat(),
        2,
        "cannot each come before the next",
    );
    check(&["rollback", "start", "--checkpoint", "latest", "--wave", "101%", "--yes"], 2, "101%");
    check(&["rollback", "plan", "--checkpoint", "latest", "--canary", "nobody"], 3, "nobody");
    check(&["rollback", "show", nobody], 3, nobody);
    let listed = bed.rfs(["rollback", "list", "--output", "json"]).json().expect("a list");
    assert_eq!(listed["rollbacks"].as_array().map(Vec::len), Some(0), "nothing was started: {listed}");
}

#[test]
fn a_host_that_is_away_makes_the_checkpoint_incomplete_and_no_target() {
    let mut bed = Bed::started(2);
    let agent = bed.hosts[1].agent.take().expect("it runs");
    agent.kill_9();
    let said = bed.rfs(["checkpoint", "create", "--output", "json", "--timeout", "30s"]);
    assert_eq!(said.code, 1, "{said:?}");
    let checkpoint = said.json().expect("one document");
    assert_eq!(checkpoint["state"], "INCOMPLETE", "{checkpoint}");
    let name = checkpoint["name"].as_str().expect("a name");
    let said = bed.rfs(["rollback", "start", "--checkpoint", name, "--yes"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("web-2"), "it names the missing host: {said:?}");
}

#[test]
fn a_checkpoint_that_is_deleted_leaves_the_hosts_and_the_newest_stays() {
    let bed = Bed::started(2);
    let first = bed.checkpoint();
    for host in &bed.hosts {
        host.deploy("v2", "ok");
    }
    bed.checkpoint();
    let said = bed.rfs(["checkpoint", "delete", &first, "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    for host in &bed.hosts {
        let left = rfs_tests::wait::until("the snapshot leaves the host", || {
            let listed = host.rfs_agent(["snapshots", "list", "--output", "json"]).json()?;
            let snapshots = listed["snapshots"].as_array()?.clone();
            (snapshots.len() == 1).then_some(snapshots)
        });
        assert_eq!(left[0]["kind"], "checkpoint");
        let shown = host.rfs_agent(["snapshots", "delete", left[0]["id"].as_str().unwrap_or_default()]);
        assert_eq!(shown.code, 3, "{shown:?}");
        assert!(shown.err.contains("newest complete checkpoint"), "{shown:?}");
    }
}

#[test]
fn the_same_request_id_gives_the_same_checkpoint() {
    let bed = Bed::started(1);
    let take = |reason: &str| {
        bed.rfs(["checkpoint", "create", "--request-id", "deploy-7", "--reason", reason, "--output", "json"])
    };
    let (first, second) = (take("before"), take("before"));
    assert_eq!((first.code, second.code), (0, 0), "{second:?}");
    let name = |said: &rfs_tests::bed::Said| said.json().expect("one document")["name"].clone();
    assert_eq!(name(&first), name(&second));
    let other = take("something else");
    assert_eq!(other.code, 3, "{other:?}");
}
