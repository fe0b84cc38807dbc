//! What an administrator may ask of a host, with the daemon running or without.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rfs_model::{ByteCount, ComponentKind, ComponentName, OperationId, SnapshotId, Standing, Timestamp};

use crate::commander::{Refusal, Selection};
use crate::component::choices::Choices;
use crate::engine::{Listed, Phase, Receipt};

/// The host, as an administrator sees it. Implemented by the engine, and by the client of the daemon's socket.
///
/// Every call may take as long as the work that it does, so async code calls it from a blocking thread.
pub trait Administration: Send + Sync {
    /// The snapshots in the store, newest first.
    fn snapshots(&self) -> Result<Vec<SnapshotView>, Refusal>;

    /// Captures the present state of `components`; none means all. The snapshot is durable when this returns.
    fn capture(&self, components: &BTreeSet<ComponentName>, reason: &str) -> Result<SnapshotView, Refusal>;

    /// What a restore of `snapshot`, an id or its unambiguous beginning, would do. Changes nothing.
    fn plan(&self, snapshot: &str, selection: &Selection) -> Result<PlanView, Refusal> {
        self.plan_with(snapshot, selection, &Choices::default())
    }

    /// The same, with what a person has decided for the restore.
    fn plan_with(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
    ) -> Result<PlanView, Refusal>;

    /// The same, however long it is: hands over the plan without its steps and losses, then each step, then each loss.
    fn plan_all(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
        see: &mut dyn FnMut(PlanPart),
    ) -> Result<(), Refusal>;

    /// Restores, and returns when it has ended; `progress` is called at each phase and now and then in between.
    ///
    /// An error means that nothing was begun. A restore that was begun and failed is a view that says so.
    fn restore(&self, order: &RestoreOrder, progress: &dyn Fn(Progress)) -> Result<RestoreView, Refusal>;

    /// How the last restore ended, in words; none when there was none.
    fn last_restore(&self) -> Option<String>;

    /// Keeps a snapshot until it is unpinned.
    fn pin(&self, snapshot: &str, reason: &str) -> Result<SnapshotView, Refusal>;

    /// Takes the pin away.
    fn unpin(&self, snapshot: &str) -> Result<SnapshotView, Refusal>;

    /// Deletes a snapshot, if it may be.
    fn delete(&self, snapshot: &str) -> Result<(), Refusal>;

    /// Restores a snapshot into `scratch`, or a folder in the store, proves it equal, and records that.
    fn drill(&self, snapshot: &str, scratch: Option<&Path>) -> Result<DrillView, Refusal>;

    /// Forgets what the configuration does not keep, and frees its room.
    fn collect(&self) -> Result<CollectView, Refusal>;

    /// Sets aside what is damaged, and takes what was lost from the live files where they still have it.
    fn repair(&self) -> Result<RepairView, Refusal>;
}

/// What is restored, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOrder {
    /// The snapshot: an id or its unambiguous beginning.
    pub snapshot: String,
    /// Which part of it.
    pub selection: Selection,
    /// Past it, the host goes back to what it was. None means what the configuration says.
    pub timeout: Option<Duration>,
    /// Also on a host that is inconsistent: this is the way out of it.
    pub force: bool,
    /// What a person decided for it.
    pub choices: Choices,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Steps of the plan that are done.
    pub steps_done: u64,
    /// Steps in the plan; zero until it is made.
    pub steps_total: u64,
}

/// A snapshot, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotView {
    /// Its id.
    pub id: SnapshotId,
    /// When it was captured.
    pub created_at: Timestamp,
    /// What it was made for.
    pub kind: SnapshotKind,
    /// Why, in the words of whoever asked for it.
    pub reason: String,
    /// The fleet operation that it belongs to.
    pub operation: Option<OperationId>,
    /// What it holds.
    pub components: Vec<(ComponentName, ComponentKind)>,
    /// How many bytes it stands for.
    pub bytes: ByteCount,
    /// How many bytes of it were new to the store.
    pub stored: ByteCount,
    /// How many entries it holds.
    pub entries: u64,
    /// Whether it stays until it is unpinned.
    pub pinned: bool,
    /// When a drill or a restore proved it last, and how long that took.
    pub proven: Option<(Timestamp, Duration)>,
    /// Why it may not be deleted; none when it may be.
    pub held: Option<String>,
    /// The checkpoint that it belongs to: its own, or of a backup the one that its restore went to.
    pub checkpoint: Option<OperationId>,
    /// Which rule keeps it, or that none does.
    pub stays: String,
    /// What a person must know who trusts it, one sentence each.
    pub notes: Vec<String>,
}

