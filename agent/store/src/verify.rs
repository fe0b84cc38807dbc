//! Verification: what is stored is read again, and everything that is not what it was is named, with the snapshots
//! that it harms.
//!
//! A whole verification reads every byte of every pack, manifest, mark, and of the index and the journal: each that means
//! anything is covered by a checksum, so that any flipped byte is found. A sampled one reads a share of the objects, and
//! all that names them.

pub(crate) mod packs;
mod snapshots;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rfs_model::{ByteCount, Digest, SnapshotId};

use crate::cancel::Cancel;
use crate::error::StoreError;
use crate::index::{self, Index};
use crate::journal;
use crate::pack::PackId;
use crate::snapshot;
use crate::store::{Inner, Store};

/// How much is read again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// Everything.
    Whole,
    /// So many of a thousand objects, another choice for each `seed`.
    PerMille {
        /// How many of a thousand.
        share: u16,
        /// Which.
        seed: u64,
    },
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// The objects that were read again.
    pub objects: u64,
    /// All objects.
    pub objects_total: u64,
    /// How many bytes of packs were read.
    pub bytes: ByteCount,
    /// The snapshots that were looked at.
    pub snapshots: u64,
    /// What is not what it was.
    pub damage: Vec<Damage>,
}

/// Something that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub what: DamagedThing,
    /// The file that holds it.
    pub path: PathBuf,
    /// How it shows.
    pub reason: String,
    /// The snapshots that cannot be restored wholly because of it.
    pub harms: BTreeSet<SnapshotId>,
}

/// A thing that can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamagedThing {
    /// An object's record: its content is lost here.
    Object(Digest),
    /// An object that a snapshot needs and no pack has.
    Missing(Digest),
    /// The index, which is made anew from the packs.
    Index,
    /// A pack's header, footer, or bytes between its records. Its objects are reported by themselves.
    Pack(u64),
    /// A snapshot's manifest.
    Manifest(SnapshotId),
    /// A snapshot's marks; it counts as in use until they are set anew.
    Marks(SnapshotId),
    /// The journal: what is damaged in it is not acted upon.
    Journal,
}

impl fmt::Display for DamagedThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(digest) => write!(f, "object {digest}"),
            Self::Missing(digest) => write!(f, "missing object {digest}"),
            Self::Index => f.write_str("the index"),
            Self::Pack(id) => write!(f, "pack {id:016x}"),
            Self::Manifest(id) => write!(f, "manifest of snapshot {id}"),
            Self::Marks(id) => write!(f, "marks of snapshot {id}"),
            Self::Journal => f.write_str("the journal"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.what, self.path.display(), self.reason)
    }
}

impl Store {
    /// Reads stored content again and names everything that is not what it was. Changes nothing.
    pub fn verify(&self, share: Share, cancel: &Cancel) -> Result<VerifyReport, StoreError> {
        verify(&self.0, share, cancel)
    }
}

fn verify(store: &Inner, share: Share, cancel: &Cancel) -> Result<VerifyReport, StoreError> {
    // Listed first: what a snapshot needs is there before the snapshot is.
    let snapshots = snapshot::ids(store)?;
    // The disk is asked, not what is remembered of it.
    let index = Index::from_packs(&store.layout)?;
    let ids: Vec<PackId> = index.packs().map(|(id, _)| id).collect();
    let next = AtomicUsize::new(0);
    let report =
        Mutex::new(VerifyReport { objects_total: index.objects().count() as u64, ..VerifyReport::default() });
    let check = || -> Result<(), StoreError> {
        let mut checker = packs::Checker::default();
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pack = checker.check(&id.path(&store.layout.packs), *id, share, cancel)?;
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.damage.extend(pack.damage);
            report.objects += pack.objects;
            report.bytes.0 += pack.bytes;
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from).min(ids.len());
    std::thread::scope(|threads| -> Result<(), StoreError> {
        let checkers: Vec<_> = (0..cores).map(|_| threads.spawn(check)).collect();
        let join = |checker: std::thread::ScopedJoinHandle<'_, _>| {
            checker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        checkers.into_iter().try_for_each(join)
    })?;
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = index::check(&store.layout, &index)? {
        let path = index::path(&store.layout);
        report.damage.push(Damage { what: DamagedThing::Index, path, reason, harms: BTreeSet::new() });
    }
    let faults = journal::check(&store.layout.root).map_err(|error| StoreError::Io {
        action: "check",
        path: store.layout.root.join(journal::FILE),
        source: std::io::Error::other(error),
    })?;
    report.damage.extend(faults.into_iter().map(|reason| {
        let path = store.layout.root.join(journal::FILE);
        Damage { what: DamagedThing::Journal, path, reason, harms: BTreeSet::new() }
    }));
    snapshots::check(store, &snapshots, &index, cancel, &mut report)?;
    report.damage.sort_by(|a, b| (a.what, &a.path).cmp(&(b.what, &b.path)));
    Ok(report)
}
