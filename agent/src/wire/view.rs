//! What is shown: snapshots, plans, health.

use rfs_model::{ByteCount, ComponentKind, ComponentName, Timestamp};
use rfs_proto::agent::v1 as local;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::convert::{self, FieldError, parse, required};
use rfs_proto::v1;

use super::report::{read_refusal, write_refusal};
use crate::health::{CheckHealth, HostHealth};
use crate::local::{PlanLine, PlanView, SnapshotKind, SnapshotView};

/// Writes components.
pub(crate) fn write_components<'a>(
    components: impl IntoIterator<Item = (&'a ComponentName, ComponentKind)>,
) -> Vec<v1::Component> {
    let write = |(name, kind): (&ComponentName, ComponentKind)| v1::Component {
        name: name.to_string(),
        kind: kind.to_string(),
    };
    components.into_iter().map(write).collect()
}

/// Writes a host's health; `now` is the moment of sending.
pub(crate) fn write_health(health: &HostHealth, now: Timestamp) -> link::HealthReport {
    link::HealthReport {
        health: v1::Health::from(health.health).into(),
        checks: write_checks(health),
        agent_time: Some(convert::to_wire_time(now)),
        ..Default::default()
    }
}

/// Writes the checks of a host.
pub(crate) fn write_checks(health: &HostHealth) -> Vec<v1::Check> {
    health.checks.iter().map(write_check).collect()
}

fn write_check(check: &CheckHealth) -> v1::Check {
    v1::Check {
        name: check.name.clone(),
        kind: check.kind.to_owned(),
        health: v1::Health::from(check.health).into(),
        required: check.required,
        evidence: check.evidence.clone(),
        since_time: Some(convert::to_wire_time(check.since)),
        measured_time: check.measured_at.map(convert::to_wire_time),
        begin_time: None,
    }
}

/// Writes a snapshot.
pub(crate) fn write_snapshot(view: &SnapshotView) -> local::Snapshot {
    local::Snapshot {
        id: view.id.to_string(),
        create_time: Some(convert::to_wire_time(view.created_at)),
        kind: view.kind.as_str().to_owned(),
        reason: view.reason.clone(),
        operation: view.operation.map(|id| id.to_string()).unwrap_or_default(),
        components: write_components(view.components.iter().map(|(name, kind)| (name, *kind))),
        bytes: view.bytes.0,
        new_bytes: view.stored.0,
        entries: view.entries,
        pinned: view.pinned,
        verify_time: view.proven.map(|(at, _)| convert::to_wire_time(at)),
        restore_duration: view.proven.map(|(_, took)| convert::to_wire_duration(took)),
        held: view.held.clone().unwrap_or_default(),
    }
}

/// Reads a snapshot.
pub(crate) fn read_snapshot(wire: &local::Snapshot) -> Result<SnapshotView, FieldError> {
    let kind = SnapshotKind::ALL.into_iter().find(|kind| kind.as_str() == wire.kind);
    let component = |(i, wire): (usize, &v1::Component)| {
        let name = parse(&format!("components[{i}].name"), &wire.name)?;
        Ok((name, parse(&format!("components[{i}].kind"), &wire.kind)?))
    };
    let operation = Some(wire.operation.as_str()).filter(|text| !text.is_empty());
    Ok(SnapshotView {
        id: convert::snapshot_id("id", &wire.id)?,
        created_at: convert::from_wire_time(required("create_time", wire.create_time)?),
        kind: required("kind", kind)?,
        reason: wire.reason.clone(),
        operation: operation.map(|text| parse("operation", text)).transpose()?,
        components: wire.components.iter().enumerate().map(component).collect::<Result<_, _>>()?,
        bytes: ByteCount(wire.bytes),
        stored: ByteCount(wire.new_bytes),
        entries: wire.entries,
        pinned: wire.pinned,
        proven: wire
            .verify_time
            .map(|at| {
                let took = wire.restore_duration.unwrap_or_default();
                Ok((convert::from_wire_time(at), convert::from_wire_duration("restore_duration", took)?))
            })
            .transpose()?,
        held: Some(wire.held.clone()).filter(|why| !why.is_empty()),
    })
}

/// How many steps and losses a message holds at most; the counts are whole.
const SHOWN: usize = 1000;

/// Writes a plan of the host of that name.
pub(crate) fn write_plan(host: &str, plan: &PlanView) -> v1::HostPlan {
    let step = |line: &PlanLine| v1::PlanStep {
        component: line.component.to_string(),
        action: line.action.clone(),
        description: line.text.clone(),
        bytes: line.bytes.0,
    };
    v1::HostPlan {
        host: host.to_owned(),
        steps: plan.steps.iter().take(SHOWN).map(step).collect(),
        step_count: plan.step_count,
        bytes_to_write: plan.bytes.0,
        services: plan.services.iter().map(ToString::to_string).collect(),
        losses: plan.losses.iter().take(SHOWN).cloned().collect(),
        loss_count: plan.loss_count,
        failure: plan.obstacle.as_ref().map(write_refusal),
    }
}

/// Reads a plan.
pub(crate) fn read_plan(wire: v1::HostPlan) -> Result<PlanView, FieldError> {
    let step = |(i, wire): (usize, v1::PlanStep)| {
        Ok(PlanLine {
            component: parse(&format!("steps[{i}].component"), &wire.component)?,
            action: wire.action,
            text: wire.description,
            bytes: ByteCount(wire.bytes),
        })
    };
    let service = |(i, name): (usize, &String)| parse(&format!("services[{i}]"), name);
    Ok(PlanView {
        steps: wire.steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()?,
        step_count: wire.step_count,
        bytes: ByteCount(wire.bytes_to_write),
        services: wire.services.iter().enumerate().map(service).collect::<Result<_, _>>()?,
        losses: wire.losses,
        loss_count: wire.loss_count,
        obstacle: wire.failure.map(read_refusal),
    })
}
