//! Room: asked for before work begins, and made where the store can give some back.
//!
//! A capture is refused when there can be no room for what it is about to read, and at the latest when the reserve is
//! reached; nothing of it is left then. A restore is refused before its backup is committed, when any of the file systems
//! that it stages on, or the store's, would be left with less than its reserve. Before either, the clones of large files go.

use rfs_model::Reason;
use rfs_store::{Cancel, Demand, StoreError};

use super::Engine;
use super::cause::Cause;
use crate::commander::Refusal;

impl Engine {
    /// Refuses work for which there is no room. First clones go, and where the agent collects by itself, what is not kept.
    pub(super) fn make_room(&self, demands: &[Demand], cancel: &Cancel) -> Result<(), Cause> {
        let mut checked = self.store.check_room(demands);
        let ways: [&dyn Fn() -> bool; 2] = [&|| self.drops_clones(), &|| self.gives_back(cancel)];
        for gives_room in ways {
            if matches!(checked, Err(StoreError::NoSpace { .. })) && gives_room() {
                checked = self.store.check_room(demands);
            }
        }
        Ok(checked?)
    }

    /// Captures, and again after each way to make room if there was none.
    pub(super) fn with_room<T>(
        &self,
        cancel: &Cancel,
        capture: impl Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let is_full = |refusal: &Refusal| refusal.reason == Reason::NoSpace;
        let captured = match capture() {
            Err(refusal) if is_full(&refusal) && self.drops_clones() => capture(),
            captured => captured,
        };
        match captured {
            Err(refusal) if is_full(&refusal) && self.gives_back(cancel) => capture(),
            captured => captured,
        }
    }

    /// Gives up the clones, which nothing needs; false if there were none.
    fn drops_clones(&self) -> bool {
        match self.store.drop_clones() {
            Ok(0) => false,
            Ok(clones) => {
                tracing::info!(clones, "clones of large files removed, for room is needed");
                true
            }
            Err(error) => {
                tracing::warn!(error = %rfs_link::Chain(&error), "room is needed, and clones could not be removed");
                false
            }
        }
    }

    /// Collects because room is needed now; false if that gave nothing back, or is not for the agent to do.
    fn gives_back(&self, cancel: &Cancel) -> bool {
        if !self.config.retention.automatic {
            return false;
        }
        let collected = self.store.collect(&self.config.retention.keep, cancel);
        self.board.wake();
        match collected {
            Ok(report) => {
                tracing::info!(forgotten = report.forgotten.len(), freed = %report.freed, "collected, for room is needed");
                report.freed.0 > 0
            }
            Err(error) => {
                tracing::warn!(error = %rfs_link::Chain(&error), "room is needed, and nothing could be collected");
                false
            }
        }
    }
}
