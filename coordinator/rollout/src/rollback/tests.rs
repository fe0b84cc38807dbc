//! What a rollback does in each case.

mod again;
mod back;
mod late;
mod play;

use super::gate::Gate;
use crate::plan::WaveIndex;
use play::{Play, check};

#[test]
fn a_wave_starts_when_the_one_before_has_been_healthy_for_long_enough() {
    check("a b", "a applying, b untouched | running");
    check("a b; ok a", "a applied, b untouched | running");
    check("a b; ok a; wait 9", "a applied, b untouched | running");
    check("a b; ok a; wait 10", "a passed, b applying | running");
    check("a b; ok a; wait 10; ok b; wait 10", "a passed, b passed | SUCCEEDED");
    check("a b c sizes=1,2; ok a; wait 10", "a passed, b applying, c applying | running");
}

#[test]
fn the_healthy_time_begins_anew_with_each_break() {
    check("a b; ok a; bad a; wait 5; good a; wait 9", "a applied, b untouched | running");
    check("a b; ok a; bad a; wait 5; good a; wait 10", "a passed, b applying | running");
    check("a b; ok a; wait 8; dim a; wait 1; good a; wait 9", "a applied, b untouched | running");
}

#[test]
fn unknown_health_holds_the_gate_and_fails_it_only_at_the_deadline() {
    check("a b; ok a; dim a; wait 59", "a applied, b untouched | running");
    check(
        "a b; ok a; dim a; wait 60",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: health unknown 60s after its change: no answer",
    );
    check(
        "a b; ok a; wait 5; off a; wait 100",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: health unknown 60s after its change: no \
         connection",
    );
}

#[test]
fn a_wave_whose_host_stays_unhealthy_does_what_the_policy_says_and_later_waves_are_never_touched() {
    let why = "wave 1: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503";
    check("a b c; ok a; bad a; wait 60", &format!("a unhealthy, b untouched, c untouched | paused: {why}"));
    check("a b c failure=continue; ok a; bad a; wait 60", "a unhealthy, b applying, c untouched | running");
    check(
        "a b c failure=revert; ok a; bad a; wait 60",
        &format!("a reverting, b untouched, c untouched | going back: {why}"),
    );
    check(
        "a b c failure=revert; ok a; bad a; wait 60; undone a",
        &format!("a reverted, b untouched, c untouched | REVERTED: {}", &why[8..]),
    );
    check(
        "a b c failure=revert; ok a; bad a; wait 60; stuck a",
        &format!("a stuck, b untouched, c untouched | REVERT_FAILED: {}", &why[8..]),
    );
    check(
        "a b failure=continue; ok a; bad a; wait 60; ok b; wait 10",
        "a unhealthy, b passed | PARTIAL: 1 of 2 hosts: a: unhealthy 60s after its change: 503",
    );
}

#[test]
fn a_gate_fails_at_once_when_more_hosts_have_failed_than_may() {
    check(
        "a b c d sizes=3 max-failed=1; back a",
        "a unchanged, b applying, c applying, d untouched | running",
    );
    check(
        "a b c d sizes=3 max-failed=1; back a; back b",
        "a unchanged, b unchanged, c applying, d untouched | paused: wave 1: 2 hosts failed, 1 is allowed to: a: start failed; b: start \
         failed",
    );
    check(
        "a b c d sizes=3 max-failed=1; back a; ok b c; wait 10",
        "a unchanged, b passed, c passed, d applying | running",
    );
}

#[test]
fn enough_healthy_hosts_open_a_gate_and_too_few_shut_it() {
    check(
        "a b c d sizes=3 healthy=60%; ok a b; wait 10",
        "a passed, b passed, c applying, d applying | running",
    );
    check(
        "a b c d sizes=3 healthy=3 max-failed=3; back a",
        "a unchanged, b applying, c applying, d untouched | paused: wave 1: 2 can become healthy and 3 must: a: start failed",
    );
    check(
        "a b c d sizes=3 healthy=3 max-failed=3 failure=continue; back a; ok b c; wait 10",
        "a unchanged, b passed, c passed, d applying | running",
    );
}

