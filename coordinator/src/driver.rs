//! Runs fleet operations: one short task each, around the pure functions of `rfs-rollout`.
//!
//! ```text
//!  callers ──▶ Operations ──create, steer──┐              ┌─ store: append at the expected position
//!                                          ▼              │
//!  fleet events ──▶ dispatch ──▶ inbox ──▶ Driver: wanted ─▶ send │ take ─▶ decide ─▶ append ─▶ evolve ─▶ reply, ack
//!                   (by operation, by host)    └─▶ view ──▶ watchers
//! ```
//!
//! Invariants
//! - A command leaves only after the events that want it are stored, once per host session. A host that comes back with
//!   another session is told again.
//! - A reply, and the acknowledgement of a report, come after the append. A report that brings nothing new, or is of an
//!   operation that is over or unknown, is acknowledged, too, so that its agent forgets it.
//! - Nobody is answered from a history that is not the newest: an append proves that it is, and where nothing is to be
//!   appended the store is asked. To what another driver stored, the same words may mean something.
//! - An append that meets another driver's changes nothing. This driver then reads the history again, decides what it
//!   holds anew, and stands by: it sends nothing and lets no deadline pass until the history has rested for
//!   [`run::RIVAL_REST`].
//! - While the store fails, an operation holds still: the same append is tried again, ever more slowly, and what comes in
//!   meanwhile waits, which in the end slows the sessions of the agents that report to it, and no others.
//! - The state that is kept beside a long history is a shortcut: it is written with the events that led to it, and what this
//!   version cannot read is as good as none.
//! - Nothing is kept here that is not in the store, except how far hosts say they are: a restart loses only that.
//! - Budgets of label groups are the fleet's: no driver decides before it was told what others take, and none decides meanwhile.
//! - A fault in a driver ends that driver alone; another one starts from the history.
//! - Time is the `Clock`'s. Timers of the runtime only say when to look at it, so a clock that jumps is followed within
//!   [`run::LOOK_AT_CLOCK`].
//!
//! Decisions that the promises leave open
//! - A rollback owns its hosts until its outcome; hosts that it left out are taken again when they are back, unless another
//!   operation has meant to change them since.
//! - An undo of a rollback that runs aborts it, waits for [`ENDING`] at most, and begins then. Where no host was changed there is
//!   nothing to begin, and hosts that wait are withdrawn. An undo that would take away what later rollbacks did must be meant;
//!   undoing the newest first never asks.
//! - A checkpoint whose selector is empty is asked of every host that was seen and not forgotten.
//! - A decision of a person that could not be stored within [`operations::PATIENCE`] is answered with an error that says so;
//!   it still counts if the store takes it later.

pub mod fleet;

mod error;

mod settings;

mod ids;

mod view;

mod inbox;

mod kept;

mod journal;

mod hand;

pub mod run;

mod directory;

mod places;

mod dispatch;

mod source;

pub mod operations;

mod create;

mod later;

mod undo;

mod latest;

mod log;

mod watch;

pub use error::OperationError;
pub use later::Later;
pub use operations::{Operations, PlannedRollback, Summaries};
pub use settings::Settings;
pub(crate) use source::dropped_snapshot;
pub use undo::{ENDING, Undoable};
pub use view::{CheckpointHead, Head, RollbackHead, Summary, View};
pub(crate) use watch::{Followed, PACE};

#[cfg(test)]
mod tests;
