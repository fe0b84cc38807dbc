//! What a host is told, and what it answers.

use std::fmt;
use std::time::Duration;

use rfs_model::{
    ByteCount, Generation, HostId, InstanceId, OperationId, Reason, RestoreNumber, SnapshotId, Standing,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::request::{Choices, Selection};

/// How many generations an operation reserves for each of its hosts: one per step that it may send.
pub const GENERATIONS: u64 = 4;

/// One command for one host. Sent as often as needed: the host answers a repetition from its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// The operation.
    pub operation: OperationId,
    /// The fence: a host refuses a generation below the highest that it has seen.
    pub generation: Generation,
    /// When the host gives up by itself, by the coordinator's clock.
    pub deadline: Timestamp,
    /// Why the operation runs, for people on the host.
    pub reason: String,
    /// What to do.
    pub step: Step,
}

/// What a host is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Checkpoint: check the space, quiesce, capture early what can be.
    Prepare {
        /// What is captured.
        selection: Selection,
        /// How long what is made quiet may stay so until the cut is heard of: past it the host resumes by itself.
        quiesce_timeout: Duration,
    },
    /// Checkpoint: the moment of the snapshot.
    Cut {
        /// What is captured.
        selection: Selection,
        /// How long what is quiet may stay so from now on: past it the host resumes by itself, and a snapshot that is not whole
        /// by then is none.
        quiesce_timeout: Duration,
    },
    /// Checkpoint: all hosts have cut; resume.
    Finish,
    /// Checkpoint: given up; resume.
    Abandon,
    /// Rollback: reach `snapshot`, or stay as it is.
    Apply {
        /// The target.
        snapshot: SnapshotId,
        /// What of it.
        selection: Selection,
        /// What a person decided for it.
        choices: Choices,
    },
    /// Rollback: stop `Apply` if it is not committed, and say where the host stands.
    Cancel,
    /// Rollback: reach the backup that `Apply` took.
    Revert {
        /// The backup.
        backup: SnapshotId,
        /// What of it: the same as was applied.
        selection: Selection,
        /// The same as for what is taken back.
        choices: Choices,
    },
}

impl Step {
    /// The step without its arguments.
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Prepare { .. } => StepKind::Prepare,
            Self::Cut { .. } => StepKind::Cut,
            Self::Finish => StepKind::Finish,
            Self::Abandon => StepKind::Abandon,
            Self::Apply { .. } => StepKind::Apply,
            Self::Cancel => StepKind::Cancel,
            Self::Revert { .. } => StepKind::Revert,
        }
    }
}

/// The name of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// [`Step::Prepare`]
    Prepare,
    /// [`Step::Cut`]
    Cut,
    /// [`Step::Finish`]
    Finish,
    /// [`Step::Abandon`]
    Abandon,
    /// [`Step::Apply`]
    Apply,
    /// [`Step::Cancel`]
    Cancel,
    /// [`Step::Revert`]
    Revert,
}

impl StepKind {
    /// The generation of this step in an operation whose first generation on the host is `first`.
    ///
    /// Steps that must not take effect after another one stand below it.
    pub fn generation(self, first: Generation) -> Generation {
        let rank = match self {
            Self::Prepare | Self::Apply => 0,
            Self::Cut | Self::Cancel => 1,
            Self::Finish | Self::Revert => 2,
            Self::Abandon => 3,
        };
        Generation(first.0 + rank)
    }

