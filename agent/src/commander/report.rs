//! Reports: what the host answers. A report is durable before it is sent, and is sent again until it is acknowledged.

use std::fmt;
use std::time::Duration;

use rfs_model::{ByteCount, Generation, OperationId, Reason, RestoreNumber, SnapshotId, Standing, Timestamp};
use serde::{Deserialize, Serialize};

use super::command::StepKind;
use crate::engine::Receipt;

/// Numbers the reports of one host; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReportSequence(pub u64);

impl fmt::Display for ReportSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The one final answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its number; the coordinator acknowledges by it.
    pub sequence: ReportSequence,
    /// The operation of the command.
    pub operation: OperationId,
    /// The step of the command.
    pub step: StepKind,
    /// The generation of the command.
    pub generation: Generation,
    /// The newest generation that the host had obeyed when the report was read to be sent. One beyond the command's
    /// operation says that something newer has happened since.
    pub newest: Generation,
    /// When the host knew.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// `Prepare`: the host is quiet and has the space.
    Prepared,
    /// `Cut`: the snapshot is durable on this host.
    Cut {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The moment of the cut: when the capture began, everything being quiet.
        cut_at: Timestamp,
        /// How many entries it holds.
        entries: u64,
        /// How many bytes it stands for.
        bytes: ByteCount,
        /// How many bytes were new to the store.
        stored: ByteCount,
        /// How long the capture took.
        took: Duration,
        /// What a person must know who trusts the snapshot.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// `Finish`: everything that was quiet runs again.
    Finished,
    /// `Abandon`: everything that was quiet runs again, and nothing is held.
    Abandoned,
    /// `Apply` or `Revert`: the restore ended; the receipt says where the host stands.
    Restored(Box<Receipt>),
    /// `Cancel`: nothing of the operation is running any more.
    Cancelled {
        /// Where the host stands with regard to the operation.
        standing: Standing,
        /// The backup that `Apply` took, if it came so far.
        backup: Option<SnapshotId>,
        /// The last restore of the operation; 0 when none was begun.
        #[serde(default)]
        restore: RestoreNumber,
    },
    /// The command was not taken, and nothing was changed.
    Refused(Refusal),
    /// A checkpoint's step failed; what was quiet runs again.
    Failed(Refusal),
}

/// Why a command was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: what, and where.
    pub message: String,
    /// For people: what to do next.
    pub next: String,
}
