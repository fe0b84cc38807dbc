//! `rfs-agent restore`, and what it would do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rfs_link::{Exit, plain};
use rfs_model::{Reason, Standing};
use rfs_store::text::decode;
use serde_json::{Value, json};

use super::door::Door;
use super::output::{self, Output};
use super::words::{Count, Length, counted};
use super::{Ended, arguments, door, interrupt};
use crate::commander::Selection;
use crate::component::choices::Choices;
use crate::config::Config;
use crate::engine::Listed;
use crate::engine::cause::refuse;
use crate::local::{PlanLine, PlanView, RestoreOrder, RestoreView};

pub(super) fn run(config: &Config, arguments: &arguments::Restore, output: &Output) -> Ended {
    let selection = Selection {
        components: arguments.components.iter().cloned().collect(),
        paths: arguments.paths.iter().map(|path| as_meant(path)).collect(),
    };
    let choices = Choices {
        keep: arguments.keep.clone(),
        accept_loss: arguments.accept_loss.clone(),
        force_stop: arguments.force_stop,
    };
    let door = door::open(config)?;
    if arguments.plan && arguments.all {
        return super::plan::run(&door, &arguments.snapshot, (&selection, &choices), output);
    }
    if arguments.plan {
        let plan = door.administration().plan_with(&arguments.snapshot, &selection, &choices)?;
        show_plan(&plan, output);
        return match plan.obstacle {
            Some(obstacle) => Err(obstacle),
            None => Ok(Exit::Done),
        };
    }
    if !arguments.yes && output.can_ask() {
        let plan = door.administration().plan_with(&arguments.snapshot, &selection, &choices)?;
        if plan.loss_count > 0 && !confirms(&plan, output) {
            return Err(refuse(
                Reason::Cancelled,
                "nothing was done",
                "keep what is dear with: --keep PATTERN",
            ));
        }
    }
    let order = RestoreOrder {
        snapshot: arguments.snapshot.clone(),
        selection,
        timeout: arguments.timeout,
        force: arguments.force,
        choices,
    };
    if let Door::Here(here) = &door {
        interrupt::ends_work(here.engine.clone());
    }
    let mut restored = door.administration().restore(&order, &|progress| output.progress(progress))?;
    if matches!(door, Door::Here(_)) && restored.standing == Standing::Target && !config.health.is_empty() {
        let note = "health was not checked, for no agent runs here; start it, then type: rfs-agent status";
        restored.notes.push(note.to_owned());
    }
    show(config, &arguments.snapshot, &restored, output);
    Ok(match restored.standing {
        Standing::Target => Exit::Done,
        Standing::Before => match &restored.failure {
            Some(failure) if failure.reason == Reason::LossNotAccepted => Exit::Refused,
            Some(_) | None => Exit::Failed,
        },
        Standing::Inconsistent => Exit::Person,
    })
}

/// A path as it was typed, or as RFS prints it: bytes that are not UTF-8 and percent signs as `%` and two digits.
fn as_meant(typed: &Path) -> PathBuf {
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let printed = typed.to_str().and_then(decode).map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
    match printed {
        // What stands there under the very name is what is meant.
        Some(printed) if std::fs::symlink_metadata(typed).is_err() => plain(&printed),
        Some(_) | None => plain(typed),
    }
}

/// Shows what would be removed, and asks.
fn confirms(plan: &PlanView, output: &Output) -> bool {
    for path in plan.losses.iter().take(ASKED) {
        output.line(format_args!("remove {path}"));
    }
    let hidden = plan.loss_count.saturating_sub(ASKED.min(plan.losses.len()) as u64);
    if hidden > 0 {
        output.line(format_args!("… and {} more", Count(hidden)));
    }
    output.notes(&plan.notes);
    let what = extras(plan.loss_count);
    output.asks(&format!("remove {what} ({}) from this host? A backup keeps them.", plan.loss_bytes))
}

/// How many paths a question names.
const ASKED: usize = 20;

pub(super) fn extras(count: u64) -> String {
    counted(count, "entry that the snapshot does not have", "entries that the snapshot does not have")
}

fn show(config: &Config, snapshot: &str, restored: &RestoreView, output: &Output) {
    if output.is_json() {
        output.document(&document(restored));
        return;
    }
    output.line(format_args!("{} is {} ({snapshot})", config.host, output::standing(restored.standing)));
    if let Some(backup) = restored.backup {
        let undo = match restored.standing {
            Standing::Target => format!(", to undo: rfs-agent restore {}", backup.0.short()),
            Standing::Before | Standing::Inconsistent => String::new(),
        };
        output.field("backup", format_args!("{}{undo}", backup.0.short()));
    }
    output.field("steps", format_args!("{}, {} written", Count(restored.steps), restored.bytes));
    if let Some(downtime) = restored.downtime {
        output.field("down", Length(downtime));
    }
    if !restored.lost.is_empty() && restored.standing == Standing::Target {
        show_lost(restored, output);
    }
    if !restored.written.is_empty() {
        let written = &restored.written;
        let paths = counted(written.count, "path", "paths");
        output.field("since", format_args!("{paths} written after the start: {}", named(written)));
    }
    output.notes(&restored.notes);
    let phases = restored.phases.iter().filter(|(_, took)| !took.is_zero());
    let phases: Vec<String> = phases
        .map(|(phase, took)| format!("{} {}", phase.as_str().replace('_', " "), Length(*took)))
        .collect();
    let total = restored.phases.iter().map(|(_, took)| *took).sum();
    output.field("took", format_args!("{} ({})", Length(total), phases.join(", ")));
    if let Some(failure) = &restored.failure {
        output.refusal(failure);
    }
}

