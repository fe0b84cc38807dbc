//! Mounts in a tree and at its top: nothing that is mounted is emptied, filled beneath, or given another owner, without a word.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rfs_agent::component::choices::Choices;
use rfs_agent::engine::{Captured, Engine};
use rfs_model::{Reason, SnapshotId, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, restore, try_restore};
use crate::space::{Mount, shell};
use crate::taken::{notes_of_plan, reached, with};

/// What was said at the capture.
pub(crate) fn notes_of(captured: &Captured) -> String {
    let notes = captured.info.components.iter().flat_map(|part| part.notes.clone());
    notes.collect::<Vec<_>>().join("\n")
}

/// It is refused in the plan already, with this text and the way out, and nothing is touched.
pub(crate) fn assert_refused(engine: &Engine, target: SnapshotId, text: &str) {
    let plan = engine.plan(target, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("the plan says it");
    assert!(obstacle.message.contains(text), "{obstacle:?}");
    assert!(obstacle.message.contains("--accept-loss"), "{obstacle:?}");
    assert_eq!(obstacle.reason, Reason::LossNotAccepted);
    let receipt = restore(engine, target);
    assert_eq!(receipt.standing, Standing::Before, "{receipt:#?}");
    assert!(receipt.downtime.is_empty(), "a service was stopped: {receipt:#?}");
}

fn accept(path: &Path) -> Choices {
    Choices { accept_loss: vec![path.display().to_string()], ..Choices::default() }
}

/// A host with one more component, whose only path is `vol`.
fn with_volume() -> Bed {
    let mut bed = Bed::new();
    bed.more = "[[component]]\nname = \"vol\"\nkind = \"files\"\npaths = [\"ROOT/vol\"]".into();
    fs::create_dir(bed.path("vol")).expect("writable");
    bed
}

#[test]
fn a_mount_that_is_left_out_is_said_and_one_that_came_since_is_left_alone() {
    let bed = Bed::new();
    for folder in ["site/data", "site/media"] {
        fs::create_dir(bed.path(folder)).expect("writable");
    }
    let Some(_data) = Mount::new(&bed.path("site/data"), "1m") else { return };
    bed.write("site/data/rows", "rows");
    let engine = bed.engine();
    let captured = capture(&engine);
    let said = notes_of(&captured);
    assert!(said.contains("site/data is a mount (tmpfs) and is left out"), "{said}");

    let Some(_media) = Mount::new(&bed.path("site/media"), "1m") else { return };
    bed.write("site/media/photo", "precious");
    bed.write("site/data/rows", "more rows");
    bed.deploy("v2");
    let notes = notes_of_plan(&engine, captured.info.id);
    assert!(notes.contains("site/media is a mount (tmpfs) and is left alone"), "{notes}");
    reached(&restore(&engine, captured.info.id));
    let read = ["site/index.html", "site/media/photo", "site/data/rows"].map(|path| bed.read(path));
    assert_eq!(read, ["v1", "precious", "more rows"]);
}

#[test]
fn a_file_that_is_mounted_into_a_folder_which_goes_stays_and_the_plan_says_so() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("secret", "secret");
    fs::create_dir_all(bed.path("site/new/conf")).expect("writable");
    bed.write("site/new/conf/key", "");
    bed.write("site/new/code", "code");
    let Some(_bound) = Mount::bind(&bed.path("secret"), &bed.path("site/new/conf/key")) else { return };
    bed.deploy("v2");
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("new/conf/key is a mount and stays, with the folders above it"), "{notes}");
    reached(&restore(&engine, good));
    let read = ["site/index.html", "site/new/conf/key", "secret"].map(|path| bed.read(path));
    assert_eq!(read, ["v1", "secret", "secret"]);
    assert!(!bed.path("site/new/code").exists(), "what is not mounted goes");
    assert_eq!(engine.plan(good, &everything(), &Cancel::new()).expect("plans").step_count, 0);
}

