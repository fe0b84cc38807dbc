//! A plan as people read it: where to, how carefully, the waves, and what each host would do.

use rfs_link::Exit;
use rfs_model::time::SystemClock;
use rfs_model::{ByteCount, Clock as _, Timestamp};
use rfs_proto::convert::from_wire_time;
use rfs_proto::v1::{self, host_snapshot};
use rfs_rollout::plan::natural;

use super::choices::decided;
use super::pacing::pacing;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::progress::{counts, entries};
use crate::cli::words::{self, count, id, paint};
use crate::duration::show_duration;

/// How many steps of a host are printed unless all are asked for.
const FIRST_STEPS: usize = 10;
/// How many names are printed before they are cut short.
const NAMES: usize = 6;
/// How many waves are printed before they are cut short.
const WAVES: usize = 12;

/// Prints a plan. A host that cannot comply, and a plan that would be refused, make the exit code a refusal.
pub(super) fn show(
    output: &mut Output,
    plan: &v1::PlanRollbackResponse,
    all_steps: bool,
) -> Result<Exit, CliError> {
    let cannot = plan.hosts.iter().filter(|host| host.failure.is_some()).count();
    let exit = if cannot == 0 && plan.problems.is_empty() { Exit::Done } else { Exit::Refused };
    print(output, plan, all_steps)?;
    if cannot > 0 && !output.is_json() {
        let text = format!("{} cannot comply; nothing was changed", count(cannot, "host"));
        output.line(paint::bad(text))?;
    }
    Ok(exit)
}

/// Prints a plan that is about to be carried out.
pub(super) fn print(
    output: &mut Output,
    plan: &v1::PlanRollbackResponse,
    all_steps: bool,
) -> std::io::Result<()> {
    if output.is_json() {
        return output.message(plan);
    }
    lines(plan, all_steps, SystemClock.now()).iter().try_for_each(|line| output.line(line))
}

fn lines(plan: &v1::PlanRollbackResponse, all_steps: bool, now: Timestamp) -> Vec<String> {
    let most = if all_steps { usize::MAX } else { FIRST_STEPS };
    let mut lines = match &plan.checkpoint {
        Some(checkpoint) => target_lines(checkpoint, now),
        None if !plan.undo_of.is_empty() => {
            vec![format!("{} what the hosts were before {}", paint::label("to"), plan.undo_of)]
        }
        None => Vec::new(),
    };
    lines.extend(plan.spec.iter().map(|spec| format!("{} {}", paint::label("how"), pacing(spec))));
    let decided = decided(plan.spec.as_ref().and_then(|spec| spec.choices.as_ref()));
    lines.extend(decided.map(|decided| format!("{} {decided}", paint::label("decided"))));
    lines.extend(wave_lines(&plan.waves));
    for alike in alike(plan) {
        lines.extend(host_lines(&alike, most));
    }
    let mut left_out: Vec<(&str, &str)> =
        plan.left_out.iter().map(|(host, why)| (why.as_str(), host.as_str())).collect();
    left_out.sort_by_cached_key(|(why, host)| ((*why).to_owned(), natural(host)));
    for same in left_out.chunk_by(|a, b| a.0 == b.0) {
        let hosts: Vec<&str> = same.iter().map(|(_, host)| *host).collect();
        lines.push(format!("{} {}: {}", paint::doubt("left out"), range(&hosts), same[0].0));
    }
    let (steps, bytes) = plan
        .hosts
        .iter()
        .fold((0, 0), |(steps, bytes), host| (steps + host.step_count, bytes + host.bytes_to_write));
    let steps = count(usize::try_from(steps).unwrap_or(usize::MAX), "step");
    lines.push(format!("{}: {steps}, {} to write", paint::label("in all"), ByteCount(bytes)));
    for later in &plan.later {
        let hosts: Vec<&str> = later.hosts.iter().map(String::as_str).collect();
        let text =
            format!("{} changed {} later; the undo takes that away as well", later.rollback, range(&hosts));
        lines.push(paint::bad(text).to_string());
    }
    lines.extend(plan.later.first().map(|newest| {
        format!("{} to undo only that: rfs rollback undo {}", paint::label("or:"), id(&newest.rollback))
    }));
    for problem in &plan.problems {
        lines.push(format!("{} {}", paint::bad("would be refused:"), problem.message));
        lines.push(format!("{} {}", paint::label("next:"), problem.next));
    }
    lines
}

