//! Clones of large files, where the file system shares blocks between files (XFS, btrfs; `FICLONE`).
//!
//! ```text
//! live file ─ clone ─▶ clones/N.part     the file is read into the packs; if it does not hold still, the clone is
//!                           │ named by what it holds
//!                           ▼
//!                      clones/DIGEST ─ clone ─▶ staged file, digested piece by piece
//! ```
//! A capture makes one, and so has the file as it was at one instant, whoever writes to it meanwhile. A restore clones it
//! back. Neither copies a byte.
//!
//! Invariants
//! - Nothing counts on a clone: the packs have all that it has. Any may go at any time, and all go before work is refused
//!   for lack of room.
//! - A clone takes room once what is live is another. So none is made that would not fit into what is free beside the
//!   reserve if it shared nothing, and a collection keeps only as many, the newest first, as fit together.
//! - What it holds is a guess: whoever takes content from it digests it. So nothing is made durable here, and nothing
//!   verified.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rfs_model::Digest;
use rustix::fs::ioctl_ficlone;
use rustix::io::Errno;

use crate::error::StoreError;
use crate::files;
use crate::layout::names;
use crate::space::Reserve;
use crate::tree::Extent;
use crate::walk::Live;

/// Smaller files are not worth a file in the store.
pub(crate) const SMALLEST: u64 = 8 << 20;

/// The folder of clones.
#[derive(Debug)]
pub(crate) struct Clones {
    folder: PathBuf,
    /// None is made where this says so.
    is_wanted: bool,
    reserve: Reserve,
    next: AtomicU64,
    /// Mounts of which no file can be cloned into the folder.
    refused: Mutex<BTreeSet<u64>>,
}

/// A clone in the making: it goes when it is dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct FileClone<'a> {
    clones: &'a Clones,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Clones {
    pub(crate) fn new(folder: PathBuf, is_wanted: bool, reserve: Reserve) -> Self {
        Self { folder, is_wanted, reserve, next: AtomicU64::new(0), refused: Mutex::default() }
    }

    /// Clones a file of `size` bytes, if that is worth it and can be done.
    pub(crate) fn make(&self, live: &File, size: u64) -> Option<FileClone<'_>> {
        if !self.is_wanted || size < SMALLEST {
            return None;
        }
        let mount = Live::of(live.as_fd()).ok()?.mount;
        // One that nothing is shared with any more takes its whole length.
        if self.refused().contains(&mount) || self.reserve.check(size).is_err() {
            return None;
        }
        let path = self.folder.join(format!("{}.part", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = files::create_new(&path).ok()?;
        let mut clone = FileClone { clones: self, path, file, size: 0 };
        match ioctl_ficlone(&clone.file, live) {
            Ok(()) => {
                clone.size = clone.file.metadata().ok()?.len();
                Some(clone)
            }
            Err(errno) => {
                if matches!(errno, Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY) {
                    self.refused().insert(mount);
                }
                None
            }
        }
    }

    /// Opens a clone that holds this content, as far as is known.
    pub(crate) fn find(&self, content: &[Extent]) -> Option<File> {
        let size: u64 = content.iter().map(Extent::length).sum();
        if size < SMALLEST { None } else { File::open(self.path_of(&name_of(content))).ok() }
    }

    /// The names of all clones, but for those in the making.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(names(&self.folder)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes these of the clones, and says how many that were.
    pub(crate) fn remove(&self, names: &[Digest]) -> Result<u64, StoreError> {
        names.iter().try_for_each(|name| files::remove(&self.path_of(name)))?;
        Ok(names.len() as u64)
    }

    /// How long a clone is; nothing if it is gone.
    pub(crate) fn length(&self, name: &Digest) -> u64 {
        std::fs::metadata(self.path_of(name)).map_or(0, |meta| meta.len())
    }

    /// How much may be written while all clones together have this length, if nothing is shared with them any more.
    pub(crate) fn has_room_for(&self, length: u64) -> bool {
        self.reserve.check(length).is_ok()
    }

    fn path_of(&self, name: &Digest) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileClone<'_> {
    /// The clone, and how long the file was when it was made.
    pub(crate) fn read(&self) -> (&File, u64) {
        (&self.file, self.size)
    }

    /// Keeps the clone, named by what it holds. One that is there already shares less with what is live.
    pub(crate) fn keep(&self, content: &[Extent]) {
        let kept = files::rename(&self.path, &self.clones.path_of(&name_of(content)));
        if let Err(error) = kept {
            tracing::debug!(%error, "a clone was not kept");
        }
    }
}

impl Drop for FileClone<'_> {
    fn drop(&mut self) {
        if let Err(error) = files::remove(&self.path) {
            tracing::debug!(%error, "a clone that is not needed stays until the next start");
        }
    }
}

/// What a clone is called.
pub(crate) fn name_of(content: &[Extent]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for extent in content {
        match extent {
            Extent::Data { digest, length } => hasher.update(digest.as_bytes()).update(&length.to_le_bytes()),
            Extent::Hole { length } => hasher.update(&[0; 32]).update(&length.to_le_bytes()),
        };
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// The name of a file's clone, if it is large enough to have one.
pub(crate) fn name_if_any(size: u64, content: &[Extent]) -> Option<Digest> {
    (size >= SMALLEST).then(|| name_of(content))
}

/// How long the clones in a folder are: most of it is shared with what is live.
pub(crate) fn length(folder: &Path) -> Result<u64, StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(StoreError::io("list", folder))?,
    };
    // One that goes meanwhile has no length.
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum())
}
