//! Where staged files get their bytes from, and how the caller follows and stops the work.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rfs_model::{ByteCount, Digest};

use crate::tree::Extent;

/// A source of file content, verified by digest.
pub trait Contents: Sync {
    /// Reads the piece of content that has this digest and length, and no other.
    fn read(
        &self,
        digest: &Digest,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Opens a file that seems to hold exactly this, to be cloned, and that nobody writes to. What is taken from it is
    /// digested.
    fn whole(&self, _content: &[Extent]) -> Option<File> {
        None
    }

    /// Learns that every byte of a staged file was digested where it is.
    fn proved(&self, _file: &File, _content: &[Extent]) {}
}

/// What happens to files that the component excludes, when the folder that holds them must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmanaged {
    /// The restore is refused.
    #[default]
    Refuse,
    /// They go with the folder.
    Drop,
}

/// Follows staging from another thread, and stops it.
#[derive(Debug, Default)]
pub struct Progress {
    cancelled: AtomicBool,
    bytes: AtomicU64,
}

impl Progress {
    /// Makes staging stop soon with [`StageError::Cancelled`](super::StageError::Cancelled).
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How much content has been written.
    pub fn written(&self) -> ByteCount {
        ByteCount(self.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
