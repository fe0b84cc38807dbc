//! Clocks that step change no deadline, and the latest stays the latest.

use std::thread;
use std::time::{Duration, Instant};

use rfs_tests::bed::{Bed, Layout, brief, state_of};
use rfs_tests::machine_clock::HOUR;
use rfs_tests::skip;
use rfs_tests::stories::side_by_side;

#[test]
fn clocks_that_step_change_nothing() {
    side_by_side(&[
        ("a gate stays as long as it is while the coordinator's clock steps", steps_between_gates),
        ("a deadline holds when the clock is set back, also across a restart", step_back_before_a_deadline),
        ("the latest is the one that was taken last", latest),
    ]);
}

/// A bed of machines whose clocks can be set; none, and said, where that cannot be.
fn bed(test: &str, hosts: usize) -> Option<Bed> {
    let mut bed = Bed::laid_out(&Layout { hosts, clocks: true, ..Layout::default() });
    if bed.clock.is_none() {
        skip(test, "libfaketime is not installed (tests/run installs it where it may)");
        return None;
    }
    bed.start();
    bed.await_connected(hosts);
    Some(bed)
}

fn start(bed: &Bed, more: &[&str]) {
    let usual = [
        "rollback",
        "start",
        "--checkpoint",
        "latest",
        "--canary",
        "web-1",
        "--wave",
        "1",
        "--yes",
        "--no-wait",
    ];
    let said = bed.rfs(usual.iter().chain(more));
    assert_eq!(said.code, 0, "{said:?}");
}

fn steps_between_gates() {
    let Some(mut bed) = bed("clocks: gates", 4) else { return };
    bed.checkpoint();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    let gate = Duration::from_secs(5);
    start(&bed, &["--min-healthy", "5s", "--healthy-deadline", "20s"]);
    // The last step comes with a restart.
    let steps = [HOUR, -HOUR, 2 * HOUR];
    for (index, step) in steps.into_iter().enumerate() {
        let (host, next) = (format!("web-{}", index + 1), format!("web-{}", index + 2));
        bed.await_host_in_rollback(&host, &["APPLIED"]);
        let applied = Instant::now();
        bed.set_clock(step);
        if index == 2 {
            bed.kill_coordinator();
            bed.start_coordinator();
        }
        // The machine of the host steps too, the other way.
        bed.hosts[index].clock.as_ref().expect("the layout has clocks").set(-step);
        let rollback = bed.await_host_in_rollback(&next, &["APPLYING", "APPLIED"]);
        let took = applied.elapsed();
        println!("{step:+} s: the gate of {host} took {took:?}");
        assert!(
            took > gate - Duration::from_secs(1),
            "{step:+} s: passed after {took:?}: {}",
            brief(&rollback)
        );
        assert!(
            took < gate + Duration::from_secs(10),
            "{step:+} s: passed after {took:?}: {}",
            brief(&rollback)
        );
    }
    let rollback = bed.await_rollback_within(Duration::from_secs(30), "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    for host in &bed.hosts {
        assert_eq!(host.ask("/").map(|(_, body)| body), Some(format!("<h1>v1 of {}</h1>\n", host.name)));
    }
}

fn step_back_before_a_deadline() {
    let Some(mut bed) = bed("clocks: deadlines", 2) else { return };
    bed.hosts.iter().for_each(|host| host.release("v1", "broken"));
    bed.checkpoint();
    bed.hosts.iter().for_each(|host| host.release("v2", "ok"));
    bed.await_connected(2);
    for restart in [false, true] {
        bed.set_clock(0);
        start(&bed, &["--min-healthy", "1s", "--healthy-deadline", "8s"]);
        bed.await_host_in_rollback("web-1", &["APPLIED"]);
        let applied = Instant::now();
        bed.set_clock(-HOUR);
        if restart {
            bed.kill_coordinator();
            bed.start_coordinator();
        }
        let rollback = bed.await_rollback_within(Duration::from_secs(25), "PAUSED");
        let took = applied.elapsed();
        println!("failed {took:?} after its change");
        assert!(took > Duration::from_secs(6), "too soon, after {took:?}: {}", brief(&rollback));
        assert_eq!(state_of(&rollback, "web-1"), "UNHEALTHY", "{}", brief(&rollback));
        assert_eq!(state_of(&rollback, "web-2"), "UNTOUCHED", "{}", brief(&rollback));
        assert_eq!(bed.rfs(["rollback", "abort", "latest"]).code, 0);
        bed.await_rollback("FINISHED");
        bed.hosts[0].release("v2", "ok");
        bed.await_connected(2);
    }
}

fn latest() {
    let Some(mut bed) = bed("clocks: latest", 1) else { return };
    let mut taken = Vec::new();
    for (step, restart) in [(0, false), (-HOUR, false), (HOUR, false), (-2 * HOUR, true), (0, false)] {
        bed.set_clock(step);
        if restart {
            bed.kill_coordinator();
            bed.start_coordinator();
            bed.await_connected(1);
        }
        bed.hosts[0].release(&format!("v{}", taken.len() + 1), "ok");
        // Ids have milliseconds in them; these shall not decide.
        thread::sleep(Duration::from_millis(20));
        taken.push(bed.checkpoint());
        let shown = bed.show_checkpoint("latest")["name"].clone();
        assert_eq!(
            shown,
            taken.last().map(String::as_str).unwrap_or_default(),
            "after {step:+} s, of {taken:?}"
        );
    }
    let listed = bed.rfs(["checkpoint", "list", "--output", "json"]).json().expect("a list");
    let names: Vec<_> =
        listed["checkpoints"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    assert_eq!(names, taken.iter().rev().collect::<Vec<_>>(), "the newest first");
    // In pages, too, nothing is left out and nothing comes twice.
    let listed = bed.rfs(["checkpoint", "list", "--limit", "2", "--output", "json"]).json().expect("a list");
    let names: Vec<_> =
        listed["checkpoints"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    assert_eq!(names, taken.iter().rev().take(2).collect::<Vec<_>>());

    bed.hosts[0].release("bad", "broken");
    start(&bed, &["--min-healthy", "300ms"]);
    let rollback = bed.await_rollback_within(Duration::from_secs(30), "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(bed.hosts[0].ask("/").map(|(_, body)| body), Some("<h1>v5 of web-1</h1>\n".to_owned()));
    // The same of rollbacks.
    bed.set_clock(-2 * HOUR);
    let undone = bed.rfs(["rollback", "undo", "latest", "--ignore-health", "--yes", "--output", "json"]);
    let latest = bed.rollback();
    assert!(!latest["undo_of"].as_str().unwrap_or_default().is_empty(), "{undone:?}: {}", brief(&latest));
}
