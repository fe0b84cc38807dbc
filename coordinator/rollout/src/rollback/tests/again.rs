//! Hosts that are left out, tried again, or brought back by an undo.

use std::collections::BTreeMap;

use super::super::{Outcome, WaveState};
use super::play::{Play, check, host, snapshot};
use crate::plan::WaveIndex;
use crate::request::Choices;

#[test]
fn a_skipped_host_is_brought_in_line_when_it_is_back() {
    check("a! b unreachable=skip; wait 20", "a skipped, b applying | running");
    check("a! b unreachable=skip; wait 20; on a", "a applying, b applying | running");
    check(
        "a! b unreachable=skip; wait 20; ok b; wait 10",
        "a skipped, b passed | PARTIAL: 1 of 2 hosts: a: left out",
    );
    check(
        "a! b unreachable=skip; wait 20; ok b; wait 10; on a",
        "a applying, b passed | PARTIAL: 1 of 2 hosts: a: left out",
    );
    check(
        "a! b unreachable=skip; wait 20; ok b; wait 10; on a; ok a",
        "a applied, b passed | PARTIAL: 1 of 2 hosts: a: left out",
    );
    check(
        "a! b unreachable=skip; wait 20; ok b; wait 10; taken a; on a",
        "a superseded, b passed | PARTIAL: 1 of 2 hosts: a: left out",
    );
    check(
        "a! b unreachable=skip; wait 20; ok b; wait 10; forgotten a; on a",
        "a superseded, b passed | PARTIAL: 1 of 2 hosts: a: left out",
    );
    check(
        "a! b unreachable=skip; wait 20; abort; stopped b; on a",
        "a untouched, b unchanged | ABORTED: aborted by bob",
    );
}

#[test]
fn once_a_rollback_is_undone_no_host_comes_in_line_with_it() {
    let over = "a! b unreachable=skip; wait 20; ok b; wait 10";
    check(&format!("{over}; undo; on a"), "a superseded, b passed | PARTIAL: 1 of 2 hosts: a: left out");
    // It is not undone under the hands of a host that is at work, nor while it runs.
    check(&format!("{over}; on a; undo"), "a applying, b passed | PARTIAL: 1 of 2 hosts: a: left out");
    check(&format!("{over}; on a; ok a; undo"), "a applied, b passed | PARTIAL: 1 of 2 hosts: a: left out");
    check("a! b unreachable=skip; wait 20; undo; on a", "a applying, b applying | running");
}

#[test]
fn an_undo_of_some_hosts_withdraws_only_those() {
    let left = "a b! c! sizes=3 unreachable=skip; wait 20; ok a; wait 10";
    let partial = "PARTIAL: 2 of 3 hosts: b: left out; c: left out";
    check(&format!("{left}; undo b"), &format!("a passed, b superseded, c skipped | {partial}"));
    check(&format!("{left}; undo b; on b c"), &format!("a passed, b superseded, c applying | {partial}"));
    check(&format!("{left}; undo"), &format!("a passed, b superseded, c superseded | {partial}"));
}

#[test]
fn a_host_that_refuses_a_loss_is_told_what_was_accepted_for_it() {
    let paused = "a b; declines a; wait 5";
    let why =
        "paused: wave 1: 1 host refused a loss that was not accepted, and 0 may fail: a: would lose rows";
    check(paused, &format!("a unchanged, b untouched | {why}"));
    check(&format!("{paused}; retry; declines a"), &format!("a unchanged, b untouched | {why}"));
    let accepted = Play::run(&format!("{paused}; accept a"));
    let rows = |choices: Choices| choices.accept_loss.into_iter().eq(["rows".to_owned()]);
    assert!(accepted.decided("a").is_some_and(rows), "it is told");
    let next = Play::run(&format!("{paused}; accept a; ok a; wait 10"));
    assert_eq!(next.decided("b"), Some(Choices::default()), "it holds for that host alone");
    let again = Play::run(&format!("{paused}; accept a; declines a; retry"));
    assert_eq!(again.decided("a"), Some(Choices::default()), "and for that attempt alone");
    let back = "a b c sizes=1,2 failure=revert max-failed=1; declines a; wait 5; accept a; ok a; wait 10; back b; back c";
    let back = Play::run(back);
    assert!(back.decided("a").is_some_and(rows), "the way back has what was accepted");
    let kept = |choices: Choices| choices.keep.into_iter().eq(["up".to_owned()]);
    let again = Play::run(&format!("{paused}; keeps a; back a; retry"));
    assert!(again.decided("a").is_some_and(kept), "what was kept does not go with the next attempt");
    let both = Play::run(&format!("{paused}; keeps a; back a; accept a"));
    let both = both.decided("a").expect("it is told");
    assert!(both.keep.contains("up") && both.accept_loss.contains("rows"), "also where more is decided");
    check(&format!("{paused}; keeps a; back a; accept a; accept a"), "a applying, b untouched | running");
    // Nobody is told that it is decided, where the attempt goes on as it was decided before.
    check(
        &format!("{paused}; accept a; keeps a"),
        "a applying, b untouched | running (cannot retry a: it is already being tried again, by what was decided then; decide anew once that has ended, or abort it)",
    );
    check(&format!("{paused}; accept a; accept a"), "a applying, b untouched | running");
}

