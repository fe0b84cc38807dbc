//! The way back: everything that was changed is put back, or the host says that it cannot be.
//!
//! What a service wrote meanwhile at paths that the restore did not change stays: it is the service's own, and may be worth
//! more than a tree that is equal to the byte.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{ComponentName, Reason, Standing};
use rfs_store::Cancel;

use super::cause::Cause;
use super::phase::{Direction, Phase};
use super::receipt::{Failure, Receipt};
use super::run::{FAILURE, Run, as_json};
use crate::component::services::Ways;

/// The waits between tries; a disk or a service may need a moment.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// Brings the host back from `phase`, the last that was written.
pub(super) fn go_back(mut run: Run<'_>, failure: Failure, phase: Phase) -> Receipt {
    tracing::warn!(operation = %run.operation, %phase, reason = %failure.reason, error = failure.message, "the restore goes back");
    let facts = [(FAILURE, as_json(&failure))];
    if phase.direction() == Direction::Drop {
        return abandon(run, &facts, failure);
    }
    let is_flipped = phase != Phase::Quiescing && !run.ready.changes.is_empty();
    match returned(&mut run, &facts, is_flipped) {
        Ok(()) => {
            if let Err(error) = run.mark(Phase::Returned, &[]) {
                tracing::error!(error = %Chain(&error), "the host is as it was, and the journal could not be told");
            }
            abandon(run, &[], failure)
        }
        Err(cause) => stuck(run, failure, &cause),
    }
}

fn returned(run: &mut Run<'_>, facts: &[(&str, String)], is_flipped: bool) -> Result<(), Cause> {
    let running = run.arrow_back(Phase::Returning, facts, |run| {
        Ok(if is_flipped { stop(run) } else { BTreeSet::new() })
    })?;
    if is_flipped {
        run.arrow_back(Phase::FlippingBack, &[], |run| persist(|| put_back(run)))?;
    }
    run.arrow_back(Phase::StartingBack, &[], |run| start(run, &running))
}

/// Stops what the change touches. One that does not stop is named: its files can be put back under it, but it must be
/// stopped before it is as it was.
fn stop(run: &mut Run<'_>) -> BTreeSet<ComponentName> {
    let target = run.engine.store.snapshot(run.goal.target).ok();
    let ways = Ways::new(&run.engine.store, target.as_ref(), run.goal.choices.force_stop);
    let mut running = BTreeSet::new();
    for index in (0..run.ready.services.len()).rev() {
        let (service, name, turn) = &run.ready.services[index];
        let (service, name, before) = (*service, name.clone(), turn.before);
        if before {
            run.going_down(&name);
        }
        if let Err(error) = service.ensure_by(false, &ways, &Cancel::new()) {
            tracing::error!(service = %name, error = %Chain(&error), "does not stop on the way back");
            running.insert(name);
        }
    }
    running
}

/// Exchanges everything back. May be called again.
pub(super) fn put_back(run: &mut Run<'_>) -> Result<(), Cause> {
    for (_, staged) in run.ready.changes.iter().rev() {
        staged.unflip()?;
        staged.settle()?;
    }
    run.tally.taken_back += run.tally.applied;
    run.tally.applied = 0;
    Ok(())
}

/// Brings each service to what it was.
fn start(run: &mut Run<'_>, running: &BTreeSet<ComponentName>) -> Result<(), Cause> {
    let target = run.engine.store.snapshot(run.goal.target).ok();
    let ways = Ways::new(&run.engine.store, target.as_ref(), run.goal.choices.force_stop);
    for index in 0..run.ready.services.len() {
        let (service, name, turn) = &run.ready.services[index];
        let (service, name, before) = (*service, name.clone(), turn.before);
        persist(|| {
            if running.contains(&name) {
                service.ensure_by(false, &ways, &Cancel::new())?;
            }
            Ok(service.ensure_by(before, &ways, &Cancel::new())?)
        })?;
        if before {
            run.came_up(&name);
        }
    }
    Ok(())
}

/// Tries again after a while.
fn persist(mut work: impl FnMut() -> Result<(), Cause>) -> Result<(), Cause> {
    for pause in PAUSES {
        match work() {
            Ok(()) => return Ok(()),
            Err(cause) => tracing::error!(error = %Chain(&cause), "the way back is tried again"),
        }
        thread::sleep(pause);
    }
    work()
}

/// The host is as it was: removes what was staged.
pub(super) fn abandon(mut run: Run<'_>, facts: &[(&str, String)], failure: Failure) -> Receipt {
    if let Err(cause) = run.arrow_back(Phase::Abandoning, facts, |run| run.discard()) {
        tracing::warn!(error = %Chain(&cause), "what was staged could not all be removed");
    }
    run.is_settled();
    let receipt = run.receipt(Standing::Before, Some(failure));
    run.end(Phase::Ended, receipt, None)
}

/// Neither side can be reached: the host holds still until a person has looked.
fn stuck(run: Run<'_>, failure: Failure, cause: &Cause) -> Receipt {
    let message = format!(
        "the host could not be put back: {}; it was to be because: {}",
        Chain(cause),
        failure.message
    );
    tracing::error!(operation = %run.operation, error = message, "INCONSISTENT: the host is at neither state and holds still");
    let backup = run.backup.map_or_else(|| "SNAPSHOT".to_owned(), |backup| backup.0.short());
    let failure = Failure {
        reason: Reason::Inconsistent,
        message: message.clone(),
        next: format!("repair what the message names, then: rfs-agent restore {backup} --force"),
        phase: failure.phase,
    };
    run.is_settled();
    run.show(Phase::Stuck);
    let receipt = run.receipt(Standing::Inconsistent, Some(failure));
    run.end(Phase::Stuck, receipt, Some(&message))
}
