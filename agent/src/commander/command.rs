//! Commands: what a coordinator, or an administrator on the host, may ask of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rfs_model::{ComponentName, Generation, OperationId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::component::choices::Choices;

/// One step of a fleet operation for this host. Operation, generation and step name it: the same three again are a
/// repetition, and are answered from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The fleet operation.
    pub operation: OperationId,
    /// The fence: an older one than the host has seen is refused.
    pub generation: Generation,
    /// How long the step may take, from its arrival. Past it a restore reverts, and what a checkpoint quieted resumes.
    pub timeout: Duration,
    /// Checkpoint: how long what is quiet may stay so without a further word. Past it, it resumes by itself.
    #[serde(default = "quiesce_timeout")]
    pub quiesce_timeout: Duration,
    /// Why, for whoever lists the host's snapshots later.
    pub reason: String,
    /// What to do.
    pub step: Step,
}

/// How long what is quiet may stay so where the coordinator does not say.
pub const QUIESCE_TIMEOUT: Duration = Duration::from_secs(30);

fn quiesce_timeout() -> Duration {
    QUIESCE_TIMEOUT
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Checkpoint: checks the space, captures warm, and quiesces.
    Prepare {
        /// What is captured.
        selection: Selection,
    },
    /// Checkpoint: captures and commits. The host must be prepared.
    Cut,
    /// Checkpoint: resumes what was quiesced; the snapshot stays.
    Finish,
    /// Checkpoint: resumes what was quiesced; a snapshot that was cut is no longer held for this operation.
    Abandon,
    /// Rollback: brings the host to a snapshot, or leaves it as it was.
    Apply {
        /// The target.
        snapshot: SnapshotId,
        /// Which part of it.
        selection: Selection,
        /// What a person decided for it.
        #[serde(default, skip_serializing_if = "Choices::is_empty")]
        choices: Choices,
    },
    /// Rollback: brings the host back to the backup that `Apply` took.
    Revert {
        /// The backup.
        snapshot: SnapshotId,
        /// The part that `Apply` changed.
        selection: Selection,
        /// What a person decided for the whole.
        #[serde(default, skip_serializing_if = "Choices::is_empty")]
        choices: Choices,
    },
    /// Rollback: ends a running `Apply` or `Revert` before it commits; the host goes back to what it was.
    Cancel,
}

/// Which part of a snapshot is meant. Empty means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Components by name; none means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub components: BTreeSet<ComponentName>,
    /// Absolute paths within the chosen `files` components; none means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "paths")]
    pub paths: BTreeSet<PathBuf>,
}

/// Paths in a journal: text that loses no byte, whatever a name is made of.
mod paths {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    use rfs_store::text::ByteText;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &BTreeSet<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| ByteText::from(path.as_os_str().as_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<PathBuf>, D::Error> {
        let texts = Vec::<ByteText>::deserialize(from)?;
        Ok(texts.into_iter().map(|text| PathBuf::from(OsString::from_vec(text.0))).collect())
    }
}

impl Selection {
    /// Whether everything is meant.
    pub fn is_everything(&self) -> bool {
        self.components.is_empty() && self.paths.is_empty()
    }

    /// Whether the component is meant.
    pub fn includes(&self, component: &ComponentName) -> bool {
        self.components.is_empty() || self.components.contains(component)
    }
}

impl Step {
    /// The step without its arguments.
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Prepare { .. } => StepKind::Prepare,
            Self::Cut => StepKind::Cut,
            Self::Finish => StepKind::Finish,
            Self::Abandon => StepKind::Abandon,
            Self::Apply { .. } => StepKind::Apply,
            Self::Revert { .. } => StepKind::Revert,
            Self::Cancel => StepKind::Cancel,
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
    /// [`Step::Revert`]
    Revert,
    /// [`Step::Cancel`]
    Cancel,
}

impl StepKind {
    /// Every step.
    pub const ALL: [Self; 7] =
        [Self::Prepare, Self::Cut, Self::Finish, Self::Abandon, Self::Apply, Self::Revert, Self::Cancel];

    /// The step as it stands in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Cut => "cut",
            Self::Finish => "finish",
            Self::Abandon => "abandon",
            Self::Apply => "apply",
            Self::Revert => "revert",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A step that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {0:?} is not known to this version")]
pub struct UnknownStep(pub String);

impl FromStr for StepKind {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownStep(text.to_owned()))
    }
}