/// Which checkpoint it is, when it was taken, and how well its hosts were then.
pub(super) fn target_lines(checkpoint: &v1::Checkpoint, now: Timestamp) -> Vec<String> {
    let taken = checkpoint.create_time.map(from_wire_time);
    let ago = taken.map(|taken| format!(" ({} ago)", show_duration(now.since(taken)))).unwrap_or_default();
    let mut about = vec![format!("taken {}{ago}", words::time(checkpoint.create_time))];
    if !checkpoint.deployment_id.is_empty() {
        about.push(format!("before deployment {}", checkpoint.deployment_id));
    }
    if !checkpoint.reason.is_empty() {
        about.push(format!("{:?}", checkpoint.reason));
    }
    let mut lines = vec![
        format!("{} checkpoint {}", paint::label("to"), id(&checkpoint.name)),
        format!("   {}", about.join(", ")),
    ];
    lines.extend(health_lines(checkpoint));
    let missing = checkpoint.snapshots.iter().filter(|host| host.state() == host_snapshot::State::Failed);
    let why = |host: &v1::HostSnapshot| {
        host.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.message))
    };
    let missing: Vec<String> = missing.map(|host| format!("{}{}", host.host, why(host))).collect();
    lines.extend(missing.iter().take(NAMES).map(|host| paint::doubt(format!("   it lacks {host}"))));
    if missing.len() > NAMES {
        lines.push(paint::doubt(format!("   … and {} more", missing.len() - NAMES)));
    }
    lines
}

/// How well the hosts of a checkpoint were when it was taken, with what was wrong.
pub(in crate::cli) fn health_lines(checkpoint: &v1::Checkpoint) -> Vec<String> {
    let mut count = v1::HealthCount::default();
    for snapshot in &checkpoint.snapshots {
        match snapshot.health() {
            v1::Health::Good => count.good += 1,
            v1::Health::Bad => count.bad += 1,
            v1::Health::Unknown | v1::Health::Unspecified => count.unknown += 1,
        }
    }
    let mut lines = vec![format!("   health when it was taken: {}", counts(Some(&count)))];
    let sick = sick(checkpoint);
    for host in sick.iter().take(NAMES) {
        lines.push(format!("     {} was {}: {}", host.host, words::health(host.health()), host.evidence));
    }
    if sick.len() > NAMES {
        lines.push(format!("     … and {} more", sick.len() - NAMES));
    }
    if count.bad > 0 {
        let text = "these hosts were ill then: going back to it may not heal them; see older ones with: rfs checkpoint list";
        lines.push(format!("   {}", paint::bad(text)));
    }
    lines
}

pub(super) fn sick(checkpoint: &v1::Checkpoint) -> Vec<&v1::HostSnapshot> {
    checkpoint.snapshots.iter().filter(|host| host.health() == v1::Health::Bad).collect()
}

fn wave_lines(waves: &[v1::Wave]) -> Vec<String> {
    let line = |wave: &v1::Wave| {
        let canary = if wave.canary { " (canary)" } else { "" };
        let hosts: Vec<&str> = wave.hosts.iter().map(|host| host.host.as_str()).collect();
        let title = paint::label(format!("wave {}", wave.index));
        format!("{title}{canary}  {}: {}", count(hosts.len(), "host"), range(&hosts))
    };
    if waves.len() <= WAVES {
        return waves.iter().map(line).collect();
    }
    let (first, rest) = waves.split_at(WAVES - 2);
    let (last, between) = rest.split_last().map_or((None, rest), |(last, between)| (Some(last), between));
    let hosts = between.iter().map(|wave| wave.hosts.len()).sum();
    let from = between.first().map_or(0, |wave| wave.index);
    let to = between.last().map_or(0, |wave| wave.index);
    let mut lines: Vec<String> = first.iter().map(line).collect();
    lines.push(paint::faint(format!("  … waves {from} to {to}: {}", count(hosts, "host"))));
    lines.extend(last.map(line));
    lines
}

