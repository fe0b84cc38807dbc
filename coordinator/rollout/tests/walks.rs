//! Random walks of whole rollbacks over simulated hosts, with crashes, lost, repeated and reordered messages, health that lags,
//! coordinators that are away, clones, clocks that step, stores that are put back, and others that share the budgets.
//!
//! After every step the invariants of [`oracle`] are asserted. A failing walk prints its seed and its history;
//! `RFS_WALK_SEED=n` replays that one alone, `RFS_LONG=1` walks a hundred times as many, `RFS_WALKS=n` so many,
//! from `RFS_WALKS_FROM=n` on.

#[path = "walks/agent.rs"]
mod agent;
#[path = "walks/dice.rs"]
mod dice;
#[path = "walks/fault.rs"]
mod fault;
#[path = "walks/hub.rs"]
mod hub;
#[path = "walks/monitor.rs"]
mod monitor;
#[path = "walks/oracle.rs"]
mod oracle;
#[path = "walks/others.rs"]
mod others;
#[path = "walks/request.rs"]
mod request;
#[path = "walks/shell.rs"]
mod shell;
#[path = "walks/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::env;

use fault::Fault;
use rfs_rollout::rollback::Outcome;
use world::World;

/// How many walks the suite takes.
const WALKS: u64 = 20_000;

#[test]
fn no_walk_breaks_an_invariant() {
    if let Some(seed) = env::var("RFS_WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let world = World::walk(seed, None);
        println!("{}", world.history());
        return;
    }
    let walks = env::var("RFS_WALKS").ok().and_then(|walks| walks.parse().ok());
    let walks = walks.unwrap_or(if env::var_os("RFS_LONG").is_some() { 100 * WALKS } else { WALKS });
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut steps = 0;
    let first = env::var("RFS_WALKS_FROM").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    for seed in first..first + walks {
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

/// Found among millions, and few of them among the first 20,000. One that takes another number of steps is another walk: then
/// the walk of the fault is to be found again.
#[test]
fn walks_that_once_broke_an_invariant_break_none() {
    let found = [
        (14_292, 168),
        (97_619, 135),
        (131_792, 160),
        (188_069, 151),
        (252_462, 114),
        (286_231, 144),
        (287_571, 135),
        (455_381, 132),
        (606_601, 123),
        (1_025_641, 141),
        (1_736_658, 87),
    ];
    for (seed, steps) in found {
        assert_eq!(World::walk(seed, None).steps, steps, "seed {seed} is another walk now");
    }
}

/// Walks in which something is broken on purpose: one of them must be caught as the invariant says. The oracle has teeth.
#[track_caller]
fn catches(fault: Fault, invariant: &str) {
    let mut others = BTreeMap::new();
    for seed in 0..20_000 {
        let Err(panic) = std::panic::catch_unwind(|| World::walk(seed, Some(fault))) else { continue };
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        let text = text.lines().next().unwrap_or_default().to_owned();
        if text.contains(&format!(": {invariant}: ")) {
            println!("{fault:?}: {text}");
            return;
        }
        others.insert(seed, text);
    }
    panic!("{fault:?} is not caught as {invariant} in 20,000 walks, but as {others:#?}");
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

#[test]
fn a_host_that_keeps_its_verdict_over_a_change_is_caught() {
    catches(Fault::HostKeepsItsVerdict, "I8");
}

#[test]
fn health_from_before_the_change_is_caught() {
    catches(Fault::OldReadingsCount, "I8");
}

#[test]
fn a_host_that_passes_unmeasured_is_caught() {
    catches(Fault::PassesByTime, "I8");
}

#[test]
fn a_coordinator_that_is_back_and_does_not_say_so_is_caught() {
    catches(Fault::ReturnsWithoutListening, "O12");
}

#[test]
fn readings_from_before_a_standstill_are_caught() {
    catches(Fault::BufferedReadingsCount, "I8");
}

#[test]
fn places_that_others_hold_and_nobody_asks_for_are_caught() {
    catches(Fault::OthersIgnored, "I2");
}

#[test]
fn a_place_that_is_given_before_all_operations_are_read_is_caught() {
    catches(Fault::OthersForgotten, "I2");
}

#[test]
fn silence_that_counts_as_a_connection_is_caught() {
    catches(Fault::SilenceCountsAsConnected, "I2");
}

#[test]
fn a_host_that_comes_and_goes_and_is_never_judged_is_caught() {
    catches(Fault::FlappingExtends, "I7");
}

#[test]
fn a_clone_that_is_served_is_caught() {
    catches(Fault::CloneIsServed, "I6");
}

#[test]
fn another_machine_that_is_taken_for_the_old_one_is_caught() {
    catches(Fault::ReplacedUnnoticed, "I6");
}

#[test]
fn what_an_old_machine_answered_is_caught() {
    catches(Fault::OldMachineCounts, "I6");
}

#[test]
fn a_name_of_two_machines_that_fails_for_another_reason_is_caught() {
    catches(Fault::ContestUnnoticed, "O12");
}

#[test]
fn a_clock_that_steps_into_deadlines_is_caught() {
    catches(Fault::ClockStepsReachDeadlines, "O12");
}

#[test]
fn a_store_that_was_put_back_unnoticed_is_caught() {
    catches(Fault::RewoundUnnoticed, "O12");
}

#[test]
fn an_answer_that_is_history_is_caught() {
    catches(Fault::OldAnswersCount, "O12");
}

#[test]
fn a_command_that_is_sent_before_hosts_were_compared_is_caught() {
    catches(Fault::SendsBeforeComparing, "O12");
}

#[test]
fn a_way_back_without_waves_is_caught() {
    catches(Fault::GoesBackAtOnce, "I3");
}

#[test]
fn an_ill_host_that_was_promoted_and_is_green_is_caught() {
    catches(Fault::PromotedIsGreen, "I8");
}
