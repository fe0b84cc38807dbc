//! Operations as they are seen: one as a whole, and many in a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{Generation, HostId, OperationId, Timestamp};
use rfs_rollout::checkpoint::{self, Checkpoint};
use rfs_rollout::rollback::{self, HostPhase, Rollback};
use rfs_rollout::{CheckpointRequest, Operation, Outside, RollbackRequest, Source};
use serde::{Deserialize, Serialize};

use super::fleet::Progress;
use crate::store::{OperationKind, OperationRow, Position};

/// An operation at a moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    /// Where it stands, by what is stored.
    pub operation: Arc<Operation>,
    /// How many events it has.
    pub position: Position,
    /// What others took of the budgets when it last decided.
    pub outside: Arc<Outside>,
    /// How far the hosts at work are, as they last said. Lost in a restart.
    pub progress: Arc<BTreeMap<HostId, Progress>>,
}

impl View {
    /// An operation of which nothing more is known than what is stored.
    pub(super) fn stored(operation: Arc<Operation>, position: Position) -> Self {
        Self { operation, position, outside: Arc::default(), progress: Arc::default() }
    }

    /// It, if it is a checkpoint.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match self.operation.as_ref() {
            Operation::Checkpoint(checkpoint) => Some(checkpoint),
            Operation::Rollback(_) => None,
        }
    }

    /// It, if it is a rollback.
    pub fn rollback(&self) -> Option<&Rollback> {
        match self.operation.as_ref() {
            Operation::Rollback(rollback) => Some(rollback),
            Operation::Checkpoint(_) => None,
        }
    }
}

/// An operation as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: OperationId,
    /// When it was created.
    pub created_at: Timestamp,
    /// A checkpoint's: whether it is a target. One that was complete is not, once a host has dropped its snapshot.
    pub complete: bool,
    /// What else a list shows.
    pub head: Head,
}

/// What lists show of an operation. Stored as JSON; a shape that cannot be read is made anew from the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Of a checkpoint.
    Checkpoint(Box<CheckpointHead>),
    /// Of a rollback.
    Rollback(Box<RollbackHead>),
}

/// What lists show of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHead {
    /// What was asked.
    pub request: CheckpointRequest,
    /// Where it stands.
    pub phase: checkpoint::Phase,
    /// How many hosts it was asked of.
    pub hosts: usize,
    /// How well they were when they were asked for their snapshots.
    pub health: checkpoint::HealthCount,
    /// How many of them it lacks, once it has ended.
    #[serde(default)]
    pub missing: usize,
}

/// What lists show of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackHead {
    /// What was asked.
    pub request: RollbackRequest,
    /// Where it stands.
    pub phase: rollback::Phase,
    /// How many hosts it concerns.
    pub hosts: usize,
}

impl Head {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Checkpoint(checkpoint) => Self::Checkpoint(Box::new(CheckpointHead {
                request: CheckpointRequest::clone(&checkpoint.request),
                phase: checkpoint.phase.clone(),
                hosts: checkpoint.hosts.len(),
                health: checkpoint.health(),
                missing: checkpoint.outcome().map_or(0, |_| checkpoint.missing().len()),
            })),
            Operation::Rollback(rollback) => Self::Rollback(Box::new(RollbackHead {
                request: RollbackRequest::clone(&rollback.request),
                phase: rollback.phase.clone(),
                hosts: rollback.hosts.len(),
            })),
        }
    }
}

/// The row that lists find an operation by.
pub(super) fn row(operation: &Operation) -> OperationRow {
    let (kind, created_at, complete, deployment, target, proves) = match operation {
        Operation::Checkpoint(checkpoint) => {
            let complete = checkpoint.outcome() == Some(checkpoint::Outcome::Complete);
            let deployment = checkpoint.request.deployment.clone();
            (OperationKind::Checkpoint, checkpoint.created_at, complete, deployment, None, false)
        }
        Operation::Rollback(rollback) => {
            let target = match rollback.request.source {
                Source::Checkpoint(id) => Some(id),
                Source::Undo(_) => None,
            };
            (OperationKind::Rollback, rollback.created_at, false, None, target, rollback.proves().is_some())
        }
    };
    OperationRow {
        id: operation.id(),
        kind,
        created_at,
        open: operation.open(),
        finished: operation.finished(),
        complete,
        deployment,
        target,
        proves,
        head: serde_json::to_string(&Head::of(operation))
            .expect("a head has no map with other keys than text"),
    }
}

