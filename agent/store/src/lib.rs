//! The host's snapshots: what a host was, kept so that it can be put back, at almost no cost and without loss.
//!
//! ```text
//! live files ─▶ walk ─▶ scan ─▶ capture ─▶ objects ─▶ packs ─▶ manifest        what is on the disk: see [`format`]
//!                 ▲                            │                   │
//!                 └── restore ◀── tree ◀───────┴── index ◀─ snapshot            marks, retention, collect beside
//! ```
//! Invariants
//! - What was committed is read back as it was, or not at all: every content is compared with its digest on every read,
//!   and what damage was met names the file, the object, and what to do.
//! - Nothing that is read from the disk is trusted with memory, a path or a position before it was checked, and what a
//!   checksum covers is checked as if it had none (`tests/hostile.rs`, `fuzz`).
//! - What this version writes, every later one reads (`tests/golden`).
//! - One process writes, any number read. A crash at any instant leaves what was committed, and rubbish that goes later.

mod bytes;
mod cache;
mod cancel;
mod capture;
mod clones;
mod collect;
mod content;
pub mod diff;
mod drill;
mod error;
mod files;
mod flags;
pub mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod journal;
mod layout;
mod manifest;
mod marks;
mod met;
mod objects;
mod pack;
mod proofs;
mod reach;
mod repair;
pub mod restore;
pub mod retention;
mod scan;
mod segment;
mod snapshot;
mod space;
mod spec;
mod staging;
mod store;
pub mod text;
pub mod tree;
mod usage;
mod verify;
mod walk;
mod way;

pub use cancel::{Cancel, Stopped};
pub use capture::Capture;
pub use collect::{CollectReport, Expiry};
pub use diff::{Aspect, ComponentDiff, FileChange, FileDiff, diff_trees};
pub use drill::{DrillError, DrillReport};
pub use error::{CaptureError, StoreError};
pub use layout::FORMAT;
pub use manifest::SnapshotNote;
pub use marks::{Marks, Proof};
pub use met::{FileSystem, LostFlags, Met, MetMount, MetRoot, READ_ONLY_SUBVOLUME, RootState};
pub use repair::RepairReport;
pub use retention::{KeepPolicy, Kept, NEWEST_CHECKPOINT};
pub use scan::CaptureStats;
pub use snapshot::{BACKUP_LABEL, ComponentInfo, Snapshot, SnapshotInfo};
pub use space::{Demand, ReserveRule, give_back};
pub use spec::{FilesSpec, Scope};
pub use staging::STAGING_PREFIX;
pub use store::{Store, StoreOptions};
pub use tree::{Entry, EntryKind, Extent, Meta, Root, Tree};
pub use usage::Usage;
pub use verify::{Damage, DamagedThing, Share, VerifyReport};
pub use way::{MetLink, Way};
