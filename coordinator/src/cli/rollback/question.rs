//! What is asked before a rollback starts: where to, how many hosts, and what speaks against it.

use rfs_model::{ByteCount, Reason};
use rfs_proto::v1;
use rfs_rollout::plan::natural;

use super::plan::sick;
use crate::cli::progress::{entries, fate_of_absent, names};
use crate::cli::words::{self, count};

/// Which hosts of how many have no connection, and what becomes of them; nothing if all have one.
pub(super) fn absent_words(absent: &[&str], of: usize, spec: &v1::RollbackSpec) -> Option<String> {
    let has = if absent.len() == 1 { "has" } else { "have" };
    let of = count(of, "host");
    let fate = fate_of_absent(spec, absent.len());
    (!absent.is_empty())
        .then(|| format!("{} of {of} {has} no connection ({}): {fate}", absent.len(), names(absent)))
}

/// What makes it doubtful that every host of a plan can comply.
fn cannot_words(plan: &v1::PlanRollbackResponse) -> Option<String> {
    let cannot = plan.hosts.iter().filter_map(|host| Some((host.host.as_str(), host.failure.as_ref()?)));
    let mut cannot: Vec<(&str, &v1::Failure)> = cannot.collect();
    cannot.sort_by_cached_key(|(host, _)| natural(host));
    let of = |reasons: &[Reason], are: bool| -> Vec<&str> {
        let is = |failure: &v1::Failure| reasons.iter().any(|reason| failure.reason == reason.as_str());
        cannot.iter().filter(|(_, failure)| is(failure) == are).map(|(host, _)| *host).collect()
    };
    let absent = of(&[Reason::HostUnreachable], true);
    let refuse = of(&[Reason::LossNotAccepted], true);
    let others = of(&[Reason::HostUnreachable, Reason::LossNotAccepted], false);
    let all: usize = plan.waves.iter().map(|wave| wave.hosts.len()).sum();
    let absent = absent_words(&absent, all, plan.spec.as_ref().unwrap_or(&v1::RollbackSpec::default()));
    let others = (!others.is_empty())
        .then(|| format!("{} of {} cannot comply ({})", others.len(), count(all, "host"), names(&others)));
    let verb = if refuse.len() == 1 { "refuses" } else { "refuse" };
    let refuse = (!refuse.is_empty()).then(|| {
        format!("{} of {} {verb} what would be lost ({})", refuse.len(), count(all, "host"), names(&refuse))
    });
    let words: Vec<String> = absent.into_iter().chain(refuse).chain(others).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// What is asked before it starts: the target, how many hosts, and what makes it doubtful.
pub(super) fn question(plan: &v1::PlanRollbackResponse) -> String {
    let hosts = count(plan.waves.iter().map(|wave| wave.hosts.len()).sum(), "host");
    let target = match &plan.checkpoint {
        Some(checkpoint) => format!("{}, taken {}", checkpoint.name, words::time(checkpoint.create_time)),
        None => format!("what they were before {}", plan.undo_of),
    };
    let sick = plan.checkpoint.as_ref().map(sick).filter(|sick| !sick.is_empty());
    let sick =
        sick.map(|sick| format!("; {} ill when it was taken", count(sick.len(), "host") + &was(sick.len())));
    let without = match plan.left_out.len() {
        0 => String::new(),
        many => format!("; {} left out", count(many, "host")),
    };
    let later: Vec<&str> = plan.later.iter().map(|later| later.rollback.as_str()).collect();
    let later = match later.as_slice() {
        [] => String::new(),
        later => format!(", and take away what {} did after that", later.join(", ")),
    };
    let cannot = cannot_words(plan).map(|words| format!("{words}; ")).unwrap_or_default();
    let lost = lost_words(plan).map(|words| format!("; {words}")).unwrap_or_default();
    format!("{cannot}roll {hosts} back to {target}{}{without}{later}{lost}?", sick.unwrap_or_default())
}

/// What goes from the hosts of a plan, all in all; nothing if nothing does.
fn lost_words(plan: &v1::PlanRollbackResponse) -> Option<String> {
    let losing: Vec<&v1::HostPlan> = plan.hosts.iter().filter(|host| host.loss_count > 0).collect();
    let first = losing.iter().min_by_key(|host| natural(&host.host))?;
    // A host says what it likes.
    let add = |sum: u64, more: u64| sum.saturating_add(more);
    let all = losing.iter().map(|host| host.loss_count).fold(0, add);
    let bytes = losing.iter().map(|host| host.loss_bytes).fold(0, add);
    let example = first.losses.first().map(|path| format!(", such as {path} on {}", first.host));
    Some(format!(
        "{} that the target does not have ({}) {} from {}{}; backups on the hosts keep them",
        entries(all),
        ByteCount(bytes),
        if all == 1 { "goes" } else { "go" },
        count(losing.len(), "host"),
        example.unwrap_or_default()
    ))
}

fn was(many: usize) -> String {
    if many == 1 { " was".to_owned() } else { " were".to_owned() }
}
