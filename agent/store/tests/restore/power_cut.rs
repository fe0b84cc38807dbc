//! What was reported survives a power cut: the disk as it is at that moment is all that is left.
//!
//! The file system is in an image. A cut takes a copy of the image, which lacks whatever the kernel has not written yet,
//! and goes on with the copy, whose journal is replayed by the mount.

use std::path::Path;

use rfs_store::restore::{Progress, Unmanaged, discard, flip, plan, stage, sync};
use rfs_store::{Cancel, Share, Store};

use crate::common::{open, site};
use crate::forest::{change, grow};
use crate::lab::{Lab, assert_same_folders, has_rsync, program, rules, run, staging};
use crate::mounts::Mounted;
use crate::random::Random;
use crate::stored::Stored;

/// What is live, kept where no cut reaches it.
fn keep(live: &Path) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept");
    run(program("cp").arg("-a").arg(live).arg(&kept));
    (folder, kept)
}

/// What is in the live tree, and changes.
#[derive(Debug, Clone, Copy)]
enum Live {
    /// So many plain files.
    Files(usize),
    /// Something of every kind.
    Everything,
}

impl Live {
    fn grow(self, lab: &Lab, random: &mut Random) {
        match self {
            Self::Files(count) => {
                (0..count).for_each(|number| lab.write(&format!("{}/{number}", number % 7), "before"));
            }
            Self::Everything => grow(random, &lab.live()),
        }
    }

    fn change(self, lab: &Lab, random: &mut Random) {
        match self {
            Self::Files(count) => {
                (0..count).for_each(|number| lab.write(&format!("{}/{number}", number % 7), "changed"));
            }
            Self::Everything => change(random, &lab.live()),
        }
    }
}

#[track_caller]
fn check(kind: &str, what: Live) {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut mounted) = Mounted::image(kind, folder.path()).filter(|_| has_rsync()) else { return };
    let Stored { lab, store, spec } = Stored::within(&mounted.at, &["site"]);
    let mut random = Random::new(7);
    what.grow(&lab, &mut random);
    rustix::fs::sync();
    let (_target, kept) = keep(&lab.live());
    let capture = store.begin().expect("begins");
    capture.files(&site(), &spec, &Cancel::new()).expect("captured");
    let target = capture.commit(crate::common::note("test")).expect("committed").id;

    // A snapshot that was reported is there, and whole.
    let at = store.path().to_owned();
    drop(store);
    mounted.cut();
    let store = open(&at);
    let report = store.verify(Share::Whole, &Cancel::new()).expect("verified");
    assert!(report.damage.is_empty(), "{kind}, {what:?}: {:?}", report.damage);
    assert!(store.snapshots().expect("a list").iter().any(|info| info.id == target), "{kind}, {what:?}");
    let planned = |store: &Store| {
        let wanted = store.snapshot(target).expect("a snapshot").tree(&site()).expect("a tree");
        plan(&store.scan(&spec, &Cancel::new()).expect("scanned"), &wanted, &rules()).expect("a plan")
    };
    what.change(&lab, &mut random);
    rustix::fs::sync();
    let (_before, before) = keep(&lab.live());

    // What was staged is there, whole, and nothing live has changed.
    let steps = planned(&store);
    let staged = stage(&steps, &store, &staging(), Unmanaged::Refuse, &Progress::default()).expect("staged");
    drop(store);
    mounted.cut();
    assert_same_folders(&before.join("site"), &lab.site(""), &format!("{kind}, {what:?}: staged"));
    let store = open(&at);

    // What was flipped and synced stays flipped.
    flip(&staged).expect("flipped");
    sync(&staged).expect("durable");
    drop(store);
    mounted.cut();
    assert_same_folders(&kept.join("site"), &lab.site(""), &format!("{kind}, {what:?}: flipped"));
    discard(&staged).expect("discarded");
    lab.assert_swept();
    assert!(planned(&open(&at)).is_empty(), "{kind}, {what:?}: a second plan is not empty");
}

/// Little is synced file by file, much with its whole file system, and so is what cannot be synced by itself.
fn check_all(kind: &str) {
    for what in [Live::Files(20), Live::Files(400), Live::Everything] {
        check(kind, what);
    }
}

#[test]
fn what_was_reported_survives_a_power_cut_on_ext4() {
    check_all("ext4");
}

#[test]
fn what_was_reported_survives_a_power_cut_on_xfs() {
    check_all("xfs");
}

#[test]
fn what_was_reported_survives_a_power_cut_on_btrfs() {
    check_all("btrfs");
}
