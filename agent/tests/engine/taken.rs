//! A snapshot is restored by what it was taken with, and nothing is removed without a word.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rfs_agent::commander::Selection;
use rfs_agent::component::choices::Choices;
use rfs_agent::engine::{Engine, Order, Receipt};
use rfs_model::{Reason, SnapshotId, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, order, restore, try_restore};
use crate::space::Mount;

pub(crate) fn reached(receipt: &Receipt) {
    assert_eq!(receipt.standing, Standing::Target, "{receipt:#?}");
}

pub(crate) fn with(choices: Choices, target: SnapshotId) -> Order {
    Order { choices, ..order(target, everything()) }
}

pub(crate) fn notes_of_plan(engine: &Engine, target: SnapshotId) -> String {
    engine.plan(target, &everything(), &Cancel::new()).expect("plans").notes.join("\n")
}

#[test]
fn an_exclude_that_was_lifted_deletes_nothing_that_was_never_captured() {
    let mut bed = Bed::new();
    bed.site_keys = "exclude = [\"uploads/**\"]".into();
    std::fs::create_dir(bed.path("site/uploads")).expect("writable");
    bed.write("site/uploads/photo", "precious");
    let good = capture(&bed.engine()).info.id;
    bed.site_keys = String::new();
    let engine = bed.engine();
    bed.deploy("v2");
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("uploads/** was excluded at the capture and stays as it is"), "{notes}");
    reached(&restore(&engine, good));
    assert_eq!(
        (bed.read("site/uploads/photo"), bed.read("site/index.html")),
        ("precious".into(), "v1".into())
    );
}

#[test]
fn a_path_that_was_added_or_taken_out_since_is_left_alone_and_named() {
    let mut bed = Bed::new();
    let other = "[[component]]\nname = \"two\"\nkind = \"files\"\npaths = [\"ROOT/a\", \"ROOT/b\"]";
    bed.more = other.into();
    for (path, text) in [("a", "a1"), ("b", "b1"), ("c", "c1")] {
        bed.write(path, text);
    }
    let good = capture(&bed.engine()).info.id;
    bed.more = other.replace("ROOT/b", "ROOT/c");
    for path in ["a", "b", "c"] {
        bed.write(path, "now");
    }
    let engine = bed.engine();
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("/c is not in the snapshot and is left alone"), "{notes}");
    assert!(notes.contains("/b is no longer configured and is left alone"), "{notes}");
    reached(&restore(&engine, good));
    assert_eq!(["a", "b", "c"].map(|path| bed.read(path)), ["a1", "now", "now"]);
}

#[test]
fn what_is_absent_empty_or_a_link_is_said_at_the_capture() {
    let mut bed = Bed::new();
    bed.more =
        "[[component]]\nname = \"odd\"\nkind = \"files\"\npaths = [\"ROOT/absent\", \"ROOT/empty\"]".into();
    std::fs::create_dir(bed.path("empty")).expect("writable");
    let info = capture(&bed.engine()).info;
    let notes = info.components.iter().flat_map(|part| part.notes.clone()).collect::<Vec<_>>().join("\n");
    assert!(notes.contains("absent is not there") && notes.contains("empty is empty"), "{notes}");
}

#[test]
fn what_is_removed_is_counted_named_and_in_the_backup() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/upload-1", "photo");
    bed.write("site/upload-2", "another");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!((receipt.lost.count, receipt.lost.bytes.0), (2, 12));
    assert!(receipt.lost.first[0].ends_with("site/upload-1"), "{:?}", receipt.lost);
    let paths = Selection { paths: [bed.path("site/upload-1")].into(), ..Selection::default() };
    reached(&try_restore(&engine, order(receipt.backup.expect("a backup"), paths)).expect("begins"));
    assert_eq!(bed.read("site/upload-1"), "photo");
    assert!(!bed.path("site/upload-2").exists());
}

