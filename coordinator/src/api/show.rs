//! Operations as callers see them.

use std::collections::{BTreeMap, HashMap};

use rfs_model::{HostId, Reason, RollbackId, Timestamp};
use rfs_proto::convert::{self, to_wire_duration, to_wire_time};
use rfs_proto::v1::{
    self, amount, checkpoint as wire_checkpoint, host_progress, host_snapshot, rollback_spec,
};
use rfs_rollout::checkpoint::{self, Checkpoint};
use rfs_rollout::plan::WaveIndex;
use rfs_rollout::rollback::{self, Direction, Gate, PauseCause, Rollback, WaveState};
use rfs_rollout::{
    Amount, Canary, CheckpointKind, CheckpointRequest, Failure, OnFailure, OnUnreachable, Outside, Plan,
    RollbackRequest, Source, Strategy,
};

use super::findings::with_findings;
use crate::driver::fleet::Progress;
use crate::driver::{CheckpointHead, Head, Later, RollbackHead, Summary, dropped_snapshot};
use crate::hub::{wire_choices, wire_selection};
use crate::store::StoredEvent;

/// How far the hosts at work are, as they last said.
type Far = BTreeMap<HostId, Progress>;

/// A checkpoint with its snapshots.
pub(super) fn checkpoint(checkpoint: &Checkpoint, far: &Far) -> v1::Checkpoint {
    let began = checkpoint.created_at;
    let snapshots =
        checkpoint.hosts.iter().map(|(host, record)| snapshot(began, host, record, far.get(host)));
    v1::Checkpoint { snapshots: snapshots.collect(), ..checkpoint_head(checkpoint) }
}

/// A checkpoint without its snapshots.
pub(super) fn checkpoint_head(checkpoint: &Checkpoint) -> v1::Checkpoint {
    v1::Checkpoint {
        name: convert::checkpoint_name(checkpoint.id),
        create_time: Some(to_wire_time(checkpoint.created_at)),
        health: Some(health_count(checkpoint.health())),
        host_count: u32::try_from(checkpoint.hosts.len()).unwrap_or(u32::MAX),
        update_time: Some(to_wire_time(checkpoint.last_at)),
        missing_count: checkpoint
            .outcome()
            .map_or(0, |_| u32::try_from(checkpoint.missing().len()).unwrap_or(u32::MAX)),
        ..checkpoint_at(&checkpoint.request, &checkpoint.phase)
    }
}

/// A checkpoint as lists show it, if it is one.
pub(super) fn checkpoint_summary(summary: &Summary) -> Option<v1::Checkpoint> {
    let Head::Checkpoint(head) = &summary.head else { return None };
    let CheckpointHead { request, phase, hosts, health, missing } = head.as_ref();
    let mut shown = v1::Checkpoint {
        name: convert::checkpoint_name(summary.id.into()),
        create_time: Some(to_wire_time(summary.created_at)),
        health: Some(health_count(*health)),
        host_count: u32::try_from(*hosts).unwrap_or(u32::MAX),
        missing_count: u32::try_from(*missing).unwrap_or(u32::MAX),
        ..checkpoint_at(request, phase)
    };
    if shown.state() == wire_checkpoint::State::Complete && !summary.complete {
        shown.set_state(wire_checkpoint::State::Incomplete);
    }
    Some(shown)
}

/// What a complete checkpoint has lost since it was complete.
pub(super) struct Lost {
    /// Whose snapshots are not on their hosts any more, each with since when.
    pub(super) dropped: BTreeMap<HostId, Timestamp>,
    /// Which hosts were forgotten, each with when.
    pub(super) forgotten: BTreeMap<HostId, Timestamp>,
}

