//! The operator API over the wire.

pub mod authz;

use rfs_link::{Chain, Failure};
use rfs_model::Reason;

use crate::store::StoreError;

/// What a caller is told when the store fails; the log has the cause.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    tracing::error!(error = %Chain(error), "the store failed");
    match error {
        StoreError::Database(_) => {
            Failure::new(Reason::Overloaded, "the coordinator's store does not answer as it should")
        }
        StoreError::Open { .. } | StoreError::Damaged { .. } => {
            Failure::new(Reason::Internal, error.to_string())
        }
    }
}
