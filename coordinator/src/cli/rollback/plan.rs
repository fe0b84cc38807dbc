//! A plan as people read it: the waves, and what each host would do.

use rfs_link::Exit;
use rfs_model::ByteCount;
use rfs_proto::v1;

use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::words::{count, paint};

/// How many steps of a host are printed unless all are asked for.
const FIRST_STEPS: usize = 10;

/// Prints a plan. A host that cannot comply makes the exit code a refusal.
pub(super) fn show(
    output: &mut Output,
    plan: &v1::PlanRollbackResponse,
    all_steps: bool,
) -> Result<Exit, CliError> {
    let cannot = plan.hosts.iter().filter(|host| host.failure.is_some()).count();
    let exit = if cannot == 0 { Exit::Done } else { Exit::Refused };
    if output.is_json() {
        output.message(plan)?;
        return Ok(exit);
    }
    for line in lines(plan, if all_steps { usize::MAX } else { FIRST_STEPS }) {
        output.line(line)?;
    }
    if cannot > 0 {
        let text = format!("{} cannot comply; nothing was changed", count(cannot, "host"));
        output.line(paint::bad(text))?;
    }
    Ok(exit)
}

fn lines(plan: &v1::PlanRollbackResponse, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, wave) in (1..).zip(&plan.waves) {
        let canary = if wave.canary { " (canary)" } else { "" };
        lines.push(format!(
            "{}{canary}  {}",
            paint::label(format!("wave {number}")),
            count(wave.hosts.len(), "host")
        ));
        for host in &wave.hosts {
            match plan.hosts.iter().find(|plan| plan.host == host.host) {
                Some(plan) => lines.extend(host_lines(plan, most)),
                None => lines.push(format!("  {}", host.host)),
            }
        }
    }
    let mut left_out: Vec<_> = plan.left_out.iter().collect();
    left_out.sort();
    lines.extend(left_out.iter().map(|(host, why)| format!("{} {host}: {why}", paint::doubt("left out"))));
    let (steps, bytes) = plan
        .hosts
        .iter()
        .fold((0, 0), |(steps, bytes), host| (steps + host.step_count, bytes + host.bytes_to_write));
    let steps = count(usize::try_from(steps).unwrap_or(usize::MAX), "step");
    lines.push(format!("{}: {steps}, {} to write", paint::label("in all"), ByteCount(bytes)));
    lines
}

fn host_lines(plan: &v1::HostPlan, most: usize) -> Vec<String> {
    if let Some(failure) = &plan.failure {
        let mut lines = vec![format!("  {}  {}", plan.host, paint::bad(&failure.message))];
        if !failure.next.is_empty() {
            lines.push(format!("    {} {}", paint::label("next:"), failure.next));
        }
        return lines;
    }
    if plan.step_count == 0 {
        let mut lines = vec![format!("  {}  {}", plan.host, paint::good("is at the target already"))];
        lines.extend(notes(plan));
        return lines;
    }
    let steps = count(usize::try_from(plan.step_count).unwrap_or(usize::MAX), "step");
    let services = match plan.services.as_slice() {
        [] => String::new(),
        services => format!(", stops and starts {}", services.join(", ")),
    };
    let mut lines =
        vec![format!("  {}  {steps}, {} to write{services}", plan.host, ByteCount(plan.bytes_to_write))];
    lines.extend(plan.steps.iter().take(most).map(|step| format!("    {}", step.description)));
    lines.extend(rest(plan.step_count, plan.steps.len().min(most), "step", "--all-steps prints them"));
    for loss in plan.losses.iter().take(most) {
        lines.push(format!("    {} {loss}", paint::bad("would be lost:")));
    }
    lines.extend(rest(plan.loss_count, plan.losses.len().min(most), "loss", "--all-steps prints them"));
    lines.extend(notes(plan));
    lines
}

/// What a person must know of it: what is left alone, what was not captured.
fn notes(plan: &v1::HostPlan) -> impl Iterator<Item = String> {
    plan.notes.iter().map(|note| format!("    {} {note}", paint::label("note:")))
}

fn rest(all: u64, shown: usize, noun: &str, how: &str) -> Option<String> {
    let hidden = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(shown);
    let plural = if noun == "loss" && hidden != 1 { "losses".to_owned() } else { count(hidden, noun) };
    let text = if noun == "loss" && hidden != 1 { format!("{hidden} {plural}") } else { plural };
    (hidden > 0).then(|| paint::faint(format!("    … and {text} more; {how}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_each_host_under_its_wave_and_says_who_cannot_comply() {
        let progress = |host: &str| v1::HostProgress { host: host.into(), ..Default::default() };
        let wave = |canary, hosts: &[&str]| v1::Wave {
            canary,
            hosts: hosts.iter().map(|host| progress(host)).collect(),
            ..Default::default()
        };
        let step = |text: &str| v1::PlanStep { description: text.into(), ..Default::default() };
        let plan = v1::PlanRollbackResponse {
            waves: vec![wave(true, &["web-1"]), wave(false, &["web-2", "web-3"])],
            hosts: vec![
                v1::HostPlan {
                    host: "web-1".into(),
                    steps: vec![
                        step("write /srv/site/index.html (1.2 KiB)"),
                        step("delete /srv/site/new.html"),
                    ],
                    step_count: 2,
                    bytes_to_write: 1229,
                    services: vec!["app".into()],
                    losses: vec!["/srv/site/new.html".into()],
                    loss_count: 2,
                    notes: vec!["/srv/site/data (xfs) is a mount and is left alone".into()],
                    ..Default::default()
                },
                v1::HostPlan { host: "web-2".into(), ..Default::default() },
                v1::HostPlan {
                    host: "web-3".into(),
                    failure: Some(rfs_proto::convert::failure(
                        rfs_model::Reason::HostUnreachable,
                        "not connected",
                        "start its agent",
                    )),
                    ..Default::default()
                },
            ],
            left_out: [("db-1".to_owned(), "checkpoint c has nothing for it".to_owned())].into(),
        };
        let plain: Vec<_> =
            lines(&plan, 1).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(
            plain,
            [
                "wave 1 (canary)  1 host",
                "  web-1  2 steps, 1.2 KiB to write, stops and starts app",
                "    write /srv/site/index.html (1.2 KiB)",
                "    … and 1 step more; --all-steps prints them",
                "    would be lost: /srv/site/new.html",
                "    … and 1 loss more; --all-steps prints them",
                "    note: /srv/site/data (xfs) is a mount and is left alone",
                "wave 2  2 hosts",
                "  web-2  is at the target already",
                "  web-3  not connected",
                "    next: start its agent",
                "left out db-1: checkpoint c has nothing for it",
                "in all: 2 steps, 1.2 KiB to write",
            ]
        );
    }
}
