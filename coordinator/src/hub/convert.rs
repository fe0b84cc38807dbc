//! Commands and reports ⇄ the agent link's messages.

use std::time::Duration;

use rfs_model::{ByteCount, Generation, HostId, InstanceId, RestoreNumber, Timestamp};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::report::Outcome;
use rfs_proto::convert::{
    FieldError, failure_reason, from_wire_duration, from_wire_time, optional_snapshot_id, parse, required,
    snapshot_id, standing, to_wire_duration,
};
use rfs_proto::notes::{self, bounded};
use rfs_proto::v1;
use rfs_rollout::{
    Answer, Captured, Choices, Failure, Findings, HostCommand, Listed, PhaseTime, Report, Restored,
    Selection, Step, StepKind,
};

/// Writes a command. Its deadline travels as the time that is left, since the clocks differ.
pub(super) fn command(command: HostCommand, now: Timestamp) -> link::Command {
    let kind = command.step.kind();
    let (mut quiet, mut decided) = (None, None);
    let (selection, snapshot) = match command.step {
        Step::Prepare { selection, quiesce_timeout } | Step::Cut { selection, quiesce_timeout } => {
            quiet = Some(to_wire_duration(quiesce_timeout));
            (Some(selection), None)
        }
        Step::Finish | Step::Abandon | Step::Cancel => (None, None),
        Step::Apply { snapshot, selection, choices }
        | Step::Revert { backup: snapshot, selection, choices } => {
            decided = Some(wire_choices(&choices));
            (Some(selection), Some(snapshot))
        }
    };
    // Zero would say that nothing is said; a command that is past its time is still to be answered.
    let left = command.deadline.since(now).max(Duration::from_millis(1));
    link::Command {
        key: Some(link::CommandKey {
            operation_id: command.operation.to_string(),
            generation: command.generation.0,
            step: wire_step(kind).into(),
        }),
        timeout: Some(to_wire_duration(left)),
        selection: selection.as_ref().map(wire_selection),
        snapshot: snapshot.map(|snapshot| snapshot.to_string()).unwrap_or_default(),
        reason: command.reason,
        quiesce_timeout: quiet,
        choices: decided,
    }
}

/// Writes what a person decided for a restore.
pub(crate) fn wire_choices(choices: &Choices) -> v1::RestoreChoices {
    v1::RestoreChoices {
        keep: choices.keep.iter().cloned().collect(),
        accept_loss: choices.accept_loss.iter().cloned().collect(),
        force_stop: choices.force_stop,
    }
}

/// Writes a selection.
pub(crate) fn wire_selection(selection: &Selection) -> v1::Selection {
    v1::Selection {
        components: selection.components.iter().map(ToString::to_string).collect(),
        paths: selection.paths.iter().cloned().collect(),
    }
}

fn wire_step(step: StepKind) -> link::Step {
    match step {
        StepKind::Prepare => link::Step::Prepare,
        StepKind::Cut => link::Step::Cut,
        StepKind::Finish => link::Step::Finish,
        StepKind::Abandon => link::Step::Abandon,
        StepKind::Apply => link::Step::Apply,
        StepKind::Revert => link::Step::Revert,
        StepKind::Cancel => link::Step::Cancel,
    }
}

fn step(path: &str, wire: i32) -> Result<StepKind, FieldError> {
    match link::Step::try_from(wire) {
        Ok(link::Step::Prepare) => Ok(StepKind::Prepare),
        Ok(link::Step::Cut) => Ok(StepKind::Cut),
        Ok(link::Step::Finish) => Ok(StepKind::Finish),
        Ok(link::Step::Abandon) => Ok(StepKind::Abandon),
        Ok(link::Step::Apply) => Ok(StepKind::Apply),
        Ok(link::Step::Revert) => Ok(StepKind::Revert),
        Ok(link::Step::Cancel) => Ok(StepKind::Cancel),
        Ok(link::Step::Unspecified) | Err(_) => Err(FieldError::new(path, "is required")),
    }
}