impl Lost {
    /// The hosts that are concerned.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.dropped.keys().chain(self.forgotten.keys())
    }

    /// How many of the snapshots that the checkpoint has made are lost.
    pub(super) fn count(&self, checkpoint: &Checkpoint) -> u32 {
        let is_lost = |host: &HostId| self.dropped.contains_key(host) || self.forgotten.contains_key(host);
        let had = checkpoint
            .hosts
            .iter()
            .filter(|(_, record)| snapshot_state(record) == host_snapshot::State::Durable);
        u32::try_from(had.filter(|(host, _)| is_lost(host)).count()).unwrap_or(u32::MAX)
    }

    /// Shows the checkpoint without them. One of which a host has dropped its snapshot is not complete any more; one of which a
    /// host was forgotten is one of the others.
    pub(super) fn correct(&self, shown: &mut v1::Checkpoint) {
        if shown.state() != wire_checkpoint::State::Complete {
            return;
        }
        if !self.dropped.is_empty() {
            shown.state = wire_checkpoint::State::Incomplete.into();
        }
        without(shown, &self.dropped, |host, since| {
            Failure::new(Reason::SnapshotNotFound, dropped_snapshot(host, since))
        });
        without(shown, &self.forgotten, |host, at| {
            Failure::new(Reason::HostForgotten, format!("{host} was forgotten at {at}"))
        });
    }
}

fn without(
    shown: &mut v1::Checkpoint,
    hosts: &BTreeMap<HostId, Timestamp>,
    why: impl Fn(&HostId, Timestamp) -> Failure,
) {
    for snapshot in &mut shown.snapshots {
        let Ok(host) = snapshot.host.parse::<HostId>() else { continue };
        let Some(at) = hosts.get(&host).filter(|_| snapshot.state() == host_snapshot::State::Durable) else {
            continue;
        };
        snapshot.set_state(host_snapshot::State::Failed);
        snapshot.failure = Some(failure_of(&host, &why(&host, *at)));
        shown.missing_count += 1;
    }
}

fn health_count(count: checkpoint::HealthCount) -> v1::HealthCount {
    v1::HealthCount { good: count.good, bad: count.bad, unknown: count.unknown }
}

fn checkpoint_at(request: &CheckpointRequest, phase: &checkpoint::Phase) -> v1::Checkpoint {
    let (state, complete_time, skew) = match phase {
        checkpoint::Phase::Preparing | checkpoint::Phase::Cutting | checkpoint::Phase::Finishing { .. } => {
            (wire_checkpoint::State::Creating, None, None)
        }
        checkpoint::Phase::Finished { outcome, skew, at } => {
            let state = match outcome {
                checkpoint::Outcome::Complete => wire_checkpoint::State::Complete,
                checkpoint::Outcome::Incomplete => wire_checkpoint::State::Incomplete,
                checkpoint::Outcome::Aborted => wire_checkpoint::State::Aborted,
            };
            // Without a whole checkpoint there may be no two cuts to be apart.
            let skew =
                Some(*skew).filter(|skew| *outcome == checkpoint::Outcome::Complete || !skew.is_zero());
            (state, Some(to_wire_time(*at)), skew.map(to_wire_duration))
        }
    };
    v1::Checkpoint { state: state.into(), complete_time, skew, ..asked_checkpoint(request) }
}

/// What a checkpoint was asked for.
fn asked_checkpoint(request: &CheckpointRequest) -> v1::Checkpoint {
    let kind = match request.kind {
        CheckpointKind::Automatic => wire_checkpoint::Kind::Automatic,
        CheckpointKind::Manual => wire_checkpoint::Kind::Manual,
    };
    v1::Checkpoint {
        kind: kind.into(),
        selector: Some((&request.selector).into()),
        components: request.components.iter().map(ToString::to_string).collect(),
        deployment_id: request.deployment.as_ref().map(ToString::to_string).unwrap_or_default(),
        labels: request.labels.clone().into_iter().collect(),
        reason: request.reason.clone(),
        requester: request.requester.clone(),
        allow_missing: request.allow_missing.map(amount),
        quiesce_timeout: request.quiesce_timeout.map(to_wire_duration),
        ..Default::default()
    }
}

