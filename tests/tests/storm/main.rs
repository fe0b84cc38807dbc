//! Rounds of checkpoint, release and rollback over six hosts in a storm: coordinator and agents are killed and frozen, clocks
//! step, links break. After each round, everything that was said is compared with what is there, by tools that know nothing of
//! ours: no "complete", no "passed" and no "succeeded" may be a lie.
//!
//! ```text
//! release ─▶ checkpoint ─▶ another release ─▶ rollback ─▶ all is mended ─▶ persons decide until it ends ─▶ what was said is judged
//!                 └───────────── faults ──────────┘
//! ```
//!
//! `RFS_STORM_SEED` replays a storm, `RFS_STORM_ROUNDS` says how many rounds it has; `RFS_LONG` makes it fifty.

mod faults;
mod judge;
mod round;

use std::time::Instant;

use rfs_tests::bed::{Bed, Layout, Timing};
use rfs_tests::dice::Dice;
use rfs_tests::skip;

use round::Storm;

const HOSTS: usize = 6;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn nothing_that_is_said_in_a_storm_is_a_lie() {
    let usual = if std::env::var_os("RFS_LONG").is_some() { 50 } else { 3 };
    let rounds = number("RFS_STORM_ROUNDS").unwrap_or(usual);
    let seed = number("RFS_STORM_SEED").unwrap_or(7);
    println!("RFS_STORM_SEED={seed}");
    let layout =
        Layout { hosts: HOSTS, timing: Timing::Lagging, relays: true, clocks: true, ..Layout::default() };
    let mut bed = Bed::laid_out(&layout);
    if bed.clock.is_none() {
        skip(
            "storm: clocks",
            "libfaketime is not installed, so that no clock steps (tests/run installs it where it may)",
        );
    }
    bed.start();
    let begun = Instant::now();
    let mut storm = Storm::new(bed, Dice(seed));
    for round in 1..=rounds {
        let round_begun = Instant::now();
        let told = storm.round(round);
        println!("seed {seed} round {round} ({:.1?}): {told}", round_begun.elapsed());
    }
    println!("{} in {rounds} rounds, {:.1?}: no lie", storm.tally(), begun.elapsed());
}
