//! The whole way with the real store: capture, commit, lose, restore from what was stored.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rfs_model::SnapshotId;
use rfs_store::restore::{FilesPlan, Progress, Unmanaged, discard, flip, plan, stage, sync};
use rfs_store::{Cancel, FilesSpec, Store, Tree};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::common::{note, open, site};
use crate::forest::{change, grow};
use crate::lab::{Lab, ROOTS, has_rsync, rules, staging};
use crate::random::{Random, seeds};

pub(crate) struct Stored {
    pub(crate) lab: Lab,
    pub(crate) store: Store,
    pub(crate) spec: FilesSpec,
}

impl Stored {
    fn new(roots: &[&str]) -> Self {
        Self::within(&std::env::temp_dir(), roots)
    }

    pub(crate) fn within(folder: &std::path::Path, roots: &[&str]) -> Self {
        let lab = Lab::within(folder, roots);
        let store = open(&lab.top.path().join("store"));
        let paths = roots.iter().map(|root| lab.live().join(root)).collect();
        Self { lab, store, spec: FilesSpec { paths, exclude: Vec::new(), ..FilesSpec::default() } }
    }

    pub(crate) fn capture(&self) -> (SnapshotId, Tree) {
        let capture = self.store.begin().expect("begins");
        let (tree, _) = capture.files(&site(), &self.spec, &Cancel::new()).expect("captured");
        (capture.commit(note("test")).expect("committed").id, tree)
    }

    pub(crate) fn plan(&self, target: SnapshotId) -> FilesPlan {
        let target = self.store.snapshot(target).expect("a snapshot").tree(&site()).expect("a tree");
        let current = self.store.scan(&self.spec, &Cancel::new()).expect("scanned");
        plan(&current, &target, &rules()).expect("a plan")
    }

    pub(crate) fn restore(&self, target: SnapshotId) {
        let plan = self.plan(target);
        let staged = stage(&plan, &self.store, &staging(), Unmanaged::Refuse, &Progress::default());
        let staged = staged.expect("staged");
        assert!(self.store.scan(&self.spec, &Cancel::new()).is_ok());
        flip(&staged).expect("flipped");
        assert!(self.plan(target).is_empty(), "a second plan is not empty");
        sync(&staged).expect("durable");
        discard(&staged).expect("discarded");
        assert!(self.plan(target).is_empty(), "a second plan is not empty");
    }
}

#[test]
fn what_the_store_captured_comes_back_for_rsync() {
    if !has_rsync() {
        return;
    }
    for seed in seeds(30) {
        let (mut random, stored) = (Random::new(seed), Stored::new(&ROOTS));
        let lab = &stored.lab;
        grow(&mut random, &lab.live());
        let copy = lab.copy("target");
        let (id, _) = stored.capture();
        change(&mut random, &lab.live());
        let (backup, before) = (stored.capture().0, lab.copy("before"));
        stored.restore(id);
        lab.assert_same(&copy, &format!("seed {seed}"));
        // The backup undoes the restore.
        stored.restore(backup);
        lab.assert_same(&before, &format!("seed {seed}, back"));
        lab.assert_swept();
    }
}

#[test]
fn a_tree_deeper_than_the_longest_path_comes_and_goes() {
    let stored = Stored::new(&["site"]);
    let lab = &stored.lab;
    fs::create_dir(lab.site("")).expect("a folder");
    let (empty, _) = stored.capture();
    dig(&lab.site(""), 90);
    let (deep, tree) = stored.capture();
    let deepest = tree.roots[0].entries.iter().map(|entry| entry.path.len()).max().expect("entries");
    assert!(deepest > 3 * 4096, "{deepest}");
    // A folder that goes whole, one that comes whole, and a file at the bottom.
    stored.restore(empty);
    assert_eq!(fs::read_dir(lab.site("")).expect("a folder").count(), 0);
    stored.restore(deep);
    write_at_bottom(&lab.site(""), 90, "changed");
    assert_eq!(stored.plan(deep).steps().len(), 1);
    stored.restore(deep);
    stored.restore(empty);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let stored = Stored::new(&["site"]);
    fs::create_dir(stored.lab.site("")).expect("a folder");
    let file = fs::File::create(stored.lab.site("sparse")).expect("a file");
    file.write_all_at(b"in the middle", 32 << 20).expect("written");
    file.set_len(64 << 20).expect("a length");
    let (id, _) = stored.capture();
    fs::write(stored.lab.site("sparse"), "not sparse").expect("written");
    stored.restore(id);
    let found = fs::metadata(stored.lab.site("sparse")).expect("a file");
    assert_eq!(found.len(), 64 << 20);
    assert!(found.blocks() * 512 <= 64 << 10, "{} bytes are allocated", found.blocks() * 512);
}

const NAME: &str = "a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-\
                    a-long-name-a-long-name-a-long-name-a-long-name-a-long-name-a-long-name";

fn dig(top: &std::path::Path, depth: usize) {
    let mut at =
        descend(openat(CWD, top, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open"), 0);
    for _ in 0..depth {
        mkdirat(&at, NAME, Mode::RWXU).expect("a folder");
        at = descend(at, 1);
    }
    write_at_bottom(top, depth, "at the bottom");
}

fn descend(from: OwnedFd, depth: usize) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    (0..depth).fold(from, |at, _| openat(&at, NAME, flags, Mode::empty()).expect("a folder"))
}

fn write_at_bottom(top: &std::path::Path, depth: usize, text: &str) {
    let top = openat(CWD, top, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(descend(top, depth), "file", flags, Mode::RUSR | Mode::WUSR).expect("a file");
    std::io::Write::write_all(&mut fs::File::from(file), text.as_bytes()).expect("written");
}
