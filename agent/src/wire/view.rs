//! What is shown: snapshots, plans, health.

use std::time::{Duration, Instant};

use rfs_model::{ByteCount, ComponentKind, ComponentName, SnapshotId, Timestamp};
use rfs_proto::agent::v1 as local;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::convert::{self, FieldError, parse, required};
use rfs_proto::v1;

use super::report::{read_refusal, write_refusal};
use crate::health::{CheckHealth, HostHealth};
use crate::local::{PlanLine, PlanPart, PlanView, SnapshotKind, SnapshotView};

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

/// A moment by both clocks: what was measured by the one that never steps is told by the other as how long ago it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    instant: Instant,
    time: Timestamp,
}

impl Moment {
    /// This moment, which the clock shows as `time`.
    pub(crate) fn now(time: Timestamp) -> Self {
        Self { instant: Instant::now(), time }
    }

    fn age(self, of: Instant) -> Duration {
        self.instant.saturating_duration_since(of)
    }

    fn time_of(self, instant: Instant) -> prost_types::Timestamp {
        let ago = i64::try_from(self.age(instant).as_millis()).unwrap_or(i64::MAX);
        convert::to_wire_time(Timestamp(self.time.0.saturating_sub(ago)))
    }
}

/// Writes a host's health; `now` is the moment of sending.
pub(crate) fn write_health(health: &HostHealth, inconsistent: bool, now: Moment) -> link::HealthReport {
    let age = |of| convert::to_wire_duration(now.age(of));
    link::HealthReport {
        health: v1::Health::from(health.health).into(),
        checks: write_checks(health, now),
        agent_time: Some(convert::to_wire_time(now.time)),
        health_age: Some(age(health.since)),
        measured_age: health.measured.map(age),
        after_restore: health.after.0,
        inconsistent,
    }
}

/// Writes the checks of a host; `now` is the moment of sending.
pub(crate) fn write_checks(health: &HostHealth, now: Moment) -> Vec<v1::Check> {
    health.checks.iter().map(|check| write_check(check, now)).collect()
}

fn write_check(check: &CheckHealth, now: Moment) -> v1::Check {
    v1::Check {
        name: check.name.clone(),
        kind: check.kind.to_owned(),
        health: v1::Health::from(check.health).into(),
        required: check.required,
        evidence: check.evidence.clone(),
        since_time: Some(now.time_of(check.since)),
        measured_time: check.measured.map(|measured| now.time_of(measured.ended)),
        begin_time: check.measured.map(|measured| now.time_of(measured.began)),
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
        checkpoint: view.checkpoint.map(|id| id.to_string()).unwrap_or_default(),
        stays: view.stays.clone(),
        notes: view.notes.clone(),
    }
}

/// How many snapshots a list names at most.
const LISTED: usize = 4096;

/// Writes which snapshots can be restored, the newest first.
pub(crate) fn write_snapshots(ids: &[SnapshotId]) -> link::Snapshots {
    link::Snapshots {
        ids: ids.iter().take(LISTED).map(|id| id.0.as_bytes().to_vec()).collect(),
        cut: ids.len() > LISTED,
    }
}

/// Reads a snapshot.
pub(crate) fn read_snapshot(wire: &local::Snapshot) -> Result<SnapshotView, FieldError> {
    let kind = SnapshotKind::ALL.into_iter().find(|kind| kind.as_str() == wire.kind);
    let component = |(i, wire): (usize, &v1::Component)| {
        let name = parse(&format!("components[{i}].name"), &wire.name)?;
        Ok((name, parse(&format!("components[{i}].kind"), &wire.kind)?))
    };
    let id = |text: &'static str, id: &str| match id {
        "" => Ok(None),
        id => parse(text, id).map(Some),
    };
    Ok(SnapshotView {
        id: convert::snapshot_id("id", &wire.id)?,
        created_at: convert::from_wire_time(required("create_time", wire.create_time)?),
        kind: required("kind", kind)?,
        reason: wire.reason.clone(),
        operation: id("operation", &wire.operation)?,
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
        checkpoint: id("checkpoint", &wire.checkpoint)?,
        stays: wire.stays.clone(),
        notes: wire.notes.clone(),
    })
}

/// How many steps and losses a message holds at most; the counts are whole.
const SHOWN: usize = 1000;

/// Writes a plan of the host of that name as one message, cut to what such a message may have; the counts are whole.
pub(crate) fn write_plan(host: &str, plan: &PlanView) -> v1::HostPlan {
    split_plan(write_whole_plan(host, plan)).swap_remove(0)
}

/// Writes a plan of the host of that name, however long it is.
pub(crate) fn write_whole_plan(host: &str, plan: &PlanView) -> v1::HostPlan {
    v1::HostPlan {
        host: host.to_owned(),
        steps: plan.steps.iter().take(SHOWN).map(write_step).collect(),
        step_count: plan.step_count,
        bytes_to_write: plan.bytes.0,
        services: plan.services.iter().map(ToString::to_string).collect(),
        losses: plan.losses.iter().take(SHOWN).cloned().collect(),
        loss_count: plan.loss_count,
        failure: plan.obstacle.as_ref().map(write_refusal),
        loss_bytes: plan.loss_bytes.0,
        notes: plan.notes.clone(),
    }
}

/// How long the text in one message may be: well below what a message may have.
const MESSAGE: usize = 1 << 20;

