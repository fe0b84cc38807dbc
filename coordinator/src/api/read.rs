//! Requests of callers, read: every field checked, and an error that names it by its path.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_link::{Failure, Identity, Peer};
use rfs_model::{DeploymentId, HostId, Reason, RequestId, RollbackId};
use rfs_proto::bounds;
use rfs_proto::convert::{self, FieldError, duration_or, parse, required};
use rfs_proto::v1::{self, amount, checkpoint, rollback_spec};
use rfs_rollout::{
    Amount, Budget, Canary, CheckpointKind, CheckpointRequest, Choices, GatePolicy, Label, OnFailure,
    OnUnreachable, Order, Policy, RollbackRequest, Selection, Source, Strategy, Waves,
};
use tonic::Request;

use super::show;
use crate::duration::show_duration;

/// Who asks, as it is recorded, such as `operator/alice`.
pub(super) fn requester<T>(request: &Request<T>) -> Result<String, Failure> {
    match request.extensions().get::<Peer>().map(|peer| &peer.identity) {
        Some(identity @ Identity::Operator(_)) => Ok(identity.to_string()),
        Some(Identity::Agent(_) | Identity::Coordinator(_)) | None => {
            Err(Failure::new(Reason::Unauthenticated, "the connection is not an operator's"))
        }
    }
}

/// Reads a caller's own id of a request; empty means none.
pub(super) fn request_id(text: &str) -> Result<Option<RequestId>, FieldError> {
    if text.is_empty() { Ok(None) } else { parse("request_id", text).map(Some) }
}

/// Reads what a checkpoint is asked for.
pub(super) fn checkpoint_request(
    wire: v1::CreateCheckpointRequest,
    requester: String,
) -> Result<CheckpointRequest, FieldError> {
    let kind = match known("kind", wire.kind)? {
        checkpoint::Kind::Unspecified | checkpoint::Kind::Manual => CheckpointKind::Manual,
        checkpoint::Kind::Automatic => CheckpointKind::Automatic,
        checkpoint::Kind::Scheduled | checkpoint::Kind::Conditional => {
            return Err(FieldError::new("kind", "a caller takes MANUAL or AUTOMATIC checkpoints"));
        }
    };
    let deployment: Option<DeploymentId> = match wire.deployment_id.as_str() {
        "" => None,
        id => Some(parse("deployment_id", id)?),
    };
    bounds::text("reason", &wire.reason, bounds::TEXT)?;
    let timeout = duration_or("timeout", wire.timeout, CheckpointRequest::DEFAULT_TIMEOUT)?;
    if timeout > LONGEST_CHECKPOINT {
        let problem = format!("is {} s; a checkpoint holds its hosts for at most an hour", timeout.as_secs());
        return Err(FieldError::new("timeout", problem));
    }
    let allow_missing = wire.allow_missing.map(|most| amount("allow_missing", Some(most))).transpose()?;
    match allow_missing {
        Some(Amount::Count(0)) => {
            return Err(FieldError::new("allow_missing.count", "is 0; leave it out if none may be missing"));
        }
        Some(Amount::Percent(percent @ (0 | 100..))) => {
            let problem = format!("must be 1 to 99, not {percent}: at least one host must be captured");
            return Err(FieldError::new("allow_missing.percent", problem));
        }
        Some(Amount::Count(_) | Amount::Percent(_)) | None => {}
    }
    let quiesce_timeout = match wire.quiesce_timeout {
        None => None,
        Some(given) => Some(convert::from_wire_duration("quiesce_timeout", given)?).filter(|t| !t.is_zero()),
    };
    if let Some(long) = quiesce_timeout.filter(|given| *given > LONGEST_CHECKPOINT) {
        let problem = format!("is {} s; hosts hold still for at most an hour", long.as_secs());
        return Err(FieldError::new("quiesce_timeout", problem));
    }
    Ok(CheckpointRequest {
        kind,
        selector: convert::selector("selector", wire.selector)?,
        allow_missing,
        components: names("components", &wire.components)?,
        deployment,
        labels: convert::labels("labels", wire.labels)?,
        reason: wire.reason,
        requester,
        timeout,
        quiesce_timeout,
    })
}

