//! Where a rollback stands: what its events add up to.

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rfs_model::{CheckpointId, HostId, RollbackId, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::host::{Earlier, Elsewhere, HealthRecord, HostPhase, HostRecord};
use super::row::RollbackRow;
use crate::host::Failure;
use crate::hosts::Hosts;
use crate::plan::{Plan, WaveIndex};
use crate::request::{RollbackRequest, Source};

/// A rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RollbackRow", into = "RollbackRow")]
pub struct Rollback {
    /// Its id.
    pub id: RollbackId,
    /// What was asked.
    pub request: Arc<RollbackRequest>,
    /// What is to be done.
    pub plan: Arc<Plan>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The time of its last event.
    pub last_at: Timestamp,
    /// Since when the coordinator has heard hosts without a break; the beginning of time if it always has.
    pub listening_since: Timestamp,
    /// What was heard before this does not count.
    pub heard_from: Timestamp,
    /// Since when `max_duration` counts: its creation, or the last time that a person let it go on.
    pub bounded_from: Timestamp,
    /// When a host last started, answered or was judged, or the way became free.
    pub progress_at: Timestamp,
    /// Where it stands as a whole.
    pub phase: Phase,
    /// The wave that runs, or ran last; none before the first.
    pub wave: Option<WaveIndex>,
    /// What became of each wave.
    pub waves: Vec<WaveRecord>,
    /// What became of each host.
    pub hosts: Hosts<HostRecord>,
    /// Failed and ill hosts that a gate does not count any more.
    pub acknowledged: BTreeSet<HostId>,
    /// The last failure of a gate.
    pub cause: Option<Failure>,
    /// For each host, the rollback that undoes this one there, once it is over; the last one if that was tried more than once.
    pub undone: BTreeMap<HostId, RollbackId>,
}

/// Where a rollback stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Hosts start and are watched.
    Running {
        /// Which way.
        direction: Direction,
    },
    /// No host starts until a person has decided.
    Paused {
        /// Which way it went.
        direction: Direction,
        /// Why.
        cause: PauseCause,
        /// Since when.
        #[serde(default)]
        since: Timestamp,
    },
    /// A person ended it; hosts at work are waited for.
    Aborting {
        /// Who.
        by: String,
    },
    /// It is over.
    Finished {
        /// How.
        outcome: Outcome,
        /// Why it is not a success.
        cause: Option<Failure>,
        /// When.
        at: Timestamp,
    },
}

/// Which way hosts go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To their targets.
    Forward,
    /// Back to their backups.
    Back(Cause),
}

/// Why hosts go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The wave whose gate failed.
    pub wave: WaveIndex,
    /// Its failure.
    pub failure: Failure,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wave {}: {}", self.wave, self.failure)
    }
}

/// Why a rollback is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// A person paused it.
    Person(String),
    /// A gate failed.
    Failed(Cause),
    /// The coordinator's store was put back to an older copy, as this text tells.
    Rewound(String),
}

impl fmt::Display for PauseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(who) => write!(f, "by {who}"),
            Self::Failed(cause) => cause.fmt(f),
            Self::Rewound(text) => f.write_str(text),
        }
    }
}

/// How a rollback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Every host is at its target, and healthy if that was to be looked at.
    Succeeded,
    /// Some are, others are not; the cause names them.
    Partial,
    /// A person ended it.
    Aborted,
    /// The changed hosts are back as they were.
    Reverted,
    /// They were to go back, and some could not.
    RevertFailed,
    /// A host is at neither state; a person must look.
    NeedsOperator,
}

impl Outcome {
    /// The outcome as it stands in histories.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Partial => "PARTIAL",
            Self::Aborted => "ABORTED",
            Self::Reverted => "REVERTED",
            Self::RevertFailed => "REVERT_FAILED",
            Self::NeedsOperator => "NEEDS_OPERATOR",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveRecord {
    /// When its hosts could start.
    pub started_at: Option<Timestamp>,
    /// When its gate first failed.
    pub failed_at: Option<Timestamp>,
    /// When the rollback went on to the next wave.
    pub passed_at: Option<Timestamp>,
    /// A person took the gate as passed.
    pub promoted_by: Option<String>,
}

/// Where a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveState {
    /// Not started; its hosts are untouched.
    Pending,
    /// Hosts are being changed.
    Changing,
    /// All are changed; the gate watches their health.
    Watching,
    /// The gate passed.
    Passed,
    /// The gate failed.
    Failed,
}

