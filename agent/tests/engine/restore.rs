//! Restores that reach their target.

use std::path::PathBuf;

use rfs_agent::commander::Selection;
use rfs_agent::engine::Phase;
use rfs_model::{ComponentName, Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, order, restore, try_restore};

fn component(name: &str) -> Selection {
    Selection { components: [ComponentName::new(name).expect("a name")].into(), ..Selection::default() }
}

#[test]
fn a_restore_brings_files_and_service_back_and_its_backup_brings_back_what_it_undid() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let target = bed.state();
    bed.deploy("v2");
    let before = bed.state();

    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    assert_eq!(bed.state(), target);
    assert_eq!((bed.read("served"), bed.told()), ("v1".into(), vec!["stop".into(), "start".into()]));
    assert_eq!(receipt.applied, receipt.planned);
    assert!(receipt.planned > 3, "{receipt:?}");
    assert_eq!(receipt.downtime.len(), 1);
    let phases: Vec<Phase> = receipt.phases.iter().map(|span| span.phase).collect();
    let way = [
        Phase::Accepted,
        Phase::BackingUp,
        Phase::Staging,
        Phase::Quiescing,
        Phase::Flipping,
        Phase::Starting,
        Phase::Verifying,
        Phase::Committed,
        Phase::Discarding,
    ];
    assert_eq!(phases, way);
    assert_eq!(bed.leftovers(), Vec::<PathBuf>::new());

    let backup = receipt.backup.expect("a backup was made");
    let marks = |id| engine.snapshot(id).map(|s| s.info().expect("readable").marks).expect("it is there");
    assert_eq!(marks(backup).in_use.len(), 1, "the way back is kept");
    assert!(marks(good).in_use.is_empty() && marks(good).proof.is_some(), "the target has been proven");

    let undone = restore(&engine, backup);
    assert_eq!(undone.standing, Standing::Target, "{undone:?}");
    assert_eq!(bed.state(), before);
    assert_eq!(bed.read("served"), "v2");
}

#[test]
fn a_plan_touches_nothing_and_is_what_the_restore_does() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();

    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    assert_eq!((bed.state(), bed.told(), bed.leftovers().len()), (before, Vec::<String>::new(), 0));
    let lines: Vec<String> =
        plan.steps.iter().map(|step| step.text.replace(&bed.path("").display().to_string(), "/")).collect();
    let expected = [
        "stop app",
        "link /site/current -> assets/v1.css",
        "write /site/index.html (2 B)",
        "delete /site/assets/v2.css (2 B)",
        "start app",
    ];
    assert_eq!(lines, expected);
    assert_eq!(plan.loss_count, 1);
    assert!(plan.losses[0].ends_with("site/assets/v2.css"), "{:?}", plan.losses);

    let receipt = restore(&engine, good);
    assert_eq!(receipt.applied, plan.step_count - 1, "a service's stop and start are one turn");
    let again = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    assert_eq!(again.step_count, 0, "{:?}", again.steps);
}

#[test]
fn a_host_that_is_at_the_target_is_left_alone() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let receipt = restore(&engine, good);
    assert_eq!((receipt.standing, receipt.planned), (Standing::Target, 0));
    assert_eq!(bed.told(), Vec::<String>::new());
}

#[test]
fn only_services_that_the_change_touches_stop() {
    let mut bed = Bed::new();
    bed.more =
        "uses = []\n[[component]]\nname = \"other\"\nkind = \"files\"\npaths = [\"ROOT/other\"]".into();
    // `uses` stands in `app`, which is the component before it.
    bed.more = "[[component]]\nname = \"other\"\nkind = \"files\"\npaths = [\"ROOT/other\"]\n\
                [[component]]\nname = \"worker\"\nkind = \"services\"\nuses = [\"other\"]\n[component.commands]\n\
                start = \"touch ROOT/worker\"\nstop = \"echo worker >> ROOT/log; rm ROOT/worker\"\n\
                status = \"test -f ROOT/worker\""
        .into();
    bed.write("worker", "");
    std::fs::create_dir(bed.path("other")).expect("writable");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    assert_eq!(restore(&engine, good).standing, Standing::Target);
    assert_eq!(bed.told(), ["stop", "start"], "worker uses other, which has not changed");
}