/// Names in few words: all of them while they are few, else the first and the last.
fn range(hosts: &[&str]) -> String {
    match hosts {
        [first, .., last] if hosts.len() > NAMES => format!("{first} … {last}"),
        hosts => hosts.join(", "),
    }
}

/// Hosts that would do the same.
struct Alike<'p> {
    hosts: Vec<&'p str>,
    plan: &'p v1::HostPlan,
}

/// Puts hosts that would do the same together, in natural order of their first.
fn alike(plan: &v1::PlanRollbackResponse) -> Vec<Alike<'_>> {
    let mut plans: Vec<&v1::HostPlan> = plan.hosts.iter().collect();
    plans.sort_by_cached_key(|plan| natural(&plan.host));
    let mut groups: Vec<Alike<'_>> = Vec::new();
    let mut places: std::collections::HashMap<Vec<u8>, usize> = std::collections::HashMap::new();
    for plan in plans {
        let what = v1::HostPlan { host: String::new(), ..plan.clone() };
        let key = prost::Message::encode_to_vec(&what);
        match places.get(&key) {
            Some(place) => groups[*place].hosts.push(&plan.host),
            None => {
                places.insert(key, groups.len());
                groups.push(Alike { hosts: vec![&plan.host], plan });
            }
        }
    }
    groups
}

fn host_lines(alike: &Alike<'_>, most: usize) -> Vec<String> {
    let plan = alike.plan;
    let many = alike.hosts.len();
    let who = match many {
        1 => alike.hosts[0].to_owned(),
        many if many > NAMES => format!("{} ({many} hosts)", range(&alike.hosts)),
        _ => range(&alike.hosts),
    };
    if let Some(failure) = &plan.failure {
        let mut lines = vec![format!("{who}  {}", paint::bad(&failure.message))];
        if !failure.next.is_empty() {
            lines.push(format!("  {} {}", paint::label("next:"), failure.next));
        }
        return lines;
    }
    if plan.step_count == 0 {
        let verb = if many == 1 { "is" } else { "are" };
        let mut lines = vec![format!("{who}  {}", paint::good(format!("{verb} at the target already")))];
        lines.extend(notes(plan));
        return lines;
    }
    let same = if many == 1 { "" } else { "each the same " };
    let steps = count(usize::try_from(plan.step_count).unwrap_or(usize::MAX), "step");
    let services = match plan.services.as_slice() {
        [] => String::new(),
        services => format!(", stops and starts {}", services.join(", ")),
    };
    let mut lines =
        vec![format!("{who}  {same}{steps}, {} to write{services}", ByteCount(plan.bytes_to_write))];
    lines.extend(plan.steps.iter().take(most).map(|step| format!("  {}", step.description)));
    let how = |all: u64, told: usize| {
        // What the host has not told is asked of the host.
        if u64::try_from(told).is_ok_and(|told| told >= all) {
            "--all-steps prints them"
        } else {
            "on the host: rfs-agent restore SNAPSHOT --plan --all"
        }
    };
    let told = plan.steps.len();
    lines.extend(rest(plan.step_count, told.min(most), "step", how(plan.step_count, told)));
    for loss in plan.losses.iter().take(most) {
        lines.push(format!("  {} {loss}", paint::bad("would be lost:")));
    }
    let told = plan.losses.len();
    lines.extend(rest(plan.loss_count, told.min(most), "loss", how(plan.loss_count, told)));
    if plan.loss_count > 0 {
        let (what, bytes) = (entries(plan.loss_count), ByteCount(plan.loss_bytes));
        lines.push(format!(
            "  {what} ({bytes}) that the target does not have; the host's backup keeps them, at least until its next restore, and rfs-agent restore BACKUP --path PATH brings one back there; to leave some in place: --keep PATTERN"
        ));
    }
    lines.extend(notes(plan));
    lines
}