/// A plan that is written part by part as messages of a size that every client takes.
pub(crate) struct PlanMessages {
    host: String,
    message: v1::HostPlan,
    /// How long its text is.
    size: usize,
}

impl PlanMessages {
    /// Of the host of that name.
    pub(crate) fn new(host: String) -> Self {
        Self { host, message: v1::HostPlan::default(), size: 0 }
    }

    /// Takes the next part, and gives a message that is to be sent before it.
    pub(crate) fn take(&mut self, part: PlanPart) -> Option<v1::HostPlan> {
        let size = match &part {
            PlanPart::Whole(_) => 0,
            PlanPart::Step(line) => line.text.len() + 64,
            PlanPart::Loss(path) => path.len() + 16,
        };
        let is_full = self.size > 0 && self.size + size > MESSAGE;
        let full = is_full.then(|| self.last());
        self.size += size;
        match part {
            PlanPart::Whole(plan) => self.message = write_whole_plan(&self.host, &plan),
            PlanPart::Step(line) => self.message.steps.push(write_step(&line)),
            PlanPart::Loss(path) => self.message.losses.push(path),
        }
        full
    }

    /// What is left to be sent.
    pub(crate) fn last(&mut self) -> v1::HostPlan {
        self.size = 0;
        std::mem::take(&mut self.message)
    }
}

fn write_step(line: &PlanLine) -> v1::PlanStep {
    v1::PlanStep {
        component: line.component.to_string(),
        action: line.action.clone(),
        description: line.text.clone(),
        bytes: line.bytes.0,
    }
}

/// A plan as messages of a size that every client takes. All but the first carry further steps and losses alone.
pub(crate) fn split_plan(plan: v1::HostPlan) -> Vec<v1::HostPlan> {
    let v1::HostPlan { steps, losses, .. } = plan;
    let mut messages = vec![v1::HostPlan { steps: Vec::new(), losses: Vec::new(), ..plan }];
    let mut room = MESSAGE;
    let mut next = |messages: &mut Vec<v1::HostPlan>, size: usize| {
        if size > room {
            messages.push(v1::HostPlan::default());
            room = MESSAGE;
        }
        room = room.saturating_sub(size);
        messages.len() - 1
    };
    for step in steps {
        let at = next(&mut messages, step.description.len() + 64);
        messages[at].steps.push(step);
    }
    for loss in losses {
        let at = next(&mut messages, loss.len() + 16);
        messages[at].losses.push(loss);
    }
    messages
}

/// Puts a further message of a plan to the first.
pub(crate) fn join_plan(plan: &mut v1::HostPlan, further: v1::HostPlan) {
    plan.steps.extend(further.steps);
    plan.losses.extend(further.losses);
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
        loss_bytes: ByteCount(wire.loss_bytes),
        notes: wire.notes,
        obstacle: wire.failure.map(read_refusal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_written_part_by_part_loses_nothing() {
        let mut messages = PlanMessages::new("web-1".to_owned());
        let component: ComponentName = "site".parse().expect("a valid name");
        let step = |number: u32| PlanLine {
            component: component.clone(),
            action: "write".to_owned(),
            text: format!("{number}{}", "d".repeat(1000)),
            bytes: ByteCount(0),
        };
        let whole = PlanView { step_count: 5000, loss_count: 5000, ..PlanView::default() };
        let parts = std::iter::once(PlanPart::Whole(whole))
            .chain((0..5000).map(|number| PlanPart::Step(step(number))))
            .chain((0..5000).map(|number| PlanPart::Loss(format!("{number}{}", "l".repeat(1000)))));
        let mut sent: Vec<v1::HostPlan> = parts.filter_map(|part| messages.take(part)).collect();
        sent.push(messages.last());
        let text = |message: &v1::HostPlan| -> usize {
            let steps = message.steps.iter().map(|step| step.description.len());
            steps.chain(message.losses.iter().map(String::len)).sum()
        };
        assert!(sent.len() > 9 && sent.iter().all(|message| text(message) <= MESSAGE));
        assert_eq!((sent[0].host.as_str(), sent[0].step_count), ("web-1", 5000));
        let steps: Vec<_> = sent.iter().flat_map(|message| &message.steps).collect();
        let losses: Vec<_> = sent.iter().flat_map(|message| &message.losses).collect();
        assert_eq!((steps.len(), losses.len()), (5000, 5000));
        assert!(steps[4999].description.starts_with("4999") && losses[4999].starts_with("4999"));
    }

    #[test]
    fn a_plan_of_any_size_travels_in_messages_that_every_client_takes() {
        let step = |number: usize| v1::PlanStep {
            description: format!("{number}{}", "d".repeat(4000)),
            ..Default::default()
        };
        let plan = v1::HostPlan {
            host: "web-1".to_owned(),
            steps: (0..1000).map(step).collect(),
            step_count: 1000,
            losses: (0..1000).map(|number| format!("{number}{}", "l".repeat(4000))).collect(),
            notes: vec!["a note".to_owned()],
            ..Default::default()
        };
        let mut messages = split_plan(plan.clone()).into_iter();
        let mut joined = messages.next().expect("the first");
        let mut count = 1;
        for message in messages {
            let text: usize = message.steps.iter().map(|step| step.description.len()).sum::<usize>()
                + message.losses.iter().map(String::len).sum::<usize>();
            assert!(text <= MESSAGE);
            count += 1;
            join_plan(&mut joined, message);
        }
        assert_eq!(joined, plan);
        assert!(count > 5, "{count}");
    }
}
