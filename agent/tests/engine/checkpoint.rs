//! The steps of a checkpoint: quiet, cut, running again, whatever comes between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_agent::commander::{Command, Commander, Intake as _, Outcome, Refusal, Selection, Step};
use rfs_agent::engine::{Allowed, Engine};
use rfs_model::Reason;

use crate::bed::{Bed, capture, everything, operation, order, try_restore, until};

const QUIET: &str = "quiesce = \"echo quiet >> ROOT/log; echo flushed >> ROOT/site/data\"\nresume = \"echo resumed >> ROOT/log\"";

fn quiet_bed(keys: &str) -> Bed {
    let mut bed = Bed::new();
    bed.site_keys = keys.into();
    bed
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn prepare(engine: &Engine, number: u128, until: Instant) -> Result<(), Refusal> {
    engine.prepare(operation(number), &Selection::default(), until)
}

#[test]
fn a_checkpoint_is_quiet_from_prepare_to_finish_and_holds_what_was_flushed() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    prepare(&engine, 1, soon()).expect("prepares");
    assert_eq!(bed.told(), ["quiet"]);
    let cut = engine.cut_checkpoint(operation(1), "nightly", soon()).expect("cuts");
    assert!(cut.measure.stored.0 > 0, "what was stored ahead of the cut is its own: {:?}", cut.measure);
    assert_eq!(bed.told(), ["quiet"]);
    engine.finish(operation(1)).expect("finishes");
    assert_eq!(bed.told(), ["quiet", "resumed"]);
    engine.finish(operation(1)).expect("once more is nothing");
    assert_eq!(bed.told(), ["quiet", "resumed"]);

    assert_eq!(engine.store().snapshots().expect("lists").len(), 1, "what was stored ahead is gone");
    std::fs::remove_file(bed.path("site/data")).expect("it was flushed");
    assert!(try_restore(&engine, order(cut.info.id, everything())).expect("begins").failure.is_none());
    assert_eq!(bed.read("site/data"), "flushed\n");
}

#[test]
fn the_first_checkpoint_says_how_much_was_new_and_the_next_that_nothing_was() {
    let bed = quiet_bed("");
    let engine = bed.engine();
    let stored = |number| {
        prepare(&engine, number, soon()).expect("prepares");
        let cut = engine.cut_checkpoint(operation(number), "nightly", soon()).expect("cuts");
        engine.finish(operation(number)).expect("finishes");
        cut.measure.stored.0
    };
    assert!(stored(1) > 0);
    assert_eq!(stored(2), 0);
}

#[test]
fn a_hook_that_fails_leaves_nothing_quiet() {
    let bed =
        quiet_bed("quiesce = \"echo quiet >> ROOT/log; exit 5\"\nresume = \"echo resumed >> ROOT/log\"");
    let engine = bed.engine();
    let refusal = prepare(&engine, 1, soon()).expect_err("fails");
    assert_eq!(refusal.reason, Reason::CommandFailed);
    assert!(
        refusal.message.contains("site could not be made quiet") && refusal.message.contains("exit code 5"),
        "{refusal:?}"
    );
    assert_eq!(bed.told(), ["quiet", "resumed"]);
    assert_eq!(
        engine.cut_checkpoint(operation(1), "x", soon()).expect_err("not prepared").reason,
        Reason::WrongState
    );
    capture(&Arc::new(quiet_bed("").open().engine));
}

#[test]
fn a_checkpoint_that_is_not_finished_in_time_resumes_by_itself() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    let step = |step| Command {
        operation: operation(1),
        generation: rfs_model::Generation(1),
        timeout: Duration::from_millis(700),
        quiesce_timeout: rfs_agent::commander::QUIESCE_TIMEOUT,
        reason: "x".into(),
        step,
    };
    commander.receive(step(Step::Prepare { selection: Selection::default() })).expect("takes it");
    until("it resumes", || bed.told().iter().any(|line| line == "resumed"));
    commander.receive(step(Step::Cut)).expect("takes it");
    until("it is answered", || commander.unacknowledged().expect("readable").len() == 2);
    let answers = commander.unacknowledged().expect("readable");
    assert!(matches!(answers[1].outcome, Outcome::Failed(_)), "{answers:?}");
}

/// What the coordinator sends: a step that has a minute, and may leave the host quiet for so long.
fn step(step: Step, generation: u64, quiesce_timeout: Duration) -> Command {
    Command {
        operation: operation(1),
        generation: rfs_model::Generation(generation),
        timeout: Duration::from_secs(60),
        quiesce_timeout,
        reason: "x".into(),
        step,
    }
}

/// Takes a step and waits for its report.
fn ask(commander: &Commander, step: Command) -> Outcome {
    let kind = step.step.kind();
    commander.receive(step).expect("takes it");
    let report = || {
        let reports = commander.unacknowledged().expect("readable");
        reports.into_iter().find(|report| report.step == kind).map(|report| report.outcome)
    };
    until("it is answered", || report().is_some());
    report().expect("it was there")
}

fn lapsed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(refusal) if refusal.reason == Reason::DeadlineExceeded => refusal.message,
        other => panic!("the quiet has not lapsed: {other:?}"),
    }
}

const BOUND: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(50);

fn prepare_step() -> Step {
    Step::Prepare { selection: Selection::default() }
}

