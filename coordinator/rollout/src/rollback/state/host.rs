//! What is known of one host of a rollback.

use std::collections::BTreeMap;
use std::sync::Arc;

use rfs_model::{Generation, Health, InstanceId, Reason, RestoreNumber, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::host::{Failure, Removed, Restored};
use crate::plan::{GroupIndex, WaveIndex};
use crate::request::Choices;

/// What became of a host. Each decision reads the first fields of every host; `repr(C)` keeps them next to each other.
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
    /// It had a connection when the coordinator was last away, and was not heard of since.
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
    /// Since when it has, or has not, a connection.
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
    /// What changes before that one removed and no way back has brought back, oldest first.
    pub removed: Vec<Removed>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What a person decided for its present attempt, beside what holds for the whole rollback.
    pub choices: Option<Box<Choices>>,
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
    /// What changes removed there, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Removed>,
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
    /// Whether it is as it was because it would lose what was not accepted: nothing is wrong with it.
    pub fn refuses(&self) -> bool {
        let reason = self.failure.as_ref().map(|failure| failure.reason);
        self.phase == HostPhase::Unchanged && reason == Some(Reason::LossNotAccepted)
    }

    /// Whether a budget counts it.
    pub(in crate::rollback) fn is_in_budget(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether it is still to come in line, was changed after the outcome, or is counted in the budget of others.
    pub(in crate::rollback) fn is_watched_after_the_outcome(&self) -> bool {
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