#[test]
fn what_an_attempt_removed_stays_known_until_it_is_back() {
    let removed = |script: &str| {
        let play = Play::run(script);
        let host = &play.rollback().hosts[&host("a")];
        host.removed.iter().map(|removed| removed.lost.first.join(" ")).collect::<Vec<_>>()
    };
    let ill = "a b; loses a; bad a; wait 60";
    assert!(removed(ill).is_empty(), "it is in the host's last report");
    assert_eq!(removed(&format!("{ill}; retry")), ["rows-1"]);
    assert_eq!(removed(&format!("{ill}; retry; good a; ok a; wait 10")), ["rows-1"], "and it passes");
    let back = "a b c sizes=1,2 failure=revert max-failed=1; loses a; bad a; wait 60; retry a; good a; loses a; wait 10; back b; back c";
    check(
        back,
        "a reverting, b unchanged, c unchanged | going back: wave 2: 2 hosts failed, 1 is allowed to: b: start failed; c: start failed",
    );
    assert_eq!(removed(back), ["rows-1"]);
    assert_eq!(removed(&format!("{back}; undone a")), ["rows-2"], "the first backup does not have it");
    assert_eq!(removed(&format!("{back}; stuck a")), ["rows-1", "rows-2"], "nothing is back");
    let other = "a b; known a; loses a; other a";
    assert!(removed(other).is_empty(), "another machine cannot bring it back");
    assert_eq!(removed(&format!("{other}; known a")), ["rows-1"], "that one can");
}

#[test]
fn hosts_that_failed_are_tried_again_inside_the_same_rollback() {
    let paused = "a b; back a; wait 5";
    check(&format!("{paused}; resume"), "a unchanged, b applying | running");
    check(&format!("{paused}; retry"), "a applying, b untouched | running");
    check(&format!("{paused}; retry; ok a; wait 10"), "a passed, b applying | running");
    check(&format!("{paused}; retry; ok a; wait 10; ok b; wait 10"), "a passed, b passed | SUCCEEDED");
    check(
        &format!("{paused}; retry; back a"),
        "a unchanged, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: start failed",
    );
    // An answer to the first attempt says nothing of the second.
    check("a b; wait 360; off a; wait 1; on a; retry; stale a", "a applying, b untouched | running");
    // One that may have obeyed says first what came of that: with it comes the way back.
    check("a b; wait 360; retry", "a again, b untouched | running");
    check("a b; wait 360; retry; ok a; wait 10", "a passed, b applying | running");
    check("a b; wait 360; retry; back a", "a applying, b untouched | running");
    check(
        "a b; wait 360; retry; torn a",
        "a INCONSISTENT, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: disk gone",
    );
    check(
        "a b; wait 360; retry; wait 60",
        "a lost, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: it is connected, and does not say what became of its last attempt",
    );
    // One that is at neither state is not taken for one that is as it was.
    check("a b; torn a; off a; retry a; abort", "a INCONSISTENT, b untouched | NEEDS_OPERATOR: a: disk gone");
    // An ill host is at its target all the while, and can be brought back to its first backup.
    check(
        "a b; ok a; bad a; wait 60; retry; back a",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: start failed",
    );
    check(
        "a b; ok a; bad a; wait 60; retry; off a; abort; wait 400",
        "a lost, b untouched | ABORTED: aborted by bob",
    );
    check(
        "a b; retry",
        "a applying, b untouched | running (cannot retry: no host of it has failed; hosts at neither state must be named)",
    );
    check(
        "a b; ok a; bad a; wait 60; retry b",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503 (cannot retry b: it has not failed)",
    );
    check(
        "a b failure=continue; back a; ok b; wait 10; retry",
        "a applying, b passed | PARTIAL: 1 of 2 hosts: a: start failed",
    );
    check(
        "a b failure=continue; back a; ok b; wait 10; retry; ok a; wait 10",
        "a passed, b passed | PARTIAL: 1 of 2 hosts: a: start failed",
    );
}

