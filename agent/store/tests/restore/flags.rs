//! The flags that `chattr` sets, and folders whose entries inherit a project.

use std::fs;
use std::path::Path;

use rfs_store::restore::{Progress, Unmanaged, discard, flip, stage, sync, unflip};

use crate::lab::{program, staging};
use crate::mounts::Mounted;
use crate::stored::Stored;

fn flags(path: &Path) -> String {
    let listed = program("lsattr").arg("-d").arg(path).output().expect("lsattr");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // How a file system lays a file out is its own affair.
    text.split_whitespace().next().unwrap_or_default().replace(['-', 'e'], "")
}

fn chattr(change: &str, path: &Path) -> bool {
    program("chattr").arg(change).arg(path).output().is_ok_and(|done| done.status.success())
}

/// A store and a live tree on a file system of that kind; `None` where that cannot be, which is said.
fn on(kind: &str, holder: &Path) -> Option<(Stored, Mounted)> {
    let disk = Mounted::image(kind, holder)?;
    Some((Stored::within(&disk.at, &["site"]), disk))
}

#[test]
fn flags_come_back_and_those_that_bind_are_taken_away_by_the_way_back() {
    for (kind, set) in [("ext4", "+dAsut"), ("xfs", "+dAx"), ("btrfs", "+dAm")] {
        let holder = tempfile::tempdir().expect("a folder");
        let Some((stored, _disk)) = on(kind, holder.path()) else { continue };
        let site = stored.lab.live().join("site");
        fs::create_dir_all(site.join("sub")).expect("writable");
        let files = ["db", "audit.log", "sub/fixed"].map(|name| site.join(name));
        for file in &files {
            fs::write(file, "one").expect("writable");
        }
        assert!(chattr(set, &files[0]) && chattr("+a", &files[1]) && chattr("+i", &files[2]), "{kind}");
        let wanted = files.each_ref().map(|file| flags(file));
        let (id, _) = stored.capture();

        assert!(chattr("-a", &files[1]) && chattr("-i", &files[2]));
        for file in &files {
            fs::remove_file(file).expect("ours");
            fs::write(file, "two").expect("writable");
        }
        let plan = stored.plan(id);
        let staged = stage(&plan, &stored.store, &staging(), Unmanaged::Refuse, &Progress::default());
        let staged = staged.expect("staged");
        flip(&staged).expect("flipped");
        assert_eq!(files.each_ref().map(|file| flags(file)), wanted, "{kind}");
        unflip(&staged).expect("taken back");
        assert_eq!(files.each_ref().map(|file| flags(file)), ["", "", ""], "{kind}");
        assert_eq!(fs::read_to_string(&files[2]).expect("there"), "two");
        flip(&staged).expect("flipped again");
        sync(&staged).expect("durable");
        discard(&staged).expect("removed");
        assert_eq!(files.each_ref().map(|file| flags(file)), wanted, "{kind}");
        assert!(stored.plan(id).is_empty(), "{kind}: a second plan is not empty");
        assert!(chattr("-a", &files[1]) && chattr("-i", &files[2]), "so that the disk can be cleared");
    }
}

#[test]
fn a_way_of_compression_comes_back_with_the_flag_that_it_sets() {
    let holder = tempfile::tempdir().expect("a folder");
    let Some((stored, _disk)) = on("btrfs", holder.path()) else { return };
    let db = stored.lab.live().join("site/db");
    fs::create_dir_all(stored.lab.live().join("site")).expect("writable");
    fs::write(&db, "one").expect("writable");
    // Setting any flag of a file that is compressed makes its way of compression the default.
    assert!(chattr("+A", &db));
    let set = program("btrfs").args(["property", "set"]).arg(&db).args(["compression", "zstd"]).output();
    if !set.is_ok_and(|set| set.status.success()) {
        return crate::common::skip("btrfs cannot set a way of compression here");
    }
    let compression = || {
        let shown = program("btrfs").args(["property", "get"]).arg(&db).arg("compression").output();
        String::from_utf8_lossy(&shown.expect("runs").stdout).trim().to_owned()
    };
    let wanted = (flags(&db), compression());
    assert_eq!(wanted.1, "compression=zstd");
    let (id, _) = stored.capture();
    fs::remove_file(&db).expect("ours");
    fs::write(&db, "two").expect("writable");
    stored.restore(id);
    assert_eq!((flags(&db), compression()), wanted);
    assert!(stored.plan(id).is_empty(), "a second plan is not empty");
}

#[test]
fn a_tree_of_a_project_is_restored_within_it() {
    let holder = tempfile::tempdir().expect("a folder");
    let Some((stored, _disk)) = on("xfs", holder.path()) else { return };
    let site = stored.lab.live().join("site");
    fs::create_dir_all(site.join("lib")).expect("writable");
    let set = program("xfs_io").args(["-c", "chproj -R 42", "-c", "chattr -R +P"]).arg(&site).output();
    if !set.is_ok_and(|set| set.status.success()) {
        return crate::common::skip("xfs_io cannot set a project here");
    }
    fs::write(site.join("version"), "v1").expect("writable");
    fs::write(site.join("lib/m"), "m").expect("writable");
    let (id, _) = stored.capture();
    fs::write(site.join("version"), "version 2").expect("writable");
    fs::remove_dir_all(site.join("lib")).expect("ours");
    stored.restore(id);
    assert_eq!(fs::read_to_string(site.join("lib/m")).expect("there"), "m");
    for name in ["version", "lib", "lib/m"] {
        let listed =
            program("xfs_io").args(["-r", "-c", "lsproj"]).arg(site.join(name)).output().expect("runs");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(text.trim().ends_with("42"), "{name} left the project: {text}");
    }
}
