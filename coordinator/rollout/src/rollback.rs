//! A rollback: hosts go to their targets wave by wave, each wave behind a gate, with a way back.
//!
//! ```text
//!             ┌────────── gate passes: next wave ──────────┐
//!  Created ─▶ Running ──────────────────────────────────── ┴─▶ Finished SUCCEEDED | PARTIAL
//!              │  ▲ └─ gate fails, on_failure=revert ─▶ Running(back) ─▶ Finished REVERTED | REVERT_FAILED
//!        pause │  │ resume, promote
//!              ▼  │                  abort ─▶ Aborting ─▶ Finished ABORTED
//!             Paused ─▶ Finished NEEDS_OPERATOR, after 24 h
//!                                            (a host INCONSISTENT at the end: NEEDS_OPERATOR, whatever else)
//!
//!  host: Untouched ─▶ Applying ─▶ Applied ─▶ Passed ──▶ Unhealthy          Skipped ─▶ Applying, when it is back
//!                        │  └─▶ Unchanged | Lost | Inconsistent
//!                        │  Unhealthy, Unchanged, Lost ─ retry ─▶ Again ─▶ Untouched
//!                        └─▶ Cancelling ─▶ …      Applied, Passed, Unhealthy ─▶ Reverting ─▶ Reverted | RevertFailed
//! ```
//!
//! What health counts
//! - **Only what was measured after the change.** Hosts number their restores, and each reading carries the number of the last
//!   one that had ended before it was measured. A reading with a smaller number than the host's last report is ignored, and
//!   that report makes the health unknown, so no clock is compared.
//! - **Long enough is measured, too.** A host passes once it was measured good `min_healthy_time` or more after it had become
//!   good; one that is good and whose checks are far apart is given as long again as its deadline. It keeps its place in every
//!   budget until it has passed.
//! - **Only what was heard by a coordinator that listens.** After a restart, and after it stood still, no host counts as
//!   connected and all health is unknown until it is heard again. Hosts that are as they were then are stored by their names
//!   alone, all that are heard together in one event, so that a restart costs little history. Since when a host is healthy is the host's own measurement, so a stretch of health survives a
//!   lost connection and a coordinator that was away.
//! - **Deadlines are per host.** A host has `healthy_deadline` from the moment it says that it is at the target; a wave that a
//!   budget draws out is not failed for that. A deadline that passed while nobody listened, or while the host had no
//!   connection, is extended once: the host has `unreachable_after` to be heard, and `min_healthy_time` from then on. One
//!   that comes and goes gains no more than that. A host that passed and is not known to be good any more gets
//!   `healthy_deadline` again; one that is measured bad fails at once.
//!
//! Who a host is
//! - A host whose name two machines speak for is told nothing, and fails where it takes part. When another machine comes under
//!   a name, where it stands is not known: a host that had reached its target is lost.
//! - A host that has obeyed newer commands than this rollback's shows that the coordinator's store was put back to an older
//!   copy: the rollback pauses, that host is lost, and its answers to older commands do not count.
//!
//! Decisions that the promises leave open
//! - **A failed host stays failed** for the gate, even if it recovers; a lost host that is heard again is taken as it stands.
//! - **Resume** after a failure acknowledges the hosts that have failed by then: they are not counted again and not tried
//!   again; retry does that. Resume after a person's pause
//!   acknowledges nothing. **Promote** acknowledges those and the changed hosts that are not known to be good at that
//!   moment, resumes, and takes the gate as passed once no host of the wave is at work or untouched. A host that passes
//!   after all counts again. A promotion that names its wave has no effect when it is repeated, and none on another wave.
//! - **A host that refuses a loss** is as it was, and nothing is wrong with it. It is not at the target, so the gate counts it as
//!   failed; the wave's failure says that it refused, and a retry may accept the loss for it.
//! - **A skipped host** is fenced by the generations that the operation reserved when it took the host. When it is back
//!   while the rollback runs, it gets its command as part of the running wave. A rollback does not wait for it at the end:
//!   the outcome is PARTIAL and stays so, and the host is brought in line when it connects, unless another operation has
//!   meant to change it since, or the rollback is aborted or undone: then it stays as it is. A wave all of whose hosts were skipped passes; if
//!   they were its canaries, it holds until one is back or a person promotes.
//! - **The outcome** is SUCCEEDED only if every host is at its target and, where health is looked at, known to be healthy at
//!   that moment. A promotion opens a gate over hosts that are not; the outcome is PARTIAL and names them.
//! - **Proof.** Only a rollback that reached every host of its checkpoint with everything in it, and whose every gate was
//!   watched, proves that checkpoint good.
//! - **Budgets.** A host starts only if its groups have fewer hosts at work, or changed and not passed yet, than their limit
//!   and, unless it is unavailable itself already, fewer unavailable hosts than their limit. So a fleet that is wholly
//!   unhealthy can be rolled back, and a healthy host is never taken down beyond the budget. Hosts that a budget holds for `healthy_deadline` without any
//!   progress count as failed, unless a host that the policy waits for may have their place, or somebody outside has it: other
//!   operations go on, and the wait for them says who it is and ends with `max_duration`. Label groups are the fleet's (see
//!   [`crate::outside`]): hosts of other running operations and hosts that are not available count, and the strictest limit of
//!   all running operations holds, also for a rollback that sets none. A budget without a label is about the rollback's own
//!   hosts. One that does not look at health counts no ill hosts outside either, only those without a connection. On the way
//!   back only hosts at work are counted: backups may be unhealthy, and that must not hold the way back.
//! - **Retry** makes failed hosts untouched ones of their waves again, each with generations of its own for the attempt, so
//!   that no answer to an earlier one counts. A lost host that may have obeyed says first what became of its last attempt: with
//!   that comes its way back. The first backup of a host that reached its target stays the way back. After the outcome PARTIAL,
//!   hosts that are tried again, and those that were left out and are back, are brought in line one first, then as many at once
//!   as the last waves had, each until it has passed; once more than `max_failed` have failed so, none. The outcome stays. A host
//!   that waits for its turn then is owned by nobody.
//! - **Everything ends.** A pause ends after `max_pause`, and hosts are waited for `max_duration` after the outcome.
//! - **The way back** goes wave by wave, the last one first, and looks at no health. A host that was lost is asked where it
//!   stands first, and again if it was out of reach when that was sent. Its wave waits for a host that is out of reach as the
//!   policy says, and as long: then it is still at its target, as far as anybody knows, and the outcome is REVERT_FAILED. One
//!   that was told to go back, and was out of reach past its deadline, may not have heard it: it is waited for and told again
//!   in the same way. Where the policy leaves hosts out, it goes back when it is back, also after the outcome: one host first,
//!   then as many at once as the last waves had, until one could not. A lost one does so once its answer to what it was told
//!   says that it is at its target.

mod advance;
mod back;
mod budget;
mod decide;
mod event;
mod evolve;
mod gate;
mod held;
mod row;
mod state;
mod timers;
mod wanted;

pub(crate) use advance::Draft;
pub use event::{Created, RollbackEvent};
pub use gate::{Evidence, Gate, Hold, gate};
pub use held::Held;
pub use state::{
    Cause, Direction, Earlier, Elsewhere, HealthRecord, HostPhase, HostRecord, Outcome, PauseCause, Phase,
    Rollback, WaveRecord, WaveState,
};
pub use timers::{COMPARING, RETURN};

#[cfg(test)]
mod tests;
