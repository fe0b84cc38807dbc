//! Ordinary services: they write where they live, and a release may have broken how they are asked and stopped.

use std::path::PathBuf;
use std::time::Duration;

use rfs_agent::component::choices::Choices;
use rfs_agent::config::{Hook, Program};
use rfs_agent::engine::{Phase, Receipt};
use rfs_agent::host::{self, Exit};
use rfs_model::{Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, operation, order, restore, try_restore};

fn reached(receipt: &Receipt) {
    assert_eq!(receipt.standing, Standing::Target, "{receipt:#?}");
}

fn plan_notes(engine: &rfs_agent::engine::Engine, target: rfs_model::SnapshotId) -> (u64, String) {
    let plan = engine.plan(target, &everything(), &Cancel::new()).expect("plans");
    (plan.step_count, plan.notes.join("\n"))
}

#[test]
fn what_a_service_writes_as_it_starts_is_named_and_no_difference() {
    let mut bed = Bed::new();
    bed.start =
        "mkdir -p site/run; echo $$ > site/run/app.pid; echo started >> site/app.log; rm -f site/lock; \
                 cp site/index.html served; touch up"
            .into();
    bed.stop = "rm -f site/run/app.pid up".into();
    bed.write("site/app.log", "");
    bed.write("site/lock", "");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!((bed.read("site/index.html"), bed.read("served")), ("v1".into(), "v1".into()));
    assert_eq!(bed.read("site/app.log"), "started\n");
    let written = receipt.written.first.join(" ");
    for name in ["site/app.log", "site/run", "site/lock"] {
        assert!(written.contains(name), "{name} is not named: {written}");
    }
    assert!(!written.contains("index.html"), "{written}");
    assert!(receipt.phases.iter().all(|span| span.phase != Phase::Settling), "{receipt:#?}");
}

#[test]
fn last_words_where_nothing_was_to_change_are_backed_up_and_put_back() {
    let mut bed = Bed::new();
    bed.stop = "echo stop >> log; echo bye >> site/notes; rm -f up".into();
    bed.write("site/notes", "one\n");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/index.html", "v2");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!(bed.read("site/notes").lines().next(), Some("one"));
    let backup = receipt.backup.expect("a backup");
    let snapshots: Vec<_> = engine.store().snapshots().expect("lists").iter().map(|info| info.id).collect();
    assert_eq!(snapshots, [good, backup], "what was backed up while it still wrote is superseded, and gone");
    let undone = restore(&engine, backup);
    reached(&undone);
    assert!(bed.read("site/notes").contains("bye"), "{}", bed.read("site/notes"));
}

#[test]
fn a_folder_in_which_only_excluded_names_came_and_went_decides_nothing() {
    let mut bed = Bed::new();
    bed.site_keys = "exclude = [\"run/**\", \"**/*.log\"]".into();
    std::fs::create_dir(bed.path("site/run")).expect("writable");
    bed.start = "cp site/index.html served; echo 1 > site/run/app.pid; touch site/$$.log up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/run/app.pid", "7");
    bed.write("site/assets/a.log", "a line");
    assert_eq!(plan_notes(&engine, good), (0, String::new()));
    bed.write("site/index.html", "v2");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!((bed.read("site/index.html"), bed.read("site/assets/a.log")), ("v1".into(), "a line".into()));
    assert_eq!(plan_notes(&engine, good).0, 0);
}

#[test]
fn excluded_names_that_come_and_go_all_the_time_do_not_stop_a_restore() {
    let mut bed = Bed::new();
    bed.site_keys = "exclude = [\"**/*.tmp\"]".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    std::fs::set_permissions(bed.path("site/assets"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("ours");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                let path = bed.path(&format!("site/assets/{}.tmp", number % 7));
                let _ = std::fs::write(&path, "x").and_then(|()| std::fs::remove_file(&path));
            }
        });
        let receipt = restore(&engine, good);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reached(&receipt);
    });
    assert_eq!(bed.read("site/index.html"), "v1");
}

