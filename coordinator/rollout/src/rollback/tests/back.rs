//! Hosts that go back to their backups.

use super::play::{Play, check, host};

#[test]
fn the_way_back_stops_hosts_at_work_and_asks_lost_ones_where_they_stand() {
    let why = "wave 1: 1 host failed, 0 are allowed to: a: start failed";
    check(
        "a b c sizes=3 failure=revert; ok b; back a",
        &format!("a unchanged, b reverting, c cancelling | going back: {why}"),
    );
    check(
        "a b c sizes=3 failure=revert; ok b; back a; undone b; ok c",
        &format!("a unchanged, b reverted, c reverting | going back: {why}"),
    );
    check(
        "a b c sizes=3 failure=revert; ok b; back a; undone b; stopped c",
        &format!("a unchanged, b reverted, c unchanged | REVERTED: {}", &why[8..]),
    );
    check(
        "a b failure=revert sizes=2; ok b; wait 360",
        "a cancelling, b reverting | going back: wave 1: 1 host failed, 0 are allowed to: a: not heard of past its deadline",
    );
    check(
        "a b failure=revert sizes=2; ok b; wait 360; undone b; ok a; undone a",
        "a reverted, b reverted | REVERTED: 1 host failed, 0 are allowed to: a: not heard of past its deadline",
    );
    // Its connection may be dead by then, and nobody has noticed.
    check(
        "a b failure=revert sizes=2; ok b; wait 360; undone b; wait 379",
        "a cancelling, b reverted | going back: wave 1: 1 host failed, 0 are allowed to: a: not heard of past its deadline",
    );
    check(
        "a b failure=revert sizes=2; ok b; wait 360; undone b; wait 380",
        "a lost, b reverted | REVERT_FAILED: 1 host failed, 0 are allowed to: a: not heard of past its deadline",
    );
}

#[test]
fn the_way_back_runs_against_the_order_and_within_the_budget_of_hosts_at_work() {
    let bad = "ok d; wait 10; ok w; wait 10; ok x; wait 10; bad x";
    let why = "wave 3: 1 host failed, 0 are allowed to: x: unhealthy again after it had passed: 503";
    let script = format!("d:db w:web x:web y:zeb order=db>web>zeb sizes=9 budget=1 failure=revert; {bad}");
    check(&script, &format!("d passed, w passed, x unhealthy, y cancelling | going back: {why}"));
    check(
        &format!("{script}; stopped y"),
        &format!("d passed, w reverting, x unhealthy, y unchanged | going back: {why}"),
    );
    check(
        &format!("{script}; stopped y; undone w; undone x"),
        &format!("d reverting, w reverted, x reverted, y unchanged | going back: {why}"),
    );
}

#[test]
fn a_host_on_which_nothing_had_to_change_needs_no_way_back() {
    check(
        "a b failure=revert; noop a; wait 10; back b",
        "a reverted, b unchanged | REVERTED: 1 host failed, 0 are allowed to: b: start failed",
    );
}

/// The second wave fails; what its host goes back to is as ill as what it was brought to.
const SECOND_FAILS: &str = "ok a; wait 10; ok b; bad b; wait 60";
const CAUSE: &str = "1 host failed, 0 are allowed to: b: unhealthy 60s after its change: 503";

#[test]
fn the_way_back_goes_in_waves_and_looks_at_no_health() {
    let back = format!("a b failure=revert; {SECOND_FAILS}");
    check(&back, &format!("a passed, b reverting | going back: wave 2: {CAUSE}"));
    check(&format!("{back}; wait 300"), &format!("a passed, b reverting | going back: wave 2: {CAUSE}"));
    check(&format!("{back}; undone b"), &format!("a reverting, b reverted | going back: wave 2: {CAUSE}"));
    check(&format!("{back}; undone b a"), &format!("a reverted, b reverted | REVERTED: {CAUSE}"));
    // One that cannot go back holds no other.
    check(&format!("{back}; stuck b"), &format!("a reverting, b stuck | going back: wave 2: {CAUSE}"));
    check(&format!("{back}; wait 360"), &format!("a reverting, b stuck | going back: wave 2: {CAUSE}"));
    // A host of an earlier wave that had not ended its change is stopped at once, and waits for its turn.
    check(
        "a b c sizes=2 healthy=1 failure=revert; ok a; wait 10; bad c; ok c; wait 60; ok b; undone c",
        "a reverting, b reverting, c reverted | going back: wave 2: 1 host failed, 0 are allowed to: c: unhealthy 60s after its change: 503",
    );
}

