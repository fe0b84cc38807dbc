//! Why an operation could not be begun, steered, shown or deleted.

use rfs_link::Failure;
use rfs_model::{CheckpointId, HostId, OperationId, Reason, RequestId, RollbackId};
use rfs_rollout::plan::Impasse;
use rfs_rollout::{PlanError, Refusal};

use super::later::Later;
use crate::store::{CreateError, OperationKind, StoreError};

fn in_words(later: &[Later]) -> String {
    later.iter().map(Later::in_words).collect::<Vec<_>>().join("; ")
}

fn not_answered(host: Option<&HostId>) -> String {
    host.map(|host| format!(", and {host} has not answered yet")).unwrap_or_default()
}

/// Why something was refused. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The request does not fit the fleet, or itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A wave would wait for ever.
    #[error(transparent)]
    Impasse(#[from] Impasse),
    /// No checkpoint is complete.
    #[error("there is no complete checkpoint yet")]
    NoneComplete,
    /// No complete checkpoint has a snapshot of every host that is chosen.
    #[error("no complete checkpoint has all {chosen} chosen hosts; the fullest, {fullest}, lacks {lacks}")]
    NoneHasAll {
        /// How many hosts are chosen.
        chosen: usize,
        /// The complete checkpoint that has most of them; of several, the newest.
        fullest: CheckpointId,
        /// How many of them it lacks.
        lacking: usize,
        /// Which of them it lacks, in words.
        lacks: String,
    },
    /// A field of the request makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no such checkpoint.
    #[error("there is no checkpoint {0}")]
    NoCheckpoint(CheckpointId),
    /// There is no such rollback.
    #[error("there is no rollback {0}")]
    NoRollback(RollbackId),
    /// There is no such operation of any kind.
    #[error("there is no operation {0}")]
    NoOperation(OperationId),
    /// The checkpoint lacks hosts, so it is no target.
    #[error("checkpoint {id} is incomplete, so it is no target: {missing}")]
    Incomplete {
        /// The checkpoint.
        id: CheckpointId,
        /// Which hosts, and why.
        missing: String,
    },
    /// The checkpoint was ended by a person, so it is no target.
    #[error("checkpoint {0} was aborted, so it is no target")]
    Aborted(CheckpointId),
    /// Chosen hosts do not have their snapshots of the checkpoint any more.
    #[error("checkpoint {id} is no target for all of these hosts: {dropped}")]
    Dropped {
        /// The checkpoint.
        id: CheckpointId,
        /// Which hosts, and why.
        dropped: String,
        /// The chosen hosts that have theirs.
        held: Vec<String>,
    },
    /// The checkpoint is still being taken.
    #[error("checkpoint {0} is still being taken")]
    NotYetTaken(CheckpointId),
    /// A rollback that still runs cannot be undone.
    #[error("rollback {0} still runs")]
    StillRuns(RollbackId),
    /// A rollback that was to be undone is being ended, and is not over yet.
    #[error("rollback {of} is being ended{}; it is not undone", not_answered(host.as_ref()))]
    StillEnding {
        /// The rollback.
        of: RollbackId,
        /// The host that it waits for, if it waits for one.
        host: Option<HostId>,
    },
    /// An undo would take away what was done after the rollback that it undoes.
    #[error("an undo of rollback {of} takes away what was done after it: {}", in_words(later))]
    ChangedLater {
        /// The rollback that is to be undone.
        of: RollbackId,
        /// What was done after it, the newest first.
        later: Vec<Later>,
    },
    /// A rollback cannot be undone while a host that it had left out comes in line.
    #[error("rollback {of} is over, but it is bringing {host} in line, which it had left out")]
    StillAtWork {
        /// The rollback.
        of: RollbackId,
        /// The host.
        host: HostId,
    },
    /// The rollback changed each time that it was looked at.
    #[error("rollback {0} changes at this moment")]
    MovedOn(OperationId),
    /// No host is at the rollback's target with a backup.
    #[error("rollback {0} has left no host changed, so there is nothing to undo")]
    NothingToUndo(RollbackId),
    /// None of the chosen hosts is known to be changed, and nobody knows where these stand.
    #[error(
        "rollback {of} told {hosts} to change, and it is not known where that has led: no undo can be begun there"
    )]
    Astray {
        /// The rollback.
        of: RollbackId,
        /// Which hosts, in words.
        hosts: String,
    },
    /// Chosen hosts have obeyed what the rollback's history does not know, so their way back is in none.
    #[error(
        "the history of rollback {of} is of a store that was put back, and does not know the way back of: {hosts}"
    )]
    WayUnknown {
        /// The rollback.
        of: RollbackId,
        /// Which hosts.
        hosts: String,
        /// The chosen hosts whose way back is known.
        known: Vec<String>,
    },
    /// The checkpoint must stay.
    #[error("checkpoint {id} stays: {why}")]
    InUse {
        /// The checkpoint.
        id: CheckpointId,
        /// What needs it.
        why: String,
    },
    /// Another operation owns a host.
    #[error("host {host} is owned by {} {owner}", kind.map_or("operation", OperationKind::as_str))]
    HostBusy {
        /// The host.
        host: HostId,
        /// The owner.
        owner: OperationId,
        /// What the owner is, if the store still says so.
        kind: Option<OperationKind>,
    },
    /// A chosen host was forgotten meanwhile.
    #[error("host {0} was forgotten")]
    HostForgotten(HostId),
    /// The request id was used for another request.
    #[error("request id {0} was used before, for another request")]
    RequestIdReused(RequestId),
    /// The operation is not in a state in which that can be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take the decision in time; it may yet.
    #[error("the decision is not stored yet; it counts once it is")]
    NotStoredYet,
    /// Too many decisions wait for the operation.
    #[error("too many decisions wait for this operation")]
    Overloaded,
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CreateError> for OperationError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::HostBusy { host, owner } => Self::HostBusy { host, owner, kind: None },
            CreateError::HostForgotten { host } => Self::HostForgotten(host),
            CreateError::RequestIdReused { id } => Self::RequestIdReused(id),
            CreateError::MovedOn { operation } => Self::MovedOn(operation),
            CreateError::Store(error) => Self::Store(error),
        }
    }
}

