//! A coordinator that was away fails nobody, what it heard before says nothing any more, and a host that is away is seen to be.

use std::thread;
use std::time::{Duration, Instant};

use rfs_tests::bed::{Bed, Layout, Timing, brief, hosts_of, run, state_of};
use rfs_tests::process::Running;
use rfs_tests::relay::Link;
use rfs_tests::stories::side_by_side;
use rfs_tests::{skip, tree};

/// How long a host may take to become healthy here.
const DEADLINE: &str = "15s";
/// Longer than that: how long the coordinator is away.
const AWAY: Duration = Duration::from_secs(18);

#[test]
fn who_was_away_is_not_who_failed() {
    side_by_side(&[
        ("a coordinator that was dead past a deadline fails nobody", dead_coordinator),
        ("a coordinator that was frozen past a deadline fails nobody", frozen_coordinator),
        ("what a frozen coordinator last heard passes nobody", stale_when_thawed),
        ("a host that was well all along is passed in time, however it flaps", flapping_host),
        ("a frozen agent counts as not connected within ten seconds", frozen_agent),
        ("a forced local repair is told at once", repaired_host),
    ]);
}

/// A fleet of healthy hosts, each at a release that is healthy too, with a checkpoint of the release before.
fn fleet(layout: &Layout) -> (Bed, Vec<String>) {
    let mut bed = Bed::laid_out(layout);
    bed.start();
    bed.await_connected(layout.hosts);
    bed.checkpoint();
    let target = bed.hosts.iter().map(|host| tree::digest(&host.site_files())).collect();
    for host in &bed.hosts {
        host.release("v2", "ok");
    }
    (bed, target)
}

fn start(bed: &Bed, more: &[&str]) {
    let usual = ["rollback", "start", "--checkpoint", "latest", "--yes", "--no-wait"];
    // Two waves: the canary, and the rest.
    let waves = ["--canary", "web-1", "--wave", "100%"];
    let said = bed.rfs(usual.iter().chain(&waves).chain(more));
    assert_eq!(said.code, 0, "{said:?}");
}

#[track_caller]
fn assert_success(bed: &Bed, target: &[String], limit: Duration) {
    let rollback = bed.await_rollback_within(limit, "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    for (host, target) in bed.hosts.iter().zip(target) {
        assert_eq!(&tree::digest(&host.site_files()), target, "{} is at its target", host.name);
        assert_eq!(state_of(&rollback, &host.name), "PASSED", "{}", brief(&rollback));
    }
}

/// The shipped timing of health, and the shipped ten seconds of good health.
const SHIPPED: Layout =
    Layout { hosts: 3, timing: Timing::Shipped, relays: false, clocks: false, retention: "" };

fn dead_coordinator() {
    let (mut bed, target) = fleet(&SHIPPED);
    start(&bed, &["--healthy-deadline", DEADLINE]);
    bed.await_host_in_rollback("web-1", &["APPLIED"]);
    bed.kill_coordinator();
    // The deadline passes; that is the point.
    thread::sleep(AWAY);
    bed.start_coordinator();
    assert_success(&bed, &target, Duration::from_secs(60));
}

fn frozen_coordinator() {
    let (bed, target) = fleet(&SHIPPED);
    start(&bed, &["--healthy-deadline", DEADLINE]);
    bed.await_host_in_rollback("web-1", &["APPLIED"]);
    freeze_coordinator(&bed, AWAY);
    assert_success(&bed, &target, Duration::from_secs(60));
}

fn freeze_coordinator(bed: &Bed, time: Duration) {
    let coordinator = bed.coordinator.as_ref().expect("it runs");
    coordinator.freeze();
    thread::sleep(time);
    coordinator.thaw();
}

/// The canary was well when the coordinator last heard of it, and fell ill while nobody listened.
fn stale_when_thawed() {
    let (bed, _) = fleet(&Layout { hosts: 2, ..Layout::default() });
    let before = tree::digest(&bed.hosts[1].site_files());
    start(&bed, &["--min-healthy", "5s", "--healthy-deadline", DEADLINE]);
    let canary = |rollback: &serde_json::Value| {
        let hosts = hosts_of(rollback);
        hosts.iter().any(|(_, host)| host["state"] == "APPLIED" && host["health"] == "GOOD")
    };
    rfs_tests::wait::until("the canary is changed, and well", || canary(&bed.rollback()).then_some(()));
    let coordinator = bed.coordinator.as_ref().expect("it runs");
    coordinator.freeze();
    bed.hosts[0].deploy("v1", "fell ill");
    thread::sleep(Duration::from_secs(8));
    coordinator.thaw();
    let rollback = bed.await_rollback_within(Duration::from_secs(60), "PAUSED");
    assert_eq!(state_of(&rollback, "web-1"), "UNHEALTHY", "{}", brief(&rollback));
    assert_eq!(state_of(&rollback, "web-2"), "UNTOUCHED", "{}", brief(&rollback));
    assert_eq!(tree::digest(&bed.hosts[1].site_files()), before, "{}", brief(&rollback));
}

