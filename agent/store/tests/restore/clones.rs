//! Clones of large files: they spare room and time, hold still while the file does not, and are trusted nowhere.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rfs_model::ByteCount;
use rfs_model::time::SystemClock;
use rfs_store::restore::{Progress, Unmanaged, discard, flip, stage, unflip};
use rfs_store::{Cancel, EntryKind, KeepPolicy, ReserveRule, Share, Store, StoreOptions};
use rustix::fs::statvfs;

use crate::common::{Stop, StopAtEnd, files_beneath, site};
use crate::lab::staging;
use crate::large::noise;
use crate::stored::Stored;

const SIZE: usize = 40 << 20;

/// All of it, on a file system that can share blocks between files.
pub(crate) fn clones_come_back(folder: &Path) {
    what_is_gone_comes_back_without_being_copied(folder);
    a_clone_that_holds_something_else_is_not_believed(folder);
    a_file_that_is_written_to_is_kept_as_it_was_at_one_instant(folder);
    clones_go_with_their_snapshots_and_where_room_is_short(folder);
    what_is_live_is_cloned_and_what_it_lacks_is_written(folder);
}

fn what_is_gone_comes_back_without_being_copied(folder: &Path) {
    let (stored, path) = stored(folder);
    fs::write(&path, noise(1, SIZE)).expect("written");
    File::options()
        .append(true)
        .open(&path)
        .and_then(|file| file.set_len(SIZE as u64 + (1 << 20)))
        .expect("a hole");
    let target = fs::read(&path).expect("content");
    let (id, _) = stored.capture();
    assert_eq!(clones(&stored).len(), 1);
    fs::remove_file(&path).expect("removed");
    let free = || {
        rustix::fs::sync();
        statvfs(folder).map(|found| found.f_bfree * found.f_frsize).expect("a file system")
    };
    let before = free();
    stored.restore(id);
    let taken = before.saturating_sub(free());
    assert!(taken < 8 << 20, "{taken} bytes were taken");
    assert!(fs::read(&path).expect("content") == target);
    // What is live now is not the clone itself.
    File::options().write(true).open(&path).and_then(|file| file.write_all_at(b"new", 0)).expect("written");
    stored.restore(id);
    assert!(fs::read(&path).expect("content") == target);
}

fn a_clone_that_holds_something_else_is_not_believed(folder: &Path) {
    let (stored, path) = stored(folder);
    let target = noise(1, SIZE);
    fs::write(&path, &target).expect("written");
    let (id, _) = stored.capture();
    let clone = clones(&stored).remove(0);
    type Damage<'a> = (&'a str, &'a dyn Fn(&File));
    let damages: [Damage<'_>; 4] = [
        ("a byte is another", &|clone| clone.write_all_at(b"!", 9 << 20).expect("written")),
        ("it is short", &|clone| clone.set_len(5 << 20).expect("a length")),
        ("it is empty", &|clone| clone.set_len(0).expect("a length")),
        ("it is long", &|clone| clone.set_len(2 * SIZE as u64).expect("a length")),
    ];
    for (what, damage) in damages {
        damage(&File::options().write(true).open(&clone).expect("a clone"));
        fs::remove_file(&path).expect("removed");
        stored.restore(id);
        assert!(fs::read(&path).expect("content") == target, "{what}");
    }
    fs::remove_file(&clone).expect("removed");
    fs::remove_file(&path).expect("removed");
    stored.restore(id);
    assert!(fs::read(&path).expect("content") == target, "there is no clone");
}

fn what_is_live_is_cloned_and_what_it_lacks_is_written(folder: &Path) {
    let (stored, path) = stored(folder);
    let target = noise(1, SIZE);
    fs::write(&path, &target).expect("written");
    let (id, _) = stored.capture();
    fs::remove_file(clones(&stored).remove(0)).expect("removed");
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.write_all_at(&noise(2, 4096), 9 << 20))
        .expect("written");
    let plan = stored.plan(id);
    stored.store.note_proofs();
    let staged = stage(&plan, &stored.store, &staging(), Unmanaged::Refuse, &Progress::default());
    let staged = staged.expect("staged");
    flip(&staged).expect("flipped");
    stored.store.seal_proofs();
    assert!(stored.plan(id).is_empty(), "a second plan is not empty");
    assert!(fs::read(&path).expect("content") == target);
    unflip(&staged).expect("flipped back");
    discard(&staged).expect("discarded");
    assert!(fs::read(&path).expect("content") != target);
}

