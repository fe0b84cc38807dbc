//! Random walks of whole rollbacks over simulated hosts, with crashes, lost, repeated and reordered messages.
//!
//! After every step the invariants of [`oracle`] are asserted. A failing walk prints its seed and its history;
//! `RFS_WALK_SEED=n` replays that one alone, `RFS_LONG=1` walks a hundred times as many.

#[path = "walks/agent.rs"]
mod agent;
#[path = "walks/dice.rs"]
mod dice;
#[path = "walks/oracle.rs"]
mod oracle;
#[path = "walks/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::env;

use rfs_rollout::rollback::Outcome;
use world::{Fault, World};

/// How many walks the suite takes.
const WALKS: u64 = 20_000;

#[test]
fn no_walk_breaks_an_invariant() {
    if let Some(seed) = env::var("RFS_WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let world = World::walk(seed, None);
        println!("{}", world.history());
        return;
    }
    let walks = if env::var_os("RFS_LONG").is_some() { 100 * WALKS } else { WALKS };
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut steps = 0;
    for seed in 0..walks {
        let world = World::walk(seed, None);
        steps += world.steps;
        *outcomes.entry(world.outcome().as_str()).or_default() += 1;
    }
    println!("{walks} walks, {steps} steps: {outcomes:?}");
    // The walks must reach every way in which a rollback can end, or they prove little.
    for outcome in [
        Outcome::Succeeded,
        Outcome::Partial,
        Outcome::Aborted,
        Outcome::Reverted,
        Outcome::RevertFailed,
        Outcome::NeedsOperator,
    ] {
        assert!(outcomes.get(outcome.as_str()).is_some_and(|n| *n > 10), "too few {outcome}: {outcomes:?}");
    }
}

/// A walk in which something is broken on purpose must be caught: the oracle has teeth.
#[track_caller]
fn catches(fault: Fault, invariant: &str) {
    let caught = (0..2_000).find_map(|seed| {
        let walk = std::panic::catch_unwind(|| World::walk(seed, Some(fault)));
        walk.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    });
    let text = caught.unwrap_or_else(|| panic!("{fault:?} is not caught in 2,000 walks"));
    assert!(text.contains(invariant), "{fault:?} is caught as: {text}");
}

#[test]
fn a_host_that_ignores_generations_is_caught() {
    catches(Fault::HostTakesOlderGenerations, "I4");
}

#[test]
fn a_command_that_is_sent_before_its_event_is_stored_is_caught() {
    catches(Fault::SendsBeforeStoring, "I3");
}

#[test]
fn a_host_that_says_target_and_is_not_there_is_caught() {
    catches(Fault::HostLies, "I6");
}

#[test]
fn a_host_that_changes_without_a_backup_is_caught() {
    catches(Fault::HostTakesNoBackup, "I5");
}