#[test]
fn hosts_of_earlier_waves_keep_counting() {
    check(
        "a b c; ok a; wait 10; bad a",
        "a unhealthy, b applying, c untouched | paused: wave 2: 1 host failed, 0 are allowed to: a: unhealthy again after it had \
         passed: 503",
    );
    check("a b c; ok a; wait 10; dim a; ok b; wait 10", "a doubtful, b passed, c untouched | running");
    check("a b c; ok a; wait 10; dim a; ok b; wait 10; good a", "a passed, b passed, c applying | running");
    check(
        "a b c; ok a; wait 10; dim a; wait 60",
        "a unhealthy, b applying, c untouched | paused: wave 2: 1 host failed, 0 are allowed to: a: health unknown since \
         1970-01-01T00:16:50.000Z: no answer",
    );
}

#[test]
fn people_pause_resume_promote_and_abort() {
    check("a b; pause; ok a; wait 30", "a passed, b untouched | paused: by bob");
    check("a b; pause; ok a; wait 30; resume", "a passed, b applying | running");
    check(
        "a b; pause; back a; resume",
        "a unchanged, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: start failed",
    );
    check("a b; back a; resume; wait 1", "a unchanged, b applying | running");
    check("a b; ok a; bad a; promote", "a applied, b applying | running");
    check("a b; promote", "a applying, b untouched | running");
    check("a b; promote; ok a", "a applied, b applying | running");
    check(
        "a; ok a; dim a; promote",
        "a applied | PARTIAL: 1 of 1 hosts: a: at its target, health unknown: no answer",
    );
    check("a b; back a; promote", "a unchanged, b applying | running");
    check("a b c sizes=2; ok a; abort", "a applied, b cancelling, c untouched | aborting");
    check(
        "a b c sizes=2; ok a; abort; stopped b",
        "a applied, b unchanged, c untouched | ABORTED: aborted by bob",
    );
    check("a b; ok a; wait 10; abort; ok b", "a passed, b applied | ABORTED: aborted by bob");
    check("a; abort; resume", "a cancelling | aborting (cannot resume while it is being aborted)");
    check("a; ok a; wait 10; pause", "a passed | SUCCEEDED (cannot pause: it is over (SUCCEEDED))");
}

#[test]
fn a_promoted_wave_does_not_stop_the_next_one_for_what_was_seen_when_it_was_promoted() {
    check("a b; ok a; bad a; promote; wait 60", "a unhealthy, b applying | running");
    check(
        "a b; ok a; bad a; promote; wait 60; ok b; wait 10",
        "a unhealthy, b passed | PARTIAL: 1 of 2 hosts: a: unhealthy 60s after its change: 503",
    );
    check("a b c; ok a; wait 10; dim a; ok b; promote; ok c", "a doubtful, b applied, c applied | running");
    check(
        "d:db w:web order=db>web sizes=9; ok d; bad d; promote; ok w; wait 10; wait 60",
        "d unhealthy, w passed | PARTIAL: 1 of 2 hosts: d: unhealthy 60s after its change: 503",
    );
    // What happens later was not seen: one was good, the other came back and left again.
    check(
        "a b; ok a; promote; bad a; wait 60",
        "a unhealthy, b applying | paused: wave 2: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503",
    );
    check(
        "a b; ok a; bad a; promote; good a; wait 10; bad a",
        "a unhealthy, b applying | paused: wave 2: 1 host failed, 0 are allowed to: a: unhealthy again after it had passed: 503",
    );
    check(
        "a b c; ok a; wait 10; dim a; ok b; promote; good a; bad a",
        "a unhealthy, b applied, c applying | paused: wave 3: 1 host failed, 0 are allowed to: a: unhealthy again after it had passed: 503",
    );
}

