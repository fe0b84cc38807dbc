//! What the journal promises, on real files.

use std::path::Path;

use rfs_model::{ComponentName, Generation, OperationId, Timestamp};
use uuid::Uuid;

use super::*;

fn operation(number: u128) -> OperationId {
    OperationId::from_uuid(Uuid::from_u128(number))
}

fn command(operation: OperationId, generation: u64, step: &str) -> StoredCommand<String> {
    StoredCommand {
        key: CommandKey { operation, generation: Generation(generation), step: step.into() },
        arrived_at: Timestamp(1_000),
        deadline: Timestamp(9_000),
        body: format!("do {step}"),
    }
}

fn open(path: &Path) -> Journal {
    Journal::open(path).expect("opens")
}

fn new_run(number: u128) -> NewRun<String> {
    NewRun {
        operation: operation(number),
        started_at: Timestamp(1),
        deadline: Timestamp(2),
        body: "all".into(),
    }
}

#[test]
fn a_command_is_admitted_once_and_answered_from_the_journal_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let apply = command(operation(1), 3, "apply");
    let journal = open(folder.path());
    assert_eq!(journal.admit(&apply).expect("admits"), Admission::New);
    drop(journal);
    let journal = open(folder.path());
    let later = StoredCommand { arrived_at: Timestamp(5_000), deadline: Timestamp(99_000), ..apply.clone() };
    assert_eq!(journal.admit(&later).expect("admits"), Admission::Pending);
    assert_eq!(
        journal.pending::<String>().expect("reads"),
        std::slice::from_ref(&apply),
        "the first deadline stays"
    );
    let sequence = journal.report(&apply.key, Timestamp(2_000), &"done").expect("reports");
    assert_eq!(journal.report(&apply.key, Timestamp(3_000), &"again").expect("reports"), sequence);
    journal.acknowledge(sequence).expect("acknowledges");
    assert!(journal.unacknowledged::<String>().expect("reads").is_empty());
    assert_eq!(journal.admit(&apply).expect("admits"), Admission::Answered);
    let again = journal.unacknowledged::<String>().expect("reads");
    assert_eq!((again[0].sequence, again[0].body.as_str()), (sequence, "done"));
}

#[test]
fn an_older_generation_is_refused_and_so_is_another_operation_of_the_same_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let admit =
        |op, generation, step| journal.admit(&command(operation(op), generation, step)).expect("admits");
    assert_eq!(admit(1, 5, "apply"), Admission::New);
    assert_eq!(admit(2, 4, "apply"), Admission::Stale(Generation(5)));
    assert_eq!(admit(2, 5, "apply"), Admission::Stale(Generation(5)));
    assert_eq!(admit(1, 5, "revert"), Admission::New);
    assert_eq!(admit(1, 7, "revert"), Admission::New);
    assert_eq!(
        admit(1, 5, "apply"),
        Admission::Pending,
        "a repetition has no effect, so its age does not matter"
    );
    assert_eq!(journal.generation().expect("reads"), Generation(7));
}

#[test]
fn one_restore_is_open_and_its_arrows_keep_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let run = journal.begin(&new_run(1), "accepted").expect("begins");
    assert!(matches!(journal.begin(&new_run(2), "accepted"), Err(JournalError::Busy)));
    journal.advance(run, "staging", Timestamp(3), &[("backup", "\"b\"".into())]).expect("advances");
    drop(journal);
    let journal = open(folder.path());
    let open = journal.open_run::<String>().expect("reads").expect("open");
    assert_eq!(open.arrows.iter().map(|a| a.phase.as_str()).collect::<Vec<_>>(), ["accepted", "staging"]);
    assert_eq!(journal.fact::<String>(open.id, "backup").expect("reads").as_deref(), Some("b"));
    journal.end(run, "ended", Timestamp(4), &"receipt", None).expect("ends");
    assert_eq!(journal.open_run::<String>().expect("reads"), None);
    let ended = journal.ended_runs_of::<String, String>(operation(1)).expect("reads");
    assert_eq!(ended, [("all".to_owned(), "receipt".to_owned())]);
    assert_eq!(journal.fact::<String>(run, "backup").expect("reads"), None);
}

