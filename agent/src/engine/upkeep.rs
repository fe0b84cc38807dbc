//! Drills and repairs: what keeps a store worth trusting.

use std::path::Path;

use rfs_link::{Chain, status};
use rfs_model::{OperationId, Reason, SnapshotId};
use rfs_store::restore::StageError;
use rfs_store::{Cancel, CaptureError, DrillError, DrillReport, FilesSpec, RepairReport};
use uuid::Uuid;

use super::cause::{Cause, refuse};
use super::stop::stopping;
use super::{Engine, refuse_snapshot};
use crate::commander::Refusal;
use crate::component::{capture_reason, files_spec, stage_reason, store_reason};
use crate::config::ComponentSpec;

/// Who holds a snapshot while it is drilled.
pub(super) const DRILL: &str = "drill";

/// The folder in the store where drills restore.
pub(super) const SCRATCH: &str = "drill";

impl Engine {
    /// Restores a snapshot into `scratch`, or a folder in the store, proves it equal to what was captured, and records that.
    pub fn drill(
        &self,
        id: SnapshotId,
        scratch: Option<&Path>,
        cancel: &Cancel,
    ) -> Result<DrillReport, Refusal> {
        let own = self.config.store.join(SCRATCH);
        let scratch = scratch.unwrap_or(&own);
        self.is_apart(scratch)?;
        let Some(_running) = self.drilling.take(cancel) else {
            return Err(refuse(Reason::HostBusy, "another drill is at work", "wait until it has ended"));
        };
        if scratch == own && own.exists() {
            // An earlier drill was killed, or proved something unequal that has been looked at since.
            std::fs::remove_dir_all(&own).map_err(|error| {
                refuse(Reason::Io, format!("cannot remove {}: {error}", own.display()), "remove it by hand")
            })?;
        }
        self.store.protect(id, DRILL, "it is being drilled").map_err(|error| refuse_snapshot(&error))?;
        let drilled = self.store.drill(id, scratch, cancel);
        if let Err(error) = self.store.release(id, DRILL) {
            tracing::warn!(error = %Chain(&error), "a drilled snapshot stays held until the next start");
        }
        // What can be restored may be another set now, for better or worse.
        self.board.wake();
        let is_stopped = drilled.is_err() && cancel.check().is_err();
        if (drilled.is_ok() || is_stopped) && scratch == own {
            // That it stays harms nobody.
            let _ = std::fs::remove_dir_all(&own);
        }
        drilled.map_err(|error| {
            if is_stopped && self.turns.is_closed() {
                return stopping("the drill", "it has proven nothing");
            }
            let refusal = refuse_drill(&error, scratch);
            if refusal.reason == Reason::StoreDamaged {
                self.note_harm(id, &refusal.message);
            }
            refusal
        })
    }

    /// Notes what a restore found its target to have lost, so that it is offered to nobody until it is repaired.
    pub(super) fn note_harm(&self, id: SnapshotId, lost: &str) {
        if let Err(error) = self.store.harm(id, Some(lost.to_owned())) {
            tracing::warn!(snapshot = %id, error = %Chain(&error), "the snapshot is harmed, and that is not noted");
        }
        self.board.wake();
    }

    /// A scratch folder must be neither live nor part of the store.
    fn is_apart(&self, scratch: &Path) -> Result<(), Refusal> {
        let meets = |path: &Path| path.starts_with(scratch) || scratch.starts_with(path);
        let roots = self.config.components.iter().flat_map(|component| match &component.spec {
            ComponentSpec::Files(files) => &files.paths[..],
            ComponentSpec::Services(_) => &[],
        });
        let in_store = meets(&self.config.store) && scratch != self.config.store.join(SCRATCH);
        match roots.into_iter().find(|path| meets(path)).or(in_store.then_some(&self.config.store)) {
            None => Ok(()),
            Some(path) => {
                let message = format!(
                    "scratch folder {} overlaps with {}, which is in use",
                    scratch.display(),
                    path.display()
                );
                Err(refuse(Reason::InvalidArgument, message, "name an empty folder elsewhere with --scratch"))
            }
        }
    }

    /// Sets aside what is damaged, and takes what was lost from the live files where they still have it.
    pub fn repair(&self, cancel: &Cancel) -> Result<RepairReport, Refusal> {
        let nobody = OperationId::from_uuid(Uuid::nil());
        let _turn = self.turns.take("a repair of its snapshots", Some((nobody, cancel.clone())))?;
        self.is_free_for(nobody)?;
        self.stop_collection();
        let live: Vec<FilesSpec> = self
            .config
            .components
            .iter()
            .filter_map(|component| match &component.spec {
                ComponentSpec::Files(files) => Some(files_spec(files)),
                ComponentSpec::Services(_) => None,
            })
            .collect();
        let repaired = self.store.repair(&live, cancel);
        self.collector.wake();
        self.board.wake();
        repaired.map_err(|error| {
            let reason = capture_reason(&error);
            match error {
                _ if reason == Reason::Cancelled && self.turns.is_closed() => {
                    stopping("the repair", "what it had done stays done")
                }
                CaptureError::Store(error) => Cause::from(error).refusal(),
                error => refuse(reason, Chain(&error).to_string(), status::row(reason).next),
            }
        })
    }
}

fn refuse_drill(error: &DrillError, scratch: &Path) -> Refusal {
    let (reason, next) = match error {
        DrillError::NotEmpty { .. } => {
            (Reason::InvalidArgument, "name an empty folder, or one that is not there".to_owned())
        }
        DrillError::Different { .. } => (
            Reason::VerificationFailed,
            format!(
                "look at what was restored in {}, then run: rfs-agent snapshots verify",
                scratch.display()
            ),
        ),
        DrillError::Stage(error @ (StageError::NoSpace { .. } | StageError::NoInodes { .. })) => {
            (stage_reason(error), "name a folder on a larger file system with --scratch".to_owned())
        }
        DrillError::Store(error) if store_reason(error) == Reason::NoSpace => {
            (Reason::NoSpace, "name a folder on a larger file system with --scratch".to_owned())
        }
        DrillError::Stage(error) => (stage_reason(error), status::row(stage_reason(error)).next.to_owned()),
        DrillError::Store(error) => (store_reason(error), status::row(store_reason(error)).next.to_owned()),
        DrillError::Capture(error) => (capture_reason(error), "try again".to_owned()),
        DrillError::Plan(_) | DrillError::Flip(_) | DrillError::Discard(_) => {
            (Reason::Io, "look at the named path, and try again".to_owned())
        }
    };
    refuse(reason, format!("the drill proved nothing: {}", Chain(error)), &next)
}
