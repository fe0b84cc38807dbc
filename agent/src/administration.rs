//! What an administrator may ask of the host, answered by the engine itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rfs_model::{ByteCount, ComponentName, OperationId, SnapshotId, Timestamp};
use rfs_store::retention::{Kept, undeletable};
use rfs_store::{Cancel, DrillReport, SnapshotInfo, Store, StoreError};
use uuid::Uuid;

use crate::commander::{Activity, Refusal, Selection, StepKind};
use crate::component::choices::Choices;
use crate::config::Config;
use crate::engine::{Engine, Order, Receipt, after, label, refuse_snapshot};
use crate::local::{
    Administration, CollectView, DrillView, PlanPart, PlanView, Progress, RepairView, RestoreOrder,
    RestoreView, SnapshotKind, SnapshotView,
};

/// Finds the snapshot that a person means: by the beginning of its id, or the latest.
///
/// The latest is never a backup: after a restore the newest snapshot is the backup of it, and a person who types the same
/// line again does not mean to go there.
pub(crate) fn resolve(store: &Store, text: &str) -> Result<SnapshotId, StoreError> {
    if text != "latest" {
        return store.resolve_prefix(text);
    }
    let all = store.snapshots()?;
    let taken = |info: &&SnapshotInfo| label::read(&info.label).0 != SnapshotKind::Backup;
    let latest = all.iter().filter(taken).max_by_key(|info| info.sequence);
    latest.map(|info| info.id).ok_or_else(|| StoreError::UnknownSnapshot { id: text.to_owned() })
}

/// The engine, as an administrator sees it.
pub struct Administrator(Arc<Engine>);

impl Administrator {
    /// Asks this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// The snapshot that begins like this.
    fn resolve(&self, prefix: &str) -> Result<SnapshotId, Refusal> {
        resolve(self.0.store(), prefix).map_err(|error| refuse_snapshot(&error))
    }

    /// The snapshot as a list shows it.
    fn look(&self, id: SnapshotId) -> Result<SnapshotView, Refusal> {
        let gone = || refuse_snapshot(&StoreError::UnknownSnapshot { id: id.to_string() });
        let refuse = |error: StoreError| refuse_snapshot(&error);
        let infos = self.0.store().snapshots().map_err(refuse)?;
        let info = infos.iter().find(|info| info.id == id).ok_or_else(gone)?;
        let stays = stays(self.0.store(), self.0.config()).map_err(refuse)?;
        Ok(view(info, &infos, &stays, ByteCount(0)))
    }

    fn show(&self, step: StepKind, progress: Option<Progress>) {
        self.0.board().show_by_hand(Some(Activity {
            operation: None,
            step,
            generation: rfs_model::Generation(0),
            phase: progress.map(|progress| progress.phase),
            steps_done: progress.map_or(0, |progress| progress.steps_done),
            steps_total: progress.map_or(0, |progress| progress.steps_total),
            since: self.0.clock().now(),
            waits_for: None,
        }));
    }
}

/// An operation of this host alone.
fn local_operation() -> OperationId {
    OperationId::from_uuid(Uuid::now_v7())
}

impl Administration for Administrator {
    fn snapshots(&self) -> Result<Vec<SnapshotView>, Refusal> {
        let infos = self.0.store().snapshots().map_err(|error| refuse_snapshot(&error))?;
        let stays = stays(self.0.store(), self.0.config()).map_err(|error| refuse_snapshot(&error))?;
        Ok(infos.iter().rev().map(|info| view(info, &infos, &stays, ByteCount(0))).collect())
    }

    fn capture(&self, components: &BTreeSet<ComponentName>, reason: &str) -> Result<SnapshotView, Refusal> {
        let captured = self.0.capture(components, reason, local_operation(), &Cancel::new())?;
        let (info, stays) = (&captured.info, BTreeMap::from([(captured.info.id, Kept::Newest.to_string())]));
        Ok(view(info, std::slice::from_ref(info), &stays, captured.measure.stored))
    }

    fn plan_with(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
    ) -> Result<PlanView, Refusal> {
        self.0.plan_with(self.resolve(snapshot)?, selection, choices, &Cancel::new())
    }

    fn plan_all(
        &self,
        snapshot: &str,
        selection: &Selection,
        choices: &Choices,
        see: &mut dyn FnMut(PlanPart),
    ) -> Result<(), Refusal> {
        self.0.plan_all(self.resolve(snapshot)?, selection, choices, &Cancel::new(), see)
    }

