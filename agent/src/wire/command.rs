//! Commands, as they arrive.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rfs_model::{Generation, OperationId};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::bounds;
use rfs_proto::convert::{self, FieldError, duration_or, parse, required};
use rfs_proto::v1;
use rfs_store::text::{decode, encode};

use crate::commander::{Activity, Command, QUIESCE_TIMEOUT, Selection, Step, StepKind};
use crate::component::choices::Choices;

/// Reads a command.
pub(crate) fn read_command(wire: link::Command) -> Result<Command, FieldError> {
    let key = required("key", wire.key)?;
    let timeout = required("timeout", wire.timeout)?;
    let timeout = convert::from_wire_duration("timeout", timeout)?;
    if timeout.is_zero() {
        return Err(FieldError::new("timeout", "must be more than nothing"));
    }
    let quiesce_timeout = duration_or("quiesce_timeout", wire.quiesce_timeout, QUIESCE_TIMEOUT)?;
    let selection = || read_selection("selection", wire.selection.as_ref());
    let choices = || read_choices("choices", wire.choices.clone());
    let snapshot = || convert::snapshot_id("snapshot", &wire.snapshot);
    let step = match read_step(key.step)? {
        StepKind::Prepare => Step::Prepare { selection: selection()? },
        StepKind::Cut => Step::Cut,
        StepKind::Finish => Step::Finish,
        StepKind::Abandon => Step::Abandon,
        StepKind::Apply => {
            Step::Apply { snapshot: snapshot()?, selection: selection()?, choices: choices()? }
        }
        StepKind::Revert => {
            Step::Revert { snapshot: snapshot()?, selection: selection()?, choices: choices()? }
        }
        StepKind::Cancel => Step::Cancel,
    };
    Ok(Command {
        operation: parse("key.operation_id", &key.operation_id)?,
        generation: Generation(key.generation),
        timeout,
        quiesce_timeout,
        reason: wire.reason,
        step,
    })
}

fn read_step(wire: i32) -> Result<StepKind, FieldError> {
    match link::Step::try_from(wire) {
        Ok(link::Step::Prepare) => Ok(StepKind::Prepare),
        Ok(link::Step::Cut) => Ok(StepKind::Cut),
        Ok(link::Step::Finish) => Ok(StepKind::Finish),
        Ok(link::Step::Abandon) => Ok(StepKind::Abandon),
        Ok(link::Step::Apply) => Ok(StepKind::Apply),
        Ok(link::Step::Revert) => Ok(StepKind::Revert),
        Ok(link::Step::Cancel) => Ok(StepKind::Cancel),
        Ok(link::Step::Unspecified) => Err(FieldError::new("key.step", "is required")),
        Err(_) => Err(FieldError::new("key.step", format!("{wire} is not known to this version"))),
    }
}

