//! The coordinator's commands: once each, fenced, answered from the journal, whatever happens between.

use std::sync::Arc;
use std::time::Duration;

use rfs_agent::commander::{
    Command, Commander, Intake as _, Outcome, QUIESCE_TIMEOUT, Report, Selection, Step,
};
use rfs_agent::engine::Engine;
use rfs_model::{Generation, OperationId, Reason, RestoreNumber, SnapshotId, Standing};

use crate::bed::{Bed, capture, operation, until};

fn command(operation: OperationId, generation: u64, step: Step) -> Command {
    let timeout = Duration::from_secs(60);
    Command {
        operation,
        generation: Generation(generation),
        timeout,
        quiesce_timeout: QUIESCE_TIMEOUT,
        reason: "test".into(),
        step,
    }
}

fn apply(snapshot: SnapshotId) -> Step {
    Step::Apply { snapshot, selection: Selection::default(), choices: Default::default() }
}

fn revert(snapshot: SnapshotId) -> Step {
    Step::Revert { snapshot, selection: Selection::default(), choices: Default::default() }
}

/// Sends a command and waits for its report.
fn ask(commander: &Arc<Commander>, command: &Command) -> Report {
    commander.receive(command.clone()).expect("takes it");
    answer(commander, command)
}

fn answer(commander: &Arc<Commander>, command: &Command) -> Report {
    let mut found = None;
    until("the report comes", || {
        let reports = commander.unacknowledged().expect("readable");
        found = reports.into_iter().find(|report| {
            (report.operation, report.step, report.generation)
                == (command.operation, command.step.kind(), command.generation)
        });
        found.is_some()
    });
    found.expect("it came")
}

fn standing(report: &Report) -> Standing {
    match &report.outcome {
        Outcome::Restored(receipt) => receipt.standing,
        other => panic!("not restored: {other:?}"),
    }
}

fn refused(report: &Report) -> Reason {
    match &report.outcome {
        Outcome::Refused(refusal) | Outcome::Failed(refusal) => refusal.reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn start(engine: &Arc<Engine>) -> Arc<Commander> {
    Commander::start(engine.clone()).expect("starts")
}

#[test]
fn a_repeated_command_has_one_effect_and_the_same_answer() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let commander = start(&engine);
    let once = command(operation(1), 1, apply(good));
    let first = ask(&commander, &once);
    assert_eq!(standing(&first), Standing::Target, "{first:?}");
    for _ in 0..3 {
        assert_eq!(ask(&commander, &once), first);
    }
    commander.acknowledge(first.sequence).expect("acknowledges");
    assert!(commander.unacknowledged().expect("readable").is_empty());
    assert_eq!(ask(&commander, &once), first, "an acknowledged report is sent again when it is asked for");
    assert_eq!(bed.told(), ["stop", "start"]);
}

#[test]
fn an_older_generation_has_no_effect() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let commander = start(&engine);
    ask(&commander, &command(operation(2), 5, Step::Finish));
    bed.deploy("v2");
    let before = bed.state();
    for stale in [command(operation(1), 4, apply(good)), command(operation(3), 5, apply(good))] {
        let report = ask(&commander, &stale);
        assert_eq!(refused(&report), Reason::StaleGeneration);
        assert_eq!(ask(&commander, &stale), report, "and says so as often as it is asked");
    }
    assert_eq!((bed.state(), bed.told()), (before, Vec::<String>::new()));
    assert_eq!(commander.state().generation, Generation(5));
}

#[test]
fn a_revert_brings_back_what_its_apply_undid() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let commander = start(&engine);
    let applied = ask(&commander, &command(operation(1), 1, apply(good)));
    let Outcome::Restored(receipt) = &applied.outcome else { panic!("{applied:?}") };
    let backup = receipt.backup.expect("a backup");
    let reverted = ask(&commander, &command(operation(1), 1, revert(backup)));
    assert_eq!(standing(&reverted), Standing::Target, "at what it was asked for: the backup");
    assert_eq!(bed.state(), before);
}

