//! The agent stops: nothing begins any more, what is at work is let end or stopped, and nothing stays quiet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rfs_agent::commander::{
    Command, Commander, Intake as _, Outcome, QUIESCE_TIMEOUT, Refusal, Selection, Step, StepKind,
};
use rfs_agent::engine::{Captured, Engine};
use rfs_model::{Generation, Reason};
use rfs_store::Cancel;
use rfs_store::journal::{CommandKey, StoredCommand};

use crate::bed::{Bed, capture, operation, order, until};

/// Longer than any test may take: a stop that waits for nothing does not end.
const LONG: Duration = Duration::from_secs(3600);

const QUIET: &str = "quiesce = \"echo quiet >> ROOT/log; test ! -e ROOT/hold-when-quiet || touch ROOT/hold\"\n\
    resume = \"echo resumed >> ROOT/log\"";

/// A host whose service is down, and so is asked for its status at each capture, which takes until `go` is there once `hold` is.
fn bed(site_keys: &str) -> Bed {
    let mut bed = Bed::new();
    bed.site_keys = site_keys.into();
    bed.status =
        "if test -e hold; then touch held; until test -e go; do sleep 0.02; done; fi; test -f up".into();
    std::fs::remove_file(bed.path("up")).expect("it ran");
    bed
}

fn hold(bed: &Bed) {
    bed.write("hold", "");
}

fn is_held(bed: &Bed) {
    until("it is held", || bed.path("held").exists());
}

fn let_go(bed: &Bed) {
    bed.write("go", "");
}

/// A stop that is under way, once it is known that nothing begins any more.
fn closing(engine: &Arc<Engine>, let_end: Duration) -> JoinHandle<()> {
    let closes = engine.clone();
    let closing = thread::spawn(move || closes.close(let_end));
    until("nothing begins any more", || {
        engine.repair(&Cancel::new()).is_err_and(|refusal| refusal.message.contains("stopping"))
    });
    closing
}

fn ends(closing: JoinHandle<()>) {
    until("the agent ends", || closing.is_finished());
    closing.join().expect("no panic");
}

fn command(step: Step) -> Command {
    Command {
        operation: operation(1),
        generation: Generation(1),
        timeout: Duration::from_secs(60),
        quiesce_timeout: QUIESCE_TIMEOUT,
        reason: "test".into(),
        step,
    }
}

fn prepare() -> Step {
    Step::Prepare { selection: Selection::default() }
}

fn report(commander: &Commander, step: StepKind) -> Option<Outcome> {
    let reports = commander.unacknowledged().expect("readable");
    reports.into_iter().find(|report| report.step == step).map(|report| report.outcome)
}

/// Takes a step and waits for its report.
fn ask(commander: &Commander, step: Step) -> Outcome {
    let kind = step.kind();
    commander.receive(command(step)).expect("takes it");
    until("it is answered", || report(commander, kind).is_some());
    report(commander, kind).expect("it was there")
}

fn failed(outcome: Option<Outcome>) -> Refusal {
    match outcome {
        Some(Outcome::Failed(refusal)) => refusal,
        other => panic!("not failed: {other:?}"),
    }
}

fn nothing_is_quiet(engine: &Engine) {
    assert_eq!(engine.journal().all_quiet().expect("readable"), []);
}

fn snapshots(engine: &Engine) -> usize {
    engine.store().snapshots().expect("lists").len()
}

#[test]
fn with_nothing_at_work_the_agent_ends_at_once() {
    let bed = Bed::new();
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, Step::Finish), Outcome::Finished);
    ends(thread::spawn(move || commander.close(LONG)));
}

#[test]
fn a_checkpoint_that_holds_the_host_between_its_steps_is_over_and_everything_resumes() {
    for is_cut in [false, true] {
        let bed = bed(QUIET);
        let engine = bed.engine();
        let commander = Commander::start(engine.clone()).expect("starts");
        assert_eq!(ask(&commander, prepare()), Outcome::Prepared);
        if is_cut {
            assert!(matches!(ask(&commander, Step::Cut), Outcome::Cut { .. }));
        }
        assert_eq!(bed.told(), ["quiet"]);
        ends(closing(&engine, LONG));
        assert_eq!(bed.told(), ["quiet", "resumed"]);
        nothing_is_quiet(&engine);
        assert_eq!((engine.checkpoint_until(), engine.work()), (None, None), "it owns the host no more");
        if is_cut {
            assert_eq!(ask(&commander, Step::Finish), Outcome::Finished, "what it cut is whole");
        }
    }
}