#[test]
fn extras_are_kept_or_refused_as_the_component_declares() {
    let mut bed = Bed::new();
    bed.site_keys = "extras = { \"uploads/**\" = \"keep\", \"**/*.db\" = \"refuse\" }".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    std::fs::create_dir(bed.path("site/uploads")).expect("writable");
    bed.write("site/uploads/photo", "photo");
    bed.write("site/other", "goes");
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("uploads/photo is not in the snapshot and is kept"), "{notes}");
    reached(&restore(&engine, good));
    assert_eq!(bed.read("site/uploads/photo"), "photo");
    assert!(!bed.path("site/other").exists());
    assert_eq!(engine.plan(good, &everything(), &Cancel::new()).expect("plans").step_count, 0);

    bed.write("site/rows.db", "rows");
    bed.deploy("v2");
    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("it is refused");
    assert_eq!(obstacle.reason, Reason::LossNotAccepted);
    assert!(
        obstacle.message.contains("rows.db") && obstacle.message.contains("--accept-loss"),
        "{obstacle:?}"
    );
    let refused = restore(&engine, good);
    assert_eq!(refused.standing, Standing::Before);
    assert_eq!(refused.failure.map(|failure| failure.reason), Some(Reason::LossNotAccepted));
    assert_eq!(
        (bed.read("site/rows.db"), bed.told().len()),
        ("rows".into(), 2),
        "no service was stopped for it"
    );

    let keep = Choices { keep: vec!["**/*.db".into()], ..Choices::default() };
    reached(&try_restore(&engine, with(keep, good)).expect("begins"));
    assert_eq!((bed.read("site/rows.db"), bed.read("site/index.html")), ("rows".into(), "v1".into()));
    let accept = Choices { accept_loss: vec!["rows.db".into()], ..Choices::default() };
    reached(&try_restore(&engine, with(accept, good)).expect("begins"));
    assert!(!bed.path("site/rows.db").exists());
}

#[test]
fn a_choice_that_means_nothing_is_refused_before_anything_is_begun() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let choices = Choices { keep: vec!["a[".into()], ..Choices::default() };
    let refusal = try_restore(&engine, with(choices, good)).expect_err("it is no pattern");
    assert_eq!(refusal.reason, Reason::InvalidArgument);
}

#[test]
fn a_path_of_any_bytes_is_restored_alone() {
    let bed = Bed::new();
    let name = std::ffi::OsStr::from_bytes(b"site/caf\xe9 %41");
    let path = bed.path("").join(Path::new(name));
    std::fs::File::create(&path).expect("writable");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    std::fs::remove_file(&path).expect("ours");
    bed.write("site/index.html", "v2");
    let selection = Selection { paths: [path.clone()].into(), ..Selection::default() };
    reached(&try_restore(&engine, order(good, selection)).expect("begins"));
    assert!(path.exists());
    assert_eq!(bed.read("site/index.html"), "v2");
}

#[test]
fn a_root_that_is_a_link_is_refused_until_it_is_said_what_is_meant() {
    let mut bed = Bed::new();
    let component = |key: &str| {
        format!("[[component]]\nname = \"app-code\"\nkind = \"files\"\npaths = [\"ROOT/now\"]\n{key}")
    };
    for release in ["1", "2"] {
        std::fs::create_dir_all(bed.path("releases").join(release)).expect("writable");
        bed.write(&format!("releases/{release}/version"), release);
    }
    let now = bed.path("now");
    let link = |to: &str| {
        let _ = std::fs::remove_file(&now);
        std::os::unix::fs::symlink(to, &now).expect("writable");
    };
    link("releases/1");
    bed.more = component("");
    let refused = bed.engine().capture(&Default::default(), "test", crate::bed::operation(5), &Cancel::new());
    let refusal = refused.expect_err("nobody has said what is meant");
    for way in ["follow_roots = true", "follow_roots = false"] {
        assert!(refusal.message.contains(way), "{refusal:?}");
    }
    bed.more = component("follow_roots = true");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    link("releases/2");
    bed.write("releases/1/version", "broken");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!((bed.read("now/version"), bed.read("releases/2/version")), ("1".into(), "2".into()));
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    assert_eq!((bed.read("now/version"), bed.read("releases/1/version")), ("2".into(), "broken".into()));
}

