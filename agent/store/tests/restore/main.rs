//! Restores of real file trees on a real file system: fidelity, conflicts, crashes at every operation, speed.

#[path = "../common/mod.rs"]
mod common;

mod capture;
mod clones;
mod corpus;
mod crash;
mod danger;
mod fidelity;
mod flags;
mod forest;
mod in_use;
mod lab;
mod large;
mod leftovers;
mod limits;
mod mounts;
mod plans;
mod power_cut;
mod random;
mod speed;
mod stored;
