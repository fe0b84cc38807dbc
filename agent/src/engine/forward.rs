//! The way to the target.

use std::time::{Duration, Instant};

use rfs_model::Standing;
use rfs_store::restore::Moment;
use rfs_store::{Snapshot, SnapshotNote};

use super::cause::Cause;
use super::choice::{self, Asked, Chosen, Plan, States};
use super::keep::backup_holder;
use super::phase::Phase;
use super::receipt::{Listed, Receipt};
use super::run::{Found, Run, Turns};
use super::{back, label};
use crate::component::services::{Turn, Ways};

/// How long an administrator's restore waits for the host's checks to be good once the target is reached.
const HEALTH_WAIT: Duration = Duration::from_secs(10);

/// A cause, and the phase in which it came.
type Failed = (Cause, Phase);

/// Restores, or goes back; either way the receipt says where the host stands.
pub(super) fn restore<'e>(mut run: Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Receipt {
    let went = forward(&mut run, target, chosen);
    run.engine.store.forget_proofs();
    match went {
        Ok(()) => {
            run.is_settled();
            tell_health(&mut run);
            tidy(run)
        }
        Err((cause, phase)) => {
            let failure = cause.failure(phase, run.goal.command.is_some());
            if cause.harms_target() {
                run.engine.note_harm(run.goal.target, &failure.message);
            }
            back::go_back(run, failure, phase)
        }
    }
}

fn forward<'e>(run: &mut Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<(), Failed> {
    let at = |phase| move |cause| (cause, phase);
    let mut is_staged = true;
    match prepare(run, target, chosen) {
        // A writer that never rests must be stopped before its files can be backed up.
        Err((cause, phase)) if cause.is_moved_on() => {
            tracing::info!(cause = %rfs_link::Chain(&cause), "backing up with services stopped");
            run.ready.services = all_services(run, target, chosen).map_err(at(phase))?;
            is_staged = false;
        }
        prepared => prepared?,
    }
    if is_staged && run.ready.changes.is_empty() && run.ready.services.is_empty() {
        return run.mark(Phase::Committed, &[]).map_err(at(Phase::Staging));
    }
    let facts = run.facts().map_err(at(Phase::Staging))?;
    run.arrow(Phase::Quiescing, &facts, |run| quiesce(run, target)).map_err(at(Phase::Quiescing))?;
    if !is_staged {
        settle(run, target, chosen).map_err(at(Phase::Settling))?;
    }
    match flip(run) {
        Err(cause) if is_staged && cause.is_moved_on() => {
            tracing::info!(cause = %rfs_link::Chain(&cause), "staging again with services stopped");
            settle(run, target, chosen).map_err(at(Phase::Settling))?;
            is_staged = false;
            flip(run).map_err(at(Phase::Flipping))?;
        }
        flipped => flipped.map_err(at(Phase::Flipping))?,
    }
    match prove(run, target, chosen) {
        // What a service writes as it stops may be where nothing was to be changed.
        Err((cause, _)) if is_staged && cause.is_moved_on() => {
            tracing::info!(cause = %rfs_link::Chain(&cause), "staging again with services stopped");
            settle(run, target, chosen).map_err(at(Phase::Settling))?;
            flip(run).map_err(at(Phase::Flipping))?;
            prove(run, target, chosen)?;
        }
        proved => proved?,
    }
    run.mark(Phase::Committed, &[]).map_err(at(Phase::Verifying))
}

/// Starts services, and proves that the target was reached before they were.
fn prove<'e>(run: &mut Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<(), Failed> {
    run.engine.store.seal_proofs();
    // What a service wrote as it stopped is told from what it writes as it starts.
    let reached = run.flipped_at.take().map_or_else(Moment::now, Moment::next);
    let reached = reached.map_err(|error| (Cause::Moment(error), Phase::Flipping))?;
    run.arrow_while_down(Phase::Starting, start).map_err(|cause| (cause, Phase::Starting))?;
    run.arrow(Phase::Verifying, &[], |run| verify(run, target, chosen, reached))
        .map_err(|cause| (cause, Phase::Verifying))
}

/// Backs up and stages, while services still run.
fn prepare<'e>(run: &mut Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<(), Failed> {
    let plan = run
        .arrow(Phase::BackingUp, &[], |run| back_up(run, target, chosen))
        .map_err(|cause| (cause, Phase::BackingUp))?;
    let facts = run.facts().map_err(|cause| (cause, Phase::BackingUp))?;
    run.arrow(Phase::Staging, &facts, |run| stage(run, plan)).map_err(|cause| (cause, Phase::Staging))
}