#[test]
fn a_selection_changes_what_is_selected_and_nothing_else() {
    let mut bed = Bed::new();
    bed.more = "[[component]]\nname = \"other\"\nkind = \"files\"\npaths = [\"ROOT/other\"]".into();
    std::fs::create_dir(bed.path("other")).expect("writable");
    bed.write("other/a", "1");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let change = || {
        bed.deploy("v2");
        bed.write("other/a", "2");
    };

    change();
    let receipt = try_restore(&engine, order(good, component("other"))).expect("begins");
    assert_eq!(receipt.standing, Standing::Target);
    assert_eq!((bed.read("other/a"), bed.read("site/index.html")), ("1".into(), "v2".into()));

    change();
    let selection = Selection { paths: [bed.path("site/index.html")].into(), ..Selection::default() };
    let receipt = try_restore(&engine, order(good, selection)).expect("begins");
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    assert_eq!((bed.read("other/a"), bed.read("site/index.html")), ("2".into(), "v1".into()));
    assert!(bed.path("site/assets/v2.css").exists(), "it was not selected");
}

#[test]
fn a_selection_that_cannot_be_is_refused_before_anything_is_done() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let check = |selection: Selection, reason: Reason, message: &str| {
        let refusal = try_restore(&engine, order(good, selection)).expect_err(message);
        assert_eq!(refusal.reason, reason, "{refusal:?}");
        assert!(refusal.message.contains(message) && !refusal.next.is_empty(), "{refusal:?}");
    };
    check(component("nothing"), Reason::ComponentNotFound, "component nothing is not configured");
    let paths = |path: PathBuf| Selection { paths: [path].into(), ..Selection::default() };
    check(
        paths("/etc/passwd".into()),
        Reason::PathOutsideComponent,
        "/etc/passwd lies in none of the chosen components",
    );
    check(paths(bed.path("site-2/a")), Reason::PathOutsideComponent, "lies in none of the chosen");
    let both = Selection { paths: [bed.path("site/index.html")].into(), ..component("app") };
    check(both, Reason::PathOutsideComponent, "lies in none of the chosen");
    assert_eq!(bed.told(), Vec::<String>::new());
}

#[test]
fn what_is_excluded_or_never_restored_stays_as_it_is() {
    let mut bed = Bed::new();
    bed.site_keys =
        "exclude = [\"**/*.log\"]\nnever_restore = [\"ROOT/site/secret\", \"ROOT/site/keys/**\"]".into();
    std::fs::create_dir(bed.path("site/keys")).expect("writable");
    for (path, text) in [("site/secret", "old"), ("site/keys/a", "old"), ("site/a.log", "old")] {
        bed.write(path, text);
    }
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    for (path, text) in [("site/secret", "rotated"), ("site/keys/a", "rotated"), ("site/a.log", "more")] {
        bed.write(path, text);
    }
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    let kept = ["site/secret", "site/keys/a", "site/a.log", "site/index.html"].map(|path| bed.read(path));
    assert_eq!(kept, ["rotated", "rotated", "more", "v1"]);
}

#[test]
fn a_service_comes_back_as_it_was_captured_and_its_undo_as_it_was_found() {
    let bed = Bed::new();
    let engine = bed.engine();
    let up = capture(&engine).info.id;
    std::fs::remove_file(bed.path("up")).expect("it was up");
    let receipt = restore(&engine, up);
    assert_eq!(receipt.standing, Standing::Target);
    assert_eq!(bed.told(), ["start"]);
    assert_eq!(receipt.downtime, [], "it was down before, and not by us");
    let undone = restore(&engine, receipt.backup.expect("a backup"));
    assert_eq!((undone.standing, bed.path("up").exists()), (Standing::Target, false));
}

#[test]
fn what_a_service_writes_as_it_stops_is_in_the_backup() {
    let mut bed = Bed::new();
    // The last words of the service change a file that the restore is about to replace.
    bed.stop = "echo stop >> log; echo last words >> site/index.html; rm -f up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let target = bed.state();
    bed.deploy("v2");
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    assert_eq!(bed.state(), target);
    assert!(receipt.phases.iter().any(|span| span.phase == Phase::Settling), "{receipt:?}");
    assert_eq!(receipt.applied, receipt.planned);
    assert_eq!(bed.told(), ["stop", "start"], "once");

    let held = engine.store().snapshots().expect("lists").into_iter().filter(|s| !s.marks.in_use.is_empty());
    assert_eq!(
        held.map(|s| s.id).collect::<Vec<_>>(),
        receipt.backup.into_iter().collect::<Vec<_>>(),
        "one way back"
    );

    let undone = restore(&engine, receipt.backup.expect("a backup"));
    assert_eq!(undone.standing, Standing::Target, "{undone:?}");
    assert_eq!(bed.read("site/index.html"), "v2last words\n");
    assert!(bed.path("up").exists(), "the backup knows that the service ran");
    assert_eq!(bed.leftovers(), Vec::<PathBuf>::new());
}
