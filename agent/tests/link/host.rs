//! A host that is played: it notes what it is told, and answers as the test wants.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rfs_agent::commander::{
    Activity, Command, HostState, Intake, IntakeError, Outcome, Refusal, Report, ReportSequence, Selection,
    StepKind,
};
use rfs_agent::component::choices::Choices;
use rfs_agent::engine::Phase;
use rfs_agent::health::HostHealth;
use rfs_agent::local::{
    Administration, CollectView, DrillView, PlanLine, PlanPart, PlanView, Progress, RepairView, RestoreOrder,
    RestoreView, SnapshotKind, SnapshotView,
};
use rfs_agent::session::{About, Host};
use rfs_model::time::SystemClock;
use rfs_model::{
    ByteCount, ComponentKind, ComponentName, Digest, Generation, Health, InstanceId, Labels, OperationId,
    Reason, RestoreNumber, SnapshotId, Standing, Timestamp,
};
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Played {
    notes: Mutex<Notes>,
    pub(crate) journal_fails: AtomicBool,
    /// Whether the agent has told it to close.
    pub(crate) closing: AtomicBool,
    wakers: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    restoring: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) commands: Vec<Command>,
    pub(crate) unacknowledged: Vec<Report>,
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) state: HostState,
    pub(crate) owners: Vec<Option<OperationId>>,
    /// The newest first.
    pub(crate) snapshots: Vec<SnapshotId>,
    pub(crate) revision: u64,
    pub(crate) restores_ended: usize,
    pub(crate) heeded: Vec<(BTreeSet<OperationId>, BTreeSet<OperationId>)>,
}

impl Played {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no test panics with the notes in hand")
    }

    pub(crate) fn wake(&self) {
        for wake in self.wakers.lock().expect("no panic").iter() {
            wake();
        }
    }

    /// The next restore waits until something is sent.
    pub(crate) fn hold_restore(&self) -> std::sync::mpsc::Sender<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        *self.restoring.lock().expect("no panic") = Some(receiver);
        sender
    }

    /// Ends the command with that number of report.
    pub(crate) fn report(&self, sequence: u64, operation: OperationId, step: StepKind, outcome: Outcome) {
        let report = Report {
            sequence: ReportSequence(sequence),
            operation,
            step,
            generation: Generation(7),
            newest: Generation(7),
            at: Timestamp(0),
            outcome,
        };
        self.notes().unacknowledged.push(report);
        self.wake();
    }

    pub(crate) fn restoring(&self, operation: OperationId, phase: Phase, steps_done: u64) {
        self.notes().state.activity = Some(Activity {
            operation: Some(operation),
            step: StepKind::Apply,
            generation: Generation(7),
            phase: Some(phase),
            steps_done,
            steps_total: 10,
            since: Timestamp(0),
            waits_for: None,
        });
        self.wake();
    }
}

impl Intake for Played {
    fn receive(&self, command: Command) -> Result<(), IntakeError> {
        if self.journal_fails.load(Ordering::SeqCst) {
            return Err(IntakeError("the disk is full".into()));
        }
        self.notes().commands.push(command);
        self.wake();
        Ok(())
    }

    fn unacknowledged(&self) -> Result<Vec<Report>, IntakeError> {
        Ok(self.notes().unacknowledged.clone())
    }

    fn acknowledge(&self, sequence: ReportSequence) -> Result<(), IntakeError> {
        let mut notes = self.notes();
        notes.unacknowledged.retain(|report| report.sequence != sequence);
        notes.acknowledged.push(sequence.0);
        Ok(())
    }

    fn heed(&self, needed: &BTreeSet<OperationId>, deleted: &BTreeSet<OperationId>) {
        self.notes().heeded.push((needed.clone(), deleted.clone()));
        self.wake();
    }

    fn welcomed(&self, owner: Option<OperationId>) {
        self.notes().owners.push(owner);
    }

    fn snapshots_revision(&self) -> u64 {
        self.notes().revision
    }

    fn snapshots(&self) -> Result<Vec<SnapshotId>, IntakeError> {
        Ok(self.notes().snapshots.clone())
    }

