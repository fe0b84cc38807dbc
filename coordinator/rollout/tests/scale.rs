//! Ten thousand hosts cost ten times what a thousand do, not a hundred times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rfs_model::{Digest, Generation, Health, HostId, RollbackId, Selector, SnapshotId, Standing, Timestamp};
use rfs_rollout::rollback::{Created, Outcome, RollbackEvent};
use rfs_rollout::{
    Admission, Amount, Answer, Budget, Command, Draft, Event, FleetView, GENERATIONS, HostView, Operation,
    Policy, Presence, Report, Restored, RollbackRequest, Selection, Source, StepKind, Strategy, plan,
};
use uuid::Uuid;

/// Rolls `count` hosts in 50 zones back at once, with all their answers in one batch, and says how long that took.
fn roll_back(count: u32) -> Duration {
    let id = RollbackId::from_uuid(Uuid::nil());
    let mut view = FleetView::default();
    for n in 0..count {
        let host: HostId = format!("h-{n}").parse().expect("a valid name");
        view.targets.insert(host.clone(), SnapshotId(Digest::from_bytes([1; 32])));
        let labels = [("zone".to_owned(), format!("z{}", n % 50))].into();
        view.hosts.insert(host, HostView { labels, unchecked: false });
    }
    let request = RollbackRequest {
        source: Source::Undo(id),
        selector: Selector::default(),
        selection: Selection::default(),
        strategy: Strategy::Immediate,
        policy: Policy {
            budgets: vec![Budget { group_by: Some("zone".into()), max_unavailable: Amount::Percent(100) }],
            ..Policy::default()
        },
        reason: String::new(),
        requester: "operator/alice".into(),
    };
    let started = Instant::now();
    let plan = plan(&request, &view).expect("a plan");
    let mut generation = 1;
    let mut admission = || {
        generation += GENERATIONS;
        let presence = Presence { connected: true, health: Health::Good, ..Presence::absent(Timestamp(0)) };
        Admission { generation: Generation(generation), presence }
    };
    let hosts: BTreeMap<HostId, Admission> =
        plan.targets.keys().map(|host| (host.clone(), admission())).collect();
    let at = Timestamp(1_000);
    let created = Event::Rollback(RollbackEvent::Created {
        at,
        created: Box::new(Created { id, request, plan, hosts: hosts.clone() }),
    });
    let mut operation = Operation::begin(&created).expect("a creation");
    let mut history = vec![created];
    let mut take = |commands: Vec<Command>, now: Timestamp, operation: Operation| {
        let mut draft = Draft::of(operation);
        for command in &commands {
            draft.handle(command, now).expect("hosts are never refused");
        }
        draft.settle(now);
        let (operation, events) = draft.into_parts();
        history.extend(events);
        operation
    };
    operation = take(vec![Command::Tick], at, operation);
    assert_eq!(operation.wanted().commands.len(), count as usize);
    let report = |(host, admission): (&HostId, &Admission)| {
        Command::Report(Report {
            host: host.clone(),
            instance: None,
            operation: id.into(),
            generation: admission.generation,
            step: StepKind::Apply,
            answer: Answer::Restored(Restored {
                standing: Standing::Target,
                backup: Some(SnapshotId(Digest::from_bytes([2; 32]))),
                downtime: Duration::ZERO,
                phases: Vec::new(),
                steps: 1,
                bytes: Default::default(),
                failure: None,
                restore: None,
            }),
            newest: admission.generation,
        })
    };
    operation = take(hosts.iter().map(report).collect(), at.plus(Duration::from_secs(1)), operation);
    operation = take(vec![Command::Tick], at.plus(Duration::from_secs(11)), operation);
    let Operation::Rollback(rollback) = &operation else { panic!("a rollback") };
    assert_eq!(rollback.outcome(), Some(Outcome::Succeeded));
    assert_eq!(Operation::replay(&history).as_ref(), Ok(&operation));
    started.elapsed()
}

#[test]
fn the_cost_of_a_rollback_grows_with_the_fleet_and_not_with_its_square() {
    let small = (0..3).map(|_| roll_back(1_000)).min().expect("three runs");
    let large = (0..3).map(|_| roll_back(10_000)).min().expect("three runs");
    println!("1,000 hosts: {small:?}; 10,000 hosts: {large:?}");
    assert!(large < small * 40, "1,000 hosts took {small:?}, 10,000 took {large:?}");
}