impl OperationError {
    /// For programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Plan(error) => error.reason(),
            Self::Impasse(_) => Reason::GateCannotPass,
            Self::NoneComplete => Reason::CheckpointNotFound,
            Self::NoneHasAll { .. } => Reason::CheckpointIncomplete,
            Self::Invalid { .. } => Reason::InvalidArgument,
            Self::NoCheckpoint(_) => Reason::CheckpointNotFound,
            Self::NoRollback(_) | Self::NoOperation(_) => Reason::RollbackNotFound,
            Self::Incomplete { .. } | Self::Aborted(_) | Self::Dropped { .. } => Reason::CheckpointIncomplete,
            Self::NotYetTaken(_) | Self::StillRuns(_) | Self::NothingToUndo(_) | Self::Astray { .. } => {
                Reason::WrongState
            }
            Self::ChangedLater { .. } => Reason::ChangedLater,
            Self::StillAtWork { .. } | Self::StillEnding { .. } => Reason::HostBusy,
            Self::WayUnknown { .. } => Reason::StoreRewound,
            Self::InUse { .. } => Reason::CheckpointInUse,
            Self::HostBusy { .. } => Reason::HostBusy,
            Self::HostForgotten(_) => Reason::HostForgotten,
            Self::RequestIdReused(_) => Reason::RequestIdReused,
            Self::Refused(refusal) => refusal.reason(),
            Self::NotStoredYet | Self::Overloaded | Self::MovedOn(_) => Reason::Overloaded,
            Self::Stopping => Reason::Unreachable,
            Self::Store(StoreError::Database(_)) => Reason::Overloaded,
            Self::Store(StoreError::Open { .. } | StoreError::Damaged { .. }) => Reason::Internal,
        }
    }

    /// The field of the request that it is about, as a path within the request's spec.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Plan(error) => Some(error.field()),
            Self::Invalid { field, .. } => Some(field),
            Self::NoCheckpoint(_)
            | Self::NoneComplete
            | Self::NoneHasAll { .. }
            | Self::Incomplete { .. }
            | Self::Aborted(_)
            | Self::Dropped { .. }
            | Self::NotYetTaken(_) => Some("checkpoint"),
            Self::RequestIdReused(_) => Some("request_id"),
            Self::NoRollback(_)
            | Self::NoOperation(_)
            | Self::StillRuns(_)
            | Self::StillEnding { .. }
            | Self::ChangedLater { .. }
            | Self::StillAtWork { .. }
            | Self::MovedOn(_)
            | Self::NothingToUndo(_)
            | Self::Astray { .. }
            | Self::WayUnknown { .. }
            | Self::Impasse(_)
            | Self::InUse { .. }
            | Self::HostBusy { .. }
            | Self::HostForgotten(_)
            | Self::Refused(_)
            | Self::NotStoredYet
            | Self::Overloaded
            | Self::Stopping
            | Self::Store(_) => None,
        }
    }

    /// What to do next, where it is known better here than in the table of reasons.
    fn next(&self) -> Option<String> {
        match self {
            Self::NotYetTaken(id) => Some(format!("follow it with: rfs checkpoint show {id}")),
            Self::NoneComplete => Some("take one with: rfs checkpoint create".to_owned()),
            Self::NoneHasAll { chosen, lacking, .. } if lacking == chosen => {
                Some("see which hosts each checkpoint has with: rfs checkpoint show ID".to_owned())
            }
            Self::NoneHasAll { fullest, .. } => Some(format!(
                "leave those hosts as they are: --checkpoint {fullest}; or choose fewer hosts with --host or --selector"
            )),
            Self::StillRuns(id) => Some(format!("end it first: rfs rollback abort {id}")),
            Self::StillEnding { of, .. } => {
                Some(format!("watch it end: rfs rollback watch {of}; then undo it again: rfs rollback undo {of}"))
            }
            Self::ChangedLater { of, later } => later.first().map(|newest| {
                format!(
                    "undo the newest first: rfs rollback undo {}; or take all of it away (over_later): rfs rollback undo {of} --yes",
                    newest.rollback
                )
            }),
            Self::StillAtWork { of, .. } => {
                Some(format!("wait until the host has answered, then undo again: rfs rollback show {of}"))
            }
            Self::MovedOn(_) => Some("try again in a moment".to_owned()),
            Self::Astray { of, .. } => Some(format!(
                "see why with: rfs rollback show {of}; once they have said where they stand, undo it again: rfs rollback undo {of}"
            )),
            Self::NothingToUndo(id) => Some(format!("see what became of its hosts: rfs rollback show {id}")),
            Self::HostBusy { owner, kind: Some(kind), .. } => {
                Some(format!("wait for it, or end it: rfs {} abort {owner}", kind.as_str()))
            }
            Self::HostBusy { host, kind: None, .. } => {
                Some(format!("try again; if it is busy still, see what owns it: rfs host show {host}"))
            }
            Self::HostForgotten(host) => {
                Some(format!("try again without it; or accept it again: rfs host accept {host}"))
            }
            Self::NotStoredYet => {
                Some("look again in a moment; see the coordinator's log and disk".to_owned())
            }
            Self::Stopping => Some("connect again".to_owned()),
            Self::Plan(_)
            | Self::Impasse(_)
            | Self::Invalid { .. }
            | Self::NoCheckpoint(_)
            | Self::NoRollback(_)
            | Self::NoOperation(_)
            | Self::Incomplete { .. }
            | Self::Aborted(_)
            | Self::InUse { .. }
            | Self::RequestIdReused(_)
            | Self::Refused(_)
            | Self::Overloaded
            | Self::Store(_) => None,
            Self::WayUnknown { of, known, .. } => Some(match known.len() {
                0 => format!("look at where they are: rfs rollback show {of}; no other host has a way back"),
                1..=8 => {
                    let known = known.join(",");
                    format!(
                        "look at where they are; undo it for the others: rfs rollback undo {of} --host {known}"
                    )
                }
                many => format!(
                    "look at where they are; undo it for the {many} others: rfs rollback undo {of} --host NAME,…"
                ),
            }),
            Self::Dropped { held, id, .. } => Some(match held.len() {
                0 => "see the others with: rfs checkpoint list".to_owned(),
                // Few enough to be typed.
                1..=8 => format!("it is one for the others: --host {}", held.join(",")),
                many => format!("it is one for {many} others; see them with: rfs checkpoint show {id}"),
            }),
        }
    }

    /// The error as callers are told. `beneath` is the field of their request that holds the spec, or empty.
    pub fn failure(self, beneath: &str) -> Failure {
        if let Self::Store(error) = &self {
            return crate::api::store_failure(error);
        }
        let text = self.to_string();
        let mut failure = Failure::new(self.reason(), text.clone());
        if let Some(field) = self.field() {
            let problem = text.strip_prefix(field).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
            let path = if beneath.is_empty() || field == "request_id" {
                field.to_owned()
            } else {
                format!("{beneath}.{field}")
            };
            failure = failure.field(path, problem);
        }
        match self.next() {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        error.failure("")
    }
}
