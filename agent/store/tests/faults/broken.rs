//! Disks that answer with errors: whole ones, parts of them, and ones that break in the middle of the work.

use std::fs;
use std::path::{Path, PathBuf};

use rfs_store::{Cancel, CaptureError, DamagedThing, KeepPolicy, Share, StoreError};

use crate::common::{files_beneath, note, site, spec};
use crate::disk::Disk;
use crate::sample::{Sample, message};

const ADVICE: &str = "; the disk reports a fault: see `dmesg`: ";

#[test]
fn a_disk_that_breaks_in_the_middle_of_a_capture_keeps_what_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let Some(disk) = Disk::journalled(&folder.path().join("disk"), &image, 24 << 20) else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    sample.deploy(5);
    let making = sample.store().begin().expect("begins");
    making.files(&site(), &spec(&sample.live()), &Cancel::new()).expect("captures");
    if !disk.shut_down() {
        return crate::common::skip("xfs_io is not here, which makes a disk fail");
    }
    let error = making.commit(note("late")).expect_err("nothing can be written");
    let StoreError::Io { path, .. } = &error else { panic!("{error:?}") };
    assert!(
        message(&error).starts_with(&format!("cannot write {}{ADVICE}", path.display())),
        "{}",
        message(&error)
    );
    match sample.try_capture() {
        Err(CaptureError::Store(StoreError::Io { .. })) => {}
        other => panic!("{other:?}"),
    }
    sample.close();
    disk.again();
    sample.open();
    sample.check("mounted again");
    sample.capture();
    sample.check("captured again");
}

#[test]
fn a_live_file_that_cannot_be_read_is_named_and_nothing_is_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let Some(disk) = Disk::image(&folder.path().join("disk"), &image, 8 << 20) else { return };
    let mut sample = Sample::new(folder, Path::new("store"));
    // The image is cut where the last of these files is.
    for number in 0..6 {
        fs::write(sample.live().join(format!("on disk {number}")), vec![7; 1 << 20]).expect("written");
    }
    let live = disk.path().join("live");
    move_files(&sample.live(), &live);
    let spec = spec(&live);
    disk.break_behind(&disk.copy(), 5 << 20);
    let making = sample.store().begin().expect("begins");
    let error = making.files(&site(), &spec, &Cancel::new()).expect_err("not all can be read");
    let CaptureError::Unreadable { path, .. } = &error else { panic!("{error:?}") };
    assert!(path.starts_with(&live), "{path:?}");
    let text = message(&error);
    assert!(
        text.starts_with(&format!("cannot read {}; the disk reports a fault: see `dmesg`", path.display())),
        "{text}"
    );
    drop(making);
    assert_eq!(sample.store().snapshots().expect("lists").len(), 2);
    sample.check("after");
    sample.close();
}

#[test]
fn what_a_broken_part_of_the_disk_takes_is_named_and_the_rest_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    const PARTS: u64 = 64;
    let length = 4 << 20;
    let Some(disk) = Disk::image(&folder.path().join("disk"), &image, length) else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    for release in 2..6 {
        sample.deploy(release);
        sample.capture();
    }
    sample.close();
    let whole = disk.copy();
    let (mut found, mut read) = (0, 0);
    // From whole to nothing, a little less each time; what is cut off answers with errors.
    for share in (1..PARTS).rev() {
        disk.break_behind(&whole, length / PARTS * share);
        // Where the file system itself is gone, there is nothing to say but that.
        if files_of(sample.path()).is_none() {
            continue;
        }
        let when = format!("{share} of {PARTS} parts");
        let store = match rfs_store::Store::open_read_only(sample.path()) {
            Ok(store) => store,
            Err(StoreError::Io { path, source, .. }) if is_broken(&source) => {
                assert!(
                    !path.starts_with(sample.path().join("packs")),
                    "{when}: a pack stops everything: {path:?}"
                );
                continue;
            }
            Err(error) => panic!("{when}: {error:?}"),
        };
        let report =
            store.verify(Share::Whole, &Cancel::new()).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        read += 1;
        found += usize::from(!report.damage.is_empty());
        // What is named as harmed is, and what is not reads back.
        let harmed: Vec<_> = report.damage.iter().flat_map(|damage| &damage.harms).collect();
        let mut unharmed = sample.committed().clone();
        harmed.iter().for_each(|id| unharmed.remove(**id));
        unharmed.check(&store, &when);
        for damage in report.damage.iter().filter(|damage| matches!(damage.what, DamagedThing::Object(_))) {
            assert!(damage.path.starts_with(sample.path()), "{when}: {damage:?}");
        }
    }
    println!("{read} were read, {found} had damage");
    assert!(read > 8 && found > 4, "{read} were read, {found} had damage");
}