/// For how long a checkpoint may own its hosts: nobody else can begin anything with them meanwhile.
const LONGEST_CHECKPOINT: Duration = Duration::from_secs(3600);

/// Reads what a rollback is to do. Paths are those within the spec.
pub(super) fn rollback_request(
    spec: v1::RollbackSpec,
    reason: String,
    requester: String,
) -> Result<RollbackRequest, FieldError> {
    bounds::text("reason", &reason, bounds::TEXT)?;
    Ok(RollbackRequest {
        source: Source::Checkpoint(convert::checkpoint_id("checkpoint", &spec.checkpoint)?),
        selector: convert::selector("selector", spec.selector.clone())?,
        selection: selection(spec.selection.clone().unwrap_or_default())?,
        choices: choices(spec.choices.clone())?,
        strategy: strategy(&spec)?,
        policy: policy(spec, &Policy::default())?,
        reason,
        requester,
    })
}

/// Reads how the rollback `of` is to be undone: as carefully as it was done, but for what `spec` sets. Of what it changed, that
/// goes back which `spec` selects. What may be lost is decided anew: it is asked for one rollback.
pub(super) fn undo_request(
    of: RollbackId,
    undone: &RollbackRequest,
    changed: &BTreeSet<HostId>,
    spec: Option<v1::RollbackSpec>,
    requester: String,
) -> Result<RollbackRequest, FieldError> {
    let as_before = RollbackRequest { strategy: among(undone.strategy.clone(), changed), ..undone.clone() };
    let selector = spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = convert::selector("selector", selector)?;
    let choices = choices(spec.as_ref().and_then(|spec| spec.choices.clone()))?;
    let (strategy, policy) = match spec {
        Some(spec) => {
            let spec = over(show::spec(&as_before), spec);
            (strategy(&spec)?, policy(spec, &undone.policy)?)
        }
        None => (as_before.strategy, as_before.policy),
    };
    Ok(RollbackRequest {
        source: Source::Undo(of),
        selector,
        selection: undone.selection.clone(),
        choices,
        strategy,
        policy,
        reason: format!("undo of {}", convert::rollback_name(of)),
        requester,
    })
}

/// The same strategy for those hosts alone: a canary that was not changed cannot go first on the way back.
fn among(mut strategy: Strategy, hosts: &BTreeSet<HostId>) -> Strategy {
    if let Strategy::Gradual(waves) = &mut strategy
        && let Canary::Hosts(canaries) = &mut waves.canary
    {
        canaries.retain(|canary| hosts.contains(canary));
        if canaries.is_empty() {
            waves.canary = Canary::None;
        }
    }
    strategy
}

/// The care of `before` with what `given` sets.
fn over(before: v1::RollbackSpec, given: v1::RollbackSpec) -> v1::RollbackSpec {
    let waves = given.waves.filter(|waves| *waves != v1::WavePolicy::default());
    let unspecified = i32::from(rollback_spec::Strategy::Unspecified);
    let strategy = match given.strategy {
        // A caller who gives waves wants waves.
        strategy if strategy == unspecified && waves.is_some() => rollback_spec::Strategy::Gradual.into(),
        strategy if strategy == unspecified => before.strategy,
        strategy => strategy,
    };
    let immediate = strategy == i32::from(rollback_spec::Strategy::Immediate);
    let old = before.waves.filter(|_| !immediate);
    let waves = match (old, waves) {
        (old, None) => old,
        (None, Some(new)) => Some(new),
        (Some(old), Some(new)) => {
            let canary = new.canary.is_some() || !new.canary_hosts.is_empty();
            let (canary_hosts, canary) =
                if canary { (new.canary_hosts, new.canary) } else { (old.canary_hosts, old.canary) };
            Some(v1::WavePolicy {
                canary_hosts,
                canary,
                sizes: if new.sizes.is_empty() { old.sizes } else { new.sizes },
                order: if new.order.is_empty() { old.order } else { new.order },
            })
        }
    };
    let (old, new) = (before.gate.unwrap_or_default(), given.gate.unwrap_or_default());
    v1::RollbackSpec {
        strategy,
        waves,
        gate: Some(v1::GatePolicy {
            min_healthy_time: new.min_healthy_time.or(old.min_healthy_time),
            healthy_deadline: new.healthy_deadline.or(old.healthy_deadline),
            healthy: new.healthy.or(old.healthy),
            max_failed: new.max_failed.or(old.max_failed),
            ignore_health: new.ignore_health.or(old.ignore_health),
        }),
        on_failure: if given.on_failure == 0 { before.on_failure } else { given.on_failure },
        on_unreachable: if given.on_unreachable == 0 { before.on_unreachable } else { given.on_unreachable },
        max_rollback_time: given.max_rollback_time.or(before.max_rollback_time),
        budgets: if given.budgets.is_empty() { before.budgets } else { given.budgets },
        max_duration: given.max_duration.or(before.max_duration),
        max_pause: given.max_pause.or(before.max_pause),
        // Where the whole is shorter than before, hosts are given no longer than it.
        unreachable_after: given
            .unreachable_after
            .or(before.unreachable_after.filter(|_| given.max_duration.is_none())),
        ..before
    }
}

