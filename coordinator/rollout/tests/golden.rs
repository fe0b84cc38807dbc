//! Stored events keep their shape: what an earlier version wrote is read by this one.
//!
//! `golden/v2.jsonl` has a line for each event as this version writes it. A new event gets a new line; a line that is there
//! never changes. A field that is added later must have a default, so that the old line still reads. `golden/v1.jsonl` is what
//! the first version wrote; nobody writes that any more.
//!
//! `golden/history-*.jsonl` are whole histories as the first version stored them (commit 8db6b21), and beside each one, line by
//! line, the state that it led to: where each host stands, the whole, what was accepted, what was sent, and what was due.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{
    ByteCount, CheckpointId, ComponentName, DeploymentId, Digest, Generation, Health, HostId, InstanceId,
    Labels, Reason, RestoreNumber, RollbackId, Selector, SnapshotId, Standing, Timestamp,
};
use rfs_rollout::checkpoint::{self, CheckpointEvent};
use rfs_rollout::plan::{BudgetGroup, Wave, WaveIndex};
use rfs_rollout::rollback::{self, Cause, PauseCause, RollbackEvent};
use rfs_rollout::{
    Admission, Amount, Answer, Budget, Canary, Captured, CheckpointKind, CheckpointRequest, Choices,
    Envelope, Event, Failure, Findings, GatePolicy, Listed, OnFailure, OnUnreachable, Operation, Order,
    PhaseTime, Plan, Policy, Presence, Restored, RollbackRequest, Selection, Source, StepKind, Strategy,
    Waves,
};
use uuid::Uuid;

const GOLDEN: &str = include_str!("golden/v2.jsonl");
/// As the first version wrote them.
const FIRST: &str = include_str!("golden/v1.jsonl");

/// Whole histories, and the state after each event.
const HISTORIES: &[(&str, &str, &str)] = &[
    (
        "succeeded",
        include_str!("golden/history-succeeded.jsonl"),
        include_str!("golden/history-succeeded.states"),
    ),
    ("resumed", include_str!("golden/history-resumed.jsonl"), include_str!("golden/history-resumed.states")),
    ("skipped", include_str!("golden/history-skipped.jsonl"), include_str!("golden/history-skipped.states")),
    (
        "reverted",
        include_str!("golden/history-reverted.jsonl"),
        include_str!("golden/history-reverted.states"),
    ),
    (
        "promoted",
        include_str!("golden/history-promoted.jsonl"),
        include_str!("golden/history-promoted.states"),
    ),
    ("running", include_str!("golden/history-running.jsonl"), include_str!("golden/history-running.states")),
];

fn host(name: &str) -> HostId {
    name.parse().expect("a valid name")
}

fn snapshot(byte: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([byte; 32]))
}

fn instance() -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(3))
}

fn failure() -> Failure {
    Failure::new(Reason::Unhealthy, "GET / answered 503").next("look at its log")
}

fn admission() -> Admission {
    let presence = Presence {
        connected: true,
        health: Health::Good,
        since: Timestamp(5),
        evidence: "200".into(),
        after: Some(RestoreNumber(2)),
        instance: Some(instance()),
        unseen_for: None,
    };
    Admission { generation: Generation(9), presence }
}

fn labels() -> Labels {
    [("role".to_owned(), "web".to_owned())].into()
}

