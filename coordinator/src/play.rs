//! Operations of fleets of any size, played in memory: what a driver would decide and store, without driver, store or hosts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{
    ByteCount, CheckpointId, Digest, Generation, Health, HostId, Labels, Reason, RestoreNumber, RollbackId,
    Selector, SnapshotId, Standing, Timestamp,
};
use rfs_rollout::{
    Admission, Answer, Captured, CheckpointKind, CheckpointRequest, Command, Draft, Event, Failure,
    FleetView, GENERATIONS, GatePolicy, HostCommand, HostView, OnUnreachable, Operation, Outside, PhaseTime,
    Policy, Presence, Reading, Report, Restored, RollbackRequest, Selection, Source, Step, Strategy, Waves,
    checkpoint, plan, rollback,
};
use uuid::Uuid;

use crate::driver::View;
use crate::driver::fleet::Progress;
use crate::store::Position;

/// What a host says of its restore, phase by phase.
const PHASES: [&str; 6] = ["plan", "stage", "quiesce", "flip", "start", "verify"];

/// One operation and its history so far.
pub(crate) struct Play {
    pub(crate) operation: Arc<Operation>,
    pub(crate) history: Vec<Event>,
    pub(crate) now: Timestamp,
    pub(crate) progress: Arc<BTreeMap<HostId, Progress>>,
    /// What others take of the budgets, as it is shown; nothing is decided by it.
    pub(crate) outside: Arc<Outside>,
}

/// So many hosts, with names of `length` letters where a number leaves room for that.
pub(crate) fn hosts(count: usize, length: usize) -> Vec<HostId> {
    let name = |n: usize| format!("{:h<length$}-{n:05}", "h", length = length.saturating_sub(6).max(1));
    (0..count).map(|n| name(n).parse().expect("a valid name")).collect()
}

impl Play {
    /// A rollback, in waves of a fifth with hosts that are left out when they cannot be reached, or as `change` makes it.
    pub(crate) fn rollback(hosts: &[HostId], change: impl FnOnce(&mut RollbackRequest)) -> Self {
        let id = RollbackId::from_uuid(Uuid::from_u128(2));
        let target = SnapshotId(Digest::from_bytes([1; 32]));
        let view = FleetView {
            hosts: hosts.iter().map(|host| (host.clone(), HostView::default())).collect(),
            targets: hosts.iter().map(|host| (host.clone(), target)).collect(),
        };
        let sizes = vec![rfs_rollout::Amount::Percent(20)];
        let mut request = RollbackRequest {
            source: Source::Checkpoint(CheckpointId::from_uuid(Uuid::from_u128(1))),
            selector: Selector::default(),
            selection: Selection::default(),
            choices: Default::default(),
            strategy: Strategy::Gradual(Waves { sizes, ..Waves::default() }),
            policy: Policy {
                gate: GatePolicy { min_healthy_time: Duration::from_secs(3), ..GatePolicy::default() },
                on_unreachable: OnUnreachable::Skip,
                ..Policy::default()
            },
            reason: "release 2 is bad".into(),
            requester: "operator/alice".into(),
        };
        change(&mut request);
        let plan = plan(&request, &view).expect("a plan");
        let (at, hosts) = (BEGUN, admitted(hosts));
        let created = Box::new(rollback::Created { id, request, plan, hosts });
        Self::begin(Event::Rollback(rollback::RollbackEvent::Created { at, created }))
    }

    /// A checkpoint.
    pub(crate) fn checkpoint(hosts: &[HostId]) -> Self {
        let request = CheckpointRequest {
            kind: CheckpointKind::Manual,
            selector: Selector::default(),
            components: Default::default(),
            deployment: None,
            labels: Labels::from([("release".to_owned(), "1".to_owned())]),
            reason: "before release 2".into(),
            requester: "operator/alice".into(),
            timeout: CheckpointRequest::DEFAULT_TIMEOUT,
            quiesce_timeout: None,
            allow_missing: None,
        };
        let (id, hosts) = (CheckpointId::from_uuid(Uuid::from_u128(1)), admitted(hosts));
        let created = Box::new(checkpoint::Created { id, request, hosts });
        Self::begin(Event::Checkpoint(checkpoint::CheckpointEvent::Created { at: BEGUN, created }))
    }

    fn begin(created: Event) -> Self {
        let operation = Arc::new(Operation::begin(&created).expect("a creation"));
        let (progress, outside) = Default::default();
        Self { operation, history: vec![created], now: BEGUN, progress, outside }
    }

