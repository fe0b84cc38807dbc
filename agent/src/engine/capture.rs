//! Captures the present state into a snapshot.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rfs_model::{ComponentName, OperationId, Reason, Timestamp};
use rfs_store::{Cancel, SnapshotInfo, SnapshotNote, Stopped};

use super::cause::{Cause, refuse};
use super::quiet::resumed_too_early;
use super::stop::stopping;
use super::{Engine, label};
use crate::commander::Refusal;
use crate::component::{Component, Measure};
use crate::local::SnapshotKind;

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// The moment whose state it is.
    pub cut_at: Timestamp,
    /// How large it is.
    pub measure: Measure,
    /// How long it took.
    pub took: Duration,
}

/// Refuses what must be decided before it can be captured.
pub(super) fn check(chosen: &[&dyn Component]) -> Result<(), Refusal> {
    chosen.iter().try_for_each(|component| component.check()).map_err(|error| Cause::from(error).refusal())
}

impl Engine {
    /// Refuses a configuration that leaves undecided what is captured, as long as nothing was. Once there are snapshots to go
    /// back to, the host can be reached, and only captures are refused.
    pub fn check_components(&self) -> Result<(), Refusal> {
        let all: Vec<&dyn Component> = self.components.iter().map(AsRef::as_ref).collect();
        let Err(refusal) = check(&all) else { return Ok(()) };
        let has_snapshots = self.store.snapshots().is_ok_and(|snapshots| !snapshots.is_empty());
        if !has_snapshots {
            return Err(refusal);
        }
        tracing::error!(error = refusal.message, "nothing can be captured until this is decided");
        Ok(())
    }

    /// Captures the components; none means all. They are made quiet for it, and resume, however it goes.
    pub fn capture(
        &self,
        components: &BTreeSet<ComponentName>,
        reason: &str,
        operation: OperationId,
        cancel: &Cancel,
    ) -> Result<Captured, Refusal> {
        let _turn = self.turns.take("a capture", Some((operation, cancel.clone())))?;
        self.is_free_for(operation)?;
        let chosen = self.chosen(components)?;
        check(&chosen)?;
        let quiet = self.quiesce(&chosen, operation, self.config.max_restore_time, cancel);
        let cut = || self.cut(&chosen, SnapshotKind::Local, reason, None, cancel);
        let captured = quiet.and_then(|()| self.with_room(cancel, cut));
        self.resume(operation)?;
        captured.map_err(|refusal| match cancel.check() {
            Err(Stopped::Cancelled) if self.turns.is_closed() => {
                stopping("the capture", "nothing of it is kept, and everything runs again")
            }
            Err(Stopped::DeadlinePassed) => {
                refuse(
                    Reason::DeadlineExceeded,
                    resumed_too_early(self.config.max_restore_time),
                    "try again, what was stored stays; or let it be quiet for longer: max_time under [restore] in the configuration",
                )
            }
            Err(Stopped::Cancelled) | Ok(()) => refusal,
        })
    }

    /// Captures and commits, quiet or not. The caller owns the host.
    pub(super) fn cut(
        &self,
        chosen: &[&dyn Component],
        kind: SnapshotKind,
        reason: &str,
        operation: Option<OperationId>,
        cancel: &Cancel,
    ) -> Result<Captured, Refusal> {
        let begun = Instant::now();
        let cut_at = self.clock.now();
        let work = || -> Result<_, Cause> {
            self.store.check_room(&[self.store.commit_room()])?;
            let capture = self.store.begin()?;
            let mut measure = Measure::default();
            for component in chosen {
                cancel.check()?;
                let part = component.capture(&capture, cancel)?.measure();
                measure.entries += part.entries;
                measure.bytes.0 += part.bytes.0;
                measure.stored.0 += part.stored.0;
            }
            cancel.check()?;
            let note = SnapshotNote { host: self.host.clone(), label: label::write(kind, reason), operation };
            Ok((capture.commit(note)?, measure))
        };
        let (info, measure) = work().map_err(|cause| cause.refusal())?;
        Ok(Captured { info, cut_at, measure, took: begun.elapsed() })
    }

    /// The components of these names; none means all.
    pub(super) fn chosen(&self, names: &BTreeSet<ComponentName>) -> Result<Vec<&dyn Component>, Refusal> {
        if let Some(unknown) = names.iter().find(|name| self.config.component(name).is_none()) {
            let message = format!("component {unknown} is not configured on this host");
            return Err(refuse(
                Reason::ComponentNotFound,
                message,
                "see the components with: rfs-agent status",
            ));
        }
        if self.components.is_empty() {
            let message = "no component is configured on this host";
            return Err(refuse(
                Reason::ComponentNotFound,
                message,
                "add a [[component]] to the configuration",
            ));
        }
        let wanted = |component: &&dyn Component| names.is_empty() || names.contains(component.name());
        Ok(self.components.iter().map(AsRef::as_ref).filter(wanted).collect())
    }
}