/// What was removed, which snapshot keeps it, and how one of it comes back.
fn show_lost(restored: &RestoreView, output: &Output) {
    let lost = &restored.lost;
    output.field("removed", format_args!("{}, {}: {}", extras(lost.count), lost.bytes, named(lost)));
    if !restored.appeared.is_empty() {
        let appeared = &restored.appeared;
        let (count, names) = (Count(appeared.count), named(appeared));
        output.field("", format_args!("{count} of them came after the plan: {names}"));
    }
    if let (Some(backup), Some(first)) = (restored.backup, lost.first.first()) {
        let backup = backup.0.short();
        output.field("kept", format_args!("in backup {backup}, at least until the next restore"));
        let path = plain::word(first);
        output.field("bring back", format_args!("rfs-agent restore {backup} --path {path}"));
    }
}

fn named(listed: &Listed) -> String {
    let more = listed.count.saturating_sub(listed.first.len() as u64);
    let names = listed.first.join(", ");
    if more > 0 { format!("{names} and {} more", Count(more)) } else { names }
}

fn listed(listed: &Listed) -> Value {
    json!({ "count": listed.count, "bytes": listed.bytes.0, "first": listed.first })
}

fn document(restored: &RestoreView) -> Value {
    let phase = |(phase, took): &(crate::engine::Phase, std::time::Duration)| json!({ "phase": phase.as_str(), "seconds": took.as_secs_f64() });
    json!({
        "standing": output::standing_word(restored.standing),
        "backup": restored.backup.map(|id| id.to_string()),
        "downtime_seconds": restored.downtime.map(|down| down.as_secs_f64()),
        "phases": restored.phases.iter().map(phase).collect::<Vec<_>>(),
        "steps": restored.steps,
        "bytes": restored.bytes.0,
        "removed": listed(&restored.lost),
        "came_after_the_plan": listed(&restored.appeared),
        "written_since": listed(&restored.written),
        "notes": restored.notes,
        "failure": restored.failure.as_ref().map(output::failure),
    })
}

fn show_plan(plan: &PlanView, output: &Output) {
    if output.is_json() {
        output.document(&plan_document(plan));
        return;
    }
    if plan.step_count == 0 && plan.obstacle.is_none() {
        output.line("nothing to do: the host is at that snapshot");
        output.notes(&plan.notes);
        return;
    }
    for step in &plan.steps {
        output.line(&step.text);
    }
    let hidden = plan.step_count.saturating_sub(plan.steps.len() as u64);
    if hidden > 0 {
        let more = counted(hidden, "more step", "more steps");
        output.line(format_args!("… and {more}; all of them: --plan --all"));
    }
    show_sum(plan, output);
    if plan.loss_count > 0 {
        output.field("removed", format_args!("{}, {}", extras(plan.loss_count), plan.loss_bytes));
        for path in plan.losses.iter().take(ASKED) {
            output.field("", path);
        }
        let hidden = plan.loss_count.saturating_sub(ASKED.min(plan.losses.len()) as u64);
        if hidden > 0 {
            output.field("", format_args!("… and {} more", Count(hidden)));
        }
        output.field("", "the restore's backup keeps them; leave some in place with --keep PATTERN");
    }
    output.notes(&plan.notes);
}

/// What a plan comes to.
pub(super) fn show_sum(plan: &PlanView, output: &Output) {
    output.line("");
    output.heading(format_args!("{}, {} to write", counted(plan.step_count, "step", "steps"), plan.bytes));
    if !plan.services.is_empty() {
        let names: Vec<String> = plan.services.iter().map(ToString::to_string).collect();
        output.field("services", names.join(", "));
    }
}

/// A step, for programs.
pub(super) fn step_document(step: &PlanLine) -> Value {
    json!({
        "component": step.component.as_str(),
        "action": step.action,
        "description": step.text,
        "bytes": step.bytes.0,
    })
}

pub(super) fn plan_document(plan: &PlanView) -> Value {
    json!({
        "steps": plan.steps.iter().map(step_document).collect::<Vec<_>>(),
        "step_count": plan.step_count,
        "bytes_to_write": plan.bytes.0,
        "services": plan.services,
        "losses": plan.losses,
        "loss_count": plan.loss_count,
        "loss_bytes": plan.loss_bytes.0,
        "notes": plan.notes,
        "failure": plan.obstacle.as_ref().map(output::failure),
    })
}
