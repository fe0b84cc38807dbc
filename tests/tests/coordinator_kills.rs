//! The coordinator is killed at random moments of rollbacks over ten agents, and nothing is lost or done twice.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rfs_tests::bed::{Bed, hosts_of};
use rfs_tests::dice::Dice;

const HOSTS: usize = 10;

/// How many kills, over as many rollbacks as they need.
fn kills() -> u64 {
    if std::env::var_os("RFS_LONG").is_some() { 500 } else { 50 }
}

#[test]
fn a_coordinator_that_is_killed_at_random_moments_finishes_and_repeats_nothing() {
    let mut bed = Bed::started(HOSTS);
    bed.checkpoint();
    let seed = std::env::var("RFS_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("RFS_KILL_SEED={seed}");
    let mut dice = Dice(seed);

    let quiet = Instant::now();
    roll_back(&mut bed, 0, &mut || None);
    let length = quiet.elapsed();
    let mut done = 0;
    let mut round = 0;
    while done < kills() {
        round += 1;
        // Kills fall over the whole length of a rollback, several in one rollback where they fit.
        let mut left = 1 + dice.below(3);
        let mut random = || {
            left = left.checked_sub(1)?;
            done += 1;
            Some(length.mul_f64(dice.below(1000) as f64 / 1000.0))
        };
        let begun = Instant::now();
        roll_back(&mut bed, round, &mut random);
        println!("rollback {round}: {:?}, {done} kills so far", begun.elapsed());
    }
    println!("{done} kills in {round} rollbacks over {HOSTS} hosts; an undisturbed one took {length:?}");
}

/// Breaks the fleet, starts a rollback, kills the coordinator after each time that `next_kill` gives, and checks the end.
fn roll_back(bed: &mut Bed, round: u64, next_kill: &mut dyn FnMut() -> Option<Duration>) {
    for host in &bed.hosts {
        host.deploy(&format!("bad-{round}"), "broken");
        let _ = fs::remove_file(host.site_files().join("assets/v1.css"));
        assert_eq!((host.site("stop"), host.site("start")), (0, 0));
        host.count_starts_and_stops();
    }
    bed.await_connected_in_any_health(HOSTS);
    let said = bed.rfs([
        "rollback",
        "start",
        "--checkpoint",
        "latest",
        "--canary",
        "web-1",
        "--wave",
        "3",
        "--min-healthy",
        "100ms",
        "--yes",
        "--no-wait",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    while let Some(after) = next_kill() {
        // The random moment is the point here; nothing is awaited.
        thread::sleep(after);
        bed.coordinator.take().expect("it runs").kill_9();
        bed.start_coordinator();
    }
    let rollback = bed.await_rollback("FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{rollback}");
    for host in &bed.hosts {
        let (_, shown) = find(&rollback, &host.name);
        assert_eq!(
            host.count_starts_and_stops(),
            (1, 1),
            "{} was stopped and started more than once",
            host.name
        );
        assert!(host.site_files().join("assets/v1.css").exists(), "{}", host.name);
        assert!(!host.site_files().join(format!("assets/bad-{round}.css")).exists(), "{}", host.name);
        assert_eq!(shown["state"], "PASSED", "{shown}");
    }
}

fn find<'r>(rollback: &'r serde_json::Value, name: &str) -> (u64, &'r serde_json::Value) {
    let found = hosts_of(rollback).into_iter().find(|(_, host)| host["host"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {rollback}"))
}
