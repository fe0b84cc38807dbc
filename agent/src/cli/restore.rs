//! `rfs-agent restore`, and what it would do.

use std::path::PathBuf;

use rfs_link::Exit;
use rfs_model::Standing;
use serde_json::{Value, json};

use super::door::Door;
use super::output::{self, Output};
use super::words::{Count, Length, counted};
use super::{Ended, arguments, door, interrupt};
use crate::commander::Selection;
use crate::config::Config;
use crate::local::{PlanView, RestoreOrder, RestoreView};

pub(super) fn run(config: &Config, arguments: &arguments::Restore, output: &Output) -> Ended {
    let selection = Selection {
        components: arguments.components.iter().cloned().collect(),
        paths: arguments.paths.iter().map(|path| path.components().collect::<PathBuf>()).collect(),
    };
    let door = door::open(config)?;
    if arguments.plan {
        let plan = door.administration().plan(&arguments.snapshot, &selection)?;
        show_plan(&plan, output);
        return match plan.obstacle {
            Some(obstacle) => Err(obstacle),
            None => Ok(Exit::Done),
        };
    }
    let order = RestoreOrder {
        snapshot: arguments.snapshot.clone(),
        selection,
        timeout: arguments.timeout,
        force: arguments.force,
    };
    if let Door::Here(here) = &door {
        interrupt::goes_back(here.engine.clone());
    }
    let restored = door.administration().restore(&order, &|progress| output.progress(progress))?;
    show(config, &arguments.snapshot, &restored, output);
    Ok(match restored.standing {
        Standing::Target => Exit::Done,
        Standing::Before => Exit::Failed,
        Standing::Inconsistent => Exit::Person,
    })
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

fn document(restored: &RestoreView) -> Value {
    let phase = |(phase, took): &(crate::engine::Phase, std::time::Duration)| json!({ "phase": phase.as_str(), "seconds": took.as_secs_f64() });
    json!({
        "standing": output::standing_word(restored.standing),
        "backup": restored.backup.map(|id| id.to_string()),
        "downtime_seconds": restored.downtime.map(|down| down.as_secs_f64()),
        "phases": restored.phases.iter().map(phase).collect::<Vec<_>>(),
        "steps": restored.steps,
        "bytes": restored.bytes.0,
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
        return;
    }
    for step in &plan.steps {
        output.line(&step.text);
    }
    let hidden = plan.step_count.saturating_sub(plan.steps.len() as u64);
    if hidden > 0 {
        output.line(format_args!("… and {}", counted(hidden, "more step", "more steps")));
    }
    output.line("");
    output.heading(format_args!("{}, {} to write", counted(plan.step_count, "step", "steps"), plan.bytes));
    if !plan.services.is_empty() {
        let names: Vec<String> = plan.services.iter().map(ToString::to_string).collect();
        output.field("services", names.join(", "));
    }
    if plan.loss_count > 0 {
        output.field(
            "lost",
            counted(
                plan.loss_count,
                "entry that the snapshot does not have",
                "entries that the snapshot does not have",
            ),
        );
    }
}

fn plan_document(plan: &PlanView) -> Value {
    let step = |step: &crate::local::PlanLine| {
        json!({
            "component": step.component.as_str(),
            "action": step.action,
            "description": step.text,
            "bytes": step.bytes.0,
        })
    };
    json!({
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "step_count": plan.step_count,
        "bytes_to_write": plan.bytes.0,
        "services": plan.services,
        "losses": plan.losses,
        "loss_count": plan.loss_count,
        "failure": plan.obstacle.as_ref().map(output::failure),
    })
}
