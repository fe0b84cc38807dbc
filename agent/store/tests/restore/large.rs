//! Large files that changed in part: what is live is used as far as it is right, and trusted nowhere.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rfs_model::Digest;
use rfs_store::Store;
use rfs_store::restore::{Contents, Progress, Unmanaged, discard, flip, stage, sync};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::lab::staging;
use crate::stored::Stored;

const SIZE: usize = 20 << 20;

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A store that counts what is read from it.
struct Counted<'a>(&'a Store, AtomicU64);

impl Contents for Counted<'_> {
    fn read(
        &self,
        digest: &Digest,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.1.fetch_add(length, Ordering::Relaxed);
        Contents::read(self.0, digest, length, into)
    }
}

/// Restores each kind of partial change, on the file system of `folder`. `clones`: it can share blocks between files.
pub(crate) fn large_files_come_back(folder: &Path, clones: bool) {
    let stored = Stored::within(folder, &["site"]);
    let path = stored.lab.site("data");
    fs::create_dir_all(stored.lab.site("")).expect("a folder");
    let first = noise(1, SIZE);
    let reset = || {
        fs::write(&path, &first).expect("written");
        // The target has a hole in it.
        let file = File::options().write(true).open(&path).expect("a file");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, punch, 8 << 20, 1 << 20).expect("a hole");
    };
    reset();
    let (id, _) = stored.capture();
    let target = fs::read(&path).expect("content");
    assert!(target[8 << 20..9 << 20].iter().all(|byte| *byte == 0));
    type Change<'a> = (&'a str, u64, &'a dyn Fn(&File));
    let write = |file: &File, at: usize, bytes: &[u8]| file.write_all_at(bytes, at as u64).expect("written");
    let changes: [Change<'_>; 7] = [
        ("a block is another", 6 << 20, &|file| write(file, 3 << 20, &noise(2, 4096))),
        ("the hole is filled", 6 << 20, &|file| write(file, 8 << 20, &noise(3, 1 << 20))),
        ("it is shorter", 12 << 20, &|file| file.set_len(12 << 20).expect("a length")),
        ("it is longer", 6 << 20, &|file| write(file, SIZE, &noise(4, 3 << 20))),
        ("everything has moved", 6 << 20, &|file| write(file, 0, &[&b"moved"[..], &target].concat())),
        ("two parts have changed places", 8 << 20, &|file| {
            write(file, 0, &target[12 << 20..16 << 20]);
            write(file, 12 << 20, &target[..4 << 20]);
        }),
        ("nothing is left of it", SIZE as u64, &|file| write(file, 0, &noise(5, SIZE))),
    ];
    for (what, at_most, change) in changes {
        change(&File::options().write(true).open(&path).expect("a file"));
        rustix::fs::sync();
        let plan = stored.plan(id);
        let counted = Counted(&stored.store, AtomicU64::new(0));
        let free = || statvfs(folder).map(|found| found.f_bfree * found.f_frsize).expect("a file system");
        let before = free();
        let staged =
            stage(&plan, &counted, &staging(), Unmanaged::Refuse, &Progress::default()).expect("staged");
        rustix::fs::sync();
        let taken = before.saturating_sub(free());
        // What lies elsewhere now is not shared by a clone.
        if clones && at_most < SIZE as u64 && what != "everything has moved" {
            assert!(taken <= at_most + (4 << 20), "{what}: {taken} bytes were taken");
        }
        flip(&staged).expect("flipped");
        sync(&staged).expect("durable");
        discard(&staged).expect("discarded");
        assert!(fs::read(&path).expect("content") == target, "{what}");
        let left = stored.plan(id);
        assert!(left.is_empty(), "{what}: a second plan is not empty: {left:?}");
        let read = counted.1.into_inner();
        assert!(read <= at_most, "{what}: {read} bytes were read from the store");
    }
}

#[test]
fn what_is_live_is_used_and_the_rest_read_from_the_store() {
    large_files_come_back(&std::env::temp_dir(), false);
}

#[test]
fn what_only_seems_to_be_live_is_not_used() {
    let stored = Stored::within(&std::env::temp_dir(), &["site"]);
    let path = stored.lab.site("data");
    fs::create_dir_all(stored.lab.site("")).expect("a folder");
    let target = noise(1, SIZE);
    fs::write(&path, &target).expect("written");
    let (id, _) = stored.capture();
    let file = File::options().write(true).open(&path).expect("a file");
    file.write_all_at(b"another", 0).expect("written");
    let plan = stored.plan(id);
    // A change that hides behind the old time, in a part that the plan takes for right.
    let time = file.metadata().expect("a file").modified().expect("a time");
    file.write_all_at(b"hidden", 16 << 20).expect("written");
    file.set_modified(time).expect("the time is set");
    let staged =
        stage(&plan, &stored.store, &staging(), Unmanaged::Refuse, &Progress::default()).expect("staged");
    flip(&staged).expect("flipped");
    discard(&staged).expect("discarded");
    assert!(fs::read(&path).expect("content") == target);
}
