//! Health counts only when it was measured after the change: with the shipped timing of health checks, which is slower than a
//! gate, no host is passed on what was measured of the release before.

use std::time::Duration;

use rfs_tests::bed::{Bed, Layout, Timing, brief, hosts_of, state_of};
use rfs_tests::stories::side_by_side;
use rfs_tests::tree;
use serde_json::Value;

/// How long a host may take to become healthy here; the shipped 300 s would only make the suite longer.
const DEADLINE: &str = "20s";

#[test]
fn health_counts_only_when_it_was_measured_after_the_change() {
    side_by_side(&[
        ("a canary over an ill target never opens its gate", ill_canary),
        ("immediate with a budget of one over an ill target changes one host", ill_immediate),
        ("a target that is well for a moment opens no gate", fading_target),
        ("agents that fall silent before the end pass nobody", silent_agents),
        ("a healthy target is passed without waiting for the usual interval", healthy_target),
        ("an ill target that a person promoted is said in the outcome", promoted_ill_target),
    ]);
}

/// The same, with a checkpoint that answers 503.
fn fleet_with_an_ill_checkpoint(timing: Timing) -> Bed {
    fleet_with_a_checkpoint(timing, "broken at the checkpoint")
}

/// A fleet whose newest checkpoint answers as `health` says, and which is well at a later release, as everybody can see.
fn fleet_with_a_checkpoint(timing: Timing, health: &str) -> Bed {
    let mut bed = Bed::laid_out(&Layout { hosts: 3, timing, ..Layout::default() });
    for host in &bed.hosts {
        host.deploy("v1", health);
    }
    bed.start();
    bed.await_connected_in_any_health(3);
    bed.checkpoint();
    for host in &bed.hosts {
        host.release("v2", "ok");
    }
    bed.await_connected(3);
    bed
}

fn digests(bed: &Bed) -> Vec<String> {
    bed.hosts.iter().map(|host| tree::digest(&host.site_files())).collect()
}

/// The hosts whose trees are no longer what they were.
fn changed(bed: &Bed, before: &[String]) -> Vec<String> {
    let pairs = bed.hosts.iter().zip(before);
    pairs
        .filter(|(host, before)| tree::digest(&host.site_files()) != **before)
        .map(|(host, _)| host.name.clone())
        .collect()
}

fn start(bed: &Bed, how: &[&str]) {
    let usual = ["rollback", "start", "--checkpoint", "latest", "--yes", "--no-wait"];
    let said = bed.rfs(usual.iter().chain(how));
    assert_eq!(said.code, 0, "{said:?}");
}

fn ill_canary() {
    let bed = fleet_with_an_ill_checkpoint(Timing::Shipped);
    let before = digests(&bed);
    start(&bed, &["--canary", "web-1", "--healthy-deadline", DEADLINE]);
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "PAUSED");
    assert_eq!(rollback["cause"]["reason"], "UNHEALTHY", "{}", brief(&rollback));
    assert_eq!(state_of(&rollback, "web-1"), "UNHEALTHY", "{}", brief(&rollback));
    for name in ["web-2", "web-3"] {
        assert_eq!(state_of(&rollback, name), "UNTOUCHED", "{}", brief(&rollback));
    }
    assert_eq!(changed(&bed, &before), ["web-1"], "only the canary was touched: {}", brief(&rollback));
    assert_eq!(bed.rfs(["rollback", "abort", "latest"]).code, 0);
    let rollback = bed.await_rollback("FINISHED");
    assert_eq!(rollback["outcome"], "ABORTED", "{}", brief(&rollback));
}

fn ill_immediate() {
    let bed = fleet_with_an_ill_checkpoint(Timing::Shipped);
    let before = digests(&bed);
    start(&bed, &["--strategy", "immediate", "--budget", "1", "--healthy-deadline", DEADLINE]);
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "PAUSED");
    let touched = |host: &Value| host["state"] != "UNTOUCHED";
    let touched = hosts_of(&rollback).into_iter().filter(|(_, host)| touched(host)).count();
    assert_eq!(touched, 1, "the one that is ill keeps its place in the budget: {}", brief(&rollback));
    assert_eq!(changed(&bed, &before).len(), 1, "{}", brief(&rollback));
}

/// Two measurements a second apart are a verdict, and the next would come after ten.
fn fading_target() {
    let bed = fleet_with_a_checkpoint(Timing::Shipped, "ok for 4");
    let before = digests(&bed);
    start(&bed, &["--strategy", "immediate", "--budget", "1", "--healthy-deadline", DEADLINE]);
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "PAUSED");
    assert_eq!(rollback["cause"]["reason"], "UNHEALTHY", "{}", brief(&rollback));
    assert_eq!(changed(&bed, &before).len(), 1, "{}", brief(&rollback));
}

fn silent_agents() {
    let mut bed = Bed::laid_out(&Layout { hosts: 2, timing: Timing::Shipped, ..Layout::default() });
    bed.start();
    bed.await_connected(2);
    bed.checkpoint();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    start(&bed, &["--strategy", "immediate", "--healthy-deadline", "60s"]);
    for host in ["web-1", "web-2"] {
        bed.await_host_in_rollback(host, &["APPLIED"]);
    }
    bed.hosts.iter().for_each(|host| host.agent.as_ref().expect("it runs").freeze());
    for host in ["web-1", "web-2"] {
        bed.await_host(host, Duration::from_secs(15), "shown as not connected", |host| {
            host["connected"] == false
        });
    }
    // So long they had been "healthy" by then, and nobody had looked.
    let rollback = bed.rollback();
    for host in ["web-1", "web-2"] {
        assert_eq!(state_of(&rollback, host), "APPLIED", "{}", brief(&rollback));
    }
    bed.hosts.iter().for_each(|host| host.agent.as_ref().expect("it runs").thaw());
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
}

fn healthy_target() {
    let mut bed = Bed::laid_out(&Layout { hosts: 2, timing: Timing::Shipped, ..Layout::default() });
    bed.start();
    bed.await_connected(2);
    let target = digests(&bed);
    bed.checkpoint();
    for host in &bed.hosts {
        host.release("v2", "ok");
    }
    start(&bed, &["--canary", "web-1", "--healthy-deadline", DEADLINE]);
    // Two waves of min_healthy each, and little more: the checks are measured every second until they are sure.
    let rollback = bed.await_rollback_within(Duration::from_secs(40), "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(changed(&bed, &target), [""; 0], "{}", brief(&rollback));
}

fn promoted_ill_target() {
    let bed = fleet_with_an_ill_checkpoint(Timing::Quick);
    start(&bed, &["--canary", "web-1", "--wave", "100%", "--min-healthy", "500ms"]);
    for (wave, host) in [("1", "web-1"), ("2", "web-2")] {
        bed.await_host_in_rollback(host, &["APPLIED"]);
        // Nobody has failed yet: the person does not wait for the deadline.
        let said = bed.rfs(["rollback", "promote", "latest", "--wave", wave]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let rollback = bed.await_rollback_within(Duration::from_secs(30), "FINISHED");
    for host in &bed.hosts {
        assert_eq!(host.ask("/healthz").map(|(status, _)| status), Some(503), "{} is ill", host.name);
    }
    assert_ne!(rollback["outcome"], "SUCCEEDED", "every host is ill: {}", brief(&rollback));
    assert_eq!(rollback["cause"]["reason"], "UNHEALTHY", "it says why: {}", brief(&rollback));
}