fn snapshot_state(record: &checkpoint::HostRecord) -> host_snapshot::State {
    match record.phase {
        checkpoint::HostPhase::Preparing => host_snapshot::State::Preparing,
        checkpoint::HostPhase::Prepared => host_snapshot::State::Prepared,
        checkpoint::HostPhase::Cutting => host_snapshot::State::Cutting,
        checkpoint::HostPhase::Cut | checkpoint::HostPhase::Finishing | checkpoint::HostPhase::Done => {
            host_snapshot::State::Durable
        }
        checkpoint::HostPhase::Abandoning | checkpoint::HostPhase::Failed => host_snapshot::State::Failed,
    }
}

/// A host's part of the checkpoint that began at `began`. What is equal is shown alike.
pub(super) fn snapshot(
    began: Timestamp,
    host: &HostId,
    record: &checkpoint::HostRecord,
    far: Option<&Progress>,
) -> v1::HostSnapshot {
    let at_work = matches!(record.phase, checkpoint::HostPhase::Preparing | checkpoint::HostPhase::Cutting);
    let captured = record.captured.as_ref();
    let took = captured.and(record.settled_at).map(|at| at.since(began));
    v1::HostSnapshot {
        host: host.to_string(),
        state: snapshot_state(record).into(),
        snapshot: captured.map(|captured| captured.snapshot.to_string()).unwrap_or_default(),
        cut_time: captured.map(|captured| to_wire_time(captured.cut_at)),
        bytes: captured.map_or(0, |captured| captured.bytes.0),
        new_bytes: captured.map_or(0, |captured| captured.new_bytes.0),
        entries: captured.map_or(0, |captured| captured.entries),
        duration: took.map(to_wire_duration),
        failure: record.failure.as_ref().map(|told| failure_of(host, told)),
        health: v1::Health::from(record.health).into(),
        evidence: record.evidence.clone(),
        finish_time: record.settled_at.map(to_wire_time),
        notes: captured.map(|captured| captured.notes.clone()).unwrap_or_default(),
        phase: far.filter(|_| at_work).map(|far| far.phase.clone()).unwrap_or_default(),
    }
}

/// A rollback with its waves.
pub(super) fn rollback(rollback: &Rollback, far: &Far, outside: &Outside) -> v1::Rollback {
    let waves = rollback.plan.waves.iter().zip(0..);
    v1::Rollback {
        waves: waves.map(|(_, index)| wave(rollback, WaveIndex(index), far, outside)).collect(),
        ..rollback_head(rollback)
    }
}

/// A rollback without its waves.
pub(super) fn rollback_head(rollback: &Rollback) -> v1::Rollback {
    v1::Rollback {
        name: convert::rollback_name(rollback.id),
        create_time: Some(to_wire_time(rollback.created_at)),
        update_time: Some(to_wire_time(rollback.last_at)),
        left_out: left_out(&rollback.plan),
        ..rollback_at(&rollback.request, &rollback.phase)
    }
}

/// A rollback as lists show it, if it is one.
pub(super) fn rollback_summary(summary: &Summary) -> Option<v1::Rollback> {
    let Head::Rollback(head) = &summary.head else { return None };
    let RollbackHead { request, phase, .. } = head.as_ref();
    Some(v1::Rollback {
        name: convert::rollback_name(summary.id.into()),
        create_time: Some(to_wire_time(summary.created_at)),
        ..rollback_at(request, phase)
    })
}