    /// All of this happens at once.
    pub(crate) fn take(&mut self, commands: &[Command]) {
        let mut draft = Draft::of(self.operation.as_ref().clone());
        for command in commands {
            // What a person may not do at this moment changes nothing.
            let _ = draft.handle(command, self.now);
        }
        draft.settle(self.now);
        let (operation, events) = draft.into_parts();
        self.operation = Arc::new(operation);
        self.history.extend(events);
    }

    /// Time passes.
    pub(crate) fn passes(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.take(&[Command::Tick]);
    }

    /// Every host that is told something does it.
    pub(crate) fn all_answer(&mut self) {
        let answers: Vec<_> =
            self.wanted().iter().map(|(host, command)| self.answer(host, command, None)).collect();
        self.take(&answers);
    }

    /// What hosts are told.
    pub(crate) fn wanted(&self) -> BTreeMap<HostId, HostCommand> {
        self.operation.wanted().commands
    }

    /// A host's answer: it did what it was told, or failed and is where it was before.
    pub(crate) fn answer(&self, host: &HostId, command: &HostCommand, failure: Option<Failure>) -> Command {
        let answer = match (&command.step, failure) {
            (Step::Prepare { .. } | Step::Cut { .. }, Some(failure)) => Answer::Failed(failure),
            (Step::Prepare { .. }, None) => Answer::Prepared,
            (Step::Cut { .. }, None) => Answer::Captured(Captured {
                snapshot: SnapshotId(Digest::from_bytes([1; 32])),
                cut_at: self.now,
                bytes: ByteCount(1 << 30),
                new_bytes: ByteCount(1 << 20),
                entries: 4711,
                notes: Vec::new(),
            }),
            (Step::Finish | Step::Abandon | Step::Cancel, _) => Answer::Finished,
            (Step::Apply { .. } | Step::Revert { .. }, failure) => Answer::Restored(Restored {
                standing: if failure.is_none() { Standing::Target } else { Standing::Before },
                backup: Some(SnapshotId(Digest::from_bytes([2; 32]))),
                downtime: Duration::from_millis(20),
                phases: PHASES
                    .map(|phase| PhaseTime { phase: phase.into(), duration: Duration::from_millis(7) })
                    .into(),
                steps: 12,
                bytes: ByteCount(1 << 20),
                failure,
                restore: Some(RestoreNumber(1)),
                findings: None,
            }),
        };
        Command::Report(Report {
            host: host.clone(),
            instance: None,
            operation: command.operation,
            generation: command.generation,
            step: command.step.kind(),
            answer,
            newest: command.generation,
        })
    }

    /// What a host's checks see after its restore, since when.
    pub(crate) fn health(&self, host: &HostId, health: Health, since: Timestamp, evidence: &str) -> Command {
        let reading = Reading {
            health,
            since,
            after: RestoreNumber(1),
            measured_at: Some(self.now),
            heard_at: self.now,
            evidence: evidence.into(),
        };
        Command::Health { host: host.clone(), reading }
    }

    /// What a driver would show.
    pub(crate) fn view(&self) -> View {
        View {
            operation: self.operation.clone(),
            position: Position(self.history.len() as u64),
            outside: self.outside.clone(),
            progress: self.progress.clone(),
        }
    }
}

const BEGUN: Timestamp = Timestamp(1_700_000_000_000);

fn admitted(hosts: &[HostId]) -> BTreeMap<HostId, Admission> {
    let presence = Presence {
        connected: true,
        health: Health::Good,
        evidence: "http: status 200 in 3 ms".into(),
        ..Presence::absent(BEGUN)
    };
    let admitted = |(host, n): (&HostId, u64)| {
        let generation = Generation(1 + n * GENERATIONS);
        (host.clone(), Admission { generation, presence: presence.clone() })
    };
    hosts.iter().zip(0..).map(admitted).collect()
}

/// Plays a rollback to its end, wave after wave, all hosts well: what most rollbacks of a large fleet look like.
pub(crate) fn to_the_end(hosts: &[HostId], change: impl FnOnce(&mut RollbackRequest)) -> Play {
    let mut play = Play::rollback(hosts, change);
    for _ in 0..100 {
        if play.operation.finished() {
            break;
        }
        play.passes(Duration::from_secs(1));
        let told = play.wanted();
        play.all_answer();
        let since = play.now;
        let well = |play: &Play| -> Vec<Command> {
            let evidence = "http: status 200 in 3 ms";
            told.keys().map(|host| play.health(host, Health::Good, since, evidence)).collect()
        };
        play.take(&well(&play));
        play.passes(Duration::from_secs(4));
        // A gate waits for a measurement that began after the time had passed.
        play.take(&well(&play));
    }
    play
}

/// The failure of a host, with so many letters.
pub(crate) fn failure(letters: usize) -> Failure {
    Failure::new(Reason::CommandFailed, "x".repeat(letters)).next("look at the host")
}
