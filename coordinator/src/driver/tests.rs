//! Operations over agents in memory and the real store, under a clock that moves only when a test moves it.
//!
//! A test says what happens and then lets everything [settle](Bed::settle): until no report waits and no driver has anything
//! left to do. So nothing sleeps, and nothing depends on how fast the machine is.

mod absence;
mod again;
mod agents;
mod budgets;
mod crash;
mod crowd;
mod faults;
mod machines;
mod people;
mod quiet;
mod rivals;
mod rollback;
mod targets;
mod undo;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rfs_model::time::{Clock, ManualClock, SharedClock};
use rfs_model::{CheckpointId, Generation, HostId, Labels, OperationId, RollbackId, Selector, Timestamp};
use rfs_rollout::rollback::HostPhase;
use rfs_rollout::{
    Amount, Answer, Canary, CheckpointKind, CheckpointRequest, GatePolicy, OnFailure, OnUnreachable, Person,
    PersonAction, Policy, Report, RollbackRequest, Selection, Source, StepKind, Strategy, Waves,
    rollback as machine,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fleet::{self, FleetEvent};
use super::{OperationError, Operations, Settings, View};
use crate::store::{HostSeen, Position, SqliteStore, Store};
use agents::{Agents, Link};
use faults::Faulty;

/// What happened in which order: what was stored, and what was sent.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A fleet, a store, and coordinators that come and go.
struct Bed {
    hosts: Vec<HostId>,
    clock: Arc<ManualClock>,
    diary: Diary,
    agents: Arc<Agents>,
    store: Arc<dyn Store>,
    folder: TempDir,
}

/// One coordinator.
struct Coordinator {
    store: Arc<Faulty>,
    link: Arc<Link>,
    events: mpsc::Sender<FleetEvent>,
    operations: Operations,
    stop: CancellationToken,
}

fn host(name: &str) -> HostId {
    name.parse().expect("a valid name")
}

impl Bed {
    /// Hosts `a`, `b` and so on, all at release 1.
    async fn of(hosts: usize) -> Self {
        Self::over(('a'..='z').take(hosts).map(|name| host(name.encode_utf8(&mut [0; 4]))).collect()).await
    }

    async fn over(hosts: Vec<HostId>) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        let folder = TempDir::new().expect("a folder");
        let store = SqliteStore::open(&folder.path().join("rfs.db")).await.expect("a new store");
        let (diary, store) = (Diary::default(), Arc::new(store));
        for host in &hosts {
            let seen = HostSeen {
                host: host.clone(),
                at: clock.now(),
                labels: agents::labels(),
                generation: Generation(0),
                inconsistent: false,
                details: String::new(),
                machines: None,
            };
            store.host_seen(seen).await.expect("the store takes it");
        }
        let agents = Arc::new(Agents::new(&hosts, clock.clone(), diary.clone()));
        Self { hosts, clock, diary, agents, store, folder }
    }

    /// A coordinator starts, and every host connects to it.
    async fn start(&self) -> Coordinator {
        let coordinator = self.start_alone().await;
        for host in &self.hosts {
            coordinator.link.connect(host).await;
        }
        coordinator
    }

    /// A coordinator starts, and no host connects to it.
    async fn start_alone(&self) -> Coordinator {
        self.start_by(self.clock.clone()).await
    }

    /// A coordinator starts with a clock of its own.
    async fn start_by(&self, clock: SharedClock) -> Coordinator {
        let store = Arc::new(Faulty::new(self.store.clone(), self.diary.clone()));
        let (events, told) = fleet::channel();
        let link = Arc::new(Link::new(self.agents.clone(), events.clone()));
        let stop = CancellationToken::new();
        let operations =
            Operations::open(store.clone(), link.clone(), clock, told, stop.clone(), Settings::default())
                .await;
        Coordinator { store, link, events, operations: operations.expect("the store answers"), stop }
    }

    /// Waits until no report waits and `of` has nothing left to do, but not for the append that a fault has stopped.
    async fn settle(&self, coordinator: &Coordinator, of: OperationId) {
        loop {
            let before = self.diary.lines().len();
            // The second one is taken after everything that followed from the first.
            for _ in 0..2 {
                if !coordinator.probe(of).await {
                    return;
                }
            }
            if self.diary.lines().len() == before && self.agents.unacked() == 0 {
                return;
            }
        }
    }

    /// Lets time pass, a second at a time.
    async fn pass(&self, coordinator: &Coordinator, of: impl Into<OperationId>, seconds: u64) {
        let of = of.into();
        self.settle(coordinator, of).await;
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            for host in self.agents.arrives() {
                coordinator.link.changed(&host).await;
            }
            coordinator.link.changed(&self.hosts[0]).await;
            self.settle(coordinator, of).await;
        }
    }

    /// Takes a checkpoint of all hosts.
    async fn checkpoint(&self, coordinator: &Coordinator) -> CheckpointId {
        let id = coordinator.operations.create_checkpoint(checkpoint_request(), None).await;
        let id = id.expect("a checkpoint begins");
        self.pass(coordinator, id, 0).await;
        id
    }

    /// A checkpoint of release 1, then release 2 everywhere, then a rollback.
    async fn rollback(
        &self,
        coordinator: &Coordinator,
        change: impl FnOnce(&mut RollbackRequest),
    ) -> RollbackId {
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(2);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        change(&mut request);
        coordinator.operations.create_rollback(request, None).await.expect("a rollback begins")
    }

    /// Each host's release and where the rollback says that it stands, then where the whole stands.
    async fn story(&self, coordinator: &Coordinator, id: RollbackId) -> String {
        let view = coordinator.view(id).await;
        let rollback = view.rollback().expect("a rollback");
        let mut parts: Vec<String> = rollback
            .hosts
            .iter()
            .map(|(host, record)| format!("{host}{} {}", self.agents.version(host), short(&record.phase)))
            .collect();
        parts.push(match &rollback.phase {
            machine::Phase::Running { direction: machine::Direction::Forward } => "running".to_owned(),
            machine::Phase::Running { direction: machine::Direction::Back(_) } => "going back".to_owned(),
            machine::Phase::Paused { .. } => "paused".to_owned(),
            machine::Phase::Aborting { .. } => "aborting".to_owned(),
            machine::Phase::Finished { outcome, .. } => outcome.to_string(),
        });
        parts.join(" | ")
    }

    async fn check(&self, coordinator: &Coordinator, id: RollbackId, expected: &str) {
        assert_eq!(self.story(coordinator, id).await, expected);
        assert_eq!(self.agents.repeated(), Vec::<String>::new(), "every step takes effect once");
    }
}