    fn state(&self) -> HostState {
        self.notes().state.clone()
    }

    fn close(&self, let_end: Duration) {
        let begun = Instant::now();
        self.closing.store(true, Ordering::SeqCst);
        while self.notes().state.activity.is_some() && begun.elapsed() < let_end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.wakers.lock().expect("no panic").push(wake);
    }
}

pub(crate) fn snapshot_id(n: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([n; 32]))
}

pub(crate) fn site() -> ComponentName {
    "site".parse().expect("a valid name")
}

pub(crate) fn snapshot(n: u8) -> SnapshotView {
    SnapshotView {
        id: snapshot_id(n),
        created_at: Timestamp(i64::from(n) * 1000),
        kind: SnapshotKind::ALL[usize::from(n) % 3],
        reason: format!("snapshot {n}"),
        operation: n.is_multiple_of(2).then(operation),
        components: vec![(site(), ComponentKind::Files)],
        bytes: ByteCount(1000),
        stored: ByteCount(10),
        entries: 3,
        pinned: n == 1,
        proven: n.is_multiple_of(3).then_some((Timestamp(5000), std::time::Duration::from_millis(70))),
        notes: vec![format!("note {n}")],
        held: (n == 1).then(|| "it is pinned: the audit".to_owned()),
        checkpoint: n.is_multiple_of(4).then(operation),
        stays: "it is the newest".to_owned(),
    }
}

pub(crate) fn operation() -> OperationId {
    "0193b5a0-0000-7000-8000-000000000001".parse().expect("a UUID")
}

pub(crate) fn unknown_snapshot(snapshot: &str) -> Refusal {
    Refusal {
        reason: Reason::SnapshotNotFound,
        message: format!("snapshot {snapshot:?} is not in the store"),
        next: "see the host's snapshots with: rfs-agent snapshots list".to_owned(),
    }
}

pub(crate) fn plan() -> PlanView {
    PlanView {
        steps: vec![PlanLine {
            component: site(),
            action: "write".to_owned(),
            text: "write /srv/site/index.html (1.2 KiB)".to_owned(),
            bytes: ByteCount(1200),
        }],
        step_count: 1,
        bytes: ByteCount(1200),
        services: vec!["app".parse().expect("a valid name")],
        losses: vec!["/srv/site/new.html".to_owned()],
        loss_count: 1,
        loss_bytes: ByteCount(5),
        notes: vec!["app was not running".to_owned()],
        obstacle: None,
    }
}

pub(crate) fn restored() -> RestoreView {
    RestoreView {
        standing: Standing::Target,
        backup: Some(snapshot_id(9)),
        downtime: Some(std::time::Duration::from_millis(120)),
        phases: vec![(Phase::Flipping, std::time::Duration::from_millis(7))],
        steps: 4,
        bytes: ByteCount(77),
        lost: rfs_agent::engine::Listed {
            count: 2,
            bytes: ByteCount(9),
            first: vec!["/srv/site/new".to_owned()],
        },
        appeared: rfs_agent::engine::Listed { count: 1, ..Default::default() },
        written: rfs_agent::engine::Listed { count: 1, ..Default::default() },
        notes: vec!["/srv/site/data is a mount".to_owned()],
        failure: None,
    }
}

fn known(snapshot: &str) -> Result<(), Refusal> {
    if snapshot == "absent" { Err(unknown_snapshot(snapshot)) } else { Ok(()) }
}

/// A drill in a named folder restores one entry more.
pub(crate) fn drilled(scratch: Option<&Path>) -> DrillView {
    DrillView {
        snapshot: snapshot_id(4),
        verified_at: Timestamp(9000),
        restore_time: std::time::Duration::from_millis(1234),
        entries: 5 + u64::from(scratch == Some(Path::new("/scratch"))),
        bytes: ByteCount(66),
    }
}

pub(crate) fn collected() -> CollectView {
    CollectView {
        forgotten: vec![snapshot_id(1), snapshot_id(2)],
        kept: vec![(snapshot_id(3), "it is the newest".to_owned())],
        freed: ByteCount(4096),
    }
}