#[test]
fn a_cancellation_stops_a_running_restore_and_one_that_was_not_begun() {
    let mut bed = Bed::new();
    bed.start = "touch starting; if grep -q v1 site/index.html; then sleep 15; fi; touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let commander = start(&engine);
    let running = command(operation(1), 1, apply(good));
    commander.receive(running.clone()).expect("takes it");
    until("the service starts", || bed.path("starting").exists());
    let cancelled = ask(&commander, &command(operation(1), 1, Step::Cancel));
    let Outcome::Cancelled { standing: cancelled, backup, restore } = cancelled.outcome else {
        panic!("{cancelled:?}")
    };
    assert_eq!((cancelled, backup.is_some(), restore), (Standing::Before, true, RestoreNumber(1)));
    let Outcome::Restored(receipt) = answer(&commander, &running).outcome else { panic!("it was begun") };
    assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::Cancelled));
    assert_eq!(bed.state(), before);

    // A cancellation that overtakes its restore.
    let early = ask(&commander, &command(operation(2), 2, Step::Cancel));
    assert!(matches!(early.outcome, Outcome::Cancelled { standing: Standing::Before, backup: None, .. }));
    assert_eq!(refused(&ask(&commander, &command(operation(2), 2, apply(good)))), Reason::Cancelled);
    assert_eq!(bed.state(), before);
}

#[test]
fn a_command_that_a_crash_left_behind_is_taken_up_once() {
    let bed = Bed::new();
    let good = {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        let key = |operation, step: &str| rfs_store::journal::CommandKey {
            operation,
            generation: Generation(1),
            step: step.to_owned(),
        };
        // The process ended between the journal and the queue.
        let now = engine.clock().now();
        let stored = |command: Command, step| rfs_store::journal::StoredCommand {
            key: key(command.operation, step),
            arrived_at: now,
            deadline: now.plus(Duration::from_secs(60)),
            body: command,
        };
        let journal = engine.journal();
        journal.admit(&stored(command(operation(1), 1, apply(good)), "apply")).expect("admits");
        journal.admit(&stored(command(operation(1), 1, Step::Cut), "cut")).expect("admits");
        good
    };
    bed.deploy("v2");
    let engine = bed.engine();
    let commander = start(&engine);
    let report = answer(&commander, &command(operation(1), 1, apply(good)));
    assert_eq!(standing(&report), Standing::Target, "{report:?}");
    let report = answer(&commander, &command(operation(1), 1, Step::Cut));
    assert_eq!(refused(&report), Reason::Interrupted, "a cut's moment has passed");
    drop((commander, engine));

    // The report survives the next restart too, and nothing is done again.
    until("the worker lets go of the store", || {
        rfs_store::Store::open(&bed.path("store"), crate::bed::clock()).is_ok()
    });
    let commander = start(&bed.engine());
    assert_eq!(standing(&answer(&commander, &command(operation(1), 1, apply(good)))), Standing::Target);
    assert_eq!(bed.told(), ["stop", "start"]);
}

#[test]
fn while_the_journal_does_not_say_how_a_restore_ended_nobody_is_answered() {
    let bed = Bed::new();
    let apply = {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        let commander = start(&engine);
        let apply = command(operation(1), 1, apply(good));
        assert_eq!(standing(&ask(&commander, &apply)), Standing::Target);
        apply
    };
    until("the worker lets go of the store", || {
        rfs_store::Store::open(&bed.path("store"), crate::bed::clock()).is_ok()
    });
    // The process ended before the report, and then the disk forgot what it was told.
    let journal = rusqlite::Connection::open(bed.path("store/journal.sqlite")).expect("opens");
    let write = |sql| assert_eq!(journal.execute(sql, ()).expect("writes"), 1, "{sql}");
    write("DELETE FROM report");
    // Its seal stays, and so does not fit any more.
    journal.execute("DROP TRIGGER run_now", ()).expect("dropped");
    write("UPDATE run SET receipt = '?' || receipt");

    let engine = bed.engine();
    let commander = start(&engine);
    until("the worker has met the journal", || commander.state().activity.is_some());
    assert_eq!(commander.unacknowledged().expect("readable"), []);
    write("UPDATE run SET receipt = substr(receipt, 2)");
    assert_eq!(standing(&answer(&commander, &apply)), Standing::Target);
    assert_eq!(bed.told(), ["stop", "start"], "and nothing was done again");
}

#[test]
fn what_cannot_be_begun_is_refused_with_its_reason() {
    let bed = Bed::new();
    let engine = bed.engine();
    let commander = start(&engine);
    let unknown = SnapshotId(rfs_model::Digest::from_bytes([9; 32]));
    let report = ask(&commander, &command(operation(1), 1, apply(unknown)));
    assert_eq!(refused(&report), Reason::SnapshotNotFound);
    let report = ask(&commander, &command(operation(1), 1, Step::Cut));
    assert_eq!(refused(&report), Reason::WrongState);
}

