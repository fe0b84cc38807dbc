//! What holds for operations where a request says nothing.

use std::time::Duration;

use rfs_rollout::CheckpointRequest;

/// What the coordinator's configuration says of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a host may not have been seen before a checkpoint that waits for it says that it may be gone for good.
    pub stale_after: Duration,
    /// How long a host may hold still for a checkpoint without a further word.
    pub quiesce_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(30 * 24 * 3600),
            quiesce_timeout: CheckpointRequest::QUIESCE_TIMEOUT,
        }
    }
}