#[test]
fn a_preparation_is_stopped_at_once_for_nothing_can_come_of_it() {
    // In the middle of a hook, and of what is stored ahead.
    for (is_hook, told) in [(true, &["quiet", "resumed"][..]), (false, &[])] {
        let bed = match is_hook {
            true => bed(
                "quiesce = \"echo quiet >> ROOT/log; touch ROOT/held; sleep 60\"\nresume = \"echo resumed >> ROOT/log\"",
            ),
            false => bed(QUIET),
        };
        let engine = bed.engine();
        let commander = Commander::start(engine.clone()).expect("starts");
        if !is_hook {
            hold(&bed);
        }
        commander.receive(command(prepare())).expect("takes it");
        is_held(&bed);
        ends(closing(&engine, LONG));
        let refusal = failed(report(&commander, StepKind::Prepare));
        assert_eq!(refusal.reason, Reason::Interrupted, "{refusal:?}");
        assert!(refusal.message.starts_with("the agent stopped before"), "{refusal:?}");
        assert!(!refusal.message.contains("by itself"), "{refusal:?}");
        assert_eq!(bed.told(), told);
        nothing_is_quiet(&engine);
    }
}

#[test]
fn a_cut_is_let_end_and_its_report_is_stored_before_the_agent_ends() {
    let bed = bed(QUIET);
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, prepare()), Outcome::Prepared);
    hold(&bed);
    commander.receive(command(Step::Cut)).expect("takes it");
    is_held(&bed);
    let closing = closing(&engine, LONG);
    assert_eq!(bed.told(), ["quiet"], "nothing resumes under the cut");
    // The worker's next word is that the cut has ended; it is held there, before it stores the report.
    let (ended, has_ended) = mpsc::channel();
    let (go, went) = mpsc::channel::<()>();
    let (ended, went, is_first) = (Mutex::new(ended), Mutex::new(went), AtomicBool::new(true));
    commander.on_change(Box::new(move || {
        if is_first.swap(false, Ordering::SeqCst) {
            ended.lock().expect("no panic").send(()).expect("somebody listens");
            went.lock().expect("no panic").recv().expect("it is let go");
        }
    }));
    let_go(&bed);
    has_ended.recv().expect("the cut ends");
    until("nobody has a turn", || engine.work().is_none_or(|work| work != "a checkpoint"));
    // Were the stop to wait for turns alone, it would let everything resume now, and end.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((bed.told(), closing.is_finished()), (vec!["quiet".to_owned()], false));
    go.send(()).expect("it waits");
    ends(closing);
    let cut = report(&commander, StepKind::Cut);
    assert!(matches!(cut, Some(Outcome::Cut { .. })), "{cut:?}");
    assert_eq!(bed.told(), ["quiet", "resumed"]);
    nothing_is_quiet(&engine);
}

#[test]
fn a_cut_that_does_not_end_in_time_is_no_snapshot_and_everything_resumes() {
    let bed = bed(QUIET);
    let engine = bed.engine();
    let commander = Commander::start(engine.clone()).expect("starts");
    assert_eq!(ask(&commander, prepare()), Outcome::Prepared);
    hold(&bed);
    let before = snapshots(&engine);
    commander.receive(command(Step::Cut)).expect("takes it");
    is_held(&bed);
    ends(closing(&engine, Duration::ZERO));
    let refusal = failed(report(&commander, StepKind::Cut));
    assert_eq!(refusal.reason, Reason::Interrupted, "{refusal:?}");
    assert!(!refusal.message.contains("by itself"), "{refusal:?}");
    assert_eq!((bed.told(), snapshots(&engine)), (vec!["quiet".into(), "resumed".into()], before));
    nothing_is_quiet(&engine);
}