fn rollback_at(request: &RollbackRequest, phase: &rollback::Phase) -> v1::Rollback {
    let (state, outcome, finish_time) = match phase {
        rollback::Phase::Running { direction: Direction::Forward } => {
            (v1::rollback::State::Running, None, None)
        }
        rollback::Phase::Running { direction: Direction::Back(_) } => {
            (v1::rollback::State::Reverting, None, None)
        }
        rollback::Phase::Paused { .. } => (v1::rollback::State::Paused, None, None),
        rollback::Phase::Aborting { .. } => (v1::rollback::State::Aborting, None, None),
        rollback::Phase::Finished { outcome, at, .. } => {
            (v1::rollback::State::Finished, Some(self::outcome(*outcome)), Some(to_wire_time(*at)))
        }
    };
    v1::Rollback {
        spec: Some(spec(request)),
        state: state.into(),
        outcome: outcome.unwrap_or_default().into(),
        cause: cause(phase),
        reason: request.reason.clone(),
        requester: request.requester.clone(),
        finish_time,
        undo_of: match request.source {
            Source::Undo(of) => convert::rollback_name(of),
            Source::Checkpoint(_) => String::new(),
        },
        ..Default::default()
    }
}

/// A later rollback whose changes an undo would take away.
pub(super) fn later(later: &Later) -> v1::LaterRollback {
    v1::LaterRollback {
        rollback: convert::rollback_name(later.rollback),
        hosts: later.hosts.iter().map(HostId::to_string).collect(),
    }
}

/// A stored event.
pub(super) fn event(stored: &StoredEvent) -> v1::RollbackEvent {
    v1::RollbackEvent {
        position: stored.position.0,
        time: Some(to_wire_time(stored.event.at())),
        description: stored.event.to_string(),
        json: stored.json.clone(),
    }
}

fn outcome(outcome: rollback::Outcome) -> v1::rollback::Outcome {
    match outcome {
        rollback::Outcome::Succeeded => v1::rollback::Outcome::Succeeded,
        rollback::Outcome::Partial => v1::rollback::Outcome::Partial,
        rollback::Outcome::Aborted => v1::rollback::Outcome::Aborted,
        rollback::Outcome::Reverted => v1::rollback::Outcome::Reverted,
        rollback::Outcome::RevertFailed => v1::rollback::Outcome::RevertFailed,
        rollback::Outcome::NeedsOperator => v1::rollback::Outcome::NeedsOperator,
    }
}

/// Why a rollback stands where it stands. What a person did is CANCELLED; all else is a failure.
fn cause(phase: &rollback::Phase) -> Option<v1::Failure> {
    let person = |what: &str, who: &str, next: &str| {
        Some(convert::failure(Reason::Cancelled, format!("{what} by {who}"), next))
    };
    match phase {
        rollback::Phase::Running { direction: Direction::Forward } => None,
        rollback::Phase::Running { direction: Direction::Back(cause) } => Some(failure(&cause.failure)),
        rollback::Phase::Paused { cause: PauseCause::Person(who), .. } => {
            person("paused", who, "go on with: rfs rollback resume ID")
        }
        rollback::Phase::Paused { cause: PauseCause::Failed(cause), .. } => Some(failure(&cause.failure)),
        rollback::Phase::Paused { cause: PauseCause::Rewound(text), .. } => {
            Some(failure(&Failure::new(Reason::StoreRewound, text.clone())))
        }
        rollback::Phase::Aborting { by } => person("ended", by, ""),
        rollback::Phase::Finished { cause, .. } => cause.as_ref().map(failure),
    }
}

fn wave(rollback: &Rollback, index: WaveIndex, far: &Far, outside: &Outside) -> v1::Wave {
    let planned = &rollback.plan.waves[index.get()];
    let hosts = planned.hosts.iter().filter_map(|host| Some((host, rollback.hosts.get(host)?)));
    v1::Wave {
        hosts: hosts.map(|(host, record)| progress(rollback.id, host, record, far.get(host))).collect(),
        ..wave_head(rollback, index, outside)
    }
}

