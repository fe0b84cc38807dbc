//! Where a checkpoint stands: what its events add up to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{CheckpointId, Generation, Health, HostId, InstanceId, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::host::{Captured, Failure};
use crate::hosts::Hosts;
use crate::request::CheckpointRequest;

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// What was asked.
    #[serde(with = "crate::shared")]
    pub request: Arc<CheckpointRequest>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The time of its last event.
    pub last_at: Timestamp,
    /// Since when the coordinator has heard hosts without a break; the beginning of time if it always has.
    pub listening_since: Timestamp,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// The person who ended it.
    pub aborted_by: Option<String>,
    /// Hosts that may still have held still at its end have resumed since, or have had to by themselves.
    pub closed: bool,
    /// What became of each host.
    pub hosts: Hosts<HostRecord>,
}

/// Where a checkpoint stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Hosts get ready.
    Preparing,
    /// Hosts cut.
    Cutting,
    /// Hosts resume.
    Finishing {
        /// How long their word is waited for.
        deadline: Timestamp,
    },
    /// It is over.
    Finished {
        /// How.
        outcome: Outcome,
        /// The time between the first and the last cut.
        #[serde(with = "crate::millis")]
        skew: Duration,
        /// When.
        at: Timestamp,
    },
}

/// How a checkpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The snapshot of every host is durable on that host, but for those that were allowed to be missing: of them it is no
    /// checkpoint.
    Complete,
    /// Too many are missing; each says why. Not a target.
    Incomplete,
    /// A person ended it before all had cut. Not a target.
    Aborted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Complete => "COMPLETE",
            Self::Incomplete => "INCOMPLETE",
            Self::Aborted => "ABORTED",
        })
    }
}

/// What became of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// The first of the generations reserved for it.
    pub generation: Generation,
    /// Whether it has a connection.
    pub connected: bool,
    /// Since when it has, or has not.
    pub connection_since: Timestamp,
    /// The machine that speaks for it, as far as it has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// How well it was when it was asked for its snapshot: what the snapshot brings back.
    pub health: Health,
    /// What the health rests on, in words.
    pub evidence: String,
    /// For how long it had not been seen then, if that is so long that it may be gone for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_for: Option<Duration>,
    /// Whether it was told to get ready, as far as is known: it had a connection while it was to. It may hold still.
    pub told: bool,
    /// Where it stands.
    pub phase: HostPhase,
    /// Whether it has said that it is quiet.
    pub was_ready: bool,
    /// Its snapshot, once durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured: Option<Captured>,
    /// When its snapshot was durable, or it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
    /// Why it is missing; or, with a snapshot, why it did not resume as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How many hosts are how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthCount {
    /// Measured, and as they should be.
    pub good: u32,
    /// Measured, and not as they should be.
    pub bad: u32,
    /// Not measured.
    pub unknown: u32,
}

/// Where a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPhase {
    /// Told to get ready.
    Preparing,
    /// Ready; waits for all others.
    Prepared,
    /// Told to cut.
    Cutting,
    /// Its snapshot is durable; waits for all others.
    Cut,
    /// Told to resume.
    Finishing,
    /// It has resumed, and its snapshot is durable.
    Done,
    /// Missing; told to resume.
    Abandoning,
    /// Missing, and at rest.
    Failed,
}

impl Checkpoint {
    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Finished { outcome, .. } => Some(*outcome),
            Phase::Preparing | Phase::Cutting | Phase::Finishing { .. } => None,
        }
    }

    /// Whether anything is left to do: until it has an outcome, and then as long as hosts may hold still that have not said that
    /// they resumed. It owns none of them then.
    pub fn open(&self) -> bool {
        self.outcome().is_none() || (!self.closed && self.hosts.values().any(HostRecord::may_hold_still))
    }

    /// How well its hosts were when they were asked for their snapshots.
    pub fn health(&self) -> HealthCount {
        let mut count = HealthCount::default();
        for host in self.hosts.values() {
            match host.health {
                Health::Good => count.good += 1,
                Health::Bad => count.bad += 1,
                Health::Unknown => count.unknown += 1,
            }
        }
        count
    }

    /// How long a host may hold still without a further word.
    pub fn quiesce_timeout(&self) -> Duration {
        self.request.quiesce_timeout.unwrap_or(CheckpointRequest::QUIESCE_TIMEOUT)
    }

    /// By when the host has resumed by itself, whatever it heard. One that was told to get ready and was not heard since may
    /// become quiet for as long as the checkpoint may take.
    pub(super) fn quiet_by(&self, host: &HostRecord) -> Timestamp {
        let heard = host.settled_at.unwrap_or(self.created_at);
        let last = if host.was_ready { heard } else { heard.max(self.durable_by()) };
        last.plus(self.quiesce_timeout())
    }

    /// When hosts must be ready.
    pub fn ready_by(&self) -> Timestamp {
        self.created_at.plus(self.request.timeout * 2 / 3)
    }

    /// When snapshots must be durable.
    pub fn durable_by(&self) -> Timestamp {
        self.created_at.plus(self.request.timeout)
    }

    /// The durable snapshots.
    pub fn snapshots(&self) -> BTreeMap<HostId, SnapshotId> {
        let captured = self.hosts.iter().filter_map(|(name, host)| Some((name, host.captured.as_ref()?)));
        captured.map(|(name, captured)| (name.clone(), captured.snapshot)).collect()
    }

    /// The hosts whose snapshot is missing, with the reason as far as it is known.
    pub fn missing(&self) -> BTreeMap<HostId, Option<Failure>> {
        let missing = self.hosts.iter().filter(|(_, host)| host.captured.is_none());
        missing.map(|(name, host)| (name.clone(), host.failure.clone())).collect()
    }

    /// Whether so many hosts have their snapshots that those that lack them may be missing. A checkpoint of nobody is none.
    pub(super) fn has_enough(&self) -> bool {
        let missing = self.hosts.values().filter(|host| host.captured.is_none()).count();
        let all = self.hosts.len();
        let may_miss = self.request.allow_missing.map_or(0, |most| most.at_most(all));
        missing <= may_miss && missing < all
    }

    /// The time between the first and the last cut.
    pub fn skew(&self) -> Duration {
        let cuts =
            || self.hosts.values().filter_map(|host| host.captured.as_ref()).map(|captured| captured.cut_at);
        match (cuts().min(), cuts().max()) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        }
    }
}

impl HostRecord {
    /// Whether the host may hold still for this checkpoint although nothing is left for it to do.
    pub(super) fn may_hold_still(&self) -> bool {
        self.phase == HostPhase::Finishing || (self.phase == HostPhase::Abandoning && self.told)
    }
}