fn rollback_created() -> rollback::Created {
    let gate = GatePolicy { healthy: Some(Amount::Percent(90)), max_failed: 1, ..GatePolicy::default() };
    let budgets = vec![Budget { group_by: Some("zone".into()), max_unavailable: Amount::Count(1) }];
    let request = RollbackRequest {
        source: Source::Checkpoint(CheckpointId::from_uuid(Uuid::from_u128(1))),
        selector: Selector { hosts: BTreeSet::from([host("web-1")]), labels: labels() },
        selection: Selection {
            components: BTreeSet::from(["site".parse::<ComponentName>().expect("a valid name")]),
            paths: BTreeSet::from(["/srv/site/index.html".to_owned()]),
        },
        choices: Choices::default(),
        strategy: Strategy::Gradual(Waves {
            canary: Canary::Hosts(BTreeSet::from([host("web-1")])),
            sizes: vec![Amount::Count(2), Amount::Percent(50)],
            order: Order::list("role", &["db", "web"]),
        }),
        policy: Policy {
            gate,
            on_failure: OnFailure::Revert,
            on_unreachable: OnUnreachable::Skip,
            budgets,
            ..Policy::default()
        },
        reason: "release 7 is bad".into(),
        requester: "operator/alice".into(),
    };
    let plan = Plan {
        waves: vec![Wave { hosts: vec![host("web-1")], canary: true, order_group: 0 }],
        targets: [(host("web-1"), snapshot(1))].into(),
        offered: 2,
        groups: vec![BudgetGroup { name: "zone=a".into(), limit: 1, hosts: BTreeSet::from([host("web-1")]) }],
        left_out: [(host("web-2"), "checkpoint has nothing for it".to_owned())].into(),
    };
    let hosts = [(host("web-1"), admission())].into();
    rollback::Created { id: RollbackId::from_uuid(Uuid::from_u128(2)), request, plan, hosts }
}

fn checkpoint_created() -> checkpoint::Created {
    let request = CheckpointRequest {
        kind: CheckpointKind::Automatic,
        selector: Selector::default(),
        quiesce_timeout: None,
        allow_missing: None,
        components: BTreeSet::new(),
        deployment: Some(DeploymentId::new("release-7").expect("a valid id")),
        labels: labels(),
        reason: "before release 7".into(),
        requester: "operator/ci".into(),
        timeout: Duration::from_secs(300),
    };
    let hosts = [(host("web-1"), admission())].into();
    checkpoint::Created { id: CheckpointId::from_uuid(Uuid::from_u128(1)), request, hosts }
}

/// A checkpoint that may lack hosts, of which one may be gone.
fn checkpoint_without_some() -> checkpoint::Created {
    let mut created = checkpoint_created();
    created.request.allow_missing = Some(Amount::Percent(10));
    created.request.quiesce_timeout = Some(Duration::from_secs(10));
    for admission in created.hosts.values_mut() {
        let unseen_for = Some(Duration::from_secs(3_888_000));
        admission.presence = Presence { unseen_for, ..Presence::absent(Timestamp(5)) };
    }
    created
}

