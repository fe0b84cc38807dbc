//! Where a rollback stands: what its events add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rfs_model::{
    CheckpointId, Generation, Health, HostId, InstanceId, RestoreNumber, RollbackId, SnapshotId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::row::RollbackRow;
use crate::host::{Failure, Restored};
use crate::hosts::Hosts;
use crate::plan::{GroupIndex, Plan, WaveIndex};
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

/// What became of a host. Each decision looks at the first of these fields of every host: they lie next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct HostRecord {
    /// Where it stands.
    pub phase: HostPhase,
    /// The wave in which it changes.
    pub wave: WaveIndex,
    /// Whether it has a connection.
    pub connected: bool,
    /// Whether its generations are for the present attempt.
    pub granted: bool,
    /// Whether this attempt is made after the rollback had its outcome.
    pub late: bool,
    /// It had one when the coordinator was last away, and was not heard of since.
    pub returns: bool,
    /// It has obeyed what this history does not know, and has not said since where it stands.
    pub overtaken: bool,
    /// It was lost, and the way back does not wait any more to hear where it stands.
    pub given_up: bool,
    /// It was told to say where it stands, and said nothing in time although it was there: it is not asked again.
    pub silent: bool,
    /// The budgets that it is counted in.
    pub groups: Arc<[GroupIndex]>,
    /// Its health.
    pub health: HealthRecord,
    /// Which machines speak for its name, in words, while there are two.
    pub contested: Option<String>,
    /// It was lost, and may have obeyed its last attempt: what became of that is heard before it is tried again, with the way
    /// back, or before it goes back. This is where it stands if that attempt had no effect.
    pub unanswered: Option<HostPhase>,
    /// Its place within the wave, counted from 0.
    pub place: u32,
    /// Its target.
    pub target: SnapshotId,
    /// The first of the generations reserved for it.
    pub generation: Generation,
    /// The highest generation that this history gives it: a host that has obeyed a higher one was told by somebody who knew
    /// more.
    pub told: Generation,
    /// Since when it has, or has not.
    pub connection_since: Timestamp,
    /// The machine that speaks for it, as far as it has said.
    pub instance: Option<InstanceId>,
    /// The highest generation that it had obeyed when its present connection began, as far as it has said.
    pub accepted: Option<Generation>,
    /// How often it was to be tried; 1 unless it is tried again.
    pub attempt: u32,
    /// When it was last to be tried again.
    pub again_at: Timestamp,
    /// Where it stands if the present attempt has no effect.
    pub fallback: HostPhase,
    /// Which of its restores its last report told of: health that was measured before says nothing.
    pub restore: Option<RestoreNumber>,
    /// When its health was first heard after its deadline had passed unheard.
    pub heard_late: Option<Timestamp>,
    /// When it was told to start.
    pub started_at: Option<Timestamp>,
    /// When it last answered for good.
    pub finished_at: Option<Timestamp>,
    /// What it was before, durable on the machine that speaks for it now.
    pub backup: Option<SnapshotId>,
    /// Other machines that spoke for it after it was told to change: they may speak for it again.
    pub elsewhere: BTreeMap<InstanceId, Elsewhere>,
    /// What it said of its last change.
    pub receipt: Option<Box<Restored>>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// What is known of a machine that spoke for a host before another one did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The first of the generations that were reserved then.
    pub generation: Generation,
    /// Where it stands if the attempt with those had no effect.
    pub fallback: HostPhase,
    /// Its backup: durable on this machine, and on no other.
    pub backup: Option<SnapshotId>,
}

/// What is known of a host's health.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct HealthRecord {
    /// The health; unknown while the host has no connection.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
    /// When the measurement began, as far as the host has said.
    pub measured_at: Option<Timestamp>,
    /// The last restore of the host that had ended before this was measured.
    pub after: RestoreNumber,
    /// What was known when the coordinator was last away, until something is heard.
    pub before: Option<Box<Earlier>>,
    /// When it was last known to be bad.
    pub last_bad: Option<Timestamp>,
    /// What it rests on, in words.
    pub evidence: String,
}

/// What was known of a host's health before nobody listened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The health.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
    /// What it rests on, in words.
    pub evidence: String,
    /// When the measurement began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Timestamp>,
}