/// Ten seconds off, nine seconds on: never heard for the ten seconds that it must be well, though its agent measured all along.
fn flapping_host() {
    let (bed, _) = fleet(&Layout { relays: true, ..SHIPPED });
    // It passes while the link is off.
    start(&bed, &["--healthy-deadline", "25s"]);
    bed.await_host_in_rollback("web-1", &["APPLIED"]);
    let applied = Instant::now();
    // Past its deadline, and as long again as an unreachable host is waited for.
    let bound = Duration::from_secs(25 + 20 + 5);
    let relay = bed.hosts[0].relay.as_ref().expect("the layout has relays");
    let judged = 'judged: {
        for (link, time) in [(Link::Cut, 10), (Link::Open, 9)].into_iter().cycle() {
            relay.set(link);
            let until = Instant::now() + Duration::from_secs(time);
            while Instant::now() < until {
                let rollback = bed.rollback();
                if state_of(&rollback, "web-1") != "APPLIED" {
                    break 'judged Some(rollback);
                }
                thread::sleep(Duration::from_millis(200));
            }
            if applied.elapsed() > bound {
                break;
            }
        }
        None
    };
    let judged = judged.unwrap_or_else(|| {
        panic!(
            "the canary is not judged {:?} after its change: {}",
            applied.elapsed(),
            brief(&bed.rollback())
        )
    });
    println!("judged {:?} after its change", applied.elapsed());
    assert_eq!(state_of(&judged, "web-1"), "PASSED", "after {:?}: {}", applied.elapsed(), brief(&judged));
}

fn frozen_agent() {
    let mut bed = Bed::started(2);
    bed.await_connected(2);
    bed.hosts[0].agent.as_ref().expect("it runs").freeze();
    let frozen = Instant::now();
    bed.await_host("web-1", Duration::from_secs(10), "shown as not connected", |host| {
        host["connected"] == false
    });
    println!("not connected {:?} after it was frozen", frozen.elapsed());
    assert_eq!(bed.host("web-2")["connected"], true, "the other one is");
    let said = bed.rfs(["checkpoint", "create", "--output", "json", "--timeout", "10s"]);
    assert_eq!(said.code, 1, "nobody waits for it in vain: {said:?}");
    bed.hosts[0].agent.as_ref().expect("it runs").thaw();
    bed.await_host("web-1", Duration::from_secs(15), "connected again", |host| {
        host["connected"] == true && host["health"] == "GOOD"
    });
    bed.checkpoint();
    assert!(bed.hosts[0].agent.as_mut().is_some_and(Running::is_running), "it is the same process");
}

/// A restore that failed at every step on the way there and back, and an administrator who restores by force.
fn repaired_host() {
    let mut bed = Bed::started(1);
    bed.checkpoint();
    bed.hosts[0].release("v2", "ok");
    bed.hosts[0].agent.take().expect("it runs").stop();
    let host = &bed.hosts[0];
    let listed = host.rfs_agent(["snapshots", "list", "--output", "json"]).json().expect("a list");
    let snapshot = listed["snapshots"][0]["id"].as_str().expect("a snapshot has an id").to_owned();
    let mut broken = host.rfs_agent_command(["restore", &snapshot]);
    let said = run(broken.env("RFS_FAIL_AT", "verifying,flipping_back"));
    if said.code != 5 {
        return skip(
            "absence: a forced local repair",
            "the agent is built without --features rfs-agent/failpoints",
        );
    }
    bed.start_agent(0);
    bed.await_host("web-1", Duration::from_secs(15), "shown as inconsistent", |host| {
        host["connected"] == true && host["inconsistent"] == true
    });
    let said = bed.hosts[0].rfs_agent(["restore", &snapshot, "--force"]);
    assert_eq!(said.code, 0, "{said:?}");
    bed.await_host("web-1", Duration::from_secs(3), "shown as repaired", |host| {
        host["inconsistent"] == false
    });
}