pub(super) fn write_step(step: StepKind) -> link::Step {
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

pub(super) fn write_key(operation: OperationId, generation: Generation, step: StepKind) -> link::CommandKey {
    link::CommandKey {
        operation_id: operation.to_string(),
        generation: generation.0,
        step: write_step(step).into(),
    }
}

/// The key of the command at work; none when idle, or at work for an administrator on the host.
pub(crate) fn command_key(activity: &Activity) -> Option<link::CommandKey> {
    activity.operation.map(|operation| write_key(operation, activity.generation, activity.step))
}

/// Reads which part of a snapshot is meant; absent means everything.
pub(crate) fn read_selection(path: &str, wire: Option<&v1::Selection>) -> Result<Selection, FieldError> {
    let Some(wire) = wire else { return Ok(Selection::default()) };
    let component = |(i, name): (usize, &String)| parse(&format!("{path}.components[{i}]"), name);
    let absolute = |(i, text): (usize, &String)| {
        let path = format!("{path}.paths[{i}]");
        let bytes = decode(text)
            .ok_or_else(|| FieldError::new(path.clone(), "has a % that is no escape; write %25"))?;
        let place = PathBuf::from(OsString::from_vec(bytes));
        if place.is_absolute() { Ok(place) } else { Err(FieldError::new(path, "must be absolute")) }
    };
    Ok(Selection {
        components: wire.components.iter().enumerate().map(component).collect::<Result<_, _>>()?,
        paths: wire.paths.iter().enumerate().map(absolute).collect::<Result<_, _>>()?,
    })
}

/// Writes which part of a snapshot is meant.
pub(crate) fn write_selection(selection: &Selection) -> v1::Selection {
    v1::Selection {
        components: selection.components.iter().map(ToString::to_string).collect(),
        paths: selection.paths.iter().map(|path| encode(path.as_os_str().as_bytes()).into_owned()).collect(),
    }
}

/// Writes what a person decided for a restore.
pub(crate) fn write_choices(choices: &Choices) -> v1::RestoreChoices {
    v1::RestoreChoices {
        keep: choices.keep.clone(),
        accept_loss: choices.accept_loss.clone(),
        force_stop: choices.force_stop,
    }
}

/// Reads what a person decided for a restore; absent means nothing.
pub(crate) fn read_choices(path: &str, wire: Option<v1::RestoreChoices>) -> Result<Choices, FieldError> {
    let wire = wire.unwrap_or_default();
    bounds::choices(path, &wire)?;
    let v1::RestoreChoices { keep, accept_loss, force_stop } = wire;
    Ok(Choices { keep, accept_loss, force_stop })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPERATION: &str = "0193b5a0-0000-7000-8000-000000000001";

    fn command(step: link::Step) -> link::Command {
        link::Command {
            key: Some(link::CommandKey {
                operation_id: OPERATION.to_owned(),
                generation: 7,
                step: step.into(),
            }),
            timeout: Some(convert::to_wire_duration(Duration::from_secs(300))),
            selection: Some(v1::Selection {
                components: vec!["site".into()],
                paths: vec!["/srv/site".into()],
            }),
            snapshot: "ab".repeat(32),
            reason: "release 3 is broken".to_owned(),
            quiesce_timeout: Some(convert::to_wire_duration(Duration::from_secs(7))),
            choices: Some(v1::RestoreChoices { keep: vec!["up/**".to_owned()], ..Default::default() }),
        }
    }

    #[test]
    fn every_step_reads_as_what_was_written() {
        for kind in StepKind::ALL {
            let read = read_command(command(write_step(kind))).expect("a valid command");
            assert_eq!(read.step.kind(), kind);
            assert_eq!((read.generation, read.timeout), (Generation(7), Duration::from_secs(300)));
            assert_eq!(read.quiesce_timeout, Duration::from_secs(7));
            if let Step::Apply { choices, .. } | Step::Revert { choices, .. } = &read.step {
                assert_eq!(choices.keep, ["up/**"]);
            }
            assert_eq!(write_key(read.operation, read.generation, kind).operation_id, OPERATION);
        }
    }

    #[test]
    fn a_command_that_is_not_valid_names_the_field() {
        let check = |edit: &dyn Fn(&mut link::Command), expected: &str| {
            let mut wire = command(link::Step::Apply);
            edit(&mut wire);
            assert_eq!(read_command(wire).expect_err("not valid").to_string(), expected);
        };
        check(&|wire| wire.key = None, "key: is required");
        check(&|wire| wire.timeout = None, "timeout: is required");
        check(
            &|wire| wire.timeout = Some(prost_types::Duration::default()),
            "timeout: must be more than nothing",
        );
        check(
            &|wire| wire.snapshot.clear(),
            "snapshot: \"\" is not a digest: 64 hexadecimal digits are needed",
        );
        let in_key = |edit: fn(&mut link::CommandKey)| {
            move |wire: &mut link::Command| edit(wire.key.as_mut().expect("a key"))
        };
        check(&in_key(|key| key.step = 0), "key.step: is required");
        check(&in_key(|key| key.step = 99), "key.step: 99 is not known to this version");
        check(
            &in_key(|key| key.operation_id = "x".into()),
            "key.operation_id: \"x\" is not a operation id: a UUID is needed",
        );
        let empty = |wire: &mut link::Command| {
            wire.choices =
                Some(v1::RestoreChoices { accept_loss: vec![String::new()], ..Default::default() });
        };
        check(&empty, "choices.accept_loss[0]: is empty; write a path, or a glob such as **/*.key");
        let in_selection = |edit: fn(&mut v1::Selection)| {
            move |wire: &mut link::Command| edit(wire.selection.as_mut().expect("a selection"))
        };
        check(&in_selection(|s| s.paths.push("etc".into())), "selection.paths[1]: must be absolute");
    }
}
