//! Answers that come late, to attempts that nobody waits for any more or that another machine made.

use super::play::{Play, check, host};

/// A host that was lost twice stands where it stood before the first of the two.
#[test]
fn a_host_that_is_tried_again_twice_without_an_answer_keeps_its_way_back() {
    let script =
        "a b; ok a; bad a; wait 60; retry a; wait 360; retry a; wait 60; retry a; back a; abort; stopped a";
    check(script, "a unhealthy, b untouched | ABORTED: aborted by bob");
    assert_eq!(Play::run(script).rollback().backups().len(), 1);
}

#[test]
fn a_lost_host_that_is_not_tried_again_after_all_is_taken_as_it_stands_when_it_answers() {
    let lost = "a b sizes=2; ok a; wait 360; retry b";
    let aborted = |b: &str| format!("a passed, b {b} | ABORTED: aborted by bob");
    check(&format!("{lost}; abort"), &aborted("lost"));
    check(&format!("{lost}; abort; back b"), &aborted("unchanged"));
    check(&format!("{lost}; abort; ok b"), &aborted("applied"));
    // It was given the time to answer, and answers when that is over.
    let silent = "a b; wait 360; retry a; wait 60";
    let paused = "paused: wave 1: 1 host failed, 0 are allowed to: a";
    let text = "it is connected, and does not say what became of its last attempt";
    check(silent, &format!("a lost, b untouched | {paused}: {text}"));
    let late = format!("{silent}; back a");
    check(&late, &format!("a unchanged, b untouched | {paused}: {text}"));
}

/// The commands that a host is told to go back with have new generations after the outcome, and no answer to old ones counts.
#[test]
fn a_host_that_may_have_gone_back_is_heard_before_it_is_told_again() {
    let why = "1 host failed, 0 are allowed to: b: unhealthy 60s after its change: 503";
    let over =
        "a b failure=revert unreachable=skip; ok a; wait 10; ok b; bad b; wait 60; off b; wait 400; undone a";
    let is = |b: &str| format!("a reverted, b {b} | REVERT_FAILED: {why}");
    check(over, &is("skipped"));
    check(&format!("{over}; undone b"), &is("reverted"));
    check(&format!("{over}; on b"), &is("reverting"));
    check(&format!("{over}; heard b"), &is("again"));
    check(&format!("{over}; heard b; undone b"), &is("reverted"));
    check(&format!("{over}; heard b; stuck b"), &is("stuck"));
    check(&format!("{over}; heard b; wait 59; undone b"), &is("reverted"));
    check(&format!("{over}; heard b; wait 60"), &is("stuck"));
    check(&format!("{over}; heard b; wait 60; undone b"), &is("reverted"));
    check(&format!("{over}; heard b; off b; on b"), &is("reverting"));
    let failure =
        Play::run(&format!("{over}; heard b; wait 60")).rollback().hosts[&host("b")].failure.clone();
    let text = "it is connected, and does not say whether it has gone back";
    assert_eq!(failure.map(|failure| failure.message).as_deref(), Some(text));
}

/// What it had obeyed when it came back decides whether it is told anew, also after a restart of the coordinator.
#[test]
fn a_host_that_comes_back_after_a_restart_and_was_left_behind_says_what_it_has_obeyed() {
    let why = "1 host failed, 0 are allowed to: b: unhealthy 60s after its change: 503";
    let bad = "a b failure=revert unreachable=skip; ok a; wait 10; ok b; bad b; wait 60";
    let over = format!("{bad}; off b; restart; on a; wait 400; undone a");
    let lost = format!("{bad}; restart; on a; wait 400; undone a");
    let is = |b: &str| format!("a reverted, b {b} | REVERT_FAILED: {why}");
    for script in [over, lost] {
        check(&script, &is("skipped"));
        check(&format!("{script}; on b"), &is("reverting"));
        check(&format!("{script}; heard b"), &is("again"));
        check(&format!("{script}; heard b; undone b"), &is("reverted"));
    }
}