/// Captures the present state, plans from it, and commits it as the backup if there is room for all that follows.
fn back_up<'e>(run: &mut Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<Plan<'e>, Cause> {
    run.hold_target()?;
    let engine = run.engine;
    let capture = engine.store.begin()?;
    let (selection, choices) = (&run.goal.selection, &run.goal.choices);
    let asked = Asked { target, selection, choices };
    let ways = asked.ways(&engine.store);
    let mut states: States<'e> = Vec::new();
    for component in chosen {
        run.cancel.check()?;
        // A service that was stopped for the change ran before it, and that is what a way back must say.
        let known = run.ready.services.iter().find(|(_, name, _)| name == component.name());
        let state = match (component.service(), known) {
            (Some(service), Some((_, _, turn))) => service.capture_as(turn.before, &capture)?,
            (Some(service), None) => {
                service.capture_as(service.is_running_by(&ways, &run.cancel)?, &capture)?
            }
            _ => {
                let widened = component.widened(target)?;
                widened.as_deref().unwrap_or(*component).capture(&capture, &run.cancel)?
            }
        };
        states.push((*component, state));
    }
    let plan = choice::plan(&engine.components, states, asked, &engine.store, &run.cancel)?;
    let lost = plan.losses(Listed::NAMED).into();
    let appeared = engine.shown.since(&run.goal.key(), &plan);
    run.found = Found { lost, appeared, written: Listed::default(), notes: plan.notes.clone() };
    let staged = plan.changes.iter().flat_map(|(_, planned)| planned.room());
    let demands: Vec<_> = staged.chain([engine.store.commit_room()]).collect();
    match run.stopped.is_empty() {
        true => engine.make_room(&demands, &run.cancel)?,
        // Nobody waits for a collection while services are down.
        false => engine.store.check_room(&demands)?,
    }
    let of = target.info()?;
    let checkpoint = label::checkpoint(&of.label, of.operation);
    let note = SnapshotNote {
        host: engine.host.clone(),
        label: label::write_backup(checkpoint, &run.goal.reason),
        operation: Some(run.operation),
    };
    let backup = capture.commit(note)?.id;
    engine.store.protect(backup, &backup_holder(run.operation), "the way back of a restore")?;
    if let Some(earlier) = run.backup.replace(backup) {
        // It was taken while services still wrote; this one has all that it has.
        engine.store.release(earlier, &backup_holder(run.operation))?;
        run.superseded.push(earlier);
    }
    Ok(plan)
}

fn stage<'e>(run: &mut Run<'e>, plan: Plan<'e>) -> Result<(), Cause> {
    let engine = run.engine;
    engine.store.note_proofs();
    run.tally.applied = 0;
    run.tally.staged.0 = plan.changes.iter().map(|(_, planned)| planned.bytes().0).sum();
    let steps: u64 = plan.changes.iter().map(|(_, planned)| planned.step_count()).sum();
    for (component, planned) in plan.changes {
        let staged = planned.stage(&engine.store, &run.label(component.name()), &run.cancel)?;
        run.ready.changes.push((component, staged));
    }
    for (service, name, turn) in plan.services {
        // One that is known was stopped by us, so that its present state says nothing.
        if !run.ready.services.iter().any(|(_, known, _)| known == name) {
            run.ready.services.push((service, name.clone(), turn));
        }
    }
    run.tally.planned = steps + run.ready.services.len() as u64;
    run.cancel.check()?;
    Ok(())
}

/// Every service that any of the chosen components may concern.
fn all_services<'e>(run: &Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<Turns<'e>, Cause> {
    let engine = run.engine;
    let names = chosen.iter().map(|component| component.name().clone()).collect();
    let ways = Ways::new(&engine.store, Some(target), run.goal.choices.force_stop);
    let mut found = Vec::new();
    for component in &engine.components {
        let Some(service) = component.service().filter(|service| service.uses(&names)) else { continue };
        let running = service.is_running_by(&ways, &run.cancel)?;
        let mut turn = Turn { before: running, after: running };
        if names.contains(component.name()) {
            let planned = service.observe_by(&ways, &run.cancel)?.plan(
                target,
                &run.goal.selection,
                &run.goal.choices,
            )?;
            turn = planned.turn().unwrap_or(turn);
        }
        found.push((service, component.name().clone(), turn));
    }
    Ok(found)
}

/// Stops the services that the change touches, the last to start first.
fn quiesce(run: &mut Run<'_>, target: &Snapshot) -> Result<(), Cause> {
    let ways = Ways::new(&run.engine.store, Some(target), run.goal.choices.force_stop);
    for index in (0..run.ready.services.len()).rev() {
        let (service, name, turn) = &run.ready.services[index];
        let (service, name, before) = (*service, name.clone(), turn.before);
        if before && !run.stopped.contains_key(&name) {
            run.cancel.check()?;
            run.going_down(&name);
            service.stop_by(&ways, &run.cancel)?;
        }
    }
    run.cancel.check()?;
    Ok(())
}

/// Exchanges what is staged with what is live.
fn flip(run: &mut Run<'_>) -> Result<(), Cause> {
    run.arrow_while_down(Phase::Flipping, |run| {
        run.flipped_at = Some(Moment::now().map_err(Cause::Moment)?);
        for (_, staged) in &run.ready.changes {
            staged.begin()?;
        }
        for index in 0..run.ready.changes.len() {
            let (_, staged) = &run.ready.changes[index];
            staged.flip()?;
            run.tally.applied += staged.step_count();
        }
        Ok(())
    })
}