#[test]
fn a_promotion_that_names_its_wave_does_not_promote_the_next_one() {
    let ill = "a b c; ok a; bad a; wait 60";
    check(&format!("{ill}; promote 1"), "a unhealthy, b applying, c untouched | running");
    check(&format!("{ill}; promote 1; ok b; promote 1"), "a unhealthy, b applied, c untouched | running");
    check(&format!("{ill}; promote; ok b; promote"), "a unhealthy, b applied, c applying | running");
    check(
        &format!("{ill}; promote 2"),
        "a unhealthy, b untouched, c untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503 \
         (cannot promote wave 2: wave 1 is the present one)",
    );
    check(
        "a b; ok a; wait 10; ok b; promote 1",
        "a passed, b applied | running (cannot promote wave 1: wave 2 is the present one)",
    );
    // A pause that came after it is another matter.
    check(
        &format!("{ill}; promote 1; pause; promote 1"),
        "a unhealthy, b applying, c untouched | paused: by bob",
    );
    check("a b; promote 1; back a; promote 1", "a unchanged, b applying | running");
    check("a; ok a; promote 1; promote 1", "a applied | SUCCEEDED");
    check("a; ok a; wait 10; promote 1", "a passed | SUCCEEDED (cannot promote: it is over (SUCCEEDED))");
}

#[test]
fn the_time_in_which_a_rollback_is_paused_is_not_taken_from_its_hosts() {
    check("a b bound=7200; pause; ok a; wait 9000; resume", "a passed, b applying | running");
    check(
        "a b! bound=7200 unreachable=wait; pause; ok a; wait 9000; resume; wait 7200",
        "a passed, b unchanged | paused: wave 2: 1 host failed, 0 are allowed to: b: not started within 7200s",
    );
}

#[test]
fn a_stop_that_is_not_taken_says_nothing_of_where_the_host_stands() {
    check("a; abort; busy a", "a cancelling | aborting");
    check("a; abort; busy a; ok a", "a applied | ABORTED: aborted by bob");
    check("a; abort; busy a; wait 360", "a lost | ABORTED: aborted by bob");
}

#[test]
fn a_budget_holds_starts_back_but_not_those_of_hosts_that_are_down_anyway() {
    check("a b c sizes=3 budget=1", "a applying, b untouched, c untouched | running");
    check("a b c sizes=3 budget=1; ok a", "a applied, b untouched, c untouched | running");
    check("a b c sizes=3 budget=1; ok a; wait 9", "a applied, b untouched, c untouched | running");
    check("a b c sizes=3 budget=1; ok a; wait 10", "a passed, b applying, c untouched | running");
    check("a b c sizes=3 budget=1; bad a; ok a", "a applied, b untouched, c untouched | running");
    check(
        "a b c sizes=3 budget=1; bad a; ok a; good a; wait 10",
        "a passed, b applying, c untouched | running",
    );
    // A host that has not been healthy for long enough since its change keeps its place, and so does one in a fleet that is ill.
    check("a b c sizes=3 budget=1; done a", "a applied, b untouched, c untouched | running");
    check("a b c sizes=3 budget=1; bad a b c", "a applying, b untouched, c untouched | running");
    check("a b c sizes=3 budget=1; bad a b c; ok a", "a applied, b untouched, c untouched | running");
    check(
        "a b c sizes=3 budget=1; bad a b c; ok a; good a; wait 10",
        "a passed, b applying, c untouched | running",
    );
    check(
        "a b c sizes=3 budget=1 failure=continue; bad a; ok a; wait 121",
        "a unhealthy, b unchanged, c unchanged | PARTIAL: 3 of 3 hosts: a: unhealthy 60s after its change: 503; b: held by \
         its budget: too many hosts of its group are unavailable; c: held by its budget: too many hosts of its group are \
         unavailable",
    );
}

#[test]
fn a_wave_says_which_hosts_without_a_connection_it_waits_for() {
    let check = |script: &str, expected: Option<&str>| {
        let play = Play::run(script);
        let Some(Gate::Hold(hold)) = play.rollback().present_gate() else {
            panic!("{script}: no gate holds")
        };
        assert_eq!(play.rollback().waits_for_absent(WaveIndex(0), hold).as_deref(), expected, "{script}");
    };
    check("a! b", Some("a, without a connection, until 1970-01-01T00:17:00.000Z"));
    check("a! b! sizes=2", Some("a and 1 more, without a connection, until 1970-01-01T00:17:00.000Z"));
    check(
        "a! b unreachable=wait bound=7200; wait 60",
        Some("a, without a connection, until 1970-01-01T02:16:40.000Z"),
    );
    check("a! b sizes=2", None);
    check("a! b; wait 5; on a", None);
    check("a b; ok a", None);
}

