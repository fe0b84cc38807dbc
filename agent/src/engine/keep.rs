//! What the host keeps, and for how long.
//!
//! ```text
//! finish of a checkpoint ─▶ held: newest complete checkpoint     ─▶ until a newer one holds all of it
//! backup of a restore    ─▶ held: the way back of the restore    ─▶ until it went back, or backups of later operations
//!                                                                   hold all of it
//! what the fleet needs    ─▶ held: newest complete checkpoint,    ─▶ until the coordinator says that it is needed no more
//!                               target of a rollback
//! target of a restore    ─▶ held: the target of the restore      ─▶ until the restore has ended
//! all else: pins, the newest, the last one proven, and the keep rules of the configuration
//! ```
//!
//! Invariant: a hold is released only while nothing is restored, and never on an inconsistent host: whatever leads out of
//! that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use rfs_link::Chain;
use rfs_model::{ComponentName, OperationId, Reason, SnapshotId, Standing};
use rfs_store::{Cancel, CollectReport, NEWEST_CHECKPOINT, SnapshotInfo, StoreError};

use super::cause::{Cause, refuse};
use super::receipt::Receipt;
use super::run::Goal;
use super::stop::stopping;
use super::upkeep::{DRILL, SCRATCH};
use super::{Engine, checkpoint, label};
use crate::commander::Refusal;
use crate::local::SnapshotKind;

/// How many ended restores are looked at: as many as the journal keeps.
const RECEIPTS: u32 = 200;

/// What a holder of a restore's target ends with.
const TARGET: &str = " target";

/// Who holds the target of an operation's restore.
pub(super) fn target_holder(operation: OperationId) -> String {
    format!("{operation}{TARGET}")
}

/// Who holds the backup of an operation's restore.
pub(super) fn backup_holder(operation: OperationId) -> String {
    operation.to_string()
}

/// Who holds what the coordinator says that the fleet needs.
const FLEET: &str = "fleet";

/// Why the configuration's pins are there.
const PIN: &str = "the configuration names it";

impl Engine {
    /// Releases the backups that later restores have superseded, and what a crash left held. The caller owns the host.
    ///
    /// That a snapshot is kept too long is no reason for anything to fail.
    pub(super) fn release_superseded(&self) {
        if let Err(cause) = self.try_release_superseded() {
            tracing::warn!(error = %Chain(&cause), "snapshots that are needed no more may be kept");
        }
    }

    fn try_release_superseded(&self) -> Result<(), Cause> {
        if self.journal.held()?.is_some() || self.journal.open_run::<Goal>()?.is_some() {
            return Ok(());
        }
        let receipts: Vec<Receipt> = self.journal.receipts(RECEIPTS)?;
        let mut covered = BTreeMap::new();
        for info in self.store.snapshots()?.iter().rev() {
            for holder in info.marks.in_use.keys() {
                let is_over = match Self::backed_up(info, holder) {
                    Some(operation) => self.is_superseded(info, operation, &receipts, &mut covered)?,
                    None => holder.ends_with(TARGET),
                };
                if is_over {
                    self.store.release(info.id, holder)?;
                }
            }
        }
        Ok(())
    }

    /// Releases what a drill held that was killed, and removes what it had restored. Nothing is drilled while this is called.
    pub(super) fn release_drilled(&self) {
        let release = || -> Result<(), StoreError> {
            for info in self.store.snapshots()?.iter().filter(|info| info.marks.in_use.contains_key(DRILL)) {
                // What stays goes with the next drill.
                let _ = std::fs::remove_dir_all(self.config.store.join(SCRATCH));
                self.store.release(info.id, DRILL)?;
            }
            Ok(())
        };
        if let Err(error) = release() {
            tracing::warn!(error = %Chain(&error), "a snapshot stays held by a drill that has ended");
        }
    }

    /// The operation whose backup the snapshot is, if that is why it is held.
    fn backed_up(info: &SnapshotInfo, holder: &str) -> Option<OperationId> {
        let operation = info.operation.filter(|operation| backup_holder(*operation) == holder)?;
        (label::read(&info.label).0 == SnapshotKind::Backup).then_some(operation)
    }

    /// Whether a backup is needed no more. Called for the newest first; `covered` is what newer ones hold, and whose they are.
    /// Those of one operation stay together: one that is tried again goes back to its first.
    fn is_superseded(
        &self,
        info: &SnapshotInfo,
        operation: OperationId,
        receipts: &[Receipt],
        covered: &mut BTreeMap<ComponentName, OperationId>,
    ) -> Result<bool, Cause> {
        match receipts.iter().find(|receipt| receipt.backup == Some(info.id)).map(|receipt| receipt.standing)
        {
            Some(Standing::Before) => return Ok(true),
            Some(Standing::Target | Standing::Inconsistent) => {}
            // The restore ended before it knew of this backup, or with a later one.
            None if !self.receipts_of(operation)?.is_empty() => return Ok(true),
            // The journal forgot the restore, or never had it.
            None => {}
        }
        let wanted = self.configured();
        let mut is_superseded = true;
        for component in info.components.iter().filter(|component| wanted.contains(&component.name)) {
            let newest = *covered.entry(component.name.clone()).or_insert(operation);
            is_superseded &= newest != operation;
        }
        Ok(is_superseded)
    }