    /// The step in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Cut => "cut",
            Self::Finish => "finish",
            Self::Abandon => "abandon",
            Self::Apply => "apply",
            Self::Cancel => "cancel",
            Self::Revert => "revert",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A host's final answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who answers.
    pub host: HostId,
    /// The machine that answers; none if that is not told.
    pub instance: Option<InstanceId>,
    /// The command's operation.
    pub operation: OperationId,
    /// The command's generation.
    pub generation: Generation,
    /// The command's step.
    pub step: StepKind,
    /// What came of it.
    pub answer: Answer,
    /// The highest generation that the host has accepted by now: one beyond the operation's own says that the answer is
    /// history.
    pub newest: Generation,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `Prepare`: ready to cut.
    Prepared,
    /// `Cut`: the snapshot is durable on the host.
    Captured(Captured),
    /// `Finish`, `Abandon`: what was quiet runs again. `Cancel`: nothing of the operation runs; if `Apply` ever ran, its own
    /// report says how it ended.
    Finished,
    /// `Apply`, `Revert`, and `Cancel` where it can say: where the host stands.
    Restored(Restored),
    /// The command was not taken; nothing was changed.
    Refused(Failure),
    /// A checkpoint's step failed; what was quiet runs again.
    Failed(Failure),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared => f.write_str("ready"),
            Self::Captured(captured) => {
                write!(
                    f,
                    "snapshot {} ({}, {} new)",
                    captured.snapshot.0.short(),
                    captured.bytes,
                    captured.new_bytes
                )
            }
            Self::Finished => f.write_str("done"),
            Self::Restored(restored) => match &restored.failure {
                None => {
                    restored.standing.fmt(f)?;
                    let lost = restored.lost().filter(|lost| !lost.is_empty());
                    lost.map_or(Ok(()), |lost| write!(f, "; removed {lost}"))
                }
                Some(failure) => write!(f, "{}: {failure}", restored.standing),
            },
            Self::Refused(failure) => write!(f, "refused: {failure}"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
        }
    }
}

/// A durable snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Its id.
    pub snapshot: SnapshotId,
    /// When the host cut, by the coordinator's clock.
    pub cut_at: Timestamp,
    /// What it stands for.
    pub bytes: ByteCount,
    /// What had to be stored anew.
    pub new_bytes: ByteCount,
    /// How many entries it has.
    pub entries: u64,
    /// What a person must know who trusts it, such as a path that is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Where a host stands after a command that changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Relative to the command: `Target` is what it asked for. For `Cancel` it is relative to the `Apply` that it stops.
    pub standing: Standing,
    /// The snapshot of the state before; none when nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<SnapshotId>,
    /// How long services were down.
    #[serde(with = "crate::millis")]
    pub downtime: Duration,
    /// How long each phase took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseTime>,
    /// How many steps took effect.
    #[serde(default)]
    pub steps: u64,
    /// How many bytes were written.
    #[serde(default)]
    pub bytes: ByteCount,
    /// Why the host is not where it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Which restore of the host it was: health that was measured before it ended says nothing of what is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreNumber>,
    /// What a person must know of it, if there is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Box<Findings>>,
}

impl Restored {
    /// What went, if the host is where it was to be.
    pub fn lost(&self) -> Option<&Listed> {
        let findings = self.findings.as_ref().filter(|_| self.standing == Standing::Target);
        findings.map(|findings| &findings.lost)
    }
}

/// What a person must know of a change of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// What existed and is not at the target: it goes, and the backup has it.
    #[serde(skip_serializing_if = "Listed::is_empty")]
    pub lost: Listed,
    /// Of those, what came after the last plan that was shown.
    #[serde(skip_serializing_if = "Listed::is_empty")]
    pub appeared: Listed,
    /// What was written after services were started; it is no difference.
    #[serde(skip_serializing_if = "Listed::is_empty")]
    pub written: Listed,
    /// What was kept, left alone, absent, mounted or down, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one restore of a host removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What went.
    pub lost: Listed,
    /// The snapshot of the host that has it.
    pub backup: SnapshotId,
}

/// Some paths of a host, of which the first are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// How many.
    pub count: u64,
    /// How long their content is, where that is known.
    pub bytes: ByteCount,
    /// The first of them.
    pub first: Vec<String>,
}

impl Listed {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.count == 1 { "entry" } else { "entries" };
        write!(f, "{} {noun} ({})", self.count, self.bytes)?;
        let more = self.count.saturating_sub(self.first.len() as u64);
        match (self.first.as_slice(), more) {
            ([], _) => Ok(()),
            (first, 0) => write!(f, ": {}", first.join(", ")),
            (first, more) => write!(f, ": {} and {more} more", first.join(", ")),
        }
    }
}

/// A measured stretch of a host's restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Such as `stage` or `flip`.
    pub phase: String,
    /// How long it took.
    #[serde(with = "crate::millis")]
    pub duration: Duration,
}

/// Why something failed or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub reason: Reason,
    /// What happened and where.
    pub message: String,
    /// What to do next; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Failure {
    /// A failure of which there is nothing to say about what to do next.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), next: String::new() }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }
}