#[test]
fn a_host_that_is_not_reachable_does_what_the_policy_says() {
    check("a! b; wait 19", "a untouched, b untouched | running");
    check("a! b; wait 19; on a; good a", "a applying, b untouched | running");
    check(
        "a! b; wait 20",
        "a unchanged, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: no connection since 1970-01-01T00:16:40.000Z",
    );
    check("a! b unreachable=wait; wait 3600", "a untouched, b untouched | running");
    check("a! b unreachable=wait; wait 3600; on a", "a applying, b untouched | running");
    // The budget is taken by the host that is waited for.
    check("a! b sizes=2 budget=1 unreachable=wait; wait 3600", "a untouched, b untouched | running");
    check(
        "a! b unreachable=wait bound=7200; wait 7200",
        "a unchanged, b unchanged | paused: wave 1: 1 host failed, 0 are allowed to: a: not started within 7200s",
    );
}

#[test]
fn a_host_that_is_not_heard_of_past_its_deadline_is_lost_and_taken_as_it_stands_when_it_is() {
    check("a b; wait 359", "a applying, b untouched | running");
    let lost = "paused: wave 1: 1 host failed, 0 are allowed to: a: not heard of past its deadline";
    check("a b; wait 360", &format!("a lost, b untouched | {lost}"));
    check("a b; off a; wait 360; on a; ok a; wait 1", &format!("a applied, b untouched | {lost}"));
    check(
        "a b; off a; wait 360; on a; ok a; good a; wait 9; resume; wait 1",
        "a passed, b applying | running",
    );
    // It was down while the deadline passed, and brings its answer when it is back.
    check("a b; wait 350; off a; wait 11; on a; wait 5; ok a", "a applied, b untouched | running");
}

/// What was measured before a host's change, or heard before the coordinator was away, says nothing of what is there now.
#[test]
fn health_counts_only_when_it_was_measured_after_the_change() {
    check("a b; done a; wait 59", "a applied, b untouched | running");
    check("a b; done a; outdated a; wait 59", "a applied, b untouched | running");
    check(
        "a b; done a; outdated a; wait 60",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: health unknown 60s after its change: not \
         measured since its change",
    );
    check("a b; done a; outdated a; good a; wait 9", "a applied, b untouched | running");
    check("a b; done a; outdated a; good a; wait 10", "a passed, b applying | running");
    // The reading overtook the report.
    check("a b; fresh a; early a; done a; wait 9", "a applied, b untouched | running");
    check("a b; fresh a; early a; done a; wait 10", "a passed, b applying | running");
    check("a b failure=revert max-failed=1; ok a; bad a; wait 60; ok b", "a unhealthy, b applied | running");
    // A reading from before the coordinator stood still is not what holds now.
    check("a b; ok a; wait 5; away 600", "a applied, b untouched | running");
    check("a b; ok a; wait 5; away 600; wait 19", "a applied, b untouched | running");
}

#[test]
fn a_coordinator_that_was_away_fails_nobody() {
    // Healthy all along, as its agent says: it passes at once.
    check("a b; ok a; away 600; sound a 600", "a passed, b applying | running");
    // Measured only since the coordinator is back: extended once, to long enough after it was heard first.
    check("a b; ok a; away 600; wait 5; good a; wait 9", "a applied, b untouched | running");
    check("a b; ok a; away 600; wait 5; good a; wait 10", "a passed, b applying | running");
    check(
        "a b; ok a; away 600; wait 5; good a; wait 5; dim a; wait 1; good a; wait 4",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: not healthy for long enough 60s after its change",
    );
    check(
        "a b; ok a; away 600; wait 5; bad a",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503",
    );
    check(
        "a b; ok a; away 600; wait 20",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: health unknown 60s after its change: not heard \
         since the coordinator was away",
    );
    // A command that is out, a host that has no connection, hosts that wait for their turn.
    check("a b; away 3600", "a applying, b untouched | running");
    check("a b; away 3600; wait 19; ok a", "a applied, b untouched | running");
    check("a! b; wait 10; away 3600; wait 19", "a untouched, b untouched | running");
    check("a b bound=7200; away 9000; ok a; wait 10", "a passed, b applying | running");
    check("a b; ok a; wait 10; away 600; wait 19; good a", "a passed, b applying | running");
}