pub(crate) fn repaired() -> RepairView {
    RepairView {
        quarantined: vec!["/var/lib/rfs/quarantine/0.pack".into()],
        restored: 3,
        damage: vec!["missing object".to_owned()],
        harmed: vec![snapshot_id(7)],
    }
}

impl Administration for Played {
    fn snapshots(&self) -> Result<Vec<SnapshotView>, Refusal> {
        Ok((0..250).rev().map(snapshot).collect())
    }

    fn capture(&self, components: &BTreeSet<ComponentName>, reason: &str) -> Result<SnapshotView, Refusal> {
        assert_eq!(components, &BTreeSet::from([site()]));
        Ok(SnapshotView { reason: reason.to_owned(), ..snapshot(3) })
    }

    fn plan_with(
        &self,
        snapshot: &str,
        selection: &Selection,
        _choices: &Choices,
    ) -> Result<PlanView, Refusal> {
        if snapshot == "absent" {
            return Err(unknown_snapshot(snapshot));
        }
        assert_eq!(selection.components, BTreeSet::from([site()]));
        Ok(plan())
    }

    fn plan_all(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
        see: &mut dyn FnMut(PlanPart),
    ) -> Result<(), Refusal> {
        let plan = self.plan_with(snapshot, selection, choices)?;
        see(PlanPart::Whole(plan.clone().without_lines()));
        plan.steps.into_iter().for_each(|step| see(PlanPart::Step(step)));
        plan.losses.into_iter().for_each(|loss| see(PlanPart::Loss(loss)));
        Ok(())
    }

    fn restore(&self, order: &RestoreOrder, progress: &dyn Fn(Progress)) -> Result<RestoreView, Refusal> {
        if order.snapshot == "absent" {
            return Err(unknown_snapshot(&order.snapshot));
        }
        progress(Progress { phase: Phase::Staging, steps_done: 1, steps_total: 4 });
        if let Some(held) = self.restoring.lock().expect("no panic").take() {
            held.recv().expect("the test lets it go on");
        }
        self.notes().restores_ended += 1;
        Ok(restored())
    }

    fn last_restore(&self) -> Option<String> {
        Some("at target".to_owned())
    }

    fn pin(&self, snapshot: &str, reason: &str) -> Result<SnapshotView, Refusal> {
        known(snapshot)?;
        Ok(SnapshotView { held: Some(reason.to_owned()), ..self::snapshot(1) })
    }

    fn unpin(&self, snapshot: &str) -> Result<SnapshotView, Refusal> {
        known(snapshot).map(|()| self::snapshot(2))
    }

    fn delete(&self, snapshot: &str) -> Result<(), Refusal> {
        known(snapshot)
    }

    fn drill(&self, snapshot: &str, scratch: Option<&Path>) -> Result<DrillView, Refusal> {
        known(snapshot)?;
        Ok(drilled(scratch))
    }

    fn collect(&self) -> Result<CollectView, Refusal> {
        Ok(collected())
    }

    fn repair(&self) -> Result<RepairView, Refusal> {
        Ok(repaired())
    }
}

/// The played host, ready for a session.
pub(crate) fn host(played: &Arc<Played>, health: watch::Receiver<HostHealth>) -> Host {
    Host {
        about: about(),
        intake: played.clone(),
        administration: played.clone(),
        health,
        clock: Arc::new(SystemClock),
    }
}

pub(crate) fn about() -> About {
    About {
        host: "web-1".parse().expect("a valid name"),
        labels: Labels::from([("role".to_owned(), "web".to_owned())]),
        components: vec![rfs_proto::v1::Component { name: "site".to_owned(), kind: "files".to_owned() }],
        instance: instance(),
        start_id: "start".to_owned(),
    }
}

pub(crate) fn well(health: Health) -> HostHealth {
    let now = Instant::now();
    HostHealth { health, since: now, measured: Some(now), after: RestoreNumber(0), checks: Vec::new() }
}

/// The machine that the played host is.
pub(crate) fn instance() -> InstanceId {
    "0193b5a0-0000-7000-8000-00000000000a".parse().expect("a UUID")
}
