//! A line in the coordinator's log for each operation: who asked for what, and how it ended.

use rfs_model::OperationId;
use rfs_rollout::rollback::{Outcome, Phase};
use rfs_rollout::{Operation, Person};
use tracing::{info, warn};

/// An operation has begun.
pub(super) fn begun(operation: &Operation) {
    match operation {
        Operation::Checkpoint(checkpoint) => info!(
            checkpoint = %checkpoint.id,
            by = checkpoint.request.requester,
            hosts = checkpoint.hosts.len(),
            deployment = checkpoint.request.deployment.as_ref().map(tracing::field::display),
            reason = some(&checkpoint.request.reason),
            "checkpoint begun"
        ),
        Operation::Rollback(rollback) => info!(
            rollback = %rollback.id,
            by = rollback.request.requester,
            to = %rollback.request.source,
            hosts = rollback.hosts.len(),
            waves = rollback.plan.waves.len(),
            reason = some(&rollback.request.reason),
            "rollback begun"
        ),
    }
}

/// A person has steered an operation.
pub(super) fn steered(operation: OperationId, person: &Person) {
    info!(%operation, by = person.who, action = %person.action, "decided");
}

/// An operation has an outcome.
pub(super) fn ended(operation: &Operation) {
    match operation {
        Operation::Checkpoint(checkpoint) => {
            let Some(outcome) = checkpoint.outcome() else { return };
            let took = checkpoint.last_at.since(checkpoint.created_at);
            let missing = checkpoint.missing().len();
            info!(checkpoint = %checkpoint.id, %outcome, ?took, missing, "checkpoint ended");
        }
        Operation::Rollback(rollback) => {
            let Phase::Finished { outcome, cause, .. } = &rollback.phase else { return };
            let took = rollback.last_at.since(rollback.created_at);
            let cause = cause.as_ref().map(tracing::field::display);
            match outcome {
                Outcome::Succeeded => {
                    info!(rollback = %rollback.id, by = rollback.request.requester, %outcome, ?took, "rollback ended");
                }
                Outcome::Partial
                | Outcome::Aborted
                | Outcome::Reverted
                | Outcome::RevertFailed
                | Outcome::NeedsOperator => {
                    warn!(rollback = %rollback.id, by = rollback.request.requester, %outcome, ?took, cause, "rollback ended");
                }
            }
        }
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