/// Nobody has said how it is since the coordinator is back: it may be well.
#[test]
fn a_host_that_was_not_heard_yet_is_not_taken_for_one_that_is_down_anyway() {
    let failed = "a b c sizes=3 budget=1 failure=continue; bad a; ok a; wait 60; away 10";
    check(failed, "a unhealthy, b untouched, c untouched | running");
    check(&format!("{failed}; wait 19"), "a unhealthy, b untouched, c untouched | running");
    check(&format!("{failed}; bad b"), "a unhealthy, b applying, c untouched | running");
    check(&format!("{failed}; good b; wait 30"), "a unhealthy, b untouched, c applying | running");
    // An agent that says nothing of its health, or that it does not know it, is not waited for without end.
    check(&format!("{failed}; wait 20"), "a unhealthy, b applying, c untouched | running");
}

#[test]
fn a_host_that_comes_and_goes_is_judged_soon_after_its_deadline() {
    // 10 s away, 9 s there, and never healthy for long enough.
    let flap = "off a; wait 10; on a; fresh a; wait 9; ".repeat(5);
    let text = "a: health unknown 60s after its change: no connection";
    check(
        &format!("a b; ok a; {flap}"),
        &format!("a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: {text}"),
    );
    // The same host, healthy all along.
    let sound = "off a; wait 10; on a; sound a 30; wait 9; ".repeat(2);
    check(&format!("a b; ok a; wait 1; bad a; good a; {sound}"), "a passed, b applying | running");
    let flap = "off a; wait 10; on a; wait 9; ".repeat(20);
    let lost = "paused: wave 1: 1 host failed, 0 are allowed to: a: not heard of past its deadline";
    check(&format!("a b; {flap}"), &format!("a lost, b untouched | {lost}"));
}

#[test]
fn a_name_that_two_machines_speak_for_fails_where_it_takes_part() {
    let conflict = "paused: wave 1: 1 host failed, 0 are allowed to: a: two machines speak for it";
    check("a! b; twin a", &format!("a unchanged, b untouched | {conflict}"));
    check("b a; twin b", "a applying, b untouched | running");
    check("a b; twin a; wait 360", &format!("a lost, b untouched | {conflict}"));
    check("a b; ok a; twin a; wait 60", &format!("a unhealthy, b untouched | {conflict}"));
    // Also where nobody looks at health.
    check("a b ignore-health; ok a; twin a; ok b", "a doubtful, b passed | running");
    check(
        "a b ignore-health; ok a; twin a; ok b; wait 60",
        "a unhealthy, b passed | paused: wave 2: 1 host failed, 0 are allowed to: a: two machines speak for it",
    );
    check("a b ignore-health; ok a; twin a; ok b; on a", "a passed, b passed | SUCCEEDED");
    // A person said which one it is, in time.
    check("a b; ok a; twin a; wait 30; on a; good a; wait 10", "a passed, b applying | running");
}

#[test]
fn another_machine_under_a_name_is_not_where_the_old_one_was() {
    let other = "a: another machine speaks for it now (instance 00000000-0000-0000-0000-000000000009); where that stands is \
                 not known";
    let paused = |wave| format!("paused: wave {wave}: 1 host failed, 0 are allowed to: {other}");
    check("a b; known a; ok a; other a", &format!("a lost, b untouched | {}", paused(1)));
    check("a b; known a; ok a; wait 10; other a", &format!("a lost, b applying | {}", paused(2)));
    check("a b; known a; other a; ok a", "a applied, b untouched | running");
    // It counts its restores anew, and holds no budget once it is known to be healthy.
    check("a b sizes=2 budget=1; known a; ok a; other a; resume; anew a", "a lost, b applying | running");
    // What the other one answered says nothing of the one that was told to change.
    check(
        "a b failure=revert; known a; abort; stopped a; other a",
        "a lost, b untouched | ABORTED: aborted by bob",
    );
    check(
        "a b sizes=2 failure=revert; back b; stopped a; twin a",
        "a unchanged, b unchanged | REVERTED: 1 host failed, 0 are allowed to: b: start failed",
    );
    check(
        "a b c sizes=3 failure=revert; back b; stopped a; twin a; stopped c",
        "a unchanged, b unchanged, c unchanged | REVERT_FAILED: 1 host failed, 0 are allowed to: b: start failed",
    );
    check(
        "a b failure=revert; known a; ok a; wait 10; other a; stopped b",
        &format!("a lost, b unchanged | REVERT_FAILED: 1 host failed, 0 are allowed to: {other}"),
    );
}