    /// Holds the snapshot that the operation cut as the newest complete checkpoint.
    pub(super) fn hold_finished(&self, operation: OperationId) {
        let hold = || -> Result<(), StoreError> {
            let snapshots = self.store.snapshots()?;
            let mut of_operation =
                snapshots.iter().rev().filter(|info| info.operation == Some(operation)).filter(|info| {
                    label::read(&info.label).0 == SnapshotKind::Checkpoint && !checkpoint::is_ahead(info)
                });
            match of_operation.next() {
                Some(cut) => self.store.hold_checkpoint(cut.id, &self.configured()),
                None => Ok(()),
            }
        };
        if let Err(error) = hold() {
            tracing::warn!(%operation, error = %Chain(&error), "the checkpoint is held by the keep rules alone");
        }
    }

    /// Holds the snapshots of checkpoints that the fleet needs, and gives up those of checkpoints that it has deleted.
    pub fn heed(&self, needed: &BTreeSet<OperationId>, deleted: &BTreeSet<OperationId>) {
        let heed = |info: &SnapshotInfo, operation: OperationId| -> Result<(), StoreError> {
            let is_held = info.marks.in_use.contains_key(FLEET);
            match needed.contains(&operation) {
                true if !is_held => {
                    let why = "the fleet's newest complete checkpoint, or a rollback's target";
                    self.store.protect(info.id, FLEET, why)?;
                }
                false if is_held => self.store.release(info.id, FLEET)?,
                true | false => {}
            }
            if deleted.contains(&operation) && !needed.contains(&operation) {
                self.store.release(info.id, NEWEST_CHECKPOINT)?;
                match self.store.forget(info.id) {
                    // It is pinned, say, or the last that was proven; it is asked for again with the next session.
                    Err(StoreError::Undeletable { .. } | StoreError::UnknownSnapshot { .. }) => {}
                    other => other?,
                }
            }
            Ok(())
        };
        let infos = match self.store.snapshots() {
            Ok(infos) => infos,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the fleet's needs are not noted");
                return;
            }
        };
        for info in infos.iter().filter(|info| !checkpoint::is_ahead(info)) {
            let is_checkpoint = label::read(&info.label).0 == SnapshotKind::Checkpoint;
            let Some(operation) = info.operation.filter(|_| is_checkpoint) else { continue };
            if let Err(error) = heed(info, operation) {
                tracing::warn!(snapshot = %info.id, error = %Chain(&error), "the fleet's need of it is not noted");
            }
        }
        self.collector.wake();
        self.board.wake();
    }

    fn configured(&self) -> BTreeSet<ComponentName> {
        self.config.components.iter().map(|component| component.name.clone()).collect()
    }

    /// Forgets what the configuration does not keep, and frees its room; beside captures, and until a restore begins.
    pub fn collect(&self, cancel: &Cancel) -> Result<CollectReport, Refusal> {
        let Some(_running) = self.collecting.take(cancel) else {
            return Err(refuse(
                Reason::HostBusy,
                "a collection is at work already",
                "wait until it has ended",
            ));
        };
        let collect = || -> Result<CollectReport, StoreError> {
            self.pin_as_configured()?;
            self.store.collect(&self.config.retention.keep, cancel)
        };
        let collected = collect();
        // Also one that was stopped may have forgotten snapshots.
        self.board.wake();
        collected.map_err(|error| match &error {
            StoreError::Stopped(_) if self.turns.is_closed() => stopping("the collection", "what it had done stays done"),
            StoreError::Stopped(_) if self.is_restoring() => refuse(
                Reason::Cancelled,
                "a restore or a checkpoint began, so the collection was stopped; what it had done stays done",
                "wait until that has ended, and run again: rfs-agent collect",
            ),
            StoreError::Damaged { .. } | StoreError::Missing { .. } => {
                let message = format!("nothing is collected while it cannot be told what a snapshot needs: {}", Chain(&error));
                refuse(
                    Reason::StoreDamaged,
                    message,
                    "see what is harmed with: rfs-agent snapshots verify; then: rfs-agent snapshots repair, or delete the harmed snapshot",
                )
            }
            _ => Cause::from(error).refusal(),
        })
    }

    /// Whether a collection would forget anything.
    pub(super) fn has_expired(&self) -> bool {
        self.store.expiry(&self.config.retention.keep).is_ok_and(|expiry| !expiry.going.is_empty())
    }

    /// Pins what the configuration names, and takes away its pins that it names no more.
    fn pin_as_configured(&self) -> Result<(), StoreError> {
        let named = &self.config.retention.pinned;
        for info in self.store.snapshots()? {
            match &info.marks.pinned {
                None if named.contains(&info.id) => self.store.pin(info.id, PIN)?,
                Some(why) if why == PIN && !named.contains(&info.id) => self.store.unpin(info.id)?,
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Whether a restore or a checkpoint owns the host.
    pub(super) fn is_restoring(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).is_some() || self.checkpoint().is_some()
    }

    /// Stops a collection that runs: what begins now needs the disk more.
    pub(super) fn stop_collection(&self) {
        self.collecting.stop();
    }

    /// Deletes a snapshot, if it may be.
    pub fn delete(&self, id: SnapshotId) -> Result<(), Refusal> {
        self.store.forget(id).map_err(|error| super::refuse_snapshot(&error))?;
        self.collector.wake();
        self.board.wake();
        Ok(())
    }
}
