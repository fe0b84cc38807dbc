//! The contract between whoever speaks with the coordinator and the host that obeys.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{Generation, OperationId, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use super::command::{Command, StepKind};
use super::report::{Report, ReportSequence};
use crate::engine::Phase;

/// Takes commands, and keeps reports until they are acknowledged.
///
/// Every call may wait for the disk, so async code calls it from a blocking thread.
pub trait Intake: Send + Sync {
    /// Takes a command. It is durable when this returns, and exactly one [`Report`] will follow, whatever happens to
    /// the process; a repeated command has its report sent again. Never waits for the step itself.
    fn receive(&self, command: Command) -> Result<(), IntakeError>;

    /// The reports that were not acknowledged, oldest first.
    fn unacknowledged(&self) -> Result<Vec<Report>, IntakeError>;

    /// The coordinator has stored the report: it is not sent again.
    fn acknowledge(&self, sequence: ReportSequence) -> Result<(), IntakeError>;

    /// The fleet needs the snapshots of these checkpoints, and those of the deleted ones no more; this is the whole truth,
    /// and replaces what was said before.
    fn heed(&self, needed: &BTreeSet<OperationId>, deleted: &BTreeSet<OperationId>);

    /// A coordinator has welcomed the host, and says which operation owns it. A checkpoint of another operation is over:
    /// what it made quiet resumes.
    fn welcomed(&self, owner: Option<OperationId>);

    /// Grows whenever a snapshot is lost, or comes back; a new one alone does not change it. Waits for nothing.
    fn snapshots_revision(&self) -> u64;

    /// The snapshots that can be restored, the newest first.
    fn snapshots(&self) -> Result<Vec<SnapshotId>, IntakeError>;

    /// Where the host stands, for the first message of a session and for status.
    fn state(&self) -> HostState;

    /// The agent stops: nothing begins any more, and what waits stays in the journal for the next start.
    ///
    /// Waits up to `let_end` for the work that runs; what has not ended by then is stopped, and a restore is left to the next
    /// start. Nothing is quiet when this returns.
    fn close(&self, let_end: Duration);

    /// Calls `wake` whenever there is a new report or the state has changed, from any thread; `wake` must not wait.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// Where the host stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostState {
    /// The newest generation that the host has obeyed.
    pub generation: Generation,
    /// What is being done.
    pub activity: Option<Activity>,
    /// What the host is at work on, in words, whoever asked for it.
    pub work: Option<String>,
    /// The snapshot that the host was last brought to, by whomever; none when it never was, or is at neither state.
    pub snapshot: Option<SnapshotId>,
    /// Set when the host is at neither state and holds still until a person has looked.
    pub inconsistent: Option<Inconsistent>,
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// For whom; none for an administrator on the host.
    pub operation: Option<OperationId>,
    /// The step.
    pub step: StepKind,
    /// The generation of the command; zero for an administrator on the host.
    pub generation: Generation,
    /// How far a restore is; none for the steps of a checkpoint.
    pub phase: Option<Phase>,
    /// Steps of the plan that are done.
    pub steps_done: u64,
    /// Steps in the plan; zero until it is made.
    pub steps_total: u64,
    /// Since when this phase, or this step, has been going on.
    pub since: Timestamp,
    /// What the host is at work on meanwhile, such as "a capture": this begins when that has ended.
    pub waits_for: Option<String>,
}

impl Activity {
    /// How far it is, or what it waits for; empty when neither is known.
    pub fn at(&self) -> String {
        match (&self.waits_for, self.phase) {
            (Some(work), _) => format!("waiting for {work}"),
            (None, Some(phase)) => phase.to_string(),
            (None, None) => String::new(),
        }
    }
}

/// Why the host holds still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inconsistent {
    /// Since when.
    pub since: Timestamp,
    /// What could not be undone, and why.
    pub message: String,
}

/// The journal could not be read or written, so nothing was taken.
#[derive(Debug, thiserror::Error)]
#[error("the journal could not take it")]
pub struct IntakeError(#[source] pub Box<dyn std::error::Error + Send + Sync>);
