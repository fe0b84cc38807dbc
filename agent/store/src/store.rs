//! The store as others hold it: opening, listing, scanning.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rfs_model::time::{SharedClock, SystemClock};
use rfs_model::{Digest, SnapshotId};

use crate::cancel::Cancel;
use crate::capture::Capture;
use crate::clones::Clones;
use crate::content::NameOnly;
use crate::error::{CaptureError, StoreError};
use crate::index::Index;
use crate::layout::Layout;
use crate::met::Met;
use crate::objects::Uses;
use crate::pack::PackFiles;
use crate::proofs::Proofs;
use crate::scan::Scan;
use crate::snapshot::{self, Snapshot, SnapshotInfo};
use crate::space::{Reserve, ReserveRule};
use crate::spec::{FilesSpec, Scope};
use crate::tree::{Extent, Tree};

/// A host's snapshots. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Inner>);

/// How a store is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// How much of its file system is never used.
    pub reserve: ReserveRule,
    /// Whether large files are cloned, where the file system can.
    pub clones: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { reserve: ReserveRule::default(), clones: true }
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layout: Arc<Layout>,
    pub(crate) clock: Ticking,
    pub(crate) reserve: Reserve,
    pub(crate) reserve_rule: ReserveRule,
    pub(crate) packs: PackFiles,
    pub(crate) clones: Clones,
    pub(crate) proofs: Proofs,
    pub(crate) uses: Uses,
    /// Held while a snapshot is added or removed, or its marks change.
    pub(crate) catalogue: Mutex<()>,
    /// Held by the one collector.
    pub(crate) collecting: Mutex<()>,
    /// Counts what leaves the list of snapshots that can be restored, and what comes back to it.
    pub(crate) revision: AtomicU64,
    index: RwLock<Index>,
}

/// A clock, which has no `Debug` of its own.
pub(crate) struct Ticking(pub(crate) SharedClock);

impl std::fmt::Debug for Ticking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("clock")
    }
}

impl Inner {
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reload_index(&self) -> Result<(), StoreError> {
        // Not from the file: it may be older than what has changed.
        let index = Index::from_packs(&self.layout)?;
        *self.index_mut() = index;
        Ok(())
    }
}

impl Store {
    /// Opens a store for writing, and makes one if the folder is new or empty. One process at a time may; a lock dies
    /// with its process.
    pub fn open(path: &Path, clock: SharedClock) -> Result<Self, StoreError> {
        Self::open_with(path, clock, StoreOptions::default())
    }

    /// The same, in another way than the usual.
    pub fn open_with(path: &Path, clock: SharedClock, options: StoreOptions) -> Result<Self, StoreError> {
        Self::with(Layout::open(path)?, clock, options)
    }

    /// Opens a store for reading, beside the process that writes.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Self::open_read_only_with_reserve(path, ReserveRule::default())
    }

    /// The same, speaking of another reserve.
    pub fn open_read_only_with_reserve(path: &Path, reserve: ReserveRule) -> Result<Self, StoreError> {
        let options = StoreOptions { reserve, clones: false };
        Self::with(Layout::open_read_only(path)?, Arc::new(SystemClock), options)
    }

    fn with(layout: Layout, clock: SharedClock, options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Arc::new(layout);
        let StoreOptions { reserve, clones } = options;
        let kept = Reserve::of(&layout.root, reserve)?;
        let inner = Inner {
            clock: Ticking(clock),
            reserve: kept.clone(),
            reserve_rule: reserve,
            packs: PackFiles::new(layout.packs.clone()),
            clones: Clones::new(layout.clones.clone(), clones, kept),
            proofs: Proofs::default(),
            uses: Uses::default(),
            catalogue: Mutex::new(()),
            collecting: Mutex::new(()),
            revision: AtomicU64::new(0),
            index: RwLock::new(Index::load(&layout)?),
            layout,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.0.layout.root
    }

    /// Begins a snapshot. If it is dropped before it is committed, what it wrote is garbage, which the collector removes.
    pub fn begin(&self) -> Result<Capture, StoreError> {
        self.0.layout.require_writable()?;
        Ok(Capture::new(&self.0))
    }

    /// The live state as a tree, to be compared with a snapshot's. Stores nothing.
    pub fn scan(&self, spec: &FilesSpec, cancel: &Cancel) -> Result<Tree, CaptureError> {
        self.look(spec, cancel).map(|(tree, _)| tree)
    }

    /// The live state as a tree, with what was met beside its entries. Stores nothing.
    pub fn look(&self, spec: &FilesSpec, cancel: &Cancel) -> Result<(Tree, Met), CaptureError> {
        let scope = Scope::new(spec)?;
        let may_write = self.0.layout.require_writable().is_ok();
        let caches = Some((self.0.layout.cache.as_path(), may_write));
        let proofs = Some(&self.0.proofs);
        let (tree, met, _) = Scan { scope: &scope, caches, sink: &NameOnly, proofs, cancel }.run()?;
        Ok((tree, met))
    }

    /// Every snapshot, the oldest first. One whose manifest is damaged is left out: verify names it.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        snapshot::list(&self.0)
    }

    /// The snapshots that can be restored, as far as is known: every one that is not known to be harmed. The oldest first.
    pub fn restorable(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        let mut infos = self.snapshots()?;
        infos.retain(|info| info.marks.harmed.is_none());
        Ok(infos)
    }

    /// Grows whenever a snapshot leaves [`Store::restorable`] or comes back to it. A new snapshot alone does not change it.
    pub fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::SeqCst)
    }

    /// Opens a snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, StoreError> {
        Snapshot::open(&self.0, id)
    }

    /// Finds the one snapshot whose id begins like this.
    pub fn resolve_prefix(&self, prefix: &str) -> Result<SnapshotId, StoreError> {
        let wanted = prefix.to_ascii_lowercase();
        let ids = snapshot::ids(&self.0)?;
        let mut matching =
            ids.into_iter().filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
        match (matching.next(), matching.count()) {
            (Some(id), 0) => Ok(id),
            (Some(_), more) => {
                Err(StoreError::AmbiguousPrefix { prefix: prefix.to_owned(), count: more + 1 })
            }
            (None, _) => Err(StoreError::UnknownSnapshot { id: prefix.to_owned() }),
        }
    }

    /// Reads a piece of content. What does not have this digest and length is never returned.
    pub(crate) fn piece(
        &self,
        digest: &Digest,
        length: u64,
        content: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.0.object(digest, content)?;
        match content.len() as u64 == length {
            true => Ok(()),
            false => Err(StoreError::damaged(
                format!("object {digest}"),
                self.path(),
                "it is not as long as its file says",
            )),
        }
    }

    /// Writes content into a new, empty file, each piece verified before it is written; holes stay holes.
    pub fn write_content(&self, extents: &[Extent], file: &File) -> Result<(), StoreError> {
        let failed = |source| crate::files::write_error(&path_of(file), 0)(source);
        let mut content = Vec::new();
        for (at, extent) in Extent::placed(extents) {
            match extent {
                Extent::Data { digest, length } => {
                    self.piece(digest, *length, &mut content)?;
                    file.write_all_at(&content, at).map_err(failed)?;
                }
                Extent::Hole { length } => file.set_len(at + length).map_err(failed)?,
            }
        }
        Ok(())
    }
}

/// What an open file is called, for messages.
fn path_of(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    std::fs::read_link(&link).unwrap_or_else(|_| link.into())
}