#[test]
fn a_volume_that_was_not_mounted_is_never_emptied_and_keeps_its_own_owner() {
    let bed = with_volume();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let vol = bed.path("vol");
    let Some(_mount) = Mount::new(&vol, "1m") else { return };
    assert!(shell(&format!("chown 7:7 {0} && chmod 710 {0}", vol.display())));
    bed.write("vol/rows", "rows");
    assert_refused(&engine, good, "tmpfs");
    assert_eq!(bed.read("vol/rows"), "rows");

    // A person may want it all the same; what the volume itself is belongs to whoever mounted it.
    let receipt = try_restore(&engine, with(accept(&vol), good)).expect("begins");
    reached(&receipt);
    assert!(!bed.path("vol/rows").exists() && receipt.lost.first[0].ends_with("vol/rows"), "{receipt:#?}");
    let own = fs::metadata(&vol).expect("there");
    assert_eq!((own.uid(), own.gid(), own.mode() & 0o777), (7, 7, 0o710));
}

#[test]
fn a_volume_of_the_same_disk_is_told_from_the_empty_folder_beneath_it() {
    let bed = with_volume();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    fs::create_dir(bed.path("volume")).expect("writable");
    bed.write("volume/rows", "rows");
    let Some(mount) = Mount::bind(&bed.path("volume"), &bed.path("vol")) else { return };
    assert_refused(&engine, good, "vol now");
    assert_eq!(bed.read("volume/rows"), "rows");
    drop(mount);

    // The very folder through a mount of its own, as the sandbox of a unit has it, is no other one.
    bed.write("vol/new", "new");
    let Some(_mount) = Mount::bind(&bed.path("vol"), &bed.path("vol")) else { return };
    reached(&restore(&engine, good));
    assert!(!bed.path("vol/new").exists());
}

#[test]
fn a_disk_is_known_by_its_name_and_not_by_its_number_or_place() {
    for kind in ["xfs", "ext4", "btrfs"] {
        let bed = with_volume();
        let (vol, size) = (bed.path("vol"), "320m");
        let Some(disk) = Mount::image(kind, &vol, size, "") else { continue };
        bed.write("vol/rows", "one");
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        // After a reboot it may have another number.
        drop(disk);
        let folder = tempfile::tempdir().expect("a folder");
        let Some(_first) = Mount::image("ext4", &folder.path().join("first"), "8m", "") else { return };
        let image = vol.with_extension("image");
        assert!(shell(&format!("mount -o loop {} {}", image.display(), vol.display())), "{kind}");
        bed.write("vol/rows", "two");
        reached(&restore(&engine, good));
        assert_eq!(bed.read("vol/rows"), "one", "{kind}");

        assert!(shell(&format!("umount {}", vol.display())));
        let Some(_other) = Mount::image(kind, &vol, size, "") else { return };
        bed.write("vol/precious", "precious");
        assert_refused(&engine, good, "with UUID");
        assert_eq!(bed.read("vol/precious"), "precious", "{kind}");
    }
}

#[test]
fn another_disk_within_a_tree_that_takes_mounts_in_is_refused_until_it_is_accepted() {
    let mut bed = Bed::new();
    bed.site_keys = "one_file_system = false\nexclude = [\"*.image\"]".into();
    let data = bed.path("site/data");
    let Some(disk) = Mount::image("ext4", &data, "8m", "") else { return };
    bed.write("site/data/rows", "one");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    drop(disk);
    let image = data.with_extension("image");
    fs::remove_file(&image).expect("ours");
    let Some(_other) = Mount::image("ext4", &data, "8m", "") else { return };
    bed.write("site/data/precious", "precious");
    assert!(shell(&format!("chown 7:7 {0} && chmod 710 {0}", data.display())));
    assert_refused(&engine, good, "with UUID");
    assert_eq!(bed.read("site/data/precious"), "precious");
    reached(&try_restore(&engine, with(accept(&data), good)).expect("begins"));
    assert_eq!((bed.read("site/data/rows"), bed.path("site/data/precious").exists()), ("one".into(), false));
    let own = fs::metadata(&data).expect("there");
    assert_eq!((own.uid(), own.gid(), own.mode() & 0o777), (7, 7, 0o710), "a mount's own top is not touched");
}
