//! What is known of the fleet when an operation is planned and started.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs_model::{Generation, Health, HostId, InstanceId, Labels, RestoreNumber, SnapshotId, Timestamp};
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
    /// It has said which checks it has, and none of them is required: it will never be known to be good.
    pub unchecked: bool,
}

/// What was measured of a host's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The health.
    pub health: Health,
    /// Since when it is what it is without a break, as the host measured it.
    pub since: Timestamp,
    /// The last restore on the host that had ended before the measurement began.
    pub after: RestoreNumber,
    /// When the measurement began; none if nothing was measured.
    pub measured_at: Option<Timestamp>,
    /// Up to when all that the host has said is heard: it stood by this at that moment.
    pub heard_at: Timestamp,
    /// What it rests on, in words.
    pub evidence: String,
}

impl Reading {
    /// Nothing is known, for the reason that `evidence` gives.
    pub fn unknown(now: Timestamp, evidence: impl Into<String>) -> Self {
        Self {
            health: Health::Unknown,
            since: now,
            after: RestoreNumber(0),
            measured_at: None,
            heard_at: now,
            evidence: evidence.into(),
        }
    }
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
    /// The last restore on the host that had ended before its health was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RestoreNumber>,
    /// The machine that speaks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// For how long it has not been seen, if that is so long that it may be gone for good.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::millis::option")]
    pub unseen_for: Option<Duration>,
}

impl Presence {
    /// A host of which nothing is known.
    pub fn absent(now: Timestamp) -> Self {
        Self {
            connected: false,
            health: Health::Unknown,
            since: now,
            evidence: String::new(),
            after: None,
            instance: None,
            unseen_for: None,
        }
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