#[test]
fn an_answer_says_what_the_host_has_obeyed_since() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let commander = start(&engine);
    let old = command(operation(1), 3, apply(good));
    let first = ask(&commander, &old);
    assert_eq!((first.generation, first.newest), (Generation(3), Generation(3)));
    ask(&commander, &command(operation(2), 8, Step::Finish));
    let again = ask(&commander, &old);
    assert_eq!((again.generation, again.newest), (Generation(3), Generation(8)), "it is history");
    assert_eq!(Report { newest: first.newest, ..again }, first);
    // So is the refusal of a command that is older than what the host has obeyed.
    let stale = ask(&commander, &command(operation(3), 4, apply(good)));
    assert_eq!((refused(&stale), stale.newest), (Reason::StaleGeneration, Generation(8)));
}

#[test]
fn a_report_that_the_journal_does_not_take_is_stored_as_soon_as_it_does() {
    let mut bed = Bed::new();
    bed.site_keys = "quiesce_timeout = \"1m\"\nquiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resumed >> ROOT/log\"".into();
    let engine = bed.engine();
    let commander = start(&engine);
    let journal = rusqlite::Connection::open(bed.path("store/journal.sqlite")).expect("opens");
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON report BEGIN SELECT RAISE(ABORT, 'full'); END";
    journal.execute_batch(refuse).expect("no report can be written");
    let prepare = Step::Prepare { selection: Selection::default() };
    let mut prepare = command(operation(1), 1, prepare);
    prepare.timeout = Duration::from_secs(2);
    commander.receive(prepare.clone()).expect("takes it");
    until("it is quiet", || bed.told() == ["quiet"]);
    let begun = std::time::Instant::now();
    // While its report waits, the checkpoint's time runs out, and what is commanded next is done.
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    let finish = command(operation(1), 1, Step::Finish);
    commander.receive(finish.clone()).expect("takes it");
    // Longer than it was tried for before: 6.1 s.
    until("a long time has passed", || begun.elapsed() > Duration::from_secs(9));
    assert_eq!(commander.unacknowledged().expect("readable"), []);
    journal.execute_batch("DROP TRIGGER full").expect("reports can be written again");
    assert_eq!(answer(&commander, &prepare).outcome, Outcome::Prepared);
    assert_eq!(answer(&commander, &finish).outcome, Outcome::Finished);
    let order: Vec<_> = commander.unacknowledged().expect("readable").iter().map(|r| r.step).collect();
    assert_eq!(order, [prepare.step.kind(), finish.step.kind()]);
}

#[test]
fn what_a_checkpoint_made_quiet_resumes_when_its_coordinator_says_that_it_is_over() {
    for (owner, over) in [(Some(1), false), (Some(2), true), (None, true)] {
        let mut bed = Bed::new();
        bed.site_keys = "quiesce_timeout = \"1m\"\nquiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resumed >> ROOT/log\"".into();
        let engine = bed.engine();
        let commander = start(&engine);
        let prepare = Step::Prepare { selection: Selection::default() };
        assert_eq!(ask(&commander, &command(operation(1), 1, prepare)).outcome, Outcome::Prepared);
        commander.welcomed(owner.map(operation));
        let cut = ask(&commander, &command(operation(1), 1, Step::Cut));
        match over {
            true => {
                assert_eq!(refused(&cut), Reason::WrongState, "{owner:?}");
                assert_eq!(bed.told(), ["quiet", "resumed"], "{owner:?}");
            }
            false => {
                assert!(matches!(cut.outcome, Outcome::Cut { .. }), "{cut:?}");
                assert_eq!(bed.told(), ["quiet"], "{owner:?}");
            }
        }
    }
}

#[test]
fn a_checkpoint_that_is_over_while_it_is_being_prepared_leaves_nothing_quiet() {
    let mut bed = Bed::new();
    bed.site_keys =
        "quiesce = \"echo quiet >> ROOT/log; sleep 30\"\nresume = \"echo resumed >> ROOT/log\"".into();
    let engine = bed.engine();
    let commander = start(&engine);
    let prepare = command(operation(1), 1, Step::Prepare { selection: Selection::default() });
    commander.receive(prepare.clone()).expect("takes it");
    until("it is becoming quiet", || bed.told() == ["quiet"]);
    commander.welcomed(None);
    until("it resumes", || bed.told() == ["quiet", "resumed"]);
    assert_eq!(refused(&answer(&commander, &prepare)), Reason::Cancelled);
}

