//! Stored events keep their shape: what an earlier version wrote is read by this one, and this one writes the same.
//!
//! `golden/v1.jsonl` has a line for each event. A new event gets a new line; a line that is there never changes. A field that
//! is added later must have a default, so that the old line still reads.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{
    ByteCount, CheckpointId, ComponentName, DeploymentId, Digest, Generation, Health, HostId, Labels, Reason,
    RollbackId, Selector, SnapshotId, Standing, Timestamp,
};
use rfs_rollout::checkpoint::{self, CheckpointEvent};
use rfs_rollout::plan::{BudgetGroup, Wave, WaveIndex};
use rfs_rollout::rollback::{self, Cause, PauseCause, RollbackEvent};
use rfs_rollout::{
    Admission, Amount, Answer, Budget, Canary, Captured, CheckpointKind, CheckpointRequest, Envelope, Event,
    Failure, GatePolicy, OnFailure, OnUnreachable, Order, PhaseTime, Plan, Policy, Presence, Restored,
    RollbackRequest, Selection, Source, StepKind, Strategy, Waves,
};
use uuid::Uuid;

const GOLDEN: &str = include_str!("golden/v1.jsonl");

fn host(name: &str) -> HostId {
    name.parse().expect("a valid name")
}

fn snapshot(byte: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([byte; 32]))
}

fn failure() -> Failure {
    Failure::new(Reason::Unhealthy, "GET / answered 503").next("look at its log")
}

fn admission() -> Admission {
    let presence = Presence {
        connected: true,
        health: Health::Good,
        evidence: "200".into(),
        ..Presence::absent(Timestamp(5))
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
        offered: 0,
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
        restore: None,
    };
    let back =
        Restored { standing: Standing::Before, backup: None, failure: Some(failure()), ..restored.clone() };
    let captured = Captured {
        snapshot: snapshot(1),
        cut_at: at,
        bytes: ByteCount(10),
        new_bytes: ByteCount(3),
        entries: 2,
    };
    let said = |step, answer| RollbackEvent::HostReported { at, host: web(), step, answer };
    let told = |step, answer| CheckpointEvent::HostReported { at, host: web(), step, answer };
    let health = Health::Unknown;
    let rollback = vec![
        RollbackEvent::Created { at, created: Box::new(rollback_created()) },
        RollbackEvent::HostConnected { at, host: web(), instance: None },
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
        RollbackEvent::WaveStarted { at, wave },
        RollbackEvent::HostStarted { at, host: web(), generation, deadline },
        said(StepKind::Apply, Answer::Restored(restored)),
        said(StepKind::Revert, Answer::Restored(back)),
        said(StepKind::Cancel, Answer::Finished),
        said(StepKind::Apply, Answer::Refused(failure())),
        RollbackEvent::HostPassed { at, host: web() },
        RollbackEvent::HostFailed { at, host: web(), failure: failure() },
        RollbackEvent::HostLost { at, host: web() },
        RollbackEvent::HostSkipped { at, host: web(), generation },
        RollbackEvent::HostSuperseded { at, host: web() },
        RollbackEvent::Undone { at, by: rollback_created().id },
        RollbackEvent::WavePassed { at, wave, healthy: 1, failed: 0, promoted_by: None },
        RollbackEvent::WavePassed { at, wave, healthy: 1, failed: 0, promoted_by: Some(by()) },
        RollbackEvent::WaveFailed { at, wave, hosts: vec![web()], failure: failure() },
        RollbackEvent::Paused { at, cause: PauseCause::Person(by()) },
        RollbackEvent::Paused { at, cause: PauseCause::Failed(cause()) },
        RollbackEvent::Resumed { at, by: by() },
        RollbackEvent::Promoted { at, by: by() },
        RollbackEvent::Aborted { at, by: by() },
        RollbackEvent::RevertStarted { at, cause: cause() },
        RollbackEvent::HostReverting { at, host: web(), generation, deadline },
        RollbackEvent::HostReverted { at, host: web() },
        RollbackEvent::Finished { at, outcome: rollback::Outcome::NeedsOperator, cause: Some(failure()) },
        RollbackEvent::Finished { at, outcome: rollback::Outcome::Succeeded, cause: None },
    ];
    let skew = Duration::from_millis(4);
    let checkpoint = vec![
        CheckpointEvent::Created { at, created: Box::new(checkpoint_created()) },
        CheckpointEvent::HostConnected { at, host: web(), instance: None },
        CheckpointEvent::HostDisconnected { at, host: web() },
        told(StepKind::Prepare, Answer::Prepared),
        told(StepKind::Cut, Answer::Captured(captured)),
        told(StepKind::Finish, Answer::Finished),
        told(StepKind::Abandon, Answer::Failed(failure())),
        CheckpointEvent::HostFailed { at, host: web(), failure: failure() },
        CheckpointEvent::CutStarted { at },
        CheckpointEvent::FinishStarted { at, deadline },
        CheckpointEvent::Aborted { at, by: by() },
        CheckpointEvent::Finished { at, outcome: checkpoint::Outcome::Complete, skew },
    ];
    let rollback = rollback.into_iter().map(Event::Rollback);
    rollback.chain(checkpoint.into_iter().map(Event::Checkpoint)).collect()
}

#[test]
fn every_event_is_written_as_it_always_was_and_read_back() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    for (i, event) in samples().into_iter().enumerate() {
        let envelope = Envelope::new(event);
        let written = serde_json::to_string(&envelope).expect("an event is JSON");
        let Some(line) = lines.get(i) else { panic!("golden/v1.jsonl needs a line {}:\n{written}", i + 1) };
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
    };
    let seen: BTreeSet<u32> = samples().iter().map(number).collect();
    assert_eq!(seen, (0..=31).collect());
}