#[test]
fn a_store_that_was_put_back_pauses_what_runs_and_old_answers_do_not_count() {
    check("a b; rewound", "a applying, b untouched | paused: the store was put back");
    check("a b; pause; rewound", "a applying, b untouched | paused: the store was put back");
    check("a b; rewound; ok a; wait 10; resume", "a passed, b applying | running");
    let ahead = |obeyed: &str| {
        format!("has obeyed generation {obeyed}: the coordinator's store was put back to an older copy")
    };
    let of_a = format!("a {}", ahead("57, and the last one that this rollback gave is 40"));
    check("a b; ok a; ahead a", &format!("a lost, b untouched | paused: {of_a}"));
    check("a b; history a", &format!("a lost, b untouched | paused: {of_a}"));
    check("a b; history a; ok a", &format!("a applied, b untouched | paused: {of_a}"));
    // They may have been this rollback's own, in a history that is lost.
    let of_b = format!("b {}", ahead("40, and the last one that this rollback gave is 39"));
    check("a b; ok b", &format!("a applying, b lost | paused: {of_b}"));
    let of_a = format!("a {}", ahead("42, and the last one that this rollback gave is 40"));
    check("a b; undone a", &format!("a lost, b untouched | paused: {of_a}"));
    // One that is tried again has generations of its own, and may have obeyed newer ones than these, too.
    let of_b = format!("b {}", ahead("57, and the last one that this rollback gave is 47"));
    let waits = "a b sizes=2 budget=1; ahead b; retry b";
    check(waits, "a applying, b untouched | running");
    check(&format!("{waits}; ahead b"), &format!("a applying, b lost | paused: {of_b}"));
    check("a b; ok a; wait 10; ok b; wait 10; ahead a", "a passed, b passed | SUCCEEDED");
}

#[test]
fn canaries_that_were_all_left_out_hold_the_gate() {
    check("canary=1 a! b unreachable=skip; wait 3600", "a skipped, b untouched | running");
    check("canary=1 a! b unreachable=skip; wait 3600; on a; ok a; wait 10", "a passed, b applying | running");
    check("canary=1 a! b unreachable=skip; wait 3600; promote", "a skipped, b applying | running");
    // It does not hold for ever.
    check(
        "canary=1 a! b unreachable=skip bound=7200; wait 7200",
        "a unchanged, b unchanged | paused: wave 1: 1 host failed, 0 are allowed to: a: not started within 7200s",
    );
    check("canary=1 a! unreachable=skip; wait 20", "a skipped | PARTIAL: 1 of 1 hosts: a: left out");
}

#[test]
fn only_a_whole_rollback_whose_every_gate_was_watched_proves_its_checkpoint() {
    let proves = |script: &str| Play::run(script).rollback().proves().is_some();
    assert!(proves("a b; ok a; wait 10; ok b; wait 10"));
    assert!(!proves("a b; ok a; wait 10; ok b"), "not over");
    assert!(!proves("a b; ok a; wait 10; ok b; promote"), "promoted");
    assert!(!proves("a b; ok a; promote; wait 10; ok b; wait 10"), "promoted earlier");
    assert!(!proves("a b ignore-health; ok a; ok b"), "nobody looked");
    assert!(!proves("a b failure=continue; bad a; ok a; wait 60; ok b; wait 10"), "one is ill");
}