/// A capture by hand that is held in its middle, everything being quiet.
fn captures(bed: &Bed, engine: &Arc<Engine>) -> JoinHandle<Result<Captured, Refusal>> {
    // A service is asked for its status before everything is made quiet, too, and is not to be held there.
    bed.write("hold-when-quiet", "");
    let works = engine.clone();
    let captures =
        thread::spawn(move || works.capture(&Default::default(), "test", operation(9), &Cancel::new()));
    is_held(bed);
    captures
}

#[test]
fn a_capture_by_hand_is_let_end_and_nothing_resumes_under_it() {
    let bed = bed(QUIET);
    let engine = bed.engine();
    let captures = captures(&bed, &engine);
    let closing = closing(&engine, LONG);
    assert_eq!(bed.told(), ["quiet"]);
    assert!(!closing.is_finished(), "it waits");
    let_go(&bed);
    ends(closing);
    captures.join().expect("no panic").expect("it is whole");
    assert_eq!(bed.told(), ["quiet", "resumed"]);
}

#[test]
fn a_capture_by_hand_that_does_not_end_in_time_is_stopped_and_everything_resumes() {
    let bed = bed(QUIET);
    let engine = bed.engine();
    let captures = captures(&bed, &engine);
    ends(closing(&engine, Duration::ZERO));
    let refusal = captures.join().expect("no panic").expect_err("it was stopped");
    assert_eq!(refusal.reason, Reason::Interrupted, "{refusal:?}");
    assert_eq!((bed.told(), snapshots(&engine)), (vec!["quiet".into(), "resumed".into()], 0));
    nothing_is_quiet(&engine);
}

#[test]
fn a_command_that_waits_is_left_to_the_next_start_and_holds_nothing_up() {
    let bed = bed(QUIET);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let commander = Commander::start(engine.clone()).expect("starts");
    let captures = captures(&bed, &engine);
    let apply = Step::Apply { snapshot: good, selection: Selection::default(), choices: Default::default() };
    commander.receive(command(apply)).expect("takes it");
    until("it waits", || commander.state().activity.is_some_and(|activity| activity.waits_for.is_some()));
    let closing = closing(&engine, LONG);
    assert!(!closing.is_finished(), "the capture is at work");
    let_go(&bed);
    ends(closing);
    captures.join().expect("no panic").expect("it is whole");
    assert_eq!(bed.read("site/index.html"), "v2", "nothing was begun");
    assert_eq!(report(&commander, StepKind::Apply), None);
    assert_eq!(engine.journal().pending::<Command>().expect("readable").len(), 1);
}

#[test]
fn a_restore_is_never_broken_off() {
    let mut bed = Bed::new();
    bed.start = "touch held; until test -e go; do sleep 0.02; done; touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let works = engine.clone();
    let restores = thread::spawn(move || works.restore(order(good, Selection::default()), &|_| {}));
    is_held(&bed);
    // Its time is up, and it goes on; were the process to end now, the next start would end it.
    ends(closing(&engine, Duration::ZERO));
    assert!(!restores.is_finished());
    let_go(&bed);
    let receipt = restores.join().expect("no panic").expect("it was begun");
    assert!(receipt.failure.is_none(), "{receipt:?}");
}

#[test]
fn a_collection_and_a_drill_begin_no_more_and_say_why() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    engine.close(LONG);
    let drilled = engine.drill(good, None, &Cancel::new()).expect_err("the agent stops");
    assert_eq!(drilled.reason, Reason::Interrupted, "{drilled:?}");
    assert!(!bed.path("store/drill").exists());
    let collected = engine.collect(&Cancel::new()).expect_err("the agent stops");
    assert_eq!(collected.reason, Reason::Interrupted, "{collected:?}");
}

#[test]
fn what_a_killed_drill_had_restored_is_removed_at_the_next_start() {
    let bed = Bed::new();
    {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        engine.store().protect(good, "drill", "it is being drilled").expect("writable");
        std::fs::create_dir_all(bed.path("store/drill/site")).expect("writable");
    }
    let engine = bed.engine();
    assert!(!bed.path("store/drill").exists());
    assert!(engine.store().snapshots().expect("lists")[0].marks.in_use.is_empty());
}

