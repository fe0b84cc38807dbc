//! The words of RFS: what both ends must agree on before they exchange a message.
//!
//! Everything here is a value: no input or output, no task, no thread. The one exception is
//! [`time::SystemClock`], the only place in the workspace that reads the machine's clock.
//!
//! Invariants
//! - A value that exists is valid: every constructor from text checks, and `serde` goes through the same check.
//! - Nothing here depends on a crate of ours, on an async runtime, or on a wire format.

mod name;
mod text;

pub mod component;
pub mod digest;
pub mod generation;
pub mod health;
pub mod host;
pub mod id;
pub mod label;
pub mod principal;
pub mod reason;
pub mod size;
pub mod time;

pub use component::{ComponentKind, ComponentName};
pub use digest::{Digest, SnapshotId};
pub use generation::Generation;
pub use health::Health;
pub use host::{HostId, InstanceId, RestoreNumber, Standing};
pub use id::{CheckpointId, DeploymentId, OperationId, RequestId, RollbackId};
pub use label::{Labels, Selector};
pub use name::NameError;
pub use principal::{CoordinatorName, OperatorName};
pub use reason::Reason;
pub use size::ByteCount;
pub use time::{Clock, Timestamp};
