//! Full disks: small file systems in memory, mounted where the user may.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rfs_agent::config::{Hook, Program};
use rfs_agent::engine::Receipt;
use rfs_agent::host::{self, Exit};
use rfs_model::{Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, operation, restore};

/// A file system of its own, unmounted when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// None where the user may not mount; that is said.
    pub(crate) fn new(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("writable");
        let options = format!("size={size},mode=0755");
        let mounted = shell(&format!("mount -t tmpfs -o {options} rfs-test {}", path.display()));
        if !mounted {
            skip("this user may not mount a tmpfs");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// A file system of that kind in an image beside `path`; more words for its `mkfs`. None where there is none; that is said.
    pub(crate) fn image(kind: &str, path: &Path, size: &str, more: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("writable");
        let (at, image) = (path.display(), path.with_extension("image"));
        let image = image.display();
        // One that is mounted in its place later is another disk.
        let line = format!(
            "rm -f {image} && truncate -s {size} {image} && mkfs.{kind} -q {more} {image} && mount -o loop {image} {at}"
        );
        let made = shell(&line);
        if !made {
            skip(&format!("there is no {kind} here, or this user may not mount it"));
        }
        made.then(|| Self(path.to_owned()))
    }

    /// What stands at `from`, at `path` too. None where the user may not mount; that is said.
    pub(crate) fn bind(from: &Path, path: &Path) -> Option<Self> {
        let made = shell(&format!("mount --bind {} {}", from.display(), path.display()));
        if !made {
            skip("this user may not bind");
        }
        made.then(|| Self(path.to_owned()))
    }

    /// A btrfs in an image, which goes with the mount. None where there is none; that is said.
    pub(crate) fn btrfs(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("writable");
        let (at, image) = (path.display(), path.with_extension("image"));
        let image = image.display();
        let made = shell(&format!(
            "truncate -s 300M {image} && mkfs.btrfs -q {image} && mount -o loop {image} {at} && btrfs --version"
        ));
        let mounted = Self(path.to_owned());
        if !made {
            skip("there is no btrfs here, or this user may not mount it");
        }
        made.then_some(mounted)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        shell(&format!("umount -l {}", self.0.display()));
    }
}

/// Says that a test, or a part of it, did not run, on the screen and in the file that `RFS_SKIPS` names.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {test}: {why}");
    let Some(path) = std::env::var_os("RFS_SKIPS") else { return };
    let list = std::fs::File::options().append(true).create(true).open(path);
    let _ = list.and_then(|mut list| writeln!(list, "{test}: {why}"));
}

pub(crate) fn shell(line: &str) -> bool {
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
    let until = Instant::now() + Duration::from_secs(60);
    let refusal = engine.prepare(operation(1), &everything(), until).expect_err("no room");
    assert_eq!(refusal.reason, Reason::NoSpace, "{refusal:?}");
    assert!(
        refusal.message.contains(&format!("not enough space at {}", bed.path("store").display())),
        "{refusal:?}"
    );
    assert!(refusal.message.contains("MiB needed beside a reserve of 328 KiB, and "), "{refusal:?}");
    assert!(refusal.next.contains("rfs-agent collect --dry-run"), "{refusal:?}");
    assert_eq!(bed.told(), Vec::<String>::new());

    std::fs::remove_file(bed.path("site/large")).expect("it was there");
    engine.prepare(operation(2), &everything(), until).expect("there is room now");
    engine.cut_checkpoint(operation(2), "after", until).expect("cuts");
    engine.finish(operation(2)).expect("finishes");
    assert_eq!(bed.told(), ["quiet", "resumed"]);
}