/// One of each event, and one of each answer.
fn samples() -> Vec<Event> {
    let at = Timestamp(1_764_000_000_123);
    let deadline = Timestamp(1_764_000_300_123);
    let generation = Generation(9);
    let wave = WaveIndex(0);
    let by = || "operator/bob".to_owned();
    let web = || host("web-1");
    let cause = || Cause { wave, failure: failure() };
    let restored = Restored {
        standing: Standing::Target,
        backup: Some(snapshot(2)),
        downtime: Duration::from_millis(312),
        phases: vec![PhaseTime { phase: "flip".into(), duration: Duration::from_millis(7) }],
        steps: 12,
        bytes: ByteCount(4096),
        failure: None,
        restore: Some(RestoreNumber(3)),
        findings: None,
    };
    let lost = Listed { count: 2, bytes: ByteCount(7), first: vec!["/srv/site/new.html".into()] };
    let kept = "/srv/up/a is not in the snapshot and is kept".to_owned();
    let findings = Some(Box::new(Findings { lost, notes: vec![kept], ..Findings::default() }));
    let lossy = Restored { findings, ..restored.clone() };
    let choices = Choices {
        keep: BTreeSet::from(["up/**".to_owned()]),
        accept_loss: BTreeSet::from(["/srv/site/old".to_owned()]),
        force_stop: true,
    };
    let mut created = rollback_created();
    created.request.choices = choices.clone();
    let back =
        Restored { standing: Standing::Before, backup: None, failure: Some(failure()), ..restored.clone() };
    let captured = Captured {
        snapshot: snapshot(1),
        cut_at: at,
        bytes: ByteCount(10),
        new_bytes: ByteCount(3),
        entries: 2,
        notes: Vec::new(),
    };
    let said = |step, answer| RollbackEvent::HostReported { at, host: web(), step, answer };
    let told = |step, answer| CheckpointEvent::HostReported { at, host: web(), step, answer };
    let health = Health::Unknown;
    let rollback = vec![
        RollbackEvent::Created { at, created: Box::new(rollback_created()) },
        RollbackEvent::Created { at, created: Box::new(created) },
        RollbackEvent::Listening { at, from: Timestamp(6) },
        RollbackEvent::HostConnected { at, host: web(), instance: None, accepted: None },
        RollbackEvent::HostConnected { at, host: web(), instance: Some(instance()), accepted: None },
        RollbackEvent::HostConnected { at, host: web(), instance: None, accepted: Some(Generation(9)) },
        RollbackEvent::HostsBack { at, hosts: vec![web()] },
        RollbackEvent::HealthUnchanged { at, hosts: vec![web()] },
        RollbackEvent::HostReplaced { at, host: web(), instance: instance() },
        RollbackEvent::HostContested { at, host: web(), text: "two machines speak for it".into() },
        RollbackEvent::HostOvertaken { at, host: web(), failure: failure() },
        RollbackEvent::HostDisconnected { at, host: web() },
        RollbackEvent::HealthChanged {
            at,
            host: web(),
            health,
            since: Timestamp(7),
            evidence: "no answer".into(),
            after: None,
            measured_at: None,
        },
        RollbackEvent::HealthChanged {
            at,
            host: web(),
            health: Health::Good,
            since: Timestamp(7),
            evidence: "200".into(),
            after: Some(RestoreNumber(3)),
            measured_at: Some(Timestamp(9)),
        },
        RollbackEvent::WaveStarted { at, wave },
        RollbackEvent::HostStarted { at, host: web(), generation, deadline },
        said(StepKind::Apply, Answer::Restored(restored)),
        said(StepKind::Apply, Answer::Restored(lossy)),
        said(StepKind::Revert, Answer::Restored(back)),
        said(StepKind::Cancel, Answer::Finished),
        said(StepKind::Apply, Answer::Refused(failure())),
        RollbackEvent::HostPassed { at, host: web() },
        RollbackEvent::HostFailed { at, host: web(), failure: failure() },
        RollbackEvent::HostLost { at, host: web() },
        RollbackEvent::HostSkipped { at, host: web(), generation },
        RollbackEvent::Retried { at, by: by(), hosts: vec![web()], choices: Choices::default() },
        RollbackEvent::Retried { at, by: by(), hosts: vec![web()], choices },
        RollbackEvent::HostReturned { at, host: web() },
        RollbackEvent::HostGranted { at, host: web(), generation },
        RollbackEvent::Withdrawn { at, by: by(), hosts: None },
        RollbackEvent::Withdrawn { at, by: by(), hosts: Some(BTreeSet::from([web()])) },
        RollbackEvent::HostSuperseded { at, host: web() },
        RollbackEvent::HostForgotten { at, host: web() },
        RollbackEvent::Undone { at, by: rollback_created().id, hosts: None },
        RollbackEvent::WavePassed { at, wave, healthy: 1, failed: 0, promoted_by: None },
        RollbackEvent::WavePassed { at, wave, healthy: 1, failed: 0, promoted_by: Some(by()) },
        RollbackEvent::WaveFailed { at, wave, hosts: vec![web()], failure: failure() },
        RollbackEvent::Paused { at, cause: PauseCause::Person(by()) },
        RollbackEvent::Paused { at, cause: PauseCause::Failed(cause()) },
        RollbackEvent::Paused { at, cause: PauseCause::Rewound("the store was put back".into()) },
        RollbackEvent::Resumed { at, by: by() },
        RollbackEvent::Promoted { at, by: by() },
        RollbackEvent::Aborted { at, by: by() },
        RollbackEvent::RevertStarted { at, cause: cause() },
        RollbackEvent::HostAsked { at, host: web(), generation, deadline },
        RollbackEvent::HostReverting { at, host: web(), generation, deadline },
        RollbackEvent::HostReverted { at, host: web() },
        RollbackEvent::Finished { at, outcome: rollback::Outcome::NeedsOperator, cause: Some(failure()) },
        RollbackEvent::Finished { at, outcome: rollback::Outcome::Succeeded, cause: None },
    ];
    let skew = Duration::from_millis(4);
    let checkpoint = vec![
        CheckpointEvent::Created { at, created: Box::new(checkpoint_created()) },
        CheckpointEvent::Created { at, created: Box::new(checkpoint_without_some()) },
        CheckpointEvent::Listening { at, from: Timestamp(6) },
        CheckpointEvent::HostConnected { at, host: web(), instance: None },
        CheckpointEvent::HostConnected { at, host: web(), instance: Some(instance()) },
        CheckpointEvent::HostDisconnected { at, host: web() },
        told(StepKind::Prepare, Answer::Prepared),
        told(StepKind::Cut, Answer::Captured(captured)),
        told(StepKind::Finish, Answer::Finished),
        told(StepKind::Abandon, Answer::Failed(failure())),
        CheckpointEvent::HostFailed { at, host: web(), failure: failure() },
        CheckpointEvent::CutStarted { at },
        CheckpointEvent::FinishStarted { at, deadline },
        CheckpointEvent::Aborted { at, by: by() },
        CheckpointEvent::GivenUp { at, failure: failure() },
        CheckpointEvent::Finished { at, outcome: checkpoint::Outcome::Complete, skew },
        CheckpointEvent::Finished { at, outcome: checkpoint::Outcome::Aborted, skew: Duration::ZERO },
        CheckpointEvent::Closed { at },
    ];
    let rollback = rollback.into_iter().map(Event::Rollback);
    rollback.chain(checkpoint.into_iter().map(Event::Checkpoint)).collect()
}