#[test]
fn a_journal_that_cannot_be_read_does_not_make_a_host_consistent() {
    let mut bed = Bed::new();
    bed.start = "test -f repaired && touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let commander = start(&engine);
    let stuck = ask(&commander, &command(operation(1), 6, apply(good)));
    assert_eq!(standing(&stuck), Standing::Inconsistent);
    let known = commander.state();
    assert!(known.inconsistent.is_some() && known.generation == Generation(6), "{known:?}");
    let journal = rusqlite::Connection::open(bed.path("store/journal.sqlite")).expect("opens");
    journal.execute_batch("ALTER TABLE hold RENAME TO away; ALTER TABLE fence RENAME TO lost").expect("gone");
    assert_eq!(commander.state(), known, "it is as it was known last");
}

/// Something that an administrator began, which goes on until it is let go.
struct ByHand {
    bed: Bed,
    commander: Arc<Commander>,
    good: SnapshotId,
    captures: std::thread::JoinHandle<()>,
}

impl ByHand {
    fn new() -> Self {
        let mut bed = Bed::new();
        bed.site_keys =
            "quiesce = \"touch ROOT/held; until test -e ROOT/go; do sleep 0.05; done\"\nresume = \"true\""
                .into();
        bed.write("go", "");
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        let commander = Commander::start(engine.clone()).expect("starts");
        bed.deploy("v2");
        std::fs::remove_file(bed.path("go")).expect("it was there");
        std::fs::remove_file(bed.path("held")).expect("it was there");
        let held = engine.clone();
        let captures = std::thread::spawn(move || drop(capture(&held)));
        let by_hand = Self { bed, commander, good, captures };
        until("the capture is at work", || by_hand.bed.path("held").exists());
        by_hand
    }

    /// Sends the command, and returns once it is known to wait.
    fn waits(&self, command: &Command) {
        self.commander.receive(command.clone()).expect("takes it");
        until("it waits", || {
            let activity = self.commander.state().activity;
            activity.is_some_and(|activity| activity.at() == "waiting for a capture")
        });
    }

    fn let_go(self) -> Bed {
        self.bed.write("go", "");
        self.captures.join().expect("the capture ends well");
        self.bed
    }
}

#[test]
fn a_host_that_is_at_work_on_something_of_its_own_has_not_failed() {
    let by_hand = ByHand::new();
    let commander = by_hand.commander.clone();
    let apply = command(operation(1), 1, apply(by_hand.good));
    by_hand.waits(&apply);
    let bed = by_hand.let_go();
    assert_eq!(standing(&answer(&commander, &apply)), Standing::Target);
    assert_eq!(bed.read("site/index.html"), "v1");

    let by_hand = ByHand::new();
    let commander = by_hand.commander.clone();
    let prepare = command(operation(1), 1, Step::Prepare { selection: Selection::default() });
    by_hand.waits(&prepare);
    let _bed = by_hand.let_go();
    let prepared = answer(&commander, &prepare).outcome;
    assert!(matches!(prepared, Outcome::Prepared), "{prepared:?}");
}

#[test]
fn what_waits_for_the_host_can_be_called_off() {
    for (step, stop) in
        [(None, Step::Cancel), (Some(Step::Prepare { selection: Selection::default() }), Step::Abandon)]
    {
        let by_hand = ByHand::new();
        let waits = command(operation(1), 1, step.unwrap_or_else(|| apply(by_hand.good)));
        by_hand.waits(&waits);
        // Both are answered while the host is still at work.
        let stopped = ask(&by_hand.commander, &command(operation(1), 1, stop));
        assert_eq!(refused(&answer(&by_hand.commander, &waits)), Reason::Cancelled);
        assert!(matches!(
            stopped.outcome,
            Outcome::Cancelled { standing: Standing::Before, backup: None, .. } | Outcome::Abandoned
        ));
        let bed = by_hand.let_go();
        assert_eq!(bed.read("site/index.html"), "v2", "nothing was begun");
    }
}
