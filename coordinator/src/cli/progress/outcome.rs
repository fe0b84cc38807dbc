//! How a rollback ended or why it waits, where its hosts stand, and what to type next.

use rfs_model::Reason;
use rfs_proto::v1::{self, host_progress, rollback, rollback_spec};

use super::losses::loss_lines;
use super::remedy::{Remedies, next_of};
use super::rollback::{hosts, paused_by_person};
use super::standing::{Standing, is_left_behind, names, standing_lines};
use super::waves::between;
use crate::cli::rollback::{Steer, effect};
use crate::cli::words::{self, id, paint};

/// What the person has read just before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum After {
    /// Each change, or a picture of the whole: why it is paused was said.
    Watching,
    /// The whole record: it is not offered again.
    Record,
    /// What was decided.
    Decision,
}

/// How it ended or why it waits, and what to type next.
pub(in crate::cli) fn outcome_lines(rollback: &v1::Rollback, after: After) -> Vec<String> {
    let mut lines = Vec::new();
    let next = match rollback.state() {
        rollback::State::Finished => {
            let took = rollback.create_time.zip(rollback.finish_time).map(|(from, to)| between(from, to));
            let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
            lines.push(format!("{} {}{took}", rollback.name, words::outcome(rollback.outcome())));
            let succeeded = rollback.outcome() == rollback::Outcome::Succeeded;
            (!succeeded).then(|| after_the_end(rollback, after))
        }
        rollback::State::Paused if paused_by_person(rollback) => {
            Some(choices(rollback, &[Steer::Resume, Steer::Abort], false))
        }
        rollback::State::Paused => {
            lines.push(format!("{} is {}: a person is needed", rollback.name, paint::bad("paused")));
            Some(after_a_failure(rollback, after))
        }
        rollback::State::Running
        | rollback::State::Reverting
        | rollback::State::Aborting
        | rollback::State::Unspecified => None,
    };
    // The cause of a pause is among what was watched.
    let is_known = after == After::Watching && rollback.state() == rollback::State::Paused;
    if let Some(cause) = &rollback.cause
        && rollback.outcome() != rollback::Outcome::Succeeded
        && !is_known
    {
        lines.push(format!("cause: {}", cause.message));
    }
    if after == After::Record
        || matches!(rollback.state(), rollback::State::Finished | rollback::State::Paused)
    {
        lines.extend(loss_lines(rollback, after));
    }
    if let Some(next) = next {
        lines.extend(standing_lines(rollback));
        lines.extend(hosts(rollback).find(|host| is_contested(host)).map(|host| {
            let name = &host.host;
            format!(
                "{} rfs host show {name}; then say which machine it is: rfs host accept {name} --instance ID",
                paint::label("next:")
            )
        }));
        lines.extend(next);
    }
    lines
}

fn is_contested(host: &v1::HostProgress) -> bool {
    host.failure.as_ref().is_some_and(|failure| failure.reason == Reason::HostConflict.as_str())
}

/// What the failures of hosts say is to be done.
fn remedies(rollback: &v1::Rollback) -> Remedies<'_> {
    use host_progress::State as S;
    let failed = |host: &&v1::HostProgress| match host.state() {
        S::Unchanged | S::Refused | S::Unhealthy | S::Lost | S::RevertFailed | S::Inconsistent => {
            !is_contested(host)
        }
        // On the way forward the line for hosts that were left out says it.
        S::Skipped | S::Waiting => is_left_behind(rollback, host),
        S::Untouched
        | S::Applying
        | S::Applied
        | S::Passed
        | S::Reverting
        | S::Reverted
        | S::Superseded
        | S::Unspecified => false,
    };
    let failed = hosts(rollback).filter(failed);
    Remedies::of(failed.map(|host| (host.host.as_str(), next_of(host.failure.as_ref()))))
}

fn remedy_lines(rollback: &v1::Rollback) -> Vec<String> {
    remedies(rollback).lines("", &format!("rfs rollback show {} --output json", id(&rollback.name)))
}

/// A line for each decision that can be made now, with what it does.
fn choices(rollback: &v1::Rollback, steers: &[Steer], one_is_named: bool) -> Vec<String> {
    let short = id(&rollback.name);
    let line = |(place, steer): (usize, &Steer)| {
        let label = if place == 0 && !one_is_named { "next:" } else { "  or:" };
        let what = paint::faint(format!("# {}", effect(rollback, steer)));
        format!("{} rfs rollback {} {short}  {what}", paint::label(label), steer.verb())
    };
    steers.iter().enumerate().map(line).collect()
}