#[test]
fn the_way_back_waits_for_a_host_that_is_out_of_reach_as_the_policy_says() {
    let gone = |policy: &str| format!("a b failure=revert{policy}; {SECOND_FAILS}; off a; undone b; wait 19");
    let waiting = format!("a doubtful, b reverted | going back: wave 2: {CAUSE}");
    let back = format!("a reverting, b reverted | going back: wave 2: {CAUSE}");
    let failed = format!("a stuck, b reverted | REVERT_FAILED: {CAUSE}");
    for policy in ["", " unreachable=wait", " unreachable=skip"] {
        let gone = gone(policy);
        check(&gone, &waiting);
        check(&format!("{gone}; on a"), &back);
    }
    check(&format!("{}; wait 1", gone("")), &failed);
    check(&format!("{}; wait 86000", gone(" unreachable=wait")), &waiting);
    check(&format!("{}; wait 86000; on a", gone(" unreachable=wait")), &back);
    check(&format!("{}; wait 86381", gone(" unreachable=wait")), &failed);
    // Two machines that speak for a name are a person's task, also where a policy waits.
    let twin = format!("a b failure=revert unreachable=wait; {SECOND_FAILS}; twin a; undone b");
    check(&format!("{twin}; wait 19; on a"), &back);
    check(&format!("{twin}; wait 20"), &failed);
    // A coordinator that was away has not waited, and a person may have taken their time.
    check(&format!("{}; away 600; wait 19", gone("")), &waiting);
    check(&format!("{}; away 600; wait 20", gone("")), &failed);
    let paused = format!("{}; pause; wait 600; resume", gone(""));
    check(&format!("{paused}; wait 19"), &waiting);
    check(&format!("{paused}; wait 20"), &failed);
}

#[test]
fn a_host_that_is_out_of_reach_says_what_it_is_waited_for_and_what_to_do() {
    let mut play = Play::run(&format!("a b failure=revert; {SECOND_FAILS}"));
    let waits = |play: &Play, wave| play.rollback().waits_on_the_way_back(crate::plan::WaveIndex(wave));
    assert_eq!(waits(&play, 1).as_deref(), Some("1 of its hosts to be back as they were"));
    assert_eq!(waits(&play, 0), None);
    for step in ["off a", "undone b"] {
        play.step(step);
    }
    assert_eq!(waits(&play, 0).as_deref(), Some("a, without a connection, until 1970-01-01T00:18:10.000Z"));
    play.step("wait 20");
    let failure = play.rollback().hosts[&host("a")].failure.clone().expect("it has failed");
    assert_eq!(failure.reason, rfs_model::Reason::HostUnreachable);
    assert_eq!(failure.message, "no connection since 1970-01-01T00:17:50.000Z, so it is still at the target");
    let undo = "rfs rollback undo 00000000-0000-0000-0000-000000000000";
    assert!(failure.next.ends_with(undo), "{}", failure.next);
    assert_eq!(play.rollback().backups().len(), 1);
}

#[test]
fn a_host_that_was_left_behind_goes_back_when_it_is_back() {
    let bad = "ok a; wait 10; ok b; wait 10; ok c; bad c; wait 60";
    let cause = "1 host failed, 0 are allowed to: c: unhealthy 60s after its change: 503";
    let behind = format!("a b c failure=revert unreachable=skip; {bad}; off b; undone c; wait 20");
    let runs = format!("going back: wave 3: {cause}");
    check(&behind, &format!("a reverting, b skipped, c reverted | {runs}"));
    check(&format!("{behind}; on b"), &format!("a reverting, b reverting, c reverted | {runs}"));
    check(
        &format!("{behind}; on b; undone b; undone a"),
        &format!("a reverted, b reverted, c reverted | REVERTED: {cause}"),
    );
    check(&format!("{behind}; abort; undone a"), "a reverted, b stuck, c reverted | ABORTED: aborted by bob");
    // After the outcome it is waited for, unless somebody else has it, or it is called off.
    let over = format!("{behind}; undone a");
    let is = |b: &str| format!("a reverted, b {b}, c reverted | REVERT_FAILED: {cause}");
    check(&over, &is("skipped"));
    check(&format!("{over}; on b"), &is("reverting"));
    check(&format!("{over}; on b; undone b"), &is("reverted"));
    check(&format!("{over}; on b; stuck b"), &is("stuck"));
    check(&format!("{over}; taken b; on b"), &is("stuck"));
    check(&format!("{over}; undo; on b"), &is("stuck"));
    check(&format!("{over}; abort; on b"), &is("stuck"));
    check(&format!("{over}; wait 90000; on b"), &is("stuck"));
    assert_eq!(Play::run(&over).rollback().backups().len(), 1);
}

