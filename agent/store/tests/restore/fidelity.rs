//! A restored tree equals the captured one in everything, and what a restore was not asked for stays.

use rfs_store::restore::{FilesStanding, discard, flip, plan, standing, unflip};

use crate::forest::{change, grow};
use crate::lab::{Lab, assert_equal, has_rsync, rules};
use crate::random::{Random, seeds};

#[test]
fn a_restored_tree_equals_the_captured_one_for_rsync() {
    if !has_rsync() {
        return;
    }
    for seed in seeds(60) {
        let (mut random, lab) = (Random::new(seed), Lab::new());
        grow(&mut random, &lab.live());
        let target = lab.capture();
        let copy = lab.copy("target");
        if random.once_in(6) {
            // Everything is gone.
            lab.reset(&Lab::new().live());
        } else {
            change(&mut random, &lab.live());
        }
        lab.restore(&target);
        assert_equal(&lab.capture(), &target, &format!("seed {seed}"));
        lab.assert_same(&copy, &format!("seed {seed}"));
        assert!(plan(&lab.capture(), &target, &rules()).expect("a plan").is_empty(), "seed {seed}");
    }
}

#[test]
fn a_flip_and_its_inverse_leave_no_trace_for_rsync() {
    if !has_rsync() {
        return;
    }
    for seed in seeds(60) {
        let (mut random, lab) = (Random::new(seed), Lab::new());
        grow(&mut random, &lab.live());
        let target = lab.capture();
        change(&mut random, &lab.live());
        let (before, copy) = (lab.capture(), lab.copy("before"));
        let staged = lab.stage(&lab.plan(&target));
        assert_equal(&lab.capture(), &before, &format!("seed {seed}: staging changed something"));
        flip(&staged).expect("flipped");
        assert_equal(&lab.capture(), &target, &format!("seed {seed}"));
        assert_eq!(unflip(&staged).expect("flipped back").changed_since, []);
        assert_ne!(standing(&staged).expect("a standing"), FilesStanding::Target);
        discard(&staged).expect("discarded");
        lab.assert_swept();
        assert_equal(&lab.capture(), &before, &format!("seed {seed}"));
        lab.assert_same(&copy, &format!("seed {seed}"));
    }
}
