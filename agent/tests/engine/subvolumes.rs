//! Subvolumes of btrfs in a tree, as snapper keeps its snapshots there: those that are read-only are nobody's to change.

use rfs_model::{Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, restore, try_restore};
use crate::space::{Mount, shell};
use crate::taken::{notes_of_plan, reached, with};

/// A host whose site is a subvolume with one for snapshots in it.
struct Host {
    bed: Bed,
    _mount: Mount,
}

impl Host {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("disk");
        let mount = Mount::btrfs(&disk)?;
        assert!(shell(&format!("btrfs -q subvolume create {}/site", disk.display())));
        let bed = Bed::within(folder, disk);
        let host = Self { bed, _mount: mount };
        host.btrfs("create", "site/.snapshots", None);
        Some(host)
    }

    fn btrfs(&self, what: &str, one: &str, other: Option<&str>) {
        let paths: Vec<String> =
            std::iter::once(one).chain(other).map(|path| self.bed.path(path).display().to_string()).collect();
        assert!(shell(&format!("btrfs -q subvolume {what} {}", paths.join(" "))), "{what} {paths:?}");
    }

    /// What snapper does once an hour.
    fn snapshot(&self, number: u32) {
        let folder = format!("site/.snapshots/{number}");
        std::fs::create_dir(self.bed.path(&folder)).expect("writable");
        self.bed.write(&format!("{folder}/info.xml"), "info");
        self.btrfs("snapshot -r", "site", Some(&format!("{folder}/snapshot")));
    }
}

#[test]
fn a_read_only_subvolume_is_left_out_by_name_and_never_touched() {
    let Some(host) = Host::new() else { return };
    let bed = &host.bed;
    host.snapshot(1);
    let engine = bed.engine();
    let info = capture(&engine).info;
    let said = info.components.iter().flat_map(|part| part.notes.clone()).collect::<Vec<_>>().join("\n");
    for text in [
        "site/.snapshots is a subvolume and is captured too",
        "site/.snapshots/1/snapshot is a read-only subvolume and is left out",
    ] {
        assert!(said.contains(text), "{said}");
    }
    bed.deploy("v2");
    host.snapshot(2);
    host.btrfs("delete", "site/.snapshots/1/snapshot", None);
    let notes = notes_of_plan(&engine, info.id);
    assert!(notes.contains("2/snapshot is a read-only subvolume and is left alone"), "{notes}");
    let receipt = restore(&engine, info.id);
    reached(&receipt);
    assert_eq!(bed.read("site/index.html"), "v1");
    assert_eq!(bed.read("site/.snapshots/2/snapshot/index.html"), "v2", "what is read-only stays");
    assert!(!bed.path("site/.snapshots/1/snapshot").exists(), "and none is made");
    assert_eq!(engine.plan(info.id, &everything(), &Cancel::new()).expect("plans").step_count, 0);
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    assert_eq!(bed.read("site/index.html"), "v2");
    assert_eq!(bed.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_subvolume_that_is_read_only_since_is_refused_until_it_is_left_out() {
    let Some(host) = Host::new() else { return };
    let bed = &host.bed;
    host.btrfs("create", "site/data", None);
    bed.write("site/data/rows", "one");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/data/rows", "two");
    bed.deploy("v2");
    let data = bed.path("site/data").display().to_string();
    assert!(shell(&format!("btrfs property set {data} ro true")));
    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("nothing can be written there");
    assert_eq!(obstacle.reason, Reason::LossNotAccepted);
    assert!(
        obstacle.message.contains("is a read-only subvolume now, and the snapshot has 1 entries"),
        "{obstacle:?}"
    );
    assert_eq!(restore(&engine, good).standing, Standing::Before);
    let accept = rfs_agent::component::choices::Choices { accept_loss: vec![data], ..Default::default() };
    reached(&try_restore(&engine, with(accept, good)).expect("begins"));
    assert_eq!((bed.read("site/index.html"), bed.read("site/data/rows")), ("v1".into(), "two".into()));
}

#[test]
fn a_root_that_is_a_subvolume_is_restored_with_the_writable_ones_in_it() {
    let Some(host) = Host::new() else { return };
    let bed = &host.bed;
    host.btrfs("create", "site/data", None);
    bed.write("site/data/rows", "one");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/data/rows", "two");
    bed.write("site/data/more", "more");
    reached(&restore(&engine, good));
    assert_eq!((bed.read("site/data/rows"), bed.path("site/data/more").exists()), ("one".into(), false));
}
