//! Rollbacks of hosts that stand in racks, which all rollbacks share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rfs_model::{
    Digest, Generation, Health, HostId, Labels, RollbackId, Selector, SnapshotId, Standing, Timestamp,
};
use rfs_rollout::rollback::{Created, RollbackEvent};
use rfs_rollout::{
    Admission, Amount, Answer, Budget, Command, Draft, Event, FleetView, GENERATIONS, HostView, Operation,
    Outside, Policy, Presence, Report, Restored, RollbackRequest, Selection, Source, StepKind, Strategy,
    plan,
};
use uuid::Uuid;

/// When each of them begins.
pub(crate) const AT: Timestamp = Timestamp(1_000);

pub(crate) fn host(n: usize) -> HostId {
    format!("h-{n}").parse().expect("a valid name")
}

pub(crate) fn rack(n: usize) -> Labels {
    [("rack".to_owned(), format!("r{n}"))].into()
}

pub(crate) fn id(n: u128) -> RollbackId {
    RollbackId::from_uuid(Uuid::from_u128(n))
}

/// The rollback of these hosts, all at once as far as each rack may have that many unavailable, as it begins.
pub(crate) fn begin(
    id: RollbackId,
    of: Range<usize>,
    rack_of: impl Fn(usize) -> usize,
    most: Option<Amount>,
) -> Event {
    let mut view = FleetView::default();
    for n in of {
        view.targets.insert(host(n), SnapshotId(Digest::from_bytes([1; 32])));
        view.hosts.insert(host(n), HostView { labels: rack(rack_of(n)), unchecked: false });
    }
    let budget = |max_unavailable| Budget { group_by: Some("rack".into()), max_unavailable };
    let request = RollbackRequest {
        source: Source::Undo(id),
        selector: Selector::default(),
        selection: Selection::default(),
        choices: Default::default(),
        strategy: Strategy::Immediate,
        policy: Policy { budgets: most.map(budget).into_iter().collect(), ..Policy::default() },
        reason: String::new(),
        requester: "operator/alice".into(),
    };
    let plan = plan(&request, &view).expect("a plan");
    let presence = Presence { connected: true, health: Health::Good, ..Presence::absent(Timestamp(0)) };
    let admitted = |(host, n): (&HostId, u64)| {
        let generation = Generation(1 + n * GENERATIONS);
        (host.clone(), Admission { generation, presence: presence.clone() })
    };
    let hosts: BTreeMap<HostId, Admission> = plan.targets.keys().zip(1..).map(admitted).collect();
    let created = Box::new(Created { id, request, plan, hosts });
    Event::Rollback(RollbackEvent::Created { at: AT, created })
}

/// The host has done what it was told: it is at its target, or as it was before.
pub(crate) fn report(operation: &Operation, host: &HostId, standing: Standing) -> Option<Command> {
    let command = operation.command(host).filter(|command| command.step.kind() == StepKind::Apply)?;
    let restored = Restored {
        standing,
        backup: Some(SnapshotId(Digest::from_bytes([2; 32]))),
        downtime: Duration::ZERO,
        phases: Vec::new(),
        steps: 1,
        bytes: Default::default(),
        failure: None,
        restore: None,
        findings: None,
    };
    Some(Command::Report(Report {
        host: host.clone(),
        instance: None,
        operation: operation.id(),
        generation: command.generation,
        step: StepKind::Apply,
        answer: Answer::Restored(restored),
        newest: command.generation,
    }))
}

/// Takes commands as a driver does, beside what others take. What a person may not do changes nothing.
pub(crate) fn take(
    operation: Operation,
    outside: &std::sync::Arc<Outside>,
    commands: &[Command],
    now: Timestamp,
) -> (Operation, Vec<Event>) {
    let mut draft = Draft::of(operation).beside(outside.clone());
    for command in commands {
        let _ = draft.handle(command, now);
    }
    draft.settle(now);
    draft.into_parts()
}
