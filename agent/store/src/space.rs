//! Space: what a file system has left, and the reserve that is never used.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rfs_model::ByteCount;

use crate::error::StoreError;
use crate::store::Store;

/// How much of a file system is never used, so that work of ours never fills a host's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReserveRule {
    /// A fiftieth of the file system, and no more than 512 MiB.
    #[default]
    Usual,
    /// So many bytes.
    Bytes(ByteCount),
    /// So many of a hundred bytes.
    Percent(u8),
}

const LARGEST_USUAL: u64 = 512 << 20;

impl ReserveRule {
    /// How much is kept of a file system of that size.
    pub fn of(self, total: u64) -> ByteCount {
        ByteCount(match self {
            Self::Usual => (total / 50).min(LARGEST_USUAL),
            Self::Bytes(bytes) => bytes.0,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        })
    }
}

/// The reserve of one file system.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    path: PathBuf,
    kept: u64,
}

impl Reserve {
    /// The reserve of the file system that holds `path`.
    pub(crate) fn of(path: &Path, rule: ReserveRule) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), kept: rule.of(look(path)?.total).0 })
    }

    /// No reserve: for work that frees more than it takes.
    pub(crate) fn none(&self) -> Self {
        Self { path: self.path.clone(), kept: 0 }
    }

    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Refuses work that would leave less than the reserve.
    pub(crate) fn check(&self, needed: u64) -> Result<(), StoreError> {
        check(&self.path, needed, self.kept, available(&self.path)?)
    }
}

fn check(path: &Path, needed: u64, kept: u64, available: u64) -> Result<(), StoreError> {
    if available >= needed.saturating_add(kept) {
        return Ok(());
    }
    let (needed, reserve) = (ByteCount(needed), ByteCount(kept));
    Err(StoreError::NoSpace { path: path.to_owned(), needed, reserve, available: ByteCount(available) })
}

/// How much is about to be written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// A path in the file system; it need not be there yet.
    pub path: PathBuf,
    /// How much.
    pub bytes: ByteCount,
}

/// What the commit of a snapshot writes beside its content, its index aside: a manifest, marks, the ends of packs.
const COMMIT: u64 = 1 << 20;

impl Store {
    /// How much room the commit of a snapshot takes, beside what has been written of its content.
    pub fn commit_room(&self) -> Demand {
        let index = std::fs::metadata(crate::index::path(&self.0.layout)).map_or(0, |meta| meta.len());
        Demand { path: self.path().to_owned(), bytes: ByteCount(COMMIT + index) }
    }

    /// Refuses work that would leave any of the file systems that it writes to with less than its reserve. Demands on one
    /// file system are added up.
    pub fn check_room(&self, demands: &[Demand]) -> Result<(), StoreError> {
        let rule = self.0.reserve_rule;
        let mut by_system: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
        for demand in demands.iter().filter(|demand| demand.bytes.0 > 0) {
            let path = nearest(&demand.path);
            let meta = std::fs::metadata(path).map_err(StoreError::io("examine", path))?;
            let sum = by_system.entry(meta.dev()).or_insert_with(|| (path.to_owned(), 0));
            sum.1 = sum.1.saturating_add(demand.bytes.0);
        }
        for (path, needed) in by_system.into_values() {
            let found = look(&path)?;
            check(&path, needed, rule.of(found.total).0, found.available)?;
        }
        Ok(())
    }
}

/// The path itself, or the nearest above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

struct FileSystem {
    total: u64,
    available: u64,
}

fn look(path: &Path) -> Result<FileSystem, StoreError> {
    let found = rustix::fs::statvfs(path).map_err(StoreError::os("examine the file system of", path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(FileSystem { total: bytes(found.f_blocks), available: bytes(found.f_bavail) })
}

/// How many bytes may still be written to the file system that holds `path`.
pub(crate) fn available(path: &Path) -> Result<u64, StoreError> {
    Ok(look(path)?.available)
}

/// Whether the file system of `path` has room, and cannot take one more file.
pub(crate) fn is_out_of_inodes(path: &Path) -> bool {
    rustix::fs::statvfs(nearest(path)).is_ok_and(|found| lacks_inodes(&found, 1))
}

/// Whether there are fewer free inodes than that, although there is room: where that is short, it is what is lacking.
pub(crate) fn lacks_inodes(found: &rustix::fs::StatVfs, needed: u64) -> bool {
    const BLOCKS: u64 = 16;
    // Some make inodes as they go, and have none to count, or as many as there is room for.
    found.f_files > 0 && found.f_favail < needed && found.f_bavail >= BLOCKS
}

/// Whether the file system of `path` is full, or so nearly that it may not take one more file.
pub(crate) fn is_full(path: &Path) -> bool {
    const HARDLY_ANY: u64 = 1 << 20;
    is_out_of_inodes(path) || available(path).is_ok_and(|available| available < HARDLY_ANY)
}

/// Gives back what the store in that folder can do without, and once there is none, what its journal keeps for a full disk: each
/// file is an inode too. Says whether there was anything, so that the caller may try again, and come back.
pub fn give_back(store: &Path) -> bool {
    let caches = std::fs::read_dir(store.join(crate::layout::CACHE)).into_iter().flatten().flatten();
    let caches: Vec<PathBuf> = caches.map(|cache| cache.path()).collect();
    let has_gone = |path: &PathBuf| std::fs::remove_file(path).is_ok();
    caches.iter().filter(|cache| has_gone(cache)).count() > 0
        || has_gone(&store.join(crate::journal::BALLAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_follows_its_rule() {
        const GIB: u64 = 1 << 30;
        let kept = |rule: ReserveRule, total: u64| rule.of(total).0;
        assert_eq!(kept(ReserveRule::Usual, 50 << 20), 1 << 20);
        assert_eq!(kept(ReserveRule::Usual, 1000 * GIB), 512 << 20);
        assert_eq!(kept(ReserveRule::Bytes(ByteCount(7)), GIB), 7);
        assert_eq!(kept(ReserveRule::Percent(5), 100 * GIB), 5 * GIB);
    }

    #[test]
    fn a_refusal_names_the_path_and_the_numbers() {
        let error = check(Path::new("/srv"), 3 << 20, 1 << 20, 2 << 20).expect_err("too little");
        assert_eq!(
            error.to_string(),
            "not enough space at /srv: 3.0 MiB needed beside a reserve of 1.0 MiB, and 2.0 MiB free; \
             free some, or forget snapshots and collect"
        );
        check(Path::new("/srv"), 1 << 20, 1 << 20, 2 << 20).expect("just enough");
    }
}