#[test]
fn a_restore_is_refused_before_its_backup_where_its_new_content_has_no_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    let Some(_mount) = Mount::new(&root.join("site"), "16m") else { return };
    let mut bed = Bed::within(folder, root);
    noise(&bed.path("site/large"), 6 * 1024);
    let good = capture(&bed.engine()).info.id;
    noise(&bed.path("site/large"), 6 * 1024);
    let before = bed.state();
    // There is room for it, and too little beside the reserve.
    bed.reserve = "reserve = \"6MiB\"".into();
    let engine = bed.engine();
    let count = engine.store().snapshots().expect("lists").len();
    let receipt = restore(&engine, good);
    assert_eq!((receipt.standing, receipt.backup), (Standing::Before, None), "{receipt:?}");
    let failure = receipt.failure.expect("a failure");
    assert_eq!(failure.reason, Reason::NoSpace);
    let site = bed.path("site");
    let expected =
        format!("not enough space at {}: 6.0 MiB needed beside a reserve of 6.0 MiB", site.display());
    assert!(failure.message.contains(&expected), "{failure:?}");
    assert!(failure.next.contains("reserve under [store]"), "{failure:?}");
    assert_eq!(engine.store().snapshots().expect("lists").len(), count, "no backup of what was not begun");
    assert_eq!((bed.state(), bed.told()), (before, Vec::new()));
    drop(engine);

    bed.reserve.clear();
    assert_eq!(restore(&bed.engine(), good).standing, Standing::Target);
}

#[test]
fn what_can_never_fit_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    let Some(_mount) = Mount::new(&root.join("store"), "16m") else { return };
    let bed = Bed::within(folder, root);
    let engine = bed.engine();
    capture(&engine);
    noise(&bed.path("site/large"), 300 * 1024);
    let packs = || std::fs::read_dir(bed.path("store/packs")).expect("readable").count();
    let before = packs();
    let refusal =
        engine.capture(&Default::default(), "test", operation(1), &Cancel::new()).expect_err("it cannot fit");
    assert_eq!(refusal.reason, Reason::NoSpace, "{refusal:?}");
    assert!(refusal.message.contains(": 300 MiB needed beside"), "{refusal:?}");
    assert_eq!(packs(), before);
    // Holes need no room.
    assert!(shell(&format!("rm -f {0}; truncate -s 2G {0}", bed.path("site/large").display())));
    capture(&engine);
}

#[test]
fn room_is_made_where_the_store_can_give_some_back() {
    for automatic in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let Some(_mount) = Mount::new(&root.join("store"), "16m") else { return };
        let mut bed = Bed::within(folder, root);
        bed.more = format!(
            "[retention]\nkeep_last = 1\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nautomatic = {automatic}\n"
        );
        let engine = bed.engine();
        noise(&bed.path("site/large"), 5 * 1024);
        capture(&engine);
        noise(&bed.path("site/large"), 5 * 1024);
        capture(&engine);
        noise(&bed.path("site/large"), 5 * 1024);
        let until = Instant::now() + Duration::from_secs(60);
        let prepared = engine.prepare(operation(1), &everything(), until);
        match automatic {
            true => prepared.expect("the first snapshot goes for it"),
            false => {
                let refusal = prepared.expect_err("nothing goes by itself");
                assert_eq!(refusal.reason, Reason::NoSpace, "{refusal:?}");
                engine.collect(&Cancel::new()).expect("collects");
                engine.prepare(operation(2), &everything(), until).expect("a person made room");
            }
        }
    }
}

#[test]
fn clones_go_before_anything_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&disk, "24m") else { return };
    let mut bed = Bed::within(folder, disk);
    // Nothing but clones goes by itself.
    bed.more = "[retention]\nautomatic = false\n".into();
    let engine = bed.engine();
    noise(&bed.path("site/large"), 5 * 1024);
    // This file system cannot make one; what it would take is the same.
    let clone = bed.path(&format!("store/clones/{}", "ab".repeat(32)));
    noise(&clone, 14 * 1024);
    let good = capture(&engine).info.id;
    assert!(!clone.exists(), "it went for the capture");

    std::fs::remove_file(bed.path("site/large")).expect("it was there");
    noise(&clone, 14 * 1024);
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    assert!(!clone.exists(), "it went for the restore");
}