#[test]
fn hosts_that_were_left_behind_go_back_one_first() {
    let behind =
        "a b c d sizes=3 failure=revert unreachable=skip; ok a b c; wait 10; off a b c; back d; wait 20";
    let is = |text: &str| {
        format!("{text}, d unchanged | REVERT_FAILED: 1 host failed, 0 are allowed to: d: start failed")
    };
    check(behind, &is("a skipped, b skipped, c skipped"));
    let back = format!("{behind}; on a b c");
    check(&back, &is("a reverting, b skipped, c skipped"));
    check(&format!("{back}; undone a"), &is("a reverted, b reverting, c reverting"));
    check(&format!("{back}; stuck a"), &is("a stuck, b skipped, c skipped"));
}

#[test]
fn a_lost_host_is_asked_when_it_is_back_and_waited_for_as_the_policy_says() {
    let cause = "1 host failed, 0 are allowed to: b: not heard of past its deadline";
    let lost = "a b failure=revert; ok a; wait 10; off b; wait 360";
    let runs = format!("going back: wave 2: {cause}");
    check(&format!("{lost}; wait 19"), &format!("a passed, b lost | {runs}"));
    check(&format!("{lost}; wait 19; on b"), &format!("a passed, b cancelling | {runs}"));
    check(&format!("{lost}; on b; ok b"), &format!("a passed, b reverting | {runs}"));
    check(&format!("{lost}; on b; stopped b"), &format!("a reverting, b unchanged | {runs}"));
    check(&format!("{lost}; wait 20"), &format!("a reverting, b lost | {runs}"));
    check(&format!("{lost}; wait 20; on b"), &format!("a reverting, b cancelling | {runs}"));
    check(&format!("{lost}; wait 20; undone a"), &format!("a reverted, b lost | REVERT_FAILED: {cause}"));
    let waits = lost.replace("failure=revert", "failure=revert unreachable=wait");
    check(&format!("{waits}; wait 3600"), &format!("a passed, b lost | {runs}"));
    check(&format!("{waits}; wait 86400; undone a"), &format!("a reverted, b lost | REVERT_FAILED: {cause}"));
}

#[test]
fn people_pause_and_abort_the_way_back_and_nothing_is_tried_again_during_it() {
    let back = format!("a b failure=revert; {SECOND_FAILS}");
    check(&format!("{back}; pause; undone b; wait 600"), "a passed, b reverted | paused: by bob");
    check(
        &format!("{back}; pause; undone b; resume"),
        &format!("a reverting, b reverted | going back: wave 2: {CAUSE}"),
    );
    check(&format!("{back}; abort"), "a passed, b reverting | aborting");
    check(&format!("{back}; abort; undone b"), "a passed, b reverted | ABORTED: aborted by bob");
    check(
        &format!("{back}; retry"),
        &format!(
            "a passed, b reverting | going back: wave 2: {CAUSE} (cannot retry while hosts go back to their backups)"
        ),
    );
}

#[test]
fn a_lost_host_that_was_given_up_and_is_as_it_was_is_not_stuck_at_the_target() {
    let cause = "1 host failed, 0 are allowed to: b: not heard of past its deadline";
    let lost = "a b failure=revert; ok a; wait 10; off b; wait 360";
    let runs = format!("a reverting, b unchanged | going back: wave 2: {cause}");
    check(&format!("{lost}; wait 19; on b; stopped b"), &runs);
    check(&format!("{lost}; wait 20; on b; stopped b"), &runs);
    let reverted = format!("a reverted, b unchanged | REVERTED: {cause}");
    check(&format!("{lost}; wait 20; on b; stopped b; undone a"), &reverted);
    let back = format!("{lost}; wait 20; back b; on b; undone a");
    check(&back, &reverted);
    assert!(Play::run(&back).rollback().backups().is_empty());
    let late = format!("{lost}; wait 20; undone a; on b; back b");
    check(&late, &format!("a reverted, b unchanged | REVERT_FAILED: {cause}"));
    assert!(Play::run(&late).rollback().backups().is_empty());
}

#[test]
fn a_host_that_was_at_work_and_out_of_reach_when_the_way_back_began_is_asked_and_waited_for() {
    let cause = "1 host failed, 0 are allowed to: a: start failed";
    let gone = |policy: &str| {
        format!("a b c sizes=3 failure=revert{policy}; ok b; off c; back a; undone b; wait 400")
    };
    let is = |c: &str| format!("a unchanged, b reverted, c {c} | going back: wave 1: {cause}");
    let over = |c: &str| format!("a unchanged, b reverted, c {c} | REVERT_FAILED: {cause}");
    let waits = gone(" unreachable=wait");
    check(&waits, &is("lost"));
    check(&format!("{waits}; on c"), &is("cancelling"));
    check(&format!("{waits}; on c; ok c"), &is("reverting"));
    check(&format!("{waits}; wait 86000"), &over("lost"));
    check(&gone(""), &over("lost"));
    // It was asked, and may not have heard that.
    let asked = format!("{waits}; on c; off c; wait 400");
    check(&asked, &is("lost"));
    check(
        &format!("{asked}; on c; ok c; undone c"),
        &format!("a unchanged, b reverted, c reverted | REVERTED: {cause}"),
    );
    // One that is there and says nothing is not asked without end, nor is one that comes and goes.
    check(&format!("{waits}; on c; wait 379"), &is("cancelling"));
    check(&format!("{waits}; on c; wait 380"), &over("lost"));
    // Its connection was dead before its time was over.
    check(&format!("{waits}; on c; wait 368; off c; wait 20"), &is("lost"));
    check(&format!("{waits}; on c; wait 368; off c; wait 20; on c"), &is("cancelling"));
    let flap = "on c; off c; wait 360; ".repeat(241);
    check(&format!("{waits}; {flap}"), &over("lost"));
}

