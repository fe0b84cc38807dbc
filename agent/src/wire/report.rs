//! Reports, receipts and refusals.

use std::time::Duration;

use rfs_link::Failure as LinkFailure;
use rfs_model::{ByteCount, Standing, Timestamp};
use rfs_proto::agent::v1 as local;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::convert::{self, FieldError, parse, required};
use rfs_proto::{notes, v1};

use super::command::write_key;
use crate::commander::{Outcome, Refusal, Report};
use crate::engine::{Failure, Listed, Phase, Receipt, Span};
use crate::local::RestoreView;

/// Writes a report; `now` is the moment of sending.
pub(crate) fn write_report(report: &Report, now: Timestamp) -> link::Report {
    use link::report::Outcome as Wire;
    let outcome = match &report.outcome {
        Outcome::Prepared => Wire::Prepared(link::Prepared { duration: None }),
        Outcome::Cut { snapshot, cut_at, entries, bytes, stored, took, notes } => {
            Wire::Captured(link::Captured {
                snapshot: snapshot.to_string(),
                cut_time: Some(convert::to_wire_time(*cut_at)),
                agent_time: Some(convert::to_wire_time(now)),
                bytes: bytes.0,
                new_bytes: stored.0,
                entries: *entries,
                duration: Some(convert::to_wire_duration(*took)),
                notes: notes.clone(),
            })
        }
        Outcome::Finished | Outcome::Abandoned => Wire::Finished(link::Finished {}),
        Outcome::Restored(receipt) => Wire::Restored(write_restored(receipt)),
        Outcome::Cancelled { standing, backup, restore } => Wire::Restored(link::Restored {
            standing: link::restored::Standing::from(*standing).into(),
            backup: backup.map(|id| id.to_string()).unwrap_or_default(),
            restore: restore.0,
            ..link::Restored::default()
        }),
        Outcome::Refused(refusal) => Wire::Refused(write_refusal(refusal)),
        Outcome::Failed(refusal) => Wire::Failed(write_refusal(refusal)),
    };
    link::Report {
        key: Some(write_key(report.operation, report.generation, report.step)),
        sequence: report.sequence.0,
        outcome: Some(outcome),
        newest_generation: report.newest.0,
    }
}

fn write_restored(receipt: &Receipt) -> link::Restored {
    link::Restored {
        standing: link::restored::Standing::from(receipt.standing).into(),
        backup: receipt.backup.map(|id| id.to_string()).unwrap_or_default(),
        downtime: receipt.downtime.iter().map(|service| service.down).max().map(convert::to_wire_duration),
        phases: receipt.phases.iter().map(write_span).collect(),
        steps: receipt.applied,
        bytes: receipt.staged.0,
        failure: receipt.failure.as_ref().map(write_engine_failure),
        restore: receipt.restore.0,
        lost: bounded_list(&receipt.lost),
        appeared: bounded_list(&receipt.appeared),
        written: bounded_list(&receipt.written),
        notes: notes::bounded(&receipt.notes),
    }
}

fn bounded_list(listed: &Listed) -> Option<v1::ListedPaths> {
    notes::listed(listed.count, listed.bytes.0, &listed.first)
}

fn write_span(span: &Span) -> v1::PhaseTime {
    v1::PhaseTime { phase: span.phase.to_string(), duration: Some(convert::to_wire_duration(span.took)) }
}

fn write_engine_failure(failure: &Failure) -> v1::Failure {
    convert::failure(failure.reason, &failure.message, &failure.next)
}

/// Writes a refusal.
pub(crate) fn write_refusal(refusal: &Refusal) -> v1::Failure {
    convert::failure(refusal.reason, &refusal.message, &refusal.next)
}

/// Reads a refusal.
pub(crate) fn read_refusal(wire: v1::Failure) -> Refusal {
    Refusal { reason: convert::failure_reason(&wire), message: wire.message, next: wire.next }
}

impl From<Refusal> for LinkFailure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(refusal.reason, refusal.message);
        if refusal.next.is_empty() { failure } else { failure.next(refusal.next) }
    }
}

impl From<LinkFailure> for Refusal {
    fn from(failure: LinkFailure) -> Self {
        let next = failure.next_step().to_owned();
        Self { reason: failure.reason, message: failure.message, next }
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        LinkFailure::invalid(error.path, error.problem).into()
    }
}

/// Writes how a restore ended, for an administrator on the host.
pub(crate) fn write_restore(view: &RestoreView) -> local::RestoreResult {
    let phase = |(phase, took): &(Phase, Duration)| v1::PhaseTime {
        phase: phase.to_string(),
        duration: Some(convert::to_wire_duration(*took)),
    };
    local::RestoreResult {
        standing: view.standing.to_string(),
        backup: view.backup.map(|id| id.to_string()).unwrap_or_default(),
        downtime: view.downtime.map(convert::to_wire_duration),
        phases: view.phases.iter().map(phase).collect(),
        steps: view.steps,
        bytes: view.bytes.0,
        failure: view.failure.as_ref().map(write_refusal),
        lost: Some(write_listed(&view.lost)),
        appeared: Some(write_listed(&view.appeared)),
        written: Some(write_listed(&view.written)),
        notes: view.notes.clone(),
    }
}

fn write_listed(listed: &Listed) -> v1::ListedPaths {
    v1::ListedPaths { count: listed.count, bytes: listed.bytes.0, first: listed.first.clone() }
}

fn read_listed(wire: Option<v1::ListedPaths>) -> Listed {
    let v1::ListedPaths { count, bytes, first } = wire.unwrap_or_default();
    Listed { count, bytes: ByteCount(bytes), first }
}

/// Reads how a restore ended.
pub(crate) fn read_restore(wire: local::RestoreResult) -> Result<RestoreView, FieldError> {
    let standings = [Standing::Before, Standing::Target, Standing::Inconsistent];
    let standing = standings.into_iter().find(|standing| standing.to_string() == wire.standing);
    let phase = |(i, wire): (usize, v1::PhaseTime)| {
        let path = format!("phases[{i}].duration");
        let took = convert::from_wire_duration(&path, wire.duration.unwrap_or_default())?;
        Ok((parse(&format!("phases[{i}].phase"), &wire.phase)?, took))
    };
    Ok(RestoreView {
        standing: required("standing", standing)?,
        backup: convert::optional_snapshot_id("backup", &wire.backup)?,
        downtime: wire.downtime.map(|down| convert::from_wire_duration("downtime", down)).transpose()?,
        phases: wire.phases.into_iter().enumerate().map(phase).collect::<Result<_, _>>()?,
        steps: wire.steps,
        bytes: ByteCount(wire.bytes),
        failure: wire.failure.map(read_refusal),
        lost: read_listed(wire.lost),
        appeared: read_listed(wire.appeared),
        written: read_listed(wire.written),
        notes: wire.notes,
    })
}