impl Rollback {
    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Finished { outcome, .. } => Some(*outcome),
            Phase::Running { .. } | Phase::Paused { .. } | Phase::Aborting { .. } => None,
        }
    }

    /// Whether there is anything left to do: it has no outcome, or hosts that were left out are still to come in line.
    pub fn open(&self) -> bool {
        self.outcome().is_none() || self.hosts.values().any(HostRecord::pending)
    }

    /// The checkpoint that this rollback proves good: it reached every host of it, with all that was captured, and each was
    /// watched until it had been healthy for long enough. A gate that a person passed, or that did not look at health, proves
    /// nothing.
    pub fn proves(&self) -> Option<CheckpointId> {
        let Source::Checkpoint(checkpoint) = self.request.source else { return None };
        if self.outcome() != Some(Outcome::Succeeded) {
            return None;
        }
        let watched = !self.request.policy.gate.ignore_health
            && self.waves.iter().all(|wave| wave.promoted_by.is_none())
            && self.hosts.values().all(|host| host.phase == (HostPhase::Passed { doubtful_since: None }));
        let whole = self.request.selection == Default::default() && self.plan.offered == self.hosts.len();
        (watched && whole).then_some(checkpoint)
    }

    /// Whether anything can follow from how a host is, so that it is stored: once there is an outcome, only where the host is
    /// still to come in line or was changed after it, or where it is counted in the budget of others.
    pub(crate) fn watches(&self, host: &HostRecord) -> bool {
        self.outcome().is_none() || host.is_watched_after_the_outcome()
    }

    /// A host for which a command is out, if there is one.
    pub fn at_work(&self) -> Option<&HostId> {
        self.at_work_among(None)
    }

    /// One of these hosts that is at work; of all hosts, if none are named.
    pub fn at_work_among(&self, chosen: Option<&BTreeSet<HostId>>) -> Option<&HostId> {
        let mut at_work = self.hosts.iter().filter(|(_, host)| host.phase.at_work()).map(|(name, _)| name);
        at_work.find(|name| chosen.is_none_or(|chosen| chosen.contains(*name)))
    }

    /// Whether a person has taken the wave's gate as passed.
    pub fn promoted(&self, wave: WaveIndex) -> bool {
        self.waves.get(wave.get()).is_some_and(|wave| wave.promoted_by.is_some())
    }

    /// Where a wave stands.
    pub fn wave_state(&self, wave: WaveIndex) -> WaveState {
        let record = &self.waves[wave.get()];
        match (record.started_at, record.failed_at, record.passed_at) {
            (None, ..) => WaveState::Pending,
            (_, Some(_), _) => WaveState::Failed,
            (_, None, Some(_)) => WaveState::Passed,
            (Some(_), None, None) => {
                let mut hosts =
                    self.plan.waves[wave.get()].hosts.iter().filter_map(|host| self.hosts.get(host));
                let moving = hosts.any(|host| host.phase.at_work() || host.phase.waits());
                if moving { WaveState::Changing } else { WaveState::Watching }
            }
        }
    }

    /// What an undo of this rollback would bring back: the backup of each host that is at its target, or could not be
    /// brought back from there.
    pub fn backups(&self) -> BTreeMap<HostId, SnapshotId> {
        let changed = |host: &HostRecord| {
            host.at_target() || host.phase == HostPhase::RevertFailed || host.is_left_behind()
        };
        let changed = self.hosts.iter().filter(|(_, host)| changed(host));
        changed.filter_map(|(name, host)| Some((name.clone(), host.backup?))).collect()
    }
}
