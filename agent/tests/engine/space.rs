//! Full disks: small file systems in memory, mounted where the user may.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rfs_agent::config::{Hook, Program};
use rfs_agent::engine::Receipt;
use rfs_agent::host::{self, Exit};
use rfs_model::time::SystemClock;
use rfs_model::{Clock as _, Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, operation, restore};

/// A file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// None where the user may not mount; that is said.
    fn new(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("writable");
        let options = format!("size={size},mode=0755");
        let mounted = shell(&format!("mount -t tmpfs -o {options} rfs-test {}", path.display()));
        if !mounted {
            eprintln!("skipped: full disks: this user may not mount a tmpfs");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        shell(&format!("umount -l {}", self.0.display()));
    }
}

fn shell(line: &str) -> bool {
    let hook = Hook { program: Program::from_shell(line), timeout: Duration::from_secs(20) };
    host::run(&hook, &[], &Cancel::new()).is_ok_and(|finished| finished.exit == Exit::Code(0))
}

/// Random bytes, which no compression makes smaller.
fn noise(path: &Path, kib: u32) {
    assert!(shell(&format!("head -c {} /dev/urandom > {}", kib * 1024, path.display())));
}

#[test]
fn a_disk_that_is_full_before_the_exchange_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&disk, "16m") else { return };
    let bed = Bed::within(folder, disk.clone());
    noise(&bed.path("site/large"), 2048);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let _ = std::fs::remove_file(bed.path("site/large"));
    bed.deploy("v2");
    // What is left is less than the large file needs.
    assert!(shell(&format!("head -c 900M /dev/zero > {}; true", bed.path("filler").display())));
    let before = bed.state();
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Before, "{receipt:?}");
    assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::NoSpace));
    assert_eq!(bed.state(), before);
    assert_eq!(bed.leftovers(), Vec::<PathBuf>::new());

    std::fs::remove_file(bed.path("filler")).expect("it was there");
    assert_eq!(restore(&engine, good).standing, Standing::Target);
}

#[test]
fn a_disk_that_fills_up_while_services_are_down_does_not_stop_the_way_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&disk, "16m") else { return };
    let mut bed = Bed::within(folder, disk.clone());
    // As it starts, the old release fills the disk to the last byte and fails.
    bed.start = "if grep -q v1 site/index.html; then cat /dev/zero > filler; exit 1; fi; touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Before, "{receipt:?}");
    assert_eq!(bed.state(), before);
    assert!(engine.inconsistent().expect("readable").is_none());
    let kept = engine.journal().receipts::<Receipt>(1).expect("readable");
    assert_eq!(
        (kept[0].standing, kept[0].ended_at),
        (receipt.standing, receipt.ended_at),
        "though the disk is full"
    );
    drop(engine);
    std::fs::remove_file(bed.path("filler")).expect("it was there");
    assert!(bed.open().recovered.is_none(), "its end is in the journal");
}

#[test]
fn a_disk_that_is_too_small_is_found_before_anything_is_quiet() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&disk, "16m") else { return };
    let mut bed = Bed::within(folder, disk.clone());
    bed.site_keys = "quiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resumed >> ROOT/log\"".into();
    let engine = bed.engine();
    noise(&bed.path("site/large"), 10 * 1024);
    let until = SystemClock.now().plus(Duration::from_secs(60));
    let refusal = engine.prepare(operation(1), &everything(), until).expect_err("no room");
    assert_eq!(refusal.reason, Reason::NoSpace, "{refusal:?}");
    assert_eq!(bed.told(), Vec::<String>::new());

    std::fs::remove_file(bed.path("site/large")).expect("it was there");
    engine.prepare(operation(2), &everything(), until).expect("there is room now");
    engine.cut_checkpoint(operation(2), "after", until).expect("cuts");
    engine.finish(operation(2)).expect("finishes");
    assert_eq!(bed.told(), ["quiet", "resumed"]);
}