#[test]
fn an_excluded_file_in_a_folder_that_goes_stays_with_the_folders_above_it() {
    let mut bed = Bed::new();
    bed.site_keys = "exclude = [\"**/*.log\"]".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    std::fs::create_dir_all(bed.path("site/releases/2/log")).expect("writable");
    bed.write("site/releases/2/log/app.log", "a line");
    bed.write("site/releases/2/code", "code");
    let (_, notes) = plan_notes(&engine, good);
    assert!(notes.contains("releases/2/log/app.log is excluded and stays"), "{notes}");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!(bed.read("site/releases/2/log/app.log"), "a line");
    assert!(!bed.path("site/releases/2/code").exists());
    assert_eq!(plan_notes(&engine, good).0, 0, "a second plan is empty");
    let undone = restore(&engine, receipt.backup.expect("a backup"));
    reached(&undone);
    assert_eq!(
        (bed.read("site/releases/2/code"), bed.read("site/releases/2/log/app.log")),
        ("code".into(), "a line".into())
    );
}

/// A service whose commands are a script in the tree that is restored.
fn scripted() -> Bed {
    let mut bed = Bed::new();
    let script = "case $1 in start) touch up ;; stop) rm -f up ;; status) test -f up ;; esac\n";
    bed.write("site/ctl", script);
    let call = |word: &str| format!("/bin/sh {}/site/ctl {word}", bed.path("").display());
    let (start, stop, status) = (call("start"), call("stop"), call("status"));
    (bed.start, bed.stop, bed.status) = (start, stop, status);
    bed
}

#[test]
fn a_release_that_broke_its_stop_and_its_status_is_left_by_the_commands_as_they_were_captured() {
    let bed = scripted();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    bed.write("site/ctl", "case $1 in start) touch up ;; *) echo no such module; exit 9 ;; esac\n");
    assert!(engine.plan(good, &everything(), &Cancel::new()).is_ok(), "it can be planned");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!(bed.read("site/index.html"), "v1");
    assert!(bed.path("up").exists(), "it was started again");
    assert!(!bed.path("store/lent").exists(), "what was lent is removed");
}

#[test]
fn a_release_behind_a_link_that_broke_its_stop_is_left_by_the_command_as_it_was_captured() {
    let mut bed = scripted();
    let well = bed.read("site/ctl");
    for (release, ctl) in [("1", well.as_str()), ("2", "echo no such module; exit 9\n")] {
        std::fs::create_dir_all(bed.path(&format!("site/releases/{release}/bin"))).expect("writable");
        bed.write(&format!("site/releases/{release}/bin/ctl"), ctl);
    }
    std::os::unix::fs::symlink("./assets/../releases/1", bed.path("site/running")).expect("writable");
    bed.stop = format!("/bin/sh {}/site/running/bin/ctl stop", bed.path("").display());
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/index.html", "v2");
    std::fs::remove_file(bed.path("site/running")).expect("ours");
    std::os::unix::fs::symlink("releases/2", bed.path("site/running")).expect("writable");
    std::fs::remove_dir_all(bed.path("site/releases/1")).expect("ours");
    reached(&restore(&engine, good));
    assert_eq!(bed.read("site/index.html"), "v1");
    assert!(bed.path("site/running/bin/ctl").exists() && bed.path("up").exists());
}

#[test]
fn a_service_that_nothing_stops_is_left_by_ending_its_processes_and_the_message_says_so() {
    let mut bed = Bed::new();
    bed.start = "(setsid sleep 600 >/dev/null 2>&1 & echo $! > pid); touch up".into();
    // One that is dead and not yet buried does not run.
    bed.status = "grep -q -v ') Z' /proc/$(cat pid)/stat 2>/dev/null || exit 3".into();
    bed.stop = "echo broken; exit 1".into();
    std::fs::remove_file(bed.path("up")).expect("it is there");
    bed.write("pid", "999999999");
    let engine = bed.engine();
    // As the agent starts it, so that its processes are known.
    let shell = |line: &str| {
        let hook = Hook { program: Program::from_shell(line), timeout: Duration::from_secs(20) };
        let store = bed.path("store").to_string_lossy().into_owned();
        let environment = [("RFS_COMPONENT", "app"), ("RFS_STORE", &store)];
        let ran = host::run(&hook, &environment, &Cancel::new()).expect("runs");
        assert_eq!(ran.exit, Exit::Code(0), "{ran:?}");
    };
    shell(&format!("cd {} && {{ {}; }}", bed.path("").display(), bed.start));
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Before, "{receipt:#?}");
    let failure = receipt.failure.expect("it was not stopped");
    assert_eq!(failure.reason, Reason::CommandFailed);
    assert!(failure.next.contains("--force-stop"), "{failure:?}");

    let choices = Choices { force_stop: true, ..Choices::default() };
    let forced = rfs_agent::engine::Order { choices, ..order(good, everything()) };
    let receipt = try_restore(&engine, forced).expect("begins");
    reached(&receipt);
    // The one that the restore started is ended by us.
    shell(&format!("kill {}", bed.read("pid").trim()));
}