/// Whether lists show an operation after events as they did before: then its row need not be made, which takes as long as the
/// request is.
pub(super) fn is_listed_alike(before: &Operation, after: &Operation) -> bool {
    let is_open = (before.finished(), before.open()) == (after.finished(), after.open());
    is_open
        && match (before, after) {
            (Operation::Checkpoint(before), Operation::Checkpoint(after)) => {
                let missing =
                    |checkpoint: &Checkpoint| checkpoint.outcome().map(|_| checkpoint.missing().len());
                before.phase == after.phase
                    && before.health() == after.health()
                    && missing(before) == missing(after)
            }
            (Operation::Rollback(before), Operation::Rollback(after)) => {
                before.phase == after.phase && before.proves() == after.proves()
            }
            (Operation::Checkpoint(_), Operation::Rollback(_))
            | (Operation::Rollback(_), Operation::Checkpoint(_)) => false,
        }
}

/// The hosts that an operation concerns.
pub(super) fn hosts(operation: &Operation) -> Vec<HostId> {
    match operation {
        Operation::Checkpoint(checkpoint) => checkpoint.hosts.keys().cloned().collect(),
        Operation::Rollback(rollback) => rollback.hosts.keys().cloned().collect(),
    }
}

/// How many hosts an operation concerns.
pub(super) fn host_count(operation: &Operation) -> usize {
    match operation {
        Operation::Checkpoint(checkpoint) => checkpoint.hosts.len(),
        Operation::Rollback(rollback) => rollback.hosts.len(),
    }
}

/// The hosts that have a connection, by what is stored.
pub(super) fn connected(operation: &Operation) -> BTreeSet<HostId> {
    match operation {
        Operation::Checkpoint(checkpoint) => {
            let hosts = checkpoint.hosts.iter().filter(|(_, host)| host.connected);
            hosts.map(|(name, _)| name.clone()).collect()
        }
        Operation::Rollback(rollback) => {
            let hosts = rollback.hosts.iter().filter(|(_, host)| host.connected);
            hosts.map(|(name, _)| name.clone()).collect()
        }
    }
}

/// The hosts for which generations may have been reserved that are not in the history.
pub(super) fn to_be_granted(operation: &Operation) -> BTreeSet<HostId> {
    match operation {
        Operation::Checkpoint(_) => BTreeSet::new(),
        Operation::Rollback(rollback) => {
            let again = rollback.hosts.iter().filter(|(_, host)| host.phase == HostPhase::Again);
            again.map(|(name, _)| name.clone()).collect()
        }
    }
}

/// The hosts that an operation that is over has, by the store, and neither owns nor is about to.
pub(super) fn left_over(operation: &Operation, mut hosts: BTreeSet<HostId>) -> BTreeSet<HostId> {
    let (owned, given) = (owned(operation), to_be_granted(operation));
    hosts.retain(|host| !owned.contains_key(host) && !given.contains(host));
    hosts
}

/// The hosts that an operation must own, each with the first generation that it holds there: all until it has an outcome,
/// then those that are at work again, or are about to be.
pub(super) fn owned(operation: &Operation) -> BTreeMap<HostId, Generation> {
    match operation {
        Operation::Checkpoint(checkpoint) => {
            let hosts = checkpoint.hosts.iter().filter(|_| checkpoint.outcome().is_none());
            hosts.map(|(name, host)| (name.clone(), host.generation)).collect()
        }
        Operation::Rollback(rollback) => {
            let over = rollback.outcome().is_some();
            let hosts =
                rollback.hosts.iter().filter(|(_, host)| !over || host.phase.at_work() || host.is_granted());
            hosts.map(|(name, host)| (name.clone(), host.generation)).collect()
        }
    }
}