/// Reads what of a snapshot is meant.
pub(super) fn selection(wire: v1::Selection) -> Result<Selection, FieldError> {
    bounds::count("selection.paths", wire.paths.len(), bounds::MANY)?;
    for (place, path) in wire.paths.iter().enumerate() {
        bounds::text(&format!("selection.paths[{place}]"), path, bounds::PATH)?;
    }
    let relative =
        |path: &String| !path.starts_with('/') || path.split('/').any(|part| matches!(part, "." | ".."));
    if let Some(place) = wire.paths.iter().position(relative) {
        let problem = format!("{:?} is not an absolute path without . and ..", wire.paths[place]);
        return Err(FieldError::new(format!("selection.paths[{place}]"), problem));
    }
    Ok(Selection {
        components: names("selection.components", &wire.components)?,
        paths: wire.paths.into_iter().collect(),
    })
}

/// Reads what a person decided about what would be lost.
pub(super) fn choices(wire: Option<v1::RestoreChoices>) -> Result<Choices, FieldError> {
    let wire = wire.unwrap_or_default();
    bounds::choices("choices", &wire)?;
    let dots = |pattern: &String| pattern.split('/').any(|part| matches!(part, "." | ".."));
    for (field, patterns) in [("keep", &wire.keep), ("accept_loss", &wire.accept_loss)] {
        if let Some(place) = patterns.iter().position(dots) {
            let problem = format!("{:?} has a . or .. in it; write the path without it", patterns[place]);
            return Err(FieldError::new(format!("choices.{field}[{place}]"), problem));
        }
    }
    Ok(Choices {
        keep: wire.keep.into_iter().collect(),
        accept_loss: wire.accept_loss.into_iter().collect(),
        force_stop: wire.force_stop,
    })
}

fn names<T>(path: &str, texts: &[String]) -> Result<BTreeSet<T>, FieldError>
where
    T: std::str::FromStr<Err: ToString> + Ord,
{
    bounds::count(path, texts.len(), bounds::MANY)?;
    let name = |(place, text): (usize, &String)| parse(&format!("{path}[{place}]"), text);
    texts.iter().enumerate().map(name).collect()
}

/// Reads a choice. One of a newer version is refused: to take it for the default would do another thing than was asked.
fn known<E: TryFrom<i32>>(path: &str, wire: i32) -> Result<E, FieldError> {
    E::try_from(wire)
        .map_err(|_| FieldError::new(path, format!("{wire} is not a choice that this version knows")))
}

fn strategy(spec: &v1::RollbackSpec) -> Result<Strategy, FieldError> {
    let waves = spec.waves.clone();
    match known("strategy", spec.strategy)? {
        rollback_spec::Strategy::Immediate
            if waves.as_ref().is_some_and(|waves| *waves != v1::WavePolicy::default()) =>
        {
            Err(FieldError::new(
                "waves",
                "an IMMEDIATE rollback has no waves; leave them out, or choose GRADUAL",
            ))
        }
        rollback_spec::Strategy::Immediate => Ok(Strategy::Immediate),
        rollback_spec::Strategy::Gradual | rollback_spec::Strategy::Unspecified => {
            Ok(Strategy::Gradual(self::waves(waves.unwrap_or_default())?))
        }
    }
}

