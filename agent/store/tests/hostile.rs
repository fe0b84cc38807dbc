//! Every reader of the disk format meets damaged and hostile bytes: it refuses them, in bounded memory, and never panics.
//!
//! The short form of `agent/store/fuzz`: the same readers, the same bounds, mutations drawn from a fixed seed. With
//! `RFS_LONG=1` a hundred times as many.

use std::path::Path;

use peak_alloc::PeakAlloc;
use rfs_store::fuzzing::{Seed, TARGETS, Target, seeds};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `work` and says how much memory it held at most.
fn peak(work: &mut dyn FnMut()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// How many mutations each target meets, and in how many bytes at most.
const MUTATIONS: usize = 6_000;
const BYTES: usize = 48 << 20;

// One test in this binary: the allocator counts for all threads.
#[test]
fn no_bytes_lead_a_reader_astray() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/store");
    let seeds = seeds(&golden).expect("a golden store");
    let more = if std::env::var_os("RFS_LONG").is_some() { 100 } else { 1 };
    for target in &TARGETS {
        let mine: Vec<&[u8]> = seeds.iter().filter(|(name, _)| *name == target.name).map(bytes_of).collect();
        let accepted = mine.iter().filter(|seed| target.drive(seed, peak)).count();
        assert_eq!(accepted, mine.len(), "{}: what a store holds is accepted", target.name);
        assert!(accepted > 0, "{}: a seed", target.name);
        let length = mine.iter().map(|seed| seed.len()).sum::<usize>() / mine.len();
        let rounds = more * MUTATIONS.min(BYTES / length);
        let accepted = mutate(target, &mine, rounds);
        println!("{:<9} {rounds} mutations of {} seeds, {accepted} accepted", target.name, mine.len());
    }
}

fn bytes_of((_, bytes): &Seed) -> &[u8] {
    bytes
}

fn mutate(target: &Target, seeds: &[&[u8]], rounds: usize) -> usize {
    let mut random = Random(0x5eed ^ target.name.len() as u64);
    let mut accepted = 0;
    for _ in 0..rounds {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(4) {
            change(&mut bytes, seeds[random.below(seeds.len())], &mut random);
        }
        accepted += usize::from(target.drive(&bytes, peak));
    }
    accepted
}

/// Numbers at which readers tend to be wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let rest = bytes.len() - at;
    match random.below(7) {
        0 if rest > 0 => bytes[at] ^= 1 << random.below(8),
        1 if rest > 0 => bytes[at] = random.next() as u8,
        2 => {
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let length = [1, 2, 4, 8][random.below(4)].min(rest);
            bytes[at..at + length].copy_from_slice(&edge[..length]);
        }
        3 => drop(bytes.drain(at..at + random.below(rest + 1).min(64))),
        4 => bytes.truncate(at),
        5 => {
            let from = random.below(other.len() + 1);
            let length = random.below(other.len() - from + 1).min(256);
            drop(bytes.splice(at..at, other[from..from + length].iter().copied()));
        }
        _ => {
            let length = random.below(rest + 1).min(64);
            let part = bytes[at..at + length].to_vec();
            drop(bytes.splice(at..at, part));
        }
    }
}

/// SplitMix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