/// A wave without its hosts.
pub(super) fn wave_head(rollback: &Rollback, index: WaveIndex, outside: &Outside) -> v1::Wave {
    let (planned, record) = (&rollback.plan.waves[index.get()], &rollback.waves[index.get()]);
    let state = match rollback.wave_state(index) {
        WaveState::Pending => v1::wave::State::Pending,
        WaveState::Changing => v1::wave::State::Changing,
        WaveState::Watching => v1::wave::State::Watching,
        WaveState::Passed => v1::wave::State::Passed,
        WaveState::Failed => v1::wave::State::Failed,
    };
    v1::Wave {
        index: index.0 + 1,
        canary: planned.canary,
        state: state.into(),
        hosts: Vec::new(),
        start_time: record.started_at.map(to_wire_time),
        verdict_time: record.passed_at.or(record.failed_at).map(to_wire_time),
        waits_for: waits_for(rollback, index, outside),
    }
}

/// What the wave that runs, or goes back, waits for.
fn waits_for(rollback: &Rollback, index: WaveIndex, outside: &Outside) -> String {
    let held = || rollback.held_up(outside).first().map(|held| format!("; {held}")).unwrap_or_default();
    if let Some(back) = rollback.waits_on_the_way_back(index) {
        return back + &held();
    }
    if outside.unknown && rollback.wave == Some(index) && rollback.outcome().is_none() {
        return "all hosts to connect again that were connected before the coordinator restarted (20s at most), and for its other operations to be read".to_owned();
    }
    let runs = matches!(rollback.phase, rollback::Phase::Running { direction: Direction::Forward });
    // The gate looks at every host, so only the one that is shown is asked.
    let shown = runs && rollback.wave == Some(index);
    match shown.then(|| rollback.present_gate()).flatten() {
        Some(Gate::Hold(hold)) => match rollback.waits_for_absent(index, hold) {
            Some(absent) => absent + &held(),
            None => hold.to_string() + &held(),
        },
        Some(Gate::Pass | Gate::TooManyFailed { .. } | Gate::TooFewHealthy { .. }) | None => String::new(),
    }
}

/// A host of a rollback. What is equal is shown alike.
pub(super) fn progress(
    of: RollbackId,
    host: &HostId,
    record: &rollback::HostRecord,
    far: Option<&Progress>,
) -> v1::HostProgress {
    use rollback::HostPhase as P;
    let state = match record.phase {
        P::Untouched if record.attempt == 1 => host_progress::State::Untouched,
        P::Untouched | P::Again => host_progress::State::Waiting,
        P::Skipped => host_progress::State::Skipped,
        P::Superseded => host_progress::State::Superseded,
        P::Applying { .. } => host_progress::State::Applying,
        P::Applied { .. } => host_progress::State::Applied,
        P::Passed { .. } => host_progress::State::Passed,
        P::Unhealthy => host_progress::State::Unhealthy,
        P::Unchanged if record.refuses() => host_progress::State::Refused,
        P::Unchanged => host_progress::State::Unchanged,
        P::Lost => host_progress::State::Lost,
        P::Cancelling { .. } | P::Reverting { .. } => host_progress::State::Reverting,
        P::Reverted => host_progress::State::Reverted,
        P::RevertFailed => host_progress::State::RevertFailed,
        P::Inconsistent => host_progress::State::Inconsistent,
    };
    let receipt = record.receipt.as_ref();
    let phase_times = receipt.into_iter().flat_map(|receipt| &receipt.phases);
    let shown = v1::HostProgress {
        host: host.to_string(),
        state: state.into(),
        snapshot: record.target.to_string(),
        backup: record.backup.map(|backup| backup.to_string()).unwrap_or_default(),
        generation: record.generation.0,
        attempt: record.attempt,
        health: v1::Health::from(record.health.health).into(),
        health_time: Some(to_wire_time(record.health.since)),
        evidence: record.health.evidence.clone(),
        start_time: record.started_at.map(to_wire_time),
        finish_time: record.finished_at.map(to_wire_time),
        downtime: receipt.map(|receipt| to_wire_duration(receipt.downtime)),
        phases: phase_times
            .map(|time| v1::PhaseTime {
                phase: time.phase.clone(),
                duration: Some(to_wire_duration(time.duration)),
            })
            .collect(),
        steps: receipt.map_or(0, |receipt| receipt.steps),
        bytes: receipt.map_or(0, |receipt| receipt.bytes.0),
        failure: record.failure.as_ref().map(|told| failure_in(of, host, told)),
        phase: far.filter(|_| record.phase.at_work()).map(|far| far.phase.clone()).unwrap_or_default(),
        ..Default::default()
    };
    with_findings(shown, record)
}