#[test]
fn a_service_that_was_down_is_said_at_the_capture_and_in_the_plan() {
    let bed = Bed::new();
    std::fs::remove_file(bed.path("up")).expect("it was up");
    let engine = bed.engine();
    let info = capture(&engine).info;
    let notes: Vec<&String> = info.components.iter().flat_map(|part| &part.notes).collect();
    assert_eq!(notes, ["app is not running"]);
    bed.write("up", "");
    bed.deploy("v2");
    let (_, notes) = plan_notes(&engine, info.id);
    assert!(
        notes.contains("app was not running when the snapshot was taken, and will be stopped"),
        "{notes}"
    );
    let leftovers: Vec<PathBuf> = bed.leftovers();
    assert!(leftovers.is_empty());
}

#[test]
fn a_service_that_is_down_is_started_although_its_pid_file_comes_back() {
    // The number in it is that of another process by now, as after a reboot.
    let pid = std::process::id();
    let mut bed = Bed::new();
    bed.status = "test -s site/app.pid && kill -0 $(cat site/app.pid) || exit 3".into();
    bed.start = format!("echo start >> log; cp site/index.html served; echo {pid} > site/app.pid");
    bed.stop = "echo stop >> log; rm -f site/app.pid".into();
    bed.write("site/app.pid", &format!("{pid}\n"));
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/index.html", "v2");
    std::fs::remove_file(bed.path("site/app.pid")).expect("ours");
    reached(&restore(&engine, good));
    assert_eq!(bed.told(), ["start"], "it was down, and is brought up");
    assert_eq!(bed.read("served"), "v1");
}

#[test]
fn a_service_that_a_hook_stops_for_a_capture_runs_in_the_snapshot() {
    let mut bed = Bed::new();
    bed.site_keys = "quiesce = \"echo quiet >> ROOT/log; rm -f ROOT/up\"\nresume = \"touch ROOT/up\"".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    assert!(bed.path("up").exists(), "it has resumed");
    bed.deploy("v2");
    let (_, notes) = plan_notes(&engine, good);
    assert!(!notes.contains("not running"), "{notes}");
    reached(&restore(&engine, good));
    assert_eq!(bed.told(), ["quiet", "stop", "start"]);
    assert!(bed.path("up").exists(), "it runs as it did before the capture");
}

#[test]
fn a_service_that_a_hook_starts_for_a_capture_is_down_in_the_snapshot() {
    let mut bed = Bed::new();
    bed.site_keys = "quiesce = \"touch ROOT/up\"\nresume = \"rm -f ROOT/up\"".into();
    let engine = bed.engine();
    std::fs::remove_file(bed.path("up")).expect("it runs");
    let info = capture(&engine).info;
    let notes: Vec<&String> = info.components.iter().flat_map(|part| &part.notes).collect();
    assert_eq!(notes, ["app is not running", "app was started while the host was quiet"]);
}

#[test]
fn a_service_that_has_not_resumed_yet_is_in_the_next_snapshot_what_it_was_before() {
    let mut bed = Bed::new();
    bed.site_keys = "quiesce = \"rm -f ROOT/up\"\nresume = \"test -e ROOT/well && touch ROOT/up\"".into();
    let engine = bed.engine();
    let take = |number| engine.capture(&Default::default(), "test", operation(number), &Cancel::new());
    take(1).expect_err("it does not resume");
    assert!(!bed.path("up").exists());
    bed.write("well", "");
    let good = take(2).expect("captured").info.id;
    assert!(bed.path("up").exists(), "it has resumed");
    let (_, notes) = plan_notes(&engine, good);
    assert!(!notes.contains("not running"), "{notes}");
}