fn waves(wire: v1::WavePolicy) -> Result<Waves, FieldError> {
    let canary = match (wire.canary_hosts.as_slice(), wire.canary) {
        ([], None) if wire.sizes.is_empty() => Waves::FIRST,
        // With sizes, the first of them is the first wave's.
        ([], None) => Canary::None,
        ([], Some(size)) => Canary::Amount(amount("waves.canary", Some(size))?),
        (hosts, None) => Canary::Hosts(names("waves.canary_hosts", hosts)?),
        (_, Some(_)) => {
            return Err(FieldError::new(
                "waves.canary",
                "canary_hosts names them already; give one of the two",
            ));
        }
    };
    let size = |(place, size)| amount(&format!("waves.sizes[{place}]"), Some(size));
    let mut sizes = wire.sizes.into_iter().enumerate().map(size).collect::<Result<Vec<_>, _>>()?;
    if sizes.is_empty() {
        sizes.push(Waves::SIZE);
    }
    let order = |(place, order): (usize, v1::Order)| {
        let label = |side: &str, text: &str| label(&format!("waves.order[{place}].{side}"), text);
        Ok(Order { before: label("before", &order.before)?, after: label("after", &order.after)? })
    };
    let order = wire.order.into_iter().enumerate().map(order).collect::<Result<_, FieldError>>()?;
    Ok(Waves { canary, sizes, order })
}

fn label(path: &str, text: &str) -> Result<Label, FieldError> {
    bounds::text(path, text, 2 * bounds::LABEL)?;
    let (key, value) = rfs_model::label::parse_label(text).map_err(|error| FieldError::new(path, error))?;
    Ok(Label { key, value })
}

fn amount(path: &str, wire: Option<v1::Amount>) -> Result<Amount, FieldError> {
    match wire.and_then(|amount| amount.amount) {
        Some(amount::Amount::Count(count)) => Ok(Amount::Count(count)),
        Some(amount::Amount::Percent(percent)) => Ok(Amount::Percent(percent)),
        None => Err(FieldError::new(path, "is required: a count, or a percent")),
    }
}

/// Reads how carefully; what a spec cannot say is as in `default`.
fn policy(spec: v1::RollbackSpec, default: &Policy) -> Result<Policy, FieldError> {
    let on_failure = match known("on_failure", spec.on_failure)? {
        rollback_spec::FailureAction::Unspecified | rollback_spec::FailureAction::Pause => OnFailure::Pause,
        rollback_spec::FailureAction::Continue => OnFailure::Continue,
        rollback_spec::FailureAction::Revert => OnFailure::Revert,
    };
    let on_unreachable = match known("on_unreachable", spec.on_unreachable)? {
        rollback_spec::UnreachableAction::Unspecified | rollback_spec::UnreachableAction::Fail => {
            OnUnreachable::Fail
        }
        rollback_spec::UnreachableAction::Wait => OnUnreachable::Wait,
        rollback_spec::UnreachableAction::Skip => OnUnreachable::Skip,
    };
    let budget = |(place, budget): (usize, v1::Budget)| {
        let path = format!("budgets[{place}].max_unavailable");
        let max_unavailable = amount(&path, required(&path, budget.max_unavailable).map(Some)?)?;
        Ok(Budget { group_by: Some(budget.group_by).filter(|key| !key.is_empty()), max_unavailable })
    };
    let (max_duration, unreachable_after) = bounds_of_waiting(&spec, default)?;
    Ok(Policy {
        max_pause: within("max_pause", spec.max_pause, default.max_pause, LONGEST_ROLLBACK)?,
        max_duration,
        unreachable_after,
        gate: gate(spec.gate.unwrap_or_default())?,
        on_failure,
        on_unreachable,
        budgets: spec.budgets.into_iter().enumerate().map(budget).collect::<Result<_, FieldError>>()?,
        max_rollback_time: duration_or(
            "max_rollback_time",
            spec.max_rollback_time,
            default.max_rollback_time,
        )?,
        ..default.clone()
    })
}

