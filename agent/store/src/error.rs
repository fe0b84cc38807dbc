//! What can go wrong, by what a caller would do about it.

use std::io;
use std::path::{Path, PathBuf};

use rfs_model::{ByteCount, ComponentName, Digest, SnapshotId};

use crate::cancel::Stopped;

/// Why the store could not do something. Nothing that was committed before is lost by any of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to the store. Try again later, or ask that process.
    #[error("store {} is held by another process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The store was opened for reading alone.
    #[error("store {} was opened for reading only", path.display())]
    ReadOnly {
        /// The store.
        path: PathBuf,
    },
    /// There is no store there.
    #[error("{} is not a store: {reason}", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What is missing or foreign.
        reason: &'static str,
    },
    /// A newer version wrote the store. Upgrade.
    #[error("store {} has format {found}; this version reads up to {supported}", path.display())]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// A file system has not enough space. Free some or forget snapshots.
    #[error(
        "not enough space at {}: {needed} needed beside a reserve of {reserve}, and {available} free; \
         free some, or forget snapshots and collect",
        path.display()
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// How much more was to be written.
        needed: ByteCount,
        /// What is never used.
        reserve: ByteCount,
        /// How much there is.
        available: ByteCount,
    },
    /// A file system takes no more files. Remove some or forget snapshots.
    #[error(
        "the file system of {} has no free inodes: it holds as many files as it can; remove some, or forget snapshots and collect",
        path.display()
    )]
    NoInodes {
        /// Where.
        path: PathBuf,
    },
    /// No snapshot has this id.
    #[error("no snapshot {id} in this store; list them to see which there are")]
    UnknownSnapshot {
        /// The id, or the part of it that was given.
        id: String,
    },
    /// Several snapshots begin like this. Give more digits.
    #[error("{prefix:?} begins the ids of {count} snapshots; give more digits")]
    AmbiguousPrefix {
        /// What was given.
        prefix: String,
        /// How many snapshots match.
        count: usize,
    },
    /// The snapshot has no such component.
    #[error("snapshot {snapshot} has no component {component} of that kind")]
    UnknownComponent {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The component.
        component: ComponentName,
    },
    /// The snapshot may not be deleted.
    #[error("snapshot {id} stays: {why}")]
    Undeletable {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        why: String,
    },
    /// A component was captured twice into one snapshot, or a value is too large.
    #[error("component {component}: {reason}")]
    BadComponent {
        /// The component.
        component: ComponentName,
        /// What is wrong with it.
        reason: String,
    },
    /// Something stored is not what it was. Run verify; repair from a live file or another snapshot.
    #[error("{what} in {} is damaged: {reason}; run verify", path.display())]
    Damaged {
        /// What is damaged.
        what: String,
        /// The file that holds it.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// An object is referred to and not there.
    #[error("object {digest} is missing from store {}; run verify", path.display())]
    Missing {
        /// The object.
        digest: Digest,
        /// The store.
        path: PathBuf,
    },
    /// A read or a write failed.
    #[error("cannot {action} {}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn os(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let path = path.to_owned();
        move |errno| Self::Io { action, path, source: errno.into() }
    }

    /// What the disk cannot give is damage like any other: the rest can be read.
    pub(crate) fn unread(
        what: &'static str,
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match is_broken(&source) {
            true => Self::damaged(what, &path, format_args!("it cannot be read: {source}")),
            false => Self::Io { action, path, source },
        }
    }

    /// Whether a file that was known of is there no more. Of a pack that means that a collector was faster.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn damaged(what: impl Into<String>, path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { what: what.into(), path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What to do about a fault that the file system names.
pub(crate) fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: see why with `dmesg`, and remount it"
        }
        io::ErrorKind::PermissionDenied => "; grant the right, or run as root",
        _ if is_broken(source) => "; the disk reports a fault: see `dmesg`",
        _ => "",
    }
}

/// Whether the disk itself could not do it.
pub(crate) fn is_broken(source: &io::Error) -> bool {
    source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Why a tree could not be captured. The snapshot in the making is dropped; the live state was only read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A path cannot be read. Grant the right, exclude it, or repair the disk.
    #[error("cannot {action} {}{}", path.display(), advice(source))]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file kept changing. Quiesce its writer, or exclude it.
    #[error("{} kept changing while it was read; quiesce its writer or exclude it", path.display())]
    Unstable {
        /// The file.
        path: PathBuf,
    },
    /// A configured path cannot be a root.
    #[error("path {} cannot be captured: {reason}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// An exclude pattern is not valid.
    #[error("exclude pattern {pattern:?} is not valid")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// The store could not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CaptureError {
    pub(crate) fn unreadable(action: &'static str, path: PathBuf) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Unreadable { action, path, source: errno.into() }
    }
}
