//! What a rollback's targets come from, read and found fit; and why a checkpoint must stay.

use std::collections::BTreeMap;

use rfs_model::{CheckpointId, HostId, OperationId, RollbackId, SnapshotId};
use rfs_rollout::checkpoint::{Checkpoint, Outcome};
use rfs_rollout::rollback;
use rfs_rollout::{FleetView, HostView, Operation, Plan, RollbackRequest, Source, plan};

use super::error::OperationError;
use super::operations::{Shared, read_head};
use super::view::Head;
use crate::store::{ListQuery, OperationKind, StoreError};

/// How many of the newest rollbacks are looked at for the last one that proved a checkpoint good.
const PROOFS: u32 = 200;
/// How many missing hosts are named.
const NAMED: usize = 3;

/// Plans a rollback over the hosts that are known.
pub(super) async fn planned(shared: &Shared, request: &RollbackRequest) -> Result<Plan, OperationError> {
    let targets = match request.source {
        Source::Checkpoint(id) => snapshots(shared, id).await?,
        Source::Undo(of) => backups(shared, of).await?,
    };
    let hosts = shared.store.hosts().await?.into_iter();
    let hosts = hosts.map(|row| (row.host, HostView { labels: row.labels }));
    Ok(plan(request, &FleetView { hosts: hosts.collect(), targets })?)
}

async fn snapshots(
    shared: &Shared,
    id: CheckpointId,
) -> Result<BTreeMap<HostId, SnapshotId>, OperationError> {
    let checkpoint = checkpoint(shared, id).await?;
    match checkpoint.outcome() {
        Some(Outcome::Complete) => Ok(checkpoint.snapshots()),
        Some(Outcome::Incomplete) => Err(OperationError::Incomplete { id, missing: missing(&checkpoint) }),
        None => Err(OperationError::NotYetTaken(id)),
    }
}

/// The checkpoint, unless it is deleted.
async fn checkpoint(shared: &Shared, id: CheckpointId) -> Result<Checkpoint, OperationError> {
    let row = shared.store.operation(id.into()).await?;
    if row.is_none_or(|row| row.kind != OperationKind::Checkpoint) {
        return Err(OperationError::NoCheckpoint(id));
    }
    match stored(shared, id.into()).await? {
        Some(Operation::Checkpoint(checkpoint)) => Ok(*checkpoint),
        Some(Operation::Rollback(_)) | None => Err(OperationError::NoCheckpoint(id)),
    }
}

fn missing(checkpoint: &Checkpoint) -> String {
    let missing = checkpoint.missing();
    let named = missing.iter().take(NAMED).map(|(host, failure)| match failure {
        Some(failure) => format!("{host}: {failure}"),
        None => host.to_string(),
    });
    let mut texts: Vec<String> = named.collect();
    if missing.len() > NAMED {
        texts.push(format!("and {} more", missing.len() - NAMED));
    }
    texts.join("; ")
}

async fn backups(shared: &Shared, of: RollbackId) -> Result<BTreeMap<HostId, SnapshotId>, OperationError> {
    let Some(Operation::Rollback(rollback)) = stored(shared, of.into()).await? else {
        return Err(OperationError::NoRollback(of));
    };
    if rollback.outcome().is_none() {
        return Err(OperationError::StillRuns(of));
    }
    let backups = rollback.backups();
    if backups.is_empty() { Err(OperationError::NothingToUndo(of)) } else { Ok(backups) }
}

/// An operation by its whole history.
pub(super) async fn stored(shared: &Shared, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let history = shared.store.load(id).await?;
    if history.is_empty() {
        return Ok(None);
    }
    let damaged = |source| StoreError::Damaged { what: format!("the history of operation {id}"), source };
    Operation::replay(&history).map(Some).map_err(|error| damaged(error.into()))
}

/// Whether nothing needs the checkpoint.
pub(super) async fn deletable(shared: &Shared, id: CheckpointId) -> Result<(), OperationError> {
    let checkpoint = checkpoint(shared, id).await?;
    if checkpoint.outcome().is_none() {
        return Err(OperationError::NotYetTaken(id));
    }
    let why = if let Some(rollback) = shared.store.rollback_to(id).await? {
        format!("rollback {rollback} is on its way to it")
    } else if shared.store.newest_complete_checkpoint().await? == Some(id) {
        "it is the newest complete one".to_owned()
    } else if last_proven(shared).await? == Some(id) {
        "it is the last one that a rollback has reached and found healthy".to_owned()
    } else {
        return Ok(());
    };
    Err(OperationError::InUse { id, why })
}

/// The target of the newest rollback that succeeded.
async fn last_proven(shared: &Shared) -> Result<Option<CheckpointId>, StoreError> {
    let query = ListQuery { kind: OperationKind::Rollback, deployment: None, limit: PROOFS, after: None };
    for row in shared.store.list(query).await?.items {
        if let Head::Rollback(head) = read_head(shared, &row).await?
            && let Source::Checkpoint(id) = head.request.source
            && let rollback::Phase::Finished { outcome: rollback::Outcome::Succeeded, .. } = head.phase
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