#[test]
fn a_lost_host_that_was_left_out_goes_back_once_it_says_that_it_is_at_its_target() {
    let cause = "1 host failed, 0 are allowed to: b: not heard of past its deadline";
    let lost = "a b failure=revert unreachable=skip; ok a; wait 10; off b; wait 380; undone a";
    let is = |b: &str| format!("a reverted, b {b} | REVERT_FAILED: {cause}");
    let open = |script: &str| Play::run(script).rollback().open();
    check(lost, &is("lost"));
    assert!(open(lost));
    check(&format!("{lost}; obeyed b; ok b"), &is("reverting"));
    check(&format!("{lost}; obeyed b; ok b; undone b"), &is("reverted"));
    assert!(!open(&format!("{lost}; obeyed b; ok b; undone b")));
    // One that had obeyed nothing when it came back is as it was, and says nothing more.
    check(&format!("{lost}; on b"), &is("unchanged"));
    assert!(!open(&format!("{lost}; on b")));
    check(&format!("{lost}; obeyed b"), &is("lost"));
    check(&format!("{lost}; obeyed b; noop b"), &is("reverted"));
    check(&format!("{lost}; obeyed b; back b"), &is("unchanged"));
    assert!(!open(&format!("{lost}; obeyed b; back b")));
    check(&format!("{lost}; obeyed b; ok b; off b; wait 400; on b"), &is("reverting"));
    // Unless somebody else has it, or it is called off, or it was waited for long enough.
    for end in ["taken b", "undo", "abort", "wait 90000"] {
        let ended = format!("{lost}; {end}");
        check(&ended, &is("lost"));
        assert!(!open(&ended), "{end}");
    }
    let paused = lost.replace(" unreachable=skip", "");
    assert!(!open(&paused));
}

#[test]
fn a_host_that_was_lost_from_sight_while_it_went_back_is_told_again_as_the_policy_says() {
    let gone = |policy: &str| format!("a b failure=revert{policy}; {SECOND_FAILS}; off b; wait 400");
    let runs = |text: &str| format!("{text} | going back: wave 2: {CAUSE}");
    let skips = gone(" unreachable=skip");
    check(&skips, &runs("a reverting, b skipped"));
    check(&format!("{skips}; on b"), &runs("a reverting, b reverting"));
    check(&format!("{skips}; on b; undone b a"), &format!("a reverted, b reverted | REVERTED: {CAUSE}"));
    let over = format!("{skips}; undone a");
    check(&over, &format!("a reverted, b skipped | REVERT_FAILED: {CAUSE}"));
    check(&format!("{over}; on b"), &format!("a reverted, b reverting | REVERT_FAILED: {CAUSE}"));
    check(&format!("{over}; on b; undone b"), &format!("a reverted, b reverted | REVERT_FAILED: {CAUSE}"));
    check(
        &format!("{over}; on b; off b; wait 400"),
        &format!("a reverted, b skipped | REVERT_FAILED: {CAUSE}"),
    );
    check(&format!("{over}; abort"), &format!("a reverted, b stuck | REVERT_FAILED: {CAUSE}"));
    // Its turn is kept.
    let waits = gone(" unreachable=wait");
    check(&waits, &runs("a passed, b skipped"));
    check(&format!("{waits}; on b"), &runs("a passed, b reverting"));
    check(&format!("{waits}; on b; undone b"), &runs("a reverting, b reverted"));
    check(&format!("{waits}; undone b"), &runs("a reverting, b reverted"));
    check(&format!("{waits}; on b; wait 360"), &runs("a reverting, b stuck"));
    check(&format!("{waits}; wait 86000"), &runs("a reverting, b stuck"));
    check(&format!("{waits}; wait 86000; undone b"), &runs("a reverting, b reverted"));
    let fails = gone("");
    check(&fails, &runs("a reverting, b stuck"));
    check(&format!("{fails}; on b; undone b a"), &format!("a reverted, b reverted | REVERTED: {CAUSE}"));
}