    fn restore(&self, order: &RestoreOrder, progress: &dyn Fn(Progress)) -> Result<RestoreView, Refusal> {
        let target = self.resolve(&order.snapshot)?;
        let timeout = order.timeout.unwrap_or(self.0.config().max_restore_time);
        let order = Order {
            operation: local_operation(),
            target,
            selection: order.selection.clone(),
            until: after(timeout),
            reason: format!("before restoring {}", target.0.short()),
            command: None,
            force: order.force,
            choices: order.choices.clone(),
        };
        let shown = std::cell::Cell::new(false);
        let watch = |now| {
            shown.set(true);
            self.show(StepKind::Apply, Some(now));
            progress(now);
        };
        let ended = self.0.restore(order, &watch);
        // A restore that was not begun has shown nothing, and what is shown is another's.
        if shown.get() {
            self.0.board().show_by_hand(None);
        }
        Ok(RestoreView::from(&ended?))
    }

    fn last_restore(&self) -> Option<String> {
        let receipts = self.0.journal().receipts::<Receipt>(1).ok()?;
        receipts.first().map(in_words)
    }

    fn pin(&self, snapshot: &str, reason: &str) -> Result<SnapshotView, Refusal> {
        let id = self.resolve(snapshot)?;
        self.0.store().pin(id, reason).map_err(|error| refuse_snapshot(&error))?;
        self.look(id)
    }

    fn unpin(&self, snapshot: &str) -> Result<SnapshotView, Refusal> {
        let id = self.resolve(snapshot)?;
        self.0.store().unpin(id).map_err(|error| refuse_snapshot(&error))?;
        self.look(id)
    }

    fn delete(&self, snapshot: &str) -> Result<(), Refusal> {
        self.0.delete(self.resolve(snapshot)?)
    }

    fn drill(&self, snapshot: &str, scratch: Option<&Path>) -> Result<DrillView, Refusal> {
        let snapshot = self.resolve(snapshot)?;
        let done = self.0.drill(snapshot, scratch, &Cancel::new())?;
        let DrillReport { verified_at, restore_time, entries, size } = done;
        Ok(DrillView { snapshot, verified_at, restore_time, entries, bytes: size })
    }

    fn collect(&self) -> Result<CollectView, Refusal> {
        let report = self.0.collect(&Cancel::new())?;
        let kept = report.kept.into_iter().map(|(id, why)| (id, why.to_string()));
        Ok(CollectView { forgotten: report.forgotten, kept: kept.collect(), freed: report.freed })
    }

    fn repair(&self) -> Result<RepairView, Refusal> {
        let report = self.0.repair(&Cancel::new())?;
        let damage = report.remaining.damage;
        let harmed: BTreeSet<SnapshotId> = damage.iter().flat_map(|damage| damage.harms.clone()).collect();
        Ok(RepairView {
            quarantined: report.quarantined,
            restored: report.restored.len() as u64,
            damage: damage.iter().map(ToString::to_string).collect(),
            harmed: harmed.into_iter().collect(),
        })
    }
}

/// How a restore ended, on one line.
pub fn in_words(receipt: &Receipt) -> String {
    let target = receipt.target.0.short();
    let at = Timestamp(receipt.ended_at.0);
    match &receipt.failure {
        None => format!("{at}: at target {target}"),
        Some(failure) => format!("{at}: {}, not at target {target}: {}", receipt.standing, failure.message),
    }
}

/// Which rule keeps each snapshot; one that is not named is kept by none.
pub(crate) fn stays(store: &Store, config: &Config) -> Result<BTreeMap<SnapshotId, String>, StoreError> {
    let expiry = store.expiry(&config.retention.keep)?;
    let pinned = expiry.going.iter().filter(|info| config.retention.pinned.contains(&info.id));
    let pinned = pinned.map(|info| (info.id, "the configuration pins it".to_owned()));
    let stays = expiry.staying.iter().map(|(info, why)| (info.id, why.to_string()));
    Ok(stays.chain(pinned).collect())
}

/// What is said of a snapshot that no rule keeps.
pub(crate) const GOES: &str = "no rule keeps it; the next collection removes it";

fn view(
    info: &SnapshotInfo,
    all: &[SnapshotInfo],
    stays: &BTreeMap<SnapshotId, String>,
    stored: ByteCount,
) -> SnapshotView {
    let (kind, reason) = label::read(&info.label);
    SnapshotView {
        id: info.id,
        created_at: info.taken_at,
        kind,
        reason: reason.to_owned(),
        operation: info.operation,
        components: info.components.iter().map(|part| (part.name.clone(), part.kind)).collect(),
        bytes: ByteCount(info.components.iter().map(|part| part.size.0).sum()),
        stored,
        entries: info.components.iter().map(|part| part.entries).sum(),
        pinned: info.marks.pinned.is_some(),
        proven: info.marks.proof.map(|proof| (proof.verified_at, proof.restore_time())),
        held: undeletable(all, info).map(|why| why.to_string()),
        checkpoint: label::checkpoint(&info.label, info.operation),
        stays: stays.get(&info.id).cloned().unwrap_or_else(|| GOES.to_owned()),
        notes: info.components.iter().flat_map(|part| part.notes.iter().cloned()).collect(),
    }
}
