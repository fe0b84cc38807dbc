//! Ten thousand hosts cost ten times what a thousand do, not a hundred times: a whole rollback, and each report of one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rfs_model::{Digest, Generation, Health, HostId, RollbackId, Selector, SnapshotId, Standing, Timestamp};
use rfs_rollout::rollback::{Created, Outcome, RollbackEvent};
use rfs_rollout::{
    Admission, Amount, Answer, Budget, Command, Draft, Event, FleetView, GENERATIONS, HostView, Operation,
    Policy, Presence, Report, Restored, RollbackRequest, Selection, Source, StepKind, Strategy, plan,
};
use uuid::Uuid;

const ID: RollbackId = RollbackId::from_uuid(Uuid::nil());
const AT: Timestamp = Timestamp(1_000);

/// The rollback of `count` hosts in so many zones, each of which may have that many unavailable, as it begins.
fn begin(count: u32, zones: u32, max_unavailable: Amount) -> (Event, BTreeMap<HostId, Admission>) {
    let mut view = FleetView::default();
    for n in 0..count {
        let host: HostId = format!("h-{n}").parse().expect("a valid name");
        view.targets.insert(host.clone(), SnapshotId(Digest::from_bytes([1; 32])));
        let labels = [("zone".to_owned(), format!("z{}", n % zones))].into();
        view.hosts.insert(host, HostView { labels, unchecked: false });
    }
    let request = RollbackRequest {
        source: Source::Undo(ID),
        selector: Selector::default(),
        selection: Selection::default(),
        strategy: Strategy::Immediate,
        policy: Policy {
            budgets: vec![Budget { group_by: Some("zone".into()), max_unavailable }],
            ..Policy::default()
        },
        reason: String::new(),
        requester: "operator/alice".into(),
    };
    let plan = plan(&request, &view).expect("a plan");
    let mut generation = 1;
    let mut admission = || {
        generation += GENERATIONS;
        let presence = Presence { connected: true, health: Health::Good, ..Presence::absent(Timestamp(0)) };
        Admission { generation: Generation(generation), presence }
    };
    let hosts: BTreeMap<HostId, Admission> =
        plan.targets.keys().map(|host| (host.clone(), admission())).collect();
    let created = Box::new(Created { id: ID, request, plan, hosts: hosts.clone() });
    (Event::Rollback(RollbackEvent::Created { at: AT, created }), hosts)
}

/// The host is at its target.
fn report((host, admission): (&HostId, &Admission)) -> Command {
    Command::Report(Report {
        host: host.clone(),
        instance: None,
        operation: ID.into(),
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
}

/// Takes commands as a driver does.
fn take(commands: &[Command], now: Timestamp, operation: Operation) -> (Operation, Vec<Event>) {
    let mut draft = Draft::of(operation);
    for command in commands {
        draft.handle(command, now).expect("hosts are never refused");
    }
    draft.settle(now);
    draft.into_parts()
}

/// Rolls `count` hosts in 50 zones back at once, with all their answers in one batch, and says how long that took.
fn roll_back(count: u32) -> Duration {
    let started = Instant::now();
    let (created, hosts) = begin(count, 50, Amount::Percent(100));
    let mut operation = Operation::begin(&created).expect("a creation");
    let mut history = vec![created];
    let mut take = |commands: Vec<Command>, now: Timestamp, operation: Operation| {
        let (operation, events) = take(&commands, now, operation);
        history.extend(events);
        operation
    };
    operation = take(vec![Command::Tick], AT, operation);
    assert_eq!(operation.wanted().commands.len(), count as usize);
    operation = take(hosts.iter().map(report).collect(), AT.plus(Duration::from_secs(1)), operation);
    operation = take(vec![Command::Tick], AT.plus(Duration::from_secs(11)), operation);
    let Operation::Rollback(rollback) = &operation else { panic!("a rollback") };
    assert_eq!(rollback.outcome(), Some(Outcome::Succeeded));
    assert_eq!(Operation::replay(&history).as_ref(), Ok(&operation));
    started.elapsed()
}

/// Rolls `count` hosts in racks of five back, one of each rack at a time, and says how long one report takes, from what the
/// driver holds to what it sends: while all other hosts wait for their racks.
fn report_in_racks(count: u32) -> Duration {
    let (created, hosts) = begin(count, count / 5, Amount::Count(1));
    let operation = Operation::begin(&created).expect("a creation");
    let (mut operation, _) = take(&[Command::Tick], AT, operation);
    let commands = operation.wanted().commands;
    assert_eq!(commands.len(), count as usize / 5, "one of each rack");
    let mut times = Vec::new();
    for (second, host) in (1..=40).zip(commands.keys()) {
        let report = report((host, &hosts[host]));
        let now = AT.plus(Duration::from_secs(second));
        let started = Instant::now();
        let (after, events) = take(&[report], now, operation.clone());
        let work = after.wanted();
        times.push(started.elapsed());
        assert!(!events.is_empty() && work.wake_at.is_some());
        operation = after;
    }
    let Operation::Rollback(rollback) = &operation else { panic!("a rollback") };
    let begun = rollback.hosts.values().filter(|host| host.started_at.is_some()).count();
    assert!(begun > commands.len(), "each that has passed makes room in its rack");
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn the_cost_of_a_rollback_grows_with_the_fleet_and_not_with_its_square() {
    let small = (0..3).map(|_| roll_back(1_000)).min().expect("three runs");
    let large = (0..3).map(|_| roll_back(10_000)).min().expect("three runs");
    println!("1,000 hosts: {small:?}; 10,000 hosts: {large:?}");
    assert!(large < small * 40, "1,000 hosts took {small:?}, 10,000 took {large:?}");
}

#[test]
fn the_cost_of_a_report_grows_with_the_hosts_and_not_with_hosts_times_racks() {
    let (small, large) = (report_in_racks(1_000), report_in_racks(10_000));
    println!("a report: 1,000 hosts in 200 racks: {small:?}; 10,000 hosts in 2,000 racks: {large:?}");
    // What fits into a cache is dearer by less; hosts times racks would be dearer a hundred times.
    assert!(large < small * 70, "1,000 hosts took {small:?}, 10,000 took {large:?}");
}