/// Reads a report of `host`, for which the machine `instance` speaks. `to_ours` turns the agent's clock into ours; nothing was cut after `arrived`.
pub(super) fn report(
    host: HostId,
    instance: InstanceId,
    wire: link::Report,
    to_ours: impl Fn(Timestamp) -> Timestamp,
    arrived: Timestamp,
) -> Result<Report, FieldError> {
    let key = required("key", wire.key)?;
    let answer = match required("outcome", wire.outcome)? {
        Outcome::Prepared(_) => Answer::Prepared,
        Outcome::Captured(captured) => {
            let cut_at = from_wire_time(required("captured.cut_time", captured.cut_time)?);
            Answer::Captured(Captured {
                snapshot: snapshot_id("captured.snapshot", &captured.snapshot)?,
                cut_at: to_ours(cut_at).min(arrived),
                bytes: ByteCount(captured.bytes),
                new_bytes: ByteCount(captured.new_bytes),
                entries: captured.entries,
                // A host's word is bounded here too, for it is stored for as long as the checkpoint is.
                notes: bounded(&captured.notes),
            })
        }
        Outcome::Finished(_) => Answer::Finished,
        Outcome::Restored(wire) => Answer::Restored(restored(wire)?),
        Outcome::Refused(wire) => Answer::Refused(failure(wire)),
        Outcome::Failed(wire) => Answer::Failed(failure(wire)),
    };
    Ok(Report {
        host,
        instance: Some(instance),
        operation: parse("key.operation_id", &key.operation_id)?,
        generation: Generation(key.generation),
        step: step("key.step", key.step)?,
        answer,
        newest: Generation(wire.newest_generation),
    })
}

fn restored(wire: link::Restored) -> Result<Restored, FieldError> {
    let phase = |(place, phase): (usize, v1::PhaseTime)| {
        let path = format!("restored.phases[{place}].duration");
        let duration = from_wire_duration(&path, phase.duration.unwrap_or_default())?;
        Ok(PhaseTime { phase: phase.phase, duration })
    };
    let findings = Findings {
        lost: listed(wire.lost),
        appeared: listed(wire.appeared),
        written: listed(wire.written),
        notes: bounded(&wire.notes),
    };
    Ok(Restored {
        standing: standing("restored.standing", wire.standing)?,
        backup: optional_snapshot_id("restored.backup", &wire.backup)?,
        downtime: from_wire_duration("restored.downtime", wire.downtime.unwrap_or_default())?,
        phases: wire.phases.into_iter().enumerate().map(phase).collect::<Result<_, _>>()?,
        steps: wire.steps,
        bytes: ByteCount(wire.bytes),
        failure: wire.failure.map(failure),
        restore: (wire.restore > 0).then_some(RestoreNumber(wire.restore)),
        findings: (findings != Findings::default()).then(|| Box::new(findings)),
    })
}

/// Reads paths. A host's word is bounded, for it is stored for as long as the rollback is.
fn listed(wire: Option<v1::ListedPaths>) -> Listed {
    let wire = wire.unwrap_or_default();
    let v1::ListedPaths { count, bytes, first } =
        notes::listed(wire.count, wire.bytes, wire.first).unwrap_or_default();
    Listed { count, bytes: ByteCount(bytes), first }
}

fn failure(wire: v1::Failure) -> Failure {
    let reason = failure_reason(&wire);
    Failure { reason, message: wire.message, next: wire.next }
}

#[cfg(test)]
mod tests {
    use rfs_model::{Digest, OperationId, Reason, SnapshotId, Standing};
    use uuid::Uuid;

    use super::*;

    fn operation() -> OperationId {
        "0193b5a0-0000-7000-8000-000000000001".parse().expect("an id")
    }

    fn key(step: link::Step) -> link::CommandKey {
        link::CommandKey { operation_id: operation().to_string(), generation: 7, step: step.into() }
    }

