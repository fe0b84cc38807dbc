//! What an administrator may ask of the host, answered by the engine itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use rfs_model::{ByteCount, ComponentName, OperationId, SnapshotId, Timestamp};
use rfs_store::{Cancel, SnapshotInfo};
use uuid::Uuid;

use crate::commander::{Activity, Refusal, Selection, StepKind};
use crate::engine::{Engine, Order, Receipt, label, refuse_snapshot};
use crate::local::{Administration, PlanView, Progress, RestoreOrder, RestoreView, SnapshotView};

/// The engine, as an administrator sees it.
pub struct Administrator(Arc<Engine>);

impl Administrator {
    /// Asks this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// The snapshot that begins like this.
    fn resolve(&self, prefix: &str) -> Result<SnapshotId, Refusal> {
        self.0.store().resolve_prefix(prefix).map_err(|error| refuse_snapshot(&error))
    }

    fn show(&self, step: StepKind, progress: Option<Progress>) {
        self.0.board().show(Some(Activity {
            operation: None,
            step,
            generation: rfs_model::Generation(0),
            phase: progress.map(|progress| progress.phase),
            steps_done: progress.map_or(0, |progress| progress.steps_done),
            steps_total: progress.map_or(0, |progress| progress.steps_total),
            since: self.0.clock().now(),
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
        Ok(infos.iter().rev().map(|info| view(info, ByteCount(0))).collect())
    }

    fn capture(&self, components: &BTreeSet<ComponentName>, reason: &str) -> Result<SnapshotView, Refusal> {
        let captured = self.0.capture(components, reason, local_operation(), &Cancel::new())?;
        Ok(view(&captured.info, captured.measure.stored))
    }

    fn plan(&self, snapshot: &str, selection: &Selection) -> Result<PlanView, Refusal> {
        self.0.plan(self.resolve(snapshot)?, selection, &Cancel::new())
    }

    fn restore(&self, order: &RestoreOrder, progress: &dyn Fn(Progress)) -> Result<RestoreView, Refusal> {
        let target = self.resolve(&order.snapshot)?;
        let timeout = order.timeout.unwrap_or(self.0.config().max_restore_time);
        let order = Order {
            operation: local_operation(),
            target,
            selection: order.selection.clone(),
            deadline: self.0.clock().now().plus(timeout),
            reason: format!("before restoring {}", target.0.short()),
            command: None,
            force: order.force,
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
            self.0.board().show(None);
        }
        Ok(RestoreView::from(&ended?))
    }

    fn last_restore(&self) -> Option<String> {
        let receipts = self.0.journal().receipts::<Receipt>(1).ok()?;
        receipts.first().map(in_words)
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

fn view(info: &SnapshotInfo, stored: ByteCount) -> SnapshotView {
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
    }
}