/// Where a host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostPhase {
    /// Not started.
    Untouched,
    /// Left out because it was not reachable; brought in line when it is back. On the way back: left behind at its target.
    Skipped,
    /// Left out, and it does not come in line any more: another operation changes it since, the rollback is undone, or it was
    /// waited for long enough.
    Superseded,
    /// To be tried again, once generations are reserved for that.
    Again,
    /// Told to go to its target.
    Applying {
        /// When it goes back by itself.
        deadline: Timestamp,
    },
    /// Told to stop and say where it stands.
    Cancelling {
        /// When it goes back by itself.
        deadline: Timestamp,
    },
    /// At the target; its health is watched.
    Applied {
        /// Since when.
        since: Timestamp,
    },
    /// At the target, and healthy for long enough.
    Passed {
        /// Since when it is not known to be good any more.
        doubtful_since: Option<Timestamp>,
    },
    /// At the target, and not healthy in time, or not any more. Failed.
    Unhealthy,
    /// As it was before. Failed, unless it was told to stop.
    Unchanged,
    /// Where it stands is not known: not heard of past its deadline, another machine, or overtaken. Failed.
    Lost,
    /// Told to go back to its backup.
    Reverting {
        /// When it gives up by itself.
        deadline: Timestamp,
    },
    /// Back as it was.
    Reverted,
    /// It was to go back, and is still at the target, or was not heard of.
    RevertFailed,
    /// At neither state; a person must look. Failed.
    Inconsistent,
}

impl HostPhase {
    /// Whether a command for it is out.
    pub fn at_work(&self) -> bool {
        match self {
            Self::Applying { .. } | Self::Cancelling { .. } | Self::Reverting { .. } => true,
            Self::Untouched
            | Self::Skipped
            | Self::Superseded
            | Self::Again
            | Self::Applied { .. }
            | Self::Passed { .. }
            | Self::Unhealthy
            | Self::Unchanged
            | Self::Lost
            | Self::Reverted
            | Self::RevertFailed
            | Self::Inconsistent => false,
        }
    }

    /// Whether a gate counts it as failed.
    pub fn failed(&self) -> bool {
        match self {
            Self::Unhealthy | Self::Unchanged | Self::Lost | Self::RevertFailed | Self::Inconsistent => true,
            Self::Untouched
            | Self::Skipped
            | Self::Superseded
            | Self::Again
            | Self::Applying { .. }
            | Self::Cancelling { .. }
            | Self::Applied { .. }
            | Self::Passed { .. }
            | Self::Reverting { .. }
            | Self::Reverted => false,
        }
    }

    /// Whether it is to be told to start, and has not been.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Untouched | Self::Again)
    }

    /// Whether the host has said that it is at the target, and nothing later.
    pub fn at_target(&self) -> bool {
        matches!(self, Self::Applied { .. } | Self::Passed { .. } | Self::Unhealthy)
    }
}

impl HostRecord {
    /// Whether a budget counts it.
    pub(super) fn is_in_budget(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether it is still to come in line, was changed after the outcome, or is counted in the budget of others.
    pub(super) fn is_watched_after_the_outcome(&self) -> bool {
        self.pending() || self.late || self.is_in_budget()
    }

    /// Whether it has said that it is at the target, and nothing later; also while it waits to be tried again there.
    pub fn at_target(&self) -> bool {
        let waits = self.phase.waits() || self.phase == HostPhase::Skipped;
        self.phase.at_target() || (waits && self.fallback.at_target())
    }

    /// Whether another attempt is asked for, and has not ended.
    pub fn is_tried_again(&self) -> bool {
        self.attempt > 1 && (self.phase.waits() || self.phase == HostPhase::Skipped || self.phase.at_work())
    }

    /// Whether generations are reserved for an attempt after the outcome that has not begun.
    pub fn is_granted(&self) -> bool {
        self.late && self.phase == HostPhase::Untouched
    }

    /// Whether nobody knows where it stands, or it stands between two states: it was told to change, and was not heard of, or
    /// could not end it.
    pub fn is_astray(&self) -> bool {
        self.unanswered.is_some() || matches!(self.phase, HostPhase::Lost | HostPhase::Inconsistent)
    }

    /// Whether a rollback that has its outcome still has something to do here.
    pub fn pending(&self) -> bool {
        let judged_late =
            matches!(self.phase, HostPhase::Applied { .. } | HostPhase::Passed { doubtful_since: Some(_) });
        let waits =
            self.phase == HostPhase::Skipped || self.phase.at_work() || self.phase == HostPhase::Again;
        waits || self.may_yet_go_back() || (self.late && (judged_late || self.phase == HostPhase::Untouched))
    }
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
