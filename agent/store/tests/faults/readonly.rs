//! File systems that are, or become, read-only.

use std::path::Path;
use std::sync::Arc;

use rfs_model::time::SystemClock;
use rfs_store::{Cancel, CaptureError, KeepPolicy, Share, Store, StoreError};

use crate::common::{note, site, spec};
use crate::disk::Disk;
use crate::sample::{Sample, message};

const ADVICE: &str = "; the file system is read-only: see why with `dmesg`, and remount it: ";

fn refused(what: &str, error: &StoreError, action: &str) {
    let StoreError::Io { path, .. } = error else { panic!("{what}: {error:?}") };
    let text = message(error);
    assert!(text.starts_with(&format!("cannot {action} {}{ADVICE}", path.display())), "{what}: {text}");
}

#[test]
fn a_store_on_a_read_only_file_system_is_read_and_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::memory(&folder.path().join("disk"), "size=4m") else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    sample.close();
    disk.remount("ro");
    let open = || Store::open(sample.path(), Arc::new(SystemClock));
    refused("open", &open().expect_err("it cannot be locked"), "write");
    let reader = Store::open_read_only(sample.path()).expect("opens");
    assert_eq!(reader.verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
    sample.committed().check(&reader, "read-only");
    assert!(matches!(reader.begin(), Err(StoreError::ReadOnly { .. })));
    assert!(reader.scan(&spec(&sample.live()), &Cancel::new()).is_ok());
    disk.remount("rw");
    drop(open().expect("opens again"));
    sample.open();
    sample.check("read-write again");
}

#[test]
fn a_file_system_that_becomes_read_only_in_the_middle_of_the_work_keeps_what_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let Some(disk) = Disk::journalled(&folder.path().join("disk"), &image, 24 << 20) else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    sample.deploy(5);
    let first = sample.store().snapshots().expect("lists")[0].id;
    let making = sample.store().begin().expect("begins");
    making.files(&site(), &spec(&sample.live()), &Cancel::new()).expect("captures");
    // As the kernel does when it meets an error of the disk.
    disk.remount("abort");
    refused("commit", &making.commit(note("late")).expect_err("nothing can be written"), "write");
    refused("pin", &sample.store().pin(first, "why").expect_err("nothing can be written"), "write");
    let last_one = KeepPolicy { last: 1, ..KeepPolicy::NOTHING };
    refused(
        "collect",
        &sample.store().collect(&last_one, &Cancel::new()).expect_err("nothing can go"),
        "remove",
    );
    match sample.try_capture() {
        Err(CaptureError::Store(error)) => refused("capture", &error, "write"),
        other => panic!("{other:?}"),
    }
    assert_eq!(sample.store().verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
    sample.committed().check(sample.store(), "read-only");

    sample.close();
    disk.again();
    sample.open();
    sample.check("mounted again");
    sample.capture();
    sample.check("captured again");
}
