//! Every reader of the disk format, opened to hostile bytes. Not part of the store's interface.
//!
//! ```text
//! bytes ─┬▶ read                  accepted or refused: never a panic, never more memory than the target's bound
//!        └▶ seal ─▶ read again    the checksums made right, so that what stands behind them is reached
//! ```
//! One table serves the long form (`agent/store/fuzz`) and the short one (`tests/hostile.rs`), so that a reader that is
//! added to it is driven by both. What is accepted must also be the one way to write it, where the format says so.

mod readers;
mod seal;
mod seeds;

pub use seeds::{Seed, seeds};

/// A reader, and how it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its fuzz target.
    pub name: &'static str,
    /// Reads the bytes, and says whether it accepts them.
    pub read: fn(&[u8]) -> bool,
    /// The same bytes with their checksums made right.
    pub seal: Option<fn(&[u8]) -> Vec<u8>>,
    /// What it may allocate.
    pub bound: Bound,
}

/// How much memory a reader may hold at once: so much for each byte of its input, and so much whatever its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// For each byte.
    pub each: usize,
    /// Whatever the length.
    pub base: usize,
}

impl Bound {
    /// For an input of this length.
    pub fn of(self, length: usize) -> usize {
        self.each * length + self.base
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// An object's content, as its record claims it.
const OBJECT: usize = crate::pack::LARGEST_OBJECT;

/// Every reader of the disk format. Memory counts a growing list twice, for it is copied.
pub const TARGETS: [Target; 15] = [
    target("format", readers::format, None, 8, 4 * KIB),
    target("names", readers::names, None, 8, 4 * KIB),
    target("text", readers::text, None, 16, 4 * KIB),
    target("manifest", readers::manifest, None, 64, 64 * KIB),
    target("marks", readers::marks, Some(seal::marks), 64, 64 * KIB),
    target("list", readers::list, None, 128, 64 * KIB),
    target("segment", readers::segment, None, 128, 4 * MIB),
    target("tree", readers::tree, None, 1024, 8 * MIB),
    target("record", readers::record, Some(seal::record), 8, OBJECT + MIB),
    target("pack", readers::pack, Some(seal::pack), 16, OBJECT + 3 * MIB),
    target("index", readers::index, Some(seal::last_32), 32, 64 * KIB),
    target("cache", readers::cache, Some(seal::last_32), 128, 64 * KIB),
    target("staged", readers::staged, None, 128, 64 * KIB),
    target("yards", readers::yards, None, 64, 64 * KIB),
    // SQLite counts its own memory.
    target("journal", readers::journal, Some(seal::journal), 64, MIB),
];

const fn target(
    name: &'static str,
    read: fn(&[u8]) -> bool,
    seal: Option<fn(&[u8]) -> Vec<u8>>,
    each: usize,
    base: usize,
) -> Target {
    Target { name, read, seal, bound: Bound { each, base } }
}

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Reads the bytes as they are and with their checksums made right, and says whether either was accepted. `peak` runs
    /// what it is given and says how much memory that held at most; it panics when that is beyond the bound.
    pub fn drive(&self, bytes: &[u8], peak: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
        let accepted = self.measured(bytes, &peak);
        let Some(seal) = self.seal else { return accepted };
        self.measured(&seal(bytes), &peak) || accepted
    }

    fn measured(&self, bytes: &[u8], peak: impl Fn(&mut dyn FnMut()) -> usize) -> bool {
        let mut accepted = false;
        let held = peak(&mut || accepted = (self.read)(bytes));
        let most = self.bound.of(bytes.len());
        assert!(
            held <= most,
            "{}: {} bytes led to {held} bytes of memory, more than {most}",
            self.name,
            bytes.len()
        );
        accepted
    }
}