fn a_file_that_is_written_to_is_kept_as_it_was_at_one_instant(folder: &Path) {
    let (stored, path) = stored(folder);
    fs::write(&path, noise(1, SIZE)).expect("written");
    let last = SIZE as u64 - 8;
    let number_at = |file: &File, at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).expect("read");
        u64::from_le_bytes(bytes)
    };
    let file = File::options().write(true).open(&path).expect("a file");
    let write = |number: u64, at: u64| file.write_all_at(&number.to_le_bytes(), at).expect("written");
    write(0, 0);
    write(0, last);
    let stop = Stop::default();
    let (began, begins) = mpsc::sync_channel(1);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let began = began;
            // One end is never more than a step behind the other.
            for number in 1.. {
                write(number, 0);
                write(number, last);
                // Only the first is waited for.
                let _ = began.try_send(());
                if stop.is_set() {
                    break;
                }
            }
        });
        let _stops = StopAtEnd(&stop);
        begins.recv().expect("the writer writes");
        let mut before = 0;
        for _ in 0..5 {
            let (_, tree) = stored.capture();
            let entry = tree.roots[0].entries.iter().find(|entry| entry.path == b"data").expect("the file");
            let EntryKind::File { content, size, .. } = &entry.kind else { panic!("{entry:?}") };
            assert_eq!(*size, SIZE as u64);
            let kept = tempfile::tempfile().expect("a file");
            stored.store.write_content(content, &kept).expect("kept");
            let (begun, done) = (number_at(&kept, 0), number_at(&kept, last));
            assert!(begun == done || begun == done + 1, "torn between {done} and {begun}");
            assert!(begun > before, "{begun} was kept before: the writer waits, or the capture is old");
            before = begun;
        }
    });
}

fn clones_go_with_their_snapshots_and_where_room_is_short(folder: &Path) {
    let (stored, path) = stored(folder);
    fs::write(&path, noise(1, SIZE)).expect("written");
    stored.capture();
    fs::write(&path, noise(2, SIZE)).expect("written");
    stored.capture();
    assert_eq!(clones(&stored).len(), 2);
    let usage = stored.store.usage(&Cancel::new()).expect("looks");
    assert_eq!(usage.clones, ByteCount(2 * SIZE as u64));
    let last_one = KeepPolicy { last: 1, ..KeepPolicy::NOTHING };
    let report = stored.store.collect(&last_one, &Cancel::new()).expect("collects");
    assert_eq!((report.forgotten.len(), report.clones, clones(&stored).len()), (1, 1, 1));

    stored.capture();
    assert_eq!((clones(&stored).len(), stored.store.drop_clones().expect("removes")), (1, 1));
    fs::write(&path, noise(2, SIZE)).expect("written");
    let (kept, _) = stored.capture();
    assert_eq!(clones(&stored).len(), 1, "it was read again, and so cloned");

    let Stored { lab, store, spec } = stored;
    drop(store);
    let reopened = |options: StoreOptions| {
        Store::open_with(&lab.top.path().join("store"), Arc::new(SystemClock), options).expect("opens")
    };
    let reserve = ReserveRule::Bytes(ByteCount(1 << 40));
    let store = reopened(StoreOptions { reserve, ..StoreOptions::default() });
    let report = store.collect(&last_one, &Cancel::new()).expect("collects");
    assert_eq!((report.clones, store.usage(&Cancel::new()).expect("looks").clones), (1, ByteCount(0)));
    drop(store);

    let stored =
        Stored { store: reopened(StoreOptions { clones: false, ..StoreOptions::default() }), lab, spec };
    fs::write(&path, noise(3, SIZE)).expect("written");
    stored.capture();
    assert_eq!(clones(&stored), [""; 0].map(PathBuf::from), "none is wanted");
    stored.restore(kept);
    assert!(fs::read(&path).expect("content") == noise(2, SIZE));
    assert_eq!(stored.store.verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
}

#[test]
fn where_blocks_are_not_shared_there_is_no_clone() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return crate::common::skip("a file system without clones, for /dev/shm cannot be written to");
    };
    let (stored, path) = stored(memory.path());
    fs::write(&path, noise(1, SIZE)).expect("written");
    let (id, _) = stored.capture();
    assert_eq!(clones(&stored), [""; 0].map(PathBuf::from));
    fs::remove_file(&path).expect("removed");
    stored.restore(id);
    assert!(fs::read(&path).expect("content") == noise(1, SIZE));
    assert!(stored.store.snapshot(id).expect("a snapshot").tree(&site()).is_ok());
}

/// A store beside one large file.
fn stored(folder: &Path) -> (Stored, PathBuf) {
    let stored = Stored::within(folder, &["site"]);
    fs::create_dir_all(stored.lab.site("")).expect("a folder");
    let path = stored.lab.site("data");
    (stored, path)
}

fn clones(stored: &Stored) -> Vec<PathBuf> {
    files_beneath(&stored.store.path().join("clones"))
}
