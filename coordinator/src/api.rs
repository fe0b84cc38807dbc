//! The operator API over the wire: requests are read and checked, operations and hosts are shown.
//!
//! ```text
//! call ─▶ authz (the one table) ─▶ service ─read─▶ rfs-rollout values ─▶ drivers, hub, store ─show─▶ answer
//! ```
//!
//! What holds for every method
//! - A field that is not valid is named by its path in `google.rpc.BadRequest`; every refusal has a reason in
//!   `google.rpc.ErrorInfo` and what to do next in `google.rpc.Help`, after the one table of `rfs_link::status`.
//! - Reading changes nothing. What creates takes a `request_id`: the same id and request give the first answer again.
//! - Who asks is taken from the certificate, never from the request.
//! - Resource names are `checkpoints/{id}`, `rollbacks/{id}` and `hosts/{name}`; the bare id is taken, too.

pub mod authz;

pub mod host;

pub mod checkpoint;

pub mod rollback;

mod findings;
mod page;
mod read;
mod show;
mod watch;

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use rfs_link::{Chain, Failure};
use rfs_model::Reason;
use rfs_proto::convert::FieldError;

use crate::store::{PageToken, StoreError};

pub(crate) use page::fingerprint;

/// The descriptors of what the coordinator serves: all but the agent's own API on its host.
pub fn descriptors() -> &'static [u8] {
    static SERVED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut set = FileDescriptorSet::decode(rfs_proto::DESCRIPTORS).expect("our own descriptors decode");
        set.file.retain(|file| file.package() != "rfs.agent.v1");
        set.encode_to_vec()
    });
    &SERVED
}

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

/// The operation after which a page begins.
fn page_after(list: &page::List, page_token: &str) -> Result<Option<PageToken>, Failure> {
    let after = list.after(page_token)?;
    // A token of ours holds an id: its check says that it is ours.
    Ok(after.and_then(|id| id.parse().ok()).map(PageToken))
}

/// A field that is not valid.
fn invalid(error: FieldError) -> Failure {
    Failure::invalid(error.path, error.problem)
}