/// How long hosts are waited for at most: whatever is asked, it has an end that makes sense.
fn bounds_of_waiting(spec: &v1::RollbackSpec, default: &Policy) -> Result<(Duration, Duration), FieldError> {
    let max_duration = within("max_duration", spec.max_duration, default.max_duration, LONGEST_ROLLBACK)?;
    let unreachable_after = within(
        "unreachable_after",
        spec.unreachable_after,
        // The default fits every rollback; one that is to be short gives hosts no longer than it has itself.
        default.unreachable_after.min(max_duration),
        LONGEST_UNREACHABLE,
    )?;
    if unreachable_after > max_duration {
        let problem = format!(
            "is {}, which is longer than max_duration ({}): no host would ever count as not reachable",
            show_duration(unreachable_after),
            show_duration(max_duration)
        );
        return Err(FieldError::new("unreachable_after", problem));
    }
    Ok((max_duration, unreachable_after))
}

/// A duration that is not longer than `most`.
fn within(
    path: &str,
    given: Option<prost_types::Duration>,
    default: Duration,
    most: Duration,
) -> Result<Duration, FieldError> {
    let time = duration_or(path, given, default)?;
    if time > most {
        let problem = format!("is too long; it can be {} at most", show_duration(most));
        return Err(FieldError::new(path, problem));
    }
    Ok(time)
}

/// For how long hosts may wait for their turn, and a rollback for a person.
const LONGEST_ROLLBACK: Duration = Duration::from_secs(30 * 24 * 3600);
/// For how long a host that has no connection may be given the time to come back.
const LONGEST_UNREACHABLE: Duration = Duration::from_secs(24 * 3600);

