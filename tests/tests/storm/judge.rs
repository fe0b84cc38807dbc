//! Compares what was said with what is there. Nothing here asks a program of ours how a host stands: trees are digested by
//! `find` and `sha256sum`, and sites answer for themselves.

use std::fmt::Write as _;

use rfs_tests::bed::{Bed, BedHost, brief, hosts_of};
use rfs_tests::tree;
use serde_json::Value;

/// What a host's tree may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sides {
    /// At the checkpoint.
    pub(crate) target: String,
    /// When the rollback began.
    pub(crate) before: String,
}

/// What a person has done to the rollback that makes a claim weaker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words {
    /// A gate was taken as passed.
    pub(crate) promoted: bool,
}

/// The digests of the fleet's trees.
pub(crate) fn digests(bed: &Bed) -> Vec<String> {
    bed.hosts.iter().map(|host| tree::digest(&host.site_files())).collect()
}

/// Whether its site itself says that it is well.
pub(crate) fn is_well(host: &BedHost) -> bool {
    host.ask("/healthz").is_some_and(|(status, _)| status == 200)
}

/// Whether the running service is that of the files beside it, and not one of before.
fn serves_its_files(host: &BedHost) -> bool {
    let index = std::fs::read_to_string(host.site_files().join("index.html")).unwrap_or_default();
    host.ask("/").is_some_and(|(status, body)| status == 200 && body == index)
}

/// Checks the hosts that are said to have passed while the rollback runs: they are at the target and well.
///
/// What is seen is compared only where the same was said before and after the look, since hosts go on meanwhile.
pub(crate) fn check_passed(bed: &Bed, name: &str, sides: &[Sides], words: Words, count: &mut u64) {
    let passed = |rollback: &Value| -> Vec<String> {
        let hosts = hosts_of(rollback).into_iter().filter(|(_, host)| host["state"] == "PASSED");
        hosts.map(|(_, host)| host["host"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let Some(said) = show(bed, name) else { return };
    let names = passed(&said);
    if names.is_empty() {
        return;
    }
    let seen: Vec<_> = bed
        .hosts
        .iter()
        .zip(sides)
        .filter(|(host, _)| names.contains(&host.name))
        .map(|(host, sides)| {
            (&host.name, tree::digest_if_still(&host.site_files()) == sides.target, is_well(host))
        })
        .collect();
    let Some(said_again) = show(bed, name) else { return };
    let still = passed(&said_again);
    for (name, is_at_target, is_well) in seen.into_iter().filter(|(name, ..)| still.contains(name)) {
        assert!(
            is_at_target,
            "{name} is said to have passed, and is not at its target: {}",
            brief(&said_again)
        );
        assert!(
            is_well || words.promoted,
            "{name} is said to have passed, and its site is not well: {}",
            brief(&said_again)
        );
        *count += 1;
    }
}

/// A rollback by name, or `latest`, if the coordinator answers.
pub(crate) fn show(bed: &Bed, name: &str) -> Option<Value> {
    bed.rfs(["rollback", "show", name, "--output", "json"]).json()
}

/// Compares a rollback that is over with the hosts. Returns what was compared, in words.
pub(crate) fn check_end(bed: &Bed, rollback: &Value, sides: &[Sides], words: Words) -> String {
    let outcome = rollback["outcome"].as_str().unwrap_or_default();
    let told = brief(rollback);
    let mut compared = String::new();
    for (host, sides) in bed.hosts.iter().zip(sides) {
        let name = &host.name;
        let found = hosts_of(rollback).into_iter().find(|(_, shown)| shown["host"] == name.as_str());
        let (_, shown) = found.unwrap_or_else(|| panic!("{name} is not in it: {told}"));
        let state = shown["state"].as_str().unwrap_or_default();
        let digest = tree::digest(&host.site_files());
        let (is_at_target, is_as_before) = (digest == sides.target, digest == sides.before);
        assert!(is_at_target || is_as_before, "{name} is between the two: {told}");
        assert!(serves_its_files(host), "{name} serves what is not there: {told}");
        match state {
            "PASSED" => {
                assert!(is_at_target, "{name} is said to have passed, and is not at its target: {told}");
                assert!(is_well(host) || words.promoted, "{name} is said to have passed, and is ill: {told}");
            }
            "APPLIED" | "UNHEALTHY" => assert!(is_at_target, "{name} is said to be at its target: {told}"),
            "UNTOUCHED" | "UNCHANGED" | "REVERTED" => {
                assert!(is_as_before, "{name} is said to be as it was: {told}");
            }
            // It says that it does not know, or that it was left out.
            "SKIPPED" | "SUPERSEDED" | "LOST" | "REVERT_FAILED" => {}
            _ => panic!("{name} cannot end so: {told}"),
        }
        if outcome == "SUCCEEDED" {
            assert!(is_at_target, "it is said to have succeeded, and {name} is not at its target: {told}");
            assert!(is_well(host), "it is said to have succeeded, and {name} is ill: {told}");
        }
        if outcome == "REVERTED" {
            assert!(is_as_before, "it is said to be reverted, and {name} is not as it was: {told}");
        }
        let side = if is_at_target { "target" } else { "before" };
        let _ = write!(compared, " {name}={state}/{side}/{}", if is_well(host) { "well" } else { "ill" });
    }
    compared
}

/// Proves that a checkpoint which is said to be complete is: every host is brought to its part of it by its own administrator,
/// and is then what it was when the checkpoint was taken.
pub(crate) fn check_complete(bed: &Bed, checkpoint: &Value, sides: &[Sides]) {
    for (host, sides) in bed.hosts.iter().zip(sides) {
        let parts = checkpoint["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
        let part = parts.iter().find(|part| part["host"] == host.name.as_str());
        let part = part.unwrap_or_else(|| panic!("{} has no part in {checkpoint}", host.name));
        if tree::digest(&host.site_files()) == sides.target {
            // The rollback has proved it.
            continue;
        }
        let snapshot = part["snapshot"].as_str().unwrap_or_default();
        let said = host.rfs_agent(["restore", snapshot]);
        assert_eq!(said.code, 0, "{}: {said:?}", host.name);
        assert_eq!(
            tree::digest(&host.site_files()),
            sides.target,
            "{}: the checkpoint is said to be complete, and is not what was there: {checkpoint}",
            host.name
        );
    }
}