/// It is paused: first what is wrong with the hosts, then what can be decided.
fn after_a_failure(rollback: &v1::Rollback, after: After) -> Vec<String> {
    let mut lines = remedy_lines(rollback);
    let retry = format!("rfs rollback retry {}", id(&rollback.name));
    let names_retry = remedies(rollback).sentences().any(|sentence| sentence.contains(&retry));
    let standing = Standing::of(rollback);
    // A host that refused says itself with what it is to be tried again; without that it refuses again.
    let failed = standing.failed.iter().any(|host| !standing.refused.contains(host));
    let retry = (failed && !names_retry).then_some(Steer::Retry { hosts: Vec::new(), choices: None });
    let steers = [Steer::Resume, Steer::Promote { wave: None }, Steer::Abort];
    let steers: Vec<Steer> = retry.into_iter().chain(steers).collect();
    lines.extend(choices(rollback, &steers, !lines.is_empty()));
    if after != After::Record {
        lines.push(format!("details: rfs rollback show {}", id(&rollback.name)));
    }
    lines
}

/// It is over, and not as it was asked.
fn after_the_end(rollback: &v1::Rollback, after: After) -> Vec<String> {
    let short = id(&rollback.name);
    let standing = Standing::of(rollback);
    let changed = (standing.any_changed() && rollback.undo_of.is_empty()).then(|| standing.all_changed());
    let mut steps = Vec::new();
    if !standing.left_out.is_empty() {
        let hosts = names(&standing.left_out);
        let until = left_out_until(rollback).map(|until| format!(", until {until}")).unwrap_or_default();
        steps.push(format!(
            "start rfs-agent on {hosts}: what was left out comes in line by itself{until}; to give up: rfs rollback abort {short}"
        ));
    }
    match rollback.outcome() {
        rollback::Outcome::Partial if !standing.failed.is_empty() => {
            let failed = standing.failed.iter().filter(|host| !standing.refused.contains(host));
            let failed: Vec<_> = failed.copied().collect();
            let again = (!failed.is_empty())
                .then(|| format!("try {} again: rfs rollback retry {short}", names(&failed)));
            let back = changed.map(|hosts| format!("bring {hosts} back: rfs rollback undo {short}"));
            let both: Vec<String> = again.into_iter().chain(back).collect();
            if !both.is_empty() {
                steps.push(both.join("; or "));
            }
        }
        rollback::Outcome::NeedsOperator if standing.between.is_empty() => {
            steps.push(format!("roll back again, or undo it: rfs rollback undo {short}"));
        }
        rollback::Outcome::Aborted | rollback::Outcome::Partial | rollback::Outcome::Reverted => {
            steps.extend(changed.map(|hosts| format!("undo it on {hosts}: rfs rollback undo {short}")));
        }
        rollback::Outcome::RevertFailed
        | rollback::Outcome::NeedsOperator
        | rollback::Outcome::Succeeded
        | rollback::Outcome::Unspecified => {
            let stuck = stuck(rollback);
            let look = || format!("see where it stands: rfs-agent status on {}", names(&stuck));
            steps.extend((!stuck.is_empty()).then(look));
        }
    }
    if after != After::Record {
        match steps.last_mut() {
            Some(last) => last.push_str(&format!("; details: rfs rollback show {short}")),
            None => steps.push(format!("rfs rollback show {short}")),
        }
    }
    let mut lines = remedy_lines(rollback);
    lines.extend(steps.into_iter().map(|step| format!("{} {step}", paint::label("next:"))));
    lines
}

/// Until when hosts that were left out come in line; a coordinator that was away waits for them for longer.
fn left_out_until(rollback: &v1::Rollback) -> Option<String> {
    let (mut until, bound) = rollback.finish_time.zip(rollback.spec.as_ref()?.max_duration)?;
    until.seconds += bound.seconds;
    Some(words::time(Some(until)))
}

/// The hosts that are there to be looked at, and are neither at the target nor as they were for sure.
fn stuck(rollback: &v1::Rollback) -> Vec<&str> {
    use host_progress::State as S;
    let unreachable = |host: &v1::HostProgress| {
        host.failure.as_ref().is_some_and(|failure| failure.reason == Reason::HostUnreachable.as_str())
    };
    let is_stuck = |host: &&v1::HostProgress| {
        matches!(host.state(), S::RevertFailed | S::Lost | S::Inconsistent)
            && !unreachable(host)
            && !is_contested(host)
    };
    hosts(rollback).filter(is_stuck).map(|host| host.host.as_str()).collect()
}

