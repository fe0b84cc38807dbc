//! What can go wrong, one variant for each thing that a caller would do about it.

use std::io;

use rfs_model::ByteCount;

use crate::error::advice;
use crate::text::ByteText;

/// Why no plan can be made. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The live scan and the snapshot are not of the same paths.
    #[error("{path} is in the {there} only; scan the live host with the roots of the snapshot")]
    Roots {
        /// The root.
        path: ByteText,
        /// Which of the two has it.
        there: &'static str,
    },
    /// One root lies beneath another.
    #[error("{inner} lies beneath {outer}; a component's paths must not overlap")]
    Overlap {
        /// The root above.
        outer: ByteText,
        /// The root beneath it.
        inner: ByteText,
    },
    /// A selected path is outside of the component.
    #[error("{path} is outside this component, whose paths are: {roots}")]
    Outside {
        /// What was selected.
        path: String,
        /// The component's paths.
        roots: String,
    },
    /// A selected path is neither live nor in the snapshot.
    #[error("{path} is neither in the snapshot nor on the host; {near}")]
    NotFound {
        /// What was selected.
        path: String,
        /// What a person may have meant.
        near: String,
    },
    /// A path can't be both: it is kept as it is, and the target has something else in its place or above it.
    #[error(
        "{path} stays as it is, but the target has no folder at {above}; select or protect both or neither"
    )]
    Blocked {
        /// The path that stays, or that should come.
        path: ByteText,
        /// The path that is in its way.
        above: ByteText,
    },
    /// What no snapshot has, and so stays, is where the target has something else than a folder.
    #[error(
        "{path} is excluded or mounted and stays, but the snapshot has no folder at {above}; move it away or unmount it, and plan again"
    )]
    Held {
        /// What stays.
        path: ByteText,
        /// Where it stands in the way.
        above: ByteText,
    },
    /// A device file would be created.
    #[error(
        "{path} is a device file; write devices = true in its component to have it made, or leave it out with --accept-loss {path}"
    )]
    Device {
        /// The device file.
        path: ByteText,
    },
    /// A tree that breaks the invariants of `tree`.
    #[error("the {which} is malformed at {path}: {reason}")]
    Malformed {
        /// Which tree.
        which: &'static str,
        /// Where.
        path: ByteText,
        /// How.
        reason: &'static str,
    },
}

/// Why staging failed. The live trees are as they were, and nothing is left beside them.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// What is live is not what the plan was made for.
    #[error("{path} has changed since the plan was made; make a new plan")]
    Changed {
        /// The path that differs.
        path: ByteText,
    },
    /// A folder that should go holds something that the component excludes, which no snapshot has.
    #[error(
        "{path} is not part of the component, and would go with its folder {folder}; move it away, or accept its loss"
    )]
    Unmanaged {
        /// What the component does not know.
        path: ByteText,
        /// The folder that should go.
        folder: ByteText,
    },
    /// There is not enough room.
    #[error(
        "{path} needs {needed} of free space and has {available}; free some, or take a smaller selection"
    )]
    NoSpace {
        /// The file system, by a folder in it.
        path: ByteText,
        /// What staging takes.
        needed: ByteCount,
        /// What there is.
        available: ByteCount,
    },
    /// There are not enough inodes.
    #[error("{path} needs {needed} free inodes and has {available}; remove files from its file system")]
    NoInodes {
        /// The file system, by a folder in it.
        path: ByteText,
        /// What staging takes.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// The file system can't be written.
    #[error("{path} is on a read-only file system; remount it read-write")]
    ReadOnly {
        /// Where.
        path: ByteText,
    },
    /// The file system can't exchange two names in one step.
    #[error(
        "the file system of {path} cannot exchange two names in one step; ext4, XFS, btrfs and tmpfs can"
    )]
    NoExchange {
        /// Where.
        path: ByteText,
    },
    /// It is marked immutable or append-only.
    #[error("{path} is marked immutable or append-only; clear it with `chattr -i -a`")]
    Immutable {
        /// The marked path.
        path: ByteText,
    },
    /// Another file system is mounted there.
    #[error(
        "{path} is a mount point and cannot be replaced or deleted; unmount it, or leave it out of the selection"
    )]
    MountPoint {
        /// The mount point.
        path: ByteText,
    },
    /// The folder for staging is in use.
    #[error("{path} belongs to a restore that has begun to change the host; let it be recovered first")]
    InUse {
        /// The folder.
        path: ByteText,
    },
    /// A symbolic link, or something else that is no folder, stands above a path.
    #[error("{path} is not a folder; a restore never follows links beneath its roots")]
    NotAFolder {
        /// What is not a folder.
        path: ByteText,
    },
    /// The store could not give the content.
    #[error("the content of {path} could not be written")]
    Content {
        /// The file.
        path: ByteText,
        /// What the store says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked for it to stop.
    #[error("staging was cancelled")]
    Cancelled,
    /// The operating system refused.
    #[error("cannot {action} {path}{}", advice(source))]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: ByteText,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Why a flip, or its inverse, did not reach its end. Either may be called again; the inverse always may.
#[derive(Debug, thiserror::Error)]
pub enum FlipError {
    /// What is live is not what was staged for.
    #[error("{path} was changed by someone else after it was staged")]
    Changed {
        /// The path that differs.
        path: ByteText,
    },
    /// A symbolic link, or something else that is no folder, stands above a path.
    #[error("{path} is not the folder that it was; nothing is followed out of the component's paths")]
    NotAFolder {
        /// What is not the folder.
        path: ByteText,
    },
    /// The staged or the displaced entry is gone, so the path can be brought neither forward nor back.
    #[error("{path} can be brought neither to the target nor back: {slot} does not hold what it should")]
    Lost {
        /// The path.
        path: ByteText,
        /// Where its other version should be.
        slot: ByteText,
    },
    /// It is marked immutable or append-only.
    #[error("{path} cannot be changed; if it is marked immutable, clear that with `chattr -i -a`")]
    Immutable {
        /// The path.
        path: ByteText,
    },
    /// The caller's watch stopped it.
    #[error("stopped before the end; call it again, or its inverse")]
    Interrupted,
    /// The path is on another mount than its staging folder.
    #[error(
        "{path} is on another file system, volume or layer than its staging folder, and cannot be moved there"
    )]
    OtherMount {
        /// The path.
        path: ByteText,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}{}", advice(source))]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: ByteText,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Why staging folders could not be removed. May be called again.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// The tree stands between its two states, so that what is staged is still needed.
    #[error("{path} is neither at the target nor as it was, so its other version is kept")]
    StillNeeded {
        /// A path that is between.
        path: ByteText,
    },
    /// The roots are not where they were.
    #[error("the staging folders cannot be looked at")]
    Roots(#[source] FlipError),
    /// The operating system refused.
    #[error("cannot remove {path}{}", advice(source))]
    System {
        /// What was to be removed.
        path: ByteText,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
