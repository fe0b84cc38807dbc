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
mod error;
mod pattern;

mod check;
mod diff;
mod inodes;
mod line;
mod plan;
mod wanted;

mod evidence;
mod outside;
mod site;
mod stage;
mod staged;
mod work;
mod write;

mod adjust;
mod bench;
mod discard;
mod flip;
mod unflip;

mod fault;
mod folders;
mod live;
mod look;
mod meta;
mod visit;
mod yard;

pub use bench::{Operation, Watch};
pub use contents::{Contents, Progress, Unmanaged};
pub use diff::{Rules, plan};
pub use discard::{discard, sweep};
pub use error::{DiscardError, FlipError, PlanError, StageError};
pub use flip::{flip, flip_watched, standing, sync};
pub use pattern::{PathSet, PatternError, Selection};
pub use plan::{Adjustment, Change, Counts, FilesPlan, FolderTime, New, Place, Step};
pub use stage::stage;
pub use staged::{FilesStanding, Staged, StagingName, StagingNameError, Unflipped};
pub use unflip::{unflip, unflip_watched};
