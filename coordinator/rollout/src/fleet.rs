//! What is known of the fleet when an operation is planned and started.

use std::collections::BTreeMap;

use rfs_model::{Generation, Health, HostId, Labels, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

/// The fleet as a plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetView {
    /// Every host that is known.
    pub hosts: BTreeMap<HostId, HostView>,
    /// What the source offers each of its hosts: a checkpoint's snapshots, or a rollback's backups.
    pub targets: BTreeMap<HostId, SnapshotId>,
}

/// What a plan knows of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostView {
    /// Its labels.
    pub labels: Labels,
}

/// How a host is seen at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether it has a connection.
    pub connected: bool,
    /// Its health.
    pub health: Health,
    /// Since when its health is what it is.
    pub since: Timestamp,
    /// What the health rests on, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

impl Presence {
    /// A host of which nothing is known.
    pub fn absent(now: Timestamp) -> Self {
        Self { connected: false, health: Health::Unknown, since: now, evidence: String::new() }
    }
}

/// What an operation was given for one host when it took ownership of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The first of the [`crate::GENERATIONS`] that are reserved for the operation on this host.
    pub generation: Generation,
    /// How the host was seen.
    pub presence: Presence,
}