fn short(phase: &HostPhase) -> &'static str {
    match phase {
        HostPhase::Untouched => "untouched",
        HostPhase::Skipped => "skipped",
        HostPhase::Superseded => "superseded",
        HostPhase::Again => "again",
        HostPhase::Applying { .. } => "applying",
        HostPhase::Cancelling { .. } => "cancelling",
        HostPhase::Applied { .. } => "applied",
        HostPhase::Passed { .. } => "passed",
        HostPhase::Unhealthy => "unhealthy",
        HostPhase::Unchanged => "unchanged",
        HostPhase::Lost => "lost",
        HostPhase::Reverting { .. } => "reverting",
        HostPhase::Reverted => "reverted",
        HostPhase::RevertFailed => "revert failed",
        HostPhase::Inconsistent => "INCONSISTENT",
    }
}

impl Coordinator {
    /// Says something of no meaning to the operation's driver, and waits until that is taken. False if the driver stands
    /// still in an append.
    async fn probe(&self, operation: OperationId) -> bool {
        let report = Report {
            host: host("nobody"),
            instance: None,
            operation,
            generation: Generation(0),
            step: StepKind::Prepare,
            answer: Answer::Prepared,
            newest: Generation(0),
        };
        let (stored, told) = oneshot::channel();
        let _ = self.events.send(FleetEvent::Report { report, stored }).await;
        tokio::select! {
            biased;
            told = told => told.is_ok(),
            () = self.store.dead() => false,
        }
    }

    async fn view(&self, id: impl Into<OperationId>) -> View {
        let view = self.operations.get(id.into()).await;
        view.expect("the store answers").expect("there is such an operation")
    }

    async fn person(&self, id: impl Into<OperationId>, action: PersonAction) -> Result<(), OperationError> {
        self.operations.command(id.into(), Person { who: "operator/alice".into(), action }).await
    }

    /// It stops as it should.
    async fn stops(self) {
        self.stop.cancel();
        self.operations.ended().await;
    }

    async fn history(&self, id: impl Into<OperationId>) -> Vec<String> {
        let events = self.store.events(id.into(), Position(0), 10_000).await.expect("the store answers");
        events.iter().map(|stored| stored.event.to_string()).collect()
    }
}

fn checkpoint_request() -> CheckpointRequest {
    CheckpointRequest {
        kind: CheckpointKind::Manual,
        selector: Selector::default(),
        quiesce_timeout: None,
        allow_missing: None,
        components: Default::default(),
        deployment: None,
        labels: Labels::new(),
        reason: "before release 2".into(),
        requester: "operator/alice".into(),
        timeout: CheckpointRequest::DEFAULT_TIMEOUT,
    }
}

/// One canary, then two at a time; a host is good after 3 s and bad after 10 s.
fn rollback_request(source: Source) -> RollbackRequest {
    RollbackRequest {
        source,
        selector: Selector::default(),
        selection: Selection::default(),
        choices: Default::default(),
        strategy: Strategy::Gradual(Waves {
            canary: Canary::Amount(Amount::Count(1)),
            sizes: vec![Amount::Count(2)],
            order: Vec::new(),
        }),
        policy: Policy {
            gate: GatePolicy {
                min_healthy_time: Duration::from_secs(3),
                healthy_deadline: Duration::from_secs(10),
                ..GatePolicy::default()
            },
            on_failure: OnFailure::Pause,
            on_unreachable: OnUnreachable::Fail,
            unreachable_after: Duration::from_secs(5),
            report_grace: Duration::from_secs(5),
            max_rollback_time: Duration::from_secs(30),
            ..Policy::default()
        },
        reason: "release 2 is bad".into(),
        requester: "operator/alice".into(),
    }
}

/// The same waves without a canary: a canary that is left out holds the gate.
fn without_canary(request: &mut RollbackRequest) {
    let sizes = vec![Amount::Count(1), Amount::Count(2)];
    request.strategy = Strategy::Gradual(Waves { sizes, ..Waves::default() });
}