/// Puts the live state back, and backs it up and stages it again, now that nobody writes.
fn settle<'e>(run: &mut Run<'e>, target: &Snapshot, chosen: &Chosen<'e>) -> Result<(), Cause> {
    run.arrow(Phase::Settling, &[], |run| {
        stop_again(run, target)?;
        back::put_back(run)?;
        for (_, staged) in &run.ready.changes {
            staged.discard()?;
        }
        run.ready.changes.clear();
        run.sweep()?;
        run.tally.attempt += 1;
        // From here on a way back has nothing to exchange, and other leftovers to remove.
        run.note_facts()?;
        let plan = back_up(run, target, chosen)?;
        stage(run, plan)?;
        run.note_facts()?;
        quiesce(run, target)
    })
}

/// Stops what was started already.
fn stop_again(run: &mut Run<'_>, target: &Snapshot) -> Result<(), Cause> {
    let ways = Ways::new(&run.engine.store, Some(target), run.goal.choices.force_stop);
    for index in (0..run.ready.services.len()).rev() {
        let (service, name, _) = &run.ready.services[index];
        let (service, name) = (*service, name.clone());
        if !run.stopped.contains_key(&name) && service.is_running_by(&ways, &run.cancel)? {
            run.going_down(&name);
            service.stop_by(&ways, &run.cancel)?;
        }
    }
    Ok(())
}

fn start(run: &mut Run<'_>) -> Result<(), Cause> {
    for index in 0..run.ready.services.len() {
        let (service, name, turn) = &run.ready.services[index];
        let (service, name, after) = (*service, name.clone(), turn.after);
        run.cancel.check()?;
        let was_down = run.stopped.contains_key(&name) || !turn.before;
        match after && was_down {
            // It was seen to be down. To ask again would only keep it down for longer, and a pid file that came back with the
            // files makes many a status command say that it runs.
            true => service.start(&run.cancel)?,
            false => service.ensure(after, &run.cancel)?,
        }
        if after {
            run.came_up(&name);
        }
        run.tally.applied += 1;
    }
    Ok(())
}

/// Proves that the host reached the target, and names what was written since.
fn verify<'e>(
    run: &mut Run<'e>,
    target: &Snapshot,
    chosen: &Chosen<'e>,
    reached: Moment,
) -> Result<(), Cause> {
    let engine = run.engine;
    let mut written = Listed::default();
    let (selection, choices) = (&run.goal.selection, &run.goal.choices);
    let asked = Asked { target, selection, choices };
    for (component, state) in choice::observe(chosen, &engine.store, asked, &run.cancel)? {
        let second = state.plan(target, selection, choices)?;
        if second.is_empty() {
            continue;
        }
        let name = component.name();
        let staged = run.ready.changes.iter().find(|(ready, _)| ready.name() == name);
        let left = second.left(staged.map(|(_, staged)| &**staged), reached)?;
        if let Some(first) = left.differs.first() {
            let (component, count, first) = (name.clone(), left.differs.len() as u64, first.clone());
            return Err(match second.turn() {
                Some(_) => Cause::Differs { component, count, first },
                None => Cause::Moved { component, count, first },
            });
        }
        written.add(left.written);
    }
    run.found.written = written;
    for (service, name, turn) in &run.ready.services {
        if service.is_running(&run.cancel)? != turn.after {
            let first = format!("it {} running", if turn.after { "is not" } else { "is" });
            return Err(Cause::Differs { component: name.clone(), count: 1, first });
        }
    }
    run.cancel.check()?;
    for (_, staged) in &run.ready.changes {
        staged.settle()?;
    }
    run.cancel.check()?;
    Ok(())
}

/// After the commit: tells an administrator whether the host is well.
///
/// That is no reason to go back. A backup may well be of an ill host, and what follows from health in a fleet operation is
/// for the coordinator's gate and its policy to say.
fn tell_health(run: &mut Run<'_>) {
    if run.goal.command.is_some() {
        return;
    }
    let until = run.until.min(Instant::now() + HEALTH_WAIT);
    if let Err(ill) = run.engine.health.wait_until_good(until, &|| run.cancel.check().is_err()) {
        tracing::warn!(health = %ill, "the host is at its target, and it is not well");
        run.found.notes.push(format!("restored, but the host is not well: {ill}; see rfs-agent status"));
    }
}

/// After the commit: removes what was displaced. Nothing here can fail the restore.
pub(super) fn tidy(mut run: Run<'_>) -> Receipt {
    let discarded = run.arrow_back(Phase::Discarding, &[], |run| run.discard());
    if let Err(cause) = discarded {
        tracing::warn!(error = %rfs_link::Chain(&cause), "what the restore displaced could not all be removed");
    }
    run.tally.applied = run.tally.planned;
    let receipt = run.receipt(Standing::Target, None);
    run.end(Phase::Ended, receipt, None)
}