#[test]
fn a_host_that_hears_of_no_cut_resumes_by_itself_however_long_the_checkpoint_may_take() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, step(prepare_step(), 1, BOUND)), Outcome::Prepared);
    assert_eq!(bed.told(), ["quiet"]);
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    let message = lapsed(ask(&commander, step(Step::Cut, 2, BOUND)));
    assert!(message.contains("before the snapshot was whole"), "{message}");
    assert_eq!(engine.store().snapshots().expect("lists").len(), 1, "stored ahead, and nothing else");
    // The host is nobody's any more, and another checkpoint is as good as any.
    prepare(&engine, 2, soon()).expect("prepares");
    engine.cut_checkpoint(operation(2), "x", soon()).expect("cuts");
}

#[test]
fn what_does_not_resume_by_itself_is_named_and_tried_again_until_it_does() {
    let bed = quiet_bed(
        "quiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo tried >> ROOT/log; test -e ROOT/well\"",
    );
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, step(prepare_step(), 1, BOUND)), Outcome::Prepared);
    until("it is tried", || bed.told().contains(&"tried".to_owned()));
    match ask(&commander, step(Step::Cut, 2, BOUND)) {
        Outcome::Failed(refusal) if refusal.reason == Reason::CommandFailed => {
            assert!(refusal.message.contains("site could not resume"), "{refusal:?}");
        }
        other => panic!("it is still quiet: {other:?}"),
    }
    std::fs::write(bed.path("well"), "").expect("written");
    // Nobody says anything more.
    until("nothing is quiet", || engine.journal().all_quiet().expect("readable").is_empty());
}

#[test]
fn the_cut_counts_the_time_of_being_quiet_anew_and_a_whole_snapshot_stands() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, step(prepare_step(), 1, LONG)), Outcome::Prepared);
    let cut = ask(&commander, step(Step::Cut, 2, BOUND));
    assert!(matches!(cut, Outcome::Cut { .. }), "{cut:?}");
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    let message = lapsed(ask(&commander, step(Step::Finish, 3, BOUND)));
    assert!(message.contains("the snapshot is whole"), "{message}");
    assert_eq!(bed.told(), ["quiet", "resumed"], "once");
}

#[test]
fn a_snapshot_over_which_the_host_resumed_by_itself_is_none() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    let _commander = Commander::start(engine.clone()).expect("starts");
    prepare(&engine, 1, soon()).expect("prepares");
    let allowed = Allowed { quiet: Duration::ZERO, ..soon().into() };
    let refusal = engine.cut_checkpoint(operation(1), "x", allowed).expect_err("it was not quiet to the end");
    assert_eq!(refusal.reason, Reason::DeadlineExceeded, "{refusal:?}");
    assert!(refusal.next.contains("--quiesce-timeout"), "{refusal:?}");
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
}

#[test]
fn a_hook_that_takes_longer_than_hosts_may_be_quiet_is_ended_and_then_its_component_resumes() {
    let bed =
        quiet_bed("quiesce = \"echo quiet >> ROOT/log; sleep 60\"\nresume = \"echo resumed >> ROOT/log\"");
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    let begun = Instant::now();
    lapsed(ask(&commander, step(prepare_step(), 1, BOUND)));
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn what_was_never_made_quiet_waits_for_its_cut_as_long_as_the_checkpoint_may_take() {
    let bed = quiet_bed("");
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, step(prepare_step(), 1, Duration::from_millis(1))), Outcome::Prepared);
    std::thread::sleep(Duration::from_millis(50));
    let cut = ask(&commander, step(Step::Cut, 2, Duration::from_millis(1)));
    assert!(matches!(cut, Outcome::Cut { .. }), "{cut:?}");
}

#[test]
fn a_restart_resumes_what_was_quiet() {
    let bed = quiet_bed(QUIET);
    prepare(&bed.engine(), 1, soon()).expect("prepares");
    assert_eq!(bed.told(), ["quiet"]);
    let engine = bed.engine();
    assert_eq!(bed.told(), ["quiet", "resumed"]);
    assert_eq!(
        engine.cut_checkpoint(operation(1), "x", soon()).expect_err("its time is over").reason,
        Reason::WrongState
    );
}

#[test]
fn a_checkpoint_owns_the_host_until_a_newer_operation_takes_it() {
    let bed = quiet_bed(QUIET);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    prepare(&engine, 1, soon()).expect("prepares");
    let busy = try_restore(
        &engine,
        rfs_agent::engine::Order { operation: operation(7), ..order(good, everything()) },
    );
    assert_eq!(busy.expect_err("it is owned").reason, Reason::HostBusy);
    prepare(&engine, 2, soon()).expect("a newer command takes over");
    assert_eq!(
        engine.cut_checkpoint(operation(1), "x", soon()).expect_err("given up").reason,
        Reason::WrongState
    );
    engine.cut_checkpoint(operation(2), "x", soon()).expect("cuts");
    engine.finish(operation(2)).expect("finishes");
    let told: Vec<String> = bed.told();
    let quiet = told.iter().filter(|line| *line == "quiet").count();
    let resumed = told.iter().filter(|line| *line == "resumed").count();
    assert_eq!(quiet, resumed, "{told:?}");
}
