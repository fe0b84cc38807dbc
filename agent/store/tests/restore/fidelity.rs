//! A restored tree equals the captured one in everything, and a flip back leaves no trace.

use std::path::Path;

use rfs_store::restore::{FilesStanding, discard, flip, plan, standing, unflip};

use crate::forest::{change, grow};
use crate::lab::{Lab, ROOTS, assert_equal, has_rsync, rules};
use crate::random::{Random, seeds};

#[test]
fn a_restored_tree_equals_the_captured_one_for_rsync() {
    if has_rsync() {
        seeds(60).into_iter().for_each(|seed| restores(&std::env::temp_dir(), seed));
    }
}

#[test]
fn a_flip_and_its_inverse_leave_no_trace_for_rsync() {
    if has_rsync() {
        seeds(60).into_iter().for_each(|seed| leaves_no_trace(&std::env::temp_dir(), seed));
    }
}

/// A random tree is changed at random and restored, in a folder of some file system.
pub(crate) fn restores(folder: &Path, seed: u64) {
    let (mut random, lab) = (Random::new(seed), Lab::within(folder, &ROOTS));
    grow(&mut random, &lab.live());
    let target = lab.capture();
    let copy = lab.copy("target");
    match random.once_in(6) {
        // Everything is gone.
        true => lab.reset(&Lab::new().live()),
        false => change(&mut random, &lab.live()),
    }
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, &format!("seed {seed}"));
    lab.assert_same(&copy, &format!("seed {seed}"));
    assert!(plan(&lab.capture(), &target, &rules()).expect("a plan").is_empty(), "seed {seed}");
}

/// The same, flipped and flipped back.
pub(crate) fn leaves_no_trace(folder: &Path, seed: u64) {
    let (mut random, lab) = (Random::new(seed), Lab::within(folder, &ROOTS));
    grow(&mut random, &lab.live());
    let target = lab.capture();
    change(&mut random, &lab.live());
    let (before, copy) = (lab.capture(), lab.copy("before"));
    let staged = lab.stage(&lab.plan(&target));
    assert_equal(&lab.capture(), &before, &format!("seed {seed}: staging changed something"));
    flip(&staged).expect("flipped");
    assert_equal(&lab.capture(), &target, &format!("seed {seed}"));
    assert_eq!(unflip(&staged).expect("flipped back").changed_since, []);
    assert_eq!(standing(&staged).expect("a standing"), FilesStanding::Before);
    discard(&staged).expect("discarded");
    lab.assert_swept();
    assert_equal(&lab.capture(), &before, &format!("seed {seed}"));
    lab.assert_same(&copy, &format!("seed {seed}"));
}
