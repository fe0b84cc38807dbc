//! Space: what a file system has left, and the reserve that is never used.

use std::path::{Path, PathBuf};

use rfs_model::ByteCount;

use crate::error::StoreError;

/// Keeps some space free, so that a full store never fills the host's disk.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    path: PathBuf,
    kept: u64,
}

/// The reserve: a fiftieth of the file system, and no more than this.
const LARGEST_RESERVE: u64 = 512 << 20;

impl Reserve {
    /// The reserve of the file system that holds `path`.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let found = rustix::fs::statvfs(path).map_err(StoreError::os("examine the file system of", path))?;
        let total = found.f_blocks.saturating_mul(found.f_frsize);
        Ok(Self { path: path.to_owned(), kept: (total / 50).min(LARGEST_RESERVE) })
    }

    /// No reserve: for work that frees more than it takes.
    pub(crate) fn none(&self) -> Self {
        Self { path: self.path.clone(), kept: 0 }
    }

    /// Refuses work that would leave less than the reserve.
    pub(crate) fn check(&self, needed: u64) -> Result<(), StoreError> {
        let available = available(&self.path)?;
        let needed = needed.saturating_add(self.kept);
        if available >= needed {
            return Ok(());
        }
        let (needed, available) = (ByteCount(needed), ByteCount(available));
        Err(StoreError::NoSpace { path: self.path.clone(), needed, available })
    }
}

/// How many bytes may still be written to the file system that holds `path`.
pub(crate) fn available(path: &Path) -> Result<u64, StoreError> {
    let found = rustix::fs::statvfs(path).map_err(StoreError::os("examine the file system of", path))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
