//! Room: asked for before work begins, and made where the store can give some back.
//!
//! A capture is refused when there can be no room for what it is about to read, and at the latest when the reserve is
//! reached; nothing of it is left then. A restore is refused before its backup is committed, when any of the file systems
//! that it stages on, or the store's, would be left with less than its reserve.

use rfs_model::Reason;
use rfs_store::{Cancel, Demand, StoreError};

use super::Engine;
use super::cause::Cause;
use crate::commander::Refusal;

impl Engine {
    /// Refuses work for which there is no room. Where the agent collects by itself, it does so first.
    pub(super) fn make_room(&self, demands: &[Demand], cancel: &Cancel) -> Result<(), Cause> {
        match self.store.check_room(demands) {
            Err(error @ StoreError::NoSpace { .. }) => {
                if !self.gives_back(cancel) {
                    return Err(error.into());
                }
                Ok(self.store.check_room(demands)?)
            }
            checked => Ok(checked?),
        }
    }

    /// Captures, and once more after a collection if there was no room.
    pub(super) fn with_room<T>(
        &self,
        cancel: &Cancel,
        capture: impl Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match capture() {
            Err(refusal) if refusal.reason == Reason::NoSpace && self.gives_back(cancel) => capture(),
            captured => captured,
        }
    }

    /// Collects because room is needed now; false if that gave nothing back, or is not for the agent to do.
    fn gives_back(&self, cancel: &Cancel) -> bool {
        if !self.config.retention.automatic {
            return false;
        }
        match self.store.collect(&self.config.retention.keep, cancel) {
            Ok(report) => {
                tracing::info!(forgotten = report.forgotten.len(), freed = %report.freed, "collected, for room is needed");
                report.freed.0 > 0 || report.clones > 0
            }
            Err(error) => {
                tracing::warn!(error = %rfs_link::Chain(&error), "room is needed, and nothing could be collected");
                false
            }
        }
    }
}
