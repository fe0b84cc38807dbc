//! After a crash: the journal says how far a restore had come, and so which way it is brought to an end.

use std::collections::BTreeMap;
use std::time::Instant;

use rfs_model::{ComponentName, OperationId, Reason};
use rfs_store::Cancel;
use rfs_store::journal;

use super::cause::{Cause, refuse};
use super::phase::{Direction, Phase};
use super::receipt::{Failure, Receipt, Span};
use super::run::{FACTS, FAILURE, Facts, Goal, Ready, Run};
use super::{Engine, back, forward};
use crate::commander::Refusal;
use crate::component::Side;
use crate::local::Progress;

/// Brings a restore that was interrupted to its end; none if there was none.
pub(super) fn recover(
    engine: &Engine,
    watch: &dyn Fn(Progress),
) -> Result<Option<(OperationId, Receipt)>, Refusal> {
    let unread = |error| Cause::Journal(error).refusal();
    let Some(stored) = engine.journal.open_run::<Goal>().map_err(unread)? else { return Ok(None) };
    let facts: Option<Facts> = engine.journal.fact(stored.id, FACTS).map_err(unread)?;
    let failure: Option<Failure> = engine.journal.fact(stored.id, FAILURE).map_err(unread)?;
    let spans = spans(engine, &stored)?;
    let phase = spans.last().map_or(Phase::Accepted, |span| span.phase);
    tracing::warn!(operation = %stored.operation, %phase, "a restore was interrupted");

    let operation = stored.operation;
    let mut run = Run {
        engine,
        id: stored.id,
        operation,
        goal: stored.body,
        started_at: stored.started_at,
        cancel: Cancel::new(),
        until: Instant::now(),
        backup: facts.as_ref().and_then(|facts| facts.backup),
        superseded: Vec::new(),
        ready: Ready::default(),
        tally: facts.as_ref().map(|facts| facts.tally).unwrap_or_default(),
        stopped: BTreeMap::new(),
        downtime: Vec::new(),
        found: facts.as_ref().map(|facts| facts.found.clone()).unwrap_or_default(),
        flipped_at: None,
        spans,
        watch,
    };
    if let Some(facts) = facts {
        run.ready = ready(engine, facts)?;
    }
    let down_since = run.spans.iter().find(|span| span.phase == Phase::Quiescing).map(|span| span.at);
    if let Some(since) = down_since {
        let down = engine.clock.now().since(since);
        let since = Instant::now().checked_sub(down).unwrap_or_else(Instant::now);
        let names: Vec<ComponentName> = run
            .ready
            .services
            .iter()
            .filter(|(_, _, turn)| turn.before)
            .map(|(_, name, _)| name.clone())
            .collect();
        run.stopped.extend(names.into_iter().map(|name| (name, since)));
    }
    let failure = failure.unwrap_or_else(|| Cause::Interrupted(phase).failure(phase, false));
    let receipt = match phase.direction() {
        Direction::Drop => back::abandon(run, &[], failure),
        // After a power cut more may have been done than was written.
        Direction::Back if phase == Phase::Quiescing => back::go_back(run, failure, Phase::Flipping),
        Direction::Back => back::go_back(run, failure, phase),
        Direction::Forward if phase == Phase::Committed && is_before(&run) => {
            back::go_back(run, failure, phase)
        }
        Direction::Forward => onward(run),
        // A restore that is stuck or over is not open.
        Direction::Hold | Direction::Over => back::go_back(run, failure, Phase::Returning),
    };
    Ok(Some((operation, receipt)))
}

/// Whether the live state was put back although the journal has the commit: the write of it was reported as failed, and
/// had reached the disk.
fn is_before(run: &Run<'_>) -> bool {
    let before = |side: Result<Side, _>| side.is_ok_and(|side| side == Side::Before);
    !run.ready.changes.is_empty() && run.ready.changes.iter().all(|(_, staged)| before(staged.standing()))
}

/// The target was decided: services are brought up, and what was displaced is removed.
fn onward(mut run: Run<'_>) -> Receipt {
    for index in 0..run.ready.services.len() {
        let (service, name, turn) = &run.ready.services[index];
        let (service, name, after) = (*service, name.clone(), turn.after);
        match service.ensure(after, &Cancel::new()) {
            Ok(()) => run.came_up(&name),
            // The host is at the target; that a service does not run there is for its health to say.
            Err(error) => {
                tracing::error!(service = %name, error = %rfs_link::Chain(&error), "is not as at the target");
            }
        }
    }
    run.is_settled();
    forward::tidy(run)
}

fn ready(engine: &Engine, facts: Facts) -> Result<Ready<'_>, Refusal> {
    let find = |name: &ComponentName| {
        engine.components.iter().find(|component| component.name() == name).ok_or_else(|| {
            refuse(
                Reason::Inconsistent,
                format!("a restore was interrupted, and its component {name} is no longer configured"),
                "put the component back into the configuration, and start the agent again",
            )
        })
    };
    let mut ready = Ready::default();
    for (name, journalled) in facts.changes {
        let component = find(&name)?.as_ref();
        let staged = component.staged(&journalled).map_err(|error| Cause::from(error).refusal())?;
        ready.changes.push((component, staged));
    }
    for (name, turn) in facts.services {
        if let Some(service) = find(&name)?.service() {
            ready.services.push((service, name, turn));
        }
    }
    Ok(ready)
}

/// The phases that were written; each lasted until the next.
fn spans(engine: &Engine, stored: &journal::Run<Goal>) -> Result<Vec<Span>, Refusal> {
    let ends = stored.arrows.iter().skip(1).map(|arrow| arrow.at).chain([engine.clock.now()]);
    let mut spans = Vec::new();
    for (arrow, end) in stored.arrows.iter().zip(ends) {
        let phase = arrow.phase.parse().map_err(|error: super::phase::UnknownPhase| {
            refuse(
                Reason::Inconsistent,
                format!("a restore was interrupted by another version of the agent: {error}"),
                "start the version that began it, so that it is brought to an end",
            )
        })?;
        spans.push(Span { phase, at: arrow.at, took: end.since(arrow.at) });
    }
    Ok(spans)
}
