//! `rfs rollback undo`: says what it will do, asks once, and does it in one act.

use std::time::Duration;

use rfs_link::{Exit, Failure};
use rfs_model::Reason;
use rfs_proto::v1::{self, rollback};
use rfs_rollout::plan::natural;

use super::{Starting, Which, ask_plan, follow_started, plan, question, show_to_be_confirmed, steer};
use crate::cli::connect::{Client, soon, within};
use crate::cli::error::CliError;
use crate::cli::names;
use crate::cli::output::Output;
use crate::cli::progress::{After, Standing, outcome_lines};
use crate::cli::words::paint;

/// One that runs is ended first, and the coordinator waits for that.
const UNDO: Duration = Duration::from_secs(60);

pub(super) async fn undo(
    client: &Client,
    output: &mut Output,
    which: &Which,
    starting: &Starting,
    spec: Option<v1::RollbackSpec>,
    plan_only: bool,
) -> Result<Exit, CliError> {
    let name = names::rollback(client, &which.rollback).await?;
    let request = v1::GetRollbackRequest { name: name.clone() };
    let undone = client.answer(client.rollbacks().get_rollback(soon(request)).await)?;
    let selector = spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let mut over_later = false;
    if plan_only || !starting.consent.yes {
        let request = v1::PlanRollbackRequest { spec: spec.clone(), undo: name.clone() };
        let planned = match ask_plan(client, request).await {
            // No host is changed, and there is something to end all the same.
            Err(CliError::Failure(failure)) if failure.reason == Reason::WrongState && ends(&undone) => None,
            planned => Some(planned?),
        };
        let brought = planned.as_ref().map_or(&[] as &[v1::Wave], |planned| planned.waves.as_slice());
        let line = || steer::undo_line(&undone, &hosts_of(brought), &selector);
        let first = (!output.is_json() && ends(&undone)).then(line);
        first.map_or(Ok(()), |line| output.line(line))?;
        if plan_only {
            return planned
                .map_or(Ok(Exit::Done), |planned| plan::show(output, &planned, starting.all_steps));
        }
        let question = match &planned {
            Some(planned) => {
                show_to_be_confirmed(output, planned, starting.all_steps)?;
                over_later = !planned.later.is_empty();
                question::question(planned)
            }
            None => format!("end {} so that it changes no host?", undone.name),
        };
        if !undone.undo_of.is_empty() {
            output.line(paint::doubt(format!("{} is itself an undo of {}", undone.name, undone.undo_of)))?;
        }
        starting.consent.ask(&question)?;
    } else {
        steer::not_by_accident(which.rollback.trim(), &undone)?;
    }
    let request = v1::UndoRollbackRequest { name, request_id: starting.request_id(), spec, over_later };
    let started = match begin(client, request.clone()).await {
        // Whoever answers beforehand is told what they have answered.
        Err(failure) if failure.reason == Reason::ChangedLater && starting.consent.yes => {
            if !output.is_json() {
                output.line(paint::doubt(format!("goes on, although {}", failure.message)))?;
            }
            begin(client, v1::UndoRollbackRequest { over_later: true, ..request }).await?
        }
        started => started?,
    };
    let begun = started.name != undone.name;
    if starting.consent.yes && !output.is_json() {
        // Said once it is decided: what is refused has no effect.
        let brought = if begun { hosts_of(&started.waves) } else { Vec::new() };
        output.line(steer::undo_line(&undone, &brought, &selector))?;
    }
    if begun {
        return follow_started(client, output, &started, starting.no_wait).await;
    }
    if output.is_json() {
        output.message(&started)?;
    } else {
        output.line(format!("no host is to be brought back: {} has left none changed", started.name))?;
        outcome_lines(&started, After::Decision).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(Exit::Done)
}

/// The hosts of waves, in natural order.
fn hosts_of(waves: &[v1::Wave]) -> Vec<&str> {
    let mut hosts: Vec<&str> =
        waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.host.as_str()).collect();
    hosts.sort_by_cached_key(|host| natural(host));
    hosts
}

async fn begin(client: &Client, request: v1::UndoRollbackRequest) -> Result<v1::Rollback, Failure> {
    client.answer(client.rollbacks().undo_rollback(within(UNDO, request)).await)
}

/// Whether an undo ends something that still goes on, or waits for hosts.
fn ends(rollback: &v1::Rollback) -> bool {
    let standing = Standing::of(rollback);
    let waits = [&standing.left_out, &standing.waiting, &standing.left_behind];
    let waits = waits.iter().any(|hosts| !hosts.is_empty());
    rollback.state() != rollback::State::Finished || waits
}