/// A host's failure in a rollback: what it says is to be done there can be typed.
fn failure_in(of: RollbackId, host: &HostId, told: &Failure) -> v1::Failure {
    let shown = failure_of(host, told);
    let next = shown.next.replace(rfs_link::status::RETRY, &format!("rfs rollback retry {of} --host {host}"));
    v1::Failure { next, ..shown }
}

/// A failure, with the table's next step where the place that failed knew none.
fn failure(failure: &Failure) -> v1::Failure {
    let told = rfs_link::Failure::new(failure.reason, failure.message.clone());
    let next = if failure.next.is_empty() { told.next_step() } else { &failure.next };
    convert::failure(failure.reason, &failure.message, next)
}

/// A failure of one host. What is to be done about it is to be typed, and so names the host.
fn failure_of(host: &HostId, told: &Failure) -> v1::Failure {
    let mut shown = failure(told);
    if told.next.is_empty() {
        shown.next = shown.next.replace("NAME", host.as_str());
    }
    shown
}

/// The hosts that a plan leaves out, with the reason.
pub(super) fn left_out(plan: &Plan) -> HashMap<String, String> {
    plan.left_out.iter().map(|(host, why)| (host.to_string(), why.clone())).collect()
}

/// The waves of a plan that has not begun.
pub(super) fn planned_waves(plan: &Plan) -> Vec<v1::Wave> {
    let host = |host: &HostId| v1::HostProgress {
        host: host.to_string(),
        state: host_progress::State::Untouched.into(),
        snapshot: plan.targets.get(host).map(ToString::to_string).unwrap_or_default(),
        ..Default::default()
    };
    let wave = |(wave, index): (&rfs_rollout::plan::Wave, u32)| v1::Wave {
        index: index + 1,
        canary: wave.canary,
        state: v1::wave::State::Pending.into(),
        hosts: wave.hosts.iter().map(host).collect(),
        ..Default::default()
    };
    plan.waves.iter().zip(0..).map(wave).collect()
}