/// What a snapshot was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// A fleet's checkpoint.
    Checkpoint,
    /// The way back of a restore.
    Backup,
    /// An administrator on the host.
    Local,
}

impl SnapshotKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Checkpoint, Self::Backup, Self::Local];

    /// The kind as it is listed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Backup => "backup",
            Self::Local => "local",
        }
    }
}

/// A drill that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrillView {
    /// The snapshot that was proven.
    pub snapshot: SnapshotId,
    /// When.
    pub verified_at: Timestamp,
    /// How long the restore took, the comparison aside.
    pub restore_time: Duration,
    /// Entries that were restored.
    pub entries: u64,
    /// Bytes that were restored.
    pub bytes: ByteCount,
}

/// What a collection did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectView {
    /// The snapshots that are gone.
    pub forgotten: Vec<SnapshotId>,
    /// Each of the others, and why it stays.
    pub kept: Vec<(SnapshotId, String)>,
    /// How much smaller the store is.
    pub freed: ByteCount,
}

/// What a repair achieved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairView {
    /// Where the damaged packs are now.
    pub quarantined: Vec<PathBuf>,
    /// How many lost objects are there again.
    pub restored: u64,
    /// What is still wrong, one line each.
    pub damage: Vec<String>,
    /// The snapshots that cannot be restored wholly.
    pub harmed: Vec<SnapshotId>,
}

/// What a restore would do, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanView {
    /// The steps, in the order in which they are taken. May be cut; `step_count` is whole.
    pub steps: Vec<PlanLine>,
    /// How many steps there are.
    pub step_count: u64,
    /// How many bytes are written.
    pub bytes: ByteCount,
    /// The services that stop and start.
    pub services: Vec<ComponentName>,
    /// What is newer than the snapshot and would be lost. May be cut; `loss_count` is whole.
    pub losses: Vec<String>,
    /// How many such things there are.
    pub loss_count: u64,
    /// How long their content is.
    pub loss_bytes: ByteCount,
    /// What a person must know of it, one sentence each.
    pub notes: Vec<String>,
    /// Why the host cannot comply.
    pub obstacle: Option<Refusal>,
}

impl PlanView {
    /// The same without its steps and losses; their counts stay.
    pub fn without_lines(self) -> Self {
        Self { steps: Vec::new(), losses: Vec::new(), ..self }
    }
}

/// A part of a plan that is handed over piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanPart {
    /// The plan without its steps and losses. Comes first, and once.
    Whole(PlanView),
    /// The next step.
    Step(PlanLine),
    /// The next loss. Losses come after the steps.
    Loss(String),
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanLine {
    /// The component that it belongs to.
    pub component: ComponentName,
    /// What is done, in one word, such as `write`.
    pub action: String,
    /// The whole line, such as `write /srv/site/index.html (1.2 KiB)`.
    pub text: String,
    /// How many bytes are written.
    pub bytes: ByteCount,
}

/// How a restore ended, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreView {
    /// Where the host stands now.
    pub standing: Standing,
    /// The snapshot of what was there before; none when nothing was changed.
    pub backup: Option<SnapshotId>,
    /// How long the service that was down longest was down.
    pub downtime: Option<Duration>,
    /// The phases in the order in which they were taken, with how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// Steps that changed live state.
    pub steps: u64,
    /// Bytes that were written.
    pub bytes: ByteCount,
    /// What existed and is not in the snapshot: it went, and the backup has it.
    pub lost: Listed,
    /// Of those, what came after the plan that was shown.
    pub appeared: Listed,
    /// What was written after services were started; it is no difference.
    pub written: Listed,
    /// What a person must know, one sentence each.
    pub notes: Vec<String>,
    /// Why the host is not at the target; none when it is.
    pub failure: Option<Refusal>,
}

impl From<&Receipt> for RestoreView {
    fn from(receipt: &Receipt) -> Self {
        let failure = receipt.failure.as_ref().map(|failure| Refusal {
            reason: failure.reason,
            message: failure.message.clone(),
            next: failure.next.clone(),
        });
        Self {
            standing: receipt.standing,
            backup: receipt.backup,
            downtime: receipt.downtime.iter().map(|service| service.down).max(),
            phases: receipt.phases.iter().map(|span| (span.phase, span.took)).collect(),
            steps: receipt.applied,
            bytes: receipt.staged,
            lost: receipt.lost.clone(),
            appeared: receipt.appeared.clone(),
            written: receipt.written.clone(),
            notes: receipt.notes.clone(),
            failure,
        }
    }
}