#[test]
fn what_is_mounted_is_restored_where_it_is_taken_in_and_never_filled_beneath_a_mount() {
    let mut bed = Bed::new();
    bed.site_keys = "one_file_system = false".into();
    let Some(mount) = Mount::new(&bed.path("site/data"), "4m") else { return };
    for path in ["site/data/rows", "site/data/sub/row"] {
        std::fs::create_dir_all(bed.path(path).parent().expect("a folder")).expect("writable");
        bed.write(path, "one");
    }
    let engine = bed.engine();
    let info = capture(&engine).info;
    let notes = info.components.iter().flat_map(|part| part.notes.clone()).collect::<Vec<_>>().join("\n");
    assert!(notes.contains("site/data is a mount (tmpfs) and is captured too"), "{notes}");
    bed.write("site/data/rows", "two");
    std::fs::remove_dir_all(bed.path("site/data/sub")).expect("ours");
    bed.write("site/data/new", "new");
    let receipt = restore(&engine, info.id);
    reached(&receipt);
    assert_eq!(["rows", "sub/row"].map(|path| bed.read(&format!("site/data/{path}"))), ["one", "one"]);
    assert_eq!((receipt.lost.count, bed.path("site/data/new").exists()), (1, false));

    drop(mount);
    bed.deploy("v2");
    let plan = engine.plan(info.id, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("the volume is not mounted");
    assert!(
        obstacle.message.contains("was tmpfs") && obstacle.message.contains("not mounted"),
        "{obstacle:?}"
    );
    assert_eq!(restore(&engine, info.id).standing, Standing::Before);
    assert_eq!(std::fs::read_dir(bed.path("site/data")).expect("a folder").count(), 0);
}

#[test]
fn a_volume_above_a_path_that_is_not_mounted_now_is_not_filled_beneath_its_mount() {
    let mut bed = Bed::new();
    bed.more = "[[component]]\nname = \"app-data\"\nkind = \"files\"\npaths = [\"ROOT/vol/app\"]".into();
    let Some(mount) = Mount::new(&bed.path("vol"), "4m") else { return };
    std::fs::create_dir(bed.path("vol/app")).expect("writable");
    bed.write("vol/app/rows", "one");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    drop(mount);
    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("the volume is not mounted");
    assert_eq!(obstacle.reason, Reason::LossNotAccepted);
    assert!(obstacle.message.contains("vol/app of app-data was tmpfs at"), "{obstacle:?}");
    assert_eq!(restore(&engine, good).standing, Standing::Before);
    assert_eq!(std::fs::read_dir(bed.path("vol")).expect("a folder").count(), 0);
    // A person may want it there all the same.
    let choices =
        Choices { accept_loss: vec![bed.path("vol/app").display().to_string()], ..Choices::default() };
    reached(&try_restore(&engine, with(choices, good)).expect("begins"));
    assert_eq!(bed.read("vol/app/rows"), "one");
}

#[test]
fn one_file_in_two_components_comes_back_in_both() {
    let mut bed = Bed::new();
    bed.more = "[[component]]\nname = \"copy\"\nkind = \"files\"\npaths = [\"ROOT/copy\"]".into();
    std::fs::create_dir(bed.path("copy")).expect("writable");
    std::fs::hard_link(bed.path("site/index.html"), bed.path("copy/index.html")).expect("one file system");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    // In place, so that both names change.
    std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(bed.path("site/index.html"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"v2"))
        .expect("writable");
    let receipt = restore(&engine, good);
    reached(&receipt);
    assert_eq!(["site/index.html", "copy/index.html"].map(|path| bed.read(path)), ["v1", "v1"]);
    assert_eq!(bed.told(), ["stop", "start"], "it was not taken for somebody's change");
}