/// What was asked, with every default as it was applied.
pub(super) fn spec(request: &RollbackRequest) -> v1::RollbackSpec {
    let policy = &request.policy;
    let (strategy, waves) = match &request.strategy {
        Strategy::Immediate => (rollback_spec::Strategy::Immediate, None),
        Strategy::Gradual(waves) => (rollback_spec::Strategy::Gradual, Some(self::waves(waves))),
    };
    let on_failure = match policy.on_failure {
        OnFailure::Pause => rollback_spec::FailureAction::Pause,
        OnFailure::Continue => rollback_spec::FailureAction::Continue,
        OnFailure::Revert => rollback_spec::FailureAction::Revert,
    };
    let on_unreachable = match policy.on_unreachable {
        OnUnreachable::Fail => rollback_spec::UnreachableAction::Fail,
        OnUnreachable::Wait => rollback_spec::UnreachableAction::Wait,
        OnUnreachable::Skip => rollback_spec::UnreachableAction::Skip,
    };
    let budgets = policy.budgets.iter().map(|budget| v1::Budget {
        group_by: budget.group_by.clone().unwrap_or_default(),
        max_unavailable: Some(amount(budget.max_unavailable)),
    });
    v1::RollbackSpec {
        checkpoint: match request.source {
            Source::Checkpoint(id) => convert::checkpoint_name(id),
            Source::Undo(_) => String::new(),
        },
        selector: Some((&request.selector).into()),
        selection: Some(wire_selection(&request.selection)),
        strategy: strategy.into(),
        waves,
        gate: Some(v1::GatePolicy {
            min_healthy_time: Some(to_wire_duration(policy.gate.min_healthy_time)),
            healthy_deadline: Some(to_wire_duration(policy.gate.healthy_deadline)),
            healthy: policy.gate.healthy.map(amount),
            max_failed: Some(policy.gate.max_failed),
            ignore_health: Some(policy.gate.ignore_health),
        }),
        on_failure: on_failure.into(),
        on_unreachable: on_unreachable.into(),
        max_rollback_time: Some(to_wire_duration(policy.max_rollback_time)),
        budgets: budgets.collect(),
        max_duration: Some(to_wire_duration(policy.max_duration)),
        unreachable_after: Some(to_wire_duration(policy.unreachable_after)),
        max_pause: Some(to_wire_duration(policy.max_pause)),
        choices: (!request.choices.is_empty()).then(|| wire_choices(&request.choices)),
    }
}

fn waves(waves: &rfs_rollout::Waves) -> v1::WavePolicy {
    let (canary_hosts, canary) = match &waves.canary {
        Canary::None => (Vec::new(), None),
        Canary::Hosts(hosts) => (hosts.iter().map(ToString::to_string).collect(), None),
        Canary::Selector(selector) => (selector.hosts.iter().map(ToString::to_string).collect(), None),
        Canary::Amount(size) => (Vec::new(), Some(amount(*size))),
    };
    let order = waves.order.iter();
    v1::WavePolicy {
        canary_hosts,
        canary,
        sizes: waves.sizes.iter().copied().map(amount).collect(),
        order: order
            .map(|o| v1::Order { before: o.before.to_string(), after: o.after.to_string() })
            .collect(),
    }
}

fn amount(size: Amount) -> v1::Amount {
    v1::Amount {
        amount: Some(match size {
            Amount::Count(count) => amount::Amount::Count(count),
            Amount::Percent(percent) => amount::Amount::Percent(percent),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::rollback_request;
    use super::*;

    #[test]
    fn a_spec_reads_back_as_it_is_shown() {
        let size = |percent| v1::Amount { amount: Some(amount::Amount::Percent(percent)) };
        let spec = v1::RollbackSpec {
            checkpoint: "checkpoints/0193b5a0-0000-7000-8000-000000000001".into(),
            selector: Some(v1::Selector { hosts: vec!["web-1".into()], ..Default::default() }),
            selection: Some(v1::Selection {
                components: vec!["site".into()],
                paths: vec!["/srv/site/a".into()],
            }),
            waves: Some(v1::WavePolicy {
                canary: Some(size(5)),
                sizes: vec![size(25), size(50)],
                order: vec![v1::Order { before: "role=db".into(), after: "role=web".into() }],
                ..Default::default()
            }),
            gate: Some(v1::GatePolicy { healthy: Some(size(90)), max_failed: Some(2), ..Default::default() }),
            choices: Some(v1::RestoreChoices {
                keep: vec!["up/**".into()],
                accept_loss: vec!["/srv/old".into()],
                force_stop: true,
            }),
            on_failure: rollback_spec::FailureAction::Revert.into(),
            on_unreachable: rollback_spec::UnreachableAction::Skip.into(),
            budgets: vec![v1::Budget { group_by: "zone".into(), max_unavailable: Some(size(10)) }],
            ..Default::default()
        };
        let read = |spec| rollback_request(spec, "why".into(), "operator/alice".into()).expect("a good spec");
        let request = read(spec);
        assert_eq!(read(super::spec(&request)), request);
    }
}