    fn read(step: link::Step, outcome: Option<Outcome>) -> Result<Report, String> {
        let wire = link::Report { key: Some(key(step)), sequence: 1, outcome, newest_generation: 7 };
        let host = HostId::new("web-1").expect("a name");
        report(
            host,
            InstanceId::from_uuid(Uuid::nil()),
            wire,
            |time| Timestamp(time.0 - 5_000),
            Timestamp(2_000),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_travels_with_the_time_that_is_left() {
        let snapshot = SnapshotId(Digest::from_bytes([7; 32]));
        let selection = Selection { paths: ["/srv/site".to_owned()].into(), ..Selection::default() };
        let choices = Choices { keep: ["up/**".to_owned()].into(), force_stop: true, ..Choices::default() };
        let wire = |deadline| {
            let (selection, choices) = (selection.clone(), choices.clone());
            let step = Step::Apply { snapshot, selection, choices };
            let (generation, reason) = (Generation(7), "bad release".to_owned());
            let deadline = Timestamp(deadline);
            command(
                HostCommand { operation: operation(), generation, deadline, reason, step },
                Timestamp(1_000),
            )
        };
        let sent = wire(61_000);
        assert_eq!(sent.key, Some(key(link::Step::Apply)));
        assert_eq!(sent.timeout.map(|time| time.seconds), Some(60));
        assert_eq!(sent.snapshot, snapshot.to_string());
        assert_eq!(sent.selection.map(|selection| selection.paths), Some(vec!["/srv/site".to_owned()]));
        let decided = sent.choices.expect("what was decided");
        assert_eq!((decided.keep, decided.force_stop), (vec!["up/**".to_owned()], true));
        let late = wire(0).timeout.map(|time| (time.seconds, time.nanos));
        assert_eq!(late, Some((0, 1_000_000)), "past its time, but not without one");
    }

    #[test]
    fn what_a_capture_has_to_say_is_read_and_bounded() {
        let captured = link::Captured {
            snapshot: SnapshotId(Digest::from_bytes([1; 32])).to_string(),
            cut_time: Some(rfs_proto::convert::to_wire_time(Timestamp(1))),
            notes: std::iter::once("/srv/stie is not there".to_owned())
                .chain((0..1000).map(|_| "n".repeat(10_000)))
                .collect(),
            ..Default::default()
        };
        match read(link::Step::Cut, Some(Outcome::Captured(captured))).expect("a good report").answer {
            Answer::Captured(captured) => {
                assert_eq!(captured.notes[0], "/srv/stie is not there");
                let size: usize = captured.notes.iter().map(String::len).sum();
                assert!(captured.notes.len() == 20 && size <= 20 * 300, "{size}");
            }
            other => panic!("not captured: {other:?}"),
        }
    }

    #[test]
    fn what_a_restore_removed_is_read_and_bounded() {
        let listed = |count| Some(v1::ListedPaths { count, bytes: 7, first: vec!["/srv/a".into(); 1000] });
        let wire = link::Restored {
            standing: link::restored::Standing::Target.into(),
            lost: listed(1000),
            written: listed(0),
            notes: vec!["n".repeat(10_000); 1000],
            ..Default::default()
        };
        let findings = restored(wire).expect("a good report").findings.expect("something is told");
        assert_eq!((findings.lost.count, findings.lost.bytes.0, findings.lost.first.len()), (1000, 7, 10));
        assert!(findings.written.is_empty() && findings.appeared.is_empty());
        assert_eq!(findings.notes.len(), 20);
        let bare = link::Restored { standing: link::restored::Standing::Target.into(), ..Default::default() };
        assert_eq!(restored(bare).expect("a good report").findings, None);
    }

    #[test]
    fn a_cut_is_told_by_our_clock_and_never_later_than_it_was_heard_of() {
        let cut = |agent_ms: i64| {
            let captured = link::Captured {
                snapshot: SnapshotId(Digest::from_bytes([1; 32])).to_string(),
                cut_time: Some(rfs_proto::convert::to_wire_time(Timestamp(agent_ms))),
                ..Default::default()
            };
            match read(link::Step::Cut, Some(Outcome::Captured(captured))).expect("a good report").answer {
                Answer::Captured(captured) => captured.cut_at,
                other => panic!("not captured: {other:?}"),
            }
        };
        assert_eq!(cut(6_500), Timestamp(1_500));
        assert_eq!(cut(99_000), Timestamp(2_000));
    }

    #[test]
    fn a_report_that_says_nothing_is_refused_by_its_field() {
        assert_eq!(read(link::Step::Cut, None).expect_err("no outcome"), "outcome: is required");
        let nowhere = Outcome::Restored(link::Restored::default());
        assert_eq!(
            read(link::Step::Apply, Some(nowhere)).expect_err("no standing"),
            "restored.standing: is required"
        );
        let prepared = Some(Outcome::Prepared(link::Prepared::default()));
        assert_eq!(read(link::Step::Unspecified, prepared).expect_err("no step"), "key.step: is required");
    }

    #[test]
    fn a_reason_of_a_newer_agent_is_taken_as_a_fault() {
        let wire = v1::Failure { reason: "OF_TOMORROW".into(), message: "what".into(), next: "do".into() };
        let outcome = Outcome::Restored(link::Restored {
            standing: link::restored::Standing::Before.into(),
            failure: Some(wire),
            ..Default::default()
        });
        let Answer::Restored(restored) =
            read(link::Step::Apply, Some(outcome)).expect("a good report").answer
        else {
            panic!("not restored");
        };
        assert_eq!(restored.standing, Standing::Before);
        let failure = restored.failure.expect("a failure");
        assert_eq!((failure.reason, failure.message.as_str()), (Reason::Internal, "what"));
    }
}