#[test]
fn hosts_that_come_back_after_the_end_are_brought_in_line_a_few_at_a_time_behind_health() {
    let over = "a! b! c! d sizes=2 unreachable=skip; wait 20; ok d; wait 20; on a b c";
    let partial = "d passed | PARTIAL: 3 of 4 hosts: a: left out; b: left out; c: left out";
    check(over, &format!("a applying, b skipped, c skipped, {partial}"));
    check(&format!("{over}; ok a; wait 9"), &format!("a applied, b skipped, c skipped, {partial}"));
    check(&format!("{over}; ok a; wait 10"), &format!("a passed, b applying, c applying, {partial}"));
    check(&format!("{over}; ok a; bad a; wait 60"), &format!("a unhealthy, b skipped, c skipped, {partial}"));
    check(&format!("{over}; back a; wait 600"), &format!("a unchanged, b skipped, c skipped, {partial}"));
    check(
        &format!("{over}; back a; retry a; ok a; wait 10"),
        &format!("a passed, b applying, c applying, {partial}"),
    );
    // Nobody is waited for without end, and a person can call it off.
    check(
        &format!("{over}; back a; wait 90000"),
        &format!("a unchanged, b superseded, c superseded, {partial}"),
    );
    check(
        &format!("{over}; ok a; wait 5; abort"),
        &format!("a applied, b superseded, c superseded, {partial}"),
    );
    check(
        &format!("{over}; abort; stopped a"),
        &format!("a unchanged, b superseded, c superseded, {partial}"),
    );
}

#[test]
fn an_undo_brings_back_the_backups_of_the_hosts_at_the_target() {
    let mut play = Play::begin("a b c sizes=3 failure=continue");
    for step in ["ok a", "back b", "noop c", "wait 60"] {
        play.step(step);
    }
    assert_eq!(play.rollback().backups(), BTreeMap::from([(host("a"), snapshot(2))]));
}

#[test]
fn an_undo_tries_again_what_could_not_go_back() {
    let mut play = Play::begin("a b c sizes=3 failure=revert");
    for step in ["ok a b", "back c", "stuck a", "undone b"] {
        play.step(step);
    }
    assert_eq!(play.rollback().outcome(), Some(Outcome::RevertFailed));
    assert_eq!(play.rollback().backups(), BTreeMap::from([(host("a"), snapshot(2))]));
}

/// Whoever comes in line after the outcome is judged, too: the budget is for the next one once it has passed.
#[test]
fn hosts_that_come_back_after_the_end_do_not_hold_each_other_for_good() {
    let back = "a b c sizes=3 budget=1 unreachable=skip; off b c; ok a; wait 30; on b c; good b c";
    check(back, "a passed, b applying, c skipped | PARTIAL: 2 of 3 hosts: b: left out; c: left out");
    check(
        &format!("{back}; ok b; wait 10"),
        "a passed, b passed, c applying | PARTIAL: 2 of 3 hosts: b: left out; c: left out",
    );
}

#[test]
fn a_host_that_fails_again_after_a_promotion_fails_its_own_wave() {
    let states = |script: &str| {
        let play = Play::run(script);
        let waves = 0..play.rollback().waves.len();
        let state = |wave| play.rollback().wave_state(WaveIndex(u32::try_from(wave).expect("a few")));
        waves.map(state).collect::<Vec<_>>()
    };
    let promoted = "a b c; ok a; wait 10; back b; promote";
    let (passed, failed, changing) = (WaveState::Passed, WaveState::Failed, WaveState::Changing);
    assert_eq!(states(promoted), [passed, failed, changing]);
    let again = format!("{promoted}; retry b");
    assert_eq!(states(&again), [passed, passed, changing]);
    assert_eq!(states(&format!("{again}; back b")), [passed, failed, changing]);
    assert_eq!(states(&format!("{again}; back b; resume")), [passed, failed, changing]);
    assert_eq!(states(&format!("{again}; back b; resume; ok c; wait 10")), [passed, failed, passed]);
    assert_eq!(states(&format!("{again}; back b; retry b; ok b; wait 10")), [passed, passed, changing]);
    // One of an earlier wave that had passed fails the gate of the present one.
    assert_eq!(states("a b; ok a; wait 10; bad a"), [passed, failed]);
}