#[test]
fn a_pack_that_cannot_be_read_for_a_while_is_not_taken_for_garbage() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sample = Sample::new(folder, Path::new("store"));
    let first = files_beneath(&sample.path().join("packs")).remove(0);
    // Of the first pack two assets are needed; all that names anything is in the second.
    let ids: Vec<_> = sample.store().snapshots().expect("lists").iter().map(|info| info.id).collect();
    sample.store().forget(ids[0]).expect("forgets");
    sample.keep_only(ids[1]);
    sample.store().pin(ids[1], "it is not the newest for long").expect("pins");
    sample.close();
    // No capture meets their content again.
    for name in ["asset0", "asset2"] {
        fs::remove_file(sample.live().join(name)).expect("removed");
    }
    let whole = fs::read(&first).expect("reads");
    fs::write(&first, vec![0; whole.len()]).expect("written");
    for _ in 0..2 {
        sample.open();
        sample.store().collect(&KeepPolicy::NOTHING, &Cancel::new()).expect("collects the rest");
        // An index that is written meanwhile does not vouch for it.
        sample.deploy(7);
        sample.try_capture().expect("captures");
        sample.close();
    }
    assert!(first.exists(), "it is garbage only once it is known what is in it");
    fs::write(&first, whole).expect("written");
    sample.open();
    sample.check("it can be read again");
    sample.store().collect(&KeepPolicy::NOTHING, &Cancel::new()).expect("collects");
    sample.check("collected");
    assert!(!first.exists(), "half of it was garbage");
}

#[test]
fn a_disk_that_turns_out_full_only_when_it_is_synced_fails_the_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    // An image that is larger than what it is kept in, as thin volumes are.
    let Some(beneath) = Disk::memory(&folder.path().join("beneath"), "size=3m") else { return };
    let image = folder.path().join("beneath/image");
    let Some(disk) = Disk::image(&folder.path().join("disk"), &image, 24 << 20) else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    let full = beneath.fill_but(1);
    fs::write(sample.live().join("large"), crate::sample::noise(99, 2 << 20)).expect("written");
    match sample.try_capture() {
        Err(CaptureError::Store(StoreError::NoSpace { .. } | StoreError::Io { .. })) => {}
        other => panic!("{other:?}"),
    }
    let ids: Vec<_> = sample.store().snapshots().expect("lists").iter().map(|info| info.id).collect();
    assert_eq!(ids.len(), 2, "what failed is not there");
    sample.close();
    drop(full);
    disk.again();
    sample.open();
    sample.check("mounted again");
    sample.capture();
    sample.check("captured again");
    sample.close();
    drop(disk);
}

fn is_broken(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Copies files to another file system.
fn move_files(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for path in files_beneath(from) {
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// The files of a store, if its folders can be listed.
fn files_of(path: &Path) -> Option<Vec<PathBuf>> {
    let folders = ["", "packs", "snapshots", "marks", "cache"];
    let list = |folder: &str| {
        fs::read_dir(path.join(folder))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()
    };
    folders.iter().map(|folder| list(folder).ok()).collect::<Option<Vec<_>>>().map(|lists| lists.concat())
}