#[test]
fn a_pause_has_a_bound() {
    check("a b; pause; ok a; wait 86399", "a passed, b untouched | paused: by bob");
    check(
        "a b; pause; ok a; wait 86400",
        "a passed, b untouched | NEEDS_OPERATOR: paused for 24 hours: by bob",
    );
    check(
        "a b; back a; wait 86405",
        "a unchanged, b untouched | NEEDS_OPERATOR: paused for 24 hours: wave 1: 1 host failed, 0 are allowed to: a: start failed",
    );
}

#[test]
fn a_host_at_neither_state_makes_the_outcome_a_persons_task() {
    check(
        "a b; torn a",
        "a INCONSISTENT, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: disk gone",
    );
    check("a b; torn a; abort", "a INCONSISTENT, b untouched | NEEDS_OPERATOR: a: disk gone");
    check(
        "a b failure=continue; torn a; ok b; wait 10",
        "a INCONSISTENT, b passed | NEEDS_OPERATOR: a: disk gone",
    );
    check("a b failure=revert; torn a", "a INCONSISTENT, b untouched | NEEDS_OPERATOR: a: disk gone");
}

#[test]
fn a_host_that_refuses_is_as_it_was_unless_it_says_that_it_is_at_neither_state() {
    check(
        "a b; refuses a",
        "a unchanged, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: too old",
    );
    check(
        "a b failure=continue; held a; ok b; wait 10",
        "a INCONSISTENT, b passed | NEEDS_OPERATOR: a: holds still",
    );
}

#[test]
fn later_order_groups_wait_until_the_earlier_ones_are_done() {
    check(
        "d:db e:db w:web order=db>web sizes=2 healthy=50%; ok d; wait 10",
        "d passed, e applying, w untouched | running",
    );
    check(
        "d:db e:db w:web order=db>web sizes=2 healthy=50%; ok d e; wait 10",
        "d passed, e passed, w applying | running",
    );
}

#[test]
fn reports_that_are_outdated_or_not_awaited_change_nothing() {
    check("a b; stale a", "a applying, b untouched | running");
    check("a b; ok a; back a", "a applied, b untouched | running");
    check(
        "a b c sizes=2; abort; stopped a; ok a; stopped b",
        "a applied, b unchanged, c untouched | ABORTED: aborted by bob",
    );
}

#[test]
fn without_health_a_host_passes_when_it_says_that_it_is_at_the_target() {
    check("a b ignore-health; bad a; ok a", "a passed, b applying | running");
    check(
        "a b ignore-health; bad a; ok a; back b",
        "a passed, b unchanged | paused: wave 2: 1 host failed, 0 are allowed to: b: start failed",
    );
}

/// With the shipped interval of 10 s, ten seconds of a good verdict can rest on two measurements in the first of them.
#[test]
fn a_host_passes_once_it_was_measured_good_after_it_had_been_good_for_long_enough() {
    check("a b; ok a; blind a; wait 15", "a applied, b untouched | running");
    check("a b; ok a; blind a; wait 15; seen a; wait 1", "a passed, b applying | running");
    check(
        "a b; ok a; blind a; wait 15; bad a; wait 45",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: unhealthy 60s after its change: 503",
    );
    check("a b; ok a; blind a; wait 119", "a applied, b untouched | running");
    check(
        "a b; ok a; blind a; wait 120",
        "a unhealthy, b untouched | paused: wave 1: 1 host failed, 0 are allowed to: a: not measured for long after 1970-01-01T00:16:50.000Z, when it had been healthy for long enough",
    );
}

/// The walk with the seed 252462, and its way back: a coordinator that was away fails nobody, and passes nobody unheard.
#[test]
fn where_health_is_not_looked_at_a_host_that_has_passed_is_given_the_time_to_come_back() {
    let away = "a b ignore-health sizes=2; ok a; pause; off a; away 5";
    check(&format!("{away}; resume; ok b; wait 19"), "a doubtful, b passed | running");
    check(&format!("{away}; resume; ok b; wait 20"), "a passed, b passed | SUCCEEDED");
    check(&format!("{away}; resume; ok b; on a"), "a passed, b passed | SUCCEEDED");
}