/// What a person must know of it: what is left alone, what was not captured.
fn notes(plan: &v1::HostPlan) -> impl Iterator<Item = String> {
    plan.notes.iter().map(|note| format!("  {} {note}", paint::label("note:")))
}

fn rest(all: u64, shown: usize, noun: &str, how: &str) -> Option<String> {
    let hidden = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(shown);
    let noun = match (noun, hidden) {
        ("loss", 2..) => "losses".to_owned(),
        (noun, 1) => noun.to_owned(),
        (noun, _) => format!("{noun}s"),
    };
    (hidden > 0).then(|| paint::faint(format!("  … and {hidden} {noun} more; {how}")))
}

#[cfg(test)]
mod tests {
    use rfs_proto::v1::rollback_spec;

    use super::super::question::question;
    use super::*;

    fn wave(index: u32, canary: bool, hosts: &[&str]) -> v1::Wave {
        let progress = |host: &&str| v1::HostProgress { host: (*host).into(), ..Default::default() };
        v1::Wave { index, canary, hosts: hosts.iter().map(progress).collect(), ..Default::default() }
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn checkpoint() -> v1::Checkpoint {
        let snapshot = |host: &str, health: v1::Health, evidence: &str| v1::HostSnapshot {
            host: host.into(),
            health: health.into(),
            evidence: evidence.into(),
            ..Default::default()
        };
        v1::Checkpoint {
            name: "checkpoints/c".into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_764_000_000, nanos: 0 }),
            deployment_id: "r7".into(),
            snapshots: vec![
                snapshot("web-1", v1::Health::Good, "http: 200"),
                snapshot("web-2", v1::Health::Bad, "http: 503"),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_plan_names_its_target_its_pacing_its_waves_and_who_cannot_comply() {
        let step = |text: &str| v1::PlanStep { description: text.into(), ..Default::default() };
        let plan = v1::PlanRollbackResponse {
            waves: vec![wave(1, true, &["web-1"]), wave(2, false, &["web-2", "web-3"])],
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
                    losses: (1..=11).map(|n| format!("/srv/site/{n}.html")).collect(),
                    loss_count: 12,
                    loss_bytes: 2048,
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
            left_out: [
                ("db-2".to_owned(), "checkpoint c has nothing for it".to_owned()),
                ("db-1".to_owned(), "checkpoint c has nothing for it".to_owned()),
            ]
            .into(),
            spec: Some(v1::RollbackSpec {
                strategy: rollback_spec::Strategy::Immediate.into(),
                ..Default::default()
            }),
            checkpoint: Some(checkpoint()),
            problems: vec![rfs_proto::convert::failure(
                rfs_model::Reason::GateCannotPass,
                "no check",
                "add one",
            )],
            undo_of: String::new(),
            later: Vec::new(),
        };
        let lines = plain(&lines(&plan, false, Timestamp(1_764_000_090_000)));
        assert_eq!(
            lines[..11],
            [
                "to checkpoint c",
                "   taken 2025-11-24T16:00:00Z (1m30s ago), before deployment r7",
                "   health when it was taken: 1 good, 1 bad",
                "     web-2 was bad: http: 503",
                "   these hosts were ill then: going back to it may not heal them; see older ones with: rfs checkpoint list",
                "how all hosts at once; when it fails: pause",
                "wave 1 (canary)  1 host: web-1",
                "wave 2  2 hosts: web-2, web-3",
                "web-1  2 steps, 1.2 KiB to write, stops and starts app",
                "  write /srv/site/index.html (1.2 KiB)",
                "  delete /srv/site/new.html",
            ]
        );
        assert_eq!(
            lines[20..],
            [
                "  would be lost: /srv/site/10.html",
                "  … and 2 losses more; on the host: rfs-agent restore SNAPSHOT --plan --all",
                "  12 entries (2.0 KiB) that the target does not have; the host's backup keeps them, at least until its next restore, and rfs-agent restore BACKUP --path PATH brings one back there; to leave some in place: --keep PATTERN",
                "  note: /srv/site/data (xfs) is a mount and is left alone",
                "web-2  is at the target already",
                "web-3  not connected",
                "  next: start its agent",
                "left out db-1, db-2: checkpoint c has nothing for it",
                "in all: 2 steps, 1.2 KiB to write",
                "would be refused: no check",
                "next: add one",
            ]
        );
        assert_eq!(
            question(&plan),
            "1 of 3 hosts has no connection (web-3): it fails at its turn, unless it is back by then; roll 3 hosts back to checkpoints/c, taken 2025-11-24T16:00:00Z; 1 host was ill when it was taken; 2 hosts left out; 12 entries that the target does not have (2.0 KiB) go from 1 host, such as /srv/site/1.html on web-1; backups on the hosts keep them?"
        );
    }

    #[test]
    fn an_undo_of_one_that_is_not_the_last_names_what_goes_with_it() {
        let later = |rollback: &str, hosts: &[&str]| v1::LaterRollback {
            rollback: rollback.into(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let plan = v1::PlanRollbackResponse {
            waves: vec![wave(1, true, &["web-1", "web-2"])],
            undo_of: "rollbacks/a".into(),
            later: vec![later("rollbacks/c", &["web-2"]), later("rollbacks/b", &["web-1", "web-2"])],
            ..Default::default()
        };
        let lines = plain(&lines(&plan, false, Timestamp(0)));
        assert_eq!(
            lines[3..],
            [
                "rollbacks/c changed web-2 later; the undo takes that away as well",
                "rollbacks/b changed web-1, web-2 later; the undo takes that away as well",
                "or: to undo only that: rfs rollback undo c",
            ]
        );
        assert_eq!(
            question(&plan),
            "roll 2 hosts back to what they were before rollbacks/a, and take away what rollbacks/c, rollbacks/b did after that?"
        );
    }

    #[test]
    fn five_hundred_equal_hosts_are_one_line_and_many_waves_are_cut_short() {
        let names: Vec<String> = (1..=500).map(|n| format!("web-{n}")).collect();
        let host = |host: &String| v1::HostPlan {
            host: host.clone(),
            steps: vec![v1::PlanStep { description: "write /srv/a (1 B)".into(), ..Default::default() }],
            step_count: 206,
            bytes_to_write: 1,
            ..Default::default()
        };
        let waves = (1..).zip(&names).map(|(index, name)| wave(index, false, &[name]));
        let mut hosts: Vec<_> = names.iter().map(host).collect();
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        hosts[0].step_count = 1;
        let plan = v1::PlanRollbackResponse { waves: waves.collect(), hosts, ..Default::default() };
        let lines = plain(&lines(&plan, false, Timestamp(0)));
        assert_eq!(lines.len(), 12 + 2 + 3 + 1, "{lines:#?}");
        assert_eq!(
            lines[9..],
            [
                "wave 10  1 host: web-10",
                "  … waves 11 to 499: 489 hosts",
                "wave 500  1 host: web-500",
                "web-1  1 step, 1 B to write",
                "  write /srv/a (1 B)",
                "web-2 … web-500 (499 hosts)  each the same 206 steps, 1 B to write",
                "  write /srv/a (1 B)",
                "  … and 205 steps more; on the host: rfs-agent restore SNAPSHOT --plan --all",
                "in all: 102795 steps, 500 B to write",
            ]
        );
    }
}