#[test]
fn the_stop_does_not_come_into_the_middle_of_a_hook() {
    let bed = bed(
        "quiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resuming >> ROOT/log; touch ROOT/held; until test -e ROOT/go; do sleep 0.02; done\"",
    );
    let engine = bed.engine();
    engine.prepare(operation(1), &Selection::default(), Instant::now() + LONG).expect("prepares");
    let works = engine.clone();
    let finishes = thread::spawn(move || works.finish(operation(1)));
    is_held(&bed);
    let closing = closing(&engine, Duration::ZERO);
    // A second hook beside the first would begin now: that it does not is what is shown.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(bed.told(), ["quiet", "resuming"]);
    let_go(&bed);
    ends(closing);
    finishes.join().expect("no panic").expect("it resumes");
    assert_eq!(bed.told(), ["quiet", "resuming"]);
}

#[test]
fn a_capture_by_hand_over_which_its_host_resumed_by_itself_is_no_snapshot() {
    let mut bed = bed(QUIET);
    bed.more = "[restore]\nmax_time = \"1s\"".into();
    let engine = bed.engine();
    let _commander = Commander::start(engine.clone()).expect("starts");
    let captures = captures(&bed, &engine);
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    let refusal = captures.join().expect("no panic").expect_err("it was not quiet to the end");
    assert_eq!(refusal.reason, Reason::DeadlineExceeded, "{refusal:?}");
    assert!(refusal.next.contains("max_time under [restore]"), "{refusal:?}");
    assert_eq!(snapshots(&engine), 0);
}

/// A host whose agent was killed while it was quiet, its command being unanswered.
fn killed_while_quiet(bed: &Bed, step: Step) {
    let engine = bed.engine();
    engine.prepare(operation(1), &Selection::default(), Instant::now() + LONG).expect("prepares");
    let (now, command) = (engine.clock().now(), command(step));
    let key = CommandKey {
        operation: command.operation,
        generation: command.generation,
        step: command.step.kind().as_str().to_owned(),
    };
    let stored = StoredCommand { key, arrived_at: now, deadline: now.plus(command.timeout), body: command };
    engine.journal().admit(&stored).expect("admits");
}

#[test]
fn a_step_of_a_checkpoint_that_a_restart_ended_says_what_the_host_is_at_and_what_to_do() {
    for step in [prepare(), Step::Cut] {
        let bed = bed(QUIET);
        let kind = step.kind();
        killed_while_quiet(&bed, step);
        let engine = bed.engine();
        let commander = Commander::start(engine.clone()).expect("starts");
        until("it is answered", || report(&commander, kind).is_some());
        let refusal = failed(report(&commander, kind));
        assert_eq!(
            (refusal.reason, refusal.next.as_str()),
            (Reason::Interrupted, "take the checkpoint again")
        );
        assert!(refusal.message.contains("everything on this host runs again"), "{refusal:?}");
        nothing_is_quiet(&engine);
    }
}

#[test]
fn what_does_not_resume_at_the_start_is_named_and_tried_again_until_it_does() {
    let bed = bed("quiesce = \"true\"\nresume = \"test -e ROOT/well\"");
    killed_while_quiet(&bed, Step::Cut);
    let engine = bed.engine();
    assert!(engine.work().is_some_and(|work| work.contains("letting site resume")), "{:?}", engine.work());
    let commander = Commander::start(engine.clone()).expect("starts");
    until("it is answered", || report(&commander, StepKind::Cut).is_some());
    let refusal = failed(report(&commander, StepKind::Cut));
    assert_eq!(refusal.reason, Reason::CommandFailed, "{refusal:?}");
    assert!(refusal.message.contains("site could not resume"), "{refusal:?}");
    bed.write("well", "");
    // Nobody says anything more.
    until("nothing is quiet", || engine.journal().all_quiet().expect("readable").is_empty());
    assert_eq!(engine.work(), None);
}

#[test]
fn what_does_not_resume_at_the_start_is_tried_again_also_when_nobody_asks() {
    let bed = bed("quiesce = \"true\"\nresume = \"test -e ROOT/well\"");
    let quiet = bed.engine();
    quiet.prepare(operation(1), &Selection::default(), Instant::now() + LONG).expect("prepares");
    // Its agent is killed.
    drop(quiet);
    let engine = bed.engine();
    let _commander = Commander::start(engine.clone()).expect("starts");
    bed.write("well", "");
    until("nothing is quiet", || engine.journal().all_quiet().expect("readable").is_empty());
}
