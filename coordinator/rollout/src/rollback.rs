//! A rollback: hosts go to their targets wave by wave, each wave behind a gate, with a way back.
//!
//! ```text
//!             ┌────────── gate passes: next wave ──────────┐
//!  Created ─▶ Running ──────────────────────────────────── ┴─▶ Finished SUCCEEDED | PARTIAL
//!              │  ▲ └─ gate fails, on_failure=revert ─▶ Running(back) ─▶ Finished REVERTED | REVERT_FAILED
//!        pause │  │ resume, promote
//!              ▼  │                  abort ─▶ Aborting ─▶ Finished ABORTED
//!             Paused                         (a host INCONSISTENT at the end: NEEDS_OPERATOR, whatever else)
//!
//!  host: Untouched ─▶ Applying ─▶ Applied ─▶ Passed ──▶ Unhealthy          Skipped ─▶ Applying, when it is back
//!                        │  └─▶ Unchanged | Lost | Inconsistent
//!                        └─▶ Cancelling ─▶ …      Applied, Passed, Unhealthy ─▶ Reverting ─▶ Reverted | RevertFailed
//! ```
//!
//! Decisions that the promises leave open
//! - **Deadlines are per host.** A host has `healthy_deadline` from the moment it says that it is at the target; a wave that a
//!   budget draws out is not failed for that. A host that passed and is not known to be good any more gets as long again;
//!   one that is measured bad fails at once.
//! - **A failed host stays failed** for the gate, even if it recovers; a lost host that is heard again is taken as it stands.
//! - **Resume** after a failure acknowledges the hosts that have failed by then: they are not counted again and not tried
//!   again (their journals hold their answer); a new rollback over them is the second try. Resume after a person's pause
//!   acknowledges nothing. **Promote** acknowledges those and the changed hosts that are not known to be good at that
//!   moment, resumes, and takes the gate as passed once no host of the wave is at work or untouched. A host that passes
//!   after all counts again. A promotion that names its wave has no effect when it is repeated, and none on another wave.
//! - **A skipped host** is fenced by the generations that the operation reserved when it took the host. When it is back
//!   while the rollback runs, it gets its command as part of the running wave. A rollback does not wait for it at the end:
//!   the outcome is PARTIAL and stays so, and the host is brought in line when it connects, unless another operation has
//!   owned it since, or the rollback is undone: then it stays as it is. A wave all of whose hosts were skipped passes.
//! - **Budgets.** A host starts only if its groups have fewer hosts at work than their limit and, unless it is unavailable
//!   itself already, fewer unavailable hosts than their limit. So a fleet that is wholly unhealthy can be rolled back, and
//!   a healthy host is never taken down beyond the budget. Hosts that a budget holds for `healthy_deadline` without any
//!   progress count as failed, unless a host that the policy waits for may have their place. On the way back only hosts at
//!   work are counted: backups may be unhealthy, and that must not hold the way back.
//! - **The way back** runs in the reverse of the label order; a host lost on the way is asked where it stands first.

mod advance;
mod budget;
mod decide;
mod event;
mod evolve;
mod gate;
mod state;
mod timers;
mod wanted;

pub(crate) use advance::Draft;
pub use event::{Created, RollbackEvent};
pub use gate::{Evidence, Gate, Hold, gate};
pub use state::{
    Cause, Direction, HealthRecord, HostPhase, HostRecord, Outcome, PauseCause, Phase, Rollback, WaveRecord,
    WaveState,
};

#[cfg(test)]
mod tests;