#[test]
fn every_event_is_written_as_it_was_and_read_back() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    for (i, event) in samples().into_iter().enumerate() {
        let envelope = Envelope::new(event);
        let written = serde_json::to_string(&envelope).expect("an event is JSON");
        let Some(line) = lines.get(i) else { panic!("golden/v2.jsonl needs a line {}:\n{written}", i + 1) };
        assert_eq!(written, *line, "line {}", i + 1);
        assert_eq!(
            serde_json::from_str::<Envelope>(line).expect("a stored event"),
            envelope,
            "line {}",
            i + 1
        );
    }
    assert_eq!(samples().len(), lines.len(), "a line without a sample");
}

#[test]
fn what_the_first_version_wrote_is_read_and_never_written_again() {
    for (i, line) in FIRST.lines().enumerate() {
        let envelope: Envelope =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("line {}: {error}", i + 1));
        assert_eq!(envelope.version, 1, "line {}", i + 1);
        let written = serde_json::to_string(&Envelope::new(envelope.event)).expect("an event is JSON");
        // Fields that this version added are left out where the first one said nothing, but for a bound.
        let written = written.replacen(",\"max_pause\":86400000", "", 1);
        assert_eq!(written, line.replacen("\"version\":1", "\"version\":2", 1), "line {}", i + 1);
    }
}

/// What there is to know of a state, in one line, as the first version wrote it down.
fn state(operation: &Operation) -> String {
    let Operation::Rollback(rollback) = operation else { panic!("a rollback") };
    let hosts = rollback.hosts.iter().map(|(name, host)| {
        let failure = host.failure.as_ref().map_or("-", |failure| failure.reason.as_str());
        let backup = host.backup.map_or("-".to_owned(), |backup| backup.0.short().to_string());
        format!("{name} {:?} {} {} {backup} {failure}", host.phase, host.connected, host.health.health)
    });
    let work = operation.wanted();
    let commands = work.commands.iter().map(|(name, command)| {
        format!("{name} {} {} by {}", command.step.kind(), command.generation, command.deadline.0)
    });
    let (hosts, commands): (Vec<_>, Vec<_>) = (hosts.collect(), commands.collect());
    let accepted: Vec<String> = rollback.acknowledged.iter().map(ToString::to_string).collect();
    format!(
        "{} | {:?} | accepted: {} | sent: {} | due: {:?}",
        hosts.join(", "),
        rollback.phase,
        accepted.join(" "),
        commands.join(", "),
        work.wake_at.map(|at| at.0)
    )
}

