//! Puts live file trees to a target, or leaves them as they were.
//!
//! ```text
//! plan ─▶ stage ─▶ flip ─▶ (service starts, is verified) ─▶ sync ─▶ discard
//!            │       │
//!            └───────┴── unflip ─▶ sync ─▶ discard
//! ```
//!
//! - [`plan`](plan()) compares two trees and is pure. A second plan after a restore is empty: that is verification.
//! - [`stage`](stage()) writes new entries, whole and with all metadata, into `.rfs-…` folders on the same file system.
//! - [`flip`](flip()) exchanges each path with its slot there: one system call a path, whatever the size; what it
//!   displaces is the way back. Only what changes costs time: unchanged files are never looked at.
//! - [`unflip`](unflip()) is its inverse. Both may be called again from any point of either.
//! - [`sync`](sync()) makes the result durable, after the service runs again; [`discard`](discard()) removes the rest.
//!
//! # Invariants
//! - Nothing live changes before `flip`, except the count of names of a file that gets one more.
//! - A journal holds the [`Staged`] before `flip` begins. Which steps are done is told from inode numbers alone.
//! - `flip` compares every path with what was staged for before it touches the first (inode, size, mode, times of content
//!   and of change; of a folder that goes, of all beneath it), and what it displaced once more after each exchange. Any
//!   difference is [`FlipError::Changed`], never a loss.
//! - Paths are opened beneath their root, through no link and no `..`. What lies above a root is the administrator's: it
//!   is followed, and the folder that holds the root must be the same one throughout.
//! - No clock is read here, and no path is followed that a tree names: a link's target is bytes.
//!
//! # Decisions
//! - *Where staging stands*: beside the root, when the folder that holds it is the same mount and volume; else within the
//!   root; one more within each btrfs volume that is nested in a root. Access is for the owner alone, nothing is inherited
//!   from the folder around, and that folder's time is put back. Captures leave these names out.
//! - *A root that itself comes, goes or changes its kind* is a step like any other, in the folder above. Folders that are
//!   missing above a root are made, and removed with the way back.
//! - *Hard links*: an inode stays where its content and most of its names do; other names are linked to it or written
//!   anew. A file with names outside of the component is never changed in place.
//! - *Metadata alone* is changed in place, each setting repeatable; folders' times come last.
//! - *What a component excludes* has no snapshot; so it stays, with the folders above it ([`Rules::stays`]). One that came
//!   after the plan refuses it, unless its loss is accepted ([`Unmanaged`]).
//! - *A folder in which only such names came and went* has another time, which decides nothing: it is put right beside other
//!   steps, and is none itself.
//! - *What a service writes once it is started* is no difference ([`left_since`]).
//! - *Whatever a service put at a path since the flip* goes into the slot when `unflip` gives the old entry its place
//!   back, and is named ([`Unflipped`]). What it put elsewhere is not known here: compare by a new plan.
//! - *Flags that `chattr` sets* are attributes like others; those that bind an entry (immutable, append-only) are set last.
//!   What is bound where it is live is named and refused.
//! - *A folder whose entries inherit its project* takes no rename from outside of it, so staging stands within it.
//! - *Sockets* belong to the services that listen there: none is made, and one in a folder that the target does not have
//!   stays, with the folders above it.
//! - *Not restored*: access times, times of change, birth times. Device files need [`Rules::devices`].
//!
//! # Limits
//! - A file system must exchange two names in one step (ext4, XFS, btrfs, tmpfs and overlayfs do); it is tried before
//!   anything is written. On overlayfs a folder that comes from a lower layer can't be moved
//!   ([`FlipError::OtherMount`]).
//! - Without a journal in the file system, a power cut may leave folders' own times behind.
//! - A process that holds a displaced file open may still write to it; those writes go with it.

mod contents;
mod error;
mod pattern;

mod check;
mod diff;
mod inodes;
mod line;
mod near;
mod plan;
mod wanted;

mod evidence;
mod fill;
mod journalled;
mod outside;
mod site;
mod stage;
mod staged;
mod work;
mod write;

mod adjust;
mod bench;
mod discard;
mod fixes;
mod flip;
mod since;
mod sync;
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
pub use discard::{discard, discard_decided, sweep};
pub use error::{DiscardError, FlipError, PlanError, StageError};
pub use flip::{begin, flip, flip_watched, standing};
#[cfg(feature = "fuzzing")]
pub(crate) use journalled::yards_are_read;
pub use pattern::{PathSet, PatternError, Selection};
pub use plan::{Adjustment, Change, Counts, FilesPlan, FolderTime, New, Place, Step, is_unkept};
pub use since::{Left, Moment, left_since};
pub use stage::stage;
pub use staged::{FilesStanding, Staged, StagingName, StagingNameError, Unflipped};
pub use sync::sync;
pub use unflip::{unflip, unflip_watched};