#[test]
fn what_does_not_wait_for_the_disk_is_written_in_order_and_what_follows_waits_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let synced = || {
        let level = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        journal.connection().query_row("PRAGMA synchronous", [], level).expect("reads") == 2
    };
    let run = journal.begin(&new_run(1), "accepted").expect("begins");
    journal.advance_unsynced(run, "flipping", Timestamp(3)).expect("advances");
    assert!(synced());
    // Also after one that fails: the second restore of another journal is none of this one.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = open(elsewhere.path());
    let first = other.begin(&new_run(1), "accepted").expect("begins");
    other.end(first, "ended", Timestamp(2), &"receipt", None).expect("ends");
    let unknown = other.begin(&new_run(2), "accepted").expect("begins");
    journal.advance_unsynced(unknown, "flipping", Timestamp(3)).expect_err("nothing to advance");
    assert!(synced());
    journal.advance(run, "verifying", Timestamp(4), &[]).expect("advances");
    drop(journal);
    let open = open(folder.path()).open_run::<String>().expect("reads").expect("open");
    let phases: Vec<_> = open.arrows.iter().map(|arrow| arrow.phase.as_str()).collect();
    assert_eq!(phases, ["accepted", "flipping", "verifying"]);
}

#[test]
fn the_space_that_is_kept_is_taken_again_after_a_restore() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let kept = || folder.path().join(BALLAST).metadata().map(|meta| meta.len()).unwrap_or(0);
    assert_eq!(kept(), BALLAST_BYTES as u64);
    std::fs::remove_file(folder.path().join(BALLAST)).expect("it was there");
    let run = journal.begin(&new_run(1), "accepted").expect("begins");
    journal.end(run, "ended", Timestamp(4), &"receipt", None).expect("ends");
    assert_eq!(kept(), BALLAST_BYTES as u64);
}

#[test]
fn a_held_host_stays_held_until_it_is_released() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    let run = journal.begin(&new_run(1), "accepted").expect("begins");
    journal.note(run, "staged", &7).expect("notes");
    journal.end(run, "stuck", Timestamp(4), &"receipt", Some("cannot put back /srv/site/a")).expect("ends");
    drop(journal);
    let journal = open(folder.path());
    assert_eq!(journal.held().expect("reads").expect("held").message, "cannot put back /srv/site/a");
    assert_eq!(journal.fact::<u32>(run, "staged").expect("reads"), Some(7));
    journal.release().expect("releases");
    assert_eq!(journal.held().expect("reads"), None);
}

#[test]
fn what_was_made_quiet_is_known_until_it_has_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = ComponentName::new("site").expect("a name");
    let quiet = Quiet { component: component.clone(), operation: operation(1), until: Timestamp(9) };
    open(folder.path()).quiet(&quiet).expect("notes");
    let journal = open(folder.path());
    assert_eq!(journal.all_quiet().expect("reads"), [quiet]);
    journal.resumed(&component).expect("notes");
    assert!(journal.all_quiet().expect("reads").is_empty());
}

#[test]
fn the_id_of_the_machine_is_made_once_and_one_that_is_damaged_is_found_and_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = |number| rfs_model::InstanceId::from_uuid(Uuid::from_u128(number));
    assert_eq!(open(folder.path()).instance(id(1)).expect("keeps"), id(1));
    let journal = open(folder.path());
    assert_eq!(journal.instance(id(2)).expect("reads"), id(1));
    assert_eq!(journal.newest_run().expect("reads"), rfs_model::RestoreNumber(0));
    let write = |sql: &str| journal.connection().execute_batch(sql).expect("writes");
    write("DROP TRIGGER instance_now; UPDATE instance SET id = '00000000-0000-0000-0000-000000000003'");
    write(
        "CREATE TRIGGER instance_now AFTER UPDATE OF one, id ON instance BEGIN
    UPDATE instance SET seal = row_seal('instance', new.one, new.id) WHERE rowid = new.rowid;
END",
    );
    let found = check(folder.path()).expect("reads");
    assert_eq!(found, ["1 of its rows in instance are not as they were written"]);
    assert_eq!(journal.instance(id(4)).expect("replaces"), id(4));
    assert_eq!(journal.instance(id(5)).expect("reads"), id(4));
    assert_eq!(check(folder.path()).expect("reads"), [""; 0]);
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let file = rusqlite::Connection::open(folder.path().join(FILE)).expect("opens");
    file.pragma_update(None, "user_version", 99).expect("writes");
    drop(file);
    let error = Journal::open(folder.path()).expect_err("newer");
    assert!(matches!(error, JournalError::NewerFormat { found: 99, supported: 3, .. }), "{error}");
}