/// What becomes of so many hosts that have no connection when a rollback begins.
pub(in crate::cli) fn fate_of_absent(spec: &v1::RollbackSpec, many: usize) -> &'static str {
    use rollback_spec::UnreachableAction as Action;
    match (spec.on_unreachable(), many) {
        (Action::Wait, 1) => "its wave waits for it",
        (Action::Wait, _) => "their waves wait for them",
        (Action::Skip, 1) => "it is left out, and comes in line when it is back",
        (Action::Skip, _) => "they are left out, and come in line when they are back",
        (Action::Fail | Action::Unspecified, 1) => "it fails at its turn, unless it is back by then",
        (Action::Fail | Action::Unspecified, _) => "they fail at their turn, unless they are back by then",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, state: host_progress::State) -> v1::HostProgress {
        v1::HostProgress { host: name.into(), state: state.into(), ..Default::default() }
    }

    fn failed(name: &str, state: host_progress::State, next: &str) -> v1::HostProgress {
        let failure = rfs_proto::convert::failure(Reason::HostUnreachable, "no connection", next);
        v1::HostProgress { failure: Some(failure), backup: "backup".into(), ..host(name, state) }
    }

    fn rollback(state: rollback::State, hosts: Vec<v1::HostProgress>) -> v1::Rollback {
        let wave = v1::Wave { index: 1, state: v1::wave::State::Failed.into(), hosts, ..Default::default() };
        let waves = vec![wave];
        v1::Rollback { name: "rollbacks/r".into(), state: state.into(), waves, ..Default::default() }
    }

    fn over(outcome: rollback::Outcome, hosts: Vec<v1::HostProgress>) -> v1::Rollback {
        v1::Rollback { outcome: outcome.into(), ..rollback(rollback::State::Finished, hosts) }
    }

    fn check(rollback: &v1::Rollback, after: After, expected: &[&str]) {
        let lines = outcome_lines(rollback, after);
        let lines: Vec<_> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_pause_for_a_failure_says_first_what_is_wrong_then_what_can_be_decided() {
        use host_progress::State as S;
        let next = "start rfs-agent there, then: rfs rollback retry r";
        let hosts = vec![failed("b", S::Unchanged, next), host("c", S::Untouched)];
        let mut paused = rollback(rollback::State::Paused, hosts);
        paused.cause = Some(rfs_proto::convert::failure(Reason::HostUnreachable, "1 host failed", ""));
        let lines = [
            "rollbacks/r is paused: a person is needed",
            "cause: 1 host failed",
            "  as before    b",
            "  not started  c",
            "next: start rfs-agent on b, then: rfs rollback retry r",
            "  or: rfs rollback resume r  # no longer counts as failed, and does not try again: b; changes c in their waves",
            "  or: rfs rollback promote r  # takes wave 1's gate as passed; accepts as they stand: b",
            "  or: rfs rollback abort r  # does not start c",
        ];
        check(&paused, After::Record, &lines);
        let watched: Vec<&str> = lines
            .into_iter()
            .filter(|line| !line.starts_with("cause"))
            .chain(["details: rfs rollback show r"])
            .collect();
        check(&paused, After::Watching, &watched);
    }

    #[test]
    fn a_persons_pause_says_how_it_goes_on() {
        let mut paused = rollback(rollback::State::Paused, vec![host("a", host_progress::State::Untouched)]);
        paused.cause = Some(rfs_proto::convert::failure(Reason::Cancelled, "paused by operator/alice", ""));
        check(
            &paused,
            After::Record,
            &[
                "cause: paused by operator/alice",
                "  not started  a",
                "next: rfs rollback resume r  # changes a in their waves",
                "  or: rfs rollback abort r  # does not start a",
            ],
        );
    }

    #[test]
    fn a_host_that_is_still_at_the_checkpoint_after_a_way_back_is_named_with_its_remedy() {
        use host_progress::State as S;
        let waits = "start rfs-agent there: the way back goes on by itself";
        let ended = "start rfs-agent there, then: rfs rollback undo r";
        let hosts =
            vec![failed("a", S::Skipped, waits), failed("b", S::RevertFailed, ended), host("c", S::Reverted)];
        check(
            &over(rollback::Outcome::RevertFailed, hosts),
            After::Record,
            &[
                "rollbacks/r REVERT_FAILED",
                "  at the checkpoint, and failed  b",
                "  goes back when it is there     a",
                "  as before                      c",
                "next: start rfs-agent on a: the way back goes on by itself",
                "next: start rfs-agent on b, then: rfs rollback undo r",
            ],
        );
    }

    #[test]
    fn a_host_that_was_left_out_comes_in_line_by_itself_and_until_when_is_said() {
        use host_progress::State as S;
        let mut partial = over(rollback::Outcome::Partial, vec![host("a", S::Passed), host("b", S::Skipped)]);
        partial.finish_time = Some(prost_types::Timestamp { seconds: 1_764_000_000, nanos: 0 });
        let max_duration = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        partial.spec = Some(v1::RollbackSpec { max_duration, ..Default::default() });
        check(
            &partial,
            After::Decision,
            &[
                "rollbacks/r PARTIAL",
                "  at the checkpoint  a",
                "  left out           b",
                "next: start rfs-agent on b: what was left out comes in line by itself, until 2025-11-24T17:00:00Z; to give up: rfs rollback abort r",
                "next: undo it on a: rfs rollback undo r; details: rfs rollback show r",
            ],
        );
    }
}
