//! The host's snapshots: what a host was, kept so that it can be put back, at almost no cost and without loss.

mod bytes;
mod cache;
mod cancel;
mod capture;
mod collect;
mod content;
pub mod diff;
mod drill;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod journal;
mod layout;
mod manifest;
mod marks;
mod objects;
mod pack;
mod reach;
mod repair;
pub mod restore;
pub mod retention;
mod scan;
mod segment;
mod snapshot;
mod space;
mod spec;
mod store;
pub mod text;
pub mod tree;
mod usage;
mod verify;
mod walk;

pub use cancel::{Cancel, Stopped};
pub use capture::Capture;
pub use collect::{CollectReport, Expiry};
pub use diff::{Aspect, ComponentDiff, FileChange, FileDiff, diff_trees};
pub use drill::{DrillError, DrillReport};
pub use error::{CaptureError, StoreError};
pub use layout::FORMAT;
pub use manifest::SnapshotNote;
pub use marks::{Marks, Proof};
pub use repair::RepairReport;
pub use retention::{KeepPolicy, Kept, NEWEST_CHECKPOINT};
pub use scan::CaptureStats;
pub use snapshot::{ComponentInfo, Snapshot, SnapshotInfo};
pub use space::{Demand, ReserveRule};
pub use spec::{FilesSpec, STAGING_PREFIX, Scope};
pub use store::Store;
pub use tree::{Entry, EntryKind, Extent, Meta, Root, Tree};
pub use usage::Usage;
pub use verify::{Damage, DamagedThing, Share, VerifyReport};