#[test]
fn old_runs_and_acknowledged_reports_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    journal.connection().pragma_update(None, "synchronous", "OFF").expect("faster");
    for number in 1..=1_200_u64 {
        let apply = command(operation(number.into()), number, "apply");
        journal.admit(&apply).expect("admits");
        let sequence =
            journal.report(&apply.key, Timestamp(2_000 + number as i64), &"done").expect("reports");
        journal.acknowledge(sequence).expect("acknowledges");
        if number <= 250 {
            let run = journal.begin(&new_run(number.into()), "accepted").expect("begins");
            journal.end(run, "ended", Timestamp(4), &number, None).expect("ends");
        }
    }
    let count = |table: &str| -> i64 {
        journal
            .connection()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .expect("counts")
    };
    assert!((1_000..=1_001).contains(&count("report")), "{}", count("report"));
    assert!(count("command") <= 1_001, "{}", count("command"));
    assert_eq!(count("run"), 200);
    assert_eq!(journal.receipts::<u64>(2).expect("reads"), [250, 249]);
}

#[test]
fn a_number_that_would_be_given_twice_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path());
    journal.begin(&new_run(1), "accepted").expect("begins");
    assert_eq!(super::check(folder.path()).expect("reads"), [""; 0]);
    journal.connection().execute_batch("UPDATE sqlite_sequence SET seq = 0").expect("changes");
    let faults = super::check(folder.path()).expect("reads");
    assert_eq!(faults, ["the number that a run had last is not the one that is remembered"]);
}

#[test]
fn a_row_that_is_not_as_it_was_written_is_named_and_not_acted_upon() {
    let check = |change: &str, read: fn(&Journal) -> Result<(), JournalError>, expected: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        journal.admit(&command(operation(1), 3, "apply")).expect("admits");
        let run = journal.begin(&new_run(1), "accepted").expect("begins");
        journal.advance(run, "staging", Timestamp(3), &[("backup", "\"b\"".into())]).expect("advances");
        assert_eq!(super::check(folder.path()).expect("reads"), [""; 0]);
        read(&journal).expect("is whole");
        // Without the trigger, as a flipped bit on the disk would do it.
        let table = change.split_whitespace().nth(1).expect("UPDATE table");
        let batch = format!("DROP TRIGGER {table}_now; {change}");
        journal.connection().execute_batch(&batch).expect("changes");
        let error = read(&journal).expect_err(change);
        assert_eq!(error.to_string(), expected);
        assert!(!super::check(folder.path()).expect("reads").is_empty(), "{change}");
    };
    let fence = |journal: &Journal| journal.generation().map(drop);
    check("UPDATE fence SET generation = 2", fence, "the journal's fence is not readable");
    let pending = |journal: &Journal| journal.pending::<String>().map(drop);
    let name =
        "the journal's command 00000000-0000-0000-0000-000000000001 apply of generation 3 is not readable";
    check("UPDATE command SET deadline = 9001", pending, name);
    let run = |journal: &Journal| journal.open_run::<String>().map(drop);
    check("UPDATE run SET body = '\"all of it\"'", run, "the journal's restore is not readable");
    check(
        "UPDATE arrow SET at = 4 WHERE position = 1",
        run,
        "the journal's way of a restore is not readable",
    );
    let fact = |journal: &Journal| journal.fact::<String>(super::runs::RunId(1), "backup").map(drop);
    check("UPDATE fact SET body = '\"c\"'", fact, "the journal's backup is not readable");
}