#[test]
fn a_history_of_the_first_version_replays_to_the_states_that_it_had() {
    for (name, history, states) in HISTORIES {
        let read = |line: &str| serde_json::from_str::<Envelope>(line).expect("a stored event").event;
        let events: Vec<Event> = history.lines().map(read).collect();
        assert_eq!(events.len(), states.lines().count(), "{name}");
        for (n, expected) in (1..).zip(states.lines()) {
            let operation = Operation::replay(&events[..n]).expect("a history");
            assert_eq!(state(&operation), expected, "{name}, after event {n}: {}", events[n - 1]);
        }
    }
}

/// Fails to compile when an event is added, and fails when it has no line.
#[test]
fn no_event_is_without_a_line() {
    let rollback = |event: &RollbackEvent| match event {
        RollbackEvent::Created { .. } => 0,
        RollbackEvent::HostConnected { .. } => 1,
        RollbackEvent::HostDisconnected { .. } => 2,
        RollbackEvent::HealthChanged { .. } => 3,
        RollbackEvent::WaveStarted { .. } => 4,
        RollbackEvent::HostStarted { .. } => 5,
        RollbackEvent::HostReported { .. } => 6,
        RollbackEvent::HostPassed { .. } => 7,
        RollbackEvent::HostFailed { .. } => 8,
        RollbackEvent::HostLost { .. } => 9,
        RollbackEvent::HostSkipped { .. } => 10,
        RollbackEvent::HostSuperseded { .. } => 11,
        RollbackEvent::WavePassed { .. } => 12,
        RollbackEvent::WaveFailed { .. } => 13,
        RollbackEvent::Paused { .. } => 14,
        RollbackEvent::Resumed { .. } => 15,
        RollbackEvent::Promoted { .. } => 16,
        RollbackEvent::Aborted { .. } => 17,
        RollbackEvent::RevertStarted { .. } => 18,
        RollbackEvent::HostReverting { .. } => 19,
        RollbackEvent::HostReverted { .. } => 20,
        RollbackEvent::Finished { .. } => 21,
        RollbackEvent::Undone { .. } => 31,
        RollbackEvent::Listening { .. } => 32,
        RollbackEvent::HostReplaced { .. } => 33,
        RollbackEvent::HostContested { .. } => 34,
        RollbackEvent::HostOvertaken { .. } => 35,
        RollbackEvent::Retried { .. } => 38,
        RollbackEvent::HostReturned { .. } => 39,
        RollbackEvent::HostGranted { .. } => 40,
        RollbackEvent::Withdrawn { .. } => 41,
        RollbackEvent::HostForgotten { .. } => 42,
        RollbackEvent::HostAsked { .. } => 44,
        RollbackEvent::HostsBack { .. } => 45,
        RollbackEvent::HealthUnchanged { .. } => 46,
    };
    let number = |event: &Event| match event {
        Event::Rollback(event) => rollback(event),
        Event::Checkpoint(CheckpointEvent::Created { .. }) => 22,
        Event::Checkpoint(CheckpointEvent::HostConnected { .. }) => 23,
        Event::Checkpoint(CheckpointEvent::HostDisconnected { .. }) => 24,
        Event::Checkpoint(CheckpointEvent::HostReported { .. }) => 25,
        Event::Checkpoint(CheckpointEvent::HostFailed { .. }) => 26,
        Event::Checkpoint(CheckpointEvent::CutStarted { .. }) => 27,
        Event::Checkpoint(CheckpointEvent::FinishStarted { .. }) => 28,
        Event::Checkpoint(CheckpointEvent::Aborted { .. }) => 29,
        Event::Checkpoint(CheckpointEvent::Finished { .. }) => 30,
        Event::Checkpoint(CheckpointEvent::Listening { .. }) => 36,
        Event::Checkpoint(CheckpointEvent::GivenUp { .. }) => 37,
        Event::Checkpoint(CheckpointEvent::Closed { .. }) => 43,
    };
    let seen: BTreeSet<u32> = samples().iter().map(number).collect();
    assert_eq!(seen, (0..=46).collect());
}
