//! Puts live file trees to a target, or leaves them as they were.
//!
//! ```text
//! plan ─▶ stage ─▶ flip ─▶ (service starts, is verified) ─▶ sync ─▶ discard
//!            │       │
//!            └───────┴── unflip ─▶ sync ─▶ discard
//! ```
//!
//! - [`plan`](plan()) compares two trees and is pure.
//! - [`stage`](stage()) writes new entries, whole, into `.rfs-…` folders on the same file system.
//! - [`flip`](flip()) exchanges each path with its slot there: one system call per path, whatever the size.
//! - [`unflip`](unflip()) is its exact inverse: the displaced entries are the way back.

mod contents;
mod diff;
mod error;
mod flip;
mod line;
mod pattern;
mod plan;
mod stage;
mod staged;

pub use contents::{Contents, Progress, Unmanaged};
pub use diff::{Rules, plan};
pub use error::{DiscardError, FlipError, PlanError, StageError};
pub use flip::{discard, flip, standing, sweep, sync, unflip};
pub use pattern::{PathSet, PatternError, Selection};
pub use plan::{Adjustment, Change, Counts, FilesPlan, FolderTime, New, Place, Step};
pub use stage::stage;
pub use staged::{
    FilesStanding, STAGING_PREFIX, Staged, StagingName, StagingNameError, Unflipped, is_staging_name,
};
