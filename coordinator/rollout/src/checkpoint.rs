//! A checkpoint: every host is ready, then every host cuts, then every host resumes.
//!
//! ```text
//!  Created ─▶ Preparing ── all ready or failed ─▶ Cutting ── all durable or failed ─▶ Finishing ─▶ Finished COMPLETE
//!                                                                                                  | INCOMPLETE
//!          any before Finishing ─ a person ends it ─▶ Finished ABORTED                             Finished ─▶ closed
//!  host: Preparing ─▶ Prepared ─▶ Cutting ─▶ Cut ─▶ Finishing ─▶ Done        any ─▶ Abandoning ─▶ Failed
//! ```
//!
//! Decisions that the promises leave open
//! - A checkpoint is COMPLETE only if every host reported a durable snapshot, but for as many as its request allows to be
//!   missing: then it is one of the others, and names those that it lacks. A host that fails does not stop the others: their
//!   snapshots are worth having on their hosts, but the checkpoint is INCOMPLETE and no target.
//! - Two thirds of the timeout are for getting ready, the rest for the cut. Resuming has [`FINISH_TIME`] more, and does not
//!   change the outcome: the snapshots are durable.
//! - However long the timeout is, a host that is quiet waits for its cut, and then for the word to resume, for the quiesce timeout
//!   at most each: then it resumes by itself. Each snapshot is taken while its own host is quiet, and all are quiet when the cut
//!   starts, so a host that resumes by itself once its snapshot is durable harms no other; one that does before has none.
//! - The outcome does not wait for hosts that do not answer: they are told to resume beyond it, and the checkpoint stays open until
//!   each has said so or has had to by itself. It owns no host meanwhile: whatever comes next makes the host resume first.
//! - A person can end it at any time. Before all have cut it is ABORTED at once, and what was captured counts for nothing; once
//!   hosts resume it ends with what it has.
//! - A host that was given up is told to resume; one that never had a connection need not be waited for.
//! - A host without a connection fails after [`CONNECT_TIME`] if it is to get ready; once it may have cut, it is waited for.
//! - The skew is the time between the first and the last cut, as far as the clocks could be compared.

mod advance;
mod decide;
mod event;
mod evolve;
mod state;
mod wanted;

use std::time::Duration;

pub(crate) use decide::Draft;
pub use event::{CheckpointEvent, Created};
pub use state::{Checkpoint, HealthCount, HostPhase, HostRecord, Outcome, Phase};

/// How long a host without a connection is waited for at the start.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long hosts may take to resume before the checkpoint ends without their word.
pub const FINISH_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