fn gate(wire: v1::GatePolicy) -> Result<GatePolicy, FieldError> {
    let default = GatePolicy::default();
    let time = |path: &str, time: Option<prost_types::Duration>, default: Duration| match time {
        // Here zero is a value of its own: no time at all.
        Some(time) => convert::from_wire_duration(path, time),
        None => Ok(default),
    };
    Ok(GatePolicy {
        min_healthy_time: time("gate.min_healthy_time", wire.min_healthy_time, default.min_healthy_time)?,
        healthy_deadline: time("gate.healthy_deadline", wire.healthy_deadline, default.healthy_deadline)?,
        healthy: wire.healthy.map(|healthy| amount("gate.healthy", Some(healthy))).transpose()?,
        max_failed: wire.max_failed.unwrap_or(default.max_failed),
        ignore_health: wire.ignore_health.unwrap_or(default.ignore_health),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "checkpoints/0193b5a0-0000-7000-8000-000000000001";

    fn read(change: impl FnOnce(&mut v1::RollbackSpec)) -> Result<RollbackRequest, String> {
        let mut spec = v1::RollbackSpec { checkpoint: ID.into(), ..Default::default() };
        change(&mut spec);
        rollback_request(spec, String::new(), "operator/alice".into()).map_err(|error| error.to_string())
    }

    fn check_refused(change: impl FnOnce(&mut v1::RollbackSpec), expected: &str) {
        assert_eq!(read(change).expect_err(expected), expected);
    }

    fn percent(percent: u32) -> v1::Amount {
        v1::Amount { amount: Some(amount::Amount::Percent(percent)) }
    }

    #[test]
    fn what_is_left_out_has_its_documented_default() {
        let request = read(|_| {}).expect("a good spec");
        let careful = Waves { canary: Waves::FIRST, sizes: vec![Waves::SIZE], order: Vec::new() };
        assert_eq!(request.strategy, Strategy::Gradual(careful), "one host first, then a quarter at a time");
        assert_eq!(request.policy, Policy::default());
        assert_eq!(request.policy.max_rollback_time, Duration::from_secs(300));
        assert_eq!(request.policy.gate.min_healthy_time, Duration::from_secs(10));
        let zero = Some(prost_types::Duration::default());
        let request = read(|spec| {
            spec.gate = Some(v1::GatePolicy { min_healthy_time: zero, ..Default::default() });
            spec.max_rollback_time = zero;
        });
        let policy = request.expect("a good spec").policy;
        assert_eq!(policy.gate.min_healthy_time, Duration::ZERO, "zero is meant");
        assert_eq!(policy.max_rollback_time, Duration::from_secs(300), "zero means the default");
    }

    #[test]
    fn how_long_hosts_are_waited_for_has_a_default_and_an_end() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let waits = |max_duration, unreachable_after| {
            let request = read(|spec| {
                spec.max_duration = max_duration;
                spec.unreachable_after = unreachable_after;
            });
            request.map(|request| {
                let Policy { max_duration, unreachable_after, .. } = request.policy;
                (max_duration.as_secs(), unreachable_after.as_secs())
            })
        };
        assert_eq!(waits(None, None), Ok((24 * 3600, 20)));
        assert_eq!(waits(seconds(0), seconds(0)), Ok((24 * 3600, 20)));
        assert_eq!(waits(seconds(3600), seconds(90)), Ok((3600, 90)));
        assert_eq!(waits(seconds(10), None), Ok((10, 10)), "it has no longer than the whole");
        for (whole, unreachable, expected) in [
            (seconds(30 * 86_400 + 1), None, "max_duration: is too long; it can be 30 days at most"),
            (None, seconds(86_401), "unreachable_after: is too long; it can be 1d00h at most"),
            (
                seconds(60),
                seconds(61),
                "unreachable_after: is 1m01s, which is longer than max_duration (1m00s): no host would ever count as not reachable",
            ),
            (seconds(-1), None, "max_duration: must not be negative"),
        ] {
            assert_eq!(waits(whole, unreachable), Err(expected.to_owned()));
        }
        let pause = |max_pause| {
            let request = read(|spec| spec.max_pause = max_pause);
            request.map(|request| request.policy.max_pause.as_secs())
        };
        assert_eq!(pause(None), Ok(24 * 3600));
        assert_eq!(pause(seconds(0)), Ok(24 * 3600));
        assert_eq!(pause(seconds(90)), Ok(90));
        let long = "max_pause: is too long; it can be 30 days at most".to_owned();
        assert_eq!(pause(seconds(30 * 86_400 + 1)), Err(long));
        assert_eq!(pause(seconds(-1)), Err("max_pause: must not be negative".to_owned()));
    }

    #[test]
    fn waves_are_filled_up_with_what_is_careful() {
        let waves = |policy: v1::WavePolicy| {
            let Strategy::Gradual(waves) =
                read(|spec| spec.waves = Some(policy)).expect("a good spec").strategy
            else {
                panic!("not gradual")
            };
            (waves.canary, waves.sizes)
        };
        let canary_hosts = vec!["web-1".to_owned()];
        let web_1 = Canary::Hosts(BTreeSet::from(["web-1".parse().expect("a name")]));
        let named = v1::WavePolicy { canary_hosts, ..Default::default() };
        assert_eq!(waves(named), (web_1, vec![Amount::Percent(25)]));
        let sized = v1::WavePolicy { sizes: vec![percent(50)], ..Default::default() };
        assert_eq!(waves(sized), (Canary::None, vec![Amount::Percent(50)]), "the first wave is that large");
        let order = vec![v1::Order { before: "role=db".into(), after: "role=web".into() }];
        let ordered = v1::WavePolicy { order, ..Default::default() };
        assert_eq!(waves(ordered), (Waves::FIRST, vec![Waves::SIZE]), "in each group of the order");
    }

    #[test]
    fn an_undo_changes_only_what_is_given() {
        let undone = read(|spec| {
            spec.waves = Some(v1::WavePolicy {
                canary: Some(percent(5)),
                sizes: vec![percent(10)],
                ..Default::default()
            });
            spec.gate =
                Some(v1::GatePolicy { max_failed: Some(2), ignore_health: Some(true), ..Default::default() });
            spec.set_on_failure(rollback_spec::FailureAction::Revert);
            spec.set_on_unreachable(rollback_spec::UnreachableAction::Skip);
            let budget = v1::Budget { group_by: "zone".into(), max_unavailable: Some(percent(10)) };
            spec.budgets = vec![budget];
            spec.max_rollback_time = Some(prost_types::Duration { seconds: 7, nanos: 0 });
        });
        let mut undone = undone.expect("a good spec");
        undone.policy.max_duration = Duration::from_secs(77);
        let of: RollbackId = "0193b5a0-0000-7000-8000-000000000002".parse().expect("an id");
        let undo = |change: &dyn Fn(&mut v1::RollbackSpec)| {
            let mut spec = v1::RollbackSpec::default();
            change(&mut spec);
            let changed = BTreeSet::new();
            let undo =
                undo_request(of, &undone, &changed, Some(spec), "operator/bob".into()).expect("an undo");
            (undo.strategy, undo.policy)
        };
        let as_before = (undone.strategy.clone(), undone.policy.clone());
        assert_eq!(undo(&|_| {}), as_before);
        assert_eq!(
            undo(&|spec| spec.waves = Some(v1::WavePolicy::default())),
            as_before,
            "nothing is set there"
        );

        let gate = v1::GatePolicy { max_failed: Some(0), ignore_health: Some(false), ..Default::default() };
        let (strategy, policy) = undo(&|spec| spec.gate = Some(gate));
        assert_eq!(
            (strategy, policy.gate.max_failed, policy.gate.ignore_health),
            (as_before.0.clone(), 0, false)
        );
        let rest = Policy { gate: as_before.1.gate.clone(), ..policy };
        assert_eq!(rest, as_before.1, "all else is as it was");

        let (strategy, policy) = undo(&|spec| {
            spec.waves = Some(v1::WavePolicy { sizes: vec![percent(50)], ..Default::default() });
        });
        let Strategy::Gradual(waves) = strategy else { panic!("not gradual") };
        assert_eq!(waves.canary, Canary::Amount(Amount::Percent(5)), "the canary stays");
        assert_eq!((waves.sizes, policy), (vec![Amount::Percent(50)], as_before.1.clone()));

        let (strategy, _) = undo(&|spec| spec.set_strategy(rollback_spec::Strategy::Immediate));
        assert_eq!(strategy, Strategy::Immediate);
        undone.strategy = Strategy::Immediate;
        let sizes = v1::WavePolicy { sizes: vec![percent(50)], ..Default::default() };
        let spec = v1::RollbackSpec { waves: Some(sizes), ..Default::default() };
        let undo = undo_request(of, &undone, &BTreeSet::new(), Some(spec), String::new()).expect("an undo");
        assert!(matches!(undo.strategy, Strategy::Gradual(_)), "who names waves wants waves");
    }

    #[test]
    fn a_field_that_is_not_valid_is_named_by_its_path() {
        check_refused(|spec| spec.on_failure = 9, "on_failure: 9 is not a choice that this version knows");
        check_refused(|spec| spec.checkpoint.clear(), "checkpoint: is required: checkpoints/{id}");
        let waves = |waves| Some(v1::WavePolicy { ..waves });
        check_refused(
            |spec| {
                spec.waves = waves(v1::WavePolicy {
                    sizes: vec![percent(5), v1::Amount::default()],
                    ..Default::default()
                })
            },
            "waves.sizes[1]: is required: a count, or a percent",
        );
        let order = v1::Order { before: "role=db".into(), after: "web".into() };
        check_refused(
            |spec| spec.waves = waves(v1::WavePolicy { order: vec![order], ..Default::default() }),
            "waves.order[0].after: label \"web\" is not valid: write key=value, such as role=web",
        );
        check_refused(
            |spec| {
                let (canary_hosts, canary) = (vec!["web-1".into()], Some(percent(5)));
                spec.waves = waves(v1::WavePolicy { canary_hosts, canary, ..Default::default() });
            },
            "waves.canary: canary_hosts names them already; give one of the two",
        );
        check_refused(
            |spec| spec.budgets.push(v1::Budget::default()),
            "budgets[0].max_unavailable: is required",
        );
        let choices = |keep: &[&str]| {
            let keep = keep.iter().map(|pattern| (*pattern).to_owned()).collect();
            Some(v1::RestoreChoices { keep, ..Default::default() })
        };
        check_refused(
            |spec| spec.choices = choices(&["up/**", ""]),
            "choices.keep[1]: is empty; write a path, or a glob such as **/*.key",
        );
        check_refused(
            |spec| spec.choices = choices(&["/srv/../etc"]),
            "choices.keep[0]: \"/srv/../etc\" has a . or .. in it; write the path without it",
        );
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        check_refused(|spec| spec.max_rollback_time = negative, "max_rollback_time: must not be negative");
        check_refused(
            |spec| {
                spec.selection =
                    Some(v1::Selection { paths: vec!["/a".into(), "/a/../b".into()], ..Default::default() })
            },
            "selection.paths[1]: \"/a/../b\" is not an absolute path without . and ..",
        );
        check_refused(
            |spec| {
                spec.set_strategy(rollback_spec::Strategy::Immediate);
                spec.waves = waves(v1::WavePolicy { sizes: vec![percent(5)], ..Default::default() });
            },
            "waves: an IMMEDIATE rollback has no waves; leave them out, or choose GRADUAL",
        );
    }

    #[test]
    fn an_undo_is_as_careful_as_what_it_undoes_and_concerns_the_same_things() {
        let undone = read(|spec| {
            spec.selector = Some(v1::Selector { hosts: vec!["web-1".into()], ..Default::default() });
            spec.selection = Some(v1::Selection { components: vec!["site".into()], ..Default::default() });
            spec.choices =
                Some(v1::RestoreChoices { accept_loss: vec!["/srv".into()], ..Default::default() });
            let canary_hosts = vec!["web-1".into(), "web-2".into()];
            spec.waves =
                Some(v1::WavePolicy { canary_hosts, sizes: vec![percent(25)], ..Default::default() });
        });
        let undone = undone.expect("a good spec");
        let of: RollbackId = "0193b5a0-0000-7000-8000-000000000002".parse().expect("an id");
        let changed = BTreeSet::from(["web-1".parse().expect("a name")]);
        let undo = undo_request(of, &undone, &changed, None, "operator/bob".into()).expect("an undo");
        assert_eq!(undo.source, Source::Undo(of));
        assert_eq!(
            undo.selector,
            rfs_model::Selector::default(),
            "the hosts that it changed are the ones that have backups"
        );
        assert_eq!(undo.selection, undone.selection);
        assert!(undo.choices.is_empty(), "what was accepted was accepted for one rollback");
        let Strategy::Gradual(waves) = undo.strategy else { panic!("not gradual") };
        assert_eq!(waves.sizes, [Amount::Percent(25)]);
        assert_eq!(waves.canary, Canary::Hosts(changed.clone()), "web-2 was not changed");
        assert_eq!(undo.requester, "operator/bob");
        let spec =
            v1::RollbackSpec { strategy: rollback_spec::Strategy::Immediate.into(), ..Default::default() };
        let undo = undo_request(of, &undone, &changed, Some(spec), "operator/bob".into()).expect("an undo");
        assert_eq!((undo.strategy, undo.selection), (Strategy::Immediate, undone.selection.clone()));
        let selector = v1::Selector { hosts: vec!["web-1".into()], ..Default::default() };
        let spec = v1::RollbackSpec { selector: Some(selector.clone()), ..Default::default() };
        let undo = undo_request(of, &undone, &changed, Some(spec), "operator/bob".into()).expect("an undo");
        assert_eq!(v1::Selector::from(&undo.selector), selector, "an undo of some hosts");
    }

    #[test]
    fn hosts_that_may_be_missing_are_a_number_or_a_share_of_them() {
        let read = |amount| {
            let wire = v1::CreateCheckpointRequest {
                allow_missing: Some(v1::Amount { amount }),
                ..Default::default()
            };
            checkpoint_request(wire, "operator/alice".into())
                .map(|request| request.allow_missing)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(Some(amount::Amount::Count(3))), Ok(Some(Amount::Count(3))));
        assert_eq!(read(Some(amount::Amount::Percent(10))), Ok(Some(Amount::Percent(10))));
        for (amount, expected) in [
            (None, "allow_missing: is required: a count, or a percent"),
            (
                Some(amount::Amount::Count(0)),
                "allow_missing.count: is 0; leave it out if none may be missing",
            ),
            (
                Some(amount::Amount::Percent(100)),
                "allow_missing.percent: must be 1 to 99, not 100: at least one host must be captured",
            ),
        ] {
            assert_eq!(read(amount), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_caller_cannot_pretend_to_be_the_schedule() {
        let mut wire = v1::CreateCheckpointRequest::default();
        wire.set_kind(checkpoint::Kind::Scheduled);
        let error = checkpoint_request(wire, "operator/alice".into()).expect_err("not a caller's kind");
        assert_eq!(error.to_string(), "kind: a caller takes MANUAL or AUTOMATIC checkpoints");
        let good = checkpoint_request(v1::CreateCheckpointRequest::default(), "operator/alice".into());
        assert_eq!(
            good.map(|request| (request.kind, request.timeout)),
            Ok((CheckpointKind::Manual, Duration::from_secs(300)))
        );
    }
}
