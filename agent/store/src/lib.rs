//! The host's snapshots: what a host was, kept so that it can be put back, at almost no cost and without loss.

mod bytes;
mod cancel;
mod capture;
mod content;
mod error;
mod files;
mod index;
pub mod journal;
mod layout;
mod manifest;
mod marks;
mod objects;
mod pack;
pub mod restore;
mod scan;
mod segment;
mod snapshot;
mod space;
mod spec;
mod store;
pub mod text;
pub mod tree;
mod walk;

pub use cancel::{Cancel, Stopped};
pub use capture::Capture;
pub use error::{CaptureError, StoreError};
pub use layout::FORMAT;
pub use manifest::SnapshotNote;
pub use marks::{Marks, Proof};
pub use scan::CaptureStats;
pub use snapshot::{ComponentInfo, Snapshot, SnapshotInfo};
pub use spec::{FilesSpec, STAGING_PREFIX, Scope};
pub use store::Store;
pub use tree::{Entry, EntryKind, Extent, Meta, Root, Tree};