/// A backup is durable on the machine that made it, and on no other.
#[test]
fn a_machine_is_not_told_to_go_back_to_a_backup_that_another_one_made() {
    let why = "1 host failed, 0 are allowed to: b: unhealthy 60s after its change: 503";
    let back = "a b failure=revert; known a b; ok a; wait 10; ok b; bad b; wait 60";
    let runs = |text: &str| format!("{text} | going back: wave 2: {why}");
    check(back, &runs("a passed, b reverting"));
    check(&format!("{back}; other b"), &runs("a reverting, b lost"));
    check(&format!("{back}; other b; undone a"), &format!("a reverted, b lost | REVERT_FAILED: {why}"));
    let text = "another machine speaks for it now (instance 00000000-0000-0000-0000-000000000009), and the backup to go back to \
                is on the one before; where that stands is not known";
    let play = Play::run(&format!("{back}; other b"));
    assert_eq!(
        play.rollback().hosts[&host("b")].failure.as_ref().map(|failure| &*failure.message),
        Some(text)
    );
    // The other machine has been changed, too, and has made a backup of its own, or none.
    let again = "a b; known a; ok a; bad a; wait 60; other a; retry a";
    let play = Play::run(&format!("{again}; ok a"));
    assert_eq!(play.rollback().backups().len(), 1);
    let play = Play::run(&format!("{again}; noop a"));
    assert!(play.rollback().backups().is_empty());
    // The first one is back, and has its own.
    let play = Play::run(&format!("{again}; noop a; known a; retry a; noop a"));
    assert_eq!(play.rollback().backups().len(), 1);
}

/// One that was told before, and has not answered that, may be at the target since.
#[test]
fn a_machine_that_is_back_in_a_later_attempt_and_says_as_before_may_be_at_the_target() {
    let lost = "a b; known a; other a; wait 360; off a; wait 1; other a; retry a";
    let paused = "paused: wave 1: 1 host failed, 0 are allowed to: a: start failed";
    check(&format!("{lost}; back a"), &format!("a unchanged, b untouched | {paused}"));
    check(&format!("{lost}; known a; back a"), &format!("a lost, b untouched | {paused}"));
    // In the attempt in which it was told it says where that has left it.
    check("a b; known a; other a; known a; back a", &format!("a unchanged, b untouched | {paused}"));
}

/// Only the first machine could have said what became of what it was told.
#[test]
fn another_machine_is_not_asked_where_a_lost_one_stands() {
    let lost = "a b failure=revert; known a b; ok a; wait 10; off b; wait 360";
    let why = "1 host failed, 0 are allowed to: b: not heard of past its deadline";
    check(&format!("{lost}; other b"), &format!("a reverting, b lost | going back: wave 2: {why}"));
    check(&format!("{lost}; other b; undone a"), &format!("a reverted, b lost | REVERT_FAILED: {why}"));
}

/// One that waited for a place in a budget goes back before the outcome says that it has not.
#[test]
fn a_host_that_was_left_behind_and_is_there_goes_back_before_the_end() {
    let bad = "ok a; wait 10; ok b; wait 10; ok c; bad c; wait 60";
    let why = "1 host failed, 0 are allowed to: c: unhealthy 60s after its change: 503";
    let behind = format!(
        "a b c sizes=2,1 budget=1 failure=revert unreachable=skip; {bad}; off a; undone c; wait 20; on a"
    );
    let runs = |text: &str| format!("{text}, c reverted | going back: wave 2: {why}");
    check(&behind, &runs("a skipped, b reverting"));
    check(&format!("{behind}; undone b"), &runs("a reverting, b reverted"));
    check(&format!("{behind}; undone b a"), &format!("a reverted, b reverted, c reverted | REVERTED: {why}"));
}

/// What a host says of itself does not promise a way back that was called off.
#[test]
fn a_host_whose_way_back_was_called_off_is_not_said_to_go_back_by_itself() {
    let bad = "ok a; wait 10; ok b; bad b; wait 60; off a; undone b; wait 20";
    let behind = format!("a b failure=revert unreachable=skip; {bad}");
    let next = |script: &str, name: &str| {
        let play = Play::run(script);
        play.rollback().hosts[&host(name)].failure.clone().expect("it is at its target").next
    };
    let by_itself = "start rfs-agent there: the way back goes on by itself";
    assert_eq!(next(&behind, "a"), by_itself);
    let undo = "start rfs-agent there, then: rfs rollback undo 00000000-0000-0000-0000-000000000000";
    for end in ["taken a", "abort", "wait 90000"] {
        assert_eq!(next(&format!("{behind}; {end}"), "a"), undo, "{end}");
    }
    for end in ["undo", "forgotten a"] {
        assert_eq!(next(&format!("{behind}; {end}"), "a"), "", "{end}");
    }
    // One that had been told, while the rollback runs.
    let told = "a b failure=revert unreachable=skip; ok a; wait 10; ok b; bad b; wait 60; off b; wait 400";
    assert_eq!(next(told, "b"), by_itself);
    assert_eq!(next(&format!("{told}; abort; undone a"), "b"), undo);
    assert_eq!(next(&format!("{told}; pause; undone a; wait 90000"), "b"), undo);
}
